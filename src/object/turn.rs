//! Turns of the scans of large objects.
//!
//! As many scans as there are cores gain nothing from one more beside them, and each of them has a part of the cache to
//! itself: eight at once would only evict each other's text. A slow line must not keep others waiting for long, so nobody
//! waits longer than [`LONGEST`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const LONGEST: Duration = Duration::from_secs(2);

pub struct Turns {
    free: Arc<Semaphore>,
    active: AtomicUsize,
}

/// Held while a scan is at work.
pub struct Turn {
    turns: Arc<Turns>,
    /// None for one that did not wait any longer.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Turns { free: Arc::new(Semaphore::new(cores.max(2))), active: AtomicUsize::new(0) })
    }

    pub async fn wait(self: &Arc<Self>) -> Turn {
        let permit = timeout(LONGEST, Arc::clone(&self.free).acquire_owned()).await;
        self.active.fetch_add(1, Ordering::Relaxed);
        Turn { turns: Arc::clone(self), _permit: permit.ok().and_then(Result::ok) }
    }

    /// How many scans are at work.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_more_than_the_cores_waits_but_not_for_ever() {
        let turns = Turns::new(2);
        let (first, _second) = (turns.wait().await, turns.wait().await);
        let start = tokio::time::Instant::now();
        let third = turns.wait().await;
        assert_eq!((start.elapsed(), turns.active()), (LONGEST, 3));
        drop(first);
        assert_eq!(turns.active(), 2);
        let start = tokio::time::Instant::now();
        let _fourth = turns.wait().await;
        assert!(start.elapsed().is_zero(), "a place is free");
        drop(third);
        assert_eq!(turns.active(), 2);
    }
}
