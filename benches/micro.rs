//! The pieces that every byte goes through, each alone, on one core: `cargo bench --bench micro`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use logarchivefs::demo::gzip;
use logarchivefs::envelope::{ContentKey, Found, MasterKey, SealAs, seal};
use logarchivefs::gunzip::{Decoder, Index, Resumed, State};
use logarchivefs::record;

#[path = "archive/data.rs"]
mod data;

fn main() {
    divan::main();
}

fn text() -> Vec<u8> {
    data::text(32 << 20, 1)
}

fn object(packed: &[u8]) -> (ContentKey, Vec<u8>) {
    let master = MasterKey::new(&[7; 32]).unwrap();
    let (metadata, body) = seal(SealAs::V2, &master, packed, &mut |buf: &mut [u8]| buf.fill(3)).unwrap();
    let Found::Complete(envelope) = Found::from_metadata(&metadata).unwrap() else { panic!("no envelope") };
    (envelope.open(&master).unwrap(), body)
}

/// The whole pass: inflate, CRC-32, seek points.
fn pass(packed: &[u8], pack: bool) -> Index {
    let (mut decoder, mut index) = (Decoder::with_points(), Index::new());
    let (mut out, mut used) = (vec![0; 1 << 20], 0);
    loop {
        let step = decoder.decode(&packed[used..], &mut out).unwrap();
        used += step.consumed;
        let points = decoder.take_points();
        if pack {
            index.extend(points).unwrap();
        }
        if step.state == State::NeedInput {
            decoder.finish().unwrap();
            return index;
        }
    }
}

#[divan::bench(sample_count = 20)]
fn inflate_alone(bencher: Bencher) {
    let text = text();
    let packed = gzip(&text).unwrap();
    bencher.counter(BytesCount::of_slice(&text)).bench(|| {
        let mut decoder = Resumed::new(&logarchivefs::gunzip::SeekPoint::start()).unwrap();
        let (mut out, mut used) = (vec![0; 1 << 20], 0);
        while used < packed.len() {
            used += decoder.decode(&packed[used..], &mut out).unwrap().consumed;
        }
        black_box(out);
    });
}

/// With CRC-32 and seek points, whose windows another thread packs.
#[divan::bench(args = [false, true], sample_count = 20)]
fn inflate_in_a_pass_windows_packed(bencher: Bencher, pack: bool) {
    let text = text();
    let packed = gzip(&text).unwrap();
    bencher.counter(BytesCount::of_slice(&text)).bench(|| pass(black_box(&packed), pack));
}

/// To the middle of a segment and 4 KiB there: what a random read inflates.
#[divan::bench]
fn seek_and_read_4_kib(bencher: Bencher) {
    let packed = gzip(&text()).unwrap();
    let index = pass(&packed, true);
    let points: Vec<_> = index.iter().skip(1).collect();
    let mut n = 0;
    bencher.bench_local(|| {
        n = (n + 7) % points.len();
        let mut decoder = Resumed::new(points[n]).unwrap();
        let mut out = vec![0; (256 << 10) + 4096];
        decoder.decode(&packed[points[n].input as usize..], &mut out).unwrap()
    });
}

#[divan::bench]
fn verify_ghash(bencher: Bencher) {
    let (key, body) = object(&vec![5; 8 << 20]);
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let mut verifier = key.verifier(body.len() as u64).unwrap();
        verifier.update(black_box(&body));
        verifier.finish().unwrap();
    });
}

#[divan::bench]
fn decrypt_ctr(bencher: Bencher) {
    let (key, body) = object(&vec![5; 8 << 20]);
    let len = body.len() - 16;
    let mut buf = body[..len].to_vec();
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| key.decrypt(0..len as u64, body.len() as u64, black_box(&mut buf)).unwrap());
}

/// Every line of the text, strictly; and that as the general JSON reader would do it.
#[divan::bench]
fn check_records(bencher: Bencher) {
    let text = text();
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench(|| lines(&text).filter(|line| record::check(line).is_ok()).count());
}

#[divan::bench]
fn check_records_with_serde_json(bencher: Bencher) {
    #[derive(serde::Deserialize)]
    struct Docker<'a> {
        #[serde(borrow)]
        log: std::borrow::Cow<'a, str>,
        stream: &'a str,
        time: &'a str,
    }
    let text = text();
    bencher.counter(BytesCount::of_slice(&text)).bench(|| {
        let parsed = lines(&text).filter_map(|line| serde_json::from_slice::<Docker>(line).ok());
        parsed.map(|r| r.log.len() + r.stream.len() + r.time.len()).sum::<usize>()
    });
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| &text[std::mem::replace(&mut at, end + 1)..end])
}
