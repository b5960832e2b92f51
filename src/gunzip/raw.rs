//! Raw DEFLATE (RFC 1951), as a stream that can stop, and be copied, anywhere.
//!
//! Invariants:
//! * A call takes what it can use: all of the input, unless the room, a block or the stream ends first. Then it takes no byte
//!   of which no bit was used.
//! * What is refused is what zlib refuses, by the names it has there.
//! * The window is the last 32 KiB of what was decoded since [`RawInflate::reset`], this call's text not included.
//!
//! Why not a library. zlib-rs (through its zlib API) did this before, and takes 1.4 times as long on Docker JSON; libdeflate,
//! which takes 1.2 times as long, wants all of a stream and of its text in memory. Nearly all CPU time of this program is spent
//! here. What this says of any stream is compared with zlib-rs in tests/inflate.rs.

use super::bits::{Bits, Source};
use super::block::{Content, Damage, Head};
use super::fast::{self, Stop};
use super::huffman::{DISTANCE_BITS, END, EXCEPTION, LITERAL, LITLEN_BITS, Tables};
use super::out::Out;
use super::window::Window;
use crate::err;
use crate::error::{Kind, Result};

/// Heap bytes of one [`RawInflate`], for budgets.
pub(super) const STATE_COST: usize = size_of::<State>();

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// Bytes added to the output.
    pub produced: usize,
    /// The last block is complete; the input goes on (byte-aligned) behind it.
    pub stream_end: bool,
    /// `stop_at_block` was asked for, and a block that is not the last one has just ended.
    pub at_block_boundary: bool,
    /// At a boundary: how many (high) bits of the last consumed byte belong to the next block; 0 to 7.
    pub unused_bits: u8,
}

/// What comes next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Of a block, from its first bit on or somewhere in it.
    Head,
    /// So many bytes.
    Stored(usize),
    Symbol,
    /// A byte to write.
    Literal(u8),
    /// So much is left to write of a match, from so far back.
    Match(usize, usize),
    Nothing,
}

/// A call of [`RawInflate::inflate`].
struct Call<'a, 'b> {
    source: Source<'a>,
    out: &'a mut Out<'b>,
    /// Where in `out` its text starts, and where it ends at the latest.
    start: usize,
    limit: usize,
    stop_at_block: bool,
}

/// Why a call ends.
enum Pause {
    Input,
    Room,
    Boundary,
    End,
}

#[derive(Clone)]
struct State {
    head: Head,
    tables: Tables,
    window: Window,
}

/// One raw inflate state.
#[derive(Clone)]
pub(super) struct RawInflate {
    state: Box<State>,
    bits: Bits,
    next: Next,
}

impl RawInflate {
    pub fn new() -> Self {
        let state = State { head: Head::new(), tables: Tables::new(), window: Window::new() };
        RawInflate { state: state.into(), bits: Bits::default(), next: Next::Head }
    }

    /// Inflates from `input` into at most `most` bytes of `out`, as far as either lasts, or to the end of the stream, or
    /// (with `stop_at_block`) to the end of a block. A call that can do nothing is no error: it says 0 and 0.
    ///
    /// `BadGzip` on a damaged stream; what was decoded before the damage is in `out` all the same.
    pub fn inflate(&mut self, input: &[u8], out: &mut Out<'_>, most: usize, stop_at_block: bool) -> Result<Step> {
        let start = out.len();
        let limit = start.saturating_add(most).min(out.buf.len());
        let mut call = Call { source: Source { all: input, at: 0 }, out, start, limit, stop_at_block };
        let pause = self.run(&mut call).map_err(|what| err!(Kind::BadGzip, "damaged deflate data: {what}"))?;
        let consumed = call.source.at;
        self.state.window.add(&out.filled()[start..]);
        Ok(Step {
            consumed,
            produced: out.len() - start,
            stream_end: matches!(pause, Pause::End),
            at_block_boundary: matches!(pause, Pause::Boundary),
            unused_bits: (self.bits.count & 7) as u8,
        })
    }

    /// Puts `bits` bits (0 to 7) of `value` before the input. Only on a fresh state.
    pub fn prime(&mut self, bits: u8, value: u8) -> Result<()> {
        if bits > 7 || self.next != Next::Head || self.state.head != Head::new() || self.bits.count != 0 {
            return Err(err!(Kind::Internal, "cannot prime {bits} bits"));
        }
        self.bits = Bits { buf: u64::from(value) & ((1 << bits) - 1), count: bits.into() };
        Ok(())
    }

    /// Makes the last 32 KiB of `history` the text that the next block can refer back to.
    pub fn set_dictionary(&mut self, history: &[u8]) {
        self.state.window.clear();
        self.state.window.add(history);
    }

