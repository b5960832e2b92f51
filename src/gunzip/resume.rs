//! Decoding from a seek point on.
//!
//! Invariant: what comes out is the stream's plaintext from `point.out` on, to the end, across members.
//!
//! No CRC-32 and no ISIZE is checked here: the first member is seen only in part, and the caller has proven both the
//! compressed bytes (digests of an authenticated object) and, in the pass that made the point, the checksums.

use super::points::SeekPoint;
use super::stream::{Decoder, Progress};
use crate::error::Result;

/// A decoder that starts at a [`SeekPoint`]. Its input starts at compressed byte `point.input`.
pub struct Resumed(Decoder);

impl Resumed {
    /// Costs one inflate state (about 41 KiB) and the unpacking of a window. `Internal` for a damaged point.
    pub fn new(point: &SeekPoint) -> Result<Resumed> {
        Decoder::at(point).map(Resumed)
    }

    /// As [`Decoder::decode`].
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress> {
        self.0.decode(input, output)
    }

    /// As [`Decoder::decode_append`].
    pub fn decode_append(&mut self, input: &[u8], output: &mut Vec<u8>, most: usize) -> Result<Progress> {
        self.0.decode_append(input, output, most)
    }

    /// As [`Decoder::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.0.finish()
    }

    /// Offset in the plaintext of the next byte to come.
    pub fn out(&self) -> u64 {
        self.0.out()
    }

    /// Offset in the compressed stream of the next byte wanted.
    pub fn input(&self) -> u64 {
        self.0.input()
    }
}
