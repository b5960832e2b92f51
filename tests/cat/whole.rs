//! Without flags: bytes, the order of files, what paths name.

use crate::common::archive::{DAY, Log, WEDNESDAY, When};
use crate::setup::Archive;

fn container(log: Log, id: &str) -> Log {
    Log { container: id.repeat(64 / id.len()), ..log }
}

#[test]
fn files_come_container_by_container_in_order_of_their_start() {
    let mut archive = Archive::copy();
    let a = |start| container(Log::at(start), "aa");
    let b = |start| container(Log::at(start), "bb");
    // By name the fraction would come first; by time it does not.
    let mut early = a(100);
    early.when = When::Span(Some(WEDNESDAY + 100), Some(WEDNESDAY + 130));
    let undated = Log { when: When::Span(None, Some(WEDNESDAY + 150)), ..a(0) };
    let uploaded = Log { when: When::Uploaded(Some(WEDNESDAY + 170)), ..a(0) };
    for (log, text) in [
        (&b(50), "b1\n"),
        (&early, "a1\n"),
        (&undated, "a2\n"),
        (&a(160), "a3\n"),
        (&uploaded, "a4\n"),
        (&a(10_000), "a5\n"),
    ] {
        archive.add(log, text);
    }
    assert_eq!(archive.cat([""; 0]).quiet(), "a1\na2\na3\na4\na5\nb1\n");
    assert_eq!(archive.cat(["--container-id", &"b".repeat(12)]).quiet(), "b1\n");
}

#[test]
fn one_file_is_printed_byte_for_byte() {
    let mut archive = Archive::copy();
    for (n, text) in [&b"no line feed"[..], b"", b"\0\xff\xfe\r\n\n", b"\n"].iter().enumerate() {
        let log = Log::at(n as i64 * 100);
        // An empty text is a gzip stream too.
        archive.add(&log, text);
        let done = archive.cat([log.path()]);
        assert_eq!((done.code, &done.out[..], &done.err[..]), (0, *text, ""));
    }
    // Only lines that would become one get a line feed.
    assert_eq!(archive.cat([""; 0]).out, b"no line feed\n\0\xff\xfe\r\n\n\n");
}

#[test]
fn a_large_file_is_whole() {
    let mut archive = Archive::copy();
    let text = crate::common::archive::noise(1, 30_000_000);
    archive.add(&Log::at(0), &text);
    for args in [&["--memory", "32MiB"][..], &["--verify", "stream"]] {
        let done = archive.cat(args);
        assert!(done.code == 0 && done.out == text && done.err.is_empty(), "{args:?}: {}", done.err);
    }
}

#[test]
fn paths_are_those_of_the_mount() {
    let mut archive = Archive::copy();
    let mut over_midnight = Log::at(DAY - 30);
    over_midnight.when = When::Span(Some(WEDNESDAY + DAY - 30), Some(WEDNESDAY + DAY + 30));
    archive.add(&Log::at(0), "one\n");
    archive.add(&over_midnight, "two\n");
    archive.add(&Log::at(DAY + 500), "three\n");
    let folder = Log::at(0).folder();
    let prefix = folder.replace(&"38d59273".repeat(8), "38d59273"[..].repeat(2).as_str());
    let day = |folder: &str, day: &str| format!("{folder}/{day}");
    assert_eq!(archive.cat([day(&folder, "2022-08-25")]).quiet(), "two\nthree\n", "the link of the later day");
    assert_eq!(archive.cat([day(&prefix, "2022-08-24")]).quiet(), "one\ntwo\n");
    let both = [day(&folder, "2022-08-25"), day(&folder, "2022-08-24"), Log::at(0).path()];
    assert_eq!(archive.cat(both).quiet(), "two\nthree\none\n", "as given, and each log once");
    assert_eq!(archive.cat(["/prod/./apps-321/"]).quiet(), "one\ntwo\nthree\n");
    let done = archive.cat(["prod/apps-9", &Log::at(0).path()]);
    assert_eq!((done.code, &done.out[..]), (1, &b"one\n"[..]));
    assert!(done.err.contains("prod/apps-9: no such file or folder"), "{}", done.err);
    assert_eq!(archive.cat(["prod/apps-9"]).code, 4);
    let done = archive.cat(["--stack", "other"]);
    assert_eq!((done.code, done.out.len()), (4, 0));
}

#[test]
fn wrong_flags_are_usage_errors() {
    let archive = Archive::copy();
    for args in [["--since", "yesterday"], ["--until", "2022-02-31"], ["--stream", "stdin"]] {
        assert_eq!(archive.cat(args).code, 2, "{args:?}");
    }
    let done = archive.cat(["--since", "2022-08-25", "--until", "2022-08-24"]);
    assert_eq!((done.code, done.out.len()), (2, 0));
}

#[test]
fn the_demo_archive_is_readable_but_for_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let demo = logarchivefs::demo::write(&dir.path().join("copy"), 2022).unwrap();
    let archive = Archive::copy_of(dir, &demo.keys);
    let done = archive.cat([""; 0]);
    assert_eq!(done.code, 5);
    assert_eq!(done.out.len() as u64, demo.text_bytes);
    assert_eq!(
        done.err.lines().filter(|l| l.starts_with("logarchivefs: ")).count(),
        demo.unreadable.len(),
        "{}",
        done.err
    );
    // Every record is one, so text and JSON tell the same story.
    let text = archive.cat(["acme-prod", "--text"]).quiet();
    let json = archive.cat(["acme-prod"]).quiet();
    let logs = json.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    assert_eq!(text.len(), logs.map(|l| l["log"].as_str().unwrap().len()).sum::<usize>());
}
