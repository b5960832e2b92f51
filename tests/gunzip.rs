//! gzip streams of every shape through `gunzip`: whole, cut, damaged, and resumed at every point.

mod gunzip_support;

use flate2::GzBuilder;
use gunzip_support::*;
use logarchivefs::error::Kind;
use logarchivefs::gunzip::{Decoder, Index, LONGEST_SEGMENT, Resumed, SPACING, State, WIDEST_SPACING};
use proptest::prelude::*;

#[test]
fn every_level_whole_and_from_every_point() {
    let plain = text(1, 5_000_000);
    for level in [0, 1, 6, 9] {
        let gz = gzip(&plain, level);
        let (got, index) = index(&gz, 70_000, 200_000);
        assert!(got == plain, "level {level}");
        if level == 1 {
            // The fastest level of zlib-rs and zlib-ng writes one block for everything.
            assert!(index.len() <= 3 && index.get(1).is_some_and(|p| p.is_snapshot()), "{index:?}");
        } else {
            // One at the start, then one at the first block behind each SPACING.
            let most = plain.len() / SPACING as usize + 1;
            assert!((most / 2..=most).contains(&index.len()), "level {level}: {}", index.len());
            assert!(index.iter().all(|p| !p.is_snapshot()), "level {level}");
            assert!(longest(&index, 5_000_000) < SPACING + (1 << 19));
        }
        assert_points(&gz, &plain, &index, usize::MAX, 1 << 20);
        assert_points(&gz, &plain, &index, 999, 4097);
    }
}

#[test]
fn members_follow_one_another_and_points_stay_inside_theirs() {
    let plain = text(2, 6_000_000);
    let mut gz = gzip(b"", 6);
    for (i, part) in plain.chunks(700_001).enumerate() {
        gz.extend(gzip(part, [1, 6, 9, 0][i % 4]));
        gz.extend(gzip(b"", 6));
    }
    let (got, index) = index(&gz, 1 << 16, 1 << 16);
    assert!(got == plain);
    assert!(index.len() > 4);
    assert_points(&gz, &plain, &index, 1 << 16, 1 << 16);
}

#[test]
fn a_point_at_the_start_of_a_member_has_no_window() {
    let part = text(3, SPACING as usize);
    // A member of exactly SPACING bytes: its end is the first place where a point is due.
    let mut gz = gzip(&part, 9);
    gz.extend(gzip(&part, 9));
    let (_, index) = index(&gz, usize::MAX, 1 << 16);
    let point = index.get(1).unwrap();
    assert_eq!(point.out, SPACING);
    assert!(point.cost() <= 128, "{point:?}");
}

#[test]
fn a_hundred_thousand_members() {
    let plain = text(4, 3_000_000);
    let mut gz = Vec::new();
    let empty = gzip(b"", 6);
    for _ in 0..100_000 {
        gz.extend_from_slice(&empty);
    }
    let (got, none) = index(&gz, usize::MAX, 1 << 16);
    assert_eq!((got.len(), none.len()), (0, 1));
    for part in plain.chunks(100) {
        gz.extend(gzip(part, 1));
    }
    let (got, index) = index(&gz, 4096, 4096);
    assert!(got == plain);
    assert_eq!(index.len(), plain.len() / SPACING as usize + 1);
    assert_points(&gz, &plain, &index, 1 << 16, 1 << 16);
}

#[test]
fn header_fields_of_any_kind_and_length() {
    let plain = text(5, 10_000);
    let plain = plain.as_slice();
    let docker = br#"{"lastTime":"2022-08-24T21:14:38.123456789Z"}"#.to_vec();
    let mut streams = vec![
        gzip_with(GzBuilder::new().extra(docker), plain, 6),
        gzip_with(GzBuilder::new().extra(vec![0x1f; 65_535]), plain, 6),
        gzip_with(GzBuilder::new().filename("json.log").comment("c").mtime(7), plain, 6),
        gzip_with(GzBuilder::new().filename(vec![b'n'; 300_000]).comment(vec![b'c'; 300_000]), plain, 6),
    ];
    // FHCRC by hand, its value wrong: nobody checks it.
    let mut fhcrc = gzip(plain, 6);
    fhcrc[3] |= 2;
    fhcrc.splice(10..10, [0xde, 0xad]);
    streams.push(fhcrc);
    for gz in streams {
        for feed in [1, 7, usize::MAX] {
            let (got, end) = drive(&mut Decoder::with_points(), &gz, feed, 1 << 16);
            end.unwrap();
            assert!(got == plain);
        }
    }
    let mut reserved = gzip(plain, 6);
    reserved[3] = 0x80;
    assert_eq!(decode(&reserved).1.unwrap_err().kind(), Kind::BadGzip);
}

