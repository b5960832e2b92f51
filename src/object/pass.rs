//! The pass itself: *verify* and *decode*, side by side.
//!
//! Verify takes the ciphertext in order, as parallel ranged GETs bring it: a digest of each chunk, then GHASH. Decode
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
use tokio::task::JoinHandle;

use super::Verify;
use super::cache::Part;
use super::cutter::{Cutter, STEP};
use super::digest::Digest;
use super::running::Running;
use super::scan::{CHUNK, Progress, RUN, STOPPED, Scan};
use super::segment::Segments;
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::SPACING;

/// Ranged GETs of one scan at a time.
const PARALLEL: usize = 8;

/// Steps of the decoder in one visit to the CPU pool.
const STEPS: usize = 8;

/// Idle buffers for text while no large object is scanned, and ready ones while one is.
const IDLE_BUFFERS: usize = 8;
const READY_BUFFERS: usize = 4;

/// How far apart seek points are taken when indexes take so many eighths of the cache: they are the one thing in it that
/// cannot be evicted while its file is open.
fn spacing(eighths: usize) -> u64 {
    SPACING << eighths.min(2)
}

/// A decrypted run, with its place in the budget.
struct Plain {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl Scan {
    /// The whole pass; the exact size if it ends well.
    pub(super) async fn run(self: &Arc<Self>) -> Result<u64> {
        if self.head.is_small() {
            return self.run_small().await;
        }
        let turn = self.shared.turns.wait().await;
        let verify = async {
            let result = self.verify().await;
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
        drop(turn);
        if self.shared.turns.active() == 0 {
            self.shared.texts.trim(IDLE_BUFFERS);
        }
        // A tag that does not hold says more than the gzip error that follows from it.
        verified?;
        decoded
    }

    async fn verify(self: &Arc<Self>) -> Result<()> {
        let total = self.head.total;
        let runs = total.div_ceil(RUN);
        let mut verifier = self.head.content.verifier(total)?;
        let lane = self.shared.cache.lane();
        let fetch = |n: u64| {
            let (scan, lane) = (Arc::clone(self), Arc::clone(&lane));
            async move {
                let range = n * RUN..((n + 1) * RUN).min(total);
                // In order: a later run that has its place must not keep an earlier one from it.
                let place = scan.shared.cache.flight(&lane, range.end - range.start).await;
                // A task of its own goes on while this one computes; not after a failure of another run.
                let scan = Arc::clone(&scan);
                let task = Running(tokio::spawn(async move {
                    let first = n * (RUN / CHUNK);
                    let bytes = scan.fetch(range).await?;
                    if let Some(shelf) = &scan.shelf {
                        shelf.keep(first, bytes.clone());
                    }
                    let (cpu, input) = (scan.shared.cpu.clone(), bytes.clone());
                    let digests = cpu.run(move || scan.digester.of(first, &input)).await??;
                    Ok::<_, Error>((place, bytes, digests))
                }));
                task.await.map_err(|_| err!(Kind::Internal, "a fetch's task panicked"))?
            }
        };
        let mut fetches = stream::iter(0..runs).map(fetch).buffered(PARALLEL);
        let mut n = 0;
        while let Some(fetched) = fetches.next().await {
            let (place, bytes, digests) = fetched?;
            let input = bytes.clone();
            let hash = move || {
                verifier.update(&input);
                verifier
            };
            verifier = self.shared.cpu.run(hash).await?;
            self.reserve(digests.len() * size_of::<Digest>());
            self.digests.write().unwrap_or_else(PoisonError::into_inner).extend(digests);
            drop(place);
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
        // With `--verify stream` the two go side by side, and a few runs are enough.
        let stream = self.shared.policy.verify == Verify::Stream;
        let most = self.runs_share().min(if stream { 2 * PARALLEL as u64 } else { u64::MAX });
        let kept = self.kept.load(Ordering::Relaxed);
        let near = |p: &Progress| (n.saturating_sub(p.consumed).saturating_add(kept) <= most).then_some(());
        if stream && self.wait(near).await.is_err() {
            return;
        }
        if near(&self.progress.borrow()).is_some() {
            // The last run may be short.
            let bytes = self.shared.pool_for(bytes.len()).compact(bytes);
            self.shared.cache.insert(self.key(Part::Run(n as u32)), bytes);
        }
    }

    async fn decode(self: &Arc<Self>) -> Result<u64> {
        // Not made before there is something to do: many scans may be waiting.
        let new = || Cutter::new(Arc::clone(&self.shared.texts));
        let mut cutter = None;
        let runs = self.head.gzip_len.div_ceil(RUN);
        let mut next = None;
        for n in 0..runs {
            let now = next.take().unwrap_or_else(|| self.ahead(n));
            let plain = now.await.map_err(|_| err!(Kind::Internal, "a run's task panicked"))??;
            // While this run is inflated, the next one is decrypted, and another core finds the memory for its text and
            // packs the seek points of the one before.
            next = (n + 1 < runs).then(|| self.ahead(n + 1));
            if runs > 1 {
                let scan = Arc::clone(self);
                tokio::task::spawn_blocking(move || {
                    scan.shared.texts.prepare(READY_BUFFERS);
                    scan.pack_points();
                });
            }
            let work = cutter.take().unwrap_or_else(new);
            let (work, dropped) = self.inflate(work, plain.bytes.clone()).await?;
            cutter = Some(work);
            // It is the first thing that the cache may forget now, unless text of it was dropped before its release: that
            // will be made again, from here rather than from the network.
            if dropped && !self.progress.borrow().released && self.kept.load(Ordering::Relaxed) < self.runs_share() / 2
            {
                self.kept.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shared.cache.demote(self.key(Part::Run(n as u32)));
            }
            self.progress.send_modify(|p| p.consumed = n + 1);
        }
        // What follows the gzip stream in the object (the tag) is verify's alone.
        self.finish(cutter.unwrap_or_else(new))
    }

    /// Inflates a run, visit by visit to the CPU pool; whether text of it was dropped.
    pub(super) async fn inflate(self: &Arc<Self>, mut work: Cutter, gzip: Bytes) -> Result<(Cutter, bool)> {
        let (mut used, mut dropped) = (0, false);
        loop {
            let (scan, input) = (Arc::clone(self), gzip.clone());
            let result;
            (work, used, dropped, result) = self
                .shared
                .cpu
                .run(move || {
                    let result = scan.inflate_run(&mut work, &input, &mut used, &mut dropped);
                    (work, used, dropped, result)
                })
                .await?;
            if result? {
                return Ok((work, dropped));
            }
        }
    }

    /// The end of the gzip stream: how long the text is.
    pub(super) fn finish(self: &Arc<Self>, mut work: Cutter) -> Result<u64> {
        work.finish()?;
        self.publish(&mut work, true);
        if self.read_segments(Segments::len) > 1 {
            let scan = Arc::clone(self);
            tokio::task::spawn_blocking(move || scan.pack_points());
        }
        if let Some(bytes) = work.warning() {
            let key = crate::error::escape(self.object.key.as_bytes());
            log::warn!("{key}: {bytes} bytes after the gzip stream are no gzip and are left out");
        }
        Ok(work.len())
    }

    /// Decrypts run `n` in the background, as soon as verify is through with it.
    fn ahead(self: &Arc<Self>, n: u64) -> JoinHandle<Result<Plain>> {
        let scan = Arc::clone(self);
        tokio::spawn(async move {
            if scan.wait(|p| (p.verified > n && !scan.is_too_far(p)).then_some(p.verified)).await? == STOPPED {
                return Err(err!(Kind::Internal, "verification failed")); // verify's own error is the one reported
            }
            let gzip = n * RUN..((n + 1) * RUN).min(scan.head.gzip_len);
            let cover = scan.head.content.cover(gzip.clone(), scan.head.total);
            let (cipher, permit) = scan.ciphertext_for_work(cover, RUN + STEP as u64).await?;
            let work = Arc::clone(&scan);
            let bytes = scan.shared.cpu.run(move || work.decrypt(gzip, cipher)).await??;
            Ok(Plain { bytes, _permit: permit })
        })
    }

    /// Text that cannot be kept is decoded all the same, for its seek points and the size. But where somebody is about to
    /// take the text away, and not even its ciphertext can be kept any more, waiting is cheaper.
    pub(super) fn is_too_far(&self, p: &Progress) -> bool {
        let share = self.texts_share();
        // The run at work fills the rest.
        let most = share - (share / 4).min(8 * RUN);
        let full = p.released || self.kept.load(Ordering::Relaxed) >= self.runs_share() / 2;
        let awaited = self.reader.load(Ordering::Relaxed) > p.decoded;
        p.verified != STOPPED && full && !awaited && p.follower.is_some_and(|to| p.decoded > to.saturating_add(most))
    }

    /// Inflates from `input[*used..]`, publishing as it goes; false if there is more to do. Gives up its core now and then,
    /// however well the input was compressed.
    fn inflate_run(&self, work: &mut Cutter, input: &[u8], used: &mut usize, dropped: &mut bool) -> Result<bool> {
        work.space(spacing(self.shared.cache.crowding()));
        for _ in 0..STEPS {
            let drained = work.step(input, used).and_then(|drained| {
                self.head.allow(&self.shared.policy, work.out())?;
                Ok(drained)
            });
            *dropped |= !self.publish(work, false);
            if drained? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Packs the seek points that came since the last call.
    pub(super) fn pack_points(&self) {
        let points = self.segments.write().unwrap_or_else(PoisonError::into_inner).take_unpacked();
        for (n, point) in points {
            // A point that cannot be packed serves as it is.
            if let Ok(Some(packed)) = point.packed() {
                self.unreserve(point.cost().saturating_sub(packed.cost()));
                self.segments.write().unwrap_or_else(PoisonError::into_inner).replace(n, packed);
            }
        }
    }

    /// Runs that one scan keeps in the cache at most.
    fn runs_share(&self) -> u64 {
        self.room() / 3 / RUN
    }

    /// Bytes of text that one scan keeps in the cache at most.
    fn texts_share(&self) -> u64 {
        self.room() * 5 / 8
    }

    /// This scan's part of the cache.
    fn room(&self) -> u64 {
        (self.shared.cache.room() / self.shared.turns.active().max(1)) as u64
    }

    /// Makes finished segments readable; all but the last one unless this is the end. False if text was dropped.
    fn publish(&self, work: &mut Cutter, end: bool) -> bool {
        let ready = if end { work.ready.len() } else { work.ready.len().saturating_sub(1) };
        let share = self.texts_share();
        let (mut cost, mut kept) = (0, true);
        for cut in work.ready.drain(..ready) {
            let text = cut.start..cut.start + cut.text.len() as u64;
            // Text that no reader is near is inflated again when somebody comes for it.
            if text.start < self.reader.load(Ordering::Relaxed) + share {
                self.shared.cache.insert(self.key(Part::Segment(cut.start)), cut.text);
            } else {
                kept = false;
            }
            cost += self.segments.write().unwrap_or_else(PoisonError::into_inner).publish(text, cut.point, cut.end);
        }
        self.reserve(cost);
        let decoded = self.read_segments(Segments::decoded);
        self.progress.send_modify(|p| p.decoded = decoded);
        kept
    }
}
