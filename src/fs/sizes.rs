//! What `stat` was told of files, for the life of the mount: so that a second `ls -l` asks the store nothing, however many
//! files there are and whatever became of them since. Some 50 bytes each.
//!
//! Invariant: a size belongs to a key and an entity tag, so a new version of an object has none here. Only sizes are kept:
//! why a file cannot be read may change (a key is no longer missing, an object is restored).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::catalog::Item;
use crate::object::Size;

/// Which version of which object: half of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u64; 2]);

#[derive(Default)]
pub struct Sizes {
    /// Twice the size, plus one if that is a hint.
    known: Mutex<HashMap<Version, u64>>,
}

impl Version {
    pub fn of(item: &Item) -> Version {
        let key = item.key();
        let mut hash = Sha256::new();
        hash.update((key.len() as u64).to_le_bytes());
        hash.update(key);
        hash.update(item.etag());
        let digest: [u8; 32] = hash.finalize().into();
        let word = |at: usize| digest[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Version([word(0), word(8)])
    }
}

impl Sizes {
    pub fn get(&self, version: Version) -> Option<Size> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&version)?;
        Some(if known & 1 == 0 { Size::Exact(known >> 1) } else { Size::Hint(known >> 1) })
    }

    pub fn learn(&self, version: Version, size: &Size) {
        let known = match size {
            Size::Exact(size) => size.checked_mul(2),
            Size::Hint(size) => size.checked_mul(2).map(|double| double + 1),
            Size::Unreadable(_) => None,
        };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => all.insert(version, known),
            None => all.remove(&version),
        };
    }
}
