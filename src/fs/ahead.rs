//! What a walk is going to ask for next, fetched before it does: heads for who asks for attributes, text for who opens.
//!
//! Invariants: nothing that is remembered, or in memory, is fetched; what is fetched ahead never makes anybody wait, and its
//! failures are told to nobody: they are found again by who asks for the file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::Blocks;
use super::order::Order;
use super::remembered::State;
use super::walk::{MOST, Walk};
use super::{Fs, Place, listed};
use crate::catalog::{Item, ResourceTree};
use crate::object::head::SMALL;

/// What files are asked for. Text counts as asked for when a program opens a file that is not proven, or reads what the
/// kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    Attributes,
    Text,
}

/// How each resource's files are being asked for.
#[derive(Default)]
pub struct Walks(Mutex<HashMap<(Place, Want), Way>>);

#[derive(Default)]
struct Way {
    walk: Walk,
    blocks: Blocks,
    /// The listing that places are of.
    serial: u64,
    /// That in which folders are gone through, if it is not the listing's.
    order: Option<Order>,
    /// Orders that will still be tried for this listing.
    tries: u32,
}

/// Places to fetch.
enum Next {
    InOrder(Vec<usize>),
    /// In no order.
    Around(Vec<usize>),
}

impl Fs {
    /// A file is asked for: fetches those that are likely to be next.
    pub(super) fn fetch_ahead(&self, want: Want, item: &Item, stack: &Arc<str>, resource: &Arc<str>) {
        let Some(tree) = self.catalog.known_tree(stack, resource) else { return };
        // A newer listing may have it elsewhere.
        if tree.item(item.place()).as_ref() != Some(item) {
            return;
        }
        let id = ((Arc::clone(stack), Arc::clone(resource)), want);
        let order = || Order::by_inode(&self.nodes, &tree, stack, resource);
        let room = (want == Want::Text).then_some(self.objects.memory() as u64 / PART);
        let next = self.walks.with(&id, |way| way.step(item.place(), &tree, room, order));
        let (Next::InOrder(places) | Next::Around(places)) = &next;
        let missing = places.iter().copied().filter(|place| self.is_missing(want, &tree, *place));
        let missing: Vec<usize> = missing.take(MOST).collect();
        let most = fitting(missing.iter().map(|place| size(&tree, *place)), room);
        let fetched: Vec<usize> =
            missing.into_iter().take(most).filter(|place| self.fetch_one(want, &tree, *place)).collect();
        if !fetched.is_empty() {
            self.walks.with(&id, |way| match next {
                Next::InOrder(_) => way.fetched_in_order(&fetched),
                Next::Around(_) => way.blocks.fetched(&fetched),
            });
        }
    }

    fn is_missing(&self, want: Want, tree: &ResourceTree, place: usize) -> bool {
        let Some(object) = tree.item(place).map(|item| listed(&item)) else { return false };
        let remembered = self.remembered.get(&object, tree.serial());
        let file = || self.objects.find(&object);
        !match want {
            Want::Attributes => remembered.is_some() || file().is_some_and(|file| file.known_head().is_some()),
            Want::Text => {
                remembered.is_some_and(|state| state.reason().is_some()) || file().is_some_and(|file| file.is_warm())
            }
        }
    }

    /// False: there is no such file.
    fn fetch_one(&self, want: Want, tree: &ResourceTree, place: usize) -> bool {
        let Some(object) = tree.item(place).map(|item| listed(&item)) else { return false };
        let (file, remembered, listing) = (self.objects.get(&object), Arc::clone(&self.remembered), tree.serial());
        tokio::spawn(async move {
            match want {
                Want::Attributes => {
                    if let Ok(size) = file.size().await {
                        remembered.learn(&object, listing, &State::with(&file, Some(size)));
                    }
                }
                Want::Text => file.warm().await,
            }
        });
        true
    }
}

