//! The gzip member header (RFC 1952, 2.3), taken a piece at a time.
//!
//! Invariant: after any split of the same bytes the parser is in the same state, holds nothing of the variable fields
//! (an FEXTRA of 65,535 bytes or an endless FNAME costs no memory), and never consumes a byte beyond the header.
//!
//! As GNU gzip does: reserved flag bits are refused, FHCRC is stepped over unchecked (the ciphertext is authenticated).

use crate::err;
use crate::error::{Kind, Result};

pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;

const FHCRC: u8 = 0x02;
const FEXTRA: u8 = 0x04;
const FNAME: u8 = 0x08;
const FCOMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The ten fixed bytes; how many of them are behind us.
    Fixed(u8),
    /// XLEN; its low byte if that is behind us.
    ExtraLen(Option<u8>),
    /// Bytes of FEXTRA to come.
    Extra(u16),
    Name,
    Comment,
    /// Bytes of FHCRC to come.
    Crc(u8),
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Header {
    stage: Stage,
    flags: u8,
}

impl Header {
    pub fn new() -> Self {
        Header { stage: Stage::Fixed(0), flags: 0 }
    }

    /// For when the two magic bytes are known and behind us.
    pub fn after_magic() -> Self {
        Header { stage: Stage::Fixed(2), flags: 0 }
    }

    /// No byte was seen yet.
    pub fn is_untouched(&self) -> bool {
        matches!(self.stage, Stage::Fixed(0))
    }

    /// Takes bytes off the front of `input`: how many, and whether the header is complete with them. An incomplete
    /// header always consumes all of `input`. `BadGzip` if this is no gzip header.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool)> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if matches!(self.stage, Stage::Done) {
                return Ok((at, true));
            }
            let Some(&byte) = rest.first() else { return Ok((at, false)) };
            at += match self.stage {
                Stage::Fixed(n) => {
                    self.fixed(n, byte)?;
                    self.stage = if n < 9 { Stage::Fixed(n + 1) } else { self.after(FEXTRA) };
                    1
                }
                Stage::ExtraLen(None) => {
                    self.stage = Stage::ExtraLen(Some(byte));
                    1
                }
                Stage::ExtraLen(Some(low)) => {
                    self.stage = self.extra(u16::from_le_bytes([low, byte]));
                    1
                }
                Stage::Extra(left) => {
                    let n = rest.len().min(usize::from(left));
                    self.stage = self.extra(left - n as u16);
                    n
                }
                Stage::Name => self.text(rest, FCOMMENT),
                Stage::Comment => self.text(rest, FHCRC),
                Stage::Crc(left) => {
                    self.stage = if left > 1 { Stage::Crc(left - 1) } else { Stage::Done };
                    1
                }
                Stage::Done => 0,
            };
        }
    }

    fn fixed(&mut self, n: u8, byte: u8) -> Result<()> {
        match n {
            0 | 1 if byte != MAGIC[usize::from(n)] => Err(err!(
                Kind::BadGzip,
                "not a gzip stream: byte {n} is {byte:#04x}, not {:#04x}",
                MAGIC[usize::from(n)]
            )),
            2 if byte != DEFLATE => Err(err!(Kind::BadGzip, "unknown gzip compression method {byte}")),
            3 if byte & RESERVED != 0 => Err(err!(Kind::BadGzip, "reserved gzip flags are set: {byte:#04x}")),
            3 => {
                self.flags = byte;
                Ok(())
            }
            // MTIME, XFL and OS mean nothing here.
            _ => Ok(()),
        }
    }

    fn extra(&self, left: u16) -> Stage {
        if left == 0 { self.after(FNAME) } else { Stage::Extra(left) }
    }

    /// Steps over a NUL-terminated field, or as much of it as is there; `next` is the field behind it.
    fn text(&mut self, rest: &[u8], next: u8) -> usize {
        match rest.iter().position(|&b| b == 0) {
            Some(end) => {
                self.stage = self.after(next);
                end + 1
            }
            None => rest.len(),
        }
    }

    /// The first stage that the flags ask for, from the field `first` on, in the order of the fields.
    fn after(&self, first: u8) -> Stage {
        [(FEXTRA, Stage::ExtraLen(None)), (FNAME, Stage::Name), (FCOMMENT, Stage::Comment), (FHCRC, Stage::Crc(2))]
            .into_iter()
            .skip_while(|&(flag, _)| flag != first)
            .find(|&(flag, _)| self.flags & flag != 0)
            .map_or(Stage::Done, |(_, stage)| stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of the five flags, with its length.
    fn headers() -> impl Iterator<Item = Vec<u8>> {
        (0..32u8).map(|flags| {
            let mut h = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
            if flags & FEXTRA != 0 {
                h.extend_from_slice(&[5, 0, 0, b'x', 0, 0, 1]);
            }
            if flags & FNAME != 0 {
                h.extend_from_slice(b"n\xff\0");
            }
            if flags & FCOMMENT != 0 {
                h.extend_from_slice(b"\0");
            }
            if flags & FHCRC != 0 {
                h.extend_from_slice(&[0, 9]);
            }
            h
        })
    }

    #[test]
    fn every_header_ends_at_its_end_however_it_is_split() {
        for h in headers() {
            let mut longer = h.clone();
            longer.extend_from_slice(&[0, 1, 0]);
            for cut in 0..=h.len() {
                let mut parser = Header::new();
                let (first, done) = parser.feed(&longer[..cut]).unwrap();
                assert_eq!((first, done), (cut, cut == h.len()), "{h:?}");
                assert_eq!(parser.feed(&longer[cut..]).unwrap(), (h.len() - cut, true));
            }
            let mut parser = Header::new();
            let ends: Vec<bool> = h.iter().map(|b| parser.feed(&[*b]).unwrap().1).collect();
            assert_eq!(ends.iter().position(|&e| e), Some(h.len() - 1));
            let mut parser = Header::after_magic();
            assert_eq!(parser.feed(&longer[2..]).unwrap(), (h.len() - 2, true));
        }
    }

    #[test]
    fn extra_fields_of_no_and_of_most_bytes() {
        for len in [0usize, 1, 65_535] {
            let mut h = vec![0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 0xff, len as u8, (len >> 8) as u8];
            h.resize(12 + len, 0xaa);
            assert_eq!(Header::new().feed(&h).unwrap(), (12 + len, true));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_the_byte_that_says_so() {
        for (at, value) in [(0, 0x1e), (1, 0), (2, 7), (3, 0x20), (3, 0x40), (3, 0x80)] {
            let mut h = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            h[at] = value;
            assert_eq!(Header::new().feed(&h).unwrap_err().kind(), Kind::BadGzip);
            assert_eq!(Header::new().feed(&h[..=at]).unwrap_err().kind(), Kind::BadGzip);
            assert!(Header::new().feed(&h[..at]).is_ok());
        }
    }
}
