//! The place for bytes that come from the network, shared out among the objects that are fetched.
//!
//! Invariants:
//! * What is on its way has its place, taken before it is asked for; a demand larger than all of it takes all of it.
//! * An object that has something on its way gets more only while at least as much stays free for others, and while none
//!   waits that has nothing. So one alone has half of it, the next half of the rest: those that hang, however they began,
//!   leave some for the next one.
//! * Those that have nothing are served in the order of asking, and the demands of one object in theirs: a later range
//!   that has its place never keeps an earlier one from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, watch};

#[derive(Debug)]
pub struct Flight {
    state: watch::Sender<State>,
    all: u64,
    lanes: AtomicU64,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// Lanes that wait and have nothing on their way.
    empty: VecDeque<u64>,
}

/// One object's part in it.
#[derive(Debug)]
pub struct Lane {
    flight: Arc<Flight>,
    id: u64,
    /// Changes only together with `State::free`, under its lock.
    held: AtomicU64,
    turn: Mutex<()>,
}

/// Room for some bytes, until it is dropped.
#[derive(Debug)]
pub struct Place {
    lane: Arc<Lane>,
    bytes: u64,
}

/// A lane that waits.
struct Waiting<'a>(&'a Lane);

impl Flight {
    pub fn new(bytes: u64) -> Arc<Flight> {
        let state = State { free: bytes, empty: VecDeque::new() };
        Arc::new(Flight { state: watch::Sender::new(state), all: bytes, lanes: AtomicU64::new(0) })
    }

    /// Bytes that are on their way.
    pub fn taken(&self) -> u64 {
        self.all - self.state.borrow().free
    }

    /// For an object that is about to be fetched.
    pub fn lane(self: &Arc<Self>) -> Arc<Lane> {
        let id = self.lanes.fetch_add(1, Ordering::Relaxed);
        Arc::new(Lane { flight: Arc::clone(self), id, held: AtomicU64::new(0), turn: Mutex::new(()) })
    }
}

impl Lane {
    /// Waits for room for `bytes`.
    pub async fn take(self: &Arc<Self>, bytes: u64) -> Place {
        let bytes = bytes.min(self.flight.all);
        let _turn = self.turn.lock().await;
        let mut news = self.flight.state.subscribe();
        let waiting = Waiting(self);
        while !self.try_take(bytes) {
            // The sender lives as long as this lane does.
            let _ = news.changed().await;
        }
        drop(waiting);
        Place { lane: Arc::clone(self), bytes }
    }

    /// Takes them if it may.
    fn try_take(&self, bytes: u64) -> bool {
        let mut fits = false;
        self.flight.state.send_if_modified(|state| {
            let held = self.held.load(Ordering::Relaxed);
            if held == 0 {
                if !state.empty.contains(&self.id) {
                    state.empty.push_back(self.id);
                }
                fits = state.empty.front() == Some(&self.id) && bytes <= state.free;
            } else {
                fits = state.empty.is_empty() && held + bytes <= state.free;
            }
            if fits {
                state.free -= bytes;
                self.held.store(held + bytes, Ordering::Relaxed);
            }
            false
        });
        fits
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Also where nobody waits any longer for the room that it stood in line for: the next one may be served.
        self.0.flight.state.send_if_modified(|state| {
            let before = state.empty.len();
            state.empty.retain(|id| *id != self.0.id);
            state.empty.len() < before
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.flight.state.send_modify(|state| {
            state.free += self.bytes;
            self.lane.held.fetch_sub(self.bytes, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Takes one byte after the other while there is room.
    fn fill(lane: &Arc<Lane>) -> Vec<Place> {
        std::iter::from_fn(|| lane.take(1).now_or_never()).collect()
    }

    #[test]
    fn each_one_leaves_as_much_as_it_has() {
        let flight = Flight::new(16);
        let lanes: Vec<_> = (0..6).map(|_| flight.lane()).collect();
        let held: Vec<_> = lanes.iter().map(fill).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2, 1, 1, 0]);
        assert_eq!(flight.taken(), 16);
        drop(held);
        assert_eq!(flight.taken(), 0);
    }

    /// However the beginnings of several interleave.
    #[test]
    fn those_that_begin_together_leave_room_too() {
        for all in 2..40 {
            let flight = Flight::new(all);
            let lanes: Vec<_> = (0..all.ilog2() as usize).map(|_| flight.lane()).collect();
            let mut places = Vec::new();
            loop {
                let before = places.len();
                places.extend(lanes.iter().filter_map(|lane| lane.take(1).now_or_never()));
                if places.len() == before {
                    break;
                }
            }
            assert!(
                flight.lane().take(1).now_or_never().is_some(),
                "{} of {all} taken by {}",
                places.len(),
                lanes.len()
            );
        }
    }

    #[tokio::test]
    async fn in_the_order_of_asking() {
        let flight = Flight::new(4);
        let (a, b, c) = (flight.lane(), flight.lane(), flight.lane());
        let all = a.take(u64::MAX).await;
        let (mut one, mut two) = (Box::pin(b.take(3)), Box::pin(c.take(1)));
        assert!(one.as_mut().now_or_never().is_none() && two.as_mut().now_or_never().is_none());
        drop(all);
        // `a` has nothing any more, and is behind them.
        assert!(a.take(1).now_or_never().is_none());
        assert!(two.as_mut().now_or_never().is_none(), "it would overtake");
        let three = one.await;
        let last = two.await;
        assert_eq!(flight.taken(), 4);
        // Of one object: the large one first.
        let (mut large, mut small) = (Box::pin(b.take(2)), Box::pin(b.take(1)));
        assert!(large.as_mut().now_or_never().is_none());
        drop(last);
        assert!(small.as_mut().now_or_never().is_none());
        drop(three);
        drop(large.await);
        drop(small.await);
    }

    /// Who gives up makes way for who stands behind.
    #[tokio::test]
    async fn giving_up() {
        let flight = Flight::new(4);
        let (a, b, c) = (flight.lane(), flight.lane(), flight.lane());
        let three = a.take(3).await;
        let mut large = Box::pin(b.take(4));
        assert!(large.as_mut().now_or_never().is_none());
        let waiting = tokio::spawn(async move { c.take(1).await.bytes });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(large);
        assert_eq!(waiting.await.unwrap(), 1);
        drop(three);
        assert_eq!(flight.taken(), 0);
    }
}
