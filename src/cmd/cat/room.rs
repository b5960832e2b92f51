//! What the open files may hold of lines that are not printed yet: a part of the budget, shared by all.
//!
//! Invariant: what is held is reserved in the budget, so cached text makes way for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::object::cache::Cache;

/// Reserved at a time: a reservation takes a lock.
const STEP: usize = 1 << 20;

pub struct Room {
    cache: Arc<Cache>,
    most: usize,
    held: AtomicUsize,
    /// Of the budget, in whole steps.
    reserved: AtomicUsize,
}

impl Room {
    /// `memory`: the budget.
    pub fn new(cache: Arc<Cache>, memory: usize) -> Arc<Room> {
        let (held, reserved) = Default::default();
        Arc::new(Room { cache, most: memory / 4, held, reserved })
    }

    /// What a reader may hold that holds `own` now.
    pub fn left(&self, own: usize) -> usize {
        (self.most + own).saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// A reader that held `before` holds `now`. Only ever called by one thread at a time.
    pub fn change(&self, before: usize, now: usize) {
        let held = self.held.load(Ordering::Relaxed).saturating_sub(before) + now;
        self.held.store(held, Ordering::Relaxed);
        let (was, is) = (self.reserved.load(Ordering::Relaxed), held.div_ceil(STEP) * STEP);
        if is > was {
            self.cache.reserve(is - was);
        } else if is + STEP < was {
            self.cache.release(was - is);
        } else {
            return;
        }
        self.reserved.store(is, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.cache.release(*self.reserved.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_one_holds_the_others_do_not_have_and_the_budget_knows() {
        let cache = Cache::new(64 * MIB);
        let room = Room::new(Arc::clone(&cache), 64 * MIB);
        assert_eq!((room.left(0), cache.reserved()), (16 * MIB, 0));
        room.change(0, 10 * MIB);
        assert_eq!((room.left(0), room.left(10 * MIB)), (6 * MIB, 16 * MIB));
        assert_eq!(cache.reserved(), 10 * MIB);
        room.change(0, 9 * MIB);
        assert_eq!((room.left(0), room.left(10 * MIB), cache.reserved()), (0, 7 * MIB, 19 * MIB));
        room.change(10 * MIB, 10 * MIB + 1);
        assert_eq!(cache.reserved(), 20 * MIB);
        room.change(10 * MIB + 1, 10 * MIB);
        assert_eq!(cache.reserved(), 20 * MIB, "not back and forth for each line");
        room.change(10 * MIB, 0);
        assert_eq!((room.left(0), cache.reserved()), (7 * MIB, 9 * MIB));
        drop(room);
        assert_eq!(cache.reserved(), 0);
    }
}