/// Part of the budget that ciphertext fetched ahead may have: it becomes about a fourth of it. Text that does not fit would be
/// gone before it is asked for.
const PART: u64 = 32;

/// How many files of these sizes, in order, have room. No average of all: large logs may lie side by side among many small ones.
fn fitting(sizes: impl Iterator<Item = u64>, room: Option<u64>) -> usize {
    let Some(mut room) = room else { return MOST };
    let fits = |size: &u64| room.checked_sub((*size).clamp(1, SMALL)).map(|left| room = left).is_some();
    sizes.take(MOST).take_while(fits).count().max(2)
}

fn size(tree: &ResourceTree, place: usize) -> u64 {
    tree.get(place).map_or(0, |item| item.size())
}

impl Walks {
    fn with<T>(&self, id: &(Place, Want), act: impl FnOnce(&mut Way) -> T) -> T {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(ways.entry(id.clone()).or_default())
    }

    /// How many were fetched ahead, and how many of them turned out to be for nothing.
    pub fn totals(&self) -> (u64, u64) {
        let ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = ways.values().flat_map(|way| [way.walk.totals(), way.blocks.totals()]);
        all.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }
}

impl Way {
    /// Times that another order is tried for one listing: to find it takes a hash for each entry.
    const TRIES: u32 = 4;

    /// The file at `place` is asked for; `order` finds out the other order.
    fn step(
        &mut self,
        place: usize,
        tree: &ResourceTree,
        room: Option<u64>,
        order: impl FnOnce() -> Option<Order>,
    ) -> Next {
        if self.serial != tree.serial() {
            (self.serial, self.tries) = (tree.serial(), Self::TRIES);
            self.blocks.restart();
            if self.order.take().is_some() {
                self.walk.restart();
            }
        }
        if let Some(range) = self.walk.step(self.rank(place), tree.len(), self.most(place, tree, room)) {
            self.blocks.asked(place);
            return Next::InOrder(range.map(|rank| self.place(rank)).collect());
        }
        if self.walk.is_lost() {
            if self.order.take().is_some() {
                self.walk.restart();
            } else if self.tries > 0 {
                self.tries -= 1;
                self.order = order();
                match self.order.is_some() {
                    true => self.walk.restart(),
                    false => self.tries = 0,
                }
                self.walk.step(self.rank(place), tree.len(), self.most(place, tree, room));
            }
        }
        // This one is being fetched anyway.
        Next::Around(self.blocks.step(place, tree.len()).filter(|other| *other != place).collect())
    }

    fn fetched_in_order(&mut self, places: &[usize]) {
        for place in places {
            self.walk.fetched(self.rank(*place));
        }
    }

    /// How many files behind this one have room.
    fn most(&self, place: usize, tree: &ResourceTree, room: Option<u64>) -> usize {
        let next = self.rank(place) + 1;
        fitting((next..tree.len()).map(|rank| size(tree, self.place(rank))), room)
    }

    fn place(&self, rank: usize) -> usize {
        self.order.as_ref().and_then(|order| order.place(rank)).unwrap_or(rank)
    }

    fn rank(&self, place: usize) -> usize {
        self.order.as_ref().and_then(|order| order.rank(place)).unwrap_or(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_ahead_is_bounded_in_bytes() {
        const ROOM: u64 = 2 << 20;
        let sizes = [450_000; 600].into_iter().chain([2_000; 9_400]);
        assert_eq!(fitting(sizes.clone(), Some(ROOM)), 4, "their average has 29,000");
        assert_eq!(fitting(sizes.clone().skip(598), Some(ROOM)), MOST);
        // Of larger ones it is the head.
        assert_eq!(fitting([1 << 40; 9].into_iter(), Some(ROOM)), 4);
        assert_eq!(fitting(sizes.clone(), Some(1)), 2, "a walk goes on");
        assert_eq!(fitting(sizes, None), MOST);
        assert_eq!(fitting([5, 5].into_iter(), Some(ROOM)), 2);
    }
}
