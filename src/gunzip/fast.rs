//! The loop that inflate spends its time in: symbols of one block, while input and room last for sure.
//!
//! It is what libdeflate does, streaming, with two literals to an entry (see `huffman`). Invariants, which are the reasons
//! of every `unsafe` here. A *round* decodes at most 3 literal entries and one match.
//!
//! * Input: a round begins with `next` at least 16 bytes before the end. It refills at most twice; that reads 8 bytes, and
//!   moves `next` by 7 at most. So the last read ends before the input does. (Before the first round there is one refill
//!   more, and 24 bytes.)
//! * Output: a round begins with [`ROOM`] bytes free. Three entries take 6 of them (each writes 2 bytes, even if one
//!   counts), a match 258, and copying goes less than [`SPARE`] beyond its end.
//! * Text: what a match refers to lies between the start of this call's text and its end, or in the window, or is an error.
//!   The window is another buffer, which has [`SPARE`] bytes behind what it holds, so copying may go beyond that, too.
//! * Bits: a refill leaves 56 at least. Three looks of [`LITLEN_BITS`], or two and a length (15 and 5 extra) and
//!   [`DISTANCE_BITS`], are less; a distance (15 and 13 extra) and a look are, too. Only the lowest 8 bits of `Input::count`
//!   count, so that a whole entry can be subtracted; bits of `Input::bits` above the count are those of the next bytes.

use std::mem::MaybeUninit;

use super::bits::Bits;
use super::huffman::{DISTANCE_BITS, END, EXCEPTION, INVALID, LITERAL, LITLEN_BITS, LOOK_AGAIN, Tables};
use super::out::Out;
use super::window::{SPARE, Window};

type Byte = MaybeUninit<u8>;

/// Room that a round needs, in bytes.
const ROOM: usize = 6 + 258 + SPARE;
/// Input that the first and each other round need, in bytes.
const FIRST_INPUT: usize = 24;
const INPUT: usize = 16;

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Input or room may not last for a round.
    Short,
    EndOfBlock,
    Damaged(&'static str),
}

struct Input {
    next: *const u8,
    bits: u64,
    count: u32,
}

impl Input {
    /// # Safety
    /// 8 bytes can be read at `next`.
    #[inline(always)]
    unsafe fn refill(&mut self) {
        // SAFETY: the caller's promise; the bytes of a slice are initialised, and `next` stays within those 8.
        unsafe {
            self.bits |= u64::from_le(self.next.cast::<u64>().read_unaligned()) << (self.count & 63);
            self.next = self.next.add(7 - (self.count as usize >> 3 & 7));
        }
        self.count |= 56;
    }

    /// The next so many bits, which stay.
    #[inline(always)]
    fn see(&self, count: u32) -> usize {
        self.bits as usize & ((1 << count) - 1)
    }

    /// Uses up what `entry` takes: its extra bits, added to its base.
    #[inline(always)]
    fn take(&mut self, entry: u32) -> usize {
        let whole = self.bits & ((1 << (entry & 63)) - 1);
        self.drop(entry);
        (entry >> 16) as usize + (whole >> (entry >> 8 & 15)) as usize
    }

    /// What a code means that is longer than the first look sees.
    #[inline(always)]
    fn look_again(&mut self, table: &[u32], entry: u32) -> u32 {
        self.drop(entry);
        let at = (entry >> 16) as usize + self.see(entry >> 8 & 15);
        table.get(at).copied().unwrap_or(INVALID)
    }

    #[inline(always)]
    fn drop(&mut self, entry: u32) {
        self.bits >>= entry & 63;
        self.count = self.count.wrapping_sub(entry);
    }
}

/// Copies N bytes, initialised or not.
///
/// # Safety
/// N bytes can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const Byte, to: *mut Byte) {
    // SAFETY: the caller's promise. First all is read, then written: they may overlap.
    unsafe { to.cast::<[Byte; N]>().write_unaligned(from.cast::<[Byte; N]>().read_unaligned()) }
}

/// Writes the one or two literals of `entry`: where the next byte goes.
///
/// # Safety
/// 2 bytes can be written at `to`.
#[inline(always)]
unsafe fn put(entry: u32, to: *mut Byte) -> *mut Byte {
    // SAFETY: the caller's promise.
    unsafe {
        to.cast::<[u8; 2]>().write_unaligned(((entry >> 16) as u16).to_le_bytes());
        to.add(1 + (entry as usize >> 13 & 1))
    }
}

/// Copies `len` bytes to another buffer.
///
/// # Safety
/// `len` + [`SPARE`] bytes can be read at `from` and written at `to`, and none of them are the same.
#[inline(always)]
unsafe fn carry(mut from: *const Byte, mut to: *mut Byte, len: usize) -> *mut Byte {
    // SAFETY: the caller's promise: a piece is copied only where less than `len` was.
    unsafe {
        let end = to.add(len);
        while to < end {
            copy::<SPARE>(from, to);
            (from, to) = (from.add(SPARE), to.add(SPARE));
        }
        end
    }
}

