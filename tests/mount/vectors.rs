//! Every vector, written by AWS's own clients or damaged on purpose: its outcome through the mount.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::archive::sha256;
use crate::common::mounted::{Mount, Setup, errno, xattr, xattrs};
use crate::common::s3::{BUCKET, Server};

struct Vector {
    name: String,
    meta: Value,
    etag: String,
    version: String,
}

impl Vector {
    fn text(&self, field: &str) -> &str {
        self.meta[field].as_str().unwrap()
    }

    /// Where the key's fields put it.
    fn path(&self) -> String {
        let p = &self.meta["parsed"];
        let s = |name: &str| p[name].as_str();
        let time = |name: &str| s(name).map_or("unknown".into(), |t| t.replace(['-', ':'], ""));
        let n = p["rotation"].as_u64().map_or(String::new(), |n| format!(".{n}"));
        let (home, stem) = match p["schema"].as_str().unwrap() {
            "v2" => (s("uploaded_at"), format!("uploaded-{}{n}", time("uploaded_at"))),
            _ => (s("start"), format!("{}_{}{n}", time("start"), time("end"))),
        };
        let day = home.map_or("undated", |t| &t[..10]);
        let (stack, kind, container) = (s("stack").unwrap(), s("type").unwrap(), s("container_id").unwrap());
        format!("{stack}/{kind}-{}/{container}/{day}/{stem}.json", p["id"])
    }

    fn by_instruction_file(&self) -> bool {
        self.name.ends_with("instruction-file")
    }

    fn is_v1(&self) -> bool {
        self.name.starts_with("v1cbc")
    }

    /// The errno that a reader gets; 0 for those that are read.
    fn errno(&self, lenient: bool) -> i32 {
        if !lenient && (self.is_v1() || self.by_instruction_file()) {
            return libc::EOPNOTSUPP;
        }
        match self.text("expect") {
            "ok" => 0,
            "no-key" => libc::ENOKEY,
            "unsupported-wrap" | "unsupported-cek" => libc::EOPNOTSUPP,
            "tag-mismatch"
            | "commitment-mismatch"
            | "key-unwrap-failed"
            | "bad-envelope"
            | "no-envelope"
            | "truncated"
            | "bad-gzip"
            | "bad-gzip-crc"
            | "truncated-gzip"
            | "bad-padding" => libc::EBADMSG,
            other => panic!("{other} is not in the table"),
        }
    }

    fn envelope(&self) -> &str {
        match self.name.as_str() {
            name if name.starts_with("v1") => "v1",
            name if name.starts_with("v3") => "v3",
            _ => "v2",
        }
    }
}

fn load(server: &Server) -> Vec<Vector> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let mut vectors = Vec::new();
    for entry in index["vectors"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap().to_owned();
        let read = |file: &str| fs::read(dir.join(&name).join(file)).unwrap();
        let meta: Value = serde_json::from_slice(&read("meta.json")).unwrap();
        let metadata: Vec<(&str, &str)> =
            meta["metadata"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let (etag, version) = server.put(meta["key"].as_str().unwrap(), &metadata, read("object"));
        if let Some(key) = meta["instruction"]["key"].as_str() {
            server.put(key, &[], read("instruction"));
        }
        vectors.push(Vector { name, meta, etag, version });
    }
    assert!(vectors.len() >= 65);
    vectors
}

