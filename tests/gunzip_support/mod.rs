//! Makers of gzip streams that no ordinary encoder writes, seeded text, and a driver for any decoder.

#![allow(dead_code)]

use std::io::Write;

use flate2::{Compression, Decompress, FlushDecompress, GzBuilder, Status};
use logarchivefs::error::{Error, Kind, Result};
use logarchivefs::gunzip::{Decoder, Index, Progress, Resumed, SeekPoint, State};

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Lines of Docker JSON, `len` bytes of them.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    let mut out = Vec::with_capacity(len + 300);
    while out.len() < len {
        let (a, b, c) = (rng.next(), rng.below(60), rng.below(1_000_000_000));
        let what = ["request completed", "cache miss", "slow query", "job enqueued"][rng.below(4) as usize];
        writeln!(
            out,
            "{{\"log\":\"{what} id={a:016x} took={b}ms\\n\",\"stream\":\"stdout\",\"time\":\"2022-08-24T21:12:{b:02}.{c:09}Z\"}}"
        )
        .unwrap();
    }
    out.truncate(len);
    out
}

pub fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    gzip_with(GzBuilder::new(), data, level)
}

pub fn gzip_with(header: GzBuilder, data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = header.write(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One member around raw deflate data.
pub fn member(deflate: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(plain);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    out.extend_from_slice(deflate);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    out
}

/// Writes one single block of the fixed Huffman code (RFC 1951, 3.2.6), and what it decodes to.
pub struct OneBlock {
    pub deflate: Vec<u8>,
    pub plain: Vec<u8>,
    hold: u64,
    held: u32,
}

impl OneBlock {
    pub fn new() -> Self {
        let mut block = OneBlock { deflate: Vec::new(), plain: Vec::new(), hold: 0, held: 0 };
        block.bits(0b011, 3);
        block
    }

    fn bits(&mut self, value: u64, n: u32) {
        self.hold |= value << self.held;
        self.held += n;
        while self.held >= 8 {
            self.deflate.push(self.hold as u8);
            self.hold >>= 8;
            self.held -= 8;
        }
    }

    fn code(&mut self, value: u64, n: u32) {
        self.bits(value.reverse_bits() >> (64 - n), n);
    }

    fn symbol(&mut self, s: u64) {
        match s {
            0..=143 => self.code(0x30 + s, 8),
            144..=255 => self.code(0x190 + s - 144, 9),
            256..=279 => self.code(s - 256, 7),
            _ => self.code(0xc0 + s - 280, 8),
        }
    }

    pub fn literal(&mut self, byte: u8) {
        self.symbol(u64::from(byte));
        self.plain.push(byte);
    }

    /// `len` is 3 to 10 or 258; `distance` 1 to 4 or 24,577 to 32,768.
    pub fn copy(&mut self, len: usize, distance: usize) {
        self.symbol(if len == 258 { 285 } else { 254 + len as u64 });
        if distance <= 4 {
            self.code(distance as u64 - 1, 5);
        } else {
            self.code(29, 5);
            self.bits(distance as u64 - 24_577, 13);
        }
        let from = self.plain.len() - distance;
        for i in 0..len {
            self.plain.push(self.plain[from + i]);
        }
    }

    pub fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.symbol(256);
        self.bits(0, (8 - self.held % 8) % 8);
        (member(&self.deflate, &self.plain), self.plain)
    }
}

/// Mixed literals and near and far copies, `len` bytes or a little more, in one block.
pub fn one_block(seed: u64, len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(seed);
    let mut block = OneBlock::new();
    while block.plain.len() < len {
        let r = rng.next();
        if r & 3 != 0 || block.plain.len() < 32_768 {
            block.literal((r >> 8) as u8);
        } else if r & 4 != 0 {
            block.copy(3 + (r >> 8) as usize % 8, 1 + (r >> 16) as usize % 4);
        } else {
            block.copy(258, 24_577 + (r >> 8) as usize % 8192);
        }
    }
    block.finish()
}

pub trait Decode {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress>;
    fn end(&mut self) -> Result<()>;
}

impl Decode for Decoder {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress> {
        self.decode(input, output)
    }
    fn end(&mut self) -> Result<()> {
        self.finish()
    }
}

impl Decode for Resumed {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress> {
        self.decode(input, output)
    }
    fn end(&mut self) -> Result<()> {
        self.finish()
    }
}

/// Runs `decoder` over all of `input`, in pieces of at most these sizes: what came out, and how it ended. Panics if the
/// decoder stops making progress.
pub fn drive(decoder: &mut impl Decode, input: &[u8], feed: usize, room: usize) -> (Vec<u8>, Result<(), Error>) {
    let mut plain = Vec::new();
    let mut buffer = vec![0; room];
    let (mut at, mut idle) = (0usize, 0);
    loop {
        let piece = &input[at..input.len().min(at.saturating_add(feed))];
        let progress = match decoder.step(piece, &mut buffer) {
            Ok(progress) => progress,
            Err(e) => return (plain, Err(e)),
        };
        assert!(progress.consumed <= piece.len() && progress.produced <= room);
        plain.extend_from_slice(&buffer[..progress.produced]);
        at += progress.consumed;
        idle = if progress.consumed + progress.produced == 0 { idle + 1 } else { 0 };
        assert!(idle < 4, "no progress at byte {at}: {:?}", progress.state);
        match progress.state {
            State::NeedInput => assert_eq!(progress.consumed, piece.len()),
            State::NeedOutput => continue,
            State::Finished => assert_eq!(progress.consumed, piece.len()),
        }
        if at == input.len() {
            return (plain, decoder.end());
        }
    }
}

pub fn decode(input: &[u8]) -> (Vec<u8>, Result<()>) {
    drive(&mut Decoder::with_points(), input, usize::MAX, 1 << 16)
}

/// Raw DEFLATE data, whatever it is, means the same to us as to zlib-rs: the same text, before a damage too, and the same end.
/// It is given to us in pieces of at most these sizes.
pub fn same_as_zlib(deflate: &[u8], feed: usize, room: usize) {
    let mut zlib = Decompress::new(false);
    let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 18]);
    // The length of a complete stream; None if more is needed.
    let end = loop {
        let (taken, made) = (zlib.total_in() as usize, zlib.total_out());
        let status = zlib.decompress(&deflate[taken..], &mut buffer, FlushDecompress::None);
        let made = (zlib.total_out() - made) as usize;
        text.extend_from_slice(&buffer[..made]);
        match status {
            Ok(Status::StreamEnd) => break Ok(Some(zlib.total_in() as usize)),
            Ok(_) if made < buffer.len() && zlib.total_in() as usize == deflate.len() => break Ok(None),
            Ok(_) => {}
            Err(_) => break Err(()),
        }
    };
    let ours = |deflate: &[u8], trailer: usize| {
        let stream = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], deflate, &vec![0xaa; trailer]].concat();
        // A resumed decoder checks no trailer, so that the stream decides alone.
        drive(&mut Resumed::new(&SeekPoint::start()).unwrap(), &stream, feed, room)
    };
    let (got, got_end) = match end {
        Ok(Some(len)) => {
            let (_, short) = ours(&deflate[..len], 7);
            assert!(short.unwrap_err().message().contains("inside a gzip trailer"), "the stream ends at byte {len}");
            ours(&deflate[..len], 8)
        }
        _ => ours(deflate, 0),
    };
    assert!(got == text, "{} bytes of text and {got_end:?}, not {} bytes and {end:?}", got.len(), text.len());
    match (end, got_end.map_err(|e| e.kind())) {
        (Ok(Some(_)), Ok(())) | (Err(()), Err(Kind::BadGzip)) => {}
        // What cannot become good is told at once, where zlib waits for a byte more.
        (Ok(None), Err(Kind::TruncatedGzip | Kind::BadGzip)) => {}
        (end, got) => panic!("{got:?}, not {end:?}"),
    }
}

