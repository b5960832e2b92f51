//! `verify`: the real program on a demo archive, on the vectors, on a bucket with damage; manifests and what has changed
//! since.

#[path = "common/mod.rs"]
mod common;

#[path = "verify/against.rs"]
mod against;
#[path = "verify/at.rs"]
mod at;
#[path = "verify/audit.rs"]
mod audit;
#[path = "verify/findings.rs"]
mod findings;
#[path = "verify/manifest.rs"]
mod manifest;
#[path = "verify/memory.rs"]
mod memory;
#[path = "verify/run.rs"]
mod run;
#[path = "verify/versions.rs"]
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::mounted::Setup;
use run::Bucket;
use serde_json::Value;

/// Half of the demo archive's stacks is whole; the other has one of everything that can be wrong.
#[test]
fn the_demo_archive() {
    let dir = tempfile::tempdir().unwrap();
    let demo = logarchivefs::demo::write(dir.path(), 7).unwrap();
    let bucket = Bucket::copy(dir.path(), &demo.keys);
    let all = bucket.verify(["--format", "json"]);
    assert_eq!((all.code, all.reports().len()), (5, demo.objects));
    let failed: BTreeMap<String, String> = all
        .reports()
        .iter()
        .filter(|r| r["verdict"] != "ok")
        .map(|r| (run::text(r, "key"), run::text(r, "verdict")))
        .collect();
    let expected: BTreeMap<String, String> =
        demo.unreadable.iter().map(|(key, why)| (key.clone(), verdict(why).into())).collect();
    assert_eq!(failed, expected);
    let summary = all.summary();
    assert_eq!(summary["objects"], demo.objects);
    assert_eq!(summary["text_bytes"], demo.text_bytes);
    assert!(all.reports().iter().all(|r| r["sha256_text"].is_null()), "nothing is hashed that nobody asked for");

    let text = bucket.verify(["--stack", "acme-staging"]);
    assert_eq!(text.code, 5);
    let lines: Vec<&str> = text.stdout.lines().take_while(|line| !line.starts_with("objects")).collect();
    assert_eq!(lines.len(), demo.unreadable.len(), "{}", text.stdout);
    assert!(text.stdout.contains("\nno-key              1\n"), "{}", text.stdout);
    let dated = bucket.verify(["--format", "json", "--stack", "acme-prod", "--end-date", "2022-08-23"]);
    let by_upload = dated.reports().iter().filter(|r| r["notes"][0] == "selected-by-upload").count();
    assert_eq!((dated.code, by_upload), (0, 2));
    let paths = bucket.verify(["--format", "paths"]);
    assert_eq!((paths.code, paths.stdout.lines().count()), (5, demo.unreadable.len()));

    // Several paths to one log are one log.
    let twice = bucket.verify(["--format", "json", "acme-prod/apps-322", "acme-prod/apps-322", "acme-prod/apps-322/"]);
    let once = bucket.verify(["--format", "json", "acme-prod/apps-322"]);
    assert!(once.reports().len() > 1 && once.reports() == twice.reports());

    let prod = bucket.verify(["--stack", "acme-prod"]);
    assert_eq!((prod.code, prod.stderr.as_str()), (0, ""));
    assert!(prod.stdout.starts_with("objects "), "nothing wrong is named: {}", prod.stdout);
    let cbc = bucket.verify(["--format", "json", "--stack", "acme-staging", "--allow-unauthenticated"]);
    assert_eq!(cbc.code, 5, "what nothing authenticates is never ok");
    let relic = cbc.reports().into_iter().find(|r| r["envelope"] == "v1").unwrap();
    assert_eq!(relic["verdict"], "unauthenticated");
    assert!(relic["lines"].as_u64().unwrap() > 100);
}

fn verdict(why: &str) -> &'static str {
    match why {
        "one bit was flipped" | "the second half is missing" => "tag-mismatch",
        "its key is not among those given" => "no-key",
        "its metadata were lost in a copy" => "no-envelope",
        "AES-CBC: needs --allow-unauthenticated" => "unauthenticated",
        other => panic!("{other}"),
    }
}

