//! Reading in order: which files to fetch before they are asked for. For other orders see `order` and `blocks`.
//!
//! A walk (`grep -r`, `ls -l`) asks for one file after another in the order of the listing. Each step in order doubles
//! the number of files fetched ahead; a step out of order starts anew, and what was fetched for nothing halves how far
//! ahead the next walk may go. So waste is bounded: at most [`MOST`] files at a time, and less each time it happens.

use std::ops::Range;

/// Files fetched ahead at most.
pub const MOST: usize = 64;
/// Steps out of order, one after the other, that show that this is no walk in this order.
const LOST: u32 = 8;

/// How one resource's files are being asked for.
#[derive(Debug)]
pub struct Walk {
    /// The place that would be in order.
    next: usize,
    last: usize,
    /// Steps out of order since the last one in order.
    astray: u32,
    window: usize,
    /// First place not fetched ahead yet.
    until: usize,
    /// Bound of the window; halved by waste, doubled by a whole window well spent.
    most: usize,
    spent: usize,
    /// Places that were fetched ahead, and not asked for so far.
    fetched: Vec<usize>,
    ahead: u64,
    /// Of those fetched ahead, how many nobody asked for.
    wasted: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Walk {
            next: usize::MAX,
            last: usize::MAX,
            astray: 0,
            window: 0,
            until: 0,
            most: MOST,
            spent: 0,
            fetched: Vec::new(),
            ahead: 0,
            wasted: 0,
        }
    }
}

impl Walk {
    /// The file at `place` of `len` is asked for; returns the places to fetch now, of at most `cap` ahead. None: it is
    /// not asked for in order.
    pub fn step(&mut self, place: usize, len: usize, cap: usize) -> Option<Range<usize>> {
        // The same file again says nothing.
        if place == self.last {
            return Some(0..0);
        }
        self.last = place;
        // Several readers of one walk, and the kernel's own order, mix neighbours a little.
        let in_order = place + 4 >= self.next && place < self.next.saturating_add(4);
        if in_order {
            self.astray = 0;
            self.window = (self.window * 2).clamp(2, self.most.min(cap.max(2)));
            self.next = self.next.max(place + 1);
            self.spent += 1;
            if self.spent > MOST {
                (self.spent, self.most) = (0, (self.most * 2).min(MOST));
            }
        } else {
            self.astray = self.astray.saturating_add(1);
            if self.window > 0 && self.until > self.next {
                self.most = (self.most / 2).max(2);
            }
            (self.window, self.spent) = (0, 0);
            self.next = place + 1;
            self.until = place + 1;
            self.wasted += std::mem::take(&mut self.fetched).len() as u64;
        }
        let next = self.next;
        self.fetched.retain(|ahead| *ahead >= next);
        let from = self.until.max(place + 1);
        let to = (place + 1 + self.window).min(len);
        if !in_order {
            return None;
        }
        if from >= to {
            return Some(0..0);
        }
        self.until = to;
        Some(from..to)
    }

    /// This is no walk in this order.
    pub fn is_lost(&self) -> bool {
        self.astray >= LOST
    }

    /// From here on places mean something else.
    pub fn restart(&mut self) {
        let wasted = self.wasted + self.fetched.len() as u64;
        *self = Walk { most: self.most, ahead: self.ahead, wasted, ..Walk::default() };
    }

    /// A place that [`Walk::step`] gave was fetched: not all need be.
    pub fn fetched(&mut self, place: usize) {
        self.ahead += 1;
        if place >= self.next {
            self.fetched.push(place);
        }
    }

    /// How many were fetched ahead, and how many of them turned out to be for nothing.
    pub fn totals(&self) -> (u64, u64) {
        (self.ahead, self.wasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_in_order_has_every_file_fetched_ahead_once() {
        let mut walk = Walk::default();
        let mut fetched = Vec::new();
        for place in 10..1000 {
            let ahead = walk.step(place, 1000, MOST).unwrap_or_default();
            assert!(ahead.is_empty() || ahead.start > place);
            assert!(ahead.len() <= MOST);
            ahead.clone().for_each(|place| walk.fetched(place));
            fetched.extend(ahead);
        }
        // The first two steps find out that it is a walk.
        assert_eq!(fetched, (12..1000).collect::<Vec<_>>());
        assert_eq!(walk.totals(), (988, 0));
    }

    #[test]
    fn single_files_cost_nothing() {
        let mut walk = Walk::default();
        for place in [5, 90, 17, 60, 3, 44] {
            assert_eq!(walk.step(place, 100, MOST), None);
            assert_eq!(walk.step(place, 100, MOST), Some(0..0), "the same again");
        }
        assert!(!walk.is_lost());
        (0..2).for_each(|n| _ = walk.step(n * 50, 100, MOST));
        assert!(walk.is_lost());
    }

    #[test]
    fn no_more_are_on_their_way_than_there_is_room_for() {
        let mut walk = Walk::default();
        let ahead: Vec<usize> = (0..50).flat_map(|n| walk.step(n, 1000, 16).unwrap_or_default()).collect();
        assert_eq!(ahead, (2..66).collect::<Vec<_>>());
    }

    #[test]
    fn waste_is_counted_and_backs_off() {
        let mut walk = Walk::default();
        // Every other one is known already.
        let mut step = |place: usize| {
            let ahead = walk.step(place, 100_000, MOST).unwrap_or_default();
            ahead.clone().filter(|p| p % 2 == 0).for_each(|p| walk.fetched(p));
            ahead.len()
        };
        let mut run = |from: usize| (from..from + 8).map(&mut step).sum::<usize>();
        let first = run(0);
        let later: Vec<usize> = (1..6).map(|n| run(n * 1000)).collect();
        assert!(first > 60 && later.windows(2).all(|w| w[1] <= w[0]), "{first} {later:?}");
        assert!(*later.last().unwrap() <= 10);
        let asked_for = 6 * 6 / 2;
        let all = (first + later.iter().sum::<usize>()) as u64 / 2;
        // The last ones may still be asked for.
        walk.step(50_000, 100_000, MOST);
        assert_eq!(walk.totals(), (all, all - asked_for));
    }
}
