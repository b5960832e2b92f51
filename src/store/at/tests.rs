//! The choice by time against a plain model of it, whatever the histories, the moment and the pages are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::versions::Marker;
use crate::store::{ByteRange, list_all};

const ID: &str = "id";

/// A bucket of versions in the order of a listing.
struct Kept {
    versions: Vec<Version>,
    page: usize,
}

fn version(key: &str, n: usize, at: i64, delete_marker: bool) -> Version {
    Version {
        key: key.into(),
        version_id: Some(format!("{ID}{n}")),
        last_modified: (at, 0),
        latest: n == 0,
        delete_marker,
        size: (!delete_marker).then_some(n as u64),
        etag: format!("{key}-{n}"),
        storage_class: None,
    }
}

#[async_trait]
impl Store for Kept {
    fn describe(&self) -> String {
        "kept:".into()
    }
    fn bucket(&self) -> &str {
        "kept"
    }
    async fn list(&self, _: &ListRequest) -> Result<Page> {
        panic!("the present was asked for")
    }
    async fn check(&self) -> Result<()> {
        panic!("the present was asked for")
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let Pin::Version { id, etag } = &req.pin else { panic!("not pinned: {req:?}") };
        let is_it = |v: &&Version| v.version_id.as_ref() == Some(id) && v.etag == *etag && v.key == req.key.as_bytes();
        let version = self.versions.iter().find(is_it).unwrap();
        Ok(Object {
            bytes: Default::default(),
            start: 0,
            total: 0,
            etag: version.etag.clone(),
            version_id: version.version_id.clone(),
            last_modified: version.last_modified,
            storage_class: None,
            metadata: BTreeMap::new(),
            missing_meta: 0,
            replica: None,
        })
    }

    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        let start = || req.start_after.clone().map(Marker::behind);
        let after = req.after.clone().or_else(start);
        let mut behind = after.is_none();
        let mut page = VersionsPage::default();
        for version in &self.versions {
            let Some(tail) = version.key.strip_prefix(req.prefix.as_bytes()) else { continue };
            let slash = tail.iter().position(|b| *b == b'/').filter(|_| req.delimiter);
            let name = &version.key[..slash.map_or(version.key.len(), |at| req.prefix.len() + at + 1)];
            if !behind {
                let marker = after.as_ref().unwrap();
                let there = name == marker.key.as_bytes();
                behind = name > marker.key.as_bytes() || there && marker.version_id == version.version_id;
                if name <= marker.key.as_bytes() {
                    continue;
                }
            }
            if slash.is_some() && page.prefixes.last().is_some_and(|last| last == name) {
                continue;
            }
            if page.versions.len() + page.prefixes.len() == self.page {
                let last = page.versions.last().filter(|v| page.prefixes.iter().all(|p| *p < v.key));
                page.next = Some(match last {
                    Some(v) => Marker { version_id: v.version_id.clone(), ..Marker::behind(text(&v.key)) },
                    None => Marker::behind(text(page.prefixes.last().unwrap())),
                });
                break;
            }
            match slash {
                Some(_) => page.prefixes.push(name.to_vec()),
                None => page.versions.push(version.clone()),
            }
        }
        Ok(Some(page))
    }
}