#[test]
fn every_vector_gets_its_verdict_and_its_sums() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
    let supplied = index["keys"].as_object().unwrap().values().filter(|k| k["supplied"] == true);
    let keys: String = supplied.map(|k| format!("{}\n", k["b64"].as_str().unwrap())).collect();
    let bucket = Bucket::s3().keys(&keys);
    let mut metas = BTreeMap::new();
    for vector in index["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let meta: Value = serde_json::from_slice(&fs::read(root.join(name).join("meta.json")).unwrap()).unwrap();
        let pairs: Vec<(&str, &str)> =
            meta["metadata"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let key = run::text(&meta, "key");
        bucket.server().put(&key, &pairs, fs::read(root.join(name).join("object")).unwrap());
        if let Ok(instruction) = fs::read(root.join(name).join("instruction")) {
            bucket.server().put(&format!("{key}.instruction"), &[], instruction);
        }
        metas.insert(run::text(&meta, "key"), meta);
    }
    assert!(metas.len() > 60);
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    let done = bucket.verify([
        "--allow-unauthenticated",
        "--allow-instruction-files",
        "--manifest",
        manifest.to_str().unwrap(),
    ]);
    assert_eq!(done.code, 5);
    let reports = run::manifest(&manifest);
    assert_eq!(reports.len(), metas.len());
    let mut suspect = BTreeMap::new();
    for report in reports {
        let meta = &metas[&run::text(&report, "key")];
        let (name, verdict) = (run::text(meta, "name"), run::text(&report, "verdict"));
        let expect = match meta["expect"].as_str().unwrap() {
            "ok" if name.starts_with("v1") => "unauthenticated",
            // One and the same for all damage, as nothing authenticates it.
            _ if name.starts_with("v1") => "bad-padding",
            other => other,
        };
        if verdict == "suspect" {
            assert_eq!(expect, "ok", "{name}");
            suspect.insert(name.clone(), report["findings"].to_string());
        } else {
            assert_eq!(verdict, expect, "{name}: {report}");
        }
        if matches!(verdict.as_str(), "ok" | "suspect" | "unauthenticated") {
            assert_eq!(report["sha256_text"], meta["plaintext_sha256"], "{name}");
            assert_eq!(report["sha256_gzip"], meta["gzip_sha256"], "{name}");
            assert_eq!(report["text_size"], meta["plaintext_len"], "{name}");
            assert_eq!(report["lines"], meta["plaintext_newlines"], "{name}");
        } else {
            assert!(report["sha256_text"].is_null() && report["text_size"].is_null(), "{name}: nobody's word");
        }
        if !report["sha256_ciphertext"].is_null() {
            assert_eq!(report["sha256_ciphertext"], meta["object_sha256"], "{name}");
        }
    }
    // Two share their data key, as one was made from the other; three have more text than their names allow for.
    let made_so = [
        ("envelope-missing-matdesc", "[\"duplicate-data-key\"]"),
        ("v2gcm-v3db-rotated-1", "[\"time-outside-name\"]"),
        ("v3commit-instruction-file", "[\"time-outside-name\"]"),
        ("v3commit-metadata", "[\"time-outside-name\"]"),
    ];
    assert_eq!(suspect, made_so.map(|(name, finding)| (name.to_owned(), finding.to_owned())).into());
}

#[test]
fn a_manifest_is_the_same_each_time_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let demo = logarchivefs::demo::write(&dir.path().join("copy"), 8).unwrap();
    let bucket = Bucket::copy(&dir.path().join("copy"), &demo.keys);
    let make = |name: &str| {
        let path = dir.path().join(name);
        assert_eq!(bucket.verify(["--manifest", path.to_str().unwrap()]).code, 5);
        fs::read_to_string(path).unwrap()
    };
    let (one, two) = (make("one"), make("two"));
    let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(body(&one), body(&two));
    let reports = run::manifest(&dir.path().join("one"));
    let paths: Vec<Vec<String>> =
        reports.iter().map(|r| run::text(r, "path").split('/').map(str::to_owned).collect()).collect();
    assert!(paths.is_sorted() && paths.len() == demo.objects);
    let head: Value = serde_json::from_str(one.lines().next().unwrap()).unwrap();
    assert_eq!(head["manifest"], 1);
    assert!(head["bucket"].as_str().unwrap().starts_with("file://"));
}

#[test]
fn sums_hold_inside_a_mount() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let demo = logarchivefs::demo::write(&copy, 9).unwrap();
    let sums = dir.path().join("sums");
    let done = Bucket::copy(&copy, &demo.keys).verify(["--sha256sums", sums.to_str().unwrap()]);
    assert_eq!(done.code, 5);
    let lines = fs::read_to_string(&sums).unwrap().lines().count();
    assert_eq!(lines, demo.objects - demo.unreadable.len());
    let mount = Setup::copy(&copy).keys(&demo.keys).mount();
    let told = mount.out(&format!("sha256sum --strict -c {}", sums.display()));
    assert_eq!(told.lines().filter(|line| line.ends_with(": OK")).count(), lines);
}

#[test]
fn files_are_never_replaced_unasked_nor_left_half() {
    let bucket = Bucket::s3();
    bucket.put(0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest");
    let args = ["--manifest", path.to_str().unwrap()];
    fs::write(&path, "mine").unwrap();
    let refused = bucket.verify(args);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--force") && fs::read_to_string(&path).unwrap() == "mine");
    assert_eq!(bucket.verify([args[0], args[1], "--force"]).code, 0);
    assert_eq!(run::manifest(&path).len(), 1);
    fs::remove_file(&path).unwrap();
    let nothing = bucket.verify([args[0], args[1], "--stack", "none"]);
    assert_eq!((nothing.code, fs::read_dir(&dir).unwrap().count()), (4, 0));
    // A listing that fails is no shorter listing.
    bucket.server().set_hook(|seen| {
        (seen.is_list() && seen.query.contains("v3")).then(|| common::s3::Reply::error(403, "AccessDenied"))
    });
    let failed = bucket.verify(args);
    assert_eq!((failed.code, fs::read_dir(&dir).unwrap().count()), (6, 0), "{}", failed.stderr);
    bucket.server().clear_hook();
    // Ctrl-C while a body is awaited.
    bucket.server().forget();
    bucket.server().set_hook(|seen| seen.is_get().then_some(common::s3::Reply::Hang));
    let child = bucket.command(args).spawn().unwrap();
    common::watch::eventually("the object is asked for", || {
        bucket.server().requests().iter().any(|r| r.is_get()).then_some(())
    });
    common::watch::kill(child.id(), libc::SIGINT);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), fs::read_dir(&dir).unwrap().count()), (Some(130), 0));
}
