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
        let most = self.most_ahead(want, &tree);
        let next = self.walks.with(&id, |way| way.step(item.place(), &tree, most, order));
        let (Next::InOrder(places) | Next::Around(places)) = &next;
        let fetched = places.iter().copied().filter(|place| self.fetch_one(want, &tree, *place));
        let fetched: Vec<usize> = fetched.take(most).collect();
        if !fetched.is_empty() {
            self.walks.with(&id, |way| match next {
                Next::InOrder(_) => way.fetched_in_order(&fetched),
                Next::Around(_) => way.blocks.fetched(&fetched),
            });
        }
    }

    /// False: there was nothing to fetch.
    fn fetch_one(&self, want: Want, tree: &ResourceTree, place: usize) -> bool {
        let Some(object) = tree.item(place).map(|item| listed(&item)) else { return false };
        let remembered = self.remembered.get(&object, tree.serial());
        let file = || self.objects.find(&object);
        let is_there = match want {
            Want::Attributes => remembered.is_some() || file().is_some_and(|file| file.known_head().is_some()),
            Want::Text => {
                remembered.is_some_and(|state| state.reason().is_some()) || file().is_some_and(|file| file.is_warm())
            }
        };
        if is_there {
            return false;
        }
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

    /// Text that does not fit the budget would be gone before it is asked for.
    fn most_ahead(&self, want: Want, tree: &ResourceTree) -> usize {
        /// Ciphertext that becomes about a fourth of the budget.
        const PART: u64 = 32;
        let each = (tree.bytes() / tree.len().max(1) as u64).clamp(1, crate::object::head::SMALL);
        match want {
            Want::Attributes => MOST,
            Want::Text => {
                usize::try_from(self.objects.memory() as u64 / PART / each).map_or(MOST, |n| n.clamp(2, MOST))
            }
        }
    }
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
    fn step(&mut self, place: usize, tree: &ResourceTree, most: usize, order: impl FnOnce() -> Option<Order>) -> Next {
        if self.serial != tree.serial() {
            (self.serial, self.tries) = (tree.serial(), Self::TRIES);
            self.blocks.restart();
            if self.order.take().is_some() {
                self.walk.restart();
            }
        }
        if let Some(range) = self.walk.step(self.rank(place), tree.len(), most) {
            self.blocks.asked(place);
            let place = |rank| self.order.as_ref().and_then(|order| order.place(rank)).unwrap_or(rank);
            return Next::InOrder(range.map(place).collect());
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
                self.walk.step(self.rank(place), tree.len(), most);
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

    fn rank(&self, place: usize) -> usize {
        self.order.as_ref().and_then(|order| order.rank(place)).unwrap_or(place)
    }
}
