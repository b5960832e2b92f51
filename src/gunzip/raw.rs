//! Raw DEFLATE (RFC 1951) by zlib-rs through its zlib API: the one file of this module with `unsafe`.
//!
//! flate2 has neither `inflatePrime` nor `Z_BLOCK` nor `inflateCopy`, and seek points need all three; so the C-shaped
//! API is wrapped here, once, behind safe types that cannot be misused into undefined behaviour:
//!
//! * [`RawInflate`] owns one initialised stream from its making to its drop. Between calls its pointers are dangling
//!   with a length of 0: it never holds on to a caller's memory.
//! * [`Out`] is a caller's buffer with the part that is filled: only [`RawInflate::inflate`] moves that mark, and
//!   only over bytes that zlib reported as written. So spare capacity of a `Vec` can be filled without zeroing it.
//! * The state is allocated zeroed: the decoder copies in chunks and may read padding past its window, so without
//!   this an uninitialised byte could land (beyond what was produced) in a caller's `&mut [u8]`.
//! * zlib's promise "fewer than 8 bits are held when a symbol is due" keeps its input pointer in bounds;
//!   [`RawInflate::prime`] takes at most 7 bits, and only on a fresh state, so it cannot break that.
//!
//! A panic inside zlib-rs would abort the process (its functions are `extern "C"`): no input is known to cause one.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use libz_rs_sys as z;

use crate::err;
use crate::error::{Kind, Result};

/// The largest distance of a DEFLATE match, so the most history that decoding can need, in bytes (RFC 1951, 3.2.5).
pub(super) const WINDOW: usize = 32 * 1024;

/// Heap bytes of one [`RawInflate`], for budgets: zlib-rs 0.6.8 takes 47 KiB (window, Huffman tables, stream).
pub(super) const STATE_COST: usize = 48 * 1024;

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

/// A buffer being filled. Invariant: `filled <= buf.len()`, and `buf[..filled]` is initialised.
pub(super) struct Out<'a> {
    buf: &'a mut [MaybeUninit<u8>],
    filled: usize,
}

impl<'a> Out<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        let (at, len) = (buf.as_mut_ptr().cast::<MaybeUninit<u8>>(), buf.len());
        // SAFETY: same memory, same lifetime, same layout; and nothing uninitialised is ever stored through it, since
        // zlib copies only from the input, this buffer, and its own state, which is allocated zeroed.
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
}

/// `calloc` in zlib's shape: zeroed, so that no uninitialised byte is ever in the state.
unsafe extern "C" fn alloc(_: *mut c_void, items: c_uint, size: c_uint) -> *mut c_void {
    // SAFETY: calloc takes any two numbers, and checks their product.
    unsafe { libc::calloc(items as usize, size as usize) }
}

unsafe extern "C" fn free(_: *mut c_void, at: *mut c_void) {
    // SAFETY: zlib hands back only what `alloc` gave it, once.
    unsafe { libc::free(at) }
}

/// One raw inflate state. The stream is boxed: zlib does not promise that it may move.
pub(super) struct RawInflate {
    /// Invariant: initialised by `inflateInit2_` or `inflateCopy`, with `next_in` and `next_out` dangling, of length 0.
    stream: Box<z::z_stream>,
}

// SAFETY: the stream exclusively owns its state (calloc memory, not tied to a thread); its other pointers are dangling
// with length 0, or static text (`msg`).
unsafe impl Send for RawInflate {}
// SAFETY: by `&self` only `get_dictionary` and `copy` work, and both only read the stream and its state.
unsafe impl Sync for RawInflate {}

impl RawInflate {
    /// A fresh state. `NoMemory` if it cannot be allocated.
    pub fn new() -> Result<Self> {
        let mut stream = Box::new(z::z_stream { zalloc: Some(alloc), zfree: Some(free), ..z::z_stream::default() });
        // SAFETY: `stream` is a valid z_stream with a matching pair of allocation functions, and the version is the
        // library's own. Window bits of -15: raw deflate, 32 KiB.
        let code = unsafe { z::inflateInit2_(&mut *stream, -15, z::zlibVersion(), size_of::<z::z_stream>() as c_int) };
        if code != z::Z_OK {
            // Nothing was kept by a failed init, and `Drop` does not run: no `RawInflate` exists yet.
            return Err(err!(Kind::NoMemory, "no memory for a decompressor (zlib code {code})"));
        }
        let mut raw = RawInflate { stream };
        raw.detach();
        Ok(raw)
    }

