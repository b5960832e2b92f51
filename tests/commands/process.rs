//! `find` as a process: what is on which stream, how entries end, and a reader that goes away.

use std::path::Path;
use std::process::{Command, Stdio};

use logarchivefs::store::{NewObject, write_object};

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
