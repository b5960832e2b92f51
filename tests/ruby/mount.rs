//! The real program, serving a mount, and reads from it that end.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{clean, collect};
use crate::common::s3::{BUCKET, REGION, Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// `logarchivefs mount` of the server's bucket, in the foreground. Dropped, it unmounts and ends in any case.
pub struct Mount {
    path: PathBuf,
    child: Child,
    errors: Arc<Mutex<String>>,
    gone: bool,
    _dir: TempDir,
}

impl Mount {
    /// `keys`: the raw master keys that it is given.
    pub fn start(server: &Server, keys: &[&[u8]], options: &[&str]) -> Mount {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let dir = tempfile::tempdir().unwrap();
        let (key_file, mountpoint) = (dir.path().join("keys"), dir.path().join("mnt"));
        std::fs::create_dir(&mountpoint).unwrap();
        let mountpoint = mountpoint.canonicalize().unwrap();
        std::fs::write(&key_file, "").unwrap();
        std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&key_file, keys.iter().map(|k| STANDARD.encode(k) + "\n").collect::<String>()).unwrap();
        let mut child = clean(env!("CARGO_BIN_EXE_logarchivefs"))
            .args(["mount", BUCKET])
            .arg(&mountpoint)
            .args(["--endpoint-url", &server.endpoint(), "--region", REGION, "--key-file"])
            .arg(&key_file)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = collect(child.stderr.take().unwrap());
        let mut mount = Mount { path: mountpoint, child, errors, gone: false, _dir: dir };
        let deadline = Instant::now() + PATIENCE;
        while !mount.is_mounted() {
            let ended = mount.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no mount ({ended:?}): {}", mount.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        mount
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|field| Path::new(field) == self.path))
    }

    /// Runs `reads` on the mounted folder. If it does not end in time, the test fails, and the end of the mount ends it.
    pub fn within<T: Send + 'static>(&self, reads: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let path = self.path.clone();
        let thread = std::thread::spawn(move || done.send(reads(path)).is_ok());
        match result.recv_timeout(PATIENCE) {
            Ok(value) => value,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("reads hang; the log of the mount:\n{}", self.log()),
            // It panicked: with that message.
            Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
                Err(payload) => {
                    eprintln!("the log of the mount:\n{}", self.log());
                    std::panic::resume_unwind(payload)
                }
                Ok(_) => unreachable!("it ended without a result"),
            },
        }
    }

    pub fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let path = path.to_owned();
        self.within(move |mnt| std::fs::read(mnt.join(path)))
    }

    /// Every file of the tree, as a relative path, in order.
    pub fn files(&self) -> Vec<String> {
        fn walk(dir: &Path, root: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), root, out);
                } else {
                    out.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        self.within(|mnt| {
            let mut out = Vec::new();
            walk(&mnt, &mnt, &mut out);
            out.sort();
            out
        })
    }

    /// Unmounts and waits for the program to end, which is to be with success.
    pub fn stop(mut self) {
        self.unmount();
        let status = self.wait(PATIENCE).unwrap_or_else(|| panic!("it goes on after the unmount: {}", self.log()));
        self.gone = true;
        assert!(status.success() && !self.is_mounted(), "{status}: {}", self.log());
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait().unwrap() {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                status => return status,
            }
        }
    }

    fn unmount(&self) {
        // Lazily: this neither waits for readers nor asks the program. It fails if there is no mount any more.
        let _ = clean("fusermount3").args(["-u", "-z", "-q", "--"]).arg(&self.path).status();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.gone {
            // Killing the program ends readers that still wait; then nothing holds the mount.
            let _ = self.child.kill();
            self.unmount();
            let _ = self.child.wait();
        }
    }
}
