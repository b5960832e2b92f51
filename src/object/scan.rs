//! A scan of one object version: its pass in the background (see `pass`), and random access into what it has proven.
//!
//! Invariant: text leaves [`Scan::read`] only when it is released: with `--verify full` after the tag has held. What the
//! cache no longer has is made again from a seek point and from ciphertext that verify has digested.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::cache::{CacheKey, Part};
use super::digest::{Digest, Digests};
use super::head::{Head, unauthenticated_damage};
use super::proof::Seal;
use super::segment::Segments;
use super::shelf::Shelf;
use super::stretch::Load;
use super::{Listed, Shared, Verify};
use crate::err;
use crate::error::{Error, Kind, Result};

/// Unit of the ciphertext digests: what a random read fetches at least. The format of proofs (`proof`) has it too.
pub const CHUNK: u64 = 64 << 10;
/// Unit of a scan's ranged GETs.
pub const RUN: u64 = 32 * CHUNK;
/// The most that the kernel asks for at once (256 pages).
const LARGEST_READ: u64 = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Stands for "further than any run": whoever waits for the other task need not wait any longer.
pub(super) const STOPPED: u64 = u64::MAX;

/// How far a scan has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Runs whose digests are known; [`STOPPED`] when verify has failed.
    pub(super) verified: u64,
    /// Runs that the decoder is through with; [`STOPPED`] when it has failed.
    pub(super) consumed: u64,
    /// Text may be handed out (the tag has held, or `--verify stream`).
    pub(super) released: bool,
    /// Bytes of text that are readable once released.
    pub(super) decoded: u64,
    /// Somebody takes the text away as it is released: so far, up to here.
    pub(super) follower: Option<u64>,
    /// The end: the exact size, or why there is none.
    pub done: Option<Result<u64>>,
    /// When it came to that.
    ended: Option<Instant>,
}

pub struct Scan {
    pub(super) number: u64,
    pub(super) object: Arc<Listed>,
    pub(super) shared: Arc<Shared>,
    pub(super) head: Arc<Head>,
    pub(super) digester: Digests,
    pub(super) digests: RwLock<Vec<Digest>>,
    pub(super) segments: RwLock<Segments>,
    pub(super) progress: watch::Sender<Progress>,
    /// End of the furthest read so far: what the decoder keeps text for.
    pub(super) reader: AtomicU64,
    /// Consumed runs left in the cache, since not all of their text is there.
    pub(super) kept: AtomicU64,
    pub(super) loads: Mutex<std::collections::HashMap<u64, Load>>,
    /// Room for its segments that are being made, in KiB.
    pub(super) making: Semaphore,
    reserved: AtomicUsize,
    /// This object's part of the cache folder.
    pub(super) shelf: Option<Arc<Shelf>>,
    /// That of the proof that this scan goes by. It is large, and most scans have none.
    pub(super) seal: Option<Box<Seal>>,
    /// The proof is gone.
    pub(super) lost: AtomicBool,
}

impl Scan {
    /// Starts the pass in the background.
    pub fn start(shared: &Arc<Shared>, object: &Arc<Listed>, head: Arc<Head>) -> Result<Arc<Scan>> {
        let shelf = Shelf::of(shared, object, &head);
        let scan = Arc::new(Scan::new(shared, object, head, Digests::new()?, shelf));
        if shared.policy.verify == Verify::Stream {
            scan.progress.send_modify(|p| p.released = true);
        }
        let task = Arc::clone(&scan);
        tokio::spawn(async move {
            let done = task.run().await.map_err(|e| task.explain(e));
            if let Ok(size) = &done {
                task.remember(*size);
            }
            task.progress.send_modify(|p| (p.done, p.ended) = (Some(done), Some(Instant::now())));
        });
        Ok(scan)
    }

    /// A pass that has ended well some time before, from its proof in the cache folder.
    pub async fn recall(shared: &Arc<Shared>, object: &Arc<Listed>, head: &Arc<Head>) -> Option<Arc<Scan>> {
        let shelf = Shelf::of(shared, object, head)?;
        let (proof, seal) = shelf.recall().await?;
        let size = proof.size;
        // The scan will say why not.
        head.allow(&shared.policy, size).ok()?;
        let segments = Segments::recalled(&proof.points, size);
        let mut scan = Scan::new(shared, object, Arc::clone(head), Digests::with(proof.key), Some(shelf));
        scan.reserve(proof.digests.len() * size_of::<Digest>() + segments.cost());
        scan.progress.send_modify(|p| {
            let (verified, consumed) = (head.total.div_ceil(RUN), STOPPED);
            let (released, done) = (true, Some(Ok(size)));
            *p = Progress { verified, consumed, released, decoded: size, done, ..Progress::default() };
        });
        scan.digests = RwLock::new(proof.digests);
        scan.segments = RwLock::new(segments);
        scan.seal = Some(Box::new(seal));
        Some(Arc::new(scan))
    }

    fn new(
        shared: &Arc<Shared>,
        object: &Arc<Listed>,
        head: Arc<Head>,
        digester: Digests,
        shelf: Option<Arc<Shelf>>,
    ) -> Scan {
        Scan {
            number: shared.next_scan(),
            object: Arc::clone(object),
            shared: Arc::clone(shared),
            head,
            digester,
            digests: RwLock::default(),
            segments: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            reader: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            loads: Mutex::default(),
            making: Semaphore::new((shared.cache.own_share() >> 10) as usize),
            reserved: AtomicUsize::new(0),
            shelf,
            seal: None,
            lost: AtomicBool::new(false),
        }
    }

