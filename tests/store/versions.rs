//! Versions and delete markers: listed whole, in order and once, or not at all.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use logarchivefs::error::Kind;
use logarchivefs::store::{
    Count, DirStore, Retry, S3Options, S3Store, Store, Version, VersionPages, Versioning, VersionsRequest,
};

use super::common::s3::{Reply, Server};
use super::{open, options};

fn request(prefix: &str, delimiter: bool) -> VersionsRequest {
    VersionsRequest { prefix: prefix.into(), delimiter, ..VersionsRequest::default() }
}

async fn all(store: &dyn Store, req: VersionsRequest) -> (Vec<Version>, Vec<Vec<u8>>) {
    let mut pages = VersionPages::new(store, req);
    let (mut versions, mut prefixes) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next().await.unwrap() {
        versions.extend(page.versions);
        prefixes.extend(page.prefixes);
    }
    (versions, prefixes)
}

#[tokio::test]
async fn every_version_once_whatever_the_pages_are() {
    let server = Server::start();
    let mut expected = Vec::new();
    for key in ["p/a b+", "p/a/1", "p/a/2", "p/b\u{1}/1", "p/c", "q"] {
        let mut ids = Vec::new();
        for n in 0..3 {
            ids.push((server.put(key, &[], format!("{key}{n}")).1, false));
        }
        server.delete(key);
        ids.push(("d000003".to_owned(), true));
        if key == "p/c" {
            ids.push((server.put(key, &[], "again").1, false));
        }
        let latest = ids.last().unwrap().clone();
        expected.extend(ids.into_iter().map(|id| (key.strip_prefix("p/"), id == latest, id)));
    }
    expected.retain(|(key, ..)| key.is_some());
    let mut expected: Vec<(&[u8], bool, String, bool)> =
        expected.into_iter().map(|(key, latest, (id, marker))| (key.unwrap().as_bytes(), latest, id, marker)).collect();
    expected.sort();
    let store = S3Store::open(S3Options { prefix: "p/".into(), ..options(&server) }).await.unwrap();
    for page in [1, 2, 3, 5, 1000] {
        server.set_page(page);
        let (versions, prefixes) = all(&store, request("", false)).await;
        assert!(prefixes.is_empty() && versions.is_sorted_by_key(|v| &v.key), "{page}: {versions:?}");
        let mut listed: Vec<(&[u8], bool, String, bool)> =
            versions.iter().map(|v| (&v.key[..], v.latest, v.version_id.clone().unwrap(), v.delete_marker)).collect();
        listed.sort();
        assert_eq!(listed, expected, "pages of {page}");
        assert!(versions.iter().all(|v| v.last_modified.0 > 1_600_000_000));
        // Folders, of what is deleted too.
        let (versions, prefixes) = all(&store, request("", true)).await;
        assert_eq!(prefixes, [&b"a/"[..], b"b\x01/"], "pages of {page}");
        assert_eq!(versions.len(), 4 + 5);
        let (versions, prefixes) = all(&store, request("a/", true)).await;
        assert!(prefixes.is_empty() && versions.len() == 8 && versions.iter().all(|v| v.key.starts_with(b"a/")));
    }
    assert_eq!(all(&store, request("none", false)).await, (Vec::new(), Vec::new()));
}

/// A listing of versions with the given elements before them.
fn listing(elements: &str, keys: &[&str]) -> String {
    let entries: String = keys
        .iter()
        .map(|key| format!("<Version><Key>{key}</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></Version>"))
        .collect();
    format!("<?xml version=\"1.0\"?><ListVersionsResult>{elements}{entries}</ListVersionsResult>")
}

fn answer(server: &Server, next: impl FnMut() -> String + Send + 'static) {
    let next = std::sync::Mutex::new(next);
    server.set_hook(move |_| {
        Some(Reply::Canned { status: 200, headers: vec![], body: (next.lock().unwrap())().into_bytes() })
    });
}