fn mount(server: &Server, args: &[&str], vectors: &[Vector]) -> Mount {
    let keys: Vec<&str> = vectors[0].meta["keys_b64"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
    Setup::s3(server).keys(&keys.join("\n")).args(args).mount()
}

/// What comes before the error or the end, and the errno.
fn read(path: &Path) -> (Vec<u8>, i32) {
    let mut got = Vec::new();
    let failed = errno(File::open(path).and_then(|mut f| f.read_to_end(&mut got)));
    (got, failed)
}

fn check(server: &Server, args: &[&str]) {
    let vectors = load(server);
    let lenient = !args.is_empty();
    let mount = mount(server, args, &vectors);
    let mut listed: Vec<PathBuf> = mount.out("find . -type f").lines().map(PathBuf::from).collect();
    listed.sort();
    let mut wanted: Vec<PathBuf> = vectors.iter().map(|v| Path::new(".").join(v.path())).collect();
    wanted.sort();
    assert_eq!(listed, wanted, "each vector is one file, and no instruction file is");

    for v in &vectors {
        let (path, want) = (mount.path(v.path()), v.errno(lenient));
        // The one vector with two good outcomes beyond those of the same errno: an empty file, or damage.
        let empty_or_damaged = v.name == "zero-byte-plaintext";
        let (got, failed) = read(&path);
        let name = &v.name;
        if empty_or_damaged && failed == 0 {
            assert!(got.is_empty(), "{name}");
            continue;
        }
        assert_eq!(failed, want, "{name}: {}", mount.log());
        let meta = fs::metadata(&path).unwrap();
        if want == 0 {
            assert_eq!(sha256(&got), v.text("plaintext_sha256"), "{name}");
            assert_eq!(meta.len(), v.meta["plaintext_len"].as_u64().unwrap(), "{name}");
            ranges(&path, v);
        } else {
            assert!(got.is_empty(), "{name}: {} bytes were served", got.len());
            assert_eq!((meta.len(), meta.mode() & 0o777), (0, 0), "{name}");
        }
        attributes(&path, v, want, lenient);
    }
    for v in vectors.iter().filter(|v| v.errno(lenient) != 0) {
        assert!(mount.log().contains(v.text("key")), "{} is not named in the log", v.name);
    }
    let asked = server.requests().iter().filter(|r| r.key.ends_with(".instruction")).count();
    assert_eq!(asked > 0, lenient, "instruction files are asked for only if allowed");
}

fn ranges(path: &Path, v: &Vector) {
    let file = File::open(path).unwrap();
    let ranges = v.meta["plaintext_ranges"].as_array();
    for range in ranges.into_iter().flatten().rev() {
        let (offset, len) = (range["offset"].as_u64().unwrap(), range["len"].as_u64().unwrap() as usize);
        let mut buf = vec![0; len];
        let got = file.read_at(&mut buf, offset).unwrap();
        assert_eq!((got, sha256(&buf)), (len, range["sha256"].as_str().unwrap().into()), "{} at {offset}", v.name);
    }
}

fn attributes(path: &Path, v: &Vector, want: i32, lenient: bool) {
    let name = &v.name;
    let get = |attribute: &str| xattr(path, attribute).unwrap_or_else(|e| panic!("{name}: {attribute}: {e}"));
    let parsed = &v.meta["parsed"];
    assert_eq!(get("bucket"), BUCKET);
    assert_eq!(get("key"), v.text("key"));
    assert_eq!(get("etag"), v.etag);
    assert_eq!(get("storage_class"), "STANDARD");
    assert_eq!(get("key_sha256"), parsed["key_sha256"].as_str().unwrap());
    assert_eq!(get("ciphertext_size"), v.meta["object_len"].to_string());
    match parsed["service_id"].as_u64() {
        Some(id) => assert_eq!(get("service_id"), id.to_string()),
        None => assert_eq!(errno(xattr(path, "service_id")), libc::ENODATA),
    }
    assert_eq!(errno(xattr(path, "nonsense")), libc::ENODATA);
    let names = xattrs(path);
    let listed = |attribute: &str| names.iter().any(|n| n == attribute);
    assert!(names.iter().all(|n| xattr(path, n).is_ok()), "{name}: what is listed can be read: {names:?}");
    assert_eq!(listed("service_id"), parsed["service_id"].is_u64());
    if want == 0 {
        let auth = if v.is_v1() { "unauthenticated" } else { "proven" };
        assert_eq!(get("auth"), auth, "{name}");
        assert_eq!(get("version_id"), v.version);
        assert_eq!(get("envelope"), v.envelope(), "{name}");
        assert_eq!(get("gzip_size"), v.meta["gzip_len"].to_string(), "{name}");
        assert_eq!(errno(xattr(path, "error")), libc::ENODATA, "{name}");
        assert!(!listed("error") && listed("envelope") && listed("version_id"));
        return;
    }
    assert_eq!(get("auth"), "failed", "{name}");
    assert!(listed("error"));
    let error = get("error");
    assert!(!error.is_empty() && !error.contains('\n'), "{name}: {error}");
    let says = |word: &str| assert!(error.contains(word), "{name}: {error}");
    match v.text("expect") {
        "no-key" => says(parsed["key_sha256"].as_str().unwrap()),
        _ if !lenient && v.by_instruction_file() => says("--allow-instruction-files"),
        _ if !lenient && v.is_v1() => says("--allow-unauthenticated"),
        // No padding oracle: one and the same error.
        _ if v.is_v1() => says("damaged (this object is not authenticated, so no more can be said)"),
        _ => {}
    }
}

#[test]
fn by_default() {
    check(&Server::start(), &[]);
}

#[test]
fn with_everything_allowed() {
    check(&Server::start(), &["--allow-unauthenticated", "--allow-instruction-files"]);
}
