//! How many LISTs may be on their way at once.
//!
//! Invariant: who passes a share holds a place of the whole too, and takes the place of the share first; so who waits for a
//! share holds up nobody else.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub struct Gate {
    whole: Arc<Semaphore>,
    share: Option<Arc<Semaphore>>,
}

/// A place; free again when it is dropped.
pub struct Permit {
    _share: Option<OwnedSemaphorePermit>,
    _whole: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub fn new(places: usize) -> Gate {
        Gate { whole: Arc::new(Semaphore::new(places)), share: None }
    }

    /// The same gate, for those who may have so many of its places only.
    pub fn share(&self, places: usize) -> Gate {
        Gate { whole: Arc::clone(&self.whole), share: Some(Arc::new(Semaphore::new(places))) }
    }

    pub async fn pass(&self) -> Permit {
        // Nothing closes a semaphore, which is its only error.
        let place = async |of: &Arc<Semaphore>| Arc::clone(of).acquire_owned().await.ok();
        let share = match &self.share {
            Some(share) => place(share).await,
            None => None,
        };
        Permit { _share: share, _whole: place(&self.whole).await }
    }
}
