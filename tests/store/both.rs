//! What S3 and a sealed copy must do alike.

use std::collections::{BTreeMap, BTreeSet};

use logarchivefs::error::Kind;
use logarchivefs::store::{
    ByteRange, DirStore, GetRequest, ListRequest, MOST_WHOLE, NewObject, Pages, Pin, Store, list_all, write_object,
};

use super::common::s3::{Server, UPLOADS};
use super::{get, open, options, pattern};

/// A place to put objects, and a store that reads them.
struct Place {
    server: Option<Server>,
    folder: tempfile::TempDir,
    store: Box<dyn Store>,
}

impl Place {
    fn put(&self, key: &str, metadata: &[(&str, &str)], body: &[u8]) {
        if let Some(server) = &self.server {
            server.put(key, metadata, body.to_vec());
            return;
        }
        let metadata: BTreeMap<_, _> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let object =
            NewObject { key, metadata: &metadata, etag: None, version_id: None, last_modified: (1_660_000_000, 5) };
        write_object(self.folder.path(), &object, &mut &body[..]).unwrap();
    }
}

/// Both places; S3 without versioning, as pins are by ETag in a sealed copy of such a bucket.
async fn places(prefix: &str) -> [Place; 2] {
    let server = Server::start();
    server.set_unversioned();
    let mut with_prefix = options(&server);
    with_prefix.prefix = prefix.into();
    let s3 = logarchivefs::store::S3Store::open(with_prefix).await.unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(two.path().join("objects")).unwrap();
    let dir = DirStore::open(two.path(), prefix).unwrap();
    [
        Place { server: Some(server), folder: one, store: Box::new(s3) },
        Place { server: None, folder: two, store: Box::new(dir) },
    ]
}

#[tokio::test]
async fn a_get_is_exactly_the_bytes_asked_for() {
    for place in places("").await {
        let body = pattern(200_000);
        place.put("k", &[], &body);
        place.put("empty", &[("x-amz-iv", "AA==")], b"");
        let total = body.len() as u64;
        let store = &place.store;
        for (range, want) in [
            (ByteRange::Whole, 0..total),
            (ByteRange::Span(0..1), 0..1),
            (ByteRange::Span(0..total), 0..total),
            (ByteRange::Span(70_001..199_999), 70_001..199_999),
            (ByteRange::Span(total - 1..total), total - 1..total),
            (ByteRange::Suffix(64), total - 64..total),
            (ByteRange::Suffix(total), 0..total),
            (ByteRange::Suffix(u64::from(u32::MAX)), 0..total),
        ] {
            let object = store.get(&get("k", range.clone())).await.unwrap();
            assert_eq!((object.start, object.total), (want.start, total), "{range:?}");
            assert!(object.bytes == body[want.start as usize..want.end as usize], "{range:?}");
        }
        for range in [ByteRange::Span(0..total + 1), ByteRange::Span(total..total + 1)] {
            assert_eq!(store.get(&get("k", range)).await.unwrap_err().kind(), Kind::Storage);
        }
        for range in [ByteRange::Span(3..3), ByteRange::Suffix(0)] {
            assert_eq!(store.get(&get("k", range)).await.unwrap_err().kind(), Kind::Invalid);
        }
        for range in [ByteRange::Whole, ByteRange::Suffix(64)] {
            let object = store.get(&get("empty", range)).await.unwrap();
            assert_eq!((object.start, object.total, object.bytes.len()), (0, 0, 0));
            assert_eq!(object.metadata["x-amz-iv"], "AA==");
        }
        assert_eq!(store.get(&get("empty", ByteRange::Span(0..1))).await.unwrap_err().kind(), Kind::Storage);
        let missing = store.get(&get("miss\x1bing", ByteRange::Suffix(64))).await.unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.to_string().starts_with("miss\\x1bing: "), "{missing}");
    }
}

