//! The metadata file of an object in a sealed copy, and the writer.
//!
//! Writing: body and metadata go to temporary files beside their places (0600, folders 0700) and are renamed there when
//! they are complete and on the disk; metadata last, so that a reader never takes half an object for a whole one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Timestamp, name, open_file};
use crate::err;
use crate::error::{Error, Kind, Result};

/// Metadata of S3 objects have at most 2 KiB.
const LARGEST: u64 = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub key: String,
    /// Names as in the header, without `x-amz-meta-`; as they are read, in lower case and each once.
    #[serde(deserialize_with = "each_once")]
    pub metadata: BTreeMap<String, String>,
    pub etag: String,
    #[serde(default)]
    pub version_id: Option<String>,
    /// RFC 3339.
    pub last_modified: String,
    /// Of the body.
    pub size: u64,
    /// Of the body, in hex.
    #[serde(default)]
    pub sha256: String,
}

impl Meta {
    /// Of the object `key`, whose body is at `body`. Errors: `NotFound`; `Storage` for a file that cannot be right.
    pub fn read(body: &Path, key: &str) -> Result<Meta> {
        let (file, size) = open_file(&beside(body))?;
        let mut text = Vec::new();
        if size <= LARGEST {
            file.take(LARGEST + 1).read_to_end(&mut text).map_err(|e| super::io_error(&e))?;
        }
        if size > LARGEST || text.len() as u64 > LARGEST {
            return Err(err!(Kind::Storage, "sealed copy: the metadata file has more than {LARGEST} bytes"));
        }
        // The parser's message may quote the file, so it only says where.
        let meta: Meta = serde_json::from_slice(&text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            err!(Kind::Storage, "sealed copy: the metadata file is damaged (line {line}, column {column})")
        })?;
        if meta.key != key {
            return Err(err!(Kind::Storage, "sealed copy: the metadata file is another object's"));
        }
        Ok(meta)
    }

    pub fn time(&self) -> Result<Timestamp> {
        let at = OffsetDateTime::parse(&self.last_modified, &Rfc3339);
        let at = at.map_err(|_| err!(Kind::Storage, "sealed copy: last_modified is no RFC 3339 time"))?;
        Ok((at.unix_timestamp(), at.nanosecond()))
    }
}

/// A JSON object whose names differ by more than case: of two values, nobody could say which one the object had.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names and values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, _>()? {
                if names.insert(name.to_ascii_lowercase(), value).is_some() {
                    return Err(A::Error::custom("a name twice"));
                }
            }
            Ok(names)
        }
    }
    deserializer.deserialize_map(Names)
}

fn beside(body: &Path) -> PathBuf {
    let mut name = body.as_os_str().to_owned();
    name.push(name::META);
    name.into()
}

/// An object to be written to a sealed copy.
pub struct NewObject<'a> {
    pub key: &'a str,
    /// Names without `x-amz-meta-`.
    pub metadata: &'a BTreeMap<String, String>,
    /// `None`: made from the body's SHA-256.
    pub etag: Option<&'a str>,
    pub version_id: Option<&'a str>,
    pub last_modified: Timestamp,
}

/// Writes an object, with all that `body` gives, to the sealed copy in `dir`, which is made if need be; replaces one of
/// the same key. Blocks. Errors: `Invalid` (key, time), `AccessDenied`, `Storage` (disk, or `body`).
pub fn write_object(dir: &Path, object: &NewObject<'_>, body: &mut dyn Read) -> Result<()> {
    write(dir, object, body).map_err(|e| e.about(object.key))
}

fn write(dir: &Path, object: &NewObject<'_>, body: &mut dyn Read) -> Result<()> {
    let below = name::path(object.key.as_bytes())?;
    // Before anything is written.
    object.written_at()?;
    let objects = dir.join("objects");
    let folder = objects.join(&below);
    let folder = folder.parent().unwrap_or(&objects);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed(&e))?;
    let path = super::walk(&objects, &below)?;

    let mut temporary = Temporary::new(folder)?;
    let (size, sha256) = copy(body, &mut temporary.file).map_err(|e| failed(&e))?;
    let text = object.describe(size, &sha256)?;
    let mut described = Temporary::new(folder)?;
    described.file.write_all(&text).map_err(|e| failed(&e))?;

    match fs::remove_file(beside(&path)) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(&e)),
        _ => {}
    }
    temporary.keep_as(&path)?;
    described.keep_as(&beside(&path))
}

/// Where the object's body and its metadata are, below the folder of a sealed copy.
pub fn object_paths(key: &str) -> Result<(PathBuf, PathBuf)> {
    let body = Path::new("objects").join(name::path(key.as_bytes())?);
    let meta = beside(&body);
    Ok((body, meta))
}

impl NewObject<'_> {
    /// RFC 3339.
    fn written_at(&self) -> Result<String> {
        let (secs, nanos) = self.last_modified;
        let at = OffsetDateTime::from_unix_timestamp(secs).ok().and_then(|t| t.replace_nanosecond(nanos).ok());
        let text = at.and_then(|t| t.format(&Rfc3339).ok());
        text.ok_or_else(|| err!(Kind::Invalid, "no date: {secs} s after 1970"))
    }

    /// The metadata file's text, for a body of this size and SHA-256 (in hex).
    pub fn describe(&self, size: u64, sha256: &str) -> Result<Vec<u8>> {
        let meta = Meta {
            key: self.key.to_owned(),
            metadata: self.metadata.clone(),
            etag: self.etag.or(sha256.get(..32)).unwrap_or(sha256).to_owned(),
            version_id: self.version_id.map(str::to_owned),
            last_modified: self.written_at()?,
            size,
            sha256: sha256.to_owned(),
        };
        let text = serde_json::to_vec(&meta).map_err(|e| err!(Kind::Internal, "cannot write metadata: {e}"))?;
        if text.len() as u64 > LARGEST {
            return Err(err!(Kind::Invalid, "the object's metadata are too large"));
        }
        Ok(text)
    }
}

/// Bytes copied and their SHA-256 in hex.
fn copy(from: &mut dyn Read, to: &mut File) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut buf = vec![0; 128 * 1024];
    loop {
        let n = match from.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hash.update(&buf[..n]);
        to.write_all(&buf[..n])?;
        size += n as u64;
    }
    Ok((size, hash.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

/// A file under a name that no key has, removed unless it is kept.
struct Temporary {
    file: File,
    path: Option<PathBuf>,
}

impl Temporary {
    fn new(folder: &Path) -> Result<Temporary> {
        let n = getrandom::u64().map_err(|e| err!(Kind::Internal, "no random numbers: {e}"))?;
        let path = folder.join(format!(".tmp-{n:016x}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|e| failed(&e))?;
        Ok(Temporary { file, path: Some(path) })
    }

    fn keep_as(mut self, place: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| failed(&e))?;
        if let Some(path) = &self.path {
            fs::rename(path, place).map_err(|e| failed(&e))?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing to be done about a failure: the name is ignored by readers.
            let _ = fs::remove_file(path);
        }
    }
}

fn failed(e: &io::Error) -> Error {
    let kind = if e.kind() == ErrorKind::PermissionDenied { Kind::AccessDenied } else { Kind::Storage };
    err!(kind, "cannot write to the sealed copy: {e}")
}
