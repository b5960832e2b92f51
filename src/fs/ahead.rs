//! What a walk is going to ask for next, fetched before it does: heads for who asks for attributes, text for who opens.
//!
//! Invariants: nothing that is remembered, or in memory, is fetched; what is fetched ahead never makes anybody wait, and its
//! failures are told to nobody: they are found again by who asks for the file. Nor does anybody wait for an [`Order`]: it is
//! found out, and freed, on a thread of its own and under no lock; until it is there, files are fetched as if there were none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::Blocks;
use super::order::Order;
use super::remembered::State;
use super::room::Room;
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
pub struct Walks {
    ways: Mutex<HashMap<Id, Way>>,
    /// One order is found out at a time: nobody waits for it, so it is to take no more than one core from those who do wait.
    turn: tokio::sync::Mutex<()>,
}

type Id = (Place, Want);

/// What places are of.
#[derive(Clone, Copy, Debug)]
struct Listing {
    serial: u64,
    files: usize,
}

#[derive(Default)]
struct Way {
    walk: Walk,
    blocks: Blocks,
    /// Of the listing that places are of.
    serial: u64,
    /// That in which folders are gone through, if it is not the listing's.
    order: Option<Order>,
    /// One that nobody goes by any more. To free it takes milliseconds where files are a million.
    left: Option<Order>,
    /// Orders that will still be tried for this listing.
    tries: u32,
    /// One is being found out, perhaps for an older listing.
    is_seeking: bool,
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
        let size = |place| tree.get(place).map_or(0, |item| item.size());
        let room = match want {
            Want::Attributes => Room::for_attributes(),
            Want::Text => Room::for_text(self.objects.memory(), &size),
        };
        let listing = Listing { serial: tree.serial(), files: tree.len() };
        let find = {
            let (nodes, tree, (stack, resource)) = (Arc::clone(&self.nodes), Arc::clone(&tree), id.0.clone());
            move || Order::by_inode(&nodes, &tree, &stack, &resource)
        };
        let next = self.walks.step(&id, item.place(), listing, room, find);
        let (Next::InOrder(places) | Next::Around(places)) = &next;
        let missing = places.iter().copied().filter(|place| self.is_missing(want, &tree, *place));
        let missing: Vec<usize> = missing.take(MOST).collect();
        let most = room.fitting(missing.iter().copied());
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

impl Walks {
    /// The file at `place` is asked for; `find` finds out the other order.
    fn step<F>(self: &Arc<Self>, id: &Id, place: usize, listing: Listing, room: Room<'_>, find: F) -> Next
    where
        F: FnOnce() -> Option<Order> + Send + 'static,
    {
        let step = |way: &mut Way| (way.step(place, listing, room), way.seek(), way.left.take());
        let (next, is_wanted, left) = self.with(id, step);
        if left.is_some() {
            tokio::task::spawn_blocking(move || drop(left));
        }
        if is_wanted {
            let (walks, id) = (Arc::clone(self), id.clone());
            tokio::spawn(async move {
                let _turn = walks.turn.lock().await;
                let order = tokio::task::spawn_blocking(find).await.ok().flatten();
                let unwanted = walks.with(&id, |way| way.found(listing.serial, order));
                // Not before the lock is free.
                drop(unwanted);
            });
        }
        next
    }

    fn with<T>(&self, id: &Id, act: impl FnOnce(&mut Way) -> T) -> T {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        act(ways.entry(id.clone()).or_default())
    }

    /// How many were fetched ahead, and how many of them turned out to be for nothing.
    pub fn totals(&self) -> (u64, u64) {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let all = ways.values().flat_map(|way| [way.walk.totals(), way.blocks.totals()]);
        all.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }
}

impl Way {
    /// Times that another order is tried for one listing: to find it takes a hash for each entry.
    const TRIES: u32 = 4;

