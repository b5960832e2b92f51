//! Requests that wait for each other: that so many are on their way at once is seen without a clock.

use std::sync::Arc;

use tokio::sync::watch;

/// After the first `free` requests each waits until `together` have been on their way at once.
pub struct Gate {
    counts: watch::Sender<Counts>,
    free: usize,
    together: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub seen: usize,
    now: usize,
    /// On their way at once, at most.
    pub most: usize,
}

/// A request on its way, until this is dropped.
pub struct Passing(Arc<Gate>);

impl Gate {
    pub fn new(free: usize, together: usize) -> Arc<Gate> {
        Arc::new(Gate { counts: watch::Sender::default(), free, together })
    }

    pub async fn pass(self: &Arc<Self>) -> Passing {
        let mut seen = 0;
        self.counts.send_modify(|c| {
            (c.seen, c.now) = (c.seen + 1, c.now + 1);
            c.most = c.most.max(c.now);
            seen = c.seen;
        });
        let passing = Passing(Arc::clone(self));
        if seen > self.free {
            // The sender is in `self`.
            self.counts.subscribe().wait_for(|c| c.most >= self.together).await.unwrap();
        }
        passing
    }

    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.counts.send_modify(|c| c.now -= 1);
    }
}
