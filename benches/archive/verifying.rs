//! What the commands cost that read whole objects, on all cores.

use std::process::Stdio;
use std::time::Duration;

use logarchivefs::envelope::{Envelope, Found, SealAs, seal};
use logarchivefs::gunzip::{Decoder, State};
use logarchivefs::key::{LogKey, Resource, Span};
use logarchivefs::store::{NewObject, write_object};

use crate::measure::{cores, median, ratio, row, time};
use crate::process::{program, watched};
use crate::rows::Setup;
use crate::s3;

/// Two logs a core, each under a data key of its own, from a bucket and from a sealed copy in memory.
pub fn verify(setup: &Setup) {
    let logs = 2 * cores();
    let copy = tempfile::Builder::new().prefix("lafs-bench").tempdir_in("/dev/shm").unwrap();
    for n in 0..logs {
        let mut byte = n as u8;
        let mut random =
            |buf: &mut [u8]| buf.iter_mut().for_each(|b| (*b, byte) = (byte, byte.wrapping_mul(5).wrapping_add(3)));
        let (metadata, body) = seal(SealAs::V2, &setup.master, &setup.packed, &mut random).unwrap();
        let key = LogKey {
            stack: "verify".into(),
            key_sum: setup.master.fingerprint(),
            resource: Resource::new("databases", 1),
            service: None,
            container: format!("{n:064x}"),
            rotation: None,
            span: Span::Range { start: None, end: None },
        };
        let key = key.to_key();
        let pairs: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let object = NewObject { key: &key, metadata: &metadata, etag: None, version_id: None, last_modified: (0, 0) };
        write_object(copy.path(), &object, &mut body.as_slice()).unwrap();
        setup.server.put(&key, &pairs, body);
    }
    let copy = format!("file://{}", copy.path().display());
    for (name, bucket) in [("a bucket served on the same cores", s3::BUCKET), ("a sealed copy in memory", &copy)] {
        let (mut ours, mut limits, mut rss) = (Vec::new(), Vec::new(), None);
        for _ in 0..setup.rounds.min(3) {
            let (took, peak) = time(|| run(setup, bucket));
            ours.push(took);
            rss = rss.max(peak);
            limits.push(all_cores(setup, logs));
        }
        let (ours, limit) = (median(ours), median(limits));
        let name = format!("`verify` of {logs} logs in {name}");
        row(&name, ours, "in-process limit on all cores (limit/ours)", ratio(limit, ours), ">= 0.85", rss);
    }
}

/// The peak of its resident memory, KiB.
fn run(setup: &Setup, bucket: &str) -> Option<u64> {
    let mut command = program(&setup.server.endpoint(), &["verify", bucket, "--stack", "verify"]);
    watched(command.arg("--key-file").arg(setup.key_file()).stdout(Stdio::null()))
}

/// The least that so many logs take on this machine: a thread a core, each with its share; GHASH, decryption and inflate
/// with CRC, from memory and for nobody.
fn all_cores(setup: &Setup, logs: usize) -> Duration {
    let share = |core: usize| (core..logs).step_by(cores()).for_each(|_| once(setup));
    time(|| std::thread::scope(|s| (0..cores()).for_each(|core| drop(s.spawn(move || share(core)))))).0
}

fn once(setup: &Setup) {
    let key = envelope(setup).open(&setup.master).unwrap();
    let total = setup.body.len() as u64;
    let mut verifier = key.verifier(total).unwrap();
    let mut decoder = Decoder::without_points().unwrap();
    let (mut text, mut buf) = (Vec::with_capacity(128 << 10), Vec::with_capacity(2 << 20));
    for (n, piece) in setup.body.chunks(2 << 20).enumerate() {
        verifier.update(piece);
        let start = (n as u64) * (2 << 20);
        let plain = start..(start + piece.len() as u64).min(total - 16);
        buf.clear();
        buf.extend_from_slice(&piece[..(plain.end - plain.start) as usize]);
        key.decrypt(plain, total, &mut buf).unwrap();
        let mut used = 0;
        loop {
            text.clear();
            let step = decoder.decode_append(&buf[used..], &mut text, 128 << 10).unwrap();
            used += step.consumed;
            if step.state == State::NeedInput {
                break;
            }
        }
    }
    decoder.finish().unwrap();
    verifier.finish().unwrap();
    assert_eq!(decoder.out(), setup.text_len as u64);
}

fn envelope(setup: &Setup) -> Envelope {
    match Found::from_metadata(setup.metadata.iter().map(|(k, v)| (k, v))).unwrap() {
        Found::Complete(envelope) => envelope,
        _ => panic!("no envelope"),
    }
}
