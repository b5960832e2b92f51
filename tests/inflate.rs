//! Our inflate against zlib-rs: streams that an encoder writes, streams that only a generator does, and damaged ones.
//!
//! `scripts/fuzz 60 inflate` does more of the last.

mod gunzip_support;

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, FlushCompress};
use gunzip_support::{Rng, same_as_zlib, text};

/// Pieces in which a stream is given and taken. The last few take long.
const CUTS: [(usize, usize); 8] =
    [(usize::MAX, 1 << 20), (1 << 16, 1 << 16), (4096, 1000), (40, 700), (7, 300), (1, 1 << 16), (1 << 16, 1), (3, 5)];

fn deflate(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Texts of every kind: logs, noise, runs, and few or all byte values.
fn texts() -> Vec<Vec<u8>> {
    let mut rng = Rng(5);
    let noise: Vec<u8> = (0..90_000).map(|_| rng.next() as u8).collect();
    let few: Vec<u8> = noise.iter().map(|b| b"abcd"[usize::from(b & 3)]).collect();
    // Ever rarer, so that codes get long.
    let skewed: Vec<u8> = (0..200_000).map(|_| rng.next().trailing_zeros() as u8).collect();
    // Of each period that a match can have.
    let periods: Vec<u8> = (1..100).flat_map(|n| noise[n * 300..][..n].iter().cycle().take(900).copied()).collect();
    vec![vec![], vec![7], text(1, 300_000), noise, few, skewed, periods, vec![b'x'; 500_000]]
}

#[test]
fn what_encoders_write() {
    for text in texts() {
        for level in [0, 1, 3, 6, 9] {
            let stream = deflate(&text, level);
            for (feed, room) in &CUTS[..if level == 6 { 8 } else { 5 }] {
                same_as_zlib(&stream, *feed, *room);
            }
        }
    }
}

/// A flush puts empty stored blocks between others.
#[test]
fn flushed_streams() {
    let (text, mut rng) = (text(3, 200_000), Rng(3));
    let mut compress = flate2::Compress::new(Compression::new(6), false);
    let mut stream = Vec::with_capacity(1 << 20);
    let mut at = 0;
    while at < text.len() {
        let end = text.len().min(at + 1 + rng.below(3000) as usize);
        let flush = [FlushCompress::None, FlushCompress::Sync, FlushCompress::Partial, FlushCompress::Full];
        compress.compress_vec(&text[at..end], &mut stream, flush[rng.below(4) as usize]).unwrap();
        at = end;
    }
    compress.compress_vec(&[], &mut stream, FlushCompress::Finish).unwrap();
    CUTS.into_iter().for_each(|(feed, room)| same_as_zlib(&stream, feed, room));
}

/// A writer of DEFLATE with any codes, and what it should decode to.
#[derive(Default)]
struct Writer {
    stream: Vec<u8>,
    text: Vec<u8>,
    hold: u64,
    held: u32,
}

impl Writer {
    fn bits(&mut self, value: u64, count: u32) {
        self.hold |= value << self.held;
        self.held += count;
        while self.held >= 8 {
            self.stream.push(self.hold as u8);
            (self.hold, self.held) = (self.hold >> 8, self.held - 8);
        }
    }

    fn symbol(&mut self, lens: &[u8], symbol: usize) {
        let (code, len) = code(lens, symbol);
        self.bits(code, len);
    }

    fn stored(&mut self, last: bool, bytes: &[u8]) {
        self.bits(last.into(), 3);
        self.bits(0, (8 - self.held % 8) % 8);
        let len = bytes.len() as u64;
        self.bits(len | (!len & 0xffff) << 16, 32);
        self.stream.extend_from_slice(bytes);
        self.text.extend_from_slice(bytes);
    }

    /// Random symbols, with random codes or the fixed ones.
    fn block(&mut self, rng: &mut Rng, last: bool, symbols: usize) {
        let fixed = rng.below(8) == 0;
        self.bits(u64::from(last) | if fixed { 0b010 } else { 0b100 }, 3);
        let (litlens, distances) = if fixed {
            let mut lens = vec![8; 288];
            lens[144..256].fill(9);
            lens[256..280].fill(7);
            (lens, vec![5; 32])
        } else {
            // Few codes are long ones, if there are few.
            let litlens = codes(rng, 286, Some(256));
            let distances = match rng.below(8) {
                0 => vec![0],
                1 => vec![0, 1],
                _ => codes(rng, 30, None),
            };
            self.lengths(rng, &litlens, &distances);
            (litlens, distances)
        };
        let usable = |lens: &[u8], most: usize| (0..most.min(lens.len())).filter(|s| lens[*s] > 0).collect::<Vec<_>>();
        let (all, far) = (usable(&litlens, 286), usable(&distances, 30));
        for _ in 0..symbols {
            let symbol = all[rng.below(all.len() as u64) as usize];
            match symbol {
                0..=255 => {
                    self.symbol(&litlens, symbol);
                    self.text.push(symbol as u8);
                }
                256 => {}
                _ => {
                    let (base, extra) = length(symbol - 257);
                    let fitting: Vec<_> = far.iter().filter(|s| distance(**s).0 <= self.text.len()).collect();
                    let Some(code) = fitting.get(rng.below(1 + fitting.len() as u64) as usize) else { continue };
                    let (from, bits) = distance(**code);
                    let more = rng.below(1 << extra);
                    let less = rng.below(1 << bits).min((self.text.len() - from) as u64);
                    self.symbol(&litlens, symbol);
                    self.bits(more, extra);
                    self.symbol(&distances, **code);
                    self.bits(less, bits);
                    let start = self.text.len() - from - less as usize;
                    (start..start + base + more as usize).for_each(|at| self.text.push(self.text[at]));
                }
            }
        }
        self.symbol(&litlens, 256);
    }

    /// The head of a block with such codes (RFC 1951, 3.2.7), repetitions being used or not.
    fn lengths(&mut self, rng: &mut Rng, litlens: &[u8], distances: &[u8]) {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let all = [litlens, distances].concat();
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < all.len() {
            let run = all[at..].iter().take_while(|len| **len == all[at]).count();
            let again = at > 0 && all[at - 1] == all[at];
            let (piece, used) = match (all[at], run) {
                (0, 11..) if rng.below(4) > 0 => ((18, run.min(138) as u64 - 11, 7), run.min(138)),
                (0, 3..) if rng.below(4) > 0 => ((17, run.min(10) as u64 - 3, 3), run.min(10)),
                (_, 3..) if again && rng.below(4) > 0 => ((16, run.min(6) as u64 - 3, 2), run.min(6)),
                (len, _) => ((usize::from(len), 0, 0), 1),
            };
            pieces.push(piece);
            at += used;
        }
        // A code for all of them, of at most 7 bits.
        let lens: [u8; 19] = [5, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4];
        assert_eq!(lens.iter().map(|len| 1 << (7 - len)).sum::<u32>(), 128);
        self.bits(litlens.len() as u64 - 257, 5);
        self.bits(distances.len() as u64 - 1, 5);
        self.bits(15, 4);
        ORDER.iter().for_each(|symbol| self.bits(lens[*symbol].into(), 3));
        for (symbol, more, bits) in pieces {
            self.symbol(&lens, symbol);
            self.bits(more, bits);
        }
    }

    fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.bits(0, (8 - self.held % 8) % 8);
        (self.stream, self.text)
    }
}

