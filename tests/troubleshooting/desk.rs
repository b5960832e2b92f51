//! What the provocations share: a folder of their own, commands in a clean environment, and what these said.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::common::archive;
use crate::common::mounted::{Mount, PROGRAM, Setup};
use crate::common::s3::{ACCESS_KEY, REGION, SECRET_KEY, Server};
use crate::common::watch::run;

pub struct Desk {
    dir: TempDir,
    pub said: Vec<String>,
}

impl Desk {
    pub fn new() -> Desk {
        let dir = tempfile::Builder::new().prefix("lafs-trouble-").tempdir().unwrap();
        let desk = Desk { dir, said: Vec::new() };
        desk.file("keys", &archive::key_text());
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A private file.
    pub fn file(&self, name: &str, text: &str) -> String {
        let file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
        self.shown(name)
    }

    pub fn folder(&self, name: &str, mode: u32) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self.shown(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir("/");
        command.env("HOME", self.dir.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// With the usual keys, and all that the server needs.
    pub fn on(&self, server: &Server, args: &[&str]) -> Command {
        let keys = self.shown("keys");
        let endpoint = server.endpoint();
        let mut all = vec![args[0], "archive"];
        all.extend(&args[1..]);
        all.extend(["--endpoint-url", &endpoint, "--region", REGION]);
        if args[0] != "find" {
            all.extend(["--key-file", &keys]);
        }
        let mut command = self.command(&all);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Runs it and keeps what it says on standard error.
    pub fn hear(&mut self, command: &mut Command) {
        let output = run(command);
        let lines = lines(&String::from_utf8(output.stderr).unwrap());
        assert!(!lines.is_empty(), "{command:?} ended with {} and said nothing", output.status);
        self.said.extend(lines);
    }

    pub fn say(&mut self, args: &[&str]) {
        let mut command = self.command(args);
        self.hear(&mut command);
    }

    /// A mount that is refused.
    pub fn refused(&mut self, setup: Setup) {
        let (_, stderr) = setup.refused();
        self.said.extend(lines(&stderr));
    }

    /// The same command in a mount namespace of its own, after the script has changed it.
    pub fn inside(&mut self, script: &str, command: &Command) {
        let mut inside = Command::new("unshare");
        inside.args(["-m", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]).arg(command.get_program());
        inside.args(command.get_args()).env_clear().current_dir("/");
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.hear(&mut inside);
    }

    /// A tool in a mount, which fails.
    pub fn tool(&mut self, mount: &Mount, command: &str) {
        let output = mount.sh(command);
        self.errno(&output);
    }

    /// What a tool says of an errno: the last part of its line.
    pub fn errno(&mut self, output: &Output) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.is_empty(), "a tool said nothing: {}", output.status);
        self.said.extend(stderr.lines().map(|line| line.rsplit(": ").next().unwrap().to_owned()));
    }

    /// What a mount has logged.
    pub fn log_of(&mut self, mount: &Mount) {
        self.said.extend(lines(&mount.log()));
    }
}

/// The messages in a log or on standard error, without name, time and level.
pub fn lines(text: &str) -> Vec<String> {
    let bare = |line: &str| {
        let line = line.strip_prefix("logarchivefs: ").unwrap_or(line);
        let logged = line.strip_prefix('[').and_then(|l| l.split_once("] ")).map(|l| l.1);
        logged.unwrap_or(line).to_owned()
    };
    let summary = |line: &str| line.contains(" downloaded to ") || line == "Nothing was downloaded.";
    text.lines().filter(|line| !line.is_empty() && !summary(line)).map(bare).collect()
}

pub fn place(dir: impl AsRef<OsStr>) -> String {
    format!("file://{}", Path::new(&dir).display())
}
