//! DEFLATE's input, a few bits at a time (RFC 1951, 3.1.1), for all that need not be fast.
//!
//! Invariant: a byte is taken only when its bits are needed. So between symbols fewer than 8 bits are held, except where the
//! input ended inside a symbol, and then fewer than that needs.

use super::huffman::{EXCEPTION, INVALID, LOOK_AGAIN};

/// Bits that were taken from the input and are not used yet: the next one lowest, zeros above `count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    pub buf: u64,
    pub count: u32,
}

impl Bits {
    /// Uses the next `count` bits, at most 32. None if they are not there.
    pub fn number(&mut self, count: u32) -> Option<u32> {
        let left = self.count.checked_sub(count)?;
        let value = self.buf & ((1 << count) - 1);
        (self.buf, self.count) = (self.buf >> count, left);
        Some(value as u32)
    }

    /// Uses the next code, not its extra bits: what it means. None if not all of it is there.
    pub fn code(&mut self, table: &[u32], root: u32) -> Option<u32> {
        // Missing bits count as zeros: then the code that is found may be another, but is longer than what is there.
        let look = |start: u32, from: u32, count: u32| {
            let at = start as usize + ((self.buf >> from) as usize & ((1 << count) - 1));
            table.get(at).copied().unwrap_or(INVALID)
        };
        let (mut entry, mut len) = (look(0, 0, root), 0);
        if entry & EXCEPTION != 0 && entry & LOOK_AGAIN != 0 {
            (entry, len) = (look(entry >> 16, root, entry >> 8 & 15), root);
        }
        self.number(len + (entry >> 8 & 15))?;
        Some(entry)
    }

    /// Uses the extra bits of `entry`, which [`Bits::code`] gave: its base and they.
    pub fn extra(&mut self, entry: u32) -> Option<usize> {
        let more = self.number((entry & 0xff) - (entry >> 8 & 15))?;
        Some(((entry >> 16) + more) as usize)
    }
}

/// What the caller gave, and how much of it is taken.
pub(super) struct Source<'a> {
    pub all: &'a [u8],
    pub at: usize,
}

impl<'a> Source<'a> {
    pub fn rest(&self) -> &'a [u8] {
        &self.all[self.at..]
    }

    /// The next `count` bits, at most 32. None if the input ends before.
    pub fn number(&mut self, bits: &mut Bits, count: u32) -> Option<usize> {
        self.read(bits, |bits| bits.number(count)).map(|value| value as usize)
    }

    /// What `read` reads, at most 48 bits, with as many bytes as it takes. None if the input ends before: then all of it is
    /// in `bits`.
    pub fn read<T>(&mut self, bits: &mut Bits, read: impl Fn(&mut Bits) -> Option<T>) -> Option<T> {
        loop {
            let mut rest = *bits;
            if let Some(value) = read(&mut rest) {
                *bits = rest;
                return Some(value);
            }
            let byte = *self.all.get(self.at)?;
            self.at += 1;
            bits.buf |= u64::from(byte) << bits.count;
            bits.count += 8;
        }
    }
}
