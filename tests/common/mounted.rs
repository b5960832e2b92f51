//! The real program with a real mount, started, watched and ended by a test.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::archive;
use super::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use super::watch::{answers, detach, eventually, is_mounted, kill, run, unwatch, watch, within};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_logarchivefs");

/// A `mount` command to be.
pub struct Setup {
    /// Holds the mountpoint, the key file and the logs; nothing of it is on the mount.
    dir: TempDir,
    bucket: String,
    path: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    key_file: Option<PathBuf>,
    group: Option<PathBuf>,
    /// The log goes to standard error.
    under_systemd: bool,
}

impl Setup {
    /// The bucket of `server`, with all that it needs: region, credentials, the usual keys.
    pub fn s3(server: &Server) -> Setup {
        Setup::new(BUCKET)
            .args(["--endpoint-url", &server.endpoint(), "--region", REGION])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    /// A sealed copy.
    pub fn copy(dir: &Path) -> Setup {
        Setup::new(&format!("file://{}", dir.display()))
    }

    pub fn new(bucket: &str) -> Setup {
        let dir = tempfile::Builder::new().prefix("lafs-test-").tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("mnt");
        fs::create_dir(&path).unwrap();
        let setup = Setup {
            bucket: bucket.into(),
            path,
            args: Vec::new(),
            env: BTreeMap::new(),
            key_file: Some(dir.path().join("keys")),
            group: None,
            under_systemd: false,
            dir,
        };
        let home = setup.dir.path().to_owned();
        setup
            .keys(&archive::key_text())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("AWS_EC2_METADATA_DISABLED", "true")
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Setup {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Setup {
        self.env.insert(name.into(), value.into());
        self
    }

    pub fn without_env(mut self, name: &str) -> Setup {
        self.env.remove(OsStr::new(name));
        self
    }

    /// What the key file holds.
    pub fn keys(self, text: &str) -> Setup {
        let path = self.dir.path().join("keys");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self
    }

    pub fn key_file(&self) -> &Path {
        self.key_file.as_deref().unwrap()
    }

    pub fn without_key_file(mut self) -> Setup {
        self.key_file = None;
        self
    }

    /// In this control group.
    pub fn within(mut self, group: &Path) -> Setup {
        self.group = Some(group.to_owned());
        self
    }

    /// The log goes to standard error, and that to the journal, as systemd would say.
    pub fn under_systemd(mut self) -> Setup {
        self.under_systemd = true;
        let meta = File::create(self.stderr()).unwrap().metadata().unwrap();
        self.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
    }

    /// Another mountpoint than the fresh folder.
    pub fn on(mut self, path: &Path) -> Setup {
        self.path = path.to_owned();
        self
    }

    pub fn bucket(mut self, bucket: &str) -> Setup {
        self.bucket = bucket.into();
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn stderr(&self) -> PathBuf {
        self.dir.path().join("stderr")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        if let Some(group) = &self.group {
            command = Command::new("sh");
            let enter = format!("echo 0 >'{}/cgroup.procs' && exec \"$0\" \"$@\"", group.display());
            command.args(["-c", &enter, PROGRAM]);
        }
        command.arg("mount").arg(&self.bucket).arg(&self.path);
        if !self.under_systemd {
            command.arg("--log-file").arg(self.log_file());
        }
        if let Some(keys) = &self.key_file {
            command.arg("--key-file").arg(keys);
        }
        command.args(&self.args).env_clear().envs(&self.env).current_dir("/").stdin(Stdio::null());
        command
    }

    /// Mounts; fails the test, with what the program said, if that does not work.
    pub fn mount(self) -> Mount {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(File::create(self.stderr()).unwrap());
        // SAFETY: prctl with this option takes no pointer and is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        let child = command.spawn().unwrap();
        watch(&self.path, child.id());
        let mut mount = Mount { child: Some(child), setup: self };
        let mounted = eventually("the mount is there, or its program has ended", || {
            // There may be a dead mount before, and nothing after it: what answers is the mount only if it still is one
            // behind that.
            if answers(mount.root()) && is_mounted(mount.root()) {
                return Some(Ok(()));
            }
            mount.child.as_mut().unwrap().try_wait().unwrap().map(Err)
        });
        if let Err(status) = mounted {
            panic!("mount ended with {status}: {}", mount.stderr());
        }
        mount
    }

    /// Mounts where that must fail: the exit code and standard error. Nothing may be mounted by then.
    pub fn refused(self) -> (i32, String) {
        let before = is_mounted(&self.path);
        let output = run(&mut self.command());
        let stderr = String::from_utf8(output.stderr).unwrap();
        if is_mounted(&self.path) && !before {
            detach(&self.path);
            panic!("it left a mount behind: {stderr}");
        }
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), stderr)
    }
}

/// A running mount; unmounted and reaped when dropped.
pub struct Mount {
    child: Option<Child>,
    setup: Setup,
}

impl Mount {
    pub fn root(&self) -> &Path {
        &self.setup.path
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root().join(below)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// The most memory that the program has had so far, in bytes.
    pub fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let status = eventually("the program ends", || child.try_wait().unwrap());
        self.child = None;
        unwatch(self.root());
        status
    }

    /// What the program logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.setup.log_file()).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.setup.stderr()).unwrap_or_default()
    }

    /// Runs a shell command in the root of the mount.
    pub fn sh(&self, command: &str) -> Output {
        run(Command::new("bash").args(["-c", command]).current_dir(self.root()).env("LC_ALL", "C"))
    }

    /// Standard output of a shell command that must succeed and say nothing else.
    pub fn out(&self, command: &str) -> String {
        let output = self.sh(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{command}: {}: {stderr}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stderr of the mount\n{}--- log of the mount\n{}---", self.stderr(), self.log());
        }
        if let Some(mut child) = self.child.take() {
            kill(child.id(), libc::SIGTERM);
            let ended = within(Duration::from_secs(30), || child.try_wait().unwrap());
            if ended.is_none() {
                kill(child.id(), libc::SIGKILL);
                // Cannot fail: it was killed and not yet waited for.
                child.wait().unwrap();
            }
            let left = is_mounted(self.root());
            detach(self.root());
            unwatch(self.root());
            if !std::thread::panicking() {
                assert_eq!(ended.and_then(|s| s.code()), Some(0), "the end by SIGTERM: {}", self.stderr());
                assert!(!left, "still mounted after the program's end");
            }
        } else if self.root().starts_with(self.setup.dir.path()) && is_mounted(self.root()) {
            // A dead mount that a failed test left.
            detach(self.root());
        }
    }
}

/// A raw errno, for comparisons with `libc`'s names.
pub fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(e) => e.raw_os_error().unwrap_or_else(|| panic!("no errno: {e}")),
    }
}

/// One extended attribute, without the prefix `user.logarchive.`.
pub fn xattr(path: &Path, name: &str) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(format!("user.logarchive.{name}"))?;
    let mut value = vec![0u8; 4096];
    // SAFETY: valid C strings, and a buffer of the length that is given.
    let len = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    value.truncate(len);
    Ok(String::from_utf8(value).unwrap())
}

/// The names of all extended attributes, without the prefix.
pub fn xattrs(path: &Path) -> Vec<String> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut list = vec![0u8; 4096];
    // SAFETY: a valid C string, and a buffer of the length that is given.
    let len = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(usize::try_from(len).unwrap());
    let names = list.split(|b| *b == 0).filter(|n| !n.is_empty());
    names.map(|n| std::str::from_utf8(n).unwrap().strip_prefix("user.logarchive.").unwrap().to_owned()).collect()
}

/// Has the kernel drop a file's pages, so that the next read is asked of the mount.
pub fn forget_pages(file: &fs::File) {
    // SAFETY: posix_fadvise takes no pointer.
    let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(failed, 0);
}
