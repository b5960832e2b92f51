//! A scan of one object version: its pass in the background (see `pass`), and random access into what it has proven.
//!
//! Invariant: text leaves [`Scan::read`] only when it is released: with `--verify full` after the tag has held. What the
//! cache no longer has is made again from a seek point and from ciphertext that verify has digested.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use tokio::sync::watch;

use super::cache::{CacheKey, Part};
use super::cutter::MOST_IDLE;
use super::digest::Digest;
use super::head::{Head, unauthenticated_damage};
use super::segment::{Recipe, Segments};
use super::{Listed, Shared, Verify};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::{Resumed, SeekPoint};
use crate::store::{ByteRange, GetRequest, Part as Body};

/// Unit of the ciphertext digests: what a random read fetches at least.
pub const CHUNK: u64 = 128 << 10;
/// Unit of a scan's ranged GETs.
pub const RUN: u64 = 16 * CHUNK;

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
}

type Load = SharedFuture<BoxFuture<'static, Result<Bytes>>>;

pub struct Scan {
    number: u64,
    pub(super) object: Listed,
    pub(super) shared: Arc<Shared>,
    pub(super) head: Arc<Head>,
    pub(super) digests: RwLock<Vec<Digest>>,
    pub(super) segments: RwLock<Segments>,
    pub(super) progress: watch::Sender<Progress>,
    /// End of the furthest read so far: what the decoder keeps text for.
    pub(super) reader: AtomicU64,
    /// Consumed runs left in the cache, since not all of their text is there.
    pub(super) kept: AtomicU64,
    loads: Mutex<std::collections::HashMap<u64, Load>>,
    reserved: AtomicUsize,
}

impl Scan {
    /// Starts the pass in the background.
    pub fn start(shared: &Arc<Shared>, object: &Listed, head: Arc<Head>) -> Arc<Scan> {
        let body = head.take_body();
        let scan = Arc::new(Scan {
            number: shared.next_scan(),
            object: object.clone(),
            shared: Arc::clone(shared),
            head,
            digests: RwLock::default(),
            segments: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            reader: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            loads: Mutex::default(),
            reserved: AtomicUsize::new(0),
        });
        if shared.policy.verify == Verify::Stream {
            scan.progress.send_modify(|p| p.released = true);
        }
        let task = Arc::clone(&scan);
        tokio::spawn(async move {
            let done = task.run(body).await.map_err(|e| task.explain(e));
            task.progress.send_modify(|p| p.done = Some(done));
        });
        scan
    }

    pub fn done(&self) -> Option<Result<u64>> {
        self.progress.borrow().done.clone()
    }

    /// Waits for the end of the pass: the exact size.
    pub async fn size(&self) -> Result<u64> {
        self.wait(|p| p.done.clone()).await?
    }

    /// Text from `offset`, `len` bytes of it or up to the end of the file.
    pub async fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Bytes> {
        let wanted = offset.saturating_add(len as u64);
        self.reader.fetch_max(wanted, Ordering::Relaxed);
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

    /// The released text from `offset` to the end of its segment, once the scan has come there. None at the end and after
    /// a failure.
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
        // What was dropped before its release comes back on all cores.
        for index in here + 1..(here + self.shared.cpu.cores()).min(last) {
            drop(self.segment(index));
        }
        let (start, load) = self.segment(here).ok()?;
        let text = load.text().await.ok()?;
        let from = (offset - start) as usize;
        (from < text.len()).then(|| text.slice(from..))
    }

    /// From now on, until this is dropped, the decoder waits for the caller of [`Scan::handed_on`] rather than drop text.
    pub fn following(self: &Arc<Self>) -> Following {
        self.progress.send_modify(|p| p.follower = Some(0));
        Following(Arc::clone(self))
    }

    /// The segment that ends at `end` is kept elsewhere from now on.
    pub fn handed_on(&self, end: u64) {
        if let Some(start) = self.read_segments(|s| s.start_of(s.find(end.checked_sub(1)?)?)) {
            self.shared.cache.remove(self.key(Part::Segment(start)));
        }
        self.progress.send_modify(|p| p.follower = Some(end));
    }

    /// Has segments behind `offset` inflated before they are asked for, as many as there are cores.
    pub fn read_ahead(self: &Arc<Self>, offset: u64) {
        if !matches!(&*self.progress.borrow(), Progress { done: Some(Ok(_)), .. }) {
            return;
        }
        let Some(here) = self.read_segments(|s| s.find(offset)) else { return };
        let ahead = self.shared.cpu.cores() * 2;
        let last = self.read_segments(Segments::len);
        for index in here + 1..(here + 1 + ahead).min(last) {
            drop(self.segment(index));
        }
    }

    /// The part of `offset..end` that lies in one segment; never empty.
    async fn piece(self: &Arc<Self>, offset: u64, end: u64) -> Result<Bytes> {
        let index = self.read_segments(|s| s.find(offset));
        let index = index.ok_or_else(|| err!(Kind::Internal, "no segment holds offset {offset}"))?;
        let (start, load) = self.segment(index)?;
        let text = load.text().await.map_err(|e| self.explain(e))?;
        let from = (offset - start) as usize;
        let to = text.len().min((end - start) as usize);
        if from >= to {
            return Err(err!(Kind::Internal, "a segment is shorter than its index says").about(&self.object.key));
        }
        Ok(text.slice(from..to))
    }

