//! A `download` command to be, and what it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::archive::{key_text, sha256};
use crate::common::mounted::PROGRAM;
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use crate::common::watch;

pub const JOURNAL: &str = ".logarchivefs-download.jsonl";

/// A bucket, keys, and a folder to download to.
pub struct Place {
    dir: TempDir,
    bucket: String,
    server: Vec<String>,
    keys: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Place {
    pub fn s3(server: &Server) -> Place {
        let args = ["--endpoint-url", &server.endpoint(), "--region", REGION].map(str::to_owned);
        Place { server: args.into(), ..Place::new(BUCKET) }
    }

    pub fn copy(dir: &Path) -> Place {
        Place::new(&format!("file://{}", dir.display()))
    }

    fn new(bucket: &str) -> Place {
        let dir = tempfile::Builder::new().prefix("lafs-download-").tempdir().unwrap();
        Place { dir, bucket: bucket.into(), server: Vec::new(), keys: true }.keys(&key_text())
    }

    pub fn keys(self, text: &str) -> Place {
        let path = self.dir.path().join("keys");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self
    }

    pub fn without_keys(self) -> Place {
        Place { keys: false, ..self }
    }

    /// What everything is downloaded to.
    pub fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.to().join(below)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["download", &self.bucket]).args(&self.server).arg("--to").arg(self.to());
        if self.keys {
            command.arg("--key-file").arg(self.dir.path().join("keys"));
        }
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.dir.path());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.current_dir("/");
        command
    }

    /// Runs it to its end. Nothing is ever written to standard output, and no temporary file is left.
    pub fn run(&self, args: &[&str]) -> Ended {
        let output = watch::run(&mut self.command(args));
        assert!(output.stdout.is_empty(), "standard output is for data");
        assert_eq!(self.temporaries(), 0, "a temporary file is left");
        Ended { code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
    }

    /// The same, which must go well.
    pub fn works(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    }

    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Running(Some(child))
    }

    pub fn temporaries(&self) -> usize {
        self.files().keys().filter(|name| name.contains(".part")).count()
    }

    /// Every file below the folder but the journal: its modification time and its SHA-256.
    pub fn files(&self) -> BTreeMap<String, (i64, String)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.to()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                // One that is being written may have its name, or be gone, by now.
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_file() && path.file_name().unwrap() != JOURNAL {
                    let name = path.strip_prefix(self.to()).unwrap().to_str().unwrap().to_owned();
                    let content = fs::read(&path).unwrap_or_default();
                    found.insert(name, (meta.mtime(), sha256(&content)));
                }
            }
        }
        found
    }

    pub fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(JOURNAL)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// A run under way; killed if a test ends before it does.
pub struct Running(Option<Child>);

impl Running {
    pub fn signal(&self, signal: i32) {
        watch::kill(self.0.as_ref().unwrap().id(), signal);
    }

    pub fn peak_mib(&self) -> usize {
        watch::peak_mib(self.0.as_ref().unwrap().id())
    }

    pub fn wait(mut self) -> Ended {
        let child = self.0.as_mut().unwrap();
        let status = watch::eventually("the download ends", || child.try_wait().unwrap());
        let mut stderr = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut stderr).unwrap();
        self.0 = None;
        Ended { code: status.code(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
