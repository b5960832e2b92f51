//! The lens against a model that has the whole file at once.

use proptest::prelude::*;

use super::*;
use crate::cmd::cat::lines::Lines;

fn view(since: i64, until: i64, text: bool, stream: Option<Stream>) -> View {
    let window = Window { since: Stamp::new(since, 0), until: Stamp::new(until, 999_999_999) };
    View { window, text, stream }
}

fn everything() -> View {
    view(i64::MIN, i64::MAX, false, None)
}

fn show(file: &[u8], view: View, start: Option<Stamp>) -> (Vec<u8>, Vec<Shown>, u64) {
    let (mut lines, mut lens, mut page) = (Lines::new(true), Lens::new(view, start), Page::default());
    let mut shown = Vec::new();
    for piece in [file, b""] {
        lines.add(bytes::Bytes::copy_from_slice(piece));
        while let Some(line) = lines.next() {
            shown.extend(lens.look(line, &mut page));
        }
    }
    shown.extend(lens.finish(&mut page));
    (page.bytes().to_vec(), shown, lens.odd)
}

fn record(secs: u32, stream: &str, log: &str) -> String {
    let value = serde_json::json!({"log": log, "stream": stream, "time": format!("1970-01-01T00:00:{secs:02}Z")});
    format!("{value}\n")
}

#[test]
fn pieces_of_a_long_line_are_joined_by_stream() {
    let file = [
        record(1, "stdout", "one "),
        record(1, "stderr", "eins "),
        record(1, "stdout", "two "),
        record(2, "stderr", "zwei\n"),
        record(3, "stdout", "three\n"),
        record(4, "stdout", "four\n"),
        record(5, "stderr", "never ends"),
        record(6, "", "nor does this"),
    ];
    let (text, shown, _) = show(file.concat().as_bytes(), view(0, 99, true, None), None);
    assert_eq!(text, b"eins zwei\none two three\nfour\nnever ends\nnor does this");
    let times: Vec<i64> = shown.iter().map(|s| s.time.unix().0).collect();
    assert_eq!(times, [1, 1, 4, 5], "each has the time of its first piece");
    let (text, ..) = show(file.concat().as_bytes(), view(0, 99, true, Some(Stream::Stderr)), None);
    assert_eq!(text, b"eins zwei\nnever ends");
}

#[test]
fn lines_that_are_no_records_stay_with_the_line_before() {
    let file = format!("lost\n{}junk\n\n{}more\0", record(10, "stdout", "a\n"), record(20, "stderr", "b\n"));
    let cut = |since, until| String::from_utf8(show(file.as_bytes(), view(since, until, false, None), None).0).unwrap();
    assert_eq!(cut(i64::MIN, i64::MAX), file);
    assert_eq!(cut(10, 19), format!("{}junk\n\n", record(10, "stdout", "a\n")));
    assert_eq!(cut(11, 20), format!("{}more\0", record(20, "stderr", "b\n")));
    // Before the first record, the key's start counts.
    let (text, ..) = show(file.as_bytes(), view(5, 9, false, None), Some(Stamp::new(7, 0)));
    assert_eq!(text, b"lost\n");
    let (text, shown, odd) = show(file.as_bytes(), view(0, 99, true, None), Some(Stamp::new(7, 0)));
    assert_eq!((&text[..], odd), (&b"lost\na\njunk\n\nb\nmore\0"[..], 4));
    assert_eq!(shown.iter().map(|s| s.record).collect::<Vec<_>>(), [false, true, false, false, true, false]);
    let (text, _, odd) = show(file.as_bytes(), view(0, 99, false, Some(Stream::Stdout)), None);
    assert_eq!((String::from_utf8(text).unwrap(), odd), (record(10, "stdout", "a\n"), 4));
}

#[test]
fn a_line_without_end_is_shown_or_not_as_one() {
    let long = "x".repeat(3 << 20);
    let file = format!("{}{long}\n{}", record(10, "stdout", "a\n"), record(20, "stdout", "b\n"));
    let (text, shown, _) = show(file.as_bytes(), view(10, 10, false, None), None);
    assert!(text == format!("{}{long}\n", record(10, "stdout", "a\n")).as_bytes());
    assert_eq!(shown.iter().filter(|s| !s.starts).count(), 3, "in parts");
    let (text, ..) = show(file.as_bytes(), view(20, 20, false, None), None);
    assert_eq!(text, record(20, "stdout", "b\n").as_bytes());
}

