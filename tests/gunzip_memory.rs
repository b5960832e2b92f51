//! Memory while decoding, by the process's peak resident size: alone in its file, so that nothing else adds to it.

mod gunzip_support;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use gunzip_support::*;
use logarchivefs::gunzip::{Decoder, Index, LONGEST_SEGMENT};

fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn run(gz: &[u8], buffer: &mut [u8]) -> (u64, Index) {
    let (mut decoder, mut index, mut at) = (Decoder::with_points(), Index::new(), 0);
    while at < gz.len() {
        at += decoder.decode(&gz[at..], buffer).unwrap().consumed;
        index.extend(decoder.take_points()).unwrap();
    }
    decoder.finish().unwrap();
    (decoder.out(), index)
}

#[test]
fn bombs_cost_what_their_points_cost() {
    const SIZE: u64 = 1_000_000_000;
    let zeros = vec![0; 1_000_000];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    for _ in 0..SIZE / 1_000_000 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1_100_000);

    // The same in one block: 13 bits for 258 bytes, so that every point is a copy of the state.
    let mut block = OneBlock::new();
    block.literal(0);
    let mut crc = flate2::Crc::new();
    crc.update(&[0]);
    let copies = SIZE / 258;
    for _ in 0..copies {
        block.copy(258, 1);
        block.plain.truncate(1);
    }
    for _ in 0..copies {
        crc.update(&zeros[..258]);
    }
    let (mut one, _) = block.finish();
    let trailer = one.len() - 8;
    one.truncate(trailer);
    one.extend_from_slice(&crc.sum().to_le_bytes());
    one.extend_from_slice(&crc.amount().to_le_bytes());

    let mut buffer = vec![1; 1 << 20];
    let before = peak();
    let (out, index) = run(&bomb, &mut buffer);
    assert_eq!(out, SIZE);
    assert!(longest(&index, out) <= LONGEST_SEGMENT);
    assert!(index.iter().all(|p| !p.is_snapshot()), "zlib's own blocks end in time");
    assert!(index.cost() < 200_000, "{}", index.cost());
    let grown = peak() - before;
    assert!(grown < 2 << 20, "{grown} bytes for a bomb");

    let before = peak();
    let (out, index) = run(&one, &mut buffer);
    assert_eq!(out, 1 + copies * 258);
    assert!(longest(&index, out) <= LONGEST_SEGMENT);
    assert!(index.len() > 200 && index.iter().skip(1).all(|p| p.is_snapshot()));
    assert!(index.cost() < index.len() * 50_000, "{}", index.cost());
    let grown = peak() - before;
    // What the points say they cost is not less than what they cost.
    assert!(grown < index.cost() + (1 << 20), "{grown} bytes for points of {}", index.cost());
}
