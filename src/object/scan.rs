//! One pass over one object version: fetch, authenticate, inflate, and afterwards random access into it.
//!
//! Two tasks run side by side. *Verify* takes the ciphertext in order, as parallel ranged GETs bring it: a SHA-256 of
//! each chunk, then GHASH. *Decode* follows behind it: decrypt, inflate, CRC; it cuts the text into segments at seek
//! points. Decode works on bytes whose tag is still unknown, but nothing of it is released before the tag has held
//! (`--verify full`), and every run that decode fetches again is first compared with verify's digest.
//!
//! Damage never looks like the end of a file: a segment is published only when the one behind it is complete too, so
//! the last text before any damage stays unreadable.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::cache::{CacheKey, Part};
use super::head::{Head, unauthenticated_damage};
use super::segment::{Recipe, Segments};
use super::{Listed, Shared, Verify};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::{Decoder, Resumed, SPACING, SeekPoint, State};
use crate::store::{ByteRange, GetRequest};

/// Unit of the ciphertext digests: what a random read fetches at least.
pub const CHUNK: u64 = 128 << 10;
/// Unit of a scan's ranged GETs.
pub const RUN: u64 = 16 * CHUNK;
/// Ranged GETs of one scan at a time.
const PARALLEL: usize = 8;
/// Text that one visit to the CPU pool makes at most, however well the input was compressed.
const STEP: usize = 8 << 20;
/// First size of a segment's buffer: a little more than the spacing of the seek points.
const FIRST: usize = SPACING as usize + (96 << 10);
/// Less room than this and the buffer grows.
const PIECE: usize = 16 << 10;

/// Stands for "further than any run": whoever waits for the other task need not wait any longer.
const STOPPED: u64 = u64::MAX;

/// How far a scan has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Runs whose digests are known; [`STOPPED`] when verify has failed.
    verified: u64,
    /// Runs that the decoder is through with; [`STOPPED`] when it has failed.
    consumed: u64,
    /// Text may be handed out (the tag has held, or `--verify stream`).
    released: bool,
    /// Bytes of text that are readable once released.
    decoded: u64,
    /// The end: the exact size, or why there is none.
    pub done: Option<Result<u64>>,
}

type Load = SharedFuture<BoxFuture<'static, Result<Bytes>>>;