    /// Inflates from `input` into at most `most` bytes of `out`, as far as either lasts, or to the end of the stream, or
    /// (with `stop_at_block`) to the end of a block. A call that can do nothing is no error: it says 0 and 0.
    ///
    /// `BadGzip` on a damaged stream; what was decoded before the damage is in `out` all the same.
    pub fn inflate(&mut self, input: &[u8], out: &mut Out<'_>, most: usize, stop_at_block: bool) -> Result<Step> {
        // zlib counts in 32 bits.
        const LIMIT: usize = 1 << 30;
        let avail_in = input.len().min(LIMIT);
        let room = &mut out.buf[out.filled..];
        let avail_out = room.len().min(most).min(LIMIT);

        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = avail_in as c_uint;
        self.stream.next_out = room.as_mut_ptr().cast();
        self.stream.avail_out = avail_out as c_uint;
        let flush = if stop_at_block { z::Z_BLOCK } else { z::Z_NO_FLUSH };
        // SAFETY: the stream is initialised (type invariant). `next_in` is readable for `avail_in` bytes and `next_out`
        // writable for `avail_out` (both at most the length of their slice, both borrowed for the whole call, and not
        // overlapping, since `room` is borrowed mutably). Uninitialised output is allowed.
        let code = unsafe { z::inflate(&mut *self.stream, flush) };
        let consumed = avail_in - self.stream.avail_in as usize;
        let produced = avail_out - self.stream.avail_out as usize;
        self.detach();
        // zlib has written (so initialised) exactly `produced` bytes from the old mark on.
        out.filled += produced;

        let stream_end = match code {
            z::Z_OK | z::Z_BUF_ERROR => false,
            z::Z_STREAM_END => true,
            z::Z_DATA_ERROR | z::Z_NEED_DICT => {
                return Err(err!(Kind::BadGzip, "damaged deflate data: {}", self.message()));
            }
            z::Z_MEM_ERROR => return Err(err!(Kind::NoMemory, "no memory to decompress")),
            _ => return Err(err!(Kind::Internal, "zlib failed with code {code}")),
        };
        // `data_type` (zlib.h, inflate): bits held, +64 in the last block, +128 right after a block's end.
        let kind = self.stream.data_type;
        let unused_bits = (kind & 63) as u8;
        let at_block_boundary = stop_at_block && !stream_end && kind & 128 != 0 && kind & 64 == 0 && unused_bits < 8;
        Ok(Step { consumed, produced, stream_end, at_block_boundary, unused_bits: unused_bits & 7 })
    }

    /// Puts `bits` bits (0 to 7) of `value` before the input. Only on a fresh state: see the file's head.
    pub fn prime(&mut self, bits: u8, value: u8) -> Result<()> {
        if bits > 7 || self.stream.total_in != 0 || self.stream.data_type & 63 != 0 {
            return Err(err!(Kind::Internal, "cannot prime {bits} bits"));
        }
        // SAFETY: the stream is initialised; the call has no other condition.
        let code = unsafe { z::inflatePrime(&mut *self.stream, c_int::from(bits), c_int::from(value)) };
        // Remembered here so that a second call is refused; inflate overwrites it.
        self.stream.data_type = c_int::from(bits);
        self.check(code, "inflatePrime")
    }

    /// Makes the last 32 KiB of `history` the text that the next block can refer back to.
    pub fn set_dictionary(&mut self, history: &[u8]) -> Result<()> {
        let history = &history[history.len().saturating_sub(WINDOW)..];
        // SAFETY: the stream is initialised, and pointer and length are those of a slice of at most 32 KiB.
        let code = unsafe { z::inflateSetDictionary(&mut *self.stream, history.as_ptr(), history.len() as c_uint) };
        self.check(code, "inflateSetDictionary")
    }

    /// Copies the text that the next block can refer back to into `window`: its length, at most 32 KiB, and less when
    /// fewer bytes were decoded since [`RawInflate::reset`].
    pub fn get_dictionary(&self, window: &mut [u8; WINDOW]) -> Result<usize> {
        let mut len: c_uint = 0;
        // SAFETY: the stream is initialised; `window` is writable for 32 KiB, which zlib says is always enough; the
        // call does not write through the stream pointer.
        let code = unsafe { z::inflateGetDictionary(&*self.stream, window.as_mut_ptr(), &mut len) };
        self.check(code, "inflateGetDictionary")?;
        Ok((len as usize).min(WINDOW))
    }

    /// Back to the state of `new`, with nothing allocated or freed.
    pub fn reset(&mut self) -> Result<()> {
        // SAFETY: the stream is initialised; the call has no other condition.
        let code = unsafe { z::inflateReset(&mut *self.stream) };
        // inflateReset leaves the last call's value here.
        self.stream.data_type = 0;
        self.check(code, "inflateReset")
    }

    /// A second state that goes on from exactly here, in the middle of a block or even of a symbol (`inflateCopy`).
    /// `NoMemory` if it cannot be allocated.
    pub fn copy(&self) -> Result<Self> {
        let mut stream = Box::new(z::z_stream::default());
        // SAFETY: the source is initialised with non-null `next_in` and `next_out` (type invariant), is only read, and
        // does not overlap the target, which is writable. The copy gets a state of its own; the dangling pointers that
        // come along have length 0.
        let code = unsafe { z::inflateCopy(&mut *stream, &*self.stream) };
        if code != z::Z_OK {
            // The target may hold the *source's* state pointer now: it is forgotten with the box, never freed through it.
            return Err(err!(Kind::NoMemory, "no memory for a copy of a decompressor (zlib code {code})"));
        }
        Ok(RawInflate { stream })
    }

