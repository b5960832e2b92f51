//! How much is on its way at once: a small object costs little and waits for the network, a large one keeps a core busy
//! and takes memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::err;
use crate::error::{Kind, Result};
use crate::object::head::SMALL;

pub struct Gate {
    permits: Arc<Semaphore>,
    /// What the largest costs.
    most: u32,
}

impl Gate {
    /// Small objects at a time.
    const SMALL_ONES: usize = 32;
    /// What a large object takes: runs that are decrypted and inflated, beside those in flight.
    const LARGE: usize = 16 << 20;

    pub fn new(cores: usize, memory: usize) -> Gate {
        let large = cores.min(memory / Self::LARGE).max(1);
        let permits = Self::SMALL_ONES.max(large);
        Gate { permits: Arc::new(Semaphore::new(permits)), most: u32::try_from(permits / large).unwrap_or(1) }
    }

    /// Waits until an object of this size may be begun; it is under way until the permit is dropped.
    pub async fn turn(&self, size: u64) -> Result<OwnedSemaphorePermit> {
        let cost = u32::try_from(size.div_ceil(SMALL)).unwrap_or(u32::MAX).clamp(1, self.most);
        let turn = Arc::clone(&self.permits).acquire_many_owned(cost).await;
        turn.map_err(|e| err!(Kind::Internal, "no more turns: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// How many objects of this size are let in at once.
    fn let_in(cores: usize, memory: usize, size: u64) -> usize {
        let gate = Gate::new(cores, memory);
        let mut turns = Vec::new();
        while let Some(turn) = gate.turn(size).now_or_never() {
            turns.push(turn.unwrap());
        }
        turns.len()
    }

    #[test]
    fn many_small_ones_and_a_few_large_ones() {
        const GIB: u64 = 1 << 30;
        assert_eq!([1, 4, 96].map(|cores| let_in(cores, 2 << 30, 1000)), [32, 32, 96]);
        assert_eq!([1, 3, 4, 96].map(|cores| let_in(cores, 2 << 30, GIB)), [1, 3, 4, 96]);
        assert_eq!(let_in(96, 256 << 20, GIB), 16, "memory is the bound");
        assert_eq!(let_in(4, 32 << 20, u64::MAX), 2);
        assert_eq!(let_in(4, 256 << 20, 0), 32);
    }
}
