//! Random access into what a scan has proven: segments from the cache, or made again from a seek point.
//!
//! Invariant: ciphertext that comes from the store a second time, or from the cache folder, is compared with the digest that verify took of it.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::cache::Part;
use super::cutter::MOST_IDLE;
use super::scan::{CHUNK, Progress, RUN, Scan};
use super::segment::{Entry, Recipe, Segments};
use crate::err;
use crate::error::{Kind, Result};
use crate::gunzip::{Resumed, SeekPoint};

/// A segment that is being made, for all who wait for it.
pub(super) type Load = SharedFuture<BoxFuture<'static, Result<Bytes>>>;

impl Scan {
    /// For a reader that goes on behind `text`, which it has just read: has the next segments inflated before they are asked
    /// for, enough that no core runs dry.
    pub fn read_ahead(self: &Arc<Self>, text: Range<u64>) {
        if !matches!(&*self.progress.borrow(), Progress { done: Some(Ok(_)), .. }) {
            return;
        }
        let find = |offset: Option<u64>| self.read_segments(|s| s.find(offset?));
        let Some(here) = find(text.end.checked_sub(1)) else { return };
        // Once for each segment.
        if find(text.start.checked_sub(1)) == Some(here) {
            return;
        }
        // What the reader has left behind is in the kernel's page cache.
        if let Some(behind) = here.checked_sub(2).and_then(|n| self.read_segments(|s| s.start_of(n))) {
            self.shared.cache.remove(self.key(Part::Segment(behind)));
        }
        let ahead = self.shared.cpu.cores() * 4;
        let last = self.read_segments(Segments::len);
        let mut room = self.shared.cache.own_share();
        for index in here + 1..(here + 1 + ahead).min(last) {
            let need = self.read_segments(|s| s.recipe(index, self.head.gzip_len)).map_or(0, |recipe| recipe.cost());
            // No more than can be made at once: whoever jumps elsewhere would have to wait for it.
            room = match room.checked_sub(need) {
                Some(left) => left,
                None if index > here + 1 => return,
                None => 0,
            };
            drop(self.segment(index, None));
        }
    }