fn wait<T>(call: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Of each key, the steps from one version to the one before it, and which are deletions.
fn histories() -> impl Strategy<Value = Vec<(String, Vec<(i64, bool)>)>> {
    let steps = prop::collection::vec((0..3i64, prop::bool::weighted(0.3)), 1..6);
    let keys = prop::collection::btree_set("[ab](/[ab]{1,2})?", 1..6);
    (keys, prop::collection::vec(steps, 6)).prop_map(|(keys, steps)| keys.into_iter().zip(steps).collect())
}

proptest! {
    #[test]
    fn of_each_key_the_newest_of_that_time(histories in histories(), moment in 90..101i64, page in 1..5usize) {
        let mut versions = Vec::new();
        for (key, steps) in &histories {
            let mut at = 100;
            for (n, (step, delete_marker)) in steps.iter().enumerate() {
                at -= step;
                versions.push(version(key, n, at, *delete_marker));
            }
        }
        let newest = |key: &str| {
            let of_then = |v: &&Version| v.key == key.as_bytes() && v.last_modified <= (moment, 0);
            versions.iter().find(of_then).filter(|v| !v.delete_marker).cloned()
        };
        let model: Vec<Entry> = histories.iter().filter_map(|(key, _)| entry(newest(key)?).ok()).collect();
        let store = At::new(Kept { versions: versions.clone(), page }, (moment, 0), String::new());

        let all = wait(list_all(&store, &ListRequest::default())).unwrap();
        prop_assert_eq!(&all.objects, &model);
        prop_assert!(all.prefixes.is_empty());
        for (key, _) in &histories {
            let behind = ListRequest { start_after: Some(key.clone()), ..ListRequest::default() };
            let found = wait(list_all(&store, &behind)).unwrap().objects;
            let rest: Vec<_> = model.iter().filter(|e| e.key.as_slice() > key.as_bytes()).cloned().collect();
            prop_assert_eq!(found, rest);
        }
        // Folders may be of another time, but none is missing.
        let top = wait(list_all(&store, &ListRequest { delimiter: true, ..ListRequest::default() })).unwrap();
        let plain: Vec<_> = model.iter().filter(|e| !e.key.contains(&b'/')).cloned().collect();
        prop_assert_eq!(top.objects, plain);
        let folders: BTreeSet<_> = histories.iter().filter_map(|(key, _)| Some(key.split_once('/')?.0)).collect();
        prop_assert_eq!(top.prefixes, folders.iter().map(|f| format!("{f}/").into_bytes()).collect::<Vec<_>>());

        for (key, _) in &histories {
            let get = |pin| wait(store.get(&GetRequest { key: key.clone(), pin, range: ByteRange::Suffix(1) }));
            match newest(key) {
                None => prop_assert_eq!(get(Pin::None).unwrap_err().kind(), Kind::NotFound),
                Some(version) => {
                    prop_assert_eq!(&get(Pin::None).unwrap().etag, &version.etag);
                    prop_assert_eq!(get(Pin::ETag(version.etag.clone())).unwrap().version_id, version.version_id);
                    prop_assert_eq!(get(Pin::ETag("another".into())).unwrap_err().kind(), Kind::Stale);
                }
            }
        }

        // What else there was then, and which of it was the latest.
        let seen = wait(async {
            let (mut pages, mut seen) = (VersionPages::new(&store, VersionsRequest::default()), Vec::new());
            while let Some(page) = pages.next().await.unwrap() {
                seen.extend(page.versions);
            }
            seen
        });
        let mut of_then: Vec<Version> = versions.into_iter().filter(|v| v.last_modified <= (moment, 0)).collect();
        for n in 0..of_then.len() {
            of_then[n].latest = n == 0 || of_then[n - 1].key != of_then[n].key;
        }
        prop_assert_eq!(seen, of_then);
    }
}

/// Pages of which nothing is of that time are no sign of a listing without end; the same place again and again is.
#[test]
fn a_long_listing_of_nothing_ends() {
    let many = (0..3000).map(|n| version(&format!("k{n:05}"), 0, 100, false)).collect();
    let store = At::new(Kept { versions: many, page: 1 }, (50, 0), String::new());
    assert!(wait(list_all(&store, &ListRequest::default())).unwrap().objects.is_empty());
    let one = (0..3000).map(|n| version("k", n, 100, false)).collect();
    let store = At::new(Kept { versions: one, page: 1 }, (50, 0), String::new());
    let e = wait(list_all(&store, &ListRequest::default())).unwrap_err();
    assert!(e.to_string().contains("does not advance"), "{e}");
}