#[test]
fn text_that_never_ends_is_not_kept() {
    let piece = record(1, "stdout", &"x".repeat(16 << 10));
    let mut lens = Lens::new(view(0, 99, true, None), None);
    let mut page = Page::default();
    let (mut out, mut most) = (0, 0);
    for _ in 0..3000 {
        lens.look(Line { text: piece.as_bytes(), starts: true }, &mut page);
        most = most.max(lens.pending[0].text.len());
        out += page.bytes().len();
        page.turn();
    }
    lens.finish(&mut page);
    assert!(most < LONGEST_TEXT + (16 << 10));
    assert_eq!(out + page.bytes().len(), 3000 * (16 << 10) + 2, "broken in two places");
}

/// With no room left a line still has four of Docker's pieces; with some, the streams share it.
#[test]
fn lines_are_broken_early_where_there_is_no_room() {
    const PIECE: usize = 16 << 10;
    let pieces = |stream: &str| record(1, stream, &"x".repeat(PIECE));
    for (room, kept) in [(0, 4), (5 * PIECE, 5), (20 * PIECE, 19)] {
        let mut lens = Lens::new(view(0, 99, true, None), None);
        lens.set_room(room);
        let mut most = [0, 0];
        for n in 0..200 {
            let mut page = Page::default();
            let stream = n % 2;
            let text = pieces(["stdout", "stderr"][stream]);
            let shown = lens.look(Line { text: text.as_bytes(), starts: true }, &mut page);
            assert_eq!(shown.is_some(), !page.bytes().is_empty());
            most[stream] = most[stream].max(page.bytes().len() / PIECE);
            assert!(lens.held() <= room.max(2 * SHORT_TEXT), "{room}: {}", lens.held());
        }
        assert!(most.iter().all(|m| *m >= 4) && most.iter().sum::<usize>() <= 2 * kept, "{room}: {most:?}");
    }
}

#[test]
fn times_that_go_back_far_are_seen() {
    let line = |secs: i64| format!("{{\"time\":\"1970-01-01T{:02}:{:02}:00Z\"}}\n", secs / 3600, secs / 60 % 60);
    let backwards = |secs: &[i64]| {
        let mut lens = Lens::new(everything(), None);
        for secs in secs {
            lens.look(Line { text: line(*secs).as_bytes(), starts: true }, &mut Page::default());
        }
        lens.backwards
    };
    assert!(!backwards(&[600, 300, 900, 600]) && backwards(&[600, 240]));
}

/// (seconds, stream, text) of records; none: a line that is none.
type Model = Vec<Option<(u32, bool, String)>>;

proptest! {
    #[test]
    fn every_view_is_what_the_model_says(
        lines in prop::collection::vec(prop::option::of((0u32..60, any::<bool>(), "[ab\\n]{0,2}\\n?")), 0..30),
        since in 0i64..60,
        len in 0i64..60,
        text: bool,
        stream in prop::option::of(any::<bool>()),
    ) {
        let name = |err: bool| if err { "stderr" } else { "stdout" };
        let lines: Model = lines;
        let file: String = lines
            .iter()
            .map(|l| l.as_ref().map_or("junk\n".into(), |(secs, err, log)| record(*secs, name(*err), log)))
            .collect();
        let mut want = String::new();
        let mut time = None;
        // Text by stream, with the time that orders it.
        let mut open = [(0, String::new()), (0, String::new())];
        for line in &lines {
            if let Some((secs, ..)) = line {
                time = Some(*secs);
            }
            if !time.is_some_and(|t| (since..=since + len).contains(&i64::from(t))) {
                continue;
            }
            match line {
                None if stream.is_none() => want += "junk\n",
                Some((secs, err, log)) if stream.is_none_or(|s| s == *err) => {
                    if !text {
                        want += &record(*secs, name(*err), log);
                        continue;
                    }
                    let (at, part) = &mut open[usize::from(*err)];
                    if part.is_empty() {
                        *at = *secs;
                    }
                    *part += log;
                    if part.ends_with('\n') {
                        want += &std::mem::take(part);
                    }
                }
                _ => {}
            }
        }
        open.sort_by_key(|(at, _)| *at);
        let left: Vec<&str> = open.iter().map(|(_, part)| &**part).filter(|p| !p.is_empty()).collect();
        want += &left.join("\n");
        let stream = stream.map(|err| if err { Stream::Stderr } else { Stream::Stdout });
        let (got, ..) = show(file.as_bytes(), view(since, since + len, text, stream), None);
        prop_assert_eq!(String::from_utf8(got).unwrap(), want);
    }
}