/// Everything and its points, from a stream without fault.
pub fn index(input: &[u8], feed: usize, room: usize) -> (Vec<u8>, Index) {
    let mut decoder = Decoder::with_points();
    let (plain, end) = drive(&mut decoder, input, feed, room);
    end.unwrap();
    let mut index = Index::new();
    index.extend(decoder.take_points()).unwrap();
    (plain, index)
}

/// `len` bytes (fewer at the end) from plaintext offset `out`, read through the nearest point.
pub fn read(input: &[u8], index: &Index, out: u64, len: usize) -> Vec<u8> {
    let point = index.get(index.find(out)).unwrap();
    let mut resumed = Resumed::new(point).unwrap();
    let (mut at, mut plain) = (point.input as usize, vec![0; (out - point.out) as usize + len]);
    let mut have = 0;
    while have < plain.len() {
        let progress = resumed.decode(&input[at..], &mut plain[have..]).unwrap();
        at += progress.consumed;
        have += progress.produced;
        if progress.state != State::NeedOutput {
            break;
        }
    }
    plain.truncate(have);
    plain.split_off(((out - point.out) as usize).min(have))
}

/// Every point resumes to exactly the rest of `plain`.
pub fn assert_points(input: &[u8], plain: &[u8], index: &Index, feed: usize, room: usize) {
    for point in index {
        let mut resumed = Resumed::new(point).unwrap();
        let (rest, end) = drive(&mut resumed, &input[point.input as usize..], feed, room);
        end.unwrap();
        assert!(rest == plain[point.out as usize..], "{point:?}");
        assert_eq!((resumed.out(), resumed.input()), (plain.len() as u64, input.len() as u64));
    }
}

pub fn longest(index: &Index, len: u64) -> u64 {
    let ends = index.iter().skip(1).map(|p| p.out).chain([len]);
    index.iter().zip(ends).map(|(p, end)| end - p.out).max().unwrap()
}

pub fn start() -> SeekPoint {
    SeekPoint::start()
}
