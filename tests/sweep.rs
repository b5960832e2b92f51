//! Sweeps: whole objects, once, in order. All vectors; lengths around the runs; sinks, stores and objects that fail.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use common::archive::{gzip, key_base64, key_sum, noise, sealed, sha256};
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::{Keyring, SealAs};
use logarchivefs::err;
use logarchivefs::error::{Error, Kind, Result};
use logarchivefs::object::head::Head;
use logarchivefs::object::{Listed, Objects, Policy, Stored, Swept, Text};
use logarchivefs::store::{ByteRange, GetRequest, ListRequest, Object, Page, Store};
use serde_json::Value;

/// Bytes that are fetched and worked on at a time.
const RUN: usize = 2 << 20;

/// Objects in memory. Requests for bytes from `fails_at` on fail.
#[derive(Default)]
struct Memory {
    objects: BTreeMap<String, (BTreeMap<String, String>, Bytes)>,
    fails_at: Option<u64>,
}

#[async_trait]
impl Store for Memory {
    fn describe(&self) -> String {
        "memory".into()
    }
    fn bucket(&self) -> &str {
        "memory"
    }
    async fn list(&self, _: &ListRequest) -> Result<Page> {
        Ok(Page::default())
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let (metadata, body) = self.objects.get(&req.key).ok_or_else(|| err!(Kind::NotFound, "no such object"))?;
        let total = body.len() as u64;
        let range = match &req.range {
            ByteRange::Whole => 0..total,
            ByteRange::Span(range) => range.clone(),
            ByteRange::Suffix(len) => total.saturating_sub(*len)..total,
        };
        if matches!(req.range, ByteRange::Span(_)) && self.fails_at.is_some_and(|at| range.end > at) {
            return Err(err!(Kind::Storage, "told to fail"));
        }
        Ok(Object {
            bytes: body.slice(range.start as usize..range.end as usize),
            start: range.start,
            total,
            etag: "e".into(),
            version_id: Some("v".into()),
            last_modified: (0, 0),
            storage_class: None,
            metadata: metadata.clone(),
            missing_meta: 0,
            replica: None,
        })
    }
}

/// Keeps what it is given, and checks that it comes in order.
#[derive(Default)]
struct Kept {
    heads: usize,
    ciphertext: Vec<u8>,
    gzip: Vec<u8>,
    text: Vec<u8>,
    /// Fails once it has so many bytes of text.
    full_at: Option<usize>,
}

impl Stored for Kept {
    fn head(&mut self, head: &Head) {
        assert_eq!((self.ciphertext.len(), head.version_id.as_deref()), (0, Some("v")));
        self.heads += 1;
    }
    fn ciphertext(&mut self, bytes: &[u8]) -> Result<()> {
        assert_eq!(self.heads, 1);
        self.ciphertext.extend_from_slice(bytes);
        Ok(())
    }
    fn gzip(&mut self, bytes: &[u8]) -> Result<()> {
        self.gzip.extend_from_slice(bytes);
        assert!(self.gzip.len() <= self.ciphertext.len());
        Ok(())
    }
}

impl Text for Kept {
    fn text(&mut self, text: &[u8]) -> Result<()> {
        assert!(!text.is_empty());
        self.text.extend_from_slice(text);
        match self.full_at {
            Some(most) if self.text.len() > most => Err(err!(Kind::Internal, "full")),
            _ => Ok(()),
        }
    }
}

struct Swiped {
    result: Result<Swept>,
    raw: Kept,
    text: Kept,
}

