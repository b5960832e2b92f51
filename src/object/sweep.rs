//! A sweep: one object, whole, once, in order, for those who want all of it and want it now (`download`, `verify`).
//!
//! ```text
//! parallel ranged GETs ─► ciphertext ─► GHASH, decrypt ─► gzip ─► inflate, CRC ─► text
//!                             └► Stored::ciphertext          └► Stored::gzip         └► Text::text
//! ```
//!
//! Invariants:
//! * What the sinks are given is **not proven** before [`Objects::sweep`] has returned `Ok`: they may only hash it, or
//!   write it where nobody takes it for a log yet.
//! * Every byte of the object reaches its sink once and in order, also when the gzip stream in it is damaged. The
//!   verdict is that of the tag; the gzip stream's only if the tag holds.
//! * Memory is a few runs, whatever the object claims: nothing is kept, no seek point is made.

use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use tokio::sync::{Notify, mpsc};

use super::belt::{AHEAD, Belt, Fetched, Next};
use super::head::{self, Head, unauthenticated_damage};
use super::running::Running;
use super::scan::RUN;
use super::{Listed, Objects, Shared};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::{Decoder, State};

/// Ranged GETs of one sweep at a time.
const PARALLEL: usize = 8;

/// A first part that is fetched, and of what objects.
const FIRST: u64 = RUN / 4;
const LARGE: u64 = PARALLEL as u64 * RUN;

/// Runs after which another object may have the core: so those that are begun together end together, and no core is left
/// with the last of them alone.
const TURN: usize = 4;

/// Text is handed on in pieces of this size: they stay in a core's cache. Each costs inflate a copy of its window.
const PIECE: usize = 256 << 10;

