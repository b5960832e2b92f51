//! The in-process limit: what a log costs on one thread with the parts that there are, from memory and for nobody. GHASH and
//! decryption are ours, inflate and its CRC-32 those of libraries: zlib-rs (by flate2), the fastest that streams, and
//! crc-fast. Buffers of 1 MiB, which serve it best.

use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};
use flate2::{Decompress, FlushDecompress, Status};
use logarchivefs::envelope::{ContentKey, Found};

use crate::measure::{cores, time};
use crate::rows::Setup;

/// gzip's header as flate2 writes it, and its trailer, in bytes.
const HEADER: usize = 10;
const TRAILER: usize = 8;

/// The large log once.
pub fn once(setup: &Setup) {
    let key = open(setup);
    let total = setup.body.len() as u64;
    let mut verifier = key.verifier(total).unwrap();
    let (mut inflate, mut crc) = (Decompress::new(false), Digest::new(CrcAlgorithm::Crc32IsoHdlc));
    let (mut text, mut buf) = (vec![0; 1 << 20], Vec::with_capacity(1 << 20));
    let mut end = Status::Ok;
    for (n, piece) in setup.body.chunks(1 << 20).enumerate() {
        verifier.update(piece);
        let start = (n as u64) << 20;
        let plain = start..(start + piece.len() as u64).min(total - 16);
        buf.clear();
        buf.extend_from_slice(&piece[..(plain.end - plain.start) as usize]);
        key.decrypt(plain, total, &mut buf).unwrap();
        let mut used = if n == 0 { HEADER } else { 0 };
        loop {
            let (taken, made) = (inflate.total_in(), inflate.total_out());
            end = inflate.decompress(&buf[used..], &mut text, FlushDecompress::None).unwrap();
            used += (inflate.total_in() - taken) as usize;
            let made = (inflate.total_out() - made) as usize;
            crc.update(&text[..made]);
            if end == Status::StreamEnd || made < text.len() {
                break;
            }
        }
    }
    verifier.finish().unwrap();
    assert!(end == Status::StreamEnd && inflate.total_out() == setup.text_len as u64);
    assert_eq!(crc.finalize().to_le_bytes()[..4], setup.packed[setup.packed.len() - TRAILER..][..4]);
}

/// Inflate alone, of the decrypted file, without its check.
pub fn inflate(setup: &Setup) {
    let (mut inflate, mut text) = (Decompress::new(false), vec![0; 1 << 20]);
    loop {
        let rest = &setup.packed[HEADER + inflate.total_in() as usize..];
        if inflate.decompress(rest, &mut text, FlushDecompress::None).unwrap() == Status::StreamEnd {
            break;
        }
    }
    assert_eq!(inflate.total_out(), setup.text_len as u64);
}

/// So many of them, on all cores: a thread each, with its share.
pub fn on_all_cores(setup: &Setup, logs: usize) -> Duration {
    let share = |core: usize| (core..logs).step_by(cores()).for_each(|_| once(setup));
    time(|| std::thread::scope(|s| (0..cores()).for_each(|core| drop(s.spawn(move || share(core)))))).0
}

fn open(setup: &Setup) -> ContentKey {
    let Found::Complete(envelope) = Found::from_metadata(setup.metadata.iter().map(|(k, v)| (k, v))).unwrap() else {
        panic!("no envelope")
    };
    envelope.open(&setup.master).unwrap()
}
