//! What `stat` and the cheap attributes say of a file: what is remembered, or what its head tells.
//!
//! Invariants: the size of an open file is exact; what the store has told once is not asked again while version and ETag
//! stay the same; a failure of the storage is an answer to nobody but who asked.

use std::sync::Arc;

use super::remembered::State;
use super::{Attr, Fs, Ino, listed};
use crate::catalog::Item;
use crate::error::{Kind, Result};
use crate::object::{LogFile, Size};

impl Fs {
    pub(super) async fn file_attr(&self, ino: Ino, item: &Item, stack: &Arc<str>, resource: &Arc<str>) -> Result<Attr> {
        let (object, listing) = (listed(item), self.catalog.listing(stack, resource));
        let file = self.objects.find(&object);
        let is_open = file.as_ref().is_some_and(|file| file.is_open());
        let remembered = if is_open { None } else { self.remembered.get(&object, listing) };
        let size = match remembered {
            // A file that was scanned since knows more than a hint.
            Some(State { size: Some(Size::Hint(_)), .. }) if file.as_ref().is_some_and(|f| is_decided(f)) => None,
            Some(state) => state.size,
            None => None,
        };
        let size = match size {
            Some(size) => size,
            None => {
                let file = file.unwrap_or_else(|| self.objects.get(&object));
                let size = file.size().await;
                let size = self.watch_listing(&file, stack, resource, size)?;
                self.remembered.learn(&object, listing, &State::with(&file, Some(size.clone())));
                size
            }
        };
        if let Size::Unreadable(e) = &size {
            self.report.unreadable(e);
        }
        Ok(self.look.file(ino, item, &size))
    }

    /// What is known of a file, if anything is. Nothing is asked for.
    pub(super) fn state(&self, item: &Item, stack: &Arc<str>, resource: &Arc<str>) -> Option<State> {
        let object = listed(item);
        let file = self.objects.find(&object);
        let own = file.as_ref().and_then(|file| State::of(file));
        match own {
            Some(own) if own.is_final() || file.is_some_and(|file| file.is_open()) => Some(own),
            own => self.remembered.get(&object, self.catalog.listing(stack, resource)).or(own),
        }
    }

    /// Remembers what came of an open, or of reads.
    pub(super) fn note(&self, file: &LogFile) {
        let object = file.object();
        match State::of(file) {
            // Whether it still is depends on the listing: see `file_attr`.
            Some(state) if state.reason().is_some_and(|e| e.kind() == Kind::Archived) => {}
            Some(state) if state.is_final() => self.remembered.learn(object, 0, &state),
            _ => self.remembered.opened(object),
        }
    }
}

/// Its end is known, or why it has none.
fn is_decided(file: &LogFile) -> bool {
    file.proven_size().is_some() || file.verdict().is_some()
}
