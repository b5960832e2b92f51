//! S3 alone: versions, errors and what they say, configuration, credentials.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use logarchivefs::error::{Error, Kind};
use logarchivefs::store::{
    ByteRange, Count, GetRequest, ListRequest, Pin, Retry, S3Options, S3Store, StaticCredentials, Store,
};

use super::common::s3::{ACCESS_KEY, BUCKET, REGION, Reply, SECRET_KEY, Server};
use super::{get, open, options, pattern};

#[tokio::test]
async fn a_version_stays_readable_after_it_was_replaced_or_deleted() {
    let server = Server::start();
    let store = open(&server).await;
    let (etag, id) = server.put("k", &[], "one");
    let first = store.get(&get("k", ByteRange::Suffix(64))).await.unwrap();
    assert_eq!(first.pin(), Pin::Version { id: id.clone(), etag: etag.clone() });
    server.put("k", &[], "another");
    let pinned = GetRequest { pin: first.pin(), ..get("k", ByteRange::Span(0..2)) };
    assert_eq!(store.get(&pinned).await.unwrap().bytes, "on");
    server.delete("k");
    assert_eq!(store.get(&pinned).await.unwrap().bytes, "on");
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap_err().kind(), Kind::NotFound);

    let seen = server.requests();
    let last = &seen[2];
    assert!(last.query.contains(&format!("versionId={id}")), "{last:?}");
    assert_eq!(last.if_match, Some(format!("\"{etag}\"")));
    assert_eq!(last.range.as_deref(), Some("bytes=0-1"));
    assert_eq!(seen[0].range.as_deref(), Some("bytes=-64"));

    let wrong = |id: &str, etag: &str| GetRequest {
        pin: Pin::Version { id: id.into(), etag: etag.into() },
        ..get("k", ByteRange::Whole)
    };
    for (id, etag) in [("nope", etag.as_str()), (id.as_str(), "nope"), ("d000002", etag.as_str())] {
        assert_eq!(store.get(&wrong(id, etag)).await.unwrap_err().kind(), Kind::Stale, "{id} {etag}");
    }
    assert_eq!(Pin::new(Some("null"), "e"), Pin::ETag("e".into()));
    assert_eq!(Pin::new(None, ""), Pin::None);
}

#[tokio::test]
async fn errors_say_what_s3_said_and_what_to_do() {
    let server = Server::start();
    server.put("k", &[], "body");
    server.put_class("cold", &[], "body", "DEEP_ARCHIVE");
    let store = open(&server).await;
    for (status, code, kind, word) in [
        (403, "AccessDenied", Kind::AccessDenied, "s3:GetObject"),
        (400, "ExpiredToken", Kind::AccessDenied, "aws sso login"),
        (403, "RequestTimeTooSkewed", Kind::AccessDenied, "clock"),
        (503, "SlowDown", Kind::Storage, "HTTP 503"),
        (500, "InternalError", Kind::Storage, "InternalError"),
        (429, "Weird\u{1b}[0m", Kind::Storage, "Weird\\x1b[0m"),
        (301, "PermanentRedirect", Kind::Config, "region"),
        (404, "NoSuchBucket", Kind::Config, "no bucket archive"),
        (412, "PreconditionFailed", Kind::Stale, "replaced"),
        (400, "InvalidArgument", Kind::Config, "InvalidArgument"),
    ] {
        server.set_hook(move |_| Some(Reply::error(status, &code.replace('\u{1b}', "&#x1b;"))));
        let e = store.get(&get("k", ByteRange::Suffix(64))).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(word), "{e}");
        assert!(e.to_string().starts_with("k: "), "{e}");
    }
    let denied = |hooked: u16| {
        server.set_hook(move |_| {
            let header = ("x-amz-request-id", "REQUEST1".to_owned());
            Some(Reply::Canned { status: hooked, headers: vec![header], body: b"<html>no</html>".into() })
        })
    };
    denied(403);
    let e = store.list(&ListRequest::below("x\n")).await.unwrap_err();
    assert_eq!(e.kind(), Kind::AccessDenied);
    for word in ["s3://archive/x\\x0a", "s3:ListBucket", "REQUEST1", "HTTP 403"] {
        assert!(e.to_string().contains(word), "{e}");
    }
    denied(502);
    assert_eq!(store.check().await.unwrap_err().kind(), Kind::Storage);
    server.clear_hook();
    let e = store.get(&get("cold", ByteRange::Suffix(64))).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Archived);
    assert!(e.to_string().contains("restore"), "{e}");
}

