//! `find` as a process: what is on which stream and when, how entries end, a reader that goes away, listings that fail.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use logarchivefs::store::{NewObject, write_object};

use crate::common::archive::Log;
use crate::common::client::client;
use crate::common::s3::{Reply, Server};
use crate::common::watch::{eventually, peak_mib, run};

fn copy(dir: &Path, keys: &[String]) -> String {
    for key in keys {
        let metadata = Default::default();
        let object = NewObject { key, metadata: &metadata, etag: None, version_id: None, last_modified: (0, 0) };
        write_object(dir, &object, &mut &b"x"[..]).unwrap();
    }
    format!("file://{}", dir.display())
}

fn keys(n: u32) -> Vec<String> {
    let sum = "ab".repeat(32);
    let key = |n| format!("prod/shareable/v3/{sum}/proxy-{n}/é c-json.log.unknown.unknown.archived.gz");
    (0..n).map(key).collect()
}

fn find(bucket: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logarchivefs"));
    command.args(["find", bucket]).args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

#[test]
fn entries_end_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(3);
    let bucket = copy(folder.path(), &keys);
    for (args, end) in [(&["--format", "keys"][..], '\n'), (&["--format", "keys", "-0"], '\0')] {
        let said = find(&bucket, args).output().unwrap();
        let want: String = keys.iter().map(|key| format!("{key}{end}")).collect();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), want);
        assert!(said.status.success() && said.stderr.is_empty());
    }
}

#[test]
fn warnings_are_not_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(1);
    keys.extend(["prod/\x1b[2J".to_owned(), format!("{}.instruction", keys[0])]);
    let bucket = copy(folder.path(), &keys);
    let said = find(&bucket, &["--format", "json"]).output().unwrap();
    assert!(said.status.success());
    let log: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((log["key"].as_str(), log["size"].as_u64()), (Some(keys[0].as_str()), Some(1)));
    let warning = String::from_utf8(said.stderr).unwrap();
    assert!(warning.contains("prod/\\x1b[2J") && warning.contains("doctor"), "{warning}");
    assert!(!warning.contains('\x1b') && !warning.contains("instruction"), "{warning}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = copy(folder.path(), &keys(2));
    for args in [&[][..], &["--format", "table"], &["--summary"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = find(&bucket, args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{args:?}: {said:?}");
    }
}

/// Two resources, with a log each; listing the second one is answered so.
fn two(reply: fn() -> Reply) -> (Server, [Log; 2]) {
    let server = Server::start();
    let logs = ["apps-1", "apps-2"].map(|resource| Log { resource: resource.into(), ..Log::at(0) });
    logs.iter().for_each(|log| drop(server.put(&log.key(), &[], "x")));
    server.set_hook(move |r| (r.is_list() && r.query.contains("apps-2")).then(reply));
    (server, logs)
}

/// What the first resource has is seen while the second one is still being listed, by whatever path they are asked for.
#[test]
fn what_is_found_is_seen_at_once() {
    let (server, logs) = two(|| Reply::Hang);
    let folder = tempfile::tempdir().unwrap();
    let json = ["--format", "json"];
    for args in [&[][..], &["prod"], &["/"], &["prod/apps-1", "prod/apps-2"], &json, &["--format", "table"]] {
        let path = folder.path().join("out");
        let mut child = client(&server, "find").args(args).stdout(File::create(&path).unwrap()).spawn().unwrap();
        let seen = eventually("the first log is seen", || {
            let text = fs::read_to_string(&path).unwrap();
            text.ends_with('\n').then_some(text)
        });
        assert!(seen.contains(&logs[0].path()) && !seen.contains("apps-2"), "{args:?}: {seen}");
        assert_eq!(child.try_wait().unwrap(), None, "{args:?}: the second one is not there yet");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// It prints as it goes, so the exit code must say that there is more.
#[test]
fn a_listing_that_fails_is_never_a_short_answer() {
    let (server, logs) = two(|| Reply::error(503, "SlowDown"));
    let first = format!("{}\n", logs[0].path());
    for (args, printed) in [
        (&[][..], &first[..]),
        (&["prod"], &first),
        (&["prod/apps-1", "prod/apps-2"], &first),
        (&["prod/apps-2"], ""),
        (&["--summary"], ""),
        (&["--summary", "--format", "json"], ""),
    ] {
        let said = run(client(&server, "find").args(["--request-deadline", "4s"]).args(args));
        let (out, err) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
        assert_eq!((said.status.code(), &out[..]), (Some(6), printed), "{args:?}: {err}");
        assert!(err.contains("SlowDown") && err.lines().count() == 1, "{args:?}: {err}");
    }
}

/// A hundred thousand logs of one resource, which take 72 bytes each as they are listed and 700 as they are printed.
#[test]
fn a_long_listing_takes_little_memory() {
    const LOGS: usize = 100_000;
    const MOST: usize = 64;
    let (server, logs) = two(|| Reply::Hang);
    for n in 1..LOGS as i64 {
        server.put(&Log { resource: "apps-1".into(), ..Log::at(n) }.key(), &[], "x");
    }
    let folder = tempfile::tempdir().unwrap();
    for paths in [&["prod"][..], &["prod/apps-1", "prod/apps-2"]] {
        let path = folder.path().join("out");
        let mut child = client(&server, "find")
            .args(["--request-deadline", "10m"])
            .args(paths)
            .stdout(File::create(&path).unwrap())
            .spawn()
            .unwrap();
        let bytes = LOGS * (logs[0].path().len() + 1);
        eventually("all logs of the first resource", || {
            let len = fs::metadata(&path).unwrap().len() as usize;
            assert!(len <= bytes);
            (len == bytes).then_some(())
        });
        let peak = peak_mib(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("{paths:?}: {peak} MiB");
        assert!(peak <= MOST, "{paths:?}: {peak} MiB");
    }
}