pub struct Scan {
    number: u64,
    object: Listed,
    shared: Arc<Shared>,
    head: Arc<Head>,
    digests: RwLock<Vec<[u8; 32]>>,
    segments: RwLock<Segments>,
    progress: watch::Sender<Progress>,
    /// End of the furthest read so far: what the decoder keeps text for.
    reader: AtomicU64,
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
        let text = match load {
            Ready::Now(text) => text,
            Ready::Later(load) => load.await.map_err(|e| self.explain(e))?,
        };
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
                let mut text = Vec::with_capacity(len);
                let mut used = 0;
                while text.len() < len {
                    let rest = gzip.get(used..).unwrap_or_default();
                    let step = decoder.decode_append(rest, &mut text)?;
                    used += step.consumed;
                    if step.consumed == 0 && step.produced == 0 {
                        return Err(err!(Kind::Internal, "a segment ended early at {} of {len} bytes", text.len()));
                    }
                }
                Ok(Bytes::from(text))
            })
            .await?
    }

    /// Ciphertext of a range that verify has passed, from the cache or fetched again and compared with its digests.
    async fn ciphertext(&self, range: Range<u64>) -> Result<Bytes> {
        let run = range.start / RUN;
        if let Some(bytes) = self.shared.cache.get(self.key(Part::Run(run as u32))) {
            let base = run * RUN;
            if range.end <= base + bytes.len() as u64 {
                return Ok(bytes.slice((range.start - base) as usize..(range.end - base) as usize));
            }
        }
        let start = range.start / CHUNK * CHUNK;
        let end = (range.end.div_ceil(CHUNK) * CHUNK).min(self.head.total);
        let bytes = self.fetch(start..end).await?;
        let (bytes, digests) = self.shared.cpu.run(move || (digest(&bytes), bytes)).await.map(|(d, b)| (b, d))?;
        let first = (start / CHUNK) as usize;
        let known = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(first..first + digests.len()) != Some(&digests[..]) {
            return Err(err!(
                Kind::Digest,
                "bytes {start}-{} are not those that were authenticated: the store changed or damaged them",
                end - 1
            ));
        }
        Ok(bytes.slice((range.start - start) as usize..(range.end - start) as usize))
    }

    /// The part `range` of the gzip stream; `cipher` is what covers it.
    fn decrypt(&self, range: Range<u64>, cipher: &[u8]) -> Result<Vec<u8>> {
        let mut buf = cipher.to_vec();
        let plain = self.head.content.decrypt(range, self.head.total, &mut buf)?;
        buf.truncate(plain.end);
        buf.drain(..plain.start);
        Ok(buf)
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        let request = GetRequest {
            key: self.object.key.clone(),
            pin: self.head.pin.clone(),
            range: ByteRange::Span(range.clone()),
        };
        let got = self.shared.store.get(&request).await?;
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

    async fn run(self: &Arc<Self>, body: Option<Bytes>) -> Result<u64> {
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
        let mut cutter = Some(Cutter::new()?);
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
            while used < input.len() {
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
                result?;
            }
            drop(permit);
            self.shared.cache.remove(self.key(Part::Run(n as u32)));
            self.progress.send_modify(|p| p.consumed = n + 1);
        }
        let Some(mut work) = cutter.take() else { return Err(err!(Kind::Internal, "no decoder")) };
        work.finish()?;
        self.publish(&mut work, true);
        if let Some(bytes) = work.decoder.warning() {
            let key = crate::error::escape(self.object.key.as_bytes());
            log::warn!("{key}: {bytes} bytes after the gzip stream are no gzip and are left out");
        }
        Ok(work.start)
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

    /// Waits until `test` says something. This ends: every request that a scan waits for has its deadline.
    async fn wait<T>(&self, test: impl Fn(&Progress) -> Option<T>) -> Result<T> {
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
        let gzip = matches!(e.kind(), Kind::BadGzip | Kind::GzipChecksum | Kind::TruncatedGzip);
        let e = match e.kind() {
            Kind::NotFound => err!(Kind::Stale, "deleted since it was opened"),
            _ if !self.head.authenticated && (gzip || e.kind() == Kind::Truncated) => unauthenticated_damage(),
            _ => e,
        };
        e.about(&self.object.key)
    }

    fn key(&self, part: Part) -> CacheKey {
        CacheKey { scan: self.number, part }
    }

    fn reserve(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.shared.cache.reserve(bytes);
    }

    fn read_segments<T>(&self, look: impl FnOnce(&Segments) -> T) -> T {
        look(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.shared.cache.release(*self.reserved.get_mut());
    }
}

enum Ready {
    Now(Bytes),
    Later(Load),
}

fn digest(bytes: &[u8]) -> Vec<[u8; 32]> {
    bytes.chunks(CHUNK as usize).map(|chunk| Sha256::digest(chunk).into()).collect()
}

/// Cuts the decoder's output into segments at its seek points.
struct Cutter {
    decoder: Decoder,
    /// The segment being filled.
    text: Vec<u8>,
    start: u64,
    point: Option<Arc<SeekPoint>>,
    ready: Vec<Cut>,
}

struct Cut {
    start: u64,
    text: Bytes,
    point: Option<Arc<SeekPoint>>,
}

impl Cutter {
    fn new() -> Result<Self> {
        Ok(Cutter { decoder: Decoder::new()?, text: Vec::new(), start: 0, point: None, ready: Vec::new() })
    }

    /// Decodes from `input[*used..]` until it is used up or enough text has been made.
    fn step(&mut self, input: &[u8], used: &mut usize) -> Result<()> {
        let mut made = 0;
        while *used < input.len() && made < STEP {
            if self.text.capacity() - self.text.len() < PIECE {
                self.text.reserve(FIRST);
            }
            let step = self.decoder.decode_append(input.get(*used..).unwrap_or_default(), &mut self.text)?;
            *used += step.consumed;
            made += step.produced;
            for point in self.decoder.take_points() {
                self.cut(point);
            }
            if step.state == State::Finished {
                *used = input.len();
            } else if step.consumed == 0 && step.produced == 0 {
                return Err(err!(Kind::Internal, "the decoder makes no progress"));
            }
        }
        Ok(())
    }

    fn cut(&mut self, point: SeekPoint) {
        let at = (point.out - self.start) as usize;
        if at == 0 {
            return; // an empty segment; the point before serves as well
        }
        let rest = self.text.split_off(at);
        let text = std::mem::replace(&mut self.text, rest);
        self.ready.push(Cut { start: self.start, text: text.into(), point: self.point.take() });
        self.start = point.out;
        self.point = Some(Arc::new(point));
    }

    /// The end of the stream: the rest is the last segment.
    fn finish(&mut self) -> Result<()> {
        self.decoder.finish()?;
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            let start = self.start;
            self.start += text.len() as u64;
            self.ready.push(Cut { start, text: text.into(), point: self.point.take() });
        }
        Ok(())
    }
}
