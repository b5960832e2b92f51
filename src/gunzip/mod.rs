//! gzip as a stream of plaintext with random access: members, inflate, seek points. Pure: no I/O, no threads.
//!
//! ```text
//! compressed bytes ──► Decoder ──► all plaintext, CRC-32 and ISIZE of every member checked
//!                         │
//!                         └──────► SeekPoints, about one per MiB of plaintext ──► Index
//!                                                                                   │ find(offset)
//! compressed bytes from point.input ──► Resumed ──► plaintext from point.out  ◄─────┘
//! ```
//!
//! Invariants:
//! * The plaintext is a function of the compressed bytes alone: neither the cuts of input and output nor the place of
//!   resuming changes a byte of it.
//! * Plaintext between two neighbouring points (a *segment*) is never longer than [`LONGEST_SEGMENT`].
//! * Memory is fixed (one inflate state) plus the points not yet taken, whatever the input claims.
//! * Every byte before a damage is delivered before the error is.
//!
//! Sources: RFC 1951 (DEFLATE), RFC 1952 (gzip), zlib and libdeflate; GNU gzip for what may follow a member.

mod bits;
mod block;
#[allow(unsafe_code)]
mod fast;
mod header;
mod huffman;
#[allow(unsafe_code)]
mod out;
mod points;
mod raw;
mod resume;
mod stream;
mod window;

pub use points::{Index, LONGEST_SEGMENT, SPACING, SeekPoint, WIDEST_SPACING};
pub use resume::Resumed;
pub use stream::{Decoder, Progress, State};
