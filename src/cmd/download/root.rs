//! The folder that is downloaded to, and the only code that writes below it.
//!
//! Invariants:
//! * The folder is opened once; everything below it is reached name by name from there, and no symbolic link is followed:
//!   neither a hostile key nor a link that somebody plants can lead out of it.
//! * One run at a time: it holds a lock. So a temporary file that was there before is a killed run's, and is removed.
//! * Content is written to a [`Part`], a file with a temporary name right in the folder, which is removed unless it is
//!   placed. Placing is a rename that replaces nothing: what may be overwritten is removed before ([`Root::remove`]).
//! * After an error that the next file would meet too (no space, read-only, a failing disk) the run is to end:
//!   [`Root::halted`].

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, Advice, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use tokio::sync::watch;

use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::key::Time;

/// Of [`Part`]s, around 16 hex digits.
const TEMPORARY: (&str, &str) = (".logarchivefs-", ".part");

/// Written bytes that are left to the kernel at most.
const FLUSH: u64 = 8 << 20;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub struct Root {
    dir: OwnedFd,
    /// As it was typed, escaped.
    shown: String,
    halt: watch::Sender<Option<Error>>,
}

/// What a file is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    pub size: u64,
    pub mtime: Time,
}

impl Root {
    /// Opens the folder, which is made if need be, and locks it by the file `lock` in it, which is returned.
    pub fn open(dir: &Path, lock: &str) -> Result<(Arc<Root>, File)> {
        let shown = escape(dir.as_os_str().as_encoded_bytes());
        let failed = |e: io::Error| err!(Kind::Config, "{shown}: cannot download to this folder: {e}");
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let open = fs::openat(CWD, dir, FOLDER, Mode::empty()).map_err(|e| failed(e.into()))?;
        // A pipe in its place is not waited for.
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(fs::openat(&open, lock, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(err!(Kind::Config, "{shown}/{lock} is no file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(err!(Kind::Config, "{shown}: another download to this folder is running"));
            }
            Err(TryLockError::Error(e)) => return Err(err!(Kind::Config, "{shown}: cannot lock this folder: {e}")),
        }
        let root = Root { dir: open, shown: shown.clone(), halt: watch::Sender::new(None) };
        root.remove_leftovers().map_err(failed)?;
        Ok((Arc::new(root), file))
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if is_temporary(&name) && entry.file_type() == FileType::RegularFile {
                fs::unlinkat(&self.dir, &*name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// The folder `path` leads to, made on the way if wanted.
    fn folder(&self, path: &str, make: bool) -> io::Result<OwnedFd> {
        let mut folder = self.dir.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            // The catalog makes no such name; this is the last door.
            if name == ".." || name == "." {
                return Err(io::Error::new(ErrorKind::InvalidInput, "a path that leads out of the folder"));
            }
            let open = |folder: &OwnedFd| fs::openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            folder = match open(&folder) {
                Err(e) if make && e == rustix::io::Errno::NOENT => {
                    match fs::mkdirat(&folder, name, Mode::RWXU) {
                        Err(e) if e != rustix::io::Errno::EXIST => return Err(e.into()),
                        _ => {}
                    }
                    open(&folder)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    pub fn make_folder(&self, path: &str) -> Result<()> {
        self.folder(path, true).map(drop).map_err(|e| self.failed(path, &e))
    }

    /// `None`: there is nothing. An error of kind `Invalid`: something is there that is no file.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>> {
        let (above, name) = split(path);
        let found =
            self.folder(above, false).and_then(|folder| Ok(fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match found {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(from_raw(&stat))),
            Ok(_) => Err(err!(Kind::Invalid, "{}: something that is no file is in the way", escape(path.as_bytes()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(path, &e)),
        }
    }

    /// A new file, 0600.
    pub fn part(self: &Arc<Self>) -> Result<Part> {
        let n = getrandom::u64().map_err(|e| err!(Kind::Internal, "no random numbers: {e}"))?;
        let name = format!("{}{n:016x}{}", TEMPORARY.0, TEMPORARY.1);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, &*name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|e| self.failed(&name, &e.into()))?;
        Ok(Part { root: Arc::clone(self), name: Some(name), file: file.into(), written: 0, flushed: 0 })
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, path: &str) -> Result<()> {
        let (above, name) = split(path);
        let removed = self.folder(above, false).and_then(|folder| Ok(fs::unlinkat(&folder, name, AtFlags::empty())?));
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed(path, &e)),
            _ => Ok(()),
        }
    }

    /// What a failure to write `path` means; ends the run where the next file would fail too.
    pub fn failed(&self, path: &str, e: &io::Error) -> Error {
        let (shown, path) = (&self.shown, escape(path.as_bytes()));
        let error = match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                err!(Kind::Internal, "{shown}: {e}: make room and give the same command again")
            }
            ErrorKind::NotADirectory => {
                err!(Kind::Invalid, "{shown}/{path}: a symbolic link or a file is where a folder should be")
            }
            _ if e.raw_os_error() == Some(libc::ELOOP) => {
                err!(Kind::Invalid, "{shown}/{path}: a symbolic link is not followed")
            }
            ErrorKind::AlreadyExists => err!(Kind::Invalid, "{shown}/{path}: exists: --force overwrites it"),
            _ => err!(Kind::Internal, "{shown}/{path}: cannot write: {e}"),
        };
        let hopeless =
            matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
                || matches!(e.raw_os_error(), Some(libc::EIO | libc::EMFILE | libc::ENFILE));
        if hopeless {
            self.halt(error.clone());
        }
        error
    }

    /// Ends the run with this error; the first one stays.
    pub fn halt(&self, error: Error) {
        self.halt.send_if_modified(|halt| {
            let first = halt.is_none();
            halt.get_or_insert(error);
            first
        });
    }

    pub fn is_halted(&self) -> bool {
        self.halt.borrow().is_some()
    }

    /// Waits for the error that ends the run.
    pub async fn halted(&self) -> Error {
        let mut halt = self.halt.subscribe();
        let error = halt.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        match error {
            Some(error) => error,
            // The sender is `self`: it is there.
            None => std::future::pending().await,
        }
    }
}

/// A file that is being written.
pub struct Part {
    root: Arc<Root>,
    /// Until it is placed.
    name: Option<String>,
    file: File,
    written: u64,
    /// So much of it the kernel has been told to put on the disk.
    flushed: u64,
}

impl Part {
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.root.failed(self.name(), &e))?;
        self.written += bytes.len() as u64;
        let waiting = self.written - self.flushed;
        if waiting >= FLUSH {
            // A hint, which begins the writing: the sync at the end has little left to wait for.
            let _ = fs::fadvise(&self.file, self.flushed, NonZeroU64::new(waiting), Advice::DontNeed);
            self.flushed = self.written;
        }
        Ok(())
    }

    /// Sets its time; after the last write. What the file system made of it is returned.
    pub fn finish(&self, mtime: Time) -> Result<Stat> {
        let (secs, nanos) = mtime.unix();
        let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
        let set = fs::futimens(&self.file, &Timestamps { last_access: time, last_modification: time });
        let stat = set.and_then(|()| fs::fstat(&self.file));
        stat.map(|stat| from_raw(&stat)).map_err(|e| self.root.failed(self.name(), &e.into()))
    }

    /// Its bytes and its time are on the disk when this returns.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.root.failed(self.name(), &e))
    }

    /// Gives it its name, unless something has that name.
    pub fn place(mut self, path: &str) -> Result<()> {
        let (above, name) = split(path);
        let placed = self.root.folder(above, true).and_then(|folder| self.rename(&folder, name));
        match placed {
            Ok(()) => self.name = None,
            Err(e) => return Err(self.root.failed(path, &e)),
        }
        Ok(())
    }

    fn rename(&self, folder: &OwnedFd, name: &str) -> io::Result<()> {
        let dir = &self.root.dir;
        match fs::renameat_with(dir, self.name(), folder, name, RenameFlags::NOREPLACE) {
            // A file system that cannot: a second name for the file replaces nothing either.
            Err(rustix::io::Errno::INVAL) => {
                fs::linkat(dir, self.name(), folder, name, AtFlags::empty())?;
                Ok(fs::unlinkat(dir, self.name(), AtFlags::empty())?)
            }
            other => Ok(other?),
        }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // If that fails, the next run removes it.
            let _ = fs::unlinkat(&self.root.dir, name, AtFlags::empty());
        }
    }
}

fn is_temporary(name: &str) -> bool {
    let digits = name.strip_prefix(TEMPORARY.0).and_then(|rest| rest.strip_suffix(TEMPORARY.1));
    digits.is_some_and(|d| d.len() == 16 && d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // The types differ between machines.
fn from_raw(stat: &fs::Stat) -> Stat {
    let mtime = Time::from_unix(stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    Stat { size: stat.st_size as u64, mtime: mtime.unwrap_or(Time::EPOCH) }
}
