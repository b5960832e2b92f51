//! Reading in order: which files to fetch before they are asked for.
//!
//! A walk (`grep -r`, `ls -l`) asks for one file after another in the order of the listing. Each step in order doubles
//! the number of files fetched ahead; a step out of order starts anew, and what was fetched for nothing halves how far
//! ahead the next walk may go. So waste is bounded: at most [`MOST`] files at a time, and less each time it happens.

use std::ops::Range;

/// Files fetched ahead at most.
const MOST: usize = 64;

/// How one resource's files are being asked for.
#[derive(Debug)]
pub struct Walk {
    /// The place that would be in order.
    next: usize,
    window: usize,
    /// First place not fetched ahead yet.
    ahead: usize,
    /// Bound of the window; halved by waste, doubled by a whole window well spent.
    most: usize,
    spent: usize,
    /// Files fetched ahead that nobody asked for.
    wasted: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Walk { next: usize::MAX, window: 0, ahead: 0, most: MOST, spent: 0, wasted: 0 }
    }
}

impl Walk {
    /// The file at `place` of `len` is asked for; returns the places to fetch now.
    pub fn step(&mut self, place: usize, len: usize) -> Range<usize> {
        // Several readers of one walk, and the kernel's own order, mix neighbours a little.
        let in_order = place + 4 >= self.next && place < self.next.saturating_add(4);
        if in_order {
            self.window = (self.window * 2).clamp(2, self.most);
            self.next = self.next.max(place + 1);
            self.spent += 1;
            if self.spent > MOST {
                (self.spent, self.most) = (0, (self.most * 2).min(MOST));
            }
        } else {
            let unused = self.ahead.saturating_sub(self.next);
            if self.window > 0 && unused > 0 {
                self.wasted += unused as u64;
                self.most = (self.most / 2).max(2);
            }
            (self.window, self.spent) = (0, 0);
            self.next = place + 1;
            self.ahead = place + 1;
        }
        let from = self.ahead.max(place + 1);
        let to = (place + 1 + self.window).min(len);
        if from >= to {
            return 0..0;
        }
        self.ahead = to;
        from..to
    }

    pub fn wasted(&self) -> u64 {
        self.wasted
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
            let ahead = walk.step(place, 1000);
            assert!(ahead.is_empty() || ahead.start > place);
            assert!(ahead.len() <= MOST);
            fetched.extend(ahead);
        }
        // The first two steps find out that it is a walk.
        assert_eq!(fetched, (12..1000).collect::<Vec<_>>());
        assert_eq!(walk.wasted(), 0);
    }

    #[test]
    fn single_files_cost_nothing() {
        let mut walk = Walk::default();
        for place in [5, 90, 17, 60, 3, 44] {
            assert!(walk.step(place, 100).is_empty());
        }
    }

    #[test]
    fn waste_is_counted_and_backs_off() {
        let mut walk = Walk::default();
        let mut run = |from: usize| (from..from + 8).map(|p| walk.step(p, 100_000).len()).sum::<usize>();
        let first = run(0);
        let later: Vec<usize> = (1..6).map(|n| run(n * 1000)).collect();
        assert!(first > 60 && later.windows(2).all(|w| w[1] <= w[0]), "{first} {later:?}");
        assert!(*later.last().unwrap() <= 10);
        assert!(walk.wasted() > 60);
    }
}
