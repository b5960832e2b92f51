//! What the bucket keeps beside what is read: objects that were replaced, logs that were deleted, or nothing at all.

use std::fs;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::s3::Reply;
use crate::run::{self, Bucket, log, text_of};

/// Requests for versions.
fn asked(bucket: &Bucket) -> Vec<String> {
    let requests = bucket.server().requests().into_iter();
    requests.map(|seen| seen.query).filter(|q| q.split(['&', '=']).next() == Some("versions")).collect()
}

#[test]
fn what_was_replaced_or_deleted_is_noted() {
    let bucket = Bucket::s3();
    let keys: Vec<String> = (0..4).map(|n| bucket.put(n)).collect();
    bucket.put(1);
    bucket.server().delete(&keys[2]);
    bucket.put(2);
    let (_, hidden) = archive::put(bucket.server(), &log(3), SealAs::V2, &archive::gzip(&text_of(3)));
    bucket.server().delete(&keys[3]);
    // Nothing of this resource is left to be listed.
    let gone = Log { resource: "databases-9".into(), ..log(5) };
    bucket.server().delete(&bucket.put_text(&gone, &text_of(5)));
    // What is no log is nobody's concern.
    for _ in 0..2 {
        bucket.server().put("prod/shareable/v3/foreign", &[], "x");
    }
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    for page in [1, 2, 1000] {
        bucket.server().set_page(page);
        let done = bucket.verify(["--format", "json", "--force", "--manifest", manifest.to_str().unwrap()]);
        assert_eq!((done.code, done.reports().len()), (0, 3), "{}", done.stderr);
        for (n, noted) in [(0, "[]"), (1, "[\"several-versions\"]"), (2, "[\"several-versions\"]")] {
            assert_eq!(done.report(&keys[n])["notes"].to_string(), noted, "log {n}, pages of {page}");
        }
        let summary = done.summary();
        assert_eq!((&summary["several_versions"], &summary["deleted"]), (&2.into(), &2.into()));
        assert_eq!((&summary["versioning"], summary["versions_unseen"].is_null()), (&"enabled".into(), true));
        let deleted = done.deleted();
        let told: Vec<(&str, &str)> =
            deleted.iter().map(|d| (d["deleted"].as_str().unwrap(), d["path"].as_str().unwrap())).collect();
        // In the order of the tree.
        assert_eq!(told, [(&*keys[3], &*log(3).path()), (&*gone.key(), &*gone.path())], "pages of {page}");
        assert_eq!(deleted[0]["version_id"], hidden);
        assert!(run::text(&deleted[0], "deleted_at").starts_with("2022-09-01T00:00:"), "{}", deleted[0]);

        let text = fs::read_to_string(&manifest).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("{\"deleted\":") && lines[2].starts_with("{\"deleted\":"), "{text}");
        let noted = run::manifest(&manifest).iter().filter(|r| r["notes"][0] == "several-versions").count();
        assert_eq!((lines.len(), noted), (2 + 2 + 3, 2));
    }
    let told = bucket.verify(["--stack", "prod"]).stdout;
    let row = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("several versions ").contains(" 2 (replaced, "), "{told}");
    assert!(row("deleted ").contains(" 2 (behind delete markers"), "{told}");
    assert!(row("version").is_empty(), "{told}");

    // A manifest that tells of deletions is one to compare with: what is put back is new.
    let manifest = manifest.to_str().unwrap();
    assert_eq!(bucket.verify(["--against", manifest]).code, 0);
    bucket.put(3);
    let back = bucket.verify(["--format", "json", "--against", manifest]);
    assert_eq!((back.code, &back.summary()["deleted"]), (0, &1.into()));
    assert_eq!((&back.report(&keys[3])["change"], &back.summary()["against"]["missing"]), (&"new".into(), &0.into()));
}

