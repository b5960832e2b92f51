//! The one pass over a gzip stream: members, their checks, and seek points on the way.
//!
//! Invariants:
//! * Push-style and pure: a call takes bytes from one slice, puts bytes into another, and never waits.
//! * Every call makes progress (consumes, produces, records a point, ends, fails) unless it lacks input or room and
//!   says which.
//! * Output before a damage comes first; the error comes on the next call, and then on every call.
//!
//! What may follow a member (FORMAT section 6): another member; the end; zero bytes up to the end (tape padding,
//! quiet); anything else is no data and is counted for [`Decoder::warning`]. Bytes 1f 8b there commit to a member:
//! damage behind them is an error. After padding no member can follow (as in GNU gzip).

use crc_fast::{CrcAlgorithm, Digest};

use super::header::{Header, MAGIC};
use super::out::Out;
use super::points::{Entry, Recorder, SPACING, SeekPoint, WIDEST_SPACING};
use super::raw::RawInflate;
use super::window::WINDOW;
use crate::err;
use crate::error::{Error, Kind, Result};

/// What one call of `decode` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// Bytes put at the front of the output (or appended to it).
    pub produced: usize,
    pub state: State,
}

/// What the decoder wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All of the input is consumed. Give more, or call `finish` if there is no more.
    NeedInput,
    /// Hand on what was produced and call again with room, with what is left of the input (it may be empty).
    ///
    /// Also said, with room left, at a new seek point: a caller who gives every segment its own buffer cuts here. And
    /// said before an error, which the next call returns.
    NeedOutput,
    /// No data can follow. Further input is consumed and only counted, for [`Decoder::warning`].
    Finished,
}

enum Phase {
    Header(Header),
    /// A block starts inside the next byte, behind so many bits.
    Skip(u8),
    Body,
    /// CRC-32 and ISIZE; how many of the 8 bytes are there.
    Trailer([u8; 8], usize),
    /// Behind a member.
    Between,
    /// Behind a member and the first magic byte.
    Magic,
    /// Behind a member and at least one zero byte.
    Padding,
    Garbage,
    Ended,
    Failed(Error),
}

/// Decodes a whole gzip stream from its first byte, checks it, and records seek points.
pub struct Decoder {
    raw: RawInflate,
    phase: Phase,
    /// `None`: no points.
    recorder: Option<Recorder>,
    /// False when resumed: the first member is seen only in part.
    checked: bool,
    /// CRC-32 and length of the current member.
    crc: Digest,
    /// Offset in the plaintext of the next byte.
    out: u64,
    /// Offset in the compressed stream of the next byte.
    input: u64,
    /// Bytes behind the last member, and whether any of them is not zero.
    trailing: u64,
    garbage: bool,
}

impl Decoder {
    pub fn with_points() -> Decoder {
        Decoder { recorder: Some(Recorder::new()), ..Decoder::without_points() }
    }

    /// Checks all the same, for who reads the stream once.
    pub fn without_points() -> Decoder {
        Decoder { checked: true, ..Decoder::begin() }
    }

    fn begin() -> Decoder {
        Decoder {
            raw: RawInflate::new(),
            phase: Phase::Header(Header::new()),
            recorder: None,
            checked: false,
            crc: Digest::new(CrcAlgorithm::Crc32IsoHdlc),
            out: 0,
            input: 0,
            trailing: 0,
            garbage: false,
        }
    }

    /// `Internal` for a damaged point.
    pub(super) fn at(point: &SeekPoint) -> Result<Decoder> {
        let mut decoder = Decoder { out: point.out, input: point.input, ..Decoder::begin() };
        match &point.entry {
            Entry::Start => {}
            Entry::Inside(raw) => (decoder.raw, decoder.phase) = (RawInflate::clone(raw), Phase::Body),
            Entry::Block { skip, window } => {
                let mut text = [0; WINDOW];
                let len = window.unpack(&mut text)?;
                decoder.raw.set_dictionary(&text[..len]);
                decoder.phase = if *skip == 0 { Phase::Body } else { Phase::Skip(*skip) };
            }
        }
        Ok(decoder)
    }

    /// Decodes from `input` into `output`, as far as either lasts. Bytes of `output` behind `produced` may be
    /// overwritten.
    ///
    /// Errors: `BadGzip` (not gzip, damaged deflate data), `GzipChecksum` (CRC-32 or ISIZE).
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress> {
        self.run(input, &mut Out::new(output))
    }

