//! The program, run on a bucket or a sealed copy, and what it said.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use logarchivefs::envelope::SealAs;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::archive::{self, Log};
use crate::common::mounted::PROGRAM;
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};

pub struct Bucket {
    name: String,
    dir: TempDir,
    server: Option<Server>,
}

pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bucket {
    pub fn s3() -> Bucket {
        let bucket = Bucket { name: BUCKET.into(), dir: tempfile::tempdir().unwrap(), server: Some(Server::start()) };
        bucket.keys(&archive::key_text())
    }

    pub fn copy(dir: &Path, keys: &str) -> Bucket {
        let name = format!("file://{}", dir.display());
        Bucket { name, dir: tempfile::tempdir().unwrap(), server: None }.keys(keys)
    }

    pub fn keys(self, text: &str) -> Bucket {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(self.key_file()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Puts log number `n`, of a span of its own: its key.
    pub fn put(&self, n: i64) -> String {
        self.put_text(&log(n), &text_of(n))
    }

    pub fn put_text(&self, log: &Log, text: &[u8]) -> String {
        archive::put(self.server(), log, SealAs::V2, &archive::gzip(text));
        log.key()
    }

    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("verify").arg(&self.name).arg("--key-file").arg(self.key_file());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.dir.path());
        if let Some(server) = &self.server {
            command.args(["--region", REGION, "--endpoint-url", &server.endpoint()]);
            command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn verify<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Done {
        let output = self.command(args).output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    fn json(&self) -> impl Iterator<Item = Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap())
    }

    /// Lines of objects.
    pub fn reports(&self) -> Vec<Value> {
        self.json().filter(|value| value.get("verdict").is_some()).collect()
    }

    pub fn report(&self, key: &str) -> Value {
        self.reports().into_iter().find(|r| r["key"] == key).unwrap_or_else(|| panic!("{key}: {}", self.stdout))
    }

    /// Lines of logs that a delete marker hides.
    pub fn deleted(&self) -> Vec<Value> {
        self.json().filter(|value| value.get("deleted").is_some()).collect()
    }

    pub fn summary(&self) -> Value {
        let last: Value = self.json().last().unwrap_or_else(|| panic!("no output: {}", self.stderr));
        last["summary"].clone()
    }
}

/// The lines of objects; checks the head and the end.
pub fn manifest(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.remove(0)["manifest"], 1);
    let end = lines.pop().unwrap();
    lines.retain(|line| line.get("deleted").is_none());
    assert_eq!((end["end"].as_bool(), end["objects"].as_u64()), (Some(true), Some(lines.len() as u64)));
    lines
}

pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
}

/// Log number `n`: its records are within the minute that its name tells.
pub fn log(n: i64) -> Log {
    Log::at(60 * n)
}

pub fn text_of(n: i64) -> Vec<u8> {
    (0..200).flat_map(|line| record(60 * n + line * 59 / 199).into_bytes()).collect()
}

/// A record of so many seconds after Wednesday's beginning.
pub fn record(at: i64) -> String {
    let time = logarchivefs::key::Time::from_unix(archive::WEDNESDAY + at, 250_000_000).unwrap();
    format!("{{\"log\":\"{at} is \\\"fine\\\"\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n")
}
