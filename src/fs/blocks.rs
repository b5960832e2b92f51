//! Reading in no order at all: when many files of a stretch are asked for, the rest of it is fetched too.
//!
//! A stretch is 64 neighbours in the listing. When a fourth of them was asked for, in whatever order, the others are likely
//! to be next (several programs at once, each in an order of its own; files in the order of their sizes). So what is fetched
//! for nothing is at most three times what was asked for. A stretch that was used up earns credit: two more may be fetched
//! as soon as two of their files were asked for. So who goes through everything on several ways soon waits for one request
//! in thirty, and when he stops, no more than [`MOST_CREDIT`] stretches were fetched for nothing.

use std::collections::HashMap;
use std::ops::Range;

use super::walk::MOST;

/// Files asked for before the rest of their stretch is fetched.
const ENOUGH: u32 = 16;
/// The same, for credit.
const ON_CREDIT: u32 = 2;
const MOST_CREDIT: u32 = 8;

#[derive(Debug, Default)]
pub struct Blocks {
    blocks: HashMap<usize, Block>,
    credit: u32,
    ahead: u64,
    wasted: u64,
}

/// A bit for each file.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    asked: u64,
    /// Fetched ahead and not asked for so far.
    fetched: u64,
}

impl Blocks {
    /// The file at `place` of `len` is asked for, out of order; returns the places to fetch now. Some may be known.
    pub fn step(&mut self, place: usize, len: usize) -> Range<usize> {
        self.asked(place);
        let number = place / MOST;
        let block = self.blocks.entry(number).or_default();
        block.asked |= 1 << (place % MOST);
        let asked = block.asked.count_ones();
        let on_credit = self.credit > 0 && asked >= ON_CREDIT && block.fetched == 0;
        if asked < ENOUGH && !on_credit {
            return 0..0;
        }
        if asked < ENOUGH {
            self.credit -= 1;
        }
        // The next time it takes as many again.
        block.asked = 0;
        let start = number * MOST;
        start..(start + MOST).min(len)
    }

    /// The file at `place` is asked for, in whatever order.
    pub fn asked(&mut self, place: usize) {
        let Some(block) = self.blocks.get_mut(&(place / MOST)) else { return };
        let before = block.fetched;
        block.fetched &= !(1 << (place % MOST));
        if before != 0 && block.fetched == 0 {
            self.credit = (self.credit + 2).min(MOST_CREDIT);
            self.blocks.remove(&(place / MOST));
        }
    }

    /// Of the places that [`Blocks::step`] gave, these were fetched.
    pub fn fetched(&mut self, places: &[usize]) {
        let Some(block) = places.first().and_then(|place| self.blocks.get_mut(&(place / MOST))) else { return };
        self.ahead += places.len() as u64;
        places.iter().for_each(|place| block.fetched |= 1 << (place % MOST));
    }

    /// From here on places mean something else.
    pub fn restart(&mut self) {
        self.wasted += self.blocks.values().map(|block| u64::from(block.fetched.count_ones())).sum::<u64>();
        self.blocks.clear();
    }

    /// How many were fetched ahead, and how many of them for nothing, as far as that is settled.
    pub fn totals(&self) -> (u64, u64) {
        (self.ahead, self.wasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FILES: usize = 20_000;

    /// Asks for files in this order; returns how many were not there yet, and how many were fetched ahead.
    fn ask(blocks: &mut Blocks, known: &mut HashSet<usize>, order: impl IntoIterator<Item = usize>) -> (usize, usize) {
        let (mut waited, mut ahead) = (0, 0);
        for place in order {
            waited += usize::from(known.insert(place));
            let new: Vec<usize> = blocks.step(place, FILES).filter(|place| known.insert(*place)).collect();
            assert!(new.len() < MOST);
            ahead += new.len();
            blocks.fetched(&new);
        }
        (waited, ahead)
    }

    /// All places, in an order without order.
    fn shuffled() -> impl Iterator<Item = usize> {
        (0..FILES).map(|n| n * 7919 % FILES)
    }

    #[test]
    fn most_of_what_is_asked_for_in_any_order_is_there_already() {
        let (mut blocks, mut known) = (Blocks::default(), HashSet::new());
        let (waited, ahead) = ask(&mut blocks, &mut known, shuffled());
        assert_eq!(waited + ahead, FILES, "each once");
        assert!(waited < FILES * 3 / 10, "{waited}");
        blocks.restart();
        assert_eq!(blocks.totals(), (ahead as u64, 0));
    }

    #[test]
    fn several_ways_at_once_soon_wait_seldom() {
        let (mut blocks, mut known) = (Blocks::default(), HashSet::new());
        let ways = (0..FILES / 4).flat_map(|n| (0..4).map(move |way| way * FILES / 4 + n));
        let (waited, _) = ask(&mut blocks, &mut known, ways);
        assert!(waited < FILES / 25, "{waited}");
    }

    #[test]
    fn waste_is_bounded_by_what_was_asked_for() {
        // One in three of each stretch; one in ten.
        for (step, most) in [(3, 3), (10, 0)] {
            let (mut blocks, mut known) = (Blocks::default(), HashSet::new());
            let some = shuffled().filter(|place| place % step == 0);
            let (_, ahead) = ask(&mut blocks, &mut known, some);
            assert!(ahead <= most * FILES / step, "{ahead}");
        }
        // And what was earned by one who used all is spent once.
        let (mut blocks, mut known) = (Blocks::default(), HashSet::new());
        ask(&mut blocks, &mut known, (0..6400).step_by(2).chain((1..6400).step_by(2)));
        let before = known.len();
        let pairs = (100..300).flat_map(|n| [n * MOST, n * MOST + 1]).filter(|place| *place < FILES);
        let (_, ahead) = ask(&mut blocks, &mut known, pairs);
        assert!(before == 6400 && ahead > 0 && ahead <= MOST_CREDIT as usize * MOST, "{before} {ahead}");
    }
}