#[tokio::test]
async fn whole_gets_are_bounded() {
    let [s3, dir] = places("").await;
    s3.put("big", &[], &vec![0; MOST_WHOLE as usize + 1]);
    assert_eq!(s3.store.get(&get("big", ByteRange::Whole)).await.unwrap_err().kind(), Kind::NoMemory);
    assert_eq!(s3.store.get(&get("big", ByteRange::Suffix(3))).await.unwrap().total, MOST_WHOLE + 1);
    dir.put("big", &[], &vec![0; MOST_WHOLE as usize + 1]);
    assert_eq!(dir.store.get(&get("big", ByteRange::Whole)).await.unwrap_err().kind(), Kind::NoMemory);
}

#[tokio::test]
async fn metadata_and_attributes() {
    for place in places("").await {
        place.put("k", &[("X-Amz-Key-V2", "abc="), ("x-amz-matdesc", "{}")], b"body");
        let object = place.store.get(&get("k", ByteRange::Whole)).await.unwrap();
        let names: Vec<_> = object.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(names, [("x-amz-key-v2", "abc="), ("x-amz-matdesc", "{}")]);
        assert_eq!(object.missing_meta, 0);
        let listed = &list_all(&*place.store, &ListRequest::default()).await.unwrap().objects[0];
        assert_eq!(listed.size, 4);
        assert_eq!(listed.etag, object.etag);
        assert!(!listed.etag.contains('"') && listed.etag.len() == 32);
        let uploads = [1_660_000_000, UPLOADS as i64].map(|first| first..first + 100);
        assert!(uploads.iter().any(|uploads| uploads.contains(&listed.last_modified.0)));
        assert_eq!(listed.last_modified.0, object.last_modified.0);
        place.store.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_pin_holds_or_is_stale() {
    for place in places("").await {
        place.put("k", &[], b"one");
        let first = place.store.get(&get("k", ByteRange::Whole)).await.unwrap();
        assert_eq!(first.pin(), Pin::ETag(first.etag.clone()));
        let pinned = |pin: &Pin| GetRequest { pin: pin.clone(), ..get("k", ByteRange::Suffix(2)) };
        assert_eq!(place.store.get(&pinned(&first.pin())).await.unwrap().bytes, "ne");
        let quoted = Pin::ETag(format!("\"{}\"", first.etag));
        assert_eq!(place.store.get(&pinned(&quoted)).await.unwrap().bytes, "ne");
        place.put("k", &[], b"two");
        assert_eq!(place.store.get(&pinned(&first.pin())).await.unwrap_err().kind(), Kind::Stale);
        assert_eq!(place.store.get(&pinned(&Pin::None)).await.unwrap().bytes, "wo");
        let gone = Pin::Version { id: "v999".into(), etag: first.etag.clone() };
        assert_eq!(place.store.get(&pinned(&gone)).await.unwrap_err().kind(), Kind::Stale);
    }
}

const WEIRD: &[&str] = &[
    "..",
    "../../etc/passwd",
    "/leading",
    "//two",
    "a//b",
    "a/./b",
    "a/../b",
    "new\nline",
    "esc\x1b[31m",
    "2022-08-24T21:12:33.gz",
    "a+b",
    "a b",
    "%41",
    "A",
    "ünï-ö",
    "日本/語",
    "x.meta.json",
    "x",
    "dir/",
    "dir/file",
    "\u{1}",
    "tail ",
    "~*'()!&=$@,;?#[]",
];

fn weird() -> BTreeSet<String> {
    let long = ["x", "/", ".", "é"].map(|unit| unit.repeat(1024 / unit.len()));
    WEIRD.iter().map(|k| k.to_string()).chain(long).collect()
}

#[tokio::test]
async fn any_key_is_listed_and_got() {
    for place in places("").await {
        for key in weird() {
            place.put(&key, &[("k", "v")], key.as_bytes());
        }
        let listed: Vec<_> = list_all(&*place.store, &ListRequest::default())
            .await
            .unwrap()
            .objects
            .into_iter()
            .map(|e| e.key)
            .collect();
        assert_eq!(listed, weird().into_iter().map(String::into_bytes).collect::<Vec<_>>());
        for key in weird() {
            let object = place.store.get(&get(&key, ByteRange::Suffix(2000))).await.unwrap();
            assert_eq!(object.bytes, key.as_bytes(), "{key:?}");
        }
    }
}

/// What S3 lists: keys and prefixes in one byte order.
fn oracle(keys: &BTreeSet<String>, req: &ListRequest) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for key in keys {
        let after = req.start_after.as_ref().is_none_or(|s| key > s);
        let Some(tail) = key.strip_prefix(&req.prefix).filter(|_| after) else { continue };
        let name = match tail.find('/').filter(|_| req.delimiter) {
            Some(at) => format!("{}{}", req.prefix, &tail[..=at]),
            None => key.clone(),
        };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

#[tokio::test]
async fn listings_are_in_byte_order_whatever_the_page_size() {
    for place in places("").await {
        let mut keys = weird();
        keys.extend(["p/a/1", "p/a/2", "p/a", "p/a.", "p/a0", "p/b/1", "p/c", "p0", "p.", "q/a/1"].map(String::from));
        for key in &keys {
            place.put(key, &[], b"");
        }
        for prefix in ["", "p", "p/", "p/a", "/", "none", "日"] {
            for delimiter in [false, true] {
                for start_after in [None, Some("p/a"), Some("p/a/1"), Some("p/a/"), Some("zz")] {
                    let req = ListRequest {
                        prefix: prefix.into(),
                        delimiter,
                        start_after: start_after.map(String::from),
                        ..ListRequest::default()
                    };
                    for max in [1, 2, 3, 1000] {
                        let mut pages = Pages::new(&*place.store, ListRequest { max_keys: Some(max), ..req.clone() });
                        let (mut names, mut count) = (Vec::new(), 0);
                        while let Some(page) = pages.next().await.unwrap() {
                            let mut both: Vec<_> = page.objects.into_iter().map(|e| e.key).collect();
                            both.extend(page.prefixes);
                            both.sort();
                            assert!(both.len() <= max as usize);
                            names.extend(both.into_iter().map(|k| String::from_utf8(k).unwrap()));
                            count += 1;
                        }
                        assert_eq!(names, oracle(&keys, &req), "{req:?}");
                        assert_eq!(count, names.len().div_ceil(max as usize).max(1));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn keys_are_relative_to_the_stores_prefix() {
    for place in places("team+ü/logs").await {
        place.put("team+ü/logs/prod/a", &[], b"1");
        place.put("team+ü/logs-old/b", &[], b"2");
        place.put("team+ü/logs", &[], b"3");
        let all = list_all(&*place.store, &ListRequest::default()).await.unwrap();
        assert_eq!(all.objects.iter().map(|e| &e.key[..]).collect::<Vec<_>>(), [b"prod/a"]);
        let top = list_all(&*place.store, &ListRequest { delimiter: true, ..ListRequest::default() }).await.unwrap();
        assert_eq!((top.objects.len(), top.prefixes), (0, vec![b"prod/".to_vec()]));
        let after = ListRequest { start_after: Some("prod/a".into()), ..ListRequest::below("prod/") };
        assert_eq!(list_all(&*place.store, &after).await.unwrap().objects.len(), 0);
        assert_eq!(place.store.get(&get("prod/a", ByteRange::Whole)).await.unwrap().bytes, "1");
        assert!(place.store.describe().ends_with("/team+ü/logs/"), "{}", place.store.describe());
    }
}

#[tokio::test]
async fn names_of_the_stores() {
    let [_, dir] = places("").await;
    let path = dir.folder.path().canonicalize().unwrap();
    assert_eq!(dir.store.bucket(), path.to_str().unwrap());
    assert_eq!(dir.store.describe(), format!("file://{}", path.display()));
    let server = Server::start();
    let s3 = open(&server).await;
    assert_eq!((s3.bucket(), s3.describe().as_str()), ("archive", "s3://archive/"));
}
