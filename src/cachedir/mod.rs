//! The folder of `--cache-dir`: files under one bound, which several mounts may share.
//!
//! Invariants:
//! * It is ours alone: owned by who runs the program, mode 0700, and empty before we first use it. Its files have mode 0600
//!   and are reached through the folder's descriptor, never through a symbolic link. Files whose names are not ours are
//!   left alone.
//! * The bound holds at every moment: see [`Hold`].
//! * What is read here may be anything: it is for the caller to check it.
//! * Nothing that goes wrong after the start is an error: what cannot be read is not there, what cannot be written is
//!   left out.

mod hold;
mod name;

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

pub use hold::Hold;
use hold::Turn;
pub use name::{Id, Name, Part};

use crate::err;
use crate::error::{Kind, Result, escape};

/// Marks the folder as ours; it is the lock, too, and holds what is recorded as used. Another format gets another name.
const MARKER: &str = "logarchivefs-cache-1";
/// Backup programs leave folders with this file out (bford.info/cachedir).
const TAG: (&str, &[u8]) =
    ("CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# This is the cache of logarchivefs.\n");
/// What an empty file system has.
const LOST_AND_FOUND: &str = "lost+found";

/// A file's time is its last use, to the minute.
const MINUTE: Duration = Duration::from_secs(60);

/// The lock is held for single files, so nobody waits for it longer.
const LOCK: Duration = Duration::from_secs(10);

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

pub struct Folder {
    folder: File,
    /// For messages.
    shown: String,
    limit: u64,
    turn: Mutex<Turn>,
    /// What its files took when this process last wrote.
    used: AtomicU64,
}

impl Folder {
    /// `limit` bytes are what all files in it may take, with their names and whole blocks. The folder is made if need be.
    /// [`Kind::Config`] where it is not fit to be used.
    pub fn open(path: &Path, limit: u64) -> Result<Folder> {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let wrong = |why: String| err!(Kind::Config, "--cache-dir {shown}: {why}");
        let failed = |e: io::Error| wrong(format!("cannot be used: {e}"));
        if path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(openat(CWD, path, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOTDIR | Errno::LOOP => {
                wrong("is no folder, or a symbolic link to one; name the folder itself".into())
            }
            e => failed(e.into()),
        })?);
        let meta = folder.metadata().map_err(failed)?;
        if meta.uid() != geteuid().as_raw() {
            return Err(wrong(format!("belongs to user {}; name a folder of your own", meta.uid())));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(wrong(format!(
                "other users may enter it (mode {:03o}): `chmod 700` it, or name a new folder",
                meta.mode() & 0o777
            )));
        }
        let names = list(&folder).map_err(failed)?;
        let known = |n: &Vec<u8>| [MARKER, TAG.0, LOST_AND_FOUND].iter().any(|k| k.as_bytes() == n);
        if !names.iter().any(|n| n == MARKER.as_bytes()) && !names.iter().all(known) {
            return Err(wrong("holds other files; name an empty or a new folder".into()));
        }
        let folder = Folder { folder, shown, limit, turn: Mutex::default(), used: AtomicU64::new(0) };
        match folder.start() {
            Ok(()) => {}
            // What is there can be read all the same.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                folder.give_up(&e);
            }
            Err(e) => return Err(err!(Kind::Config, "--cache-dir {}: {e}", folder.shown)),
        }
        Ok(folder)
    }

    /// What all its files may take, and what they took when this process last wrote. Asks the disk nothing.
    pub fn usage(&self) -> (u64, u64) {
        (self.limit, self.used.load(Ordering::Relaxed))
    }

    /// Marks the folder, and shrinks it to the bound if that is a smaller one than last time.
    fn start(&self) -> io::Result<()> {
        drop(self.lock_marker()?);
        if let Ok(tag) = self.create(TAG.0) {
            // It matters to other programs only.
            (&tag).write_all(TAG.1).ok();
        }
        self.shrink()
    }

    /// `len` bytes from `at` on of the file `name`, if it is there, a regular file, and long enough.
    pub fn read(&self, name: Name, at: u64, len: usize) -> Option<Vec<u8>> {
        // Without waiting for the writer of what may be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.folder, name.to_string(), flags, Mode::empty()).ok()?);
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() < at.saturating_add(len as u64) {
            return None;
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at).ok()?;
        let now = SystemTime::now();
        if meta.modified().is_ok_and(|used| now.duration_since(used).is_ok_and(|ago| ago > MINUTE)) {
            // Without it the file is only evicted earlier.
            file.set_modified(now).ok();
        }
        Some(bytes)
    }

    /// Removes what has turned out to be of no use.
    pub fn remove(&self, name: Name) {
        self.unlink(&name.to_string());
    }

    /// Removes a file, or an empty folder in its place; false if it is still there.
    fn unlink(&self, name: &str) -> bool {
        let gone = match unlinkat(&self.folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => unlinkat(&self.folder, name, AtFlags::REMOVEDIR),
            other => other,
        };
        matches!(gone, Ok(()) | Err(Errno::NOENT))
    }

    /// A new file.
    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.folder, name, flags, PRIVATE)?))
    }

    /// Waits for the lock, which ends with the file; not for ever, as its owner may be stopped.
    fn lock_marker(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let end = Instant::now() + LOCK;
        while Instant::now() < end {
            let odd = |why: &str| io::Error::other(format!("{MARKER} is there, but {why}: remove it"));
            let marker = match openat(&self.folder, MARKER, flags, PRIVATE) {
                Ok(marker) => File::from(marker),
                Err(Errno::ISDIR | Errno::LOOP) => return Err(odd("no file")),
                Err(e) => return Err(e.into()),
            };
            if !marker.metadata()?.is_file() {
                return Err(odd("no regular file"));
            }
            match marker.try_lock() {
                // Somebody may have emptied the folder meanwhile: such a lock would keep nobody out.
                Ok(()) if marker.metadata()?.nlink() > 0 => return Ok(marker),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK / 1000),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        Err(io::Error::other(format!("another process holds the lock of {MARKER} and does not let go")))
    }

    /// What is there under a name of ours; folders are not ours.
    fn files(&self) -> io::Result<Vec<(Name, Stat)>> {
        let names = list(&self.folder)?;
        let files = names.iter().filter_map(|name| {
            let name = Name::parse(name)?;
            self.stat(name).map(|stat| (name, stat))
        });
        Ok(files.filter(|(_, s)| FileType::from_raw_mode(s.st_mode) != FileType::Directory).collect())
    }

    fn stat(&self, name: Name) -> Option<Stat> {
        statat(&self.folder, name.to_string(), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Folder({}, {} bytes)", self.shown, self.limit)
    }
}

/// The names in a folder.
fn list(folder: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