    /// The file at `place` is asked for.
    fn step(&mut self, place: usize, listing: Listing, room: Room<'_>) -> Next {
        if self.serial != listing.serial {
            (self.serial, self.tries) = (listing.serial, Self::TRIES);
            self.blocks.restart();
            self.leave();
        }
        let rank = self.rank(place);
        let most = room.fitting((rank + 1..listing.files).map(|rank| self.place(rank)));
        if let Some(range) = self.walk.step(rank, listing.files, most) {
            self.blocks.asked(place);
            return Next::InOrder(range.map(|rank| self.place(rank)).collect());
        }
        if self.walk.is_lost() {
            self.leave();
        }
        // This one is being fetched anyway.
        Next::Around(self.blocks.step(place, listing.files).filter(|other| *other != place).collect())
    }

    /// Goes on in the order of the listing.
    fn leave(&mut self) {
        if let Some(order) = self.order.take() {
            self.left = Some(order);
            self.walk.restart();
        }
    }

    /// Whether another order is to be found out now. If so, [`Way::found`] is to follow whatever comes of it.
    fn seek(&mut self) -> bool {
        if self.is_seeking || self.tries == 0 || !self.wants_order() {
            return false;
        }
        self.tries -= 1;
        self.is_seeking = true;
        true
    }

    fn wants_order(&self) -> bool {
        self.order.is_none() && self.walk.is_lost()
    }

    /// An order was found out, or that there is none; returns the one that is not wanted, as meanwhile there is another listing,
    /// or files are asked for in the order of this one.
    fn found(&mut self, serial: u64, order: Option<Order>) -> Option<Order> {
        self.is_seeking = false;
        if serial != self.serial {
            return order;
        }
        if order.is_none() {
            self.tries = 0;
        }
        if !self.wants_order() {
            return order;
        }
        self.order = order;
        if self.order.is_some() {
            self.walk.restart();
        }
        None
    }