    /// The text that the next block can refer back to: at most 32 KiB, and less when fewer bytes were decoded since
    /// [`RawInflate::reset`].
    pub fn dictionary(&self) -> &[u8] {
        self.state.window.text()
    }

    /// Back to the state of `new`, with nothing allocated or freed.
    pub fn reset(&mut self) {
        self.state.window.clear();
        self.state.head = Head::new();
        (self.bits, self.next) = (Bits::default(), Next::Head);
    }

    fn run(&mut self, call: &mut Call<'_, '_>) -> Result<Pause, Damage> {
        loop {
            let pause = match self.next {
                Next::Symbol => self.symbols(call)?,
                Next::Literal(byte) => self.literal(call, byte),
                Next::Match(left, distance) => self.repeat(call, left, distance),
                Next::Stored(0) => self.end_of_block(call),
                Next::Stored(left) => self.stored(call, left),
                Next::Nothing => Some(Pause::End),
                Next::Head => self.head(&mut call.source)?,
            };
            if let Some(pause) = pause {
                return Ok(pause);
            }
        }
    }

    fn head(&mut self, source: &mut Source<'_>) -> Result<Option<Pause>, Damage> {
        let State { head, tables, .. } = &mut *self.state;
        self.next = match head.read(source, &mut self.bits, tables)? {
            Some(Content::Stored(len)) => Next::Stored(len),
            Some(Content::Symbols) => Next::Symbol,
            None => return Ok(Some(Pause::Input)),
        };
        Ok(None)
    }

    fn stored(&mut self, call: &mut Call<'_, '_>, left: usize) -> Option<Pause> {
        // No bits are held here: a length ends with its byte.
        let (rest, room) = (call.source.rest(), call.room());
        let now = left.min(rest.len()).min(room);
        call.out.put(&rest[..now]);
        call.source.at += now;
        self.next = Next::Stored(left - now);
        match now {
            0 if room == 0 => Some(Pause::Room),
            0 => Some(Pause::Input),
            _ => None,
        }
    }

    fn symbols(&mut self, call: &mut Call<'_, '_>) -> Result<Option<Pause>, Damage> {
        let State { tables, window, .. } = &*self.state;
        let span = (call.start, call.limit);
        let (taken, stop) = fast::run(tables, &mut self.bits, call.source.rest(), call.out, span, window);
        call.source.at += taken;
        match stop {
            Stop::Short => self.symbol(call),
            Stop::EndOfBlock => Ok(self.end_of_block(call)),
            Stop::Damaged(what) => Err(what),
        }
    }

    /// One symbol, near the end of the input or the room.
    fn symbol(&mut self, call: &mut Call<'_, '_>) -> Result<Option<Pause>, Damage> {
        let tables = &self.state.tables;
        let history = self.dictionary().len() + call.out.len() - call.start;
        let read = call.source.read(&mut self.bits, |bits| {
            let entry = bits.code(&tables.litlen, LITLEN_BITS)?;
            Some(Ok(if entry & LITERAL != 0 {
                Next::Literal((entry >> 16) as u8)
            } else if entry & EXCEPTION == 0 {
                let len = bits.extra(entry)?;
                let entry = bits.code(&tables.distance, DISTANCE_BITS)?;
                if entry & EXCEPTION != 0 {
                    return Some(Err("invalid distance code"));
                }
                let distance = bits.extra(entry)?;
                if distance > history {
                    return Some(Err("invalid distance too far back"));
                }
                Next::Match(len, distance)
            } else if entry & END != 0 {
                Next::Stored(0)
            } else {
                return Some(Err("invalid literal/length code"));
            }))
        });
        let Some(next) = read else { return Ok(Some(Pause::Input)) };
        self.next = next?;
        Ok(None)
    }

    fn literal(&mut self, call: &mut Call<'_, '_>, byte: u8) -> Option<Pause> {
        if call.room() == 0 {
            return Some(Pause::Room);
        }
        call.out.put(&[byte]);
        self.next = Next::Symbol;
        None
    }

    fn repeat(&mut self, call: &mut Call<'_, '_>, left: usize, distance: usize) -> Option<Pause> {
        let mut now = left.min(call.room());
        if now == 0 {
            return Some(Pause::Room);
        }
        // Of what lies before this call's text as much as the match has, then of the text.
        let back = distance.saturating_sub(call.out.len() - call.start);
        if back > 0 {
            let old = self.state.window.back(back).unwrap_or_default();
            now = now.min(back);
            call.out.put(&old[..now]);
        } else {
            call.out.repeat(distance, now);
        }
        self.next = if now == left { Next::Symbol } else { Next::Match(left - now, distance) };
        None
    }

