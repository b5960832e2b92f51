//! A bucket as it was, over the wire: what was listed and read then is what `At` lists and reads of then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use logarchivefs::error::{Kind, Result};
use logarchivefs::key::Time;
use logarchivefs::store::{
    At, ByteRange, Count, GetRequest, ListRequest, Listing, Object, Pin, Retry, S3Options, S3Store, Store,
    VersionPages, VersionsRequest, list_all,
};

use super::common::s3::{Kept, Reply, Server};
use super::{get, options, pattern};

async fn below(server: &Server, prefix: &str) -> S3Store {
    S3Store::open(S3Options { prefix: prefix.into(), ..options(server) }).await.unwrap()
}

/// As a command has it.
async fn at(server: &Server, prefix: &str, time: &str) -> Retry<At<Count<S3Store>>> {
    let moment = Time::parse_rfc3339(time).unwrap().unix();
    let requests = Count::new(below(server, prefix).await);
    Retry::new(At::new(requests, moment, String::new()), Duration::from_secs(10))
}

/// Requests for versions, and those for objects.
fn asked(server: &Server) -> (usize, usize) {
    let seen = server.requests();
    assert!(!seen.iter().any(|seen| seen.is_list()), "the present was listed: {seen:#?}");
    (seen.iter().filter(|seen| seen.query.contains("versions")).count(), seen.iter().filter(|s| s.is_get()).count())
}

const KEYS: [&str; 6] = ["a b+", "a/1", "a/2", "b\u{1}/1", "c", "c.instruction"];

#[derive(Debug)]
struct Then {
    time: String,
    all: Listing,
    top: Listing,
    bodies: BTreeMap<&'static str, Result<Object>>,
}

async fn now(server: &Server, store: &dyn Store) -> Then {
    let top = ListRequest { delimiter: true, ..ListRequest::default() };
    let mut bodies = BTreeMap::new();
    for key in KEYS {
        bodies.insert(key, store.get(&get(key, ByteRange::Suffix(100))).await);
    }
    Then {
        time: server.time(),
        all: list_all(store, &ListRequest::default()).await.unwrap(),
        top: list_all(store, &top).await.unwrap(),
        bodies,
    }
}

#[tokio::test]
async fn every_moment_is_as_it_was_whatever_the_pages_are() {
    let server = Server::start();
    let plain = below(&server, "p/").await;
    let mut then = vec![now(&server, &plain).await];
    for round in 0..3 {
        for (n, key) in KEYS.iter().enumerate() {
            let key = format!("p/{key}");
            match (round + n) % 4 {
                3 => server.delete(&key),
                _ => drop(server.put_class(&key, &[("n", "1")], format!("{key}{round}"), "STANDARD_IA")),
            }
            then.push(now(&server, &plain).await);
        }
    }
    server.put("q", &[], "x");
    for page in [1, 2, 3, 5, 1000] {
        server.set_page(page);
        for then in &then {
            let store = at(&server, "p/", &then.time).await;
            let of = format!("{} in pages of {page}", then.time);
            assert_eq!(list_all(&store, &ListRequest::default()).await.unwrap(), then.all, "{of}");
            let top = ListRequest { delimiter: true, ..ListRequest::default() };
            let top = list_all(&store, &top).await.unwrap();
            assert_eq!(top.objects, then.top.objects, "{of}");
            // Folders of another time may be there, and are empty.
            assert!(then.top.prefixes.iter().all(|name| top.prefixes.contains(name)), "{of}: {top:?}");
            for after in KEYS {
                let request = ListRequest { start_after: Some(after.into()), ..ListRequest::default() };
                let found = list_all(&store, &request).await.unwrap().objects;
                let rest = then.all.objects.iter().filter(|e| e.key.as_slice() > after.as_bytes()).cloned();
                assert_eq!(found, rest.collect::<Vec<_>>(), "{of}, after {after}");
            }
            for (key, was) in &then.bodies {
                match (store.get(&get(key, ByteRange::Suffix(100))).await, was) {
                    (Ok(object), Ok(was)) => assert_eq!(object, *was, "{key} {of}"),
                    (Err(e), Err(was)) => assert_eq!((e.kind(), was.kind()), (Kind::NotFound, Kind::NotFound), "{e}"),
                    (object, was) => panic!("{key} {of}: {object:?} instead of {was:?}"),
                }
            }
        }
    }
    server.forget();
    store_is_there(&server).await;
}

