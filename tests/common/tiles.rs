//! Large logs that cost little to make: texts of a mebibyte, each compressed once, in an order that a seed decides. What any
//! range of such a log must hold is known without having it.

use std::sync::Arc;

use flate2::{Compression, Crc, FlushCompress};
use logarchivefs::demo::logs::Random;

use super::archive;

pub const TILE: usize = 1 << 20;

/// Docker records, which make an eighth as gzip; and some that make three quarters.
const KINDS: u64 = 8;

struct Tile {
    text: Vec<u8>,
    /// Ends on a byte and refers to nothing before it.
    deflate: Vec<u8>,
    crc: Crc,
}

#[derive(Clone)]
pub struct Tiles(Arc<Vec<Tile>>);

/// A log made of tiles. Its last tile is cut short.
#[derive(Clone)]
pub struct Tiled {
    tiles: Tiles,
    order: Vec<u8>,
    len: usize,
}

impl Tiles {
    /// `hard`: records that hardly compress.
    pub fn new(hard: bool) -> Tiles {
        let make = |seed| {
            let mut text = if hard { archive::noise(seed, TILE) } else { archive::text(seed, 6_500) };
            assert!(text.len() >= TILE);
            text.truncate(TILE);
            Tile::new(text)
        };
        Tiles(Arc::new((0..KINDS).map(make).collect()))
    }

    /// A log of `len` bytes.
    pub fn log(&self, seed: u64, len: usize) -> Tiled {
        let mut random = Random::new(seed);
        let order = (0..len.div_ceil(TILE)).map(|_| random.below(KINDS) as u8).collect();
        Tiled { tiles: self.clone(), order, len }
    }
}

impl Tile {
    fn new(text: Vec<u8>) -> Tile {
        let mut deflate = Vec::with_capacity(text.len() + 1024);
        let mut compress = flate2::Compress::new(Compression::fast(), false);
        compress.compress_vec(&text, &mut deflate, FlushCompress::Full).unwrap();
        assert_eq!(compress.total_in(), text.len() as u64);
        let mut crc = Crc::new();
        crc.update(&text);
        Tile { text, deflate, crc }
    }
}

impl Tiled {
    pub fn len(&self) -> usize {
        self.len
    }

    /// One member.
    pub fn gzip(&self) -> Vec<u8> {
        let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let mut crc = Crc::new();
        let mut add = |tile: &Tile| {
            gzip.extend_from_slice(&tile.deflate);
            crc.combine(&tile.crc);
        };
        for (n, kind) in self.order.iter().enumerate() {
            let tile = &self.tiles.0[usize::from(*kind)];
            match self.len - n * TILE {
                rest @ ..TILE => add(&Tile::new(tile.text[..rest].to_vec())),
                _ => add(tile),
            }
        }
        // An empty last block.
        gzip.extend_from_slice(&[3, 0]);
        gzip.extend_from_slice(&crc.sum().to_le_bytes());
        gzip.extend_from_slice(&(self.len as u32).to_le_bytes());
        gzip
    }

    /// Whether a read of `len` bytes at `offset` may give `got`: all of it, up to the end of the log.
    pub fn is_at(&self, offset: usize, len: usize, got: &[u8]) -> bool {
        got.len() == len.min(self.len.saturating_sub(offset)) && self.holds(offset, got)
    }

    /// Whether `got` is what the log holds at `offset`.
    pub fn holds(&self, offset: usize, got: &[u8]) -> bool {
        let (mut at, mut rest) = (offset, got);
        if offset + got.len() > self.len {
            return got.is_empty();
        }
        while !rest.is_empty() {
            let tile = &self.tiles.0[usize::from(self.order[at / TILE])].text[at % TILE..];
            let (piece, after) = rest.split_at(rest.len().min(tile.len()));
            if piece != &tile[..piece.len()] {
                return false;
            }
            (at, rest) = (at + piece.len(), after);
        }
        true
    }
}