/// Base and extra bits of a length's symbol, counted from 257; of a distance's (RFC 1951, 3.2.5).
fn length(symbol: usize) -> (usize, u32) {
    match symbol {
        28 => (258, 0),
        0..8 => (3 + symbol, 0),
        _ => (3 + ((4 + symbol % 4) << (symbol / 4 - 1)), symbol as u32 / 4 - 1),
    }
}

fn distance(symbol: usize) -> (usize, u32) {
    match symbol {
        0..4 => (1 + symbol, 0),
        _ => (1 + ((2 + symbol % 2) << (symbol / 2 - 1)), symbol as u32 / 2 - 1),
    }
}

/// Lengths of a complete set of codes for some of `symbols`, of up to 15 bits.
fn codes(rng: &mut Rng, symbols: usize, needed: Option<usize>) -> Vec<u8> {
    let count = 2 + rng.below(symbols as u64 - 1) as usize;
    // A leaf of the tree becomes two, often the deepest one.
    let mut leaves = vec![1, 1];
    while leaves.len() < count {
        let at = if rng.below(3) == 0 { leaves.len() - 1 } else { rng.below(leaves.len() as u64) as usize };
        if leaves[at] < 15 {
            leaves[at] += 1;
            leaves.push(leaves[at]);
        } else if leaves.iter().all(|len| *len == 15) {
            break;
        }
    }
    let mut lens = vec![0; symbols];
    let first = needed.unwrap_or_else(|| rng.below(symbols as u64) as usize);
    lens[first] = leaves.swap_remove(rng.below(leaves.len() as u64) as usize);
    for len in leaves {
        let mut at = rng.below(symbols as u64) as usize;
        while lens[at] > 0 {
            at = (at + 1) % symbols;
        }
        lens[at] = len;
    }
    lens
}

