//! The CPU pool: decrypting, hashing and inflating run here, on at most as many threads as there are cores, and
//! never on a thread that serves the network or the kernel.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::err;
use crate::error::{Kind, Result};

#[derive(Clone)]
pub struct Cpu {
    slots: Arc<Semaphore>,
    cores: usize,
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new(std::thread::available_parallelism().map_or(2, usize::from))
    }
}

impl Cpu {
    pub fn new(cores: usize) -> Self {
        Cpu { slots: Arc::new(Semaphore::new(cores.max(1))), cores: cores.max(1) }
    }

    pub fn cores(&self) -> usize {
        self.cores
    }

    /// A core that has nothing to do, if there is one, until what is returned is dropped.
    pub fn idle(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Runs `work` on the pool. A panic in it is an error here and goes no further.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let _slot = self.slots.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(|_| err!(Kind::Internal, "a worker panicked"))
    }
}