/// The check asks for versions, and for one only.
async fn store_is_there(server: &Server) {
    at(server, "p/", "2030-01-01T00:00:00Z").await.check().await.unwrap();
    assert_eq!(asked(server), (1, 0));
    assert!(server.requests()[0].query.contains("max-keys=1"), "{:?}", server.requests());
}

#[tokio::test]
async fn a_version_is_looked_up_once_and_then_pinned() {
    let server = Server::start();
    let (etag, id) = server.put("k", &[], pattern(300_000));
    let time = server.time();
    server.put("k", &[], "another");
    server.put("k.instruction", &[], "later");
    let store = at(&server, "", &time).await;
    let n = AtomicUsize::new(0);
    // The body breaks off, and goes on with the version that had begun.
    server.set_hook(move |seen| (seen.is_get() && n.fetch_add(1, SeqCst) == 0).then_some(Reply::Cut(100_000)));
    let pin = Pin::ETag(etag.clone());
    let object = store.get(&GetRequest { pin, ..get("k", ByteRange::Whole) }).await.unwrap();
    assert!(object.bytes == pattern(300_000));
    assert_eq!((object.pin(), asked(&server)), (Pin::Version { id: id.clone(), etag }, (1, 2)));
    let gets: Vec<_> = server.requests().into_iter().filter(|seen| seen.is_get()).collect();
    assert!(gets.iter().all(|seen| seen.query.contains(&format!("versionId={id}")) && seen.if_match.is_some()));
    server.forget();
    store.get(&GetRequest { pin: object.pin(), ..get("k", ByteRange::Span(5..9)) }).await.unwrap();
    assert_eq!(asked(&server), (0, 1));
    // Of the key that is asked for, not of those that begin like it.
    assert_eq!(store.get(&get("k.instruction", ByteRange::Whole)).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.get(&get("k.", ByteRange::Whole)).await.unwrap_err().kind(), Kind::NotFound);
}

/// What was written before versioning, and while it was suspended, is called null.
#[tokio::test]
async fn null_versions_count() {
    let server = Server::start();
    server.set_unversioned();
    server.put("k", &[], pattern(200_000));
    let first = server.time();
    server.set_versioning(Kept::Everything);
    server.put("k", &[], "second");
    let second = server.time();
    let n = AtomicUsize::new(0);
    server.set_hook(move |seen| (seen.is_get() && n.fetch_add(1, SeqCst) == 0).then_some(Reply::Cut(100_000)));
    let read = async |time: &str| at(&server, "", time).await.get(&get("k", ByteRange::Suffix(200_000))).await;
    assert!(read(&first).await.unwrap().bytes == pattern(200_000), "also where its body breaks off");
    let gets = server.requests().into_iter().filter(|seen| seen.is_get());
    assert!(gets.inspect(|seen| assert!(seen.query.contains("versionId=null"), "{seen:?}")).count() == 2);
    assert_eq!(read(&second).await.unwrap().bytes, "second");
    // While versioning is suspended there is one null version, and the one before is gone.
    server.set_versioning(Kept::Older);
    server.put("k", &[], "third");
    assert_eq!(read(&server.time()).await.unwrap().bytes, "third");
    assert_eq!(read(&second).await.unwrap().bytes, "second");
    assert_eq!(read(&first).await.unwrap_err().kind(), Kind::NotFound);
    server.delete("k");
    assert_eq!(read(&server.time()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(read(&second).await.unwrap().bytes, "second");
}

#[tokio::test]
async fn a_version_that_has_gone_is_an_object_that_has_gone() {
    let server = Server::start();
    let (_, old) = server.put("k", &[], "old");
    let (etag, new) = server.put("k", &[], "new");
    let store = at(&server, "", &server.time()).await;
    let listed = GetRequest { pin: Pin::ETag(etag.clone()), ..get("k", ByteRange::Whole) };
    let open = GetRequest { pin: Pin::Version { id: new.clone(), etag }, ..listed.clone() };
    assert_eq!(store.get(&listed).await.unwrap().bytes, "new");
    server.delete_version("k", &new);
    for request in [&listed, &open] {
        assert_eq!(store.get(request).await.unwrap_err().kind(), Kind::Stale);
    }
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap().bytes, "old");
    server.delete_version("k", &old);
    assert_eq!(store.get(&listed).await.unwrap_err().kind(), Kind::NotFound);
    // Between the look-up and the request.
    server.put("k", &[], "last");
    let store = at(&server, "", &server.time()).await;
    server.set_hook(|seen| seen.is_get().then(|| Reply::error(404, "NoSuchVersion")));
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap_err().kind(), Kind::Stale);
    server.set_hook(|seen| seen.is_get().then(|| Reply::error(403, "AccessDenied")));
    let e = store.get(&get("k", ByteRange::Whole)).await.unwrap_err();
    assert!(e.kind() == Kind::AccessDenied && e.to_string().contains("s3:GetObjectVersion"), "{e}");
}

