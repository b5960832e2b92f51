//! A bucket that has nothing but a listing, in pages of a few keys; and what `find` chooses from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, TryStreamExt};
use logarchivefs::catalog::select::{Selection, SelectionArgs};
use logarchivefs::catalog::{Batch, Catalog, Selected};
use logarchivefs::err;
use logarchivefs::error::{Kind, Result};
use logarchivefs::store::{Entry, GetRequest, ListRequest, Object, Page, Store};

/// Keys, with the Unix second of their upload.
#[derive(Clone, Debug, Default)]
pub struct Bucket(pub BTreeMap<Vec<u8>, i64>);

const PAGE: usize = 3;

#[async_trait]
impl Store for Bucket {
    fn describe(&self) -> String {
        "a listing".into()
    }
    fn bucket(&self) -> &str {
        "listing"
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        let prefix = req.prefix.as_bytes();
        // With a delimiter: what is up to the first slash after the prefix, once.
        let mut rows: Vec<(Vec<u8>, Option<i64>)> = Vec::new();
        for (key, modified) in self.0.iter().filter(|(key, _)| key.starts_with(prefix)) {
            match key[prefix.len()..].iter().position(|b| *b == b'/').filter(|_| req.delimiter) {
                None => rows.push((key.clone(), Some(*modified))),
                Some(at) => {
                    let folder = key[..prefix.len() + at + 1].to_vec();
                    if rows.last().is_none_or(|(last, _)| *last != folder) {
                        rows.push((folder, None));
                    }
                }
            }
        }
        let from: usize = req.token.as_deref().map_or(0, |token| token.parse().unwrap());
        let mut page = Page::default();
        for (name, modified) in rows.iter().skip(from).take(PAGE) {
            match modified {
                None => page.prefixes.push(name.clone()),
                Some(modified) => page.objects.push(Entry {
                    key: name.clone(),
                    size: 1,
                    etag: "e".into(),
                    last_modified: (*modified, 0),
                    storage_class: None,
                }),
            }
        }
        page.next = (from + PAGE < rows.len()).then(|| (from + PAGE).to_string());
        Ok(page)
    }
    async fn get(&self, _: &GetRequest) -> Result<Object> {
        Err(err!(Kind::Internal, "listing needs no object"))
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Bucket {
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Bucket {
        // Uploaded in 2030: when no date of a test is.
        Bucket(keys.into_iter().map(|key| (key.as_bytes().to_vec(), 1_900_000_000)).collect())
    }

    pub fn catalog(&self, args: SelectionArgs) -> Catalog {
        Catalog::new(Arc::new(self.clone()), Selection::new(args).unwrap(), Duration::MAX)
    }

    /// What `find` lists, in its order.
    pub fn find(&self, args: SelectionArgs) -> Vec<Selected> {
        logs(self.catalog(args).walk())
    }
}

/// All that is in a stream of batches.
pub fn logs(batches: impl Stream<Item = Result<Batch>>) -> Vec<Selected> {
    let add = |mut all: Vec<Selected>, batch: Batch| async move {
        assert!(batch.len() > 0 && batch.len() == batch.iter().count());
        assert_eq!(batch.bytes(), batch.iter().map(|log| log.item.size()).sum::<u64>());
        all.extend(batch);
        Ok(all)
    };
    wait(batches.try_fold(Vec::new(), add)).unwrap()
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