/// Sweeps the object `key` of the store.
fn sweep(store: Memory, keys: &[&str], key: &str, full_at: Option<usize>) -> Swiped {
    let mut ring = Keyring::default();
    keys.iter().for_each(|k| ring.insert_b64(k).unwrap());
    let policy = Policy { allow_unauthenticated: true, allow_instruction_files: true, ..Policy::default() };
    let size = store.objects[key].1.len() as u64;
    let objects = Objects::new(Arc::new(store), ring, policy, 32 << 20);
    let (raw, text) = (Arc::default(), Arc::new(Mutex::new(Kept { full_at, ..Kept::default() })));
    let key_sum = key.split('/').nth(3).unwrap().to_owned();
    let listed = Listed { key: key.into(), key_sum, size, etag: "e".into(), storage_class: None };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let result = runtime.block_on(objects.sweep(&listed, &raw, &text));
    let take = |kept: &Mutex<Kept>| std::mem::take(&mut *kept.lock().unwrap());
    Swiped { result, raw: take(&raw), text: take(&text) }
}

/// The same for an object that was just sealed.
fn sweep_sealed(metadata: BTreeMap<String, String>, body: Vec<u8>, full_at: Option<usize>) -> Swiped {
    let key = format!("s/shareable/v3/{}/databases-1/k", key_sum(0));
    let objects = BTreeMap::from([(key.clone(), (metadata, body.into()))]);
    sweep(Memory { objects, fails_at: None }, &[&key_base64(0)], &key, full_at)
}

fn error(swiped: Swiped) -> Error {
    swiped.result.err().expect("an error")
}

#[test]
fn every_vector() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut seen = 0;
    for folder in fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let meta: Value = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let text = |name: &str| meta[name].as_str().unwrap_or_default().to_owned();
        let (name, key) = (text("name"), text("key"));
        let metadata: BTreeMap<String, String> = serde_json::from_value(meta["metadata"].clone()).unwrap();
        let mut store = Memory::default();
        store.objects.insert(key.clone(), (metadata, fs::read(folder.join("object")).unwrap().into()));
        if let Ok(instruction) = fs::read(folder.join("instruction")) {
            store.objects.insert(format!("{key}.instruction"), (BTreeMap::new(), instruction.into()));
        }
        let keys: Vec<&str> = meta["keys_b64"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
        let swiped = sweep(store, &keys, &key, None);
        seen += 1;
        let outcome = swiped.result.as_ref().map_or_else(|e| e.kind().row().name, |_| "ok");
        let expected = match text("expect").as_str() {
            // Nothing authenticates it, so that all damage is one.
            _ if name.starts_with("v1") && outcome != "ok" => "bad-padding".to_owned(),
            "not-gzip" => "bad-gzip".to_owned(),
            other => other.to_owned(),
        };
        assert!(outcome == expected, "{name}: {outcome}, not {expected}");
        if !swiped.raw.ciphertext.is_empty() {
            assert_eq!(sha256(&swiped.raw.ciphertext), text("object_sha256"), "{name}");
        }
        let Ok(swept) = swiped.result else { continue };
        assert_eq!(sha256(&swiped.raw.gzip), text("gzip_sha256"), "{name}");
        assert_eq!(sha256(&swiped.text.text), text("plaintext_sha256"), "{name}");
        assert_eq!(swept.size, meta["plaintext_len"].as_u64().unwrap(), "{name}");
    }
    assert_eq!(seen, 69);
}

#[test]
fn lengths_around_the_runs() {
    let text = noise(1, 2 * RUN);
    let packed = gzip(&text);
    let mut random = Random::new(5);
    for kind in [SealAs::V1, SealAs::V2, SealAs::V3] {
        let edges = [-17_i64, -16, -15, -1, 0, 1, 15, 16, 17].into_iter().map(|by| (2 * RUN as i64 + by) as usize);
        let anywhere: Vec<usize> = (0..6).map(|_| packed.len() + random.below(2 * RUN as u64) as usize).collect();
        for len in edges.chain(anywhere) {
            // Zeros behind a gzip stream are padding.
            let mut stream = packed.clone();
            stream.resize(len.max(packed.len()), 0);
            let (metadata, body) = sealed(kind, 0, &stream, &mut random);
            let swiped = sweep_sealed(metadata, body.clone(), None);
            let swept = swiped.result.unwrap_or_else(|e| panic!("{kind:?}, {len}: {e}"));
            assert!(
                swiped.raw.ciphertext == body && swiped.raw.gzip == stream && swiped.text.text == text,
                "{kind:?}, {len}"
            );
            assert_eq!(
                (swept.size, swept.garbage, swept.head.gzip_len),
                (text.len() as u64, None, stream.len() as u64)
            );
        }
    }
}

