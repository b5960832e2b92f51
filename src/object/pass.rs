//! The pass itself: *verify* and *decode*, side by side.
//!
//! Verify takes the ciphertext in order, as parallel ranged GETs bring it: a SHA-256 of each chunk, then GHASH. Decode
//! follows behind it: decrypt, inflate, CRC; its text is cut into segments at seek points. Decode works on bytes whose
//! tag is still unknown, but nothing of it is released before the tag has held (`--verify full`), and every run that it
//! fetches again is first compared with verify's digest.
//!
//! Damage never looks like the end of a file: a segment is published only when the one behind it is complete too, so
//! the last text before any damage stays unreadable.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::Verify;
use super::cache::Part;
use super::cutter::{Cutter, STEP};
use super::scan::{Progress, RUN, STOPPED, Scan, digest};
use super::segment::Segments;
use crate::err;
use crate::error::{Error, Kind, Result};

/// Ranged GETs of one scan at a time.
const PARALLEL: usize = 8;

impl Scan {
    /// The whole pass; the exact size if it ends well.
    pub(super) async fn run(self: &Arc<Self>, body: Option<Bytes>) -> Result<u64> {
        let verify = async {
            let result = self.verify(body).await;
            if result.is_err() {
                self.progress.send_modify(|p| p.verified = STOPPED);
            }
            result
        };
        let decode = async {
            let result = self.decode().await;
            self.progress.send_modify(|p| p.consumed = STOPPED);
            result
        };
        let (verified, decoded) = futures::join!(verify, decode);
        // A tag that does not hold says more than the gzip error that follows from it.
        verified?;
        decoded
    }

    async fn verify(self: &Arc<Self>, body: Option<Bytes>) -> Result<()> {
        let total = self.head.total;
        let runs = total.div_ceil(RUN);
        let mut verifier = self.head.content.verifier(total)?;
        let fetch = |n: u64| {
            let body = body.clone();
            async move {
                let range = n * RUN..((n + 1) * RUN).min(total);
                let permit = self.shared.cache.flight(range.end - range.start).await;
                let bytes = match body {
                    Some(body) => body.slice(range.start as usize..range.end as usize),
                    None => self.fetch(range).await?,
                };
                Ok::<(OwnedSemaphorePermit, Bytes), Error>((permit, bytes))
            }
        };
        let mut fetches = stream::iter(0..runs).map(fetch).buffered(PARALLEL);
        let mut n = 0;
        while let Some(fetched) = fetches.next().await {
            let (permit, bytes) = fetched?;
            let input = bytes.clone();
            let (v, digests) = self
                .shared
                .cpu
                .run(move || {
                    let digests = digest(&input);
                    verifier.update(&input);
                    (verifier, digests)
                })
                .await?;
            verifier = v;
            self.reserve(digests.len() * 32);
            self.digests.write().unwrap_or_else(PoisonError::into_inner).extend(digests);
            drop(permit);
            self.keep_run(n, bytes).await;
            n += 1;
            // The last run counts as verified only when the tag has held: also with `--verify stream` nothing of it
            // is decoded before.
            if n < runs {
                self.progress.send_modify(|p| p.verified = n);
            }
        }
        self.shared.cpu.run(move || verifier.finish()).await??;
        self.progress.send_modify(|p| {
            p.verified = runs;
            p.released = true;
        });
        Ok(())
    }

    /// Keeps a run for the decoder if it is not too far ahead of it. With `--verify stream` it waits instead.
    async fn keep_run(&self, n: u64, bytes: Bytes) {
        let share = (self.shared.cache.room() / 3) as u64;
        let near = |p: &Progress| (n.saturating_sub(p.consumed).saturating_mul(RUN) <= share).then_some(());
        if self.shared.policy.verify == Verify::Stream && self.wait(near).await.is_err() {
            return;
        }
        if near(&self.progress.borrow()).is_some() {
            self.shared.cache.insert(self.key(Part::Run(n as u32)), bytes);
        }
    }

    async fn decode(self: &Arc<Self>) -> Result<u64> {
        let total = self.head.total;
        let mut cutter = Some(Cutter::new(Arc::clone(&self.shared.pool))?);
        for n in 0..total.div_ceil(RUN) {
            if self.wait(|p| (p.verified > n).then_some(p.verified)).await? == STOPPED {
                return Err(err!(Kind::Internal, "verification failed")); // verify's own error is the one reported
            }
            let gzip = n * RUN..((n + 1) * RUN).min(self.head.gzip_len);
            if gzip.start >= gzip.end {
                break;
            }
            let cover = self.head.content.cover(gzip.clone(), total);
            let permit = self.shared.cache.work(RUN + STEP as u64).await;
            let cipher = self.ciphertext(cover).await?;
            let scan = Arc::clone(self);
            let mut input = self.shared.cpu.run(move || scan.decrypt(gzip, &cipher)).await??;
            let mut used = 0;
            let mut drained = false;
            while !drained {
                let Some(mut work) = cutter.take() else { break };
                let result;
                (work, input, used, result) = self
                    .shared
                    .cpu
                    .run(move || {
                        let result = work.step(&input, &mut used);
                        (work, input, used, result)
                    })
                    .await?;
                self.publish(&mut work, false);
                cutter = Some(work);
                drained = result?;
            }
            drop(permit);
            self.shared.cache.remove(self.key(Part::Run(n as u32)));
            self.progress.send_modify(|p| p.consumed = n + 1);
        }
        let Some(mut work) = cutter.take() else { return Err(err!(Kind::Internal, "no decoder")) };
        work.finish()?;
        self.publish(&mut work, true);
        if let Some(bytes) = work.warning() {
            let key = crate::error::escape(self.object.key.as_bytes());
            log::warn!("{key}: {bytes} bytes after the gzip stream are no gzip and are left out");
        }
        Ok(work.len())
    }

    /// Makes finished segments readable; all but the last one unless this is the end.
    fn publish(&self, work: &mut Cutter, end: bool) {
        let ready = if end { work.ready.len() } else { work.ready.len().saturating_sub(1) };
        let share = self.shared.cache.room() as u64 / 2;
        let mut cost = 0;
        for cut in work.ready.drain(..ready) {
            let text = cut.start..cut.start + cut.text.len() as u64;
            // Text that no reader is near is inflated again when somebody comes for it.
            if text.start < self.reader.load(Ordering::Relaxed) + share {
                self.shared.cache.insert(self.key(Part::Segment(cut.start)), cut.text);
            }
            cost += self.segments.write().unwrap_or_else(PoisonError::into_inner).publish(text, cut.point);
        }
        self.reserve(cost);
        let decoded = self.read_segments(Segments::decoded);
        self.progress.send_modify(|p| p.decoded = decoded);
    }
}