    /// Segment `index` can be had without a request.
    pub(super) fn is_at_hand(&self, index: usize) -> bool {
        let Some(recipe) = self.read_segments(|s| s.recipe(index, self.head.gzip_len)) else { return false };
        let loading = || self.loads.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&recipe.text.start);
        self.shared.cache.get(self.key(Part::Segment(recipe.text.start))).is_some()
            || loading()
            || self.cached_ciphertext(&self.head.content.cover(recipe.gzip, self.head.total)).is_some()
    }

    /// The part of `offset..end` that lies in one segment; never empty.
    pub(super) async fn piece(self: &Arc<Self>, offset: u64, end: u64) -> Result<Bytes> {
        let index = self.read_segments(|s| s.find(offset));
        let index = index.ok_or_else(|| err!(Kind::Internal, "no segment holds offset {offset}"))?;
        let (start, load) = self.segment(index, Some(offset..end))?;
        let text = match load {
            Ready::Early(answer, load) => match answer.await {
                Ok(piece) => return Ok(piece),
                Err(_) => load.await,
            },
            other => other.text().await,
        };
        let text = text.map_err(|e| self.explain(e))?;
        let from = (offset - start) as usize;
        let to = text.len().min((end - start) as usize);
        if from >= to {
            return Err(err!(Kind::Internal, "a segment is shorter than its index says").about(&self.object.key));
        }
        Ok(text.slice(from..to))
    }

    /// Segment `index`: from the cache, or inflated once for all who ask. Who asks first for `want`, a range of the text, has
    /// it as soon as it is there.
    pub(super) fn segment(self: &Arc<Self>, index: usize, want: Option<Range<u64>>) -> Result<(u64, Ready)> {
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
        let (early, answer) = want.map(|want| Early::new(want, &recipe.text)).unzip();
        let scan = Arc::clone(self);
        // A task of its own: a reader that gives up does not cancel the others' segment.
        let task = tokio::spawn(async move {
            let result = scan.inflate(recipe, early).await;
            if let Ok(text) = &result {
                scan.shared.cache.insert(key, text.clone());
            }
            scan.loads.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
            result
        });
        let load = task
            .map(|joined| joined.unwrap_or_else(|_| Err(err!(Kind::Internal, "a segment's task panicked"))))
            .boxed()
            .shared();
        loads.insert(start, load.clone());
        Ok((start, answer.map_or(Ready::Later(load.clone()), |answer| Ready::Early(answer, load))))
    }

    /// Inflates one segment from its seek point.
    async fn inflate(self: &Arc<Self>, recipe: Recipe, mut early: Option<Early>) -> Result<Bytes> {
        let len = (recipe.text.end - recipe.text.start) as usize;
        let cost = recipe.cost();
        let own = cost.min(self.shared.cache.own_share()) >> 10;
        let _own = self.making.acquire_many(own as u32).await;
        let cover = self.head.content.cover(recipe.gzip.clone(), self.head.total);
        let point = match recipe.entry {
            Entry::Begin => Arc::new(SeekPoint::start()),
            Entry::Point(point) => point,
            Entry::Kept(kept) => self.kept_point(kept).await?,
        };
        let cipher = self.ciphertext(cover).await?;
        // Last: whoever has it goes on to the end.
        let _permit = self.shared.cache.work(cost).await;
        let scan = Arc::clone(self);
        self.shared
            .cpu
            .run(move || {
                let gzip = scan.decrypt(recipe.gzip, cipher)?;
                let mut decoder = Resumed::new(&point)?;
                let mut text = scan.shared.texts.take();
                text.reserve_exact(len);
                let (mut used, mut idle) = (0, 0);
                while text.len() < len {
                    let rest = gzip.get(used..).unwrap_or_default();
                    let until = early.as_ref().map_or(len, |e| e.range.end);
                    let most = until - text.len();
                    let step = decoder.decode_append(rest, &mut text, most)?;
                    used += step.consumed;
                    idle = if step.consumed + step.produced == 0 { idle + 1 } else { 0 };
                    if idle > MOST_IDLE {
                        return Err(err!(Kind::Internal, "a segment ended early at {} of {len} bytes", text.len()));
                    }
                    if text.len() == until
                        && let Some(early) = early.take()
                    {
                        early.answer(&text);
                    }
                }
                Ok(scan.shared.texts.seal(text))
            })
            .await?
    }

    /// Ciphertext of a range that verify has passed: from the cache or its folder, or fetched again.
    pub(super) async fn ciphertext(self: &Arc<Self>, range: Range<u64>) -> Result<Cipher> {
        if let Some(pieces) = self.cached_ciphertext(&range) {
            return Ok(Cipher::Known { pieces, _room: None });
        }
        let first = range.start / CHUNK;
        let start = first * CHUNK;
        let end = (range.end.div_ceil(CHUNK) * CHUNK).min(self.head.total);
        let wanted = (range.start - start) as usize..(range.end - start) as usize;
        let room = self.shared.cache.again(end - start).await;
        if let Some(bytes) = self.kept_chunks(start..end).await {
            return Ok(Cipher::Known { pieces: vec![bytes.slice(wanted)], _room: Some(room) });
        }
        let bytes = self.fetch(start..end).await?;
        Ok(Cipher::Fetched { bytes, first, wanted, _room: room })
    }

    /// The pieces of `cipher`, once fetched ones are known to be those that verify has passed. For the CPU pool.
    fn authentic(&self, cipher: Cipher) -> Result<Vec<Bytes>> {
        let (bytes, first, wanted) = match cipher {
            Cipher::Known { pieces, .. } => return Ok(pieces),
            Cipher::Fetched { bytes, first, wanted, .. } => (bytes, first, wanted),
        };
        self.check(first, &bytes)?;
        if let Some(shelf) = &self.shelf {
            shelf.keep(first, bytes.clone());
        }
        Ok(vec![bytes.slice(wanted)])
    }

    /// Compares whole chunks, from number `first` on, with the digests that verify took of them.
    pub(super) fn check(&self, first: u64, bytes: &[u8]) -> Result<()> {
        let digests = self.digester.of(first, bytes)?;
        let known = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(first as usize..first as usize + digests.len()) == Some(&digests[..]) {
            return Ok(());
        }
        let start = first * CHUNK;
        Err(err!(
            Kind::Digest,
            "bytes {start}-{} are not those that were authenticated: the store changed or damaged them",
            start + bytes.len() as u64 - 1
        ))
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

    /// The part `range` of the gzip stream; `cipher` is what covers it. For the CPU pool.
    pub(super) fn decrypt(&self, range: Range<u64>, cipher: Cipher) -> Result<Bytes> {
        let cipher = self.authentic(cipher)?;
        let pool = self.shared.pool_for(cipher.iter().map(Bytes::len).sum());
        let mut buf = pool.take();
        cipher.iter().for_each(|piece| buf.extend_from_slice(piece));
        let plain = self.head.content.decrypt(range, self.head.total, &mut buf)?;
        Ok(pool.lend(buf).slice(plain))
    }

    pub(super) async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        self.shared.fetch(&self.object.key, &self.head, range).await
    }
}

/// Pieces of ciphertext.
pub(super) enum Cipher {
    /// They have not left this process since verify had them.
    Known { pieces: Vec<Bytes>, _room: Option<OwnedSemaphorePermit> },
    /// Whole chunks from number `first` on, still to be compared with their digests; `wanted` is the part in question.
    Fetched { bytes: Bytes, first: u64, wanted: Range<usize>, _room: OwnedSemaphorePermit },
}

pub(super) enum Ready {
    Now(Bytes),
    Later(Load),
    Early(oneshot::Receiver<Bytes>, Load),
}

/// A part of a segment that somebody waits for.
struct Early {
    range: Range<usize>,
    answer: oneshot::Sender<Bytes>,
}

impl Early {
    /// `want` begins in the segment of `text`, and may go beyond it.
    fn new(want: Range<u64>, text: &Range<u64>) -> (Early, oneshot::Receiver<Bytes>) {
        let (answer, receiver) = oneshot::channel();
        let range = (want.start - text.start) as usize..(want.end.min(text.end) - text.start) as usize;
        (Early { range, answer }, receiver)
    }

    fn answer(self, text: &[u8]) {
        // Who gave up waiting does not matter.
        let _ = self.answer.send(Bytes::copy_from_slice(&text[self.range]));
    }
}

impl Ready {
    pub(super) async fn text(self) -> Result<Bytes> {
        match self {
            Ready::Now(text) => Ok(text),
            Ready::Later(load) | Ready::Early(_, load) => load.await,
        }
    }
}
