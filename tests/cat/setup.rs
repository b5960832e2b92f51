//! A `cat` command to be, and archives for it.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log, WEDNESDAY};
use crate::common::mounted::PROGRAM;
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use crate::common::watch::run;

pub struct Done {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Done {
    /// Standard output of a command that must have gone well and have nothing to say.
    #[track_caller]
    pub fn quiet(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "{}: {}", self.code, self.err);
        String::from_utf8(self.out).unwrap()
    }
}

/// Folder for the key file and for sealed copies.
pub struct Archive {
    pub dir: tempfile::TempDir,
    random: Random,
    bucket: Vec<String>,
}

impl Archive {
    /// A sealed copy, still empty.
    pub fn copy() -> Archive {
        let dir = tempfile::tempdir().unwrap();
        let bucket = format!("file://{}/copy", dir.path().display());
        std::fs::create_dir_all(dir.path().join("copy/objects")).unwrap();
        Archive::new(dir, vec![bucket], &archive::key_text())
    }

    /// The sealed copy `copy` in this folder.
    pub fn copy_of(dir: tempfile::TempDir, keys: &str) -> Archive {
        let bucket = format!("file://{}/copy", dir.path().display());
        Archive::new(dir, vec![bucket], keys)
    }

    pub fn s3(server: &Server) -> Archive {
        let args = [BUCKET, "--endpoint-url", &server.endpoint(), "--region", REGION];
        Archive::new(tempfile::tempdir().unwrap(), args.map(str::to_owned).to_vec(), &archive::key_text())
    }

    fn new(dir: tempfile::TempDir, bucket: Vec<String>, text: &str) -> Archive {
        let keys = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(dir.path().join("keys"));
        keys.unwrap().write_all(text.as_bytes()).unwrap();
        Archive { dir, random: Random::new(7), bucket }
    }

    pub fn add(&mut self, log: &Log, text: impl AsRef<[u8]>) {
        self.add_gzip(log, &archive::gzip(text.as_ref()));
    }

    pub fn add_gzip(&mut self, log: &Log, gzip: &[u8]) {
        let copy = self.dir.path().join("copy");
        archive::write(&copy, log, SealAs::V2, gzip, WEDNESDAY + 90_000, &mut self.random);
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("cat").args(&self.bucket).arg("--key-file").arg(self.dir.path().join("keys")).args(args);
        command.env_clear().envs(environment(self.dir.path())).current_dir("/").stdin(Stdio::null());
        command
    }

    pub fn cat<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        let output = run(&mut self.command(args));
        let err = String::from_utf8(output.stderr).unwrap();
        Done { code: output.status.code().unwrap(), out: output.stdout, err }
    }
}

pub fn environment(home: &Path) -> Vec<(&'static str, std::ffi::OsString)> {
    vec![
        ("PATH", std::env::var_os("PATH").unwrap()),
        ("HOME", home.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
    ]
}

/// A record on Wednesday.
pub fn record(secs: f64, stream: &str, log: &str) -> String {
    let nanos = (secs * 1e9) as i64;
    let time = time::OffsetDateTime::from_unix_timestamp(WEDNESDAY).unwrap() + time::Duration::nanoseconds(nanos);
    let time = time.format(&time::format_description::well_known::Rfc3339).unwrap();
    let quoted = serde_json::to_string(log).unwrap();
    format!("{{\"log\":{quoted},\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n")
}