    /// The same into the spare capacity of `output`, which never grows, at most `most` bytes: a buffer needs no zeroing.
    pub fn decode_append(&mut self, input: &[u8], output: &mut Vec<u8>, most: usize) -> Result<Progress> {
        Out::append(output, most, |out| self.run(input, out))
    }

    /// Says that the input has ended. Call it after [`State::NeedInput`] or [`State::Finished`]: output that is still
    /// to come counts as missing.
    ///
    /// `TruncatedGzip` inside a member, its trailer included, and for an empty stream.
    pub fn finish(&mut self) -> Result<()> {
        let at = self.input;
        let error = match &self.phase {
            Phase::Between | Phase::Padding | Phase::Garbage | Phase::Magic | Phase::Ended => {
                if matches!(self.phase, Phase::Magic) {
                    self.trailing = 1;
                    self.garbage = true;
                }
                self.phase = Phase::Ended;
                return Ok(());
            }
            Phase::Failed(e) => return Err(e.clone()),
            Phase::Header(h) if h.is_untouched() && at == 0 => {
                err!(Kind::TruncatedGzip, "empty: not even a gzip header")
            }
            Phase::Header(_) => err!(Kind::TruncatedGzip, "ends inside a gzip header, after {at} bytes"),
            Phase::Skip(_) | Phase::Body => err!(Kind::TruncatedGzip, "ends inside compressed data, after {at} bytes"),
            Phase::Trailer(..) => err!(Kind::TruncatedGzip, "ends inside a gzip trailer, after {at} bytes"),
        };
        self.phase = Phase::Failed(error.clone());
        Err(error)
    }

