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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::head::{self, Head, unauthenticated_damage};
use super::running::Running;
use super::scan::RUN;
use super::{Listed, Objects, Shared};
use crate::envelope::Verifier;
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::gunzip::{Decoder, State};

/// Ranged GETs of one sweep at a time.
const PARALLEL: usize = 8;

/// Text is handed on in pieces of this size: they stay in a core's cache.
const PIECE: usize = 128 << 10;

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
    let (body, total, lane) = (head.take_body(&shared.cache), head.total, shared.cache.lane());
    let fetch = |n: u64| {
        let lane = Arc::clone(&lane);
        let (body, shared, head, key) = (body.clone(), Arc::clone(shared), Arc::clone(head), object.key.clone());
        async move {
            let range = n * RUN..((n + 1) * RUN).min(total);
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
    let mut fetches = stream::iter(0..total.div_ceil(RUN)).map(fetch).buffered(PARALLEL);
    let mut opener = Opener::new(shared, head)?;
    let mut reader = Reader::new(shared, head)?;
    let mut gzip: Option<(OwnedSemaphorePermit, Bytes)> = None;
    loop {
        // A run is decrypted while the one before it is inflated.
        let decrypt = async {
            let Some(fetched) = fetches.next().await else { return Ok((opener, None)) };
            let (permit, bytes) = fetched?;
            // Held until the run is inflated, for which nothing has to be waited for.
            let room = shared.cache.work(bytes.len() as u64).await;
            let raw = Arc::clone(raw);
            let work = move || {
                let result = opener.open(&bytes, &mut *lock(&raw));
                drop(permit);
                result.map(|gzip| (opener, Some((room, gzip))))
            };
            shared.cpu.run(work).await?
        };
        let input = gzip.take();
        let inflate = async {
            let Some((room, input)) = input else { return Ok(reader) };
            let text = Arc::clone(text);
            let work = move || {
                let result = reader.read(&input, &mut *lock(&text));
                drop(room);
                result.map(|()| reader)
            };
            shared.cpu.run(work).await?
        };
        let (decrypted, inflated) = futures::join!(decrypt, inflate);
        reader = inflated?;
        match decrypted? {
            (back, Some(run)) => (opener, gzip) = (back, Some(run)),
            (back, None) => {
                back.verifier.finish()?;
                break;
            }
        }
    }
    reader.finish()
}

/// From ciphertext to gzip, run after run.
struct Opener {
    shared: Arc<Shared>,
    head: Arc<Head>,
    verifier: Verifier,
    /// Offset of the next run.
    at: u64,
    /// The 16 bytes before it, which CBC needs.
    before: [u8; 16],
}

impl Opener {
    fn new(shared: &Arc<Shared>, head: &Arc<Head>) -> Result<Opener> {
        let verifier = head.content.verifier(head.total)?;
        Ok(Opener { shared: Arc::clone(shared), head: Arc::clone(head), verifier, at: 0, before: [0; 16] })
    }

    fn open(&mut self, bytes: &Bytes, raw: &mut impl Stored) -> Result<Bytes> {
        self.verifier.update(bytes);
        raw.ciphertext(bytes)?;
        let within = |end: u64| (end.saturating_sub(self.at) as usize).min(bytes.len());
        let cover = self.head.content.cover(0..self.head.gzip_len, self.head.total);
        let (cover, plain) = (within(cover.end), within(self.head.gzip_len));
        let pool = self.shared.pool_for(cover);
        let mut buf = pool.take();
        buf.extend_from_slice(&bytes[..cover]);
        self.head.content.decrypt_at(self.at, &self.before, &mut buf)?;
        let gzip = pool.lend(buf).slice(..plain);
        raw.gzip(&gzip)?;
        self.at += bytes.len() as u64;
        if let Some(last) = bytes.last_chunk() {
            self.before = *last;
        }
        Ok(gzip)
    }
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
    fn new(shared: &Arc<Shared>, head: &Arc<Head>) -> Result<Reader> {
        let (shared, head) = (Arc::clone(shared), Arc::clone(head));
        let (decoder, buffer) = (Decoder::without_points()?, Vec::with_capacity(PIECE));
        Ok(Reader { shared, head, decoder, buffer, failed: None })
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

fn lock<S>(shelf: &Mutex<S>) -> MutexGuard<'_, S> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
