//! Open folders: a snapshot each, and whether the kernel may keep what it is shown.
//!
//! Invariants: a handle shows one listing from its first entry to its last; what the kernel keeps of a folder is one listing
//! whole, never pieces of two: it keeps only while every open handle of that folder shows the same one. However many handles
//! show one listing of a folder, its entries are in memory once.

use std::sync::{Arc, OnceLock, Weak};

use super::node::{Dir, Ino};
use super::{DirEntry, Fs, not_found};
use crate::catalog::Current;
use crate::error::Result;

/// What `opendir` says.
#[derive(Clone, Copy, Debug)]
pub struct OpenedFolder {
    pub handle: u64,
    /// The kernel may keep what this handle shows.
    pub cache: bool,
    /// What it kept of this folder before is still true.
    pub keep: bool,
}

pub(super) struct Folder {
    ino: Ino,
    dir: Dir,
    /// What is to be shown, if that is not in `entries` already.
    current: Option<Current>,
    /// How many entries that makes, but for the two dots.
    len: usize,
    entries: Arc<Entries>,
}

/// Folders with more entries take longer to make than handing that over to another thread.
pub(super) const LONG: usize = 1000;

impl Folder {
    /// Its entries are many, or it is the last to have a listing that may be of many.
    fn is_slow_to_free(&self) -> bool {
        let is_last = |current: &Current| Arc::strong_count(&current.tree) == 1;
        self.len > LONG && self.entries.get().is_some() || self.current.as_ref().is_some_and(is_last)
    }
}

/// Made when they are asked for, which they are not while the kernel has them.
type Entries = OnceLock<Vec<DirEntry>>;

/// What the kernel has been shown of a folder.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The listing's number; 0 is none.
    serial: u64,
    open: u32,
    /// The entries of the listing with this number, while a handle has them.
    entries: (u64, Weak<Entries>),
}

impl Shown {
    /// One more handle, which shows this listing: whether the kernel may cache it, and keep what it has.
    pub fn open(&mut self, serial: u64) -> (bool, bool) {
        let same = self.serial == serial;
        let cache = same || self.open == 0;
        self.open += 1;
        self.serial = if cache { serial } else { 0 };
        (cache, same)
    }

    pub fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The entries of this listing, made or not, for one more handle.
    pub fn entries(&mut self, serial: u64) -> Arc<Entries> {
        let known = Some(&self.entries).filter(|(of, _)| *of == serial).and_then(|(_, entries)| entries.upgrade());
        known.unwrap_or_else(|| {
            let entries = Arc::default();
            self.entries = (serial, Arc::downgrade(&entries));
            entries
        })
    }
}

impl Fs {
    /// Opens a folder: looks at its listing once, for all reads of this handle.
    pub async fn opendir(&self, ino: Ino) -> Result<OpenedFolder> {
        let dir = self.dir(ino)?;
        let (current, len, entries) = match &dir {
            Dir::Root | Dir::Control | Dir::Stack(_) => {
                (None, None, Arc::new(OnceLock::from(self.upper_entries(ino, &dir).await?)))
            }
            Dir::Resource(stack, resource) | Dir::Container(stack, resource, _) | Dir::Day(stack, resource, ..) => {
                if matches!(dir, Dir::Resource(..)) {
                    self.catalog.enter(stack, resource).await?;
                }
                let current = self.catalog.current(stack, resource).await?;
                let tree = &current.tree;
                let len = match &dir {
                    Dir::Container(_, _, id) => tree.container(id).map(|c| c.days().len()),
                    Dir::Day(_, _, id, day) => {
                        let container = tree.container(id);
                        container.and_then(|c| c.day(*day)).map(|day| day.file_count() + day.link_count())
                    }
                    _ => Some(tree.container_count()),
                };
                (len.is_some().then_some(current), len, Arc::default())
            }
        };
        if current.is_none() && entries.get().is_none() {
            return Err(not_found());
        }
        let shown = current.as_ref().and_then(|current| {
            let serial = current.serial();
            self.nodes.shown(ino, |shown| (shown.open(serial), shown.entries(serial)))
        });
        let ((cache, keep), entries) = shown.unwrap_or(((false, false), entries));
        let len = len.unwrap_or_default();
        Ok(OpenedFolder { handle: self.folders.open(Folder { ino, dir, current, len, entries }), cache, keep })
    }

    /// Whether [`Fs::readdir`] would take so long that nobody else should wait for it.
    pub fn is_slow_to_read(&self, handle: u64) -> bool {
        self.folders.get(handle).is_ok_and(|folder| folder.len > LONG && folder.entries.get().is_none())
    }

    /// Calls `show` with the entries of an open folder from place `from` on, until it says that there is no more room.
    pub fn readdir(&self, handle: u64, from: usize, mut show: impl FnMut(usize, &DirEntry) -> bool) -> Result<()> {
        let folder = self.folders.get(handle)?;
        let entries = folder.entries.get_or_init(|| match &folder.current {
            Some(current) => self.entries(folder.ino, &folder.dir, current),
            None => Vec::new(),
        });
        for (place, entry) in entries.iter().enumerate().skip(from) {
            if show(place, entry) {
                break;
            }
        }
        Ok(())
    }

    /// To be called where the runtime is known, to which it may leave the rest.
    pub fn releasedir(&self, handle: u64) {
        let Some(folder) = self.folders.close(handle) else { return };
        if folder.dir != Dir::Control {
            self.activity.touch();
        }
        if folder.current.is_some() {
            self.nodes.shown(folder.ino, Shown::close);
        }
        if folder.is_slow_to_free() {
            tokio::task::spawn_blocking(move || drop(folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::NodeKind;

    #[test]
    fn many_entries_are_slow_to_free_if_they_were_made() {
        let folder = |len: usize, made: Option<usize>| {
            let entry = |_| DirEntry { ino: Ino::ROOT, kind: NodeKind::File, name: "x".into() };
            let entries =
                made.map_or_else(OnceLock::new, |made| OnceLock::from((0..made).map(entry).collect::<Vec<_>>()));
            Folder { ino: Ino::ROOT, dir: Dir::Root, current: None, len, entries: Arc::new(entries) }
        };
        assert!(folder(LONG + 1, Some(LONG + 1)).is_slow_to_free());
        assert!(!folder(LONG, Some(LONG)).is_slow_to_free() && !folder(LONG + 1, None).is_slow_to_free());
    }

    #[test]
    fn the_kernel_keeps_one_listing_whole_or_nothing() {
        let mut shown = Shown::default();
        assert_eq!(shown.open(5), (true, false), "nothing was there before");
        assert_eq!(shown.open(5), (true, true));
        // A new listing, while the old one may still be written to the cache.
        assert_eq!(shown.open(6), (false, false));
        assert_eq!(shown.open(6), (false, false));
        (0..4).for_each(|_| shown.close());
        assert_eq!(shown.open(6), (true, false));
        shown.close();
        assert_eq!(shown.open(6), (true, true));
    }

    #[test]
    fn handles_of_one_listing_share_its_entries() {
        let mut shown = Shown::default();
        let (first, second, newer) = (shown.entries(5), shown.entries(5), shown.entries(6));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &newer));
        let gone = Arc::downgrade(&newer);
        drop(newer);
        assert!(gone.upgrade().is_none(), "kept for nobody");
    }
}
