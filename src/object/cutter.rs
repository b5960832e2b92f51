//! Cuts the decoder's output into segments at its seek points.
//!
//! Invariant: the texts of all cuts, in order, are the output; each begins at its point's offset.

use std::sync::Arc;

use bytes::Bytes;

use super::pool::Pool;
use crate::err;
use crate::error::{Kind, Result};
use crate::gunzip::{Decoder, SeekPoint, State};

/// Text that one visit to the CPU pool makes at most, however well the input was compressed.
pub const STEP: usize = 2 << 20;
/// Less room than this and the buffer grows.
const PIECE: usize = 16 << 10;
/// The decoder stops without progress at a seek point and ahead of an error, never for longer.
pub const MOST_IDLE: u32 = 4;

pub struct Cutter {
    pool: Arc<Pool>,
    decoder: Decoder,
    /// The segment being filled.
    text: Vec<u8>,
    start: u64,
    point: Option<Arc<SeekPoint>>,
    /// Finished segments, for the caller to take.
    pub ready: Vec<Cut>,
}

pub struct Cut {
    pub start: u64,
    pub text: Bytes,
    pub point: Option<Arc<SeekPoint>>,
    /// Where in the gzip stream the next segment begins; None for the last one.
    pub end: Option<u64>,
}

impl Cutter {
    pub fn new(pool: Arc<Pool>) -> Self {
        Cutter { pool, decoder: Decoder::with_points(), text: Vec::new(), start: 0, point: None, ready: Vec::new() }
    }

    /// Decodes from `input[*used..]` until nothing more comes of it, or enough text has been made (false).
    pub fn step(&mut self, input: &[u8], used: &mut usize) -> Result<bool> {
        let mut made = 0;
        let mut idle = 0;
        while made < STEP {
            if self.text.capacity() - self.text.len() < PIECE {
                if self.text.capacity() == 0 {
                    self.text = self.pool.take();
                } else {
                    self.text.reserve_exact(self.pool.size());
                }
            }
            let step =
                self.decoder.decode_append(input.get(*used..).unwrap_or_default(), &mut self.text, usize::MAX)?;
            *used += step.consumed;
            made += step.produced;
            for point in self.decoder.take_points() {
                self.cut(point);
            }
            // What follows the stream is fed to the end too, so that the warning can count it.
            if step.state == State::NeedInput || (step.state == State::Finished && *used >= input.len()) {
                return Ok(true);
            }
            idle = if step.consumed + step.produced == 0 { idle + 1 } else { 0 };
            if idle > MOST_IDLE {
                return Err(err!(Kind::Internal, "the decoder makes no progress"));
            }
        }
        Ok(false)
    }

    /// See [`Decoder::space`].
    pub fn space(&mut self, spacing: u64) {
        self.decoder.space(spacing);
    }

    fn cut(&mut self, point: SeekPoint) {
        let at = (point.out - self.start) as usize;
        if at == 0 {
            return; // an empty segment; the point before serves as well
        }
        // The decoder stops at its points, so there is rarely a rest.
        let mut rest = Vec::new();
        if at < self.text.len() {
            rest = self.pool.take();
            rest.extend_from_slice(&self.text[at..]);
            self.text.truncate(at);
        }
        let text = std::mem::replace(&mut self.text, rest);
        let (text, end) = (self.pool.seal(text), Some(point.input));
        self.ready.push(Cut { start: self.start, text, point: self.point.take(), end });
        self.start = point.out;
        self.point = Some(Arc::new(point));
    }

    /// The end of the stream: the rest is the last segment.
    pub fn finish(&mut self) -> Result<()> {
        self.decoder.finish()?;
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            let start = self.start;
            self.start += text.len() as u64;
            self.ready.push(Cut { start, text: self.pool.seal(text), point: self.point.take(), end: None });
        }
        Ok(())
    }

    /// Bytes of text made so far.
    pub fn out(&self) -> u64 {
        self.decoder.out()
    }

    /// Bytes of text cut so far; after [`Cutter::finish`] all of it.
    pub fn len(&self) -> u64 {
        self.start
    }

    /// Bytes after the last member that were left out.
    pub fn warning(&self) -> Option<u64> {
        self.decoder.warning()
    }
}
