//! What is wrong with objects whose tag holds, and what is not; failures of the store.

use std::sync::Arc;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::s3::{Reply, UPLOADS};
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

#[test]
fn a_record_later_than_its_upload_is_found() {
    // The server's first upload is of 2022-09-01, in the night.
    let after = (i64::try_from(UPLOADS).unwrap() - archive::WEDNESDAY) / 60;
    let bucket = Bucket::s3();
    let [in_time, late] = [14, 16].map(|minutes| bucket.put(after + minutes));
    // Of a v2 log, the name tells the upload too.
    let named = |n: i64| Log { when: archive::When::Uploaded(Some(archive::WEDNESDAY + 60 * n)), ..log(n) };
    let [good, bad] = [(5, 5), (30, 50)].map(|(named_of, n)| bucket.put_text(&named(named_of), &text_of(n)));
    let done = bucket.verify(["--format", "json"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let found = |key: &str| done.report(key)["findings"].to_string();
    assert_eq!([found(&in_time), found(&good)], ["[]", "[]"]);
    assert_eq!([found(&late), found(&bad)], ["[\"time-after-upload\"]", "[\"time-after-upload\"]"]);
    let reason = |key: &str| done.report(key)["reason"].as_str().unwrap().to_owned();
    assert!(reason(&late).contains("more than 15 min after Last-Modified, 2022-09-01T00:00:0"), "{}", reason(&late));
    assert!(reason(&bad).contains("the upload in its name, 2022-08-24T00:30:00Z"), "{}", reason(&bad));
    assert_eq!(done.summary()["findings"]["time-after-upload"], 2);
}

/// The request was pinned to what was listed: then the store contradicts itself, and the object is not to blame.
#[test]
fn a_listing_with_another_size_is_the_stores_failure() {
    let bucket = Bucket::s3();
    let keys = [bucket.put(0), bucket.put(1)];
    let lied = keys[1].clone();
    bucket.server().set_hook(move |seen| {
        let lied = format!("<Key>{lied}</Key>").replace(':', "%3A");
        let lie = move |xml: &mut Vec<u8>| {
            let text = String::from_utf8_lossy(xml).into_owned();
            let Some(at) = text.find(&lied) else { return };
            let end = at + text[at..].find("</Contents>").unwrap();
            let start = text[..at].rfind("<Contents>").unwrap();
            let entry = text[start..end].replace("<Size>", "<Size>1");
            *xml = format!("{}{entry}{}", &text[..start], &text[end..]).into();
        };
        let edit = move |head: &mut hyper::http::response::Parts, xml: &mut Vec<u8>| {
            lie(xml);
            head.headers.insert("content-length", xml.len().into());
        };
        seen.is_list().then(|| Reply::Edit(Arc::new(edit)))
    });
    let done = bucket.verify(["--format", "json"]);
    assert_eq!(done.code, 6, "{}", done.stdout);
    assert_eq!(done.report(&keys[0])["verdict"], "ok");
    let report = done.report(&keys[1]);
    assert_eq!((&report["verdict"], report["findings"].to_string()), (&"storage".into(), "[]".into()));
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("the store says that it has ") && reason.contains(" and listed it with 1"), "{reason}");
}

/// Nobody reads on: what it ends with is what it had found.
#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let bucket = Bucket::s3();
    bucket.put(0);
    let ended = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bucket.command(args);
        let child = command.stdout(writer).spawn().unwrap();
        // Its copy of the writing end.
        drop(command);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(ended(&[]), (Some(0), String::new()));
    assert_eq!(ended(&["--format", "json"]), (Some(0), String::new()));
    archive::put_changed(bucket.server(), &log(1), SealAs::V2, &archive::gzip(&text_of(1)), |body| body[100] ^= 1);
    for args in [&[][..], &["--format", "json"], &["--format", "paths"]] {
        assert_eq!(ended(args), (Some(5), String::new()), "{args:?}");
    }
    // Files are written to their end for somebody else.
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    assert_eq!(ended(&["--manifest", manifest.to_str().unwrap()]).0, Some(5));
    assert_eq!(crate::run::manifest(&manifest).len(), 2);
}
