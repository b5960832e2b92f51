//! The file engine alone: no kernel, no network. What is left between it and the in-process limit is ours to lose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use logarchivefs::envelope::{Keyring, MasterKey};
use logarchivefs::error::Result;
use logarchivefs::object::{Listed, Objects, Policy, Verify};
use logarchivefs::store::{ByteRange, GetRequest, ListRequest, Object, Page, Store};

use crate::measure::time;

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
        })
    }
}

/// Opens the object and waits for the end of its scan.
pub fn scan(body: &[u8], metadata: &[(String, String)], master: &MasterKey, verify: Verify) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = Memory { body: Bytes::copy_from_slice(body), metadata: metadata.iter().cloned().collect() };
    let size = body.len() as u64;
    let mut keyring = Keyring::default();
    keyring.insert(MasterKey::new(&[7; 32]).unwrap());
    let policy = Policy { verify, ..Policy::default() };
    let objects = Objects::new(Arc::new(store), keyring, policy, 256 << 20).unwrap();
    let file = objects.get(&Listed {
        key: "k".into(),
        key_sum: master.fingerprint(),
        size,
        etag: "e".into(),
        storage_class: None,
    });
    time(|| {
        runtime.block_on(async {
            file.open().await.unwrap();
            file.size().await.unwrap()
        })
    })
    .0
}
