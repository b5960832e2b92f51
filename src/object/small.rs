//! The pass over a small object: one run, which its first request has brought along, verified and then decoded.
//!
//! Invariant: its bytes are in the cache's hands, or have a place in the budget: also while others are at work and this one
//! waits. Many small objects are waited for at once.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::access::Cipher;
use super::cache::Part;
use super::cutter::{Cutter, STEP};
use super::digest::Digest;
use super::scan::Scan;
use crate::error::Result;

impl Scan {
    /// The exact size, if it ends well.
    pub(super) async fn run_small(self: &Arc<Self>) -> Result<u64> {
        let (bytes, _places) = self.body().await?;
        let (scan, input) = (Arc::clone(self), bytes.clone());
        let digests = move || {
            let mut verifier = scan.head.content.verifier(scan.head.total)?;
            verifier.update(&input);
            verifier.finish()?;
            scan.digester.of(0, &input)
        };
        let digests = self.shared.cpu.run(digests).await??;
        self.reserve(digests.len() * size_of::<Digest>());
        *self.digests.write().unwrap_or_else(std::sync::PoisonError::into_inner) = digests;
        self.progress.send_modify(|p| (p.verified, p.released) = (1, true));
        // For readers that come before all of the text is there, and after it was evicted.
        let key = self.key(Part::Run(0));
        self.shared.cache.insert(key, self.shared.pool_for(bytes.len()).compact(bytes.clone()));
        let size = self.decode_small(bytes).await;
        self.shared.cache.demote(key);
        self.progress.send_modify(|p| p.consumed = 1);
        size
    }

    /// All of the object, and its places.
    async fn body(&self) -> Result<(Bytes, [Option<OwnedSemaphorePermit>; 2])> {
        let (cache, total) = (&self.shared.cache, self.head.total);
        let cost = 2 * total + STEP as u64;
        // First a place: what waits stays where it can be evicted.
        let work = cache.work(cost).await;
        if let Some(bytes) = self.head.take_body(cache) {
            return Ok((bytes, [Some(work), None]));
        }
        // Nobody waits for the network with it.
        drop(work);
        let flight = cache.small_flight(total).await;
        let bytes = self.fetch(0..total).await?;
        Ok((bytes, [Some(cache.work(cost).await), Some(flight)]))
    }

    async fn decode_small(self: &Arc<Self>, bytes: Bytes) -> Result<u64> {
        let mut work = Cutter::new(Arc::clone(&self.shared.texts));
        let gzip = 0..self.head.gzip_len;
        if !gzip.is_empty() {
            let cover = self.head.content.cover(gzip.clone(), self.head.total);
            let pieces = vec![bytes.slice(cover.start as usize..cover.end as usize)];
            drop(bytes);
            let scan = Arc::clone(self);
            let decrypt = move || scan.decrypt(gzip, Cipher::Known { pieces, _room: None });
            let plain = self.shared.cpu.run(decrypt).await??;
            (work, _) = self.inflate(work, plain).await?;
        }
        self.finish(work)
    }
}
