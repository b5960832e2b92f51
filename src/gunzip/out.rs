//! A caller's buffer while it is being filled.
//!
//! Invariant: `filled <= buf.len()`, and `buf[..filled]` is initialised. So spare capacity of a `Vec` can be filled without
//! zeroing it.

use std::mem::MaybeUninit;
use std::ptr;

pub(super) struct Out<'a> {
    pub(super) buf: &'a mut [MaybeUninit<u8>],
    pub(super) filled: usize,
}

impl<'a> Out<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        let (at, len) = (buf.as_mut_ptr().cast::<MaybeUninit<u8>>(), buf.len());
        // SAFETY: same memory, same lifetime, same layout; and nothing uninitialised is ever stored through it: all that is
        // written are bytes of the input and of the window, and copies of bytes of this buffer.
        let buf = unsafe { std::slice::from_raw_parts_mut(at, len) };
        Out { buf, filled: 0 }
    }

    /// Lets `fill` write at most `most` bytes into the spare capacity of `vec`, which then has what was written as its new
    /// end. If `fill` panics, `vec` is unchanged.
    pub fn append<R>(vec: &mut Vec<u8>, most: usize, fill: impl FnOnce(&mut Out<'_>) -> R) -> R {
        let len = vec.len();
        let spare = vec.spare_capacity_mut();
        let most = most.min(spare.len());
        let mut out = Out { buf: &mut spare[..most], filled: 0 };
        // `fill` could put another `Out` in place of this one; then its mark says nothing about this memory.
        let at = out.buf.as_ptr();
        let result = fill(&mut out);
        let filled = if ptr::eq(at, out.buf.as_ptr()) { out.filled } else { 0 };
        // SAFETY: by the invariant of `Out` the first `filled` bytes of the spare capacity are initialised, and they
        // lie within it.
        unsafe { vec.set_len(len + filled) };
        result
    }

    pub fn filled(&self) -> &[u8] {
        // SAFETY: by the invariant this part lies in the buffer and is initialised.
        unsafe { std::slice::from_raw_parts(self.buf.as_ptr().cast::<u8>(), self.filled) }
    }

    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn is_full(&self) -> bool {
        self.filled == self.buf.len()
    }

    /// Adds as many of `bytes` as fit.
    pub fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.buf[self.filled..];
        let now = bytes.len().min(room.len());
        room[..now].write_copy_of_slice(&bytes[..now]);
        self.filled += now;
    }

    /// Adds, as far as it fits, `len` bytes of what begins `distance` back, which may be what this adds. Nothing if that lies
    /// before the buffer.
    pub fn repeat(&mut self, distance: usize, len: usize) {
        for to in self.filled..self.buf.len().min(self.filled + len) {
            let Some(from) = to.checked_sub(distance) else { return };
            self.buf[to] = self.buf[from];
            self.filled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_never_grows_and_reports_only_what_was_written() {
        let mut vec = Vec::with_capacity(8);
        vec.extend_from_slice(b"xxxxxx");
        let room = vec.capacity() - vec.len();
        Out::append(&mut vec, usize::MAX, |out| {
            out.put(b"ab");
            out.repeat(2, 100);
            assert_eq!(out.len(), room);
            assert!(out.is_full());
            assert_eq!(out.filled()[..2], *b"ab");
        });
        assert_eq!(&vec[..8], b"xxxxxxab");
        assert_eq!(vec.len(), vec.capacity());
        assert!(Out::append(&mut Vec::new(), usize::MAX, |out| out.is_full()));
        let mut vec = Vec::with_capacity(10);
        assert!(Out::append(&mut vec, 0, |out| out.is_full()), "no more than was asked for");
    }

    #[test]
    fn repeating_reads_only_what_is_there() {
        let mut buf = [b'-'; 9];
        let mut out = Out::new(&mut buf);
        out.repeat(1, 5);
        assert_eq!(out.len(), 0, "nothing is there to repeat");
        out.put(b"abc");
        out.repeat(4, 2);
        assert_eq!(out.filled(), b"abc");
        out.repeat(2, 5);
        assert_eq!(out.filled(), b"abcbcbcb");
        out.repeat(8, 5);
        assert_eq!(out.filled(), b"abcbcbcba", "as far as it fits");
    }

    #[test]
    fn another_buffer_in_its_place_is_not_believed() {
        let mut vec = Vec::with_capacity(4);
        Out::append(&mut vec, usize::MAX, |out| {
            let mut replaced = Out::new(Box::leak(Box::new([1; 4])));
            replaced.put(b"abcd");
            std::mem::swap(out, &mut replaced);
        });
        assert!(vec.is_empty());
    }
}
