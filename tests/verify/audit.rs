//! `verify --audit-log`, on a log that a mount wrote once (`tests/audit/golden.jsonl`), and the checker that docs/AUDIT.md has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::mounted::PROGRAM;
use crate::common::watch::run;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

struct Log {
    dir: tempfile::TempDir,
}

impl Log {
    fn write(&self, text: &[u8]) -> PathBuf {
        let path = self.dir.path().join("log");
        fs::write(&path, text).unwrap();
        path
    }

    /// Ours and the other checker of the same bytes: whether they are whole, how many lines there are, and the head.
    fn both(&self, text: &[u8]) -> Option<(u64, String)> {
        let path = self.write(text);
        let ours = run(Command::new(PROGRAM).args(["verify", "--format", "json", "--audit-log"]).arg(&path));
        let report: Value = serde_json::from_slice(&ours.stdout).unwrap();
        assert_eq!(ours.status.code(), Some(if report["whole"] == true { 0 } else { 5 }), "{report}");
        let theirs = run(Command::new("python3").arg(self.dir.path().join("checker.py")).arg(&path));
        let said = String::from_utf8_lossy(&theirs.stdout).into_owned();
        assert_eq!(theirs.status.success(), report["whole"] == true, "{report}\n{theirs:?}");
        let lines = report["lines"].as_u64().unwrap();
        if !theirs.status.success() {
            return None;
        }
        let head = report["head"].as_str().unwrap().to_owned();
        assert_eq!(said, format!("{lines} lines, head {head}\n"));
        Some((lines, head))
    }
}

fn block(kind: &str) -> String {
    let docs = read("docs/AUDIT.md");
    let (_, rest) = docs.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_checker_of_the_docs_agrees() {
    let log = Log { dir: tempfile::tempdir().unwrap() };
    fs::write(log.dir.path().join("checker.py"), block("python")).unwrap();
    let golden = read("tests/audit/golden.jsonl");
    assert!(block("json").lines().all(|line| golden.contains(line)), "the example is of the log");
    let lines: Vec<&str> = golden.split_inclusive('\n').collect();
    let (count, head) = log.both(golden.as_bytes()).unwrap();
    assert!(count + 1 == lines.len() as u64 && golden.ends_with(&format!("\"hash\":\"{head}\"}}\n")));
    assert_eq!(log.both(b"").unwrap().0, 0);
    for n in 0..lines.len() {
        let last = n + 1 == lines.len();
        let without = [&lines[..n], &lines[n + 1..]].concat().concat();
        assert_eq!(log.both(without.as_bytes()).is_some(), last, "without line {n}");
        let mut changed = lines.concat().into_bytes();
        let at: usize = lines[..n].iter().map(|l| l.len()).sum();
        changed[at + lines[n].len() / 2] ^= 1;
        assert!(log.both(&changed).is_none(), "line {n} changed");
        // The end cut off, in the middle of a line: of that line there is nothing to be proven yet.
        let cut = &golden.as_bytes()[..at + lines[n].len() / 2];
        assert!(log.both(cut).is_some(), "cut in line {n}");
        let beginning = lines[n..].concat();
        assert_eq!(log.both(beginning.as_bytes()).is_some(), n == 0, "from line {n}");
    }
    // With a hash of its own that fits.
    let forged = golden.replacen("\"uid\":0", "\"uid\":1", 1);
    assert!(log.both(forged.as_bytes()).is_none());
}

#[test]
fn what_is_no_audit_log_is_told() {
    let log = Log { dir: tempfile::tempdir().unwrap() };
    let verify = |args: &[&str]| {
        let output = run(Command::new(PROGRAM).arg("verify").args(args));
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let path = log.write(b"\x1b[31m\n");
    let path = path.to_str().unwrap();
    let (code, said) = verify(&["--audit-log", path]);
    assert!(code == 5 && said.contains(&format!("broken              {path}, line 1: it is no line")), "{said}");
    assert!(!said.contains('\x1b'));
    assert_eq!(verify(&["--format", "paths", "--audit-log", path]), (5, format!("{path}\n")));
    let (code, said) = verify(&["--audit-log", "/nonexistent"]);
    assert!(code == 3 && said.contains("cannot read the audit log /nonexistent"), "{said}");
    // One thing or the other.
    for other in [&["bucket"][..], &["--stack", "a"], &["--key-file", "k"], &["--region", "r"], &["--manifest", "m"]] {
        let (code, said) = verify(&[&["--audit-log", path], other].concat());
        assert!(code == 2 && said.contains("cannot be used with"), "{other:?}: {said}");
    }
    assert_eq!(verify(&[]).0, 2);
    assert_eq!(verify(&["bucket", "--audit-head", &"ab".repeat(32)]).0, 2);
}