    /// Takes points that are so many bytes of plaintext apart from now on: between [`SPACING`] and [`WIDEST_SPACING`].
    pub fn space(&mut self, spacing: u64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.spacing = spacing.clamp(SPACING, WIDEST_SPACING);
        }
    }

    /// The seek points recorded since the last call, in order. They can be used at once.
    pub fn take_points(&mut self) -> Vec<SeekPoint> {
        self.recorder.as_mut().map(Recorder::take).unwrap_or_default()
    }

    /// How many bytes behind the last member were ignored because they are neither a member nor zero padding; `None`
    /// if there are none. Final once [`Decoder::finish`] was called.
    pub fn warning(&self) -> Option<u64> {
        self.garbage.then_some(self.trailing)
    }

    /// Offset in the plaintext of the next byte to come: so far, its length.
    pub fn out(&self) -> u64 {
        self.out
    }

    /// Offset in the compressed stream of the next byte wanted.
    pub fn input(&self) -> u64 {
        self.input
    }

    fn run(&mut self, input: &[u8], out: &mut Out<'_>) -> Result<Progress> {
        let mut consumed = 0;
        let state = loop {
            match self.step(&input[consumed..], out) {
                Ok((n, state)) => {
                    consumed += n;
                    if let Some(state) = state {
                        break state;
                    }
                }
                Err(e) => {
                    self.phase = Phase::Failed(e.clone());
                    if out.len() == 0 {
                        return Err(e);
                    }
                    break State::NeedOutput;
                }
            }
        };
        Ok(Progress { consumed, produced: out.len(), state })
    }

    /// One thing: the bytes it took from `input`, and a state if the caller has to act.
    fn step(&mut self, input: &[u8], out: &mut Out<'_>) -> Result<(usize, Option<State>)> {
        match &mut self.phase {
            Phase::Failed(e) => return Err(e.clone()),
            Phase::Ended => return Ok((0, Some(State::Finished))),
            Phase::Body => return self.body(input, out),
            Phase::Padding | Phase::Garbage if input.is_empty() => return Ok((0, Some(State::Finished))),
            _ if input.is_empty() => return Ok((0, Some(State::NeedInput))),
            _ => {}
        }
        let used = match &mut self.phase {
            Phase::Header(header) => {
                let (used, complete) = header.feed(input)?;
                if complete {
                    return self.member(used);
                }
                used
            }
            Phase::Skip(skip) => {
                self.raw.prime(8 - *skip, input[0] >> *skip)?;
                self.phase = Phase::Body;
                1
            }
            Phase::Trailer(bytes, have) => {
                let used = input.len().min(8 - *have);
                bytes[*have..*have + used].copy_from_slice(&input[..used]);
                *have += used;
                if *have == 8 {
                    let [a, b, c, d, rest @ ..] = *bytes;
                    self.check(u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest))?;
                    self.phase = Phase::Between;
                }
                used
            }
            Phase::Between => {
                self.phase = match input[0] {
                    0 => Phase::Padding,
                    b if b == MAGIC[0] => Phase::Magic,
                    _ => Phase::Garbage,
                };
                // The byte stays for the phase that it starts, except for the magic, which has its own memory of it.
                usize::from(matches!(self.phase, Phase::Magic))
            }
            Phase::Magic if input[0] == MAGIC[1] => {
                self.phase = Phase::Header(Header::after_magic());
                1
            }
            Phase::Magic => {
                self.trailing = 1;
                self.phase = Phase::Garbage;
                0
            }
            Phase::Padding => {
                let zeros = input.iter().take_while(|&&b| b == 0).count();
                self.trailing += zeros as u64;
                if zeros < input.len() {
                    self.phase = Phase::Garbage;
                }
                zeros
            }
            Phase::Garbage => {
                self.trailing += input.len() as u64;
                self.garbage = true;
                input.len()
            }
            Phase::Body | Phase::Ended | Phase::Failed(_) => 0,
        };
        self.input += used as u64;
        Ok((used, None))
    }

    /// A header is complete, `used` bytes from here: its deflate data comes next.
    fn member(&mut self, used: usize) -> Result<(usize, Option<State>)> {
        self.input += used as u64;
        self.raw.reset();
        self.crc.reset();
        self.phase = Phase::Body;
        if let Some(recorder) = &mut self.recorder
            && recorder.is_due(self.out)
        {
            recorder.block(&self.raw, self.out, self.input, 0);
            return Ok((used, Some(State::NeedOutput)));
        }
        Ok((used, None))
    }

    fn body(&mut self, input: &[u8], out: &mut Out<'_>) -> Result<(usize, Option<State>)> {
        let (mut most, mut stop) = (usize::MAX, false);
        if let Some(recorder) = &mut self.recorder {
            if recorder.is_overdue(self.out) {
                recorder.inside(&self.raw, self.out, self.input);
                return Ok((0, Some(State::NeedOutput)));
            }
            (most, stop) = recorder.plan(self.out);
        }
        let before = out.len();
        let result = self.raw.inflate(input, out, most, stop);
        let new = &out.filled()[before..];
        self.out += new.len() as u64;
        if self.checked {
            self.crc.update(new);
        }
        let step = result?;
        self.input += step.consumed as u64;
        if step.stream_end {
            self.phase = Phase::Trailer([0; 8], 0);
        } else if step.at_block_boundary {
            // Asked for only by a recorder, and only when a point is due.
            if let Some(recorder) = &mut self.recorder {
                // The byte that the next block shares with this one is consumed; resuming starts with it.
                let (shared, skip) = if step.unused_bits == 0 { (0, 0) } else { (1, 8 - step.unused_bits) };
                recorder.block(&self.raw, self.out, self.input - shared, skip);
                return Ok((step.consumed, Some(State::NeedOutput)));
            }
        } else if step.consumed == 0 && step.produced == 0 {
            return match (out.is_full(), input.is_empty()) {
                (true, _) => Ok((0, Some(State::NeedOutput))),
                (_, true) => Ok((0, Some(State::NeedInput))),
                _ => Err(err!(Kind::Internal, "inflate makes no progress at byte {}", self.input)),
            };
        }
        Ok((step.consumed, None))
    }

    /// The trailer (RFC 1952, 2.3.1) against what was decoded.
    fn check(&self, crc: u32, isize: u32) -> Result<()> {
        if !self.checked {
            return Ok(());
        }
        let at = self.input;
        // Both counts are modulo 2^32.
        let sum = self.crc.finalize();
        if u64::from(crc) != sum {
            return Err(err!(
                Kind::GzipChecksum,
                "CRC-32 of the gzip member that ends near byte {at} is {sum:08x}, not {crc:08x}"
            ));
        }
        let len = self.crc.get_amount() as u32;
        if isize != len {
            return Err(err!(
                Kind::GzipChecksum,
                "length of the gzip member that ends near byte {at} is {len}, not {isize} (modulo 2^32)"
            ));
        }
        Ok(())
    }
}