#[test]
fn only_what_is_selected_is_looked_for_and_at_little_cost() {
    let bucket = Bucket::s3();
    let logs = [
        log(0),
        log(1),
        Log { resource: "databases-9".into(), ..log(2) },
        Log { container: "ab".repeat(32), ..log(3) },
        Log { stack: "staging".into(), ..log(4) },
    ];
    for log in &logs {
        bucket.put_text(log, b"");
        if *log.key() != logs[0].key() {
            bucket.server().delete(&log.key());
        }
    }
    let deleted = |args: &[&str]| {
        bucket.server().forget();
        let done = bucket.verify(["--format", "json"].iter().chain(args));
        assert!(matches!(done.code, 0 | 4), "{args:?}: {}", done.stderr);
        let mut numbers = Vec::new();
        for line in done.deleted() {
            numbers.push(logs.iter().position(|log| log.key() == line["deleted"].as_str().unwrap()).unwrap());
        }
        (numbers, asked(&bucket).len())
    };
    // The root; per stack two schemas, and the key sum of one; then one request a resource.
    assert_eq!(deleted(&[]), (vec![1, 3, 2, 4], 1 + 2 * 3 + 3));
    assert_eq!(deleted(&["--stack", "staging"]), (vec![4], 3 + 1));
    assert_eq!(deleted(&["--app-id", "321", "--stack", "prod"]), (vec![1, 3], 3 + 1));
    assert_eq!(deleted(&["--stack", "prod", "--database-id", "9"]), (vec![2], 3 + 1));
    assert_eq!(deleted(&["--stack", "prod", "--end-date", "2022-08-23"]).0, [0; 0]);
    assert_eq!(deleted(&["--string-matches", "ababab"]).0, [3]);
    // Of one container: its prefix, in each service.
    assert_eq!(deleted(&["--stack", "prod", "--app-id", "321", "--container-id", "abababababab"]), (vec![3], 3 + 2));
    assert!(asked(&bucket).last().unwrap().contains("abababababab"));
    // Paths: folders, and the very file.
    assert_eq!(deleted(&["prod"]), (vec![1, 3, 2], 3 + 2));
    assert_eq!(deleted(&["prod/apps-321/38d5927338d5"]), (vec![1], 3 + 2));
    assert_eq!(deleted(&[&log(0).path()]).0, [0; 0]);
    assert_eq!(deleted(&[&logs[0].path(), &log(1).path()]).0, [1]);
}

#[test]
fn what_is_not_to_be_seen_is_a_line_and_no_failure() {
    let bucket = Bucket::s3();
    bucket.put(0);
    bucket.put(0);
    for (status, code, says) in
        [(403, "AccessDenied", "s3:ListBucketVersions is not allowed"), (501, "NotImplemented", "")]
    {
        bucket.server().forget();
        bucket.server().set_hook(move |seen| {
            (seen.key.is_empty() && seen.query.starts_with("version")).then(|| Reply::error(status, code))
        });
        let done = bucket.verify(["--format", "json"]);
        let summary = done.summary();
        assert_eq!((done.code, done.stderr.as_str(), asked(&bucket).len()), (0, "", 1), "{}", done.stdout);
        assert_eq!((&summary["several_versions"], summary["versioning"].is_null()), (&0.into(), true));
        assert!(run::text(&summary, "versions_unseen").contains(says), "{summary}");
        let told = bucket.verify(["--stack", "prod"]).stdout;
        assert!(told.contains("\nversions            not all seen: s3://archive/"), "{told}");
    }
    // Who may not see whether they are kept may see the versions.
    bucket.server().set_hook(|seen| seen.query.starts_with("versioning").then(|| Reply::error(403, "AccessDenied")));
    let summary = bucket.verify(["--format", "json"]).summary();
    assert_eq!((&summary["several_versions"], summary["versioning"].is_null()), (&1.into(), true));
    assert!(summary["versions_unseen"].is_null());
    // What was seen before a failure is told with it.
    bucket.put(1);
    bucket.put(1);
    bucket.server().set_page(2);
    bucket
        .server()
        .set_hook(|seen| seen.query.contains("version-id-marker").then(|| Reply::error(403, "AccessDenied")));
    let summary = bucket.verify(["--format", "json"]).summary();
    assert_eq!((&summary["several_versions"], summary["versions_unseen"].is_string()), (&0.into(), true), "{summary}");
    bucket.server().set_page(3);
    let summary = bucket.verify(["--format", "json"]).summary();
    assert_eq!((&summary["several_versions"], summary["versions_unseen"].is_string()), (&1.into(), true), "{summary}");
}

#[test]
fn a_bucket_that_keeps_nothing_is_noted() {
    let bucket = Bucket::s3();
    bucket.server().set_unversioned();
    bucket.put(0);
    bucket.put(0);
    let done = bucket.verify(["--format", "json"]);
    let summary = done.summary();
    assert_eq!((done.code, &summary["versioning"], &summary["several_versions"]), (0, &"never".into(), &0.into()));
    let told = bucket.verify(["--stack", "prod"]).stdout;
    assert!(told.contains("\nversioning          never: what is replaced or deleted is gone\n"), "{told}");
    // A copy is what it is.
    let dir = tempfile::tempdir().unwrap();
    let mut random = logarchivefs::demo::logs::Random::new(1);
    archive::write(dir.path(), &log(0), SealAs::V2, &archive::gzip(&text_of(0)), 0, &mut random);
    let copy = Bucket::copy(dir.path(), &archive::key_text());
    let done = copy.verify(["--format", "json"]);
    assert_eq!((done.code, done.summary()["versioning"].is_null()), (0, true), "{}", done.stdout);
    assert!(!copy.verify(["--stack", "prod"]).stdout.contains("version"));
}