/// A listing of versions as S3 itself writes it: both kinds in the order of their uploads.
fn canned(entries: &str) -> String {
    format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{entries}</ListVersionsResult>")
}

fn listed(kind: &str, key: &str, n: u32, secs: u32) -> String {
    let (latest, more) = (n == 9, if kind == "Version" { "<Size>1</Size><ETag>&quot;e&quot;</ETag>" } else { "" });
    format!(
        "<{kind}><Key>{key}</Key><VersionId>v{n}</VersionId><IsLatest>{latest}</IsLatest>\
         <LastModified>2022-09-01T00:00:{secs:02}.000Z</LastModified>{more}</{kind}>"
    )
}

#[tokio::test]
async fn what_came_in_one_second_is_in_the_order_of_the_listing() {
    let server = Server::start();
    let entries = [
        // Put, deleted and put again within a second, and then deleted.
        listed("DeleteMarker", "a", 9, 5),
        listed("Version", "a", 3, 3),
        listed("DeleteMarker", "a", 2, 3),
        listed("Version", "a", 1, 3),
        // Put and deleted within a second, and then put.
        listed("Version", "b", 9, 5),
        listed("DeleteMarker", "b", 2, 3),
        listed("Version", "b", 1, 3),
    ];
    let body = canned(&entries.concat());
    server.set_hook(move |_| Some(Reply::Canned { status: 200, headers: vec![], body: body.clone().into() }));
    let keys = async |time: &str| {
        let listing = list_all(&at(&server, "", time).await, &ListRequest::default()).await.unwrap();
        listing.objects.into_iter().map(|e| String::from_utf8(e.key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys("2022-09-01T00:00:02.9Z").await, [""; 0]);
    assert_eq!(keys("2022-09-01T00:00:03Z").await, ["a"]);
    assert_eq!(keys("2022-09-01T00:00:05Z").await, ["b"]);
    let store = below(&server, "").await;
    let mut pages = VersionPages::new(&store, VersionsRequest::default());
    let ids: Vec<String> =
        pages.next().await.unwrap().unwrap().versions.into_iter().flat_map(|v| v.version_id).collect();
    assert_eq!(ids, ["v9", "v3", "v2", "v1", "v9", "v2", "v1"]);
}

#[tokio::test]
async fn a_listing_that_does_not_tell_enough_is_an_error() {
    let server = Server::start();
    let good = listed("Version", "k", 9, 3);
    for (what, gone) in [
        ("without a time", "<LastModified>2022-09-01T00:00:03.000Z</LastModified>"),
        ("without size", "<Size>1</Size>"),
    ] {
        let body = canned(&good.replace(gone, ""));
        server.set_hook(move |_| Some(Reply::Canned { status: 200, headers: vec![], body: body.clone().into() }));
        let store = At::new(below(&server, "").await, (i64::MAX, 0), String::new());
        let e = store.list(&ListRequest::default()).await.unwrap_err();
        assert!(e.kind() == Kind::Storage && e.to_string().contains(what), "{e}");
    }
    let store = At::new(below(&server, "").await, (i64::MAX, 0), String::new());
    let foreign = ListRequest { token: Some("x".into()), ..ListRequest::default() };
    assert_eq!(store.list(&foreign).await.unwrap_err().kind(), Kind::Invalid);
}