#[test]
fn padding_is_quiet_and_garbage_is_counted() {
    let plain = text(6, 50_000);
    let gz = gzip(&plain, 6);
    let cases: [(&[u8], Option<u64>); 9] = [
        (b"", None),
        (&[0], None),
        (&[0; 100_000], None),
        (b"garbage", Some(7)),
        (&[0, 0, 0, 9, 0], Some(5)),
        (&[0, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], Some(11)),
        (&[0x1f], Some(1)),
        (&[0x1f, 0x8c, 8], Some(3)),
        (&[0x8b, 0x1f], Some(2)),
    ];
    for (tail, warning) in cases {
        let whole = [gz.as_slice(), tail].concat();
        for feed in [1, usize::MAX] {
            let mut decoder = Decoder::with_points();
            let (got, end) = drive(&mut decoder, &whole, feed, 1 << 16);
            end.unwrap();
            assert!(got == plain);
            assert_eq!(decoder.warning(), warning, "{tail:?} by {feed}");
            assert_eq!(decoder.input(), whole.len() as u64);
            let after = decoder.decode(b"x", &mut [0; 9]).unwrap();
            assert_eq!((after.consumed, after.produced, after.state), (0, 0, State::Finished));
        }
        let (got, end) = drive(&mut Resumed::new(&start()).unwrap(), &whole, 1 << 12, 1 << 12);
        end.unwrap();
        assert!(got == plain);
    }
    // The magic bytes commit to a member.
    for (tail, kind) in
        [(&[0x1f, 0x8b][..], Kind::TruncatedGzip), (&[0x1f, 0x8b, 7], Kind::BadGzip), (&gz[..99], Kind::TruncatedGzip)]
    {
        let (got, end) = decode(&[gz.as_slice(), tail].concat());
        assert!(got.starts_with(&plain));
        assert_eq!(end.unwrap_err().kind(), kind);
    }
}

#[test]
fn what_is_not_gzip() {
    for not in [&b"{\"log\":\"x\"}\n"[..], b"\x00", b"PK\x03\x04", b"\x1f\x9d\x90"] {
        assert_eq!(decode(not).1.unwrap_err().kind(), Kind::BadGzip);
    }
    assert_eq!(decode(b"").1.unwrap_err().kind(), Kind::TruncatedGzip);
}

#[test]
fn cut_at_every_byte() {
    let plain = text(7, 3_000);
    let first = gzip_with(GzBuilder::new().filename("n").extra(vec![1, 2, 3]), &plain, 6);
    let both = [first.clone(), gzip(&plain, 0)].concat();
    for len in 0..both.len() {
        let (got, end) = decode(&both[..len]);
        if len == first.len() {
            end.unwrap();
            assert!(got == plain);
            continue;
        }
        if len == first.len() + 1 {
            // One stray magic byte is garbage.
            end.unwrap();
            continue;
        }
        assert_eq!(end.unwrap_err().kind(), Kind::TruncatedGzip, "{len}");
        assert!(got.iter().eq(plain.iter().chain(&plain).take(got.len())));
        if len + 8 >= both.len() {
            assert_eq!(got.len(), 6_000, "a cut trailer costs no data");
        }
    }
    assert!(decode(&both).1.is_ok());
}

#[test]
fn a_wrong_checksum_comes_after_all_of_the_data() {
    let plain = text(8, 200_000);
    let gz = gzip(&plain, 6);
    for at in gz.len() - 8..gz.len() {
        let mut bad = gz.clone();
        bad[at] ^= 0x10;
        let (got, end) = decode(&bad);
        assert!(got == plain);
        assert_eq!(end.unwrap_err().kind(), Kind::GzipChecksum);

        // In one call with room for everything: data first, then the error, then again.
        let mut decoder = Decoder::with_points();
        let mut all = vec![0; plain.len()];
        let progress = decoder.decode(&bad, &mut all).unwrap();
        assert_eq!((progress.produced, progress.state), (plain.len(), State::NeedOutput));
        for _ in 0..3 {
            assert_eq!(decoder.decode(&[], &mut all).unwrap_err().kind(), Kind::GzipChecksum);
        }
        assert_eq!(decoder.finish().unwrap_err().kind(), Kind::GzipChecksum);
    }
    // A resumed reader does not check.
    let mut bad = gz.clone();
    let at = gz.len() - 1;
    bad[at] ^= 1;
    drive(&mut Resumed::new(&start()).unwrap(), &bad, usize::MAX, 1 << 16).1.unwrap();
}

