//! A call of `doctor`, and what it reported.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use logarchivefs::envelope::SealAs;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::archive::{self, Log};
use crate::common::mounted::PROGRAM;
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Seen, Server};
use crate::common::watch::run;

/// The checks of a bucket, in the order of the report.
pub const OF_BUCKETS: [&str; 19] = [
    "credentials",
    "identity",
    "bucket",
    "region",
    "clock",
    "versioning",
    "bucket-policy",
    "iam-list-bucket",
    "iam-get-object",
    "iam-get-object-version",
    "iam-list-bucket-versions",
    "iam-get-bucket-location",
    "iam-get-bucket-versioning",
    "iam-get-bucket-policy",
    "archive",
    "archive-keys",
    "other-objects",
    "instruction-files",
    "storage-classes",
];
pub const OF_OBJECTS: [&str; 5] = ["archive", "archive-keys", "other-objects", "instruction-files", "storage-classes"];
pub const OF_THE_MACHINE: [&str; 6] = ["keys", "fuse-device", "fusermount3", "user-allow-other", "memory", "limits"];

/// A call of `doctor` to be, with the usual key file.
pub struct Doctor {
    dir: TempDir,
    command: Command,
}

pub fn doctor<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Doctor {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", dir.path()).env("AWS_EC2_METADATA_DISABLED", "true").current_dir("/");
    Doctor { dir, command }
}

/// With credentials, and without a region.
pub fn of_server(server: &Server) -> Doctor {
    let doctor = doctor([BUCKET, "--endpoint-url", &server.endpoint()]);
    doctor.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// With everything.
pub fn of(server: &Server) -> Doctor {
    of_server(server).args(["--region", REGION]).keys(&archive::key_text())
}

impl Doctor {
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Doctor {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Doctor {
        self.command.env(name, value);
        self
    }

    pub fn keys(self, text: &str) -> Doctor {
        let path = self.key_file(text);
        self.args([OsStr::new("--key-file"), path.as_os_str()])
    }

    pub fn key_file(&self, text: &str) -> PathBuf {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.dir.path().join("keys");
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    pub fn output(mut self) -> Output {
        let output = run(&mut self.command);
        for secret in [SECRET_KEY, &archive::key_base64(0), &archive::key_base64(1)] {
            assert!(!text(&output.stdout).contains(secret) && !text(&output.stderr).contains(secret));
        }
        output
    }

    /// Nobody reads its standard output.
    pub fn output_to_nobody(mut self) -> Output {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = self.command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        // With its copy of the writing end.
        drop(self.command);
        child.wait_with_output().unwrap()
    }

    pub fn report(self) -> Report {
        let output = self.args(["--format", "json"]).output();
        let stderr = text(&output.stderr).to_owned();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        Report { code: output.status.code().unwrap(), json, stderr }
    }
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub struct Report {
    pub code: i32,
    pub json: Value,
    pub stderr: String,
}

impl Report {
    pub fn names(&self) -> Vec<&str> {
        self.json["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
    }

    pub fn check(&self, name: &str) -> &Value {
        let mut found = self.json["checks"].as_array().unwrap().iter().filter(|c| c["name"] == name);
        let check = found.next().unwrap_or_else(|| panic!("no check {name} in {:#}", self.json));
        assert!(found.next().is_none(), "two checks {name}");
        check
    }

    pub fn status(&self, name: &str) -> &str {
        self.check(name)["status"].as_str().unwrap()
    }

    /// Of one check: its status, and words in what it says.
    #[track_caller]
    pub fn says(&self, name: &str, status: &str, words: &[&str]) {
        let check = self.check(name);
        assert_eq!(check["status"], status, "{check:#}");
        let said = check.to_string();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {check:#}");
        }
        // Whatever is wrong comes with what to do.
        assert!(status == "ok" || status == "skipped" || check["advice"].is_string(), "{check:#}");
    }

    /// Those with another status than `ok`, of what the tests decide: the machine is what it is.
    pub fn not_ok(&self) -> BTreeSet<&str> {
        let names = self.names();
        let decided = names.into_iter().filter(|n| !OF_THE_MACHINE[1..].contains(n));
        decided.filter(|n| self.status(n) != "ok").collect()
    }

    #[track_caller]
    pub fn all_skipped(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.status(name), "skipped", "{name}");
        }
    }
}

pub fn put(server: &Server, log: &Log) {
    archive::put(server, log, SealAs::V2, &archive::gzip(b"x\n"));
}

/// Two logs under two keys, and the policy that the program itself prints.
pub fn server() -> Server {
    let server = Server::start();
    put(&server, &Log::at(0));
    put(&server, &Log { master: 1, ..Log::at(100) });
    server.set_policy(printed_policy());
    server
}

pub fn printed_policy() -> String {
    let output = doctor(["--print-bucket-policy", BUCKET]).output();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// The actions of the printed IAM policy.
pub fn printed_actions() -> BTreeSet<String> {
    let output = doctor(["--print-iam-policy", BUCKET]).output();
    let policy: Value = serde_json::from_slice(&output.stdout).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|s| s["Action"].as_array().unwrap().iter());
    actions.map(|a| a.as_str().unwrap().to_owned()).collect()
}

/// Which action a request needs.
pub fn action(seen: &Seen) -> &'static str {
    let asks = |name: &str| seen.query.split('&').any(|q| q.split('=').next() == Some(name));
    match (seen.method.as_str(), seen.key.is_empty()) {
        ("GET", false) if asks("versionId") => "s3:GetObjectVersion",
        ("GET", false) => "s3:GetObject",
        ("GET", true) if asks("policy") => "s3:GetBucketPolicy",
        ("GET", true) if asks("versioning") => "s3:GetBucketVersioning",
        ("GET", true) if asks("location") => "s3:GetBucketLocation",
        ("GET", true) if asks("versions") => "s3:ListBucketVersions",
        ("GET", true) if asks("list-type") => "s3:ListBucket",
        ("HEAD", true) => "s3:ListBucket",
        _ => panic!("not a request of a reader: {seen:?}"),
    }
}

/// `s3:GetBucketPolicy` is probed by `iam-get-bucket-policy`.
pub fn check_of(action: &str) -> String {
    let words = action.strip_prefix("s3:").unwrap().chars();
    let kebab = words.map(|c| if c.is_uppercase() { format!("-{}", c.to_ascii_lowercase()) } else { c.into() });
    format!("iam{}", kebab.collect::<String>())
}
