//! Calls about one object (or below one prefix) that failed try again one after the other: the first of them until it is through, and the
//! others, which would meet the same failure, wait for what comes of it. As soon as any of them succeeds, all go on.
//!
//! So a scan, with its ranges in parallel, costs a failing store little more than a single request does; objects do not
//! wait for one another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use tokio::sync::{OwnedMutexGuard, watch};

/// The queues of the objects that fail just now.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_key: Mutex<HashMap<String, Arc<Queue>>>,
}

#[derive(Debug, Default)]
struct Queue {
    first: Arc<tokio::sync::Mutex<()>>,
    successes: watch::Sender<u64>,
}

/// A call's place, from its first failure to its end.
pub(super) struct Place<'a> {
    queues: &'a Queues,
    key: &'a str,
    queue: Arc<Queue>,
    /// As many successes as there were when this call failed.
    seen: u64,
    /// Held by the first in the queue.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Queues {
    pub(super) fn join<'a>(&'a self, key: &'a str) -> Place<'a> {
        let queue = Arc::clone(self.lock().entry(key.to_owned()).or_default());
        let seen = *queue.successes.borrow();
        Place { queues: self, key, queue, seen, turn: None }
    }

    /// A call about this object has succeeded, or has got further.
    pub(super) fn succeeded(&self, key: &str) {
        if let Some(queue) = self.lock().get(key) {
            queue.successes.send_modify(|n| *n += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Queue>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until this call is the first in the queue, or one has succeeded since this one failed.
    pub(super) async fn wait(&mut self) {
        let mut successes = self.queue.successes.subscribe();
        let news = successes.wait_for(|n| *n != self.seen);
        if self.turn.is_none() {
            tokio::select! {
                biased;
                _ = news => {}
                turn = Arc::clone(&self.queue.first).lock_owned() => self.turn = Some(turn),
            }
        } else if news.now_or_never().is_some() {
            self.turn = None;
        }
        self.seen = *self.queue.successes.borrow();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        // The map's and this one.
        if Arc::strong_count(&self.queue) <= 2 {
            queues.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_until_one_succeeds() {
        let queues = Queues::default();
        let (mut a, mut b, mut c) = (queues.join("k"), queues.join("k"), queues.join("other"));
        a.wait().await;
        a.wait().await;
        c.wait().await;
        assert!(b.wait().now_or_never().is_none());
        // Without a success, the end of the first is the turn of the next.
        drop(a);
        b.wait().await;
        let mut d = queues.join("k");
        let mut waiting = Box::pin(d.wait());
        assert!(waiting.as_mut().now_or_never().is_none());
        queues.succeeded("k");
        waiting.await;
        assert!(d.turn.is_none());
        // The next failure counts anew: whoever comes first has the turn.
        b.wait().await;
        d.wait().await;
        assert!(b.turn.is_none() && d.turn.is_some());
        assert!(b.wait().now_or_never().is_none());
        drop((b, c, d));
        assert!(queues.lock().is_empty());
    }
}