#[tokio::test]
async fn a_damaged_listing_of_versions_is_an_error() {
    let server = Server::start();
    let store = S3Store::open(S3Options { prefix: "p/".into(), ..options(&server) }).await.unwrap();
    let end = "<IsTruncated>false</IsTruncated>";
    let good = listing(end, &["p/a", "p/c"]);
    for (body, word) in [
        (good[..good.len() - 1].to_owned(), "cut short"),
        (good[..good.rfind("<Version>").unwrap()].to_owned(), "cut short"),
        (listing("", &["p/a"]), "IsTruncated"),
        (listing("<IsTruncated>true</IsTruncated>", &["p/a"]), "token"),
        (
            listing(
                "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>%FF</NextKeyMarker>",
                &[],
            ),
            "cannot be sent back",
        ),
        (listing(end, &["q/a"]), "elsewhere"),
        (listing(end, &["p/a"]).replace("<Key>p/a</Key>", ""), "without a name"),
        ("<!DOCTYPE html><html><body>Please sign in</body></html>".into(), "sign-in page"),
        // The listing of objects is another one.
        (listing(end, &["p/a"]).replace("ListVersionsResult", "ListBucketResult"), "Not S3"),
    ] {
        answer(&server, move || body.clone());
        let e = store.versions(&VersionsRequest::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Storage, "{e}");
        assert!(e.to_string().contains(word), "{word}: {e}");
    }
    answer(&server, move || good.clone());
    assert_eq!(store.versions(&VersionsRequest::default()).await.unwrap().unwrap().versions.len(), 2);
    let e = VersionPages::new(&store, request("x", false)).next().await.unwrap_err();
    assert!(e.to_string().contains("not asked for"), "{e}");
}

#[tokio::test]
async fn a_listing_of_versions_without_end_is_an_error() {
    let server = Server::start();
    let store = open(&server).await;
    let truncated = |n: usize, key: &str| {
        let next = format!("<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>v{n}</NextVersionIdMarker>");
        listing(&format!("<IsTruncated>true</IsTruncated>{next}"), &[key])
    };
    for which in ["the same place", "another version each time", "backwards"] {
        let n = AtomicUsize::new(0);
        answer(&server, move || match (which, n.fetch_add(1, SeqCst)) {
            ("the same place", _) => truncated(0, "k"),
            ("backwards", n) => truncated(n, &format!("k{}", 5usize.saturating_sub(n))),
            (_, n) => truncated(n, "k"),
        });
        let mut pages = VersionPages::new(&store, VersionsRequest::default());
        let e = loop {
            match pages.next().await {
                Ok(page) => assert!(page.is_some(), "{which}: it ended"),
                Err(e) => break e,
            }
        };
        assert!(e.kind() == Kind::Storage && e.to_string().contains("does not advance"), "{which}: {e}");
        assert!(server.requests().len() <= 1010, "{which}: {} requests", server.requests().len());
        server.forget();
    }
}

#[tokio::test]
async fn whether_versions_are_kept() {
    let server = Server::start();
    let store = Retry::new(Count::new(open(&server).await), std::time::Duration::from_secs(20));
    assert_eq!(store.versioning().await.unwrap(), Some(Versioning::Enabled));
    server.set_unversioned();
    assert_eq!(store.versioning().await.unwrap(), Some(Versioning::Never));
    // What passes is tried again; a refusal is not.
    let n = AtomicUsize::new(0);
    server.forget();
    server.set_hook(move |_| (n.fetch_add(1, SeqCst) == 0).then(|| Reply::error(503, "SlowDown")));
    assert!(store.versions(&VersionsRequest::default()).await.unwrap().is_some());
    assert_eq!(server.requests().len(), 2);
    server.set_hook(|_| Some(Reply::error(403, "AccessDenied")));
    let e = store.versions(&request("p\n", false)).await.unwrap_err();
    assert_eq!(e.kind(), Kind::AccessDenied);
    for word in ["s3://archive/p\\x0a", "s3:ListBucketVersions is not allowed"] {
        assert!(e.to_string().contains(word), "{e}");
    }
    let e = store.versioning().await.unwrap_err();
    assert!(e.to_string().contains("s3:GetBucketVersioning is not allowed"), "{e}");
    assert_eq!(server.requests().len(), 4);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("objects")).unwrap();
    let copy = DirStore::open(dir.path(), "").unwrap();
    assert_eq!(copy.versioning().await.unwrap(), None);
    assert_eq!(copy.versions(&VersionsRequest::default()).await.unwrap(), None);
}
