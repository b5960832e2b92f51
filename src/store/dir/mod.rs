//! A sealed copy: a plain folder that holds objects as S3 does, ciphertext and user metadata, for evidence, air-gapped
//! review, demonstrations and tests.
//!
//! ```text
//! <dir>/objects/<encoded key>            the body          (names: see `name.rs`)
//! <dir>/objects/<encoded key>.meta.json  {"key","metadata","etag","version_id","last_modified","size","sha256"}
//! ```
//!
//! The folder may come from anyone, so it is read with suspicion: below `objects` no symbolic link is followed, only
//! regular files are opened, a metadata file has at most 256 KiB, names its own key and the body's true size. `sha256`
//! is of the stored body and there for other tools; a reader has the tag of the encryption, which proves more.
//!
//! An object is there when its body is. A body whose metadata are missing or damaged is listed (nothing is silently
//! missing), and getting it is an error of kind `Storage`. Names that are no key's are counted, and warned about once
//! for each scan; names that start with a dot are nobody's business (temporary files).
//!
//! Listings come from an index in memory: one scan, with a look at every metadata file, repeated when a listing starts
//! and a folder's time has changed since. Blocking calls run on tokio's blocking threads.

mod index;
mod meta;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{GetRequest, ListRequest, Object, Page, Part, Store, Timestamp, bare_etag, name};
use crate::err;
use crate::error::{Error, Kind, Result, escape};
use index::Index;
use meta::Meta;
pub use meta::{NewObject, object_paths, write_object};

/// A sealed copy, opened for reading.
pub struct DirStore(Arc<Inner>);

struct Inner {
    /// `<dir>/objects`
    objects: PathBuf,
    /// `<dir>`, for messages.
    dir: String,
    prefix: String,
    index: Mutex<Option<Arc<Index>>>,
}

impl DirStore {
    /// `prefix`: keys below it only, as for a bucket; usually empty. Errors: `Config`, if this is no sealed copy.
    pub fn open(dir: impl AsRef<Path>, prefix: impl Into<String>) -> Result<DirStore> {
        let given = dir.as_ref();
        let said = || escape(given.as_os_str().as_encoded_bytes());
        let dir = given.canonicalize().map_err(|e| err!(Kind::Config, "{} cannot be opened: {e}", said()))?;
        let objects = dir.join("objects");
        if !fs::symlink_metadata(&objects).is_ok_and(|m| m.is_dir()) {
            return Err(err!(Kind::Config, "{} is no sealed copy: it has no folder \"objects\"", said()));
        }
        let mut prefix = prefix.into();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let dir = dir.to_string_lossy().into_owned();
        Ok(DirStore(Arc::new(Inner { objects, dir, prefix, index: Mutex::new(None) })))
    }

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || job(&inner)).await;
        done.unwrap_or_else(|_| Err(err!(Kind::Internal, "reading the sealed copy panicked")))
    }
}

#[async_trait]
impl Store for DirStore {
    fn describe(&self) -> String {
        let slash = if self.0.prefix.is_empty() { "" } else { "/" };
        format!("file://{}{slash}{}", self.0.dir, self.0.prefix)
    }

    fn bucket(&self) -> &str {
        &self.0.dir
    }

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        let req = req.clone();
        let page = self.blocking(move |inner| inner.index(req.token.is_some())?.page(&inner.prefix, &req)).await;
        page.map_err(|e| e.about(&self.describe()))
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let mut part = Part::new();
        self.fetch(req, &mut part).await?;
        part.finish().map_err(|e| e.about(&req.key))
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let rest = part.rest(req)?;
        // Another thread fills it. Should that panic, all of it is asked for again.
        let mut filled = std::mem::take(part);
        let read = move |inner: &Inner| {
            let result = inner.get(&rest, &mut filled);
            Ok((result, filled))
        };
        let (result, filled) = self.blocking(read).await.map_err(|e| e.about(&req.key))?;
        *part = filled;
        result.map_err(|e| e.about(&req.key))
    }

    async fn check(&self) -> Result<()> {
        let readable = |inner: &Inner| match fs::read_dir(&inner.objects) {
            Ok(_) => Ok(()),
            Err(e) => Err(io_error(&e)),
        };
        self.blocking(readable).await.map_err(|e| e.about(&self.describe()))
    }
}

