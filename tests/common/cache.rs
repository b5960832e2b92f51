//! Folders for `--cache-dir`, and mounts that fill them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::mounted::{Mount, Setup};
use super::s3::Server;
use super::watch::eventually;

/// In memory, where that is one of files: how fast a disk is says nothing about us.
pub struct Cache(tempfile::TempDir);

impl Cache {
    pub fn new() -> Cache {
        let (mut folder, memory) = (tempfile::Builder::new(), Path::new("/dev/shm"));
        folder.prefix("lafs-cache-");
        Cache(if memory.is_dir() { folder.tempdir_in(memory) } else { folder.tempdir() }.unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    pub fn mount(&self, server: &Server, args: &[&str]) -> Cached {
        Cached(Setup::s3(server).args([Path::new("--cache-dir"), &self.path()]).args(args).mount())
    }

    /// A path beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The files that hold something, by name.
    pub fn files(&self) -> BTreeMap<String, PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|e| e.unwrap().path());
        let named = entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), p));
        named.filter(|(name, _)| name.len() > 32 && name.as_bytes()[32] == b'.').collect()
    }

    pub fn proofs(&self) -> usize {
        self.files().keys().filter(|n| n.ends_with(".proof")).count()
    }
}

/// A mount that does not end before it has written what it has read: it would wait for a second at most.
pub struct Cached(Mount);

impl Cached {
    pub fn written(&self) {
        eventually("all is written", || {
            // A mount that is dead writes nothing any more.
            let Ok(told) = fs::read_to_string(self.path(".logarchivefs/status.json")) else { return Some(()) };
            let told: Value = serde_json::from_str(&told).unwrap();
            (told.pointer("/cache_dir/waiting_bytes").unwrap().as_u64() == Some(0)).then_some(())
        });
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.written();
        }
    }
}

impl Deref for Cached {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.0
    }
}

impl DerefMut for Cached {
    fn deref_mut(&mut self) -> &mut Mount {
        &mut self.0
    }
}
