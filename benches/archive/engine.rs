//! The file engine alone: no kernel, no network. What is left between it and the in-process limit is ours to lose.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use logarchivefs::envelope::{Keyring, MasterKey};
use logarchivefs::error::Result;
use logarchivefs::gunzip::{Resumed, SeekPoint};
use logarchivefs::object::{Listed, LogFile, Objects, Policy, Verify};
use logarchivefs::store::{ByteRange, GetRequest, ListRequest, Object, Page, Store};

use crate::limit;
use crate::measure::{median, ratio, row, time};
use crate::rows::Setup;

/// One object, in memory.
struct Memory {
    body: Bytes,
    metadata: BTreeMap<String, String>,
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
        let total = self.body.len() as u64;
        let range = match &req.range {
            ByteRange::Whole => 0..total,
            ByteRange::Span(range) => range.clone(),
            ByteRange::Suffix(len) => total.saturating_sub(*len)..total,
        };
        Ok(Object {
            bytes: self.body.slice(range.start as usize..range.end as usize),
            start: range.start,
            total,
            etag: "e".into(),
            version_id: None,
            last_modified: (0, 0),
            storage_class: None,
            metadata: self.metadata.clone(),
            missing_meta: 0,
            replica: None,
        })
    }
}

/// The object of `setup` as a file of the engine.
fn open(setup: &Setup, verify: Verify) -> (Objects, Arc<LogFile>) {
    let store = Memory { body: setup.body.clone(), metadata: setup.metadata.iter().cloned().collect() };
    let mut keyring = Keyring::default();
    keyring.insert(MasterKey::new(&[7; 32]).unwrap());
    let policy = Policy { verify, ..Policy::default() };
    let objects = Objects::new(Arc::new(store), keyring, policy, 256 << 20);
    let file = objects.get(&Listed {
        key: "k".into(),
        key_sum: setup.master.fingerprint(),
        size: setup.body.len() as u64,
        etag: "e".into(),
        storage_class: None,
    });
    (objects, file)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Opens the object and waits for the end of its scan. Before, inflate alone.
pub fn scans(setup: &Setup) {
    let (mut ours, mut zlib) = (Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        ours.push(time(|| inflate(setup)).0);
        zlib.push(time(|| limit::inflate(setup)).0);
    }
    let (ours, zlib) = (median(ours), median(zlib));
    row("inflate alone, on one core", ours, "zlib-rs (theirs/ours)", ratio(zlib, ours), "-", None);
    for (name, verify) in [("full", Verify::Full), ("stream", Verify::Stream)] {
        let run = || {
            let runtime = runtime();
            let (_objects, file) = open(setup, verify);
            time(|| {
                runtime.block_on(async {
                    file.open(|| ()).await.unwrap();
                    file.size().await.unwrap()
                })
            })
            .0
        };
        let ours = median((0..setup.rounds).map(|_| run()).collect());
        let name = format!("scan without kernel and network, --verify {name}");
        row(&name, ours, "in-process limit", ratio(ours, setup.limit), "-", None);
    }
}

fn inflate(setup: &Setup) {
    let mut decoder = Resumed::new(&SeekPoint::start()).unwrap();
    let (mut text, mut used) = (vec![0; 1 << 20], 0);
    while used < setup.packed.len() {
        used += decoder.decode(&setup.packed[used..], &mut text).unwrap().consumed;
    }
    assert_eq!(decoder.out(), setup.text_len as u64);
}

/// Reads it all again, in order, when nothing of it is cached but its seek points.
pub fn reread(setup: &Setup) {
    let runtime = runtime();
    let (objects, file) = open(setup, Verify::Full);
    runtime.block_on(async {
        file.open(|| ()).await.unwrap();
        file.size().await.unwrap();
    });
    let run = || {
        objects.shared().cache.clear();
        time(|| {
            runtime.block_on(async {
                let mut at = 0;
                loop {
                    let text = file.read_at(at, 128 << 10).await.unwrap();
                    if text.is_empty() {
                        break;
                    }
                    let from = at;
                    at += text.len() as u64;
                    file.read_ahead(from..at).await.unwrap();
                }
                assert_eq!(at, setup.text_len as u64);
            });
        })
        .0
    };
    let ours = median((0..setup.rounds).map(|_| run()).collect());
    let inflate = median((0..setup.rounds).map(|_| time(|| limit::inflate(setup)).0).collect());
    row(
        "re-read after eviction, without the kernel",
        ours,
        "inflate by zlib-rs on one core (theirs/ours)",
        ratio(inflate, ours),
        ">= 1.7",
        None,
    );
}
