//! Every published vector (`tests/vectors`, objects written by AWS's own clients) through the public interface: the
//! outcome up to the decrypted gzip stream, its hash, random access from slices of ciphertext, and the 64-byte suffix.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use logarchivefs::envelope::{ContentKey, Found, Keyring};
use logarchivefs::error::{Kind, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const VECTORS: usize = 69;
/// Faults of the gzip stream: nothing that this layer can see.
const OF_GZIP: [&str; 4] = ["bad-gzip", "bad-gzip-crc", "truncated-gzip", "not-gzip"];

#[derive(Deserialize)]
struct Vector {
    name: String,
    key: String,
    metadata: BTreeMap<String, String>,
    keys_b64: Vec<String>,
    object_len: u64,
    object_sha256: String,
    expect: String,
    #[serde(default)]
    also_accept: Vec<String>,
    gzip_len: Option<u64>,
    gzip_sha256: Option<String>,
    #[serde(default)]
    gzip_ranges: Vec<Slice>,
}

#[derive(Deserialize)]
struct Slice {
    offset: u64,
    len: u64,
    sha256: String,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vectors() -> Vec<Vector> {
    let mut names: Vec<_> = fs::read_dir(dir()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    names.sort();
    names.iter().map(|p| serde_json::from_slice(&fs::read(p.join("meta.json")).unwrap()).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Vector {
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(dir().join(&self.name).join(name)).ok()
    }

    fn content_key(&self) -> Result<ContentKey> {
        let mut ring = Keyring::default();
        self.keys_b64.iter().for_each(|k| ring.insert_b64(k).unwrap());
        let master = ring.require(self.key.split('/').nth(3).unwrap())?;
        match Found::from_metadata(&self.metadata)? {
            Found::Complete(envelope) => envelope,
            Found::NeedsInstruction(partial) => partial.complete(self.file("instruction").as_deref())?,
        }
        .open(master)
    }

    /// The gzip stream, the way the program gets it: verified and decrypted in pieces.
    fn read(&self, object: &[u8]) -> Result<(ContentKey, Vec<u8>)> {
        let key = self.content_key()?;
        let len = object.len() as u64;
        let plain_len = key.plain_len(len, &object[object.len().saturating_sub(64)..])?;
        let mut verifier = key.verifier(len)?;
        object.chunks(1000).for_each(|piece| verifier.update(piece));
        verifier.finish()?;
        let mut gzip = Vec::new();
        for start in (0..plain_len).step_by(5000) {
            gzip.extend(range(&key, object, start, 5000)?);
        }
        Ok((key, gzip))
    }
}

/// From the ciphertext that `cover` names and nothing else.
fn range(key: &ContentKey, object: &[u8], offset: u64, len: u64) -> Result<Vec<u8>> {
    let plain = offset..offset + len;
    let cover = key.cover(plain.clone(), object.len() as u64);
    let mut buf = object[cover.start as usize..cover.end as usize].to_vec();
    let plain = key.decrypt(plain, object.len() as u64, &mut buf)?;
    Ok(buf[plain].to_vec())
}

fn check(v: &Vector) {
    let name = &v.name;
    let object = v.file("object").unwrap();
    assert_eq!((object.len() as u64, sha256(&object)), (v.object_len, v.object_sha256.clone()), "{name}: object file");
    let outcome = v.read(&object);
    let got = outcome.as_ref().map_or_else(|e| e.kind().row().name, |_| "ok");
    let mut allowed: Vec<&str> = v.also_accept.iter().map(String::as_str).chain([v.expect.as_str()]).collect();
    if allowed.iter().any(|a| OF_GZIP.contains(a)) {
        allowed.push("ok");
    }
    assert!(allowed.contains(&got), "{name}: {outcome:?}, allowed {allowed:?}");
    if OF_GZIP.contains(&v.expect.as_str()) {
        assert_eq!(got, "ok", "{name}");
    }
    let Ok((key, gzip)) = outcome else { return };
    let len = object.len() as u64;
    v.gzip_len.inspect(|n| assert_eq!(gzip.len() as u64, *n, "{name}"));
    v.gzip_sha256.iter().for_each(|h| assert_eq!(&sha256(&gzip), h, "{name}"));
    for r in &v.gzip_ranges {
        assert_eq!(sha256(&range(&key, &object, r.offset, r.len).unwrap()), r.sha256, "{name} at {}", r.offset);
    }
    let suffix = &object[object.len().saturating_sub(64)..];
    let tail = key.tail(len, suffix).unwrap();
    assert_eq!(tail.plain_len, gzip.len() as u64, "{name}");
    assert_eq!(tail.trailer.as_ref(), gzip.last_chunk(), "{name}");
}

#[test]
fn every_vector_has_its_outcome() {
    let vectors = vectors();
    assert_eq!(vectors.len(), VECTORS);
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["vectors"].as_array().unwrap().len(), VECTORS);
    vectors.iter().for_each(check);
    assert!(vectors.iter().map(|v| v.gzip_ranges.len()).sum::<usize>() > 150);
}

#[test]
fn without_instruction_files_the_reason_is_named() {
    for v in vectors() {
        if let Ok(Found::NeedsInstruction(partial)) = Found::from_metadata(&v.metadata) {
            let want = if v.expect == "no-envelope" { Kind::NoEnvelope } else { Kind::InstructionFile };
            assert_eq!(partial.refused().kind(), want, "{}", v.name);
            assert_eq!(partial.complete(None).unwrap_err().kind(), Kind::NoEnvelope, "{}", v.name);
        }
    }
}