    /// It was recalled, and its proof is gone since: only a new pass helps.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub fn done(&self) -> Option<Result<u64>> {
        self.progress.borrow().done.clone()
    }

    /// It ended with a failure of the storage, so long ago.
    pub fn broken(&self) -> Option<Duration> {
        let progress = self.progress.borrow();
        let failed = progress.done.as_ref()?.as_ref().is_err_and(|e| !e.kind().is_verdict());
        progress.ended.filter(|_| failed).map(|at| at.elapsed())
    }

    /// Waits for the end of the pass: the exact size.
    pub async fn size(&self) -> Result<u64> {
        self.wait(|p| p.done.clone()).await?
    }

    /// Text from `offset`, `len` bytes of it or up to the end of the file.
    pub async fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Bytes> {
        let wanted = offset.saturating_add(len as u64);
        if self.reader.fetch_max(wanted, Ordering::Relaxed) < wanted {
            // A decoder that waits for its follower goes on for a reader.
            self.progress.send_if_modified(|p| p.follower.is_some());
        }
        let end = self
            .wait(|p| match &p.done {
                _ if p.released && p.decoded >= wanted => Some(Ok(wanted)),
                Some(Ok(size)) => Some(Ok(wanted.min(*size))),
                Some(Err(e)) => Some(Err(e.clone())),
                None => None,
            })
            .await??;
        if offset >= end {
            return Ok(Bytes::new());
        }
        let first = self.piece(offset, end).await?;
        if first.len() as u64 == end - offset {
            return Ok(first);
        }
        let mut out = Vec::with_capacity((end - offset) as usize);
        out.extend_from_slice(&first);
        while offset + (out.len() as u64) < end {
            out.extend_from_slice(&self.piece(offset + out.len() as u64, end).await?);
        }
        Ok(out.into())
    }

    /// The released text from `offset` to the end of its segment, once the scan has come there. None at the end, after a
    /// failure, and when what is left would have to be fetched again.
    pub async fn next_released(self: &Arc<Self>, offset: u64) -> Option<Bytes> {
        let there = |p: &Progress| match &p.done {
            _ if p.released && p.decoded > offset => Some(true),
            Some(_) => Some(false),
            None => None,
        };
        if !self.wait(there).await.ok()? {
            return None;
        }
        self.reader.fetch_max(offset, Ordering::Relaxed);
        let (here, last) = self.read_segments(|s| (s.find(offset), s.len()));
        let here = here?;
        // To fetch it all again would be too much for one who may never read it.
        if self.done().is_some() && !self.is_at_hand(here) {
            return None;
        }
        // What was dropped before its release comes back on all cores.
        for index in here + 1..(here + self.shared.cpu.cores()).min(last) {
            drop(self.segment(index, None));
        }
        let (start, load) = self.segment(here, None).ok()?;
        let text = load.text().await.ok()?;
        self.is_ahead(start + text.len() as u64).await;
        let from = (offset - start) as usize;
        (from < text.len()).then(|| text.slice(from..))
    }

    /// Waits until the scan is so far beyond `end` that any read of the kernel that begins before it can be answered, whatever
    /// S3 does; or has ended, or waits for the follower itself.
    async fn is_ahead(&self, end: u64) {
        let there = |p: &Progress| {
            (p.done.is_some() || p.decoded >= end.saturating_add(LARGEST_READ) || self.is_too_far(p)).then_some(())
        };
        // Not all that `is_too_far` looks at is told.
        while tokio::time::timeout(LOOK_AGAIN, self.wait(there)).await.is_err() {}
    }

    /// From now on, until this is dropped, the decoder waits for the caller of [`Scan::handed_on`] rather than drop text.
    pub fn following(self: &Arc<Self>) -> Following {
        self.progress.send_modify(|p| p.follower = Some(0));
        Following(Arc::clone(self))
    }

    /// The follower is through with the segment that ends at `end`, which is kept elsewhere from now on unless some of it was
    /// left out.
    pub fn handed_on(&self, end: u64, left_out: bool) {
        if !left_out && let Some(start) = self.read_segments(|s| s.start_of(s.find(end.checked_sub(1)?)?)) {
            self.shared.cache.remove(self.key(Part::Segment(start)));
        }
        self.progress.send_modify(|p| p.follower = Some(end));
    }

    /// Waits until `test` says something. This ends: every request that a scan waits for has its deadline.
    pub(super) async fn wait<T>(&self, test: impl Fn(&Progress) -> Option<T>) -> Result<T> {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(answer) = test(&progress.borrow_and_update()) {
                return Ok(answer);
            }
            if progress.changed().await.is_err() {
                return Err(err!(Kind::Internal, "the scan is gone"));
            }
        }
    }

    /// An error as a reader of an open file gets it.
    pub(super) fn explain(&self, e: Error) -> Error {
        let e = match e.kind() {
            Kind::NotFound => err!(Kind::Stale, "deleted since it was opened"),
            // One and the same error for every damage, the padding's too.
            kind if !self.head.authenticated && kind.is_verdict() => unauthenticated_damage(),
            _ => e,
        };
        e.about(&self.object.key)
    }

    pub(super) fn key(&self, part: Part) -> CacheKey {
        CacheKey { scan: self.number, part }
    }

    pub(super) fn reserve(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.shared.cache.reserve(bytes);
    }

    pub(super) fn unreserve(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.cache.release(bytes);
    }

    pub(super) fn read_segments<T>(&self, look: impl FnOnce(&Segments) -> T) -> T {
        look(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.shared.cache.release(*self.reserved.get_mut());
    }
}

/// See [`Scan::following`].
pub struct Following(Arc<Scan>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.progress.send_modify(|p| p.follower = None);
    }
}