    /// Segment `index`: from the cache, or inflated once for all who ask.
    fn segment(self: &Arc<Self>, index: usize) -> Result<(u64, Ready)> {
        let recipe = self.read_segments(|s| s.recipe(index, self.head.gzip_len));
        let recipe = recipe.ok_or_else(|| err!(Kind::Internal, "no segment {index}"))?;
        let start = recipe.text.start;
        let key = self.key(Part::Segment(start));
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = loads.get(&start) {
            return Ok((start, Ready::Later(load.clone())));
        }
        if let Some(text) = self.shared.cache.get(key) {
            return Ok((start, Ready::Now(text)));
        }
        let scan = Arc::clone(self);
        // A task of its own: a reader that gives up does not cancel the others' segment.
        let task = tokio::spawn(async move {
            let result = scan.inflate(recipe).await;
            if let Ok(text) = &result {
                scan.shared.cache.insert(key, text.clone());
            }
            scan.loads.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
            result
        });
        let load = task
            .map(|joined| joined.unwrap_or_else(|e| Err(err!(Kind::Internal, "a segment's task failed: {e}"))))
            .boxed()
            .shared();
        loads.insert(start, load.clone());
        Ok((start, Ready::Later(load)))
    }

    /// Inflates one segment from its seek point.
    async fn inflate(self: &Arc<Self>, recipe: Recipe) -> Result<Bytes> {
        let len = (recipe.text.end - recipe.text.start) as usize;
        let _permit = self.shared.cache.work(len as u64 + (recipe.gzip.end - recipe.gzip.start)).await;
        let cover = self.head.content.cover(recipe.gzip.clone(), self.head.total);
        let cipher = self.ciphertext(cover).await?;
        let scan = Arc::clone(self);
        self.shared
            .cpu
            .run(move || {
                let gzip = scan.decrypt(recipe.gzip, &cipher)?;
                let start = SeekPoint::start();
                let mut decoder = Resumed::new(recipe.point.as_deref().unwrap_or(&start))?;
                let mut text = scan.shared.texts.take();
                text.reserve_exact(len);
                let (mut used, mut idle) = (0, 0);
                while text.len() < len {
                    let rest = gzip.get(used..).unwrap_or_default();
                    let step = decoder.decode_append(rest, &mut text)?;
                    used += step.consumed;
                    idle = if step.consumed + step.produced == 0 { idle + 1 } else { 0 };
                    if idle > MOST_IDLE {
                        return Err(err!(Kind::Internal, "a segment ended early at {} of {len} bytes", text.len()));
                    }
                }
                text.truncate(len);
                Ok(scan.shared.texts.seal(text))
            })
            .await?
    }

    /// Ciphertext of a range that verify has passed, in pieces: from the cache, or fetched again and compared with its
    /// digests.
    pub(super) async fn ciphertext(self: &Arc<Self>, range: Range<u64>) -> Result<Vec<Bytes>> {
        if let Some(pieces) = self.cached_ciphertext(&range) {
            return Ok(pieces);
        }
        let start = range.start / CHUNK * CHUNK;
        let end = (range.end.div_ceil(CHUNK) * CHUNK).min(self.head.total);
        let bytes = self.fetch(start..end).await?;
        let first = (start / CHUNK) as usize;
        let (scan, input) = (Arc::clone(self), bytes.clone());
        let digests = self.shared.cpu.run(move || scan.digest(first as u64, &input)).await??;
        let known = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(first..first + digests.len()) != Some(&digests[..]) {
            return Err(err!(
                Kind::Digest,
                "bytes {start}-{} are not those that were authenticated: the store changed or damaged them",
                end - 1
            ));
        }
        Ok(vec![bytes.slice((range.start - start) as usize..(range.end - start) as usize)])
    }

    fn cached_ciphertext(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        (range.start / RUN..range.end.div_ceil(RUN))
            .map(|n| {
                let run = self.shared.cache.get(self.key(Part::Run(n as u32)))?;
                let within = |at: u64| at.clamp(n * RUN, n * RUN + run.len() as u64) - n * RUN;
                Some(run.slice(within(range.start) as usize..within(range.end) as usize))
            })
            .collect()
    }

    /// The part `range` of the gzip stream; `cipher` is what covers it.
    pub(super) fn decrypt(&self, range: Range<u64>, cipher: &[Bytes]) -> Result<Bytes> {
        let mut buf = self.shared.runs.take_for(cipher.iter().map(Bytes::len).sum());
        cipher.iter().for_each(|piece| buf.extend_from_slice(piece));
        let plain = self.head.content.decrypt(range, self.head.total, &mut buf)?;
        Ok(self.shared.runs.lend(buf).slice(plain))
    }

    pub(super) fn digest(&self, first: u64, bytes: &[u8]) -> Result<Vec<Digest>> {
        self.shared.digests.of(self.number, first, bytes)
    }

    pub(super) async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        let request = GetRequest {
            key: self.object.key.clone(),
            pin: self.head.pin.clone(),
            range: ByteRange::Span(range.clone()),
        };
        let runs = &self.shared.runs;
        let mut part = Body::into_buffer(runs.take_for((range.end - range.start) as usize));
        self.shared.store.fetch(&request, &mut part).await?;
        let got = part.finish_with(|bytes| runs.lend(bytes))?;
        if got.total != self.head.total || got.bytes.len() as u64 != range.end - range.start {
            return Err(err!(
                Kind::Storage,
                "the store sent {} of {} bytes of an object of {}",
                got.bytes.len(),
                range.end - range.start,
                got.total
            ));
        }
        Ok(got.bytes)
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
    fn explain(&self, e: Error) -> Error {
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

enum Ready {
    Now(Bytes),
    Later(Load),
}

impl Ready {
    async fn text(self) -> Result<Bytes> {
        match self {
            Ready::Now(text) => Ok(text),
            Ready::Later(load) => load.await,
        }
    }
}