    fn end_of_block(&mut self, call: &Call<'_, '_>) -> Option<Pause> {
        let is_last = self.state.head.is_last();
        self.next = if is_last { Next::Nothing } else { Next::Head };
        (call.stop_at_block && !is_last).then_some(Pause::Boundary)
    }
}

impl Call<'_, '_> {
    fn room(&self) -> usize {
        self.limit - self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::WINDOW;
    use super::*;

    /// A stored block of "ab", then a fixed block (last) that copies 3 bytes from 2 back.
    fn two_blocks() -> Vec<u8> {
        let mut deflate = vec![0, 2, 0, 0xfd, 0xff, b'a', b'b'];
        // 1, 01; length 3: 0000001; distance 2: 00001; end: 0000000.
        let bits = [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        deflate.extend(bits.chunks(8).map(|c| c.iter().enumerate().fold(0u8, |b, (i, bit)| b | (bit << i))));
        deflate
    }

    fn inflate(raw: &mut RawInflate, input: &[u8], most: usize, stop: bool) -> Result<(Step, Vec<u8>)> {
        let mut vec = Vec::with_capacity(100);
        let step = Out::append(&mut vec, usize::MAX, |out| raw.inflate(input, out, most, stop))?;
        assert_eq!(step.produced, vec.len());
        Ok((step, vec))
    }

    #[test]
    fn it_stops_at_a_block_only_when_asked_and_ends_at_the_end() {
        let deflate = two_blocks();
        let (step, plain) = inflate(&mut RawInflate::new(), &deflate, 100, false).unwrap();
        assert!(step.stream_end && !step.at_block_boundary && step.consumed == deflate.len());
        assert_eq!(plain, b"ababa");

        let mut raw = RawInflate::new();
        let (step, plain) = inflate(&mut raw, &deflate, 100, true).unwrap();
        assert_eq!(step, Step { consumed: 7, produced: 2, stream_end: false, at_block_boundary: true, unused_bits: 0 });
        assert_eq!(plain, b"ab");
        assert_eq!(raw.dictionary(), b"ab");
        // From the window alone, and with the first bits given by hand.
        let mut other = RawInflate::new();
        other.set_dictionary(raw.dictionary());
        other.prime(7, deflate[7]).unwrap();
        assert!(other.prime(1, 0).is_err(), "once only");
        let shifted: Vec<u8> =
            (7..deflate.len()).map(|i| deflate[i] >> 7 | deflate.get(i + 1).copied().unwrap_or(0) << 1).collect();
        let (step, plain) = inflate(&mut other, &shifted, 100, false).unwrap();
        assert!(step.stream_end);
        assert_eq!(plain, b"aba");
        // Without the window the copy has nothing to copy.
        let error = inflate(&mut RawInflate::new(), &deflate[7..], 100, false).unwrap_err();
        assert_eq!(error.kind(), Kind::BadGzip);
        assert!(error.message().contains("too far back"), "{error}");
    }

    #[test]
    fn a_copy_goes_on_alone_from_inside_a_match() {
        let deflate = two_blocks();
        let mut raw = RawInflate::new();
        let (step, plain) = inflate(&mut raw, &deflate, 3, false).unwrap();
        assert_eq!(plain, b"aba");
        let mut copies = [raw.clone(), raw.clone()];
        drop(raw);
        for copy in &mut copies {
            let (end, plain) = inflate(copy, &deflate[step.consumed..], 100, false).unwrap();
            assert!(end.stream_end);
            assert_eq!(plain, b"ba");
        }
        copies[0].reset();
        assert!(copies[0].dictionary().is_empty());
        assert_eq!(inflate(&mut copies[0], &deflate, 100, false).unwrap().1, b"ababa");
    }

    #[test]
    fn misuse_is_an_error_and_idle_calls_are_none() {
        let mut raw = RawInflate::new();
        assert!(raw.prime(8, 0).is_err());
        let (step, _) = inflate(&mut raw, &[], 100, true).unwrap();
        assert_eq!((step.consumed, step.produced, step.stream_end), (0, 0, false));
        let deflate = two_blocks();
        let (step, _) = inflate(&mut raw, &deflate, 0, false).unwrap();
        assert_eq!(step.produced, 0);
        assert!(raw.prime(1, 0).is_err(), "not fresh");
        let mut long = vec![1; WINDOW + 5];
        long[4] = 9;
        long[5] = 7;
        let mut raw = RawInflate::new();
        raw.set_dictionary(&long);
        assert_eq!(raw.dictionary().len(), WINDOW);
        assert_eq!(raw.dictionary()[..2], [7, 1]);
    }
}