    /// Lets go of the caller's buffers. Not null: `inflateCopy` wants a valid pointer even for no bytes.
    fn detach(&mut self) {
        self.stream.next_in = NonNull::dangling().as_ptr();
        self.stream.avail_in = 0;
        self.stream.next_out = NonNull::dangling().as_ptr();
        self.stream.avail_out = 0;
    }

    fn message(&self) -> String {
        if self.stream.msg.is_null() {
            return "no details".to_owned();
        }
        // SAFETY: zlib sets `msg` to null or to a static text that ends in NUL.
        unsafe { CStr::from_ptr(self.stream.msg) }.to_string_lossy().into_owned()
    }

    fn check(&self, code: c_int, what: &str) -> Result<()> {
        if code == z::Z_OK { Ok(()) } else { Err(err!(Kind::Internal, "{what} failed with code {code}")) }
    }
}

impl Drop for RawInflate {
    fn drop(&mut self) {
        // SAFETY: the stream is initialised and owned, and this is its last use.
        unsafe { z::inflateEnd(&mut *self.stream) };
    }
}

#[cfg(test)]
mod tests {
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
        let (step, plain) = inflate(&mut RawInflate::new().unwrap(), &deflate, 100, false).unwrap();
        assert!(step.stream_end && !step.at_block_boundary && step.consumed == deflate.len());
        assert_eq!(plain, b"ababa");

        let mut raw = RawInflate::new().unwrap();
        let (step, plain) = inflate(&mut raw, &deflate, 100, true).unwrap();
        assert_eq!(step, Step { consumed: 7, produced: 2, stream_end: false, at_block_boundary: true, unused_bits: 0 });
        assert_eq!(plain, b"ab");
        let mut window = [0; WINDOW];
        assert_eq!(raw.get_dictionary(&mut window).unwrap(), 2);
        // From the window alone, and with the first bits given by hand.
        let mut other = RawInflate::new().unwrap();
        other.set_dictionary(&window[..2]).unwrap();
        other.prime(7, deflate[7]).unwrap();
        assert!(other.prime(1, 0).is_err(), "once only");
        let shifted: Vec<u8> =
            (7..deflate.len()).map(|i| deflate[i] >> 7 | deflate.get(i + 1).copied().unwrap_or(0) << 1).collect();
        let (step, plain) = inflate(&mut other, &shifted, 100, false).unwrap();
        assert!(step.stream_end);
        assert_eq!(plain, b"aba");
        // Without the window the copy has nothing to copy.
        let error = inflate(&mut RawInflate::new().unwrap(), &deflate[7..], 100, false).unwrap_err();
        assert_eq!(error.kind(), Kind::BadGzip);
        assert!(error.message().contains("too far back"), "{error}");
    }

    #[test]
    fn a_copy_goes_on_alone_from_inside_a_match() {
        let deflate = two_blocks();
        let mut raw = RawInflate::new().unwrap();
        let (step, plain) = inflate(&mut raw, &deflate, 3, false).unwrap();
        assert_eq!(plain, b"aba");
        let mut copies = [raw.copy().unwrap(), raw.copy().unwrap()];
        drop(raw);
        for copy in &mut copies {
            let (end, plain) = inflate(copy, &deflate[step.consumed..], 100, false).unwrap();
            assert!(end.stream_end);
            assert_eq!(plain, b"ba");
        }
        copies[0].reset().unwrap();
        assert_eq!(copies[0].get_dictionary(&mut [0; WINDOW]).unwrap(), 0);
        assert_eq!(inflate(&mut copies[0], &deflate, 100, false).unwrap().1, b"ababa");
    }

    #[test]
    fn misuse_is_an_error_and_idle_calls_are_none() {
        let mut raw = RawInflate::new().unwrap();
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
        let mut raw = RawInflate::new().unwrap();
        raw.set_dictionary(&long).unwrap();
        let mut window = [0; WINDOW];
        assert_eq!(raw.get_dictionary(&mut window).unwrap(), WINDOW);
        assert_eq!(window[..2], [7, 1]);
    }

    #[test]
    fn appending_never_grows_and_reports_only_what_was_written() {
        let deflate = two_blocks();
        let mut vec = Vec::with_capacity(8);
        vec.extend_from_slice(b"xxxxxx");
        let room = vec.capacity() - vec.len();
        let mut raw = RawInflate::new().unwrap();
        Out::append(&mut vec, usize::MAX, |out| {
            raw.inflate(&deflate, out, 100, false).unwrap();
            assert_eq!(out.len(), room.min(5));
            assert_eq!(out.filled(), &b"ababa"[..room.min(5)]);
        });
        assert_eq!(&vec[..8], b"xxxxxxab");
        assert!(Out::append(&mut Vec::new(), usize::MAX, |out| out.is_full()));
        let mut vec = Vec::with_capacity(10);
        assert!(Out::append(&mut vec, 0, |out| out.is_full()), "no more than was asked for");
    }
}
