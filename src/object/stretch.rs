//! Making segments again: one, for who waits for it, or several in a row for a reader that goes on, which then share a
//! request, a seek point and the way through the pools.
//!
//! Invariant: whatever happens to a stretch, each of its segments has an answer, and none stays among those being made.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::access::Cipher;
use super::cache::Part;
use super::cutter::MOST_IDLE;
use super::scan::Scan;
use super::segment::{Entry, Recipe};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::{Resumed, SeekPoint};

/// Segments that are read ahead in one go.
pub(super) const STRETCH: usize = 4;

/// A segment that is being made, for all who wait for it.
pub(super) type Load = SharedFuture<BoxFuture<'static, Result<Bytes>>>;

/// Segments that are being made, in order, by where they start.
pub(super) struct Stretch {
    scan: Arc<Scan>,
    rest: VecDeque<(u64, oneshot::Sender<Result<Bytes>>)>,
    failed: Option<Error>,
}

/// All that inflating takes.
struct Inputs {
    point: Arc<SeekPoint>,
    cipher: Cipher,
    gzip: Range<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Stretch {
    /// Starts a task that makes these segments, which lie side by side. Who asks first for a part of the only one has it as
    /// soon as it is there.
    pub fn begin(scan: &Arc<Scan>, loads: &mut HashMap<u64, Load>, recipes: Vec<Recipe>, early: Option<Early>) {
        let mut rest = VecDeque::with_capacity(recipes.len());
        for recipe in &recipes {
            let (sender, receiver) = oneshot::channel();
            let lost = |_| Err(err!(Kind::Internal, "a segment's task panicked"));
            loads.insert(recipe.text.start, receiver.map(move |made| made.unwrap_or_else(lost)).boxed().shared());
            rest.push_back((recipe.text.start, sender));
        }
        let stretch = Stretch { scan: Arc::clone(scan), rest, failed: None };
        // A task of its own: a reader that gives up does not cancel the others' segment.
        tokio::spawn(stretch.make(recipes, early));
    }

    async fn make(mut self, recipes: Vec<Recipe>, early: Option<Early>) {
        let (Some(first), Some(last)) = (recipes.first(), recipes.last()) else { return };
        let (text, gzip) = (first.text.start..last.text.end, first.gzip.start..last.gzip.end);
        let cost = (text.end - text.start) + (gzip.end - gzip.start);
        let scan = Arc::clone(&self.scan);
        let own = cost.min(scan.shared.cache.own_share()) >> 10;
        let _own = scan.making.acquire_many(own as u32).await;
        match scan.inputs(first.entry.clone(), gzip, cost).await {
            Err(e) => self.fail(e),
            Ok(inputs) => {
                let work = move || match self.inflate(inputs, &recipes, early) {
                    Ok(()) => {}
                    Err(e) => self.fail(e),
                };
                // A panic is told by `drop`.
                scan.shared.cpu.run(work).await.ok();
            }
        }
    }

    /// For the CPU pool.
    fn inflate(&mut self, inputs: Inputs, recipes: &[Recipe], mut early: Option<Early>) -> Result<()> {
        let gzip = self.scan.decrypt(inputs.gzip, inputs.cipher)?;
        let mut decoder = Resumed::new(&inputs.point)?;
        let mut used = 0;
        for recipe in recipes {
            let len = (recipe.text.end - recipe.text.start) as usize;
            let mut text = self.scan.shared.texts.take();
            text.reserve_exact(len);
            let mut idle = 0;
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
            self.made(self.scan.shared.texts.seal(text));
        }
        Ok(())
    }

    /// The next segment.
    fn made(&mut self, text: Bytes) {
        if let Some((start, sender)) = self.rest.pop_front() {
            self.scan.shared.cache.insert(self.scan.key(Part::Segment(start)), text.clone());
            self.end(start, sender, Ok(text));
        }
    }

    /// For all that have no answer yet.
    fn fail(mut self, e: Error) {
        self.failed = Some(e);
    }

    fn end(&self, start: u64, sender: oneshot::Sender<Result<Bytes>>, text: Result<Bytes>) {
        self.scan.loads.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
        // Nobody need wait for it.
        let _ = sender.send(text);
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        while let Some((start, sender)) = self.rest.pop_front() {
            let failed = self.failed.clone();
            self.end(start, sender, Err(failed.unwrap_or_else(|| err!(Kind::Internal, "a worker panicked"))));
        }
    }
}

impl Scan {
    async fn inputs(self: &Arc<Self>, entry: Entry, gzip: Range<u64>, cost: u64) -> Result<Inputs> {
        let point = match entry {
            Entry::Begin => Arc::new(SeekPoint::start()),
            Entry::Point(point) => point,
            Entry::Kept(kept) => self.kept_point(kept).await?,
        };
        let cover = self.head.content.cover(gzip.clone(), self.head.total);
        let (cipher, _permit) = self.ciphertext_for_work(cover, cost).await?;
        Ok(Inputs { point, cipher, gzip, _permit })
    }
}

/// A part of a segment that somebody waits for.
pub(super) struct Early {
    range: Range<usize>,
    answer: oneshot::Sender<Bytes>,
}

impl Early {
    /// `want` begins in the segment of `text`, and may go beyond it.
    pub fn new(want: Range<u64>, text: &Range<u64>) -> (Early, oneshot::Receiver<Bytes>) {
        let (answer, receiver) = oneshot::channel();
        let range = (want.start - text.start) as usize..(want.end.min(text.end) - text.start) as usize;
        (Early { range, answer }, receiver)
    }

    fn answer(self, text: &[u8]) {
        // Who gave up waiting does not matter.
        let _ = self.answer.send(Bytes::copy_from_slice(&text[self.range]));
    }
}
