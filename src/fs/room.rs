//! How much may be fetched ahead.
//!
//! Invariant: text that does not fit the budget would be gone before it is asked for, so its bytes are counted, file by file: an
//! average of all says nothing where large logs lie side by side among many small ones.

use super::walk::MOST;
use crate::object::head::SMALL;

/// Part of the budget that ciphertext fetched ahead may have: it becomes about a fourth of it.
const PART: u64 = 32;

/// For the files of a listing.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    /// None: their number alone counts.
    bytes: Option<u64>,
    /// By place.
    size: &'a dyn Fn(usize) -> u64,
}

impl<'a> Room<'a> {
    pub fn for_attributes() -> Room<'static> {
        Room { bytes: None, size: &|_| 0 }
    }

    pub fn for_text(memory: usize, size: &'a dyn Fn(usize) -> u64) -> Room<'a> {
        Room { bytes: Some(memory as u64 / PART), size }
    }

    /// How many of these files, in order, have room.
    pub fn fitting(&self, places: impl Iterator<Item = usize>) -> usize {
        let Some(mut room) = self.bytes else { return MOST };
        // Of a larger one the head comes.
        let mut fits = |size: u64| room.checked_sub(size.clamp(1, SMALL)).map(|left| room = left).is_some();
        // A walk goes on in any case.
        places.take(MOST).take_while(|place| fits((self.size)(*place))).count().max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_ahead_is_bounded_in_bytes() {
        const MEMORY: usize = 64 << 20;
        let mixed = |place| if place < 600 { 450_000 } else { 2_000 };
        let room = Room::for_text(MEMORY, &mixed);
        assert_eq!(room.fitting(0..10_000), 4, "their average has 29,000");
        assert_eq!(room.fitting(598..10_000), MOST);
        assert_eq!(Room::for_text(MEMORY, &|_| 1 << 40).fitting(0..9), 4, "of larger ones it is the head");
        assert_eq!(Room::for_text(32, &mixed).fitting(0..9), 2, "a walk goes on");
        assert_eq!(Room::for_text(MEMORY, &mixed).fitting(0..0), 2);
        assert_eq!(Room::for_attributes().fitting(0..9), MOST);
    }
}
