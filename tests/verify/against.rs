//! `--against`: what is missing, changed or new since a manifest; and manifests that are not to be trusted.

use std::fs;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;
use logarchivefs::store::{NewObject, write_object};

use crate::common::archive;
use crate::run::{Bucket, Done, log, text_of};

/// A bucket of eight logs and its manifest.
fn eight() -> (Bucket, tempfile::TempDir, String) {
    let bucket = Bucket::s3();
    for n in 0..8 {
        bucket.put(n);
    }
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest").to_str().unwrap().to_owned();
    assert_eq!(bucket.verify(["--manifest", &manifest]).code, 0);
    (bucket, dir, manifest)
}

fn counts(done: &Done) -> [u64; 4] {
    let against = &done.summary()["against"];
    ["missing", "changed", "other_version", "new"].map(|name| against[name].as_u64().unwrap())
}

#[test]
fn what_has_happened_since() {
    let (bucket, _dir, manifest) = eight();
    let compare = |more: &[&str]| bucket.verify(["--format", "json", "--against", &manifest].iter().chain(more));
    let same = compare(&[]);
    assert_eq!((same.code, counts(&same)), (0, [0; 4]));

    bucket.put(8);
    let new = compare(&[]);
    assert_eq!((new.code, counts(&new), &new.report(&log(8).key())["change"]), (0, [0, 0, 0, 1], &"new".into()));

    // The same bytes once more: another version.
    bucket.put(1);
    let again = compare(&[]);
    assert_eq!((again.code, counts(&again)), (0, [0, 0, 1, 1]));
    assert_eq!(again.report(&log(1).key())["changed"].to_string(), "[\"version_id\"]");

    bucket.put_text(&log(2), &text_of(2)[..1000]);
    let replaced = compare(&[]);
    assert_eq!((replaced.code, counts(&replaced)), (5, [0, 1, 1, 1]));
    let report = replaced.report(&log(2).key());
    assert_eq!((&report["verdict"], &report["change"]), (&"ok".into(), &"changed".into()));
    let fields = report["changed"].to_string();
    assert!(
        ["size", "etag", "version_id", "sha256_ciphertext", "sha256_text"].iter().all(|f| fields.contains(f)),
        "{fields}"
    );

    let gzip = archive::gzip(&text_of(3));
    archive::put_changed(bucket.server(), &log(3), SealAs::V2, &gzip, |body| *body.last_mut().unwrap() ^= 1);
    let damaged = compare(&[]);
    assert_eq!((damaged.code, counts(&damaged)), (5, [0, 2, 1, 1]));
    let report = damaged.report(&log(3).key());
    assert_eq!((&report["verdict"], &report["change"]), (&"tag-mismatch".into(), &"changed".into()));

    bucket.server().delete(&log(4).key());
    let deleted = compare(&[]);
    assert_eq!((deleted.code, counts(&deleted)), (5, [1, 2, 1, 1]));
    let line = deleted.stdout.lines().find(|line| line.contains("\"missing\"") && line.contains(&log(4).key()));
    assert!(line.is_some(), "{}", deleted.stdout);

    // Only what is selected can be missing.
    let other = compare(&["--stack", "other"]);
    assert_eq!((other.code, counts(&other)), (4, [0; 4]));
    assert_eq!(compare(&[&log(5).path()]).code, 0);
    let gone = compare(&[&log(4).path()]);
    assert_eq!((gone.code, counts(&gone)), (5, [1, 0, 0, 0]), "{}", gone.stderr);
    let text = bucket.verify(["--against", &manifest]).stdout;
    for label in ["changed", "other-version", "new", "missing"] {
        assert!(text.lines().any(|line| line.starts_with(label) && line.contains(".json")), "{label}: {text}");
    }
}

#[test]
fn a_sealed_copy_is_held_to_the_buckets_manifest() {
    let bucket = Bucket::s3();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    for n in 0..3 {
        let (metadata, mut body) =
            archive::sealed(SealAs::V2, 0, &archive::gzip(&text_of(n)), &mut Random::new(n as u64));
        let pairs: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (etag, version) = bucket.server().put(&log(n).key(), &pairs, body.clone());
        if n == 2 {
            // Damaged on the way, and nothing else tells.
            body[50] ^= 1;
        }
        let key = log(n).key();
        let (etag, version_id) = (Some(etag.as_str()), Some(version.as_str()));
        let object = NewObject { key: &key, metadata: &metadata, etag, version_id, last_modified: (0, 0) };
        write_object(&copy, &object, &mut body.as_slice()).unwrap();
    }
    let manifest = dir.path().join("manifest").to_str().unwrap().to_owned();
    assert_eq!(bucket.verify(["--manifest", &manifest]).code, 0);
    let copy = Bucket::copy(&copy, &archive::key_text());
    let done = copy.verify(["--format", "json", "--against", &manifest]);
    assert_eq!((done.code, counts(&done)), (5, [0, 1, 0, 0]), "{}", done.stdout);
    assert_eq!(done.report(&log(2).key())["changed"].to_string(), "[\"sha256_ciphertext\"]");
}

#[test]
fn a_manifest_is_whole_or_refused() {
    let (bucket, dir, manifest) = eight();
    let text = fs::read_to_string(&manifest).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |place: usize, line: &str| {
        let mut lines = lines.clone();
        lines[place] = line;
        lines.join("\n") + "\n"
    };
    let cases = [
        ("empty", String::new(), "has no end"),
        ("cut between lines", lines[..5].join("\n") + "\n", "has no end"),
        ("cut in a line", text[..text.len() - 5].to_owned(), "line 10: cut off"),
        ("a line lost", [&lines[..3], &lines[4..]].concat().join("\n") + "\n", "line 9: the manifest is of 8 objects"),
        ("a line twice", with(3, lines[4]), "two lines for one key"),
        ("no head", lines[1..].join("\n") + "\n", "line 1: not the head"),
        ("a newer format", with(0, &lines[0].replace("\"manifest\":1", "\"manifest\":2")), "line 1: version 2"),
        ("not JSON", with(4, "\x1b[31mred"), "line 5: no line of a manifest"),
        ("no key", with(4, "{\"verdict\":\"ok\"}"), "line 5: no line of a manifest"),
        ("another type", with(4, &lines[4].replace("\"size\":", "\"size\":\"\\u001b\",\"x\":")), "line 5: no line"),
        ("something behind", format!("{text}{}\n", lines[2]), "line 11: something follows"),
        ("a line without end", format!("{}\n{}", lines[0], "x".repeat(1 << 20)), "line 2: too long"),
    ];
    for (name, text, says) in cases {
        let path = dir.path().join("damaged");
        fs::write(&path, text).unwrap();
        let done = bucket.verify(["--against", path.to_str().unwrap()]);
        assert_eq!((done.code, done.stdout.as_str()), (3, ""), "{name}: {}", done.stderr);
        assert!(done.stderr.contains(says) && !done.stderr.contains('\x1b'), "{name}: {}", done.stderr);
    }
    assert_eq!(bucket.verify(["--against", dir.path().to_str().unwrap()]).code, 3);
    assert_eq!(bucket.verify(["--against", "/nowhere"]).code, 3);
}
