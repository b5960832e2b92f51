//! The real binary, mounted on a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::process::{peak_rss, program};
use crate::s3;

pub struct Mounted {
    child: Child,
    folder: tempfile::TempDir,
}

impl Mounted {
    pub fn new(endpoint: &str, key_file: &Path, options: &[&str]) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let mut command = program(endpoint, &["mount", s3::BUCKET, path]);
        let child = command.arg("--key-file").arg(key_file).args(options).spawn().unwrap();
        let mounted = Mounted { child, folder };
        let shown = mounted.path().to_str().unwrap().to_owned();
        while !std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&shown) {
            std::thread::sleep(Duration::from_millis(2));
        }
        mounted
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The one file of the archive below `stack`.
    pub fn file(&self, stack: &str) -> PathBuf {
        let mut path = self.path().join(stack);
        while path.is_dir() {
            path = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
        }
        path
    }

    /// The first day folder below `stack`; no file is looked at.
    pub fn folder(&self, stack: &str) -> PathBuf {
        let first = |path: PathBuf| std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
        (0..3).fold(self.path().join(stack), |path, _| first(path))
    }

    /// Peak resident memory in KiB.
    pub fn peak_rss(&self) -> Option<u64> {
        peak_rss(self.child.id())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("fusermount3").args(["-u", "-z"]).arg(self.path()).status().ok();
        self.child.wait().ok();
    }
}
