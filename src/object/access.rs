//! Random access into what a scan has proven: segments from the cache, or made again from a seek point.
//!
//! Invariant: ciphertext that comes from the store a second time, or from the cache folder, is compared with the digest that verify took of it.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::cache::Part;
use super::scan::{CHUNK, Progress, RUN, Scan};
use super::segment::{Recipe, Segments};
use super::stretch::{Early, Load, STRETCH, Stretch};
use crate::err;
use crate::error::{Kind, Result};

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
        let last = self.read_segments(Segments::len);
        let until = (here + 1 + self.shared.cpu.cores() * 2 * STRETCH).min(last);
        let mut room = self.shared.cache.own_share();
        let mut missing = here + 1..here + 1;
        for index in here + 1..until {
            let Some(recipe) = self.read_segments(|s| s.recipe(index, self.head.gzip_len)) else { break };
            // No more than can be made at once: whoever jumps elsewhere would have to wait for it.
            room = match room.checked_sub(recipe.cost()) {
                Some(left) => left,
                None if index > here + 1 => break,
                None => 0,
            };
            if self.is_made(recipe.text.start) {
                self.stretch(missing);
                missing = index + 1..index + 1;
            } else {
                missing.end = index + 1;
                if missing.len() == STRETCH {
                    self.stretch(missing);
                    missing = index + 1..index + 1;
                }
            }
        }
        // A shorter one can wait until it is whole, unless it is next or there is no more.
        if missing.start == here + 1 || missing.end == last {
            self.stretch(missing);
        }
    }

    /// The segment that starts here is in the cache, or is being made.
    fn is_made(&self, start: u64) -> bool {
        let loading = || self.loads.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&start);
        self.shared.cache.holds(self.key(Part::Segment(start))) || loading()
    }

    /// Has these segments made in one go, unless somebody has begun with one of them.
    fn stretch(self: &Arc<Self>, segments: Range<usize>) {
        let recipe = |index| self.read_segments(|s| s.recipe(index, self.head.gzip_len));
        let recipes: Vec<Recipe> = segments.filter_map(recipe).collect();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if !recipes.is_empty() && !recipes.iter().any(|recipe| loads.contains_key(&recipe.text.start)) {
            Stretch::begin(self, &mut loads, recipes, None);
        }
    }

    /// Segment `index` can be had without a request.
    pub(super) fn is_at_hand(&self, index: usize) -> bool {
        let Some(recipe) = self.read_segments(|s| s.recipe(index, self.head.gzip_len)) else { return false };
        self.is_made(recipe.text.start)
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
        Stretch::begin(self, &mut loads, vec![recipe], early);
        let load = loads.get(&start).cloned().ok_or_else(|| err!(Kind::Internal, "no task makes segment {index}"))?;
        Ok((start, answer.map_or(Ready::Later(load.clone()), |answer| Ready::Early(answer, load))))
    }

    /// Ciphertext of a range that verify has passed, and a place for `cost` bytes at work.
    pub(super) async fn ciphertext_for_work(
        self: &Arc<Self>,
        range: Range<u64>,
        cost: u64,
    ) -> Result<(Cipher, OwnedSemaphorePermit)> {
        // Who waits for a place must not hold what the cache may evict meanwhile, and then does not count any more: there may
        // be hundreds.
        if self.cached_ciphertext(&range).is_some() {
            let permit = self.shared.cache.work(cost).await;
            if let Some(pieces) = self.cached_ciphertext(&range) {
                return Ok((Cipher::Known { pieces, _room: None }, permit));
            }
        }
        let cipher = self.ciphertext(range).await?;
        // Last: whoever has it goes on to the end.
        Ok((cipher, self.shared.cache.work(cost).await))
    }

    /// Ciphertext that the cache does not have: from its folder, or fetched again.
    async fn ciphertext(self: &Arc<Self>, range: Range<u64>) -> Result<Cipher> {
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

impl Ready {
    pub(super) async fn text(self) -> Result<Bytes> {
        match self {
            Ready::Now(text) => Ok(text),
            Ready::Later(load) | Ready::Early(_, load) => load.await,
        }
    }
}
