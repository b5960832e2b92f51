//! The runs of a sweep on their way to who inflates them: authenticated and decrypted one after the other, by whoever has
//! the time.
//!
//! ```text
//! fetched ─► [ciphertext] ─► GHASH, decrypt ─► [gzip] ─► inflate
//! ```
//!
//! Who inflates opens the next run too, on the same thread and with no other woken for it, unless a core has nothing else to
//! do: that one opens it ahead.
//!
//! Invariants:
//! * Runs are opened and handed on in order, each once, whoever opens them.
//! * Nobody waits here but for a run that is being opened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::flight::Place;
use super::head::Head;
use super::sweep::{Held, Stored};
use super::{Shared, sweep};
use crate::envelope::Verifier;
use crate::err;
use crate::error::{Kind, Result};

/// Runs that wait for one of the two steps, at most.
pub const AHEAD: usize = 2;

/// What is authenticated, copied and decrypted at a time: it stays in a core's cache. Whole blocks of the cipher.
const PIECE: usize = 64 << 10;

/// A run as it is stored. The permits are for its bytes, as they are and decrypted.
pub struct Fetched {
    pub bytes: Bytes,
    pub flight: Place,
    pub work: OwnedSemaphorePermit,
}

/// A run decrypted.
pub struct Opened {
    pub gzip: Bytes,
    /// Held until it is inflated, for which nothing has to be waited for.
    _work: OwnedSemaphorePermit,
}

pub enum Next {
    Run(Opened),
    /// It is not fetched yet.
    NotYet,
    End,
}

pub struct Belt<R> {
    source: Mutex<Source<R>>,
    opened: Mutex<VecDeque<Result<Opened>>>,
    shared: Arc<Shared>,
}

struct Source<R> {
    fetched: mpsc::Receiver<Result<Fetched>>,
    opener: Opener,
    sink: Held<R>,
}

impl<R: Stored> Belt<R> {
    pub fn new(
        shared: &Arc<Shared>,
        head: &Arc<Head>,
        fetched: mpsc::Receiver<Result<Fetched>>,
        sink: &Held<R>,
    ) -> Result<Arc<Belt<R>>> {
        let source = Source { fetched, opener: Opener::new(shared, head)?, sink: Arc::clone(sink) };
        Ok(Arc::new(Belt { source: Mutex::new(source), opened: Mutex::default(), shared: Arc::clone(shared) }))
    }

    /// The next run, for who inflates. Of what went wrong before, in order, the first is the error.
    pub fn next(self: &Arc<Self>) -> Result<Next> {
        let next = match self.ready() {
            Some(run) => Next::Run(run?),
            None => {
                let mut source = self.source()?;
                match self.ready() {
                    // Somebody has just opened it.
                    Some(run) => Next::Run(run?),
                    None => source.open()?,
                }
            }
        };
        self.open_ahead();
        Ok(next)
    }

    /// Whether the tag has held; at the end.
    pub fn finish(&self) -> Result<()> {
        self.source()?.opener.verifier.take().map_or(Ok(()), Verifier::finish)
    }

    fn ready(&self) -> Option<Result<Opened>> {
        self.opened().pop_front()
    }

    fn open_ahead(self: &Arc<Self>) {
        if self.opened().len() < AHEAD
            && let Some(core) = self.shared.cpu.idle()
        {
            let belt = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || {
                while belt.opened().len() < AHEAD && belt.one_ahead() {}
                drop(core);
            }));
        }
    }

    /// False if there is none, or somebody else is at it.
    fn one_ahead(&self) -> bool {
        let Ok(mut source) = self.source.try_lock() else { return false };
        match source.open() {
            Ok(Next::Run(run)) => self.opened().push_back(Ok(run)),
            Ok(Next::NotYet | Next::End) => return false,
            Err(e) => {
                self.opened().push_back(Err(e));
                return false;
            }
        }
        true
    }

    fn source(&self) -> Result<MutexGuard<'_, Source<R>>> {
        // Who panicked has left a run half done.
        self.source.lock().map_err(|_| err!(Kind::Internal, "a worker panicked"))
    }

    fn opened(&self) -> MutexGuard<'_, VecDeque<Result<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Stored> Source<R> {
    fn open(&mut self) -> Result<Next> {
        let Fetched { bytes, flight, work } = match self.fetched.try_recv() {
            Ok(fetched) => fetched?,
            Err(TryRecvError::Empty) => return Ok(Next::NotYet),
            Err(TryRecvError::Disconnected) => return Ok(Next::End),
        };
        let gzip = self.opener.open(&bytes, &mut *sweep::lock(&self.sink))?;
        drop((bytes, flight));
        Ok(Next::Run(Opened { gzip, _work: work }))
    }
}

/// From ciphertext to gzip, run after run.
struct Opener {
    shared: Arc<Shared>,
    head: Arc<Head>,
    /// Until the end.
    verifier: Option<Verifier>,
    /// Offset of the next piece.
    at: u64,
    /// The 16 bytes before it, which CBC needs.
    before: [u8; 16],
    /// Where the bytes end that are to be decrypted.
    cover: u64,
}

impl Opener {
    fn new(shared: &Arc<Shared>, head: &Arc<Head>) -> Result<Opener> {
        let verifier = Some(head.content.verifier(head.total)?);
        let cover = head.content.cover(0..head.gzip_len, head.total).end;
        Ok(Opener { shared: Arc::clone(shared), head: Arc::clone(head), verifier, at: 0, before: [0; 16], cover })
    }

    fn open(&mut self, bytes: &Bytes, raw: &mut impl Stored) -> Result<Bytes> {
        raw.ciphertext(bytes)?;
        let within = |end: u64| (end.saturating_sub(self.at) as usize).min(bytes.len());
        let (cover, plain) = (within(self.cover), within(self.head.gzip_len));
        let pool = Arc::clone(self.shared.pool_for(cover));
        let mut buf = pool.take();
        for piece in bytes.chunks(PIECE) {
            self.piece(piece, &mut buf)?;
        }
        let gzip = pool.lend(buf).slice(..plain);
        raw.gzip(&gzip)?;
        Ok(gzip)
    }

    fn piece(&mut self, bytes: &[u8], buf: &mut Vec<u8>) -> Result<()> {
        if let Some(verifier) = &mut self.verifier {
            verifier.update(bytes);
        }
        let (start, cover) = (buf.len(), (self.cover.saturating_sub(self.at) as usize).min(bytes.len()));
        if cover > 0 {
            buf.extend_from_slice(&bytes[..cover]);
            self.head.content.decrypt_at(self.at, &self.before, &mut buf[start..])?;
        }
        self.at += bytes.len() as u64;
        if let Some(last) = bytes.last_chunk() {
            self.before = *last;
        }
        Ok(())
    }
}
