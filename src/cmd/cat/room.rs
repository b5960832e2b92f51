//! What the open files may hold of lines that are not printed yet: a part of the budget, shared by all.
//!
//! Invariant: what is held is reserved in the budget, so cached text makes way for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::object::Shared;

/// Reserved at a time: a reservation takes a lock.
const STEP: usize = 1 << 20;

pub struct Room {
    shared: Arc<Shared>,
    most: usize,
    held: AtomicUsize,
    /// Of the budget, in whole steps.
    reserved: AtomicUsize,
}

impl Room {
    /// `memory`: the budget.
    pub fn new(shared: Arc<Shared>, memory: usize) -> Arc<Room> {
        let (held, reserved) = Default::default();
        Arc::new(Room { shared, most: memory / 4, held, reserved })
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
            self.shared.cache.reserve(is - was);
        } else if is + STEP < was {
            self.shared.cache.release(was - is);
        } else {
            return;
        }
        self.reserved.store(is, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.cache.release(*self.reserved.get_mut());
    }
}
