//! The head of a block (RFC 1951, 3.2.3 to 3.2.7): what kind it is, and with which codes.
//!
//! Invariant: read piece by piece, so that the input may end anywhere. What is refused is what zlib refuses, by its names.

use super::bits::{Bits, Source};
use super::huffman::{CODE_BITS, Tables};

/// What is wrong with a stream.
pub(super) type Damage = &'static str;

/// The order in which the lengths of the codes of code lengths come (RFC 1951, 3.2.7).
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const LITLENS: usize = 286;
const DISTANCES: usize = 30;

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// So many bytes.
    Stored(usize),
    /// In the codes that the tables have now.
    Symbols,
}

/// The next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Kind,
    StoredLen,
    Counts,
    /// The length of the code of this code length, in their order.
    CodeLen(Counts, usize),
    /// The length of the code of this symbol, and perhaps of others behind it.
    Len(Counts, usize),
}

/// How many codes there are, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    litlens: usize,
    distances: usize,
    codes: usize,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Head {
    next: Piece,
    is_last: bool,
    /// Lengths of codes, as they come: for literals and lengths, then for distances; before, for code lengths.
    lens: [u8; LITLENS + DISTANCES],
}

impl Head {
    pub fn new() -> Head {
        Head { next: Piece::Kind, is_last: false, lens: [0; LITLENS + DISTANCES] }
    }

    /// Whether the block is the stream's last.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Reads a head, or goes on with it. None if the input ends before it does.
    pub fn read(
        &mut self,
        source: &mut Source<'_>,
        bits: &mut Bits,
        tables: &mut Tables,
    ) -> Result<Option<Content>, Damage> {
        let content = loop {
            match self.next {
                Piece::Kind => {
                    let Some(kind) = source.number(bits, 3) else { return Ok(None) };
                    self.is_last = kind & 1 == 1;
                    match kind >> 1 {
                        0 => self.next = Piece::StoredLen,
                        1 => {
                            tables.set_fixed();
                            break Content::Symbols;
                        }
                        2 => self.next = Piece::Counts,
                        _ => return Err("invalid block type"),
                    }
                }
                Piece::StoredLen => {
                    let both = source.read(bits, |bits| {
                        // From the next byte on.
                        bits.number(bits.count & 7)?;
                        bits.number(32)
                    });
                    let Some(both) = both else { return Ok(None) };
                    if both & 0xffff != !both >> 16 {
                        return Err("invalid stored block lengths");
                    }
                    break Content::Stored((both & 0xffff) as usize);
                }
                Piece::Counts => {
                    let Some(all) = source.number(bits, 14) else { return Ok(None) };
                    let counts =
                        Counts { litlens: 257 + (all & 31), distances: 1 + (all >> 5 & 31), codes: 4 + (all >> 10) };
                    if counts.litlens > LITLENS || counts.distances > DISTANCES {
                        return Err("too many length or distance symbols");
                    }
                    self.lens[..ORDER.len()].fill(0);
                    self.next = Piece::CodeLen(counts, 0);
                }
                Piece::CodeLen(counts, at) if at < counts.codes => {
                    let Some(len) = source.number(bits, 3) else { return Ok(None) };
                    self.lens[usize::from(ORDER[at])] = len as u8;
                    self.next = Piece::CodeLen(counts, at + 1);
                }
                Piece::CodeLen(counts, _) => {
                    if !tables.set_code(&self.lens[..ORDER.len()]) {
                        return Err("invalid code lengths set");
                    }
                    self.next = Piece::Len(counts, 0);
                }
                Piece::Len(counts, at) if at < counts.litlens + counts.distances => {
                    let Some((len, times)) = source.read(bits, |bits| run(bits, tables)) else { return Ok(None) };
                    let len = match len {
                        16 => *at.checked_sub(1).and_then(|at| self.lens.get(at)).ok_or("invalid bit length repeat")?,
                        17 | 18 => 0,
                        len => len as u8,
                    };
                    if at + times > counts.litlens + counts.distances {
                        return Err("invalid bit length repeat");
                    }
                    self.lens[at..at + times].fill(len);
                    self.next = Piece::Len(counts, at + times);
                }
                Piece::Len(counts, all) => {
                    if self.lens[256] == 0 {
                        return Err("invalid code -- missing end-of-block");
                    }
                    if !tables.set_litlen(&self.lens[..counts.litlens]) {
                        return Err("invalid literal/lengths set");
                    }
                    if !tables.set_distance(&self.lens[counts.litlens..all]) {
                        return Err("invalid distances set");
                    }
                    break Content::Symbols;
                }
            }
        };
        self.next = Piece::Kind;
        Ok(Some(content))
    }
}

/// A code length, or what stands for several (RFC 1951, 3.2.7), and how many.
fn run(bits: &mut Bits, tables: &Tables) -> Option<(u32, usize)> {
    let len = bits.code(&tables.code, CODE_BITS)? >> 16;
    let (least, more) = match len {
        16 => (3, 2),
        17 => (3, 3),
        18 => (11, 7),
        _ => (1, 0),
    };
    Some((len, least + bits.number(more)? as usize))
}
