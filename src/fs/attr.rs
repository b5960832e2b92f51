//! Attributes: what `stat` says, and for how long the kernel may believe it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::node::Ino;
use crate::catalog::Item;
use crate::key::Time;
use crate::object::Size;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Link,
}

/// Attributes with their lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    pub kind: Kind,
    pub size: u64,
    pub mtime: SystemTime,
    /// Permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub ttl: Duration,
    /// The same for the name.
    pub name_ttl: Duration,
}

/// How the mount shows owners and modes.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub uid: u32,
    pub gid: u32,
    pub file_mode: u16,
    pub dir_mode: u16,
    /// The time that folders without one of their own show.
    pub mounted: SystemTime,
}

/// A proven file never changes: its inode stands for one version of one object.
const PROVEN: Duration = Duration::from_secs(3600);
/// Names of files: as long as a refreshed listing may take to show.
const NAMES: Duration = Duration::from_secs(10);
/// A folder that is gone may be believed in for a while: opened, it is not there.
const FOLDERS: Duration = Duration::from_secs(300);

impl Look {
    pub fn dir(&self, ino: Ino, mtime: Option<Time>) -> Attr {
        Attr {
            ino,
            kind: Kind::Dir,
            size: 0,
            mtime: mtime.map_or(self.mounted, system_time),
            mode: self.dir_mode,
            uid: self.uid,
            gid: self.gid,
            ttl: FOLDERS,
            name_ttl: FOLDERS,
        }
    }

    pub fn link(&self, ino: Ino, target: &str, item: Option<&Item>) -> Attr {
        Attr {
            ino,
            kind: Kind::Link,
            size: target.len() as u64,
            mtime: item.map_or(self.mounted, mtime),
            mode: 0o777,
            uid: self.uid,
            gid: self.gid,
            ttl: NAMES,
            name_ttl: NAMES,
        }
    }

    pub fn file(&self, ino: Ino, item: &Item, size: &Size) -> Attr {
        let (size, mode, ttl) = match size {
            Size::Exact(size) => (*size, self.file_mode, PROVEN),
            // Nobody may keep a hint: the truth comes with the open.
            Size::Hint(size) => (*size, self.file_mode, Duration::ZERO),
            // Nor this: if the open succeeds all the same (the object was restored), a size of 0 would end the read.
            Size::Unreadable(_) => (0, 0, Duration::ZERO),
        };
        let (uid, gid) = (self.uid, self.gid);
        Attr { ino, kind: Kind::File, size, mtime: mtime(item), mode, uid, gid, ttl, name_ttl: NAMES }
    }

    /// Of the control folder: nobody may keep anything.
    pub fn control(&self, ino: Ino, size: u64, mtime: SystemTime) -> Attr {
        let (mode, uid, gid, zero) = (self.file_mode, self.uid, self.gid, Duration::ZERO);
        Attr { ino, kind: Kind::File, size, mtime, mode, uid, gid, ttl: zero, name_ttl: zero }
    }
}

/// The end of the span; else its start; else the upload.
fn mtime(item: &Item) -> SystemTime {
    let from_key = item.span().last();
    system_time(from_key.unwrap_or_else(|| item.modified()))
}

fn system_time(time: Time) -> SystemTime {
    let (secs, nanos) = time.unix();
    let whole = Duration::from_secs(secs.unsigned_abs());
    let base = if secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|t| t.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}