#[tokio::test]
async fn an_error_costs_one_request_and_a_wrong_clock_or_an_old_token_two() {
    let server = Server::start();
    server.put("k", &[], "body");
    let store = open(&server).await;
    for (code, once, want, ok) in [
        ("AccessDenied", true, 1, false),
        ("RequestTimeTooSkewed", true, 2, true),
        ("RequestTimeTooSkewed", false, 2, false),
        ("ExpiredToken", true, 2, true),
        // The credentials were read anew just now: not again.
        ("ExpiredToken", true, 1, false),
    ] {
        server.forget();
        let n = AtomicUsize::new(0);
        server.set_hook(move |_| (n.fetch_add(1, SeqCst) == 0 || !once).then(|| Reply::error(403, code)));
        assert_eq!(store.get(&get("k", ByteRange::Whole)).await.is_ok(), ok, "{code}");
        assert_eq!(server.requests().len(), want, "{code}");
    }
}

/// Neither the SDK nor its HTTP client tries anything again, also not on a connection that has served before: whoever
/// calls does, and they would multiply.
#[tokio::test]
async fn a_failing_service_costs_one_request() {
    let server = Server::start();
    server.put("k", &[], "body");
    let store = open(&server).await;
    let faults: [fn() -> Reply; 4] =
        [|| Reply::error(500, "InternalError"), || Reply::error(503, "SlowDown"), || Reply::Reset, || Reply::Cut(2)];
    for (n, fault) in faults.into_iter().enumerate() {
        server.clear_hook();
        store.check().await.unwrap();
        server.set_hook(move |_| Some(fault()));
        server.forget();
        assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap_err().kind(), Kind::Storage, "fault {n}");
        assert_eq!(server.requests().len(), 1, "fault {n}");
        server.clear_hook();
        store.check().await.unwrap();
        server.set_hook(move |_| Some(fault()));
        server.forget();
        assert_eq!(store.check().await.unwrap_err().kind(), Kind::Storage, "fault {n}");
        assert_eq!(server.requests().len(), 1, "fault {n}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected() {
    let server = Server::start();
    let store = open(&server).await;
    // Not even the year is right.
    server.set_hook(move |seen| {
        let headers = vec![("date", "Sat, 01 Jan 2000 12:00:00 GMT".to_owned())];
        let code = if seen.signed.as_ref().is_some_and(|s| s.starts_with("20000101T12")) {
            "AccessDenied"
        } else {
            "RequestTimeTooSkewed"
        };
        Some(Reply::Canned { status: 403, headers, body: format!("<Error><Code>{code}</Code></Error>").into() })
    });
    let e = store.check().await.unwrap_err();
    assert!(e.to_string().contains("S3 AccessDenied"), "{e}");
    assert_eq!(server.requests().len(), 2);
    // What was learnt stays.
    store.check().await.unwrap_err();
    assert_eq!(server.requests().len(), 3);
}

/// The server also takes what other clients send.
#[tokio::test]
async fn the_test_server_takes_uploads() {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_s3::primitives::ByteStream;
    let server = Server::start();
    let config = aws_sdk_s3::Config::builder().behavior_version(BehaviorVersion::latest()).force_path_style(true);
    let config = config.region(Region::new(REGION)).endpoint_url(server.endpoint());
    let keys = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let client = aws_sdk_s3::Client::from_conf(config.credentials_provider(keys).build());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pattern(200_000)).unwrap();
    for body in [ByteStream::from(pattern(10)), ByteStream::from_path(file.path()).await.unwrap()] {
        let put = client.put_object().bucket(BUCKET).key("a:b/c d").metadata("x-amz-key-v2", "AA==");
        put.body(body).send().await.unwrap();
    }
    let object = open(&server).await.get(&get("a:b/c d", ByteRange::Whole)).await.unwrap();
    assert!(object.bytes == pattern(200_000));
    assert_eq!(object.metadata["x-amz-key-v2"], "AA==");
    let versions = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    assert_eq!(versions.versions().len(), 2);
    let head = client.head_object().bucket(BUCKET).key("a:b/c d").send().await.unwrap();
    assert_eq!(head.metadata().unwrap()["x-amz-key-v2"], "AA==");
    client.head_bucket().bucket(BUCKET).send().await.unwrap();
    let place = client.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(place.location_constraint().unwrap().as_str(), REGION);
    client.delete_object().bucket(BUCKET).key("a:b/c d").send().await.unwrap();
    assert_eq!(client.list_object_versions().bucket(BUCKET).send().await.unwrap().delete_markers().len(), 1);
}