#[test]
fn what_was_decoded_before_a_damage_is_delivered() {
    let plain = text(9, 2_000_000);
    let mut gz = gzip(&plain, 6);
    // An invalid block type, at the second member's first byte.
    gz.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x07]);
    for room in [1000, 5_000_000] {
        let (got, end) = drive(&mut Decoder::with_points(), &gz, usize::MAX, room);
        assert!(got == plain);
        assert_eq!(end.unwrap_err().kind(), Kind::BadGzip);
    }
}

#[test]
fn a_match_cannot_reach_into_the_member_before() {
    let (gz, _) = one_block(10, 100_000);
    // A block that starts with a copy from 4 back: damaged in itself, though there is a member before it.
    let mut bad = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    // 011 (last, fixed); length 3 is 0000001; distance code 3 is 00011: bits in this order.
    let bits = [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1];
    bad.extend(bits.chunks(8).map(|c| c.iter().enumerate().fold(0u8, |b, (i, bit)| b | (bit << i))));
    bad.extend_from_slice(&[0; 20]);
    let (got, end) = decode(&[gz, bad].concat());
    assert!(got.len() >= 100_000);
    assert_eq!(end.unwrap_err().kind(), Kind::BadGzip);
}

#[test]
fn one_huge_block_is_cut_by_copies_of_the_state() {
    let (gz, plain) = one_block(11, 20_000_000);
    for (feed, room) in [(usize::MAX, 1 << 20), (10_007, 9_973)] {
        let (got, index) = index(&gz, feed, room);
        assert!(got == plain);
        assert!(index.len() >= 5 && index.iter().skip(1).all(|p| p.is_snapshot()));
        assert_eq!(longest(&index, plain.len() as u64), LONGEST_SEGMENT);
        assert_points(&gz, &plain, &index, 65_536, 1 << 20);
        // A point may be used any number of times.
        assert_points(&gz, &plain, &index, usize::MAX, 70_001);
    }
}

#[test]
fn the_decoder_stops_at_the_point_it_records() {
    let plain = text(12, 3_500_000);
    let gz = gzip(&plain, 6);
    let mut decoder = Decoder::with_points();
    let mut segments = vec![Vec::with_capacity(LONGEST_SEGMENT as usize)];
    let mut at = 0;
    while at < gz.len() {
        let segment = segments.last_mut().unwrap();
        let room = segment.capacity();
        let progress = decoder.decode_append(&gz[at..], segment, usize::MAX).unwrap();
        assert_eq!(segment.capacity(), room);
        at += progress.consumed;
        let points = decoder.take_points();
        assert!(points.len() <= 1);
        if let Some(point) = points.first() {
            assert_eq!((progress.state, point.out), (State::NeedOutput, decoder.out()));
            segments.push(Vec::with_capacity(LONGEST_SEGMENT as usize));
        }
    }
    decoder.finish().unwrap();
    assert!((4..=7).contains(&segments.len()), "{}", segments.len());
    assert!(segments.concat() == plain);
}

/// As where memory is short: as many as are asked for, and each as good as any.
#[test]
fn points_may_lie_further_apart() {
    let plain = text(16, 9_000_000);
    let gz = gzip(&plain, 6);
    for (asked, spacing) in [(0, SPACING), (2 * SPACING, 2 * SPACING), (u64::MAX, WIDEST_SPACING)] {
        let mut decoder = Decoder::with_points();
        decoder.space(asked);
        drive(&mut decoder, &gz, usize::MAX, 1 << 16).1.unwrap();
        let mut index = Index::new();
        index.extend(decoder.take_points()).unwrap();
        let most = plain.len() as u64 / spacing + 1;
        assert!((most * 2 / 3..=most).contains(&(index.len() as u64)), "{} points for {asked}", index.len());
        assert!(longest(&index, plain.len() as u64) <= LONGEST_SEGMENT);
        assert_points(&gz, &plain, &index, usize::MAX, 1 << 16);
    }
}

#[test]
fn random_reads_through_the_index() {
    let mut plain = text(13, 4_000_000);
    let mut gz = gzip(&plain, 6);
    let (one, more) = one_block(14, 9_000_000);
    gz.extend(one);
    plain.extend(more);
    let (_, index) = index(&gz, 1 << 16, 1 << 16);
    let mut rng = Rng(15);
    for _ in 0..300 {
        let out = rng.below(plain.len() as u64 + 10);
        let len = rng.below(20_000) as usize;
        let from = (out as usize).min(plain.len());
        let expected = &plain[from..(from + len).min(plain.len())];
        assert!(read(&gz, &index, out, len) == expected, "{len} at {out}");
    }
}