impl Inner {
    /// The index to list from. One that a listing under way (`started`) uses is kept as it is.
    fn index(&self, started: bool) -> Result<Arc<Index>> {
        let mut held = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = held.as_ref()
            && (started || index.is_fresh())
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::scan(&self.objects)?);
        *held = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Reads into `part` what is missing there.
    fn get(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        req.range.header()?;
        let key = format!("{}{}", self.prefix, req.key);
        let path = walk(&self.objects, &name::path(key.as_bytes())?)?;
        let (meta, file, total) = open_object(&path, &key)?;
        let etag = bare_etag(&meta.etag);
        if req.pin.etag().is_some_and(|pinned| bare_etag(pinned) != etag)
            || req.pin.version_id().is_some_and(|pinned| Some(pinned) != meta.version_id.as_deref())
        {
            return Err(err!(Kind::Stale, "the object was replaced"));
        }
        let range = req.range.resolve(total)?;
        let etag = etag.to_owned();
        let last_modified = meta.time()?;
        let Meta { version_id, metadata, .. } = meta;
        let head = Object {
            bytes: Bytes::new(),
            start: range.start,
            total,
            etag,
            version_id,
            last_modified,
            storage_class: None,
            metadata,
            missing_meta: 0,
            replica: None,
        };
        part.begin(head, range.end - range.start)?;
        (&file).seek(SeekFrom::Start(range.start)).and_then(|_| part.read(&file)).map_err(|e| io_error(&e))
    }
}

/// Metadata, body and the body's size, that belong together: a writer removes the old metadata before it replaces the
/// body, so metadata that are the same before and after the body was opened are this body's.
fn open_object(path: &Path, key: &str) -> Result<(Meta, File, u64)> {
    let meta = match Meta::read(path, key) {
        Ok(meta) => meta,
        // No such object, or an object without metadata?
        Err(e) if e.kind() == Kind::NotFound => {
            fs::symlink_metadata(path).map_err(|e| io_error(&e))?;
            return Err(err!(Kind::Storage, "sealed copy: the object's {} is missing", name::META));
        }
        Err(e) => return Err(e),
    };
    let (file, size) = open_file(path)?;
    if Meta::read(path, key)? != meta {
        return Err(err!(Kind::Storage, "sealed copy: the object was replaced while it was opened"));
    }
    if size != meta.size {
        return Err(err!(Kind::Storage, "sealed copy: the body has {size} bytes, its metadata say {}", meta.size));
    }
    Ok((meta, file, size))
}

/// `below` joined to `root`, if every folder on the way is a folder and no link.
fn walk(root: &Path, below: &Path) -> Result<PathBuf> {
    let mut path = root.to_path_buf();
    for piece in below.parent().into_iter().flat_map(Path::iter) {
        path.push(piece);
        if !fs::symlink_metadata(&path).map_err(|e| io_error(&e))?.is_dir() {
            return Err(err!(Kind::Storage, "sealed copy: a link or a file is where a folder should be"));
        }
    }
    path.extend(below.file_name());
    Ok(path)
}

/// A regular file and its size; never a link, never a device to wait for.
fn open_file(path: &Path) -> Result<(File, u64)> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = open.map_err(|e| io_error(&e))?;
    let stat = file.metadata().map_err(|e| io_error(&e))?;
    if !stat.is_file() {
        return Err(err!(Kind::Storage, "sealed copy: not a regular file"));
    }
    Ok((file, stat.len()))
}

fn io_error(e: &io::Error) -> Error {
    match e.kind() {
        ErrorKind::NotFound => err!(Kind::NotFound, "no such object"),
        ErrorKind::PermissionDenied => err!(Kind::AccessDenied, "sealed copy: {e}"),
        _ if e.raw_os_error() == Some(libc::ELOOP) => {
            err!(Kind::Storage, "sealed copy: a symbolic link is not followed")
        }
        _ => err!(Kind::Storage, "sealed copy: {e}"),
    }
}
