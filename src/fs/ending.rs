//! The end of a mount.
//!
//! Invariant: once it has ended nobody waits any longer: every question has its answer, and no text is on its way to the
//! kernel's page cache. A thread that is, waits for pages that are being read, and not even the end of the process ends that
//! wait: an unanswered read would keep the process, and itself, for ever.

use std::sync::PoisonError;
use std::sync::{RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Fs;

#[derive(Debug, Default)]
pub(super) struct Ends {
    ended: watch::Sender<bool>,
    /// Held, to be read, while text goes to the page cache.
    storing: RwLock<()>,
}

impl Ends {
    /// To be held while text goes to the page cache; none does after the end.
    pub fn storing(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let storing = self.storing.read().unwrap_or_else(PoisonError::into_inner);
        (!*self.ended.borrow()).then_some(storing)
    }
}

impl Fs {
    /// Waits for the end, after which nothing is answered.
    pub async fn ended(&self) {
        // An error says that the sender is gone, which is an end too.
        self.ends.ended.subscribe().wait_for(|ended| *ended).await.ok();
    }

    /// Ends it: answers all who wait, and then waits, though not for long, for what is on its way to the page cache.
    pub async fn end(&self) {
        const MOST: Duration = Duration::from_secs(1);
        self.ends.ended.send_replace(true);
        let stored = async {
            while self.ends.storing.try_write().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(MOST, stored).await.ok();
    }
}