/// Splits `data` at the fractions given, one member each, at the levels given.
fn members(data: &[u8], cuts: &[(u16, u32)]) -> Vec<u8> {
    let mut ends: Vec<(usize, u32)> =
        cuts.iter().map(|&(f, level)| (data.len() * usize::from(f) / 65_535, level)).collect();
    ends.sort_unstable();
    let (mut at, mut gz) = (0, Vec::new());
    for (end, level) in ends {
        gz.extend(gzip(&data[at..end], level));
        at = end;
    }
    gz.extend(gzip(&data[at..], 6));
    gz
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_any_cut_any_point(
        seed in any::<u64>(),
        len in 0usize..4_000_000,
        cuts in prop::collection::vec((any::<u16>(), 0u32..10), 0..5),
        feed in prop_oneof![1usize..300, 1000usize..100_000, Just(usize::MAX)],
        room in prop_oneof![100usize..5_000, 5_000usize..3_000_000],
        padding in 0usize..3,
    ) {
        let plain = text(seed, len);
        let mut gz = members(&plain, &cuts);
        gz.resize(gz.len() + padding, 0);
        let (got, index) = index(&gz, feed, room);
        prop_assert!(got == plain);
        prop_assert!(longest(&index, len as u64) <= LONGEST_SEGMENT);
        for point in &index {
            let mut resumed = Resumed::new(point).unwrap();
            let (rest, end) = drive(&mut resumed, &gz[point.input as usize..], feed, room);
            prop_assert!(end.is_ok() && rest == plain[point.out as usize..]);
        }
        let mut rng = Rng(seed);
        for _ in 0..10 {
            let out = rng.below(len as u64 + 1) as usize;
            let n = rng.below(10_000) as usize;
            prop_assert!(read(&gz, &index, out as u64, n) == plain[out..(out + n).min(len)]);
        }
    }
}

/// Nothing, a header, a header with all fields, a header and the first bits of a dynamic block.
const HEADS: [&[u8]; 4] = [
    b"",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    b"\x1f\x8b\x08\x1e",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xed\xbd",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_end_in_data_or_an_error(
        head in prop::sample::select(&HEADS[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        feed in 1usize..50,
        room in 1usize..400,
    ) {
        let input = [head, bytes.as_slice()].concat();
        let whole = drive(&mut Decoder::with_points(), &input, usize::MAX, 1 << 16);
        let cut = drive(&mut Decoder::with_points(), &input, feed, room);
        prop_assert_eq!(&whole.0, &cut.0);
        prop_assert_eq!(whole.1.map_err(|e| e.kind()), cut.1.map_err(|e| e.kind()));
        let _ = drive(&mut Resumed::new(&start()).unwrap(), &input, feed, room);
    }

    #[test]
    fn a_changed_byte_never_panics_and_keeps_what_came_before(
        at in any::<prop::sample::Index>(), to in any::<u8>(), level in 0u32..10, room in 1usize..5_000,
    ) {
        let plain = text(16, 4_000);
        let mut gz = gzip(&plain, level);
        let at = at.index(gz.len());
        let same = gz[at] == to;
        gz[at] = to;
        let (got, end) = drive(&mut Decoder::with_points(), &gz, 100, room);
        // MTIME, XFL and OS mean nothing; anywhere else either the checks or the decoder notice.
        prop_assert!(end.is_err() || got == plain);
        prop_assert!(!same || end.is_ok());
    }

    #[test]
    fn a_point_with_the_wrong_bytes_behind_it_is_no_danger(bytes in prop::collection::vec(any::<u8>(), 0..600), feed in 1usize..100) {
        thread_local! {
            static POINTS: (logarchivefs::gunzip::Index, logarchivefs::gunzip::Index) = {
                let (gz, _) = one_block(17, 5_000_000);
                (index(&gzip(&text(17, 2_500_000), 6), usize::MAX, 1 << 20).1, index(&gz, usize::MAX, 1 << 20).1)
            };
        }
        POINTS.with(|(blocks, states)| {
            for point in blocks.iter().chain(states) {
                let _ = drive(&mut Resumed::new(point).unwrap(), &bytes, feed, 1 << 16);
            }
        });
    }
}