/// The canonical code of a symbol (RFC 1951, 3.2.2), its first bit lowest, and its length.
fn code(lens: &[u8], symbol: usize) -> (u64, u32) {
    let len = lens[symbol];
    let before = lens.iter().enumerate().filter(|(s, l)| **l > 0 && (**l < len || **l == len && *s < symbol));
    let code: u64 = before.map(|(_, l)| 1 << (len - l)).sum();
    (code.reverse_bits() >> (64 - u32::from(len)), len.into())
}

fn made(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut rng, mut writer) = (Rng(seed), Writer::default());
    for left in (0..1 + rng.below(6)).rev() {
        match rng.below(5) {
            0 => {
                let bytes: Vec<u8> = (0..rng.below(2000)).map(|_| rng.next() as u8).collect();
                writer.stored(left == 0, &bytes);
            }
            _ => {
                let symbols = rng.below(3000) as usize;
                writer.block(&mut rng, left == 0, symbols);
            }
        }
    }
    writer.finish()
}

#[test]
fn any_codes() {
    let mut longest = 0;
    for seed in 0..400 {
        let (stream, text) = made(seed);
        let mut zlib = Vec::with_capacity(text.len());
        flate2::Decompress::new(false).decompress_vec(&stream, &mut zlib, flate2::FlushDecompress::Finish).unwrap();
        assert!(zlib == text, "the generator is wrong, seed {seed}");
        longest = longest.max(text.len());
        let (feed, room) = CUTS[seed as usize % CUTS.len()];
        same_as_zlib(&stream, feed, room);
        same_as_zlib(&stream, usize::MAX, 1 << 20);
    }
    assert!(longest > 60_000, "{longest}: none goes back as far as can be");
}

/// Sets of a few codes, which may be too many or too few, and more symbols than there are.
#[test]
fn sets_of_codes() {
    for seed in 0..6_000 {
        let (mut rng, mut writer) = (Rng(seed), Writer::default());
        writer.bits(0b101, 3);
        if seed % 3 > 0 {
            let mut few = |symbols: u64, most: u64, len: u64| {
                let mut lens = vec![0; symbols as usize];
                (0..rng.below(most)).for_each(|_| lens[rng.below(symbols) as usize] = 1 + rng.below(len) as u8);
                lens
            };
            let (mut litlens, distances) = (few(257 + seed % 32, 6, 3), few(1 + seed / 32 % 32, 4, 2));
            litlens[256] = 1 + (seed % 5 / 2) as u8;
            writer.lengths(&mut rng, &litlens, &distances);
        } else {
            // The codes of code lengths themselves.
            writer.bits(rng.below(1 << 14), 14);
            (0..19).for_each(|_| writer.bits([0, 0, 0, 1, 2, 3][rng.below(6) as usize], 3));
        }
        (0..40).for_each(|_| writer.bits(rng.below(256), 8));
        same_as_zlib(&writer.finish().0, usize::MAX, 1 << 16);
    }
}

/// Mostly in the heads of blocks: sets of codes that cannot be, symbols that mean nothing, distances too far back.
/// Found by cargo-fuzz: nothing good can follow a code of code lengths that is one alone, and zlib says so at once.
#[test]
fn one_code_length_alone() {
    same_as_zlib(&[0x75, 0x17, 0x01, 0x04, 0, 0, 0, 0, 0, 0x0d, 0, 0], 1 << 16, 1 << 18);
}

#[test]
fn damaged_streams() {
    let mut rng = Rng(9);
    let short = text(4, 3000);
    let seeds: Vec<Vec<u8>> =
        (1000..1100).map(|seed| made(seed).0).chain((0..10).map(|n| deflate(&short, n))).collect();
    for n in 0..20_000 {
        let mut stream = seeds[n % seeds.len()].clone();
        match rng.below(4) {
            0 => stream.truncate(rng.below(stream.len() as u64 + 1) as usize),
            1 => stream = (0..1 + rng.below(200)).map(|_| rng.next() as u8).collect(),
            _ => {}
        }
        for _ in 0..rng.below(4) {
            let near = if rng.below(2) == 0 { 100 } else { stream.len() };
            if let Some(byte) = stream.get_mut(rng.below(near as u64 + 1) as usize) {
                *byte ^= 1 << rng.below(8);
            }
        }
        let (feed, room) = CUTS[n % 5];
        same_as_zlib(&stream, feed, room);
    }
}