/// Repeats `len` bytes from `distance` before `to`: where the next byte goes.
///
/// # Safety
/// `distance` is not 0, so many bytes lie before `to` in the same buffer, and `len` + [`SPARE`] can be written there.
#[inline(always)]
unsafe fn repeat(mut to: *mut Byte, distance: usize, len: usize) -> *mut Byte {
    // SAFETY: the caller's promise: a piece is written only where less than `len` was, and reads up to what was written so
    // far: it is no longer than the distance, except where one byte is repeated.
    unsafe {
        let end = to.add(len);
        let mut from = to.cast_const().sub(distance);
        if distance >= SPARE {
            loop {
                copy::<SPARE>(from, to);
                (from, to) = (from.add(SPARE), to.add(SPARE));
                if to >= end {
                    break;
                }
            }
        } else if distance >= 8 {
            loop {
                copy::<8>(from, to);
                (from, to) = (from.add(8), to.add(8));
                if to >= end {
                    break;
                }
            }
        } else if distance == 1 {
            let piece = [*from; SPARE];
            while to < end {
                to.cast::<[Byte; SPARE]>().write_unaligned(piece);
                to = to.add(SPARE);
            }
        } else {
            while to < end {
                *to = *from;
                (from, to) = (from.add(1), to.add(1));
            }
        }
        end
    }
}

/// Decodes from `input` into `out`, below `limit`: how many bytes of input were taken, and why it ended. `start` is where
/// in `out` the text begins that matches may refer to, and `window` what was before.
pub(super) fn run(
    tables: &Tables,
    bits: &mut Bits,
    input: &[u8],
    out: &mut Out<'_>,
    (start, limit): (usize, usize),
    window: &Window,
) -> (usize, Stop) {
    let room = out.buf.get_mut(..limit).and_then(|buf| buf.get_mut(start..)).unwrap_or_default();
    let Some(filled) = out.filled.checked_sub(start) else { return (0, Stop::Short) };
    if input.len() < FIRST_INPUT || room.len() < ROOM + filled {
        return (0, Stop::Short);
    }
    let begin = room.as_mut_ptr();
    let mut source = Input { next: input.as_ptr(), bits: bits.buf, count: bits.count };
    // SAFETY: lengths were compared just now.
    let (last, mut to, full, begun) =
        unsafe { (source.next.add(input.len() - INPUT), begin.add(filled), begin.add(room.len() - ROOM), source.next) };
    // SAFETY: the head of this file, "Input".
    unsafe { source.refill() };
    let mut entry = tables.litlen[source.see(LITLEN_BITS)];
    let stop = 'rounds: loop {
        'round: {
            let mut literals = 0;
            while entry & LITERAL != 0 {
                source.drop(entry);
                let next = tables.litlen[source.see(LITLEN_BITS)];
                // SAFETY: "Output".
                to = unsafe { put(entry, to) };
                entry = next;
                literals += 1;
                if literals == 3 {
                    // SAFETY: "Input".
                    unsafe { source.refill() };
                    break 'round;
                }
            }
            if entry & EXCEPTION != 0 {
                if entry & LOOK_AGAIN != 0 {
                    entry = source.look_again(&tables.litlen, entry);
                }
                if entry & EXCEPTION != 0 {
                    source.drop(entry);
                    break 'rounds if entry & END != 0 {
                        Stop::EndOfBlock
                    } else {
                        Stop::Damaged("invalid literal/length code")
                    };
                }
                if entry & LITERAL != 0 {
                    source.drop(entry);
                    // SAFETY: "Output", "Input".
                    unsafe {
                        to = put(entry, to);
                        source.refill();
                    }
                    entry = tables.litlen[source.see(LITLEN_BITS)];
                    break 'round;
                }
            }
            let len = source.take(entry);
            let mut code = tables.distance[source.see(DISTANCE_BITS)];
            // SAFETY: "Input".
            unsafe { source.refill() };
            if code & EXCEPTION != 0 {
                if code & LOOK_AGAIN != 0 {
                    code = source.look_again(&tables.distance, code);
                }
                if code & EXCEPTION != 0 {
                    break 'rounds Stop::Damaged("invalid distance code");
                }
            }
            let distance = source.take(code);
            // For the next round, while this one copies.
            entry = tables.litlen[source.see(LITLEN_BITS)];
            // SAFETY: "Input". Both pointers are into `room`.
            let have = unsafe {
                source.refill();
                to.offset_from_unsigned(begin)
            };
            if distance > have {
                let back = distance - have;
                let Some(old) = window.back(back) else {
                    break 'rounds Stop::Damaged("invalid distance too far back");
                };
                // SAFETY: "Output", "Text". What is left of the match begins where the text does.
                unsafe {
                    to = carry(old.as_ptr().cast(), to, back.min(len));
                    for _ in back..len {
                        *to = *to.sub(distance);
                        to = to.add(1);
                    }
                }
            } else {
                // SAFETY: "Text", "Output"; no distance in `huffman` is 0.
                to = unsafe { repeat(to, distance, len) };
            }
        }
        if source.next > last || to > full {
            break Stop::Short;
        }
    };
    // Whole bytes go back. The others are all from this input: those that were there before are used first.
    let count = source.count & 63;
    bits.count = count & 7;
    bits.buf = source.bits & ((1 << bits.count) - 1);
    // SAFETY: each pair points into one slice.
    let (taken, filled) = unsafe { (source.next.offset_from_unsigned(begun), to.offset_from_unsigned(begin)) };
    out.filled = start + filled;
    (taken.saturating_sub(count as usize / 8), stop)
}
