//! A file that is ours alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// A regular file that nobody else may write, locked until it is dropped.
pub struct Own(File);

impl Own {
    pub fn open(path: &Path) -> Result<Own> {
        let failed = |e: io::Error| config(path, &format!("cannot be opened: {e}"));
        // Without waiting for the reader of what may be a pipe.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path);
        let file = file.map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => config(path, "is a symbolic link: name the file itself"),
            Some(libc::ENXIO) => config(path, "is not a regular file"),
            _ => failed(e),
        })?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(config(path, "is not a regular file"));
        }
        if meta.mode() & 0o022 != 0 {
            let mode = meta.mode() & 0o777;
            return Err(config(path, &format!("may be written by others (mode {mode:03o}): `chmod 600` it")));
        }
        match file.try_lock() {
            Ok(()) => Ok(Own(file)),
            Err(TryLockError::WouldBlock) => Err(config(path, "belongs to another mount: give each a file of its own")),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

impl Deref for Own {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Own {
    /// Not left to the close: a child that is no program of its own yet has the file too, and so would have the lock.
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

pub fn config(path: &Path, why: &str) -> Error {
    err!(Kind::Config, "--audit-log {} {why}", shown(path))
}

pub fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}
