//! A lying, stalling or broken service: never a wrong byte, never a short listing, never a call without end.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use logarchivefs::error::Kind;
use logarchivefs::store::{
    ByteRange, Count, GetRequest, ListRequest, Part, Pin, Retry, S3Options, S3Store, Store, list_all,
};

use super::common::s3::{Reply, Server};
use super::{get, open, options, pattern};

fn canned(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Reply {
    let headers = headers.iter().map(|(k, v)| (*k, v.to_string())).collect();
    Reply::Canned { status, headers, body: body.to_vec() }
}

/// A listing of `keys` with the given elements before them.
fn listing(elements: &str, keys: &[&str]) -> String {
    let mut xml = format!("<?xml version=\"1.0\"?><ListBucketResult>{elements}");
    for key in keys {
        let e_tag = "&quot;e&quot;";
        xml += &format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>{e_tag}</ETag></Contents>");
    }
    xml + "</ListBucketResult>"
}

#[tokio::test]
async fn a_damaged_listing_is_an_error() {
    let server = Server::start();
    let store = S3Store::open(S3Options { prefix: "p/".into(), ..options(&server) }).await.unwrap();
    let url = "<EncodingType>url</EncodingType>";
    let end = "<IsTruncated>false</IsTruncated>";
    let good = listing(&format!("{url}{end}<KeyCount>2</KeyCount>"), &["p/a%0A+b%2B", "p/c"]);
    let cut = |n: usize| good[..n].to_owned();
    for (body, word) in [
        (cut(good.len() - 1), "cut short"),
        (cut(good.find("<Contents>").unwrap()), "cut short"),
        (cut(good.rfind("<Contents>").unwrap()), "cut short"),
        (listing(&format!("{end}<KeyCount>2</KeyCount>"), &["p/a"]), "KeyCount is 2"),
        (listing("<KeyCount>1</KeyCount>", &["p/a"]), "IsTruncated"),
        (listing("<IsTruncated>true</IsTruncated>", &["p/a"]), "token"),
        (listing(end, &["q/a"]), "elsewhere"),
        (listing(end, &["p/a"]).replace("<Size>1</Size>", "<Size>-1</Size>"), "size"),
        (listing(end, &["p/a"]).replace("<Key>p/a</Key>", ""), "without a name"),
        ("<!DOCTYPE html><html><body>Please sign in</body></html>".into(), "sign-in page"),
        ("<Error><Code>InternalError</Code></Error>".into(), "Not S3"),
        (String::new(), "Not S3"),
        ("\u{0}\u{1}\u{2}garbage".into(), "Not S3"),
    ] {
        server.set_hook(move |_| Some(canned(200, &[], body.as_bytes())));
        let e = store.list(&ListRequest::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Storage, "{e}");
        assert!(e.to_string().contains(word), "{word}: {e}");
    }
    server.set_hook(move |_| Some(canned(200, &[], good.as_bytes())));
    let keys: Vec<_> = store.list(&ListRequest::default()).await.unwrap().objects.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, [b"a\n b+".to_vec(), b"c".to_vec()]);
    // Not encoded, if the server does not say so.
    server.set_hook(move |_| Some(canned(200, &[], listing(end, &["p/a%41+"]).as_bytes())));
    assert_eq!(store.list(&ListRequest::default()).await.unwrap().objects[0].key, b"a%41+");
}

#[tokio::test]
async fn a_listing_without_end_is_an_error() {
    let server = Server::start();
    let store = open(&server).await;
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>";
    for (same_token, word) in [(true, "token twice"), (false, "advance")] {
        let n = AtomicUsize::new(0);
        server.set_hook(move |_| {
            let n = n.fetch_add(1, SeqCst);
            let (token, key) = if same_token { (0, n) } else { (n, 0) };
            let xml = listing(&format!("{more}t{token}</NextContinuationToken>"), &[&format!("k{key}")]);
            Some(canned(200, &[], xml.as_bytes()))
        });
        let e = list_all(&store, &ListRequest::default()).await.unwrap_err();
        assert!(e.kind() == Kind::Storage && e.to_string().contains(word), "{e}");
    }
}