/// Takes an object as it is stored, and the gzip stream in it.
pub trait Stored: Send + 'static {
    /// What the first request told, before anything else comes.
    fn head(&mut self, _: &Head) {}
    fn ciphertext(&mut self, bytes: &[u8]) -> Result<()>;
    fn gzip(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Takes the text.
pub trait Text: Send + 'static {
    fn text(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Stored for () {
    fn ciphertext(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn gzip(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl Text for () {
    fn text(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// An object that is what its writer wrote.
pub struct Swept {
    pub head: Arc<Head>,
    /// Bytes of text.
    pub size: u64,
    /// Bytes behind the gzip stream that are no gzip and no padding.
    pub garbage: Option<u64>,
}

/// A sink, kept by its owner while a sweep fills it.
pub type Held<S> = Arc<Mutex<S>>;

impl Objects {
    /// Sends the object through the sinks and says whether it is sound. An error of a sink ends the sweep.
    pub async fn sweep<R: Stored, T: Text>(&self, object: &Listed, raw: &Held<R>, text: &Held<T>) -> Result<Swept> {
        let shared = self.shared();
        let head = Arc::new(head::fetch(shared, object).await?);
        lock(raw).head(&head);
        let swept = run(shared, object, &head, raw, text).await;
        let (size, garbage) = swept.map_err(|e| explain(e, &head).about(&object.key))?;
        Ok(Swept { head, size, garbage })
    }
}

/// One and the same error for every damage of an unauthenticated object, the padding's too.
fn explain(e: Error, head: &Head) -> Error {
    if !head.authenticated && e.kind().is_verdict() { unauthenticated_damage() } else { e }
}

async fn run<R: Stored, T: Text>(
    shared: &Arc<Shared>,
    object: &Listed,
    head: &Arc<Head>,
    raw: &Held<R>,
    text: &Held<T>,
) -> Result<(u64, Option<u64>)> {
    let (body, lane) = (head.take_body(&shared.cache), shared.cache.lane());
    let fetch = |range: Range<u64>| {
        let (shared, head, lane) = (Arc::clone(shared), Arc::clone(head), Arc::clone(&lane));
        let (body, key) = (body.clone(), object.key.clone());
        async move {
            let permit = shared.cache.flight(&lane, range.end - range.start).await;
            // A task of its own goes on while the runs before it are worked on; not after a failure of another run.
            let task = Running(tokio::spawn(async move {
                match body {
                    Some(body) => Ok(body.slice(range.start as usize..range.end as usize)),
                    None => shared.fetch(&key, &head, range).await,
                }
            }));
            let bytes = task.await.map_err(|_| err!(Kind::Internal, "a fetch's task panicked"))??;
            Ok::<_, Error>((permit, bytes))
        }
    };
    let mut fetches = stream::iter(runs(head.total)).map(fetch).buffered(PARALLEL);
    let (feed, fetched) = mpsc::channel(AHEAD);
    let (belt, ready) = (Belt::new(shared, head, fetched, raw)?, Notify::new());
    let feed = async {
        let feed = feed;
        while let Some(run) = fetches.next().await {
            let run = match run {
                Ok((flight, bytes)) => {
                    let work = shared.cache.work(bytes.len() as u64).await;
                    Ok(Fetched { bytes, flight, work })
                }
                Err(e) => Err(e),
            };
            if feed.send(run).await.is_err() {
                break;
            }
            ready.notify_one();
        }
        drop(feed);
        ready.notify_one();
    };
    let inflate = async {
        let (mut reader, mut stop) = (Reader::new(shared, head), Stop::Starved);
        while stop != Stop::End {
            if stop == Stop::Starved {
                ready.notified().await;
            }
            let (belt, text) = (Arc::clone(&belt), Arc::clone(text));
            let work = move || reader.follow(&belt, &text).map(|stop| (reader, stop));
            (reader, stop) = shared.cpu.run(work).await??;
        }
        belt.finish()?;
        reader.finish()
    };
    // What fails ends the feed with it.
    match select(pin!(inflate), pin!(feed)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), inflate)) => inflate.await,
    }
}

/// What is fetched at a time. Of a large object the first comes in two parts: work begins with the smaller.
fn runs(total: u64) -> impl Iterator<Item = Range<u64>> {
    let first = (total > LARGE).then_some(FIRST);
    let starts = std::iter::once(0).chain(first).chain((RUN..total).step_by(RUN as usize));
    let ends = starts.clone().skip(1).chain(std::iter::once(total));
    starts.zip(ends).map(|(start, end)| start..end)
}

/// Why a core is given back.
#[derive(PartialEq, Eq)]
enum Stop {
    Starved,
    /// Others may want it.
    Turn,
    End,
}

/// From gzip to text.
struct Reader {
    shared: Arc<Shared>,
    head: Arc<Head>,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// What is wrong with the stream. The rest of the object is looked at all the same.
    failed: Option<Error>,
}

impl Reader {
    fn new(shared: &Arc<Shared>, head: &Arc<Head>) -> Reader {
        let (shared, head) = (Arc::clone(shared), Arc::clone(head));
        let (decoder, buffer) = (Decoder::without_points(), Vec::with_capacity(PIECE));
        Reader { shared, head, decoder, buffer, failed: None }
    }

    /// Goes on for its turn as long as runs are there, on one thread: to hand each of them over to another would leave
    /// cores with nothing to do meanwhile.
    fn follow<R: Stored, T: Text>(&mut self, belt: &Arc<Belt<R>>, sink: &Held<T>) -> Result<Stop> {
        for _ in 0..TURN {
            match belt.next()? {
                // Not held while a run is opened: the other sink may be the same.
                Next::Run(run) => self.read(&run.gzip, &mut *lock(sink))?,
                Next::NotYet => return Ok(Stop::Starved),
                Next::End => return Ok(Stop::End),
            }
        }
        Ok(Stop::Turn)
    }

    /// Fails only if the sink does.
    fn read(&mut self, mut gzip: &[u8], sink: &mut impl Text) -> Result<()> {
        while self.failed.is_none() {
            self.buffer.clear();
            let step = self.decoder.decode_append(gzip, &mut self.buffer, PIECE).and_then(|step| {
                self.head.allow(&self.shared.policy, self.decoder.out())?;
                Ok(step)
            });
            let step = match step {
                Ok(step) => step,
                Err(e) => {
                    self.failed = Some(e);
                    break;
                }
            };
            gzip = &gzip[step.consumed..];
            if step.produced > 0 {
                sink.text(&self.buffer)?;
            }
            if step.state != State::NeedOutput {
                break;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, Option<u64>)> {
        match self.failed.take() {
            Some(e) => return Err(e),
            None => self.decoder.finish()?,
        }
        Ok((self.decoder.out(), self.decoder.warning()))
    }
}

pub(super) fn lock<S>(shelf: &Mutex<S>) -> MutexGuard<'_, S> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