    fn fetched_in_order(&mut self, places: &[usize]) {
        for place in places {
            self.walk.fetched(self.rank(*place));
        }
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
    use std::sync::mpsc;
    use std::time::Duration;

    const FILES: usize = 1000;
    const LISTING: Listing = Listing { serial: 1, files: FILES };
    const NEWER: Listing = Listing { serial: 2, ..LISTING };
    /// How long to wait for what a test does not do in time because it waits itself.
    const LIMIT: Duration = Duration::from_secs(300);

    /// The file that is asked for as this one; neighbours in this order are none in that of the listing.
    fn place(rank: usize) -> usize {
        rank * 387 % FILES
    }

    fn order() -> Option<Order> {
        Some(Order::new((0..FILES).map(|rank| place(rank) as u32).collect()))
    }

    /// Orders that take as long to be found out as the test wants.
    struct Walkers {
        walks: Arc<Walks>,
        begin: tokio::sync::mpsc::UnboundedSender<()>,
        begun: tokio::sync::mpsc::UnboundedReceiver<()>,
        end: mpsc::Sender<Option<Order>>,
        ended: Arc<Mutex<mpsc::Receiver<Option<Order>>>>,
    }

    impl Walkers {
        fn new() -> Walkers {
            let ((begin, begun), (end, ended)) = (tokio::sync::mpsc::unbounded_channel(), mpsc::channel());
            Walkers { walks: Arc::default(), begin, begun, end, ended: Arc::new(Mutex::new(ended)) }
        }

        fn id(resource: &str) -> Id {
            (("prod".into(), resource.into()), Want::Attributes)
        }

        /// Asks for these; returns what was fetched in order.
        fn ask(&self, resource: &str, listing: Listing, places: impl IntoIterator<Item = usize>) -> Vec<usize> {
            let id = Self::id(resource);
            let mut fetched = Vec::new();
            for place in places {
                let (begin, ended) = (self.begin.clone(), Arc::clone(&self.ended));
                let find = move || {
                    begin.send(()).ok();
                    ended.lock().unwrap().recv_timeout(LIMIT).ok().flatten()
                };
                if let Next::InOrder(next) = self.walks.step(&id, place, listing, Room::for_attributes(), find) {
                    self.walks.with(&id, |way| way.fetched_in_order(&next));
                    fetched.extend(next);
                }
            }
            fetched
        }

        /// Until nothing goes on any more: the clock stands still as long as a thread is busy.
        async fn settle(&self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        fn has_order(&self, resource: &str) -> bool {
            self.walks.with(&Self::id(resource), |way| way.order.is_some())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_an_order_is_found_out() {
        let mut test = Walkers::new();
        assert!(test.ask("a", LISTING, (0..20).map(place)).is_empty());
        test.begun.recv().await;
        assert_eq!(test.ask("b", LISTING, 0..20).len(), 18 + MOST, "another walk");
        assert!(
            test.ask("a", LISTING, (20..40).map(place)).is_empty(),
            "the same walk, as if there were no other order"
        );
        assert!(!test.has_order("a"));
        test.end.send(order()).unwrap();
        test.settle().await;
        let fetched = test.ask("a", LISTING, (40..100).map(place));
        assert_eq!(fetched, (42..100 + MOST).map(place).collect::<Vec<_>>());
        assert!(test.begun.try_recv().is_err(), "more than one at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_of_an_old_listing_is_not_taken() {
        let mut test = Walkers::new();
        test.ask("a", LISTING, (0..20).map(place));
        test.begun.recv().await;
        test.ask("a", NEWER, (20..40).map(place));
        test.end.send(order()).unwrap();
        test.settle().await;
        assert!(!test.has_order("a") && test.begun.try_recv().is_err());
        // One of its own is found out after that.
        test.end.send(order()).unwrap();
        test.ask("a", NEWER, (40..41).map(place));
        test.settle().await;
        assert!(test.has_order("a") && test.begun.try_recv().is_ok());
        // That the old one has none says nothing either.
        test.ask("b", LISTING, (0..20).map(place));
        test.begun.recv().await;
        test.ask("b", NEWER, (20..40).map(place));
        test.end.send(None).unwrap();
        test.settle().await;
        test.end.send(order()).unwrap();
        test.ask("b", NEWER, (40..41).map(place));
        test.settle().await;
        assert!(test.has_order("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_is_not_wanted_any_more_is_not_kept() {
        let mut test = Walkers::new();
        test.ask("a", LISTING, (0..20).map(place));
        test.begun.recv().await;
        assert!(!test.ask("a", LISTING, 0..20).is_empty());
        test.end.send(order()).unwrap();
        test.settle().await;
        assert!(!test.has_order("a"));
        assert_eq!(test.ask("a", LISTING, 20..30).len(), 10, "the walk goes on");
        // One that was taken is given up with the walk, and with the listing.
        for (listing, steps) in [(LISTING, 9), (NEWER, 1)] {
            test.ask("b", LISTING, (0..20).map(place));
            test.end.send(order()).unwrap();
            test.settle().await;
            assert!(test.has_order("b"));
            test.ask("b", listing, (0..steps).map(|n| n * 271 % FILES));
            assert!(!test.has_order("b"));
        }
    }

    /// No order fits; or there is none.
    #[tokio::test(start_paused = true)]
    async fn orders_are_tried_a_few_times_for_each_listing() {
        for (is_there, tries) in [(true, Way::TRIES as usize), (false, 1)] {
            let mut test = Walkers::new();
            for listing in [LISTING, NEWER] {
                for n in 0..200 {
                    test.end.send(order().filter(|_| is_there)).unwrap();
                    test.ask("a", listing, [n * 271 % FILES]);
                    test.settle().await;
                }
                let begun = std::iter::from_fn(|| test.begun.try_recv().ok()).count();
                assert_eq!(begun, tries, "{listing:?}");
            }
        }
    }
}