#[tokio::test]
async fn a_wrong_answer_to_a_get_is_never_served() {
    let server = Server::start();
    let store = open(&server).await;
    let e_tag = ("etag", "\"e\"");
    let pinned = |etag: &str, range| GetRequest { pin: Pin::ETag(etag.into()), ..get("k", range) };
    let span = || pinned("e", ByteRange::Span(2..6));
    for (status, headers, body, req, kind) in [
        (200, vec![e_tag], &b"0123456789"[..], span(), Kind::Storage),
        (200, vec![e_tag], b"2345", span(), Kind::Storage),
        (206, vec![e_tag, ("content-range", "bytes 3-6/10")], b"3456", span(), Kind::Storage),
        (206, vec![e_tag, ("content-range", "bytes 2-4/10")], b"234", span(), Kind::Storage),
        (206, vec![e_tag, ("content-range", "bytes 2-5/10")], b"234", span(), Kind::Storage),
        (206, vec![e_tag, ("content-range", "bytes 2-5/10")], b"23456", span(), Kind::Storage),
        (206, vec![e_tag, ("content-range", "nonsense")], b"2345", span(), Kind::Storage),
        (206, vec![e_tag], b"2345", span(), Kind::Storage),
        (206, vec![("content-range", "bytes 2-5/10")], b"2345", span(), Kind::Storage),
        (206, vec![("etag", "\"f\""), ("content-range", "bytes 2-5/10")], b"2345", span(), Kind::Stale),
        (200, vec![], b"<html>sign in</html>", get("k", ByteRange::Whole), Kind::Storage),
        (416, vec![], b"", get("k", ByteRange::Suffix(4)), Kind::Storage),
    ] {
        server.set_hook(move |_| Some(canned(status, &headers, body)));
        let e = store.get(&req).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
    }
    server.set_hook(move |_| Some(canned(206, &[e_tag, ("content-range", "bytes 2-5/10")], b"2345")));
    assert_eq!(store.get(&span()).await.unwrap().bytes, "2345");
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_where_it_stopped() {
    let server = Server::start();
    let body = pattern(300_000);
    let (etag, id) = server.put("k", &[("x-amz-iv", "AA==")], body.clone());
    let store = Retry::new(Count::new(open(&server).await), Duration::from_secs(20));
    let n = AtomicUsize::new(0);
    server.set_hook(move |_| (n.fetch_add(1, SeqCst) < 2).then_some(Reply::Cut(70_000)));
    let object = store.get(&get("k", ByteRange::Span(1000..290_000))).await.unwrap();
    assert!(object.bytes == body[1000..290_000]);
    assert_eq!((object.start, object.total, object.etag.as_str()), (1000, 300_000, etag.as_str()));
    assert_eq!(object.metadata["x-amz-iv"], "AA==");

    let seen = server.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!((&seen[0].range, &seen[0].if_match), (&Some("bytes=1000-289999".into()), &None));
    let mut place = 1000;
    for later in &seen[1..] {
        let range = later.range.as_deref().unwrap();
        let start: usize = range["bytes=".len()..].split('-').next().unwrap().parse().unwrap();
        assert!(start > place && range.ends_with("-289999"), "{range}");
        assert_eq!(later.if_match, Some(format!("\"{etag}\"")));
        assert!(later.query.contains(&format!("versionId={id}")));
        place = start;
    }
    // Nothing was fetched twice.
    let counts = store.counts();
    assert_eq!((counts.bytes, counts.gets, counts.failed, counts.retries), (289_000, 3, 2, 2));
}

#[tokio::test]
async fn what_came_before_a_deadline_is_counted() {
    let server = Server::start();
    server.put("k", &[], pattern(300_000));
    server.set_hook(|_| Some(Reply::Stall(70_000)));
    let store = Count::new(open(&server).await);
    let (request, mut part) = (get("k", ByteRange::Span(0..300_000)), Part::new());
    tokio::time::timeout(Duration::from_secs(4), store.fetch(&request, &mut part)).await.unwrap_err();
    let counts = store.counts();
    assert!(part.have() > 0 && counts.bytes == part.have() as u64 && counts.failed == 1, "{counts:?}");
}

#[tokio::test]
async fn the_rest_of_a_body_is_of_the_same_version() {
    let server = Server::start();
    server.set_unversioned();
    server.put("k", &[], pattern(100_000));
    let store = open(&server).await;
    let req = get("k", ByteRange::Suffix(90_000));
    let mut part = Part::new();
    server.set_hook(|_| Some(Reply::Cut(50_000)));
    assert_eq!(store.fetch(&req, &mut part).await.unwrap_err().kind(), Kind::Storage);
    assert!(part.have() > 0 && !part.is_complete());
    server.clear_hook();
    server.put("k", &[], vec![0; 100_000]);
    assert_eq!(store.fetch(&req, &mut part).await.unwrap_err().kind(), Kind::Stale);
    let e = part.finish().unwrap_err();
    assert!(e.kind() == Kind::Storage && e.to_string().contains("of 90000 bytes"), "{e}");
}

#[tokio::test]
async fn a_service_that_hangs_costs_the_deadline_and_no_more() {
    let server = Server::start();
    server.put("k", &[], pattern(100_000));
    let most = Duration::from_secs(1);
    let store = S3Store::open(S3Options { request_deadline: most, ..options(&server) }).await.unwrap();
    for reply in [|| Reply::Hang, || Reply::Stall(0), || Reply::Stall(60_000)] {
        server.set_hook(move |_| Some(reply()));
        let start = Instant::now();
        let e = store.get(&get("k", ByteRange::Whole)).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Timeout, "{e}");
        assert!((most..most * 10).contains(&start.elapsed()));
    }
    assert_eq!(store.check().await.unwrap_err().kind(), Kind::Timeout);
    // What had come is not lost, and others are not disturbed.
    server.set_hook(|seen| (seen.key == "k").then_some(Reply::Stall(60_000)));
    server.put("other", &[], "fine");
    let mut part = Part::new();
    let req = get("k", ByteRange::Whole);
    let (stalled, other) = tokio::join!(store.fetch(&req, &mut part), async {
        let start = Instant::now();
        store.get(&get("other", ByteRange::Whole)).await.unwrap();
        start.elapsed()
    });
    assert_eq!(stalled.unwrap_err().kind(), Kind::Timeout);
    assert!(other < most);
    assert_eq!(part.have(), 60_000);
    server.clear_hook();
    store.fetch(&req, &mut part).await.unwrap();
    assert!(part.finish().unwrap().bytes == pattern(100_000));
}

#[tokio::test]
async fn what_is_no_http_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let answer = [&b"SSH-2.0-OpenSSH_9.9\r\n"[..], b""][counter.fetch_add(1, SeqCst) % 2];
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    let server = Server::start();
    let store = S3Store::open(S3Options { endpoint_url: Some(endpoint), ..options(&server) }).await.unwrap();
    for _ in 0..4 {
        let e = store.check().await.unwrap_err();
        assert_eq!(e.kind(), Kind::Storage, "{e}");
    }
    assert!(connections.load(SeqCst) >= 4);
}