async fn check(options: S3Options) -> Error {
    S3Store::open(options).await.unwrap().check().await.unwrap_err()
}

#[tokio::test]
async fn wrong_credentials_bucket_or_region() {
    let server = Server::start();
    let key =
        |id: &str, secret: &str| Some(StaticCredentials { access_key_id: id.into(), secret_access_key: secret.into() });
    let e = check(S3Options { credentials: key("AKIAUNKNOWN", SECRET_KEY), ..options(&server) }).await;
    assert_eq!(e.kind(), Kind::AccessDenied);
    assert!(e.to_string().contains("InvalidAccessKeyId"), "{e}");
    let e = check(S3Options { credentials: key(ACCESS_KEY, "wrong-secret"), ..options(&server) }).await;
    assert_eq!(e.kind(), Kind::AccessDenied);
    assert!(e.to_string().contains("SignatureDoesNotMatch"), "{e}");
    assert!(!format!("{e} {e:?}").contains("wrong-secret"));
    assert!(!format!("{:?}", options(&server)).contains(SECRET_KEY));
    let e = check(S3Options { bucket: "no-such-bucket".into(), ..options(&server) }).await;
    assert_eq!(e.kind(), Kind::Config);
    assert!(e.to_string().contains("no-such-bucket"), "{e}");
    let e = check(S3Options { region: Some("us-west-2".into()), ..options(&server) }).await;
    assert_eq!(e.kind(), Kind::Config);
    assert!(e.to_string().contains(&format!("--region {REGION}")), "{e}");
    server.set_hook(|_| {
        let headers = vec![("x-amz-bucket-region", "ap-south-1".to_owned())];
        Some(Reply::Canned { status: 301, headers, body: vec![] })
    });
    let e = check(options(&server)).await;
    assert!(e.kind() == Kind::Config && e.to_string().contains("--region ap-south-1"), "{e}");
}

#[tokio::test]
async fn wrong_options() {
    let server = Server::start();
    for bad in [
        S3Options { bucket: "".into(), ..options(&server) },
        S3Options { bucket: "a b".into(), ..options(&server) },
        S3Options { endpoint_url: Some("s3.example.com".into()), ..options(&server) },
        S3Options { endpoint_url: Some("https://".into()), ..options(&server) },
    ] {
        assert_eq!(S3Store::open(bad).await.err().unwrap().kind(), Kind::Config);
    }
    // The request is stopped before a name is looked up.
    let e = check(S3Options { endpoint_url: Some("http://s3.invalid:9".into()), ..options(&server) }).await;
    assert!(e.kind() == Kind::Config && e.to_string().contains("plain http"), "{e}");
}