/// More than one thread has in its turn, with a first run in two parts; and by sinks that are one and the same.
#[test]
fn many_runs() {
    let text = noise(4, 18 * RUN);
    let stream = gzip(&text);
    let (metadata, body) = sealed(SealAs::V3, 0, &stream, &mut Random::new(1));
    assert!(body.len() > 8 * RUN);
    let swiped = sweep_sealed(metadata.clone(), body.clone(), None);
    assert!(swiped.raw.ciphertext == body && swiped.raw.gzip == stream && swiped.text.text == text);
    assert_eq!(swiped.result.unwrap().size, text.len() as u64);

    let key = format!("s/shareable/v3/{}/databases-1/k", key_sum(0));
    let (size, key_sum) = (body.len() as u64, key_sum(0));
    let objects = BTreeMap::from([(key.clone(), (metadata, body.into()))]);
    let mut ring = Keyring::default();
    ring.insert_b64(&key_base64(0)).unwrap();
    let objects = Objects::new(Arc::new(Memory { objects, fails_at: None }), ring, Policy::default(), 32 << 20);
    let listed = Listed { key, key_sum, size, etag: "e".into(), storage_class: None };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let nowhere = Arc::new(Mutex::new(()));
    let swept = runtime.block_on(objects.sweep(&listed, &nowhere, &nowhere)).unwrap();
    assert_eq!(swept.size, text.len() as u64);
}

#[test]
fn the_tag_has_the_last_word() {
    let mut stream = gzip(&noise(2, 3 * RUN));
    stream[RUN / 2] ^= 1;
    let (metadata, body) = sealed(SealAs::V2, 0, &stream, &mut Random::new(1));
    let authentic = sweep_sealed(metadata.clone(), body.clone(), None);
    assert_eq!(
        (authentic.raw.ciphertext.len(), authentic.raw.gzip == stream),
        (body.len(), true),
        "looked at to the end"
    );
    assert!(matches!(error(authentic).kind(), Kind::BadGzip | Kind::GzipChecksum));
    for at in [0, RUN / 2, body.len() - 1] {
        let mut damaged = body.clone();
        damaged[at] ^= 1;
        let swiped = sweep_sealed(metadata.clone(), damaged.clone(), None);
        assert!(swiped.raw.ciphertext == damaged);
        assert_eq!(error(swiped).kind(), Kind::Tag, "damaged at {at}");
    }
    let (metadata, body) = sealed(SealAs::V1, 0, &stream, &mut Random::new(1));
    assert_eq!(error(sweep_sealed(metadata, body, None)).kind(), Kind::Padding, "no oracle");
}

#[test]
fn a_sink_or_a_store_that_fails_ends_it() {
    let (metadata, body) = sealed(SealAs::V2, 0, &gzip(&noise(3, 5 * RUN)), &mut Random::new(1));
    let full = sweep_sealed(metadata.clone(), body.clone(), Some(RUN));
    assert!(full.text.text.len() < 2 * RUN);
    let e = error(full);
    assert_eq!((e.kind(), e.message()), (Kind::Internal, "full"));
    assert!(e.subject().is_some_and(|key| key.ends_with("databases-1/k")));

    let key = format!("s/shareable/v3/{}/databases-1/k", key_sum(0));
    let objects = BTreeMap::from([(key.clone(), (metadata, body.into()))]);
    let broken = sweep(Memory { objects, fails_at: Some(2 * RUN as u64) }, &[&key_base64(0)], &key, None);
    assert!(broken.raw.ciphertext.len() <= 2 * RUN);
    assert_eq!(error(broken).kind(), Kind::Storage);
}
