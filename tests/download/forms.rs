//! What is downloaded is what it should be: as text, gzipped, as a sealed copy.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use logarchivefs::demo;
use logarchivefs::envelope::SealAs;
use serde_json::Value;

use super::run::{JOURNAL, Place};
use crate::common::archive::{self, Log, sha256};
use crate::common::mounted::Setup;
use crate::common::s3::Server;

/// Every vector with what is known of it, as the server has it: name, meta.json, ETag, version.
pub fn load(server: &Server) -> Vec<(String, Value, String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let names = index["vectors"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned());
    let load = |name: String| {
        let read = |file: &str| fs::read(dir.join(&name).join(file)).unwrap();
        let meta: Value = serde_json::from_slice(&read("meta.json")).unwrap();
        let metadata: Vec<(&str, &str)> =
            meta["metadata"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let (etag, version) = server.put(meta["key"].as_str().unwrap(), &metadata, read("object"));
        if let Some(key) = meta["instruction"]["key"].as_str() {
            server.put(key, &[], read("instruction"));
        }
        (name, meta, etag, version)
    };
    let vectors: Vec<_> = names.map(load).collect();
    assert!(vectors.len() >= 65);
    vectors
}

pub fn keys(meta: &Value) -> String {
    let keys: Vec<&str> = meta["keys_b64"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
    keys.join("\n")
}

const LENIENT: [&str; 2] = ["--allow-unauthenticated", "--allow-instruction-files"];

/// By key, what the journal says is on the disk.
fn written(place: &Place) -> BTreeMap<String, Value> {
    place.journal().into_iter().map(|line| (line["key"].as_str().unwrap().to_owned(), line)).collect()
}

fn vectors(args: &[&str], suffix: &str, sum: &str) {
    let server = Server::start();
    let vectors = load(&server);
    for lenient in [false, true] {
        let place = Place::s3(&server).keys(&keys(&vectors[0].1));
        let args: Vec<&str> = args.iter().copied().chain(LENIENT.into_iter().filter(|_| lenient)).collect();
        server.forget();
        let ended = place.run(&args);
        assert_eq!(ended.code, Some(5), "{}", ended.stderr);
        let (written, files) = (written(&place), place.files());
        let mut good = 0;
        for (name, meta, etag, version) in &vectors {
            let key = meta["key"].as_str().unwrap();
            let relic = name.starts_with("v1cbc") || name.ends_with("instruction-file");
            let expected = meta["expect"] == "ok" && (lenient || !relic);
            let Some(line) = written.get(key) else {
                assert!(!expected, "{name} is missing: {}", ended.stderr);
                assert!(ended.stderr.contains(key), "{name} is not named");
                continue;
            };
            good += 1;
            // A log of no bytes at all may be damage, or an empty log.
            assert!(expected || name == "zero-byte-plaintext", "{name} was written");
            let path = line["path"].as_str().unwrap();
            assert!(path.ends_with(suffix), "{path}");
            let (mtime, is) = &files[path];
            if expected {
                assert_eq!(is, meta[sum].as_str().unwrap(), "{name}");
            }
            let span = |at: &str| meta["parsed"][at].as_str();
            if let Some(last) = span("end").or(span("start")).or(span("uploaded_at")) {
                let want = logarchivefs::key::Time::parse_rfc3339(last).unwrap().unix().0;
                assert_eq!(*mtime, want, "{name}");
            }
            assert_eq!((line["etag"].as_str(), line["version_id"].as_str()), (Some(&**etag), Some(&**version)));
        }
        assert_eq!(files.len(), good, "a file that belongs to no object");
        let asked = server.requests().iter().any(|r| r.key.ends_with(".instruction"));
        assert_eq!(asked, lenient, "instruction files are asked for only if allowed");
    }
}

#[test]
fn every_vector_as_text() {
    vectors(&[], ".json", "plaintext_sha256");
}

/// What the reference client leaves, byte for byte.
#[test]
fn every_vector_gzipped() {
    vectors(&["--gzip"], ".json.gz", "gzip_sha256");
}

#[test]
fn every_vector_sealed() {
    let server = Server::start();
    let vectors = load(&server);
    let keys = keys(&vectors[0].1);
    // Without a key: all of it, as it is.
    let blind = Place::s3(&server).without_keys();
    let said = blind.works(&["--sealed"]);
    assert!(said.contains(&format!("{} copied without looking inside", vectors.len())), "{said}");
    // With keys: the same files, and the damage is named.
    let place = Place::s3(&server).keys(&keys);
    let ended = place.run(&["--sealed"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert_eq!(place.files(), blind.files());
    assert_eq!(place.files().len(), 2 * vectors.len());
    for (name, meta, etag, version) in &vectors {
        let key = meta["key"].as_str().unwrap();
        let line = place.journal().into_iter().rfind(|line| line["key"] == key).unwrap();
        let body = place.path(line["path"].as_str().unwrap());
        assert_eq!(sha256(&fs::read(&body).unwrap()), meta["object_sha256"].as_str().unwrap(), "{name}");
        let described = fs::read(format!("{}.meta.json", body.display())).unwrap();
        let described: Value = serde_json::from_slice(&described).unwrap();
        assert_eq!(described["metadata"], meta["metadata"], "{name}");
        let said = ["key", "etag", "version_id", "sha256"].map(|member| described[member].as_str().unwrap());
        assert_eq!(said, [key, etag, version, meta["object_sha256"].as_str().unwrap()], "{name}");
        assert_eq!(described["size"], meta["object_len"], "{name}");
        let relic = name.starts_with("v1cbc") || name.ends_with("instruction-file");
        let sound = meta["expect"] == "ok" && !relic;
        if name != "zero-byte-plaintext" {
            assert_eq!(line["proven"], sound, "{name}");
        }
        let bad = ["no-key", "unsupported-wrap", "unsupported-cek", "ok"].iter().all(|kind| meta["expect"] != *kind);
        assert!(!bad || relic || ended.stderr.contains(key), "{name} is not named");
    }
    // The copy reads as the bucket does, by both commands.
    let args = [&LENIENT[..], &["--sealed"]].concat();
    let whole = Place::s3(&server).keys(&keys);
    whole.run(&args);
    let from = |place: Place| {
        let ended = place.keys(&keys);
        assert_eq!(ended.run(&LENIENT).code, Some(5));
        ended.files()
    };
    let (online, offline) = (from(Place::s3(&server)), from(Place::copy(&whole.to())));
    assert!(online.len() >= 40);
    assert_eq!(online, offline);
    let mount = Setup::copy(&whole.to()).keys(&keys).args(LENIENT).mount();
    for (path, (_, sum)) in &offline {
        assert_eq!(&sha256(&fs::read(mount.path(path)).unwrap()), sum, "{path}");
    }
}

/// The same files, names, times and bytes as in the mount.
#[test]
fn the_demo_archive_as_in_its_mount() {
    let dir = tempfile::tempdir().unwrap();
    let made = demo::write(dir.path(), 2022).unwrap();
    let place = Place::copy(dir.path()).keys(&made.keys);
    let ended = place.run(&[]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    for (key, _) in &made.unreadable {
        assert!(ended.stderr.contains(key), "{key} is not named");
    }
    let mount = Setup::copy(dir.path()).keys(&made.keys).mount();
    let list =
        "find . -type f -size +0 -printf '%P %T@\\n' | sort; find . -type f -size +0 -exec sha256sum {} + | sort";
    let here = std::process::Command::new("bash").args(["-c", list]).current_dir(place.to()).output().unwrap();
    let mine: Vec<String> = String::from_utf8(here.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.contains(JOURNAL))
        .map(str::to_owned)
        .collect();
    assert_eq!(mine.len(), 2 * (made.objects - made.unreadable.len()));
    assert_eq!(mine, mount.out(list).lines().collect::<Vec<_>>());
    // Only the owner can read any of it.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for name in place.files().keys() {
        let path = place.path(name);
        assert_eq!(mode(&path), 0o600, "{name}");
        path.ancestors().skip(1).take_while(|p| p.starts_with(place.to())).for_each(|p| assert_eq!(mode(p), 0o700));
    }
    assert_eq!(mode(&place.path(JOURNAL)), 0o600);
}

/// Paths and filters; a file that two paths lead to is downloaded once.
#[test]
fn what_is_selected() {
    let server = Server::start();
    let logs = [Log::at(0), Log::at(100), Log { resource: "databases-7".into(), ..Log::at(0) }];
    for (n, log) in logs.iter().enumerate() {
        archive::put(&server, log, SealAs::V2, &archive::gzip(&archive::text(n as u64, 50)));
    }
    let names = |place: &Place| place.files().into_keys().collect::<Vec<_>>();
    let one = Place::s3(&server);
    one.works(&["--database-id", "7"]);
    assert_eq!(names(&one), [logs[2].path()]);
    let two = Place::s3(&server);
    let (file, folder) = (logs[0].path(), logs[0].folder());
    let said = two.works(&[&file, &folder, &format!("/{folder}/"), "prod/apps-321"]);
    assert_eq!(names(&two), [logs[0].path(), logs[1].path()]);
    assert!(said.starts_with("2 downloaded to "), "{said}");
    let none = Place::s3(&server);
    let ended = none.run(&["--app-id", "9"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let ended = none.run(&["prod/apps-9", &file]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("prod/apps-9: no such file"), "{}", ended.stderr);
    assert_eq!(names(&none), [file]);
}

/// Two logs that want one name get two, as in the mount.
#[test]
fn names_never_collide() {
    let server = Server::start();
    let logs = [Log::at(0), Log { service: 13, ..Log::at(0) }, Log { master: 1, ..Log::at(0) }];
    let texts: Vec<Vec<u8>> = (0..3).map(|n| archive::text(n, 20)).collect();
    for (log, text) in logs.iter().zip(&texts) {
        archive::put(&server, log, SealAs::V2, &archive::gzip(text));
    }
    let place = Place::s3(&server);
    place.works(&[]);
    for (log, text) in logs.iter().zip(&texts) {
        let path = format!("{}/{}/{}~{}.json", log.folder(), log.day(), log.stem(), &sha256(log.key().as_bytes())[..8]);
        assert_eq!(&fs::read(place.path(path)).unwrap(), text);
    }
}

/// A large object in ranges, all of one version, in all forms; and one far larger than the budget's parts.
#[test]
fn large_objects_in_pinned_ranges() {
    let server = Server::start();
    let log = Log::at(0);
    let text = archive::noise(5, 9_000_000);
    let gzip = archive::gzip_level(&text, 1);
    let (etag, version) = archive::put(&server, &log, SealAs::V3, &gzip);
    for (args, suffix, want) in [(&[][..], "", &text), (&["--gzip"], ".gz", &gzip)] {
        let place = Place::s3(&server);
        place.works(&[args, &["--memory", "32MiB"]].concat());
        assert!(fs::read(place.path(log.path() + suffix)).unwrap() == *want);
    }
    server.forget();
    let place = Place::s3(&server);
    place.works(&["--sealed"]);
    let gets: Vec<_> = server.requests().into_iter().filter(|r| r.is_get()).collect();
    assert!(gets.len() > 2, "{gets:?}");
    assert!(gets.iter().all(|r| r.if_match.as_deref() == Some(&format!("\"{etag}\""))), "{gets:?}");
    assert!(gets[1..].iter().all(|r| r.query.contains(&version)), "{gets:?}");
    let line = place.journal().pop().unwrap();
    assert_eq!((line["proven"].as_bool(), line["version_id"].as_str()), (Some(true), Some(&*version)));
}
