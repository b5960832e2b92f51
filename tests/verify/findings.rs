//! What is wrong with objects whose tag holds, and what is not; failures of the store.

use std::sync::Arc;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::s3::Reply;
use crate::run::{Bucket, log, record, text_of};

#[test]
fn content_that_no_docker_wrote_or_not_then() {
    let bucket = Bucket::s3();
    let good = bucket.put(0);
    let mut text = text_of(1);
    text.extend_from_slice(b"not a record\n");
    text.extend_from_slice(record(119).as_bytes());
    let invalid = bucket.put_text(&log(1), &text);
    // Another log's text under this name.
    let moved = bucket.put_text(&log(2), &text_of(7));
    let mut cut = text_of(3);
    cut.truncate(cut.len() - 20);
    let unfinished = bucket.put_text(&log(3), &cut);
    let mut gzip = archive::gzip(&text_of(4));
    gzip.extend_from_slice(b"something else");
    archive::put(bucket.server(), &log(4), SealAs::V3, &gzip);
    let empty = bucket.put_text(&log(5), b"");
    let done = bucket.verify(["--format", "json"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let found = |key: &str| {
        let report = done.report(key);
        (report["verdict"].as_str().unwrap().to_owned(), report["findings"].to_string(), report["notes"].to_string())
    };
    let is = |verdict: &str, findings: &str, notes: &str| (verdict.to_owned(), findings.to_owned(), notes.to_owned());
    assert_eq!(found(&good), is("ok", "[]", "[]"));
    assert_eq!(found(&invalid), is("suspect", "[\"invalid-records\"]", "[]"));
    let reason = done.report(&invalid)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("1 line is no Docker record") && reason.contains("line 201"), "{reason}");
    assert_eq!(found(&moved), is("suspect", "[\"time-outside-name\"]", "[]"));
    assert_eq!(found(&unfinished), is("ok", "[]", "[\"unfinished-line\"]"));
    assert_eq!(found(&log(4).key()), is("suspect", "[\"garbage-behind-gzip\"]", "[]"));
    assert_eq!(found(&empty), is("ok", "[]", "[]"));
    let summary = done.summary();
    assert_eq!(
        (&summary["ok"], &summary["failed"]["suspect"], &summary["unfinished"]),
        (&3.into(), &3.into(), &1.into())
    );
    assert_eq!(summary["lines"], 200 * 4 + 199 + 2);
}

/// Aptible delivers by replication, which nobody else can feign by a PutObject.
#[test]
fn an_object_that_came_another_way_is_noted() {
    let bucket = Bucket::s3();
    let [planted, delivered] = [0, 1].map(|n| bucket.put(n));
    bucket.server().set_hook({
        let planted = planted.clone();
        move |seen| {
            (seen.key == planted)
                .then(|| Reply::Edit(Arc::new(|parts, _| drop(parts.headers.remove("x-amz-replication-status")))))
        }
    });
    let done = bucket.verify(["--format", "json"]);
    assert_eq!((done.code, &done.summary()["not_replicas"]), (0, &1.into()));
    assert_eq!(done.report(&planted)["notes"].to_string(), "[\"not-a-replica\"]");
    assert_eq!(done.report(&delivered)["notes"].to_string(), "[]");
    assert!(
        bucket.verify(["--stack", "prod"]).stdout.contains("no replica          1 (Aptible delivers by replication)")
    );
}

#[test]
fn one_object_under_two_names() {
    let bucket = Bucket::s3();
    let undated = |n: u8| Log { when: archive::When::Span(None, None), container: format!("{n:064x}"), ..log(0) };
    let gzip = archive::gzip(&text_of(0));
    // The envelope comes from the text: the same for both.
    for n in [1, 2] {
        archive::put(bucket.server(), &undated(n), SealAs::V2, &gzip);
    }
    bucket.put(3);
    let done = bucket.verify(["--format", "json"]);
    assert_eq!(done.code, 5);
    let (first, second) = (done.report(&undated(1).key()), done.report(&undated(2).key()));
    assert_eq!(first["data_key"], second["data_key"]);
    assert_eq!((&first["verdict"], second["findings"].to_string()), (&"ok".into(), "[\"duplicate-data-key\"]".into()));
    // Named twice is not two names.
    let folder = log(3).folder();
    assert_eq!(bucket.verify([&folder, &folder]).code, 0);
}

#[test]
fn a_store_that_fails_is_no_verdict_on_the_object() {
    let bucket = Bucket::s3();
    let keys = [bucket.put(0), bucket.put(1)];
    let refused = keys[1].clone();
    bucket
        .server()
        .set_hook(move |seen| (seen.is_get() && seen.key == refused).then(|| Reply::error(403, "AccessDenied")));
    let done = bucket.verify(["--format", "json"]);
    assert_eq!(done.code, 6, "{}", done.stdout);
    assert_eq!(done.report(&keys[0])["verdict"], "ok");
    assert_eq!(done.report(&keys[1])["verdict"], "access-denied");
    archive::put_changed(bucket.server(), &log(2), SealAs::V2, &archive::gzip(&text_of(2)), |body| body[100] ^= 1);
    let done = bucket.verify(["--format", "json"]);
    assert_eq!((done.code, &done.report(&log(2).key())["verdict"]), (5, &"tag-mismatch".into()));
}

#[test]
fn large_and_small_objects_are_reported_in_order() {
    let bucket = Bucket::s3();
    for n in 0..40 {
        if n % 10 == 0 {
            // Two runs and a bit.
            let log = log(n);
            archive::put(
                bucket.server(),
                &log,
                SealAs::V2,
                &archive::gzip_level(&archive::noise(n as u64, 6_000_000), 1),
            );
        } else {
            bucket.put(n);
        }
    }
    let done = bucket.verify(["--format", "json"]);
    let paths: Vec<String> = done.reports().iter().map(|r| r["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths.is_sorted() && paths.len() == 40, "{}", done.stderr);
    // Noise has no times, and its end is cut.
    assert_eq!((&done.summary()["ok"], &done.summary()["findings"]["invalid-records"]), (&36.into(), &4.into()));
}