#[tokio::test]
async fn a_dead_endpoint_is_a_storage_error_within_the_deadline() {
    let server = Server::start();
    let unused = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let dead = S3Options { endpoint_url: Some(format!("http://{unused}")), ..options(&server) };
    let store = Retry::new(Count::new(S3Store::open(dead).await.unwrap()), Duration::from_secs(1));
    let start = Instant::now();
    let e = store.check().await.unwrap_err();
    assert!(matches!(e.kind(), Kind::Storage | Kind::Timeout), "{e}");
    assert!(e.to_string().contains("efused"), "{e}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let counts = store.counts();
    assert!((2..=10).contains(&counts.checks) && counts.failed >= counts.checks - 1, "{counts:?}");
}

#[tokio::test]
async fn requests_are_counted_and_may_be_slow() {
    let server = Server::start();
    server.put("k", &[], pattern(1000));
    server.set_latency(Duration::from_millis(20));
    let store = Arc::new(Count::new(open(&server).await));
    store.list(&ListRequest::default()).await.unwrap();
    store.get(&get("k", ByteRange::Suffix(64))).await.unwrap();
    store.get(&get("absent", ByteRange::Suffix(64))).await.unwrap_err();
    let counts = store.counts();
    assert_eq!((counts.lists, counts.heads, counts.gets, counts.failed, counts.bytes), (1, 2, 0, 1, 64));
    // One that is given up has failed.
    assert!(futures::FutureExt::now_or_never(store.get(&get("k", ByteRange::Span(0..10)))).is_none());
    let counts = store.counts();
    assert_eq!((counts.heads, counts.gets, counts.failed, counts.bytes), (2, 1, 2, 64));
    let seen = server.requests();
    assert_eq!((seen.iter().filter(|s| s.is_list()).count(), seen.iter().filter(|s| s.is_get()).count()), (1, 2));
}

/// Runs one of the ignored tests below in a process with no more environment than is given.
fn child(test: &str, home: &std::path::Path, env: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env_clear();
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true").envs(env.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

#[test]
fn credentials_and_region_come_from_where_the_cli_has_them() {
    let home = tempfile::tempdir().unwrap();
    child("s3::child_without_configuration", home.path(), &[]);

    let server = Server::start();
    let aws = home.path().join(".aws");
    std::fs::create_dir(&aws).unwrap();
    let json = format!(r#"{{\"Version\":1,\"AccessKeyId\":\"{ACCESS_KEY}\",\"SecretAccessKey\":\"{SECRET_KEY}\"}}"#);
    let process = format!("[profile tool]\nregion = {REGION}\ncredential_process = /bin/echo \"{json}\"\n");
    std::fs::write(aws.join("config"), process).unwrap();
    let endpoint = server.endpoint();
    child("s3::child_with_profile", home.path(), &[("AWS_ENDPOINT_URL_S3", &endpoint), ("PROFILE", "tool")]);

    let keys = format!("[plain]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(aws.join("credentials"), keys).unwrap();
    let env = [("AWS_ENDPOINT_URL_S3", endpoint.as_str()), ("PROFILE", "plain"), ("AWS_REGION", REGION)];
    child("s3::child_with_profile", home.path(), &env);
}

#[tokio::test]
#[ignore = "run by another test, in an environment of its own"]
async fn child_without_configuration() {
    let e = S3Store::open(S3Options::new(BUCKET)).await.err().unwrap();
    assert!(e.kind() == Kind::Config && e.to_string().contains("AWS_REGION"), "{e}");
    let e = check(S3Options { endpoint_url: Some("http://127.0.0.1:9".into()), ..S3Options::new(BUCKET) }).await;
    assert!(e.kind() == Kind::Config && e.to_string().contains("aws sso login"), "{e}");
    assert!(e.to_string().contains("no AWS credentials"), "{e}");
    let e = check(S3Options { region: Some(REGION.into()), profile: Some("absent".into()), ..S3Options::new(BUCKET) })
        .await;
    assert!(e.kind() == Kind::Config && e.to_string().contains("credentials"), "{e}");
}

#[tokio::test]
#[ignore = "run by another test, in an environment of its own"]
async fn child_with_profile() {
    let profile = std::env::var("PROFILE").unwrap();
    let store = S3Store::open(S3Options { profile: Some(profile), ..S3Options::new(BUCKET) }).await.unwrap();
    store.check().await.unwrap();
}
