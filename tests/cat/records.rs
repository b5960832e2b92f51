//! Time ranges, text, streams and the merge, against the model.

use std::io::Read;
use std::process::Stdio;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log, WEDNESDAY, When};
use crate::common::s3::{Seen, Server};
use crate::common::watch::peak_mib;
use crate::model::{self, Time, instant};
use crate::setup::{Archive, record};

pub fn at(secs: i64) -> Time {
    Time::from_unix_timestamp(WEDNESDAY + secs).unwrap()
}

pub fn rfc3339(time: Time) -> String {
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// Records of `span` seconds from `start`, with equal times, junk and short steps back.
fn messy(random: &mut Random, start: i64, span: u64, lines: u64) -> String {
    let mut out = String::new();
    for n in 0..lines {
        let secs =
            start as f64 + (span * n / lines) as f64 - if random.below(9) == 0 { random.below(4) as f64 } else { 0.0 };
        match random.below(12) {
            0 => out += "{\"log\":\"cut of",
            1 => out += "not json\n\n",
            _ => {
                out += &record(
                    secs.max(start as f64),
                    random.pick(&["stdout", "stderr"]),
                    &format!("{start} {n} {}\n", random.hex(8)),
                )
            }
        }
    }
    out
}

#[test]
fn a_merge_is_a_stable_sort() {
    for (files, few) in [(5, true), (60, false)] {
        let mut random = Random::new(files);
        let mut archive = Archive::copy();
        // In the order of the paths: container by container.
        let mut all: Vec<(Time, String)> = Vec::new();
        for n in 0..files {
            let start = random.below(600) as i64;
            let span = 1 + random.below(300);
            let text = messy(&mut random, start, span, if few { 3000 } else { 100 });
            let log = Log {
                container: format!("{n:064x}"),
                when: When::Span(Some(WEDNESDAY + start), Some(WEDNESDAY + start + span as i64)),
                ..Log::at(0)
            };
            archive.add(&log, &text);
            all.push((at(start), text));
        }
        let got = archive.cat(["--merge"]).quiet();
        assert!(got == model::merged(&all), "{files} files");
        let (since, until) = (at(200), at(400));
        let cut: Vec<_> = all.iter().map(|(start, text)| (*start, model::range(text, *start, since, until))).collect();
        let args = ["--merge", "--since", &rfc3339(since), "--until", &rfc3339(until)];
        assert!(archive.cat(args).quiet() == model::merged(&cut), "{files} files in a range");
    }
}

#[test]
fn what_a_key_says_wrongly_loses_no_line() {
    let mut archive = Archive::copy();
    let mut texts = Vec::new();
    for (n, when) in [
        When::Span(Some(WEDNESDAY), Some(WEDNESDAY + 60)),
        // It says hours later than its records are.
        When::Span(Some(WEDNESDAY + 9000), Some(WEDNESDAY + 9001)),
        When::Span(None, None),
        When::Uploaded(Some(WEDNESDAY + 50)),
        When::Span(Some(WEDNESDAY + 30), None),
    ]
    .into_iter()
    .enumerate()
    {
        let text: String = (0..50).map(|s| record(f64::from(s), "stdout", &format!("{n} {s}\n"))).collect();
        archive.add(&Log { container: format!("{n:064x}"), when, ..Log::at(0) }, &text);
        texts.push(text);
    }
    let got = archive.cat(["--merge"]).quiet();
    for text in &texts {
        let mut rest = got.lines();
        assert!(text.lines().all(|line| rest.any(|got| got == line)), "a line is missing or out of order");
    }
    assert_eq!(got.len(), texts.iter().map(String::len).sum::<usize>());
    // The others are in order all the same.
    let honest = got.lines().filter(|line| !line.contains("\"1 ") && !line.contains("\"4 "));
    let times: Vec<Time> = honest.map(|l| instant(&l[l.rfind(":\"").unwrap() + 2..l.len() - 2])).collect();
    assert!(times.is_sorted());
}

#[test]
fn files_outside_the_range_are_not_asked_for() {
    let server = Server::start();
    let mut want = String::new();
    for n in 0..20 {
        let start = n * 1000;
        let text: String = (0..60).map(|s| record((start + s) as f64, "stdout", "x\n")).collect();
        archive::put(&server, &Log::at(start), SealAs::V2, &archive::gzip(text.as_bytes()));
        want += &model::range(&text, at(start), at(7030), at(9010));
    }
    let uploaded = Log { when: When::Uploaded(Some(WEDNESDAY)), ..Log::at(0) };
    archive::put(&server, &uploaded, SealAs::V2, &archive::gzip(b"x\n"));
    let mut expected: Vec<String> = [7000, 8000, 9000].map(|n| Log::at(n).key()).to_vec();
    expected.push(uploaded.key());
    expected.sort();
    for merge in [&[][..], &["--merge"]] {
        server.forget();
        let range = ["--since", "2022-08-24T01:57:10Z", "--until", "2022-08-24T02:30:10Z"];
        let done = Archive::s3(&server).cat(range.iter().chain(merge));
        assert_eq!((done.code, String::from_utf8(done.out).unwrap()), (0, want.clone()));
        assert!(done.err.contains("note: 1 files were read because their keys do not tell"), "{}", done.err);
        let mut asked: Vec<String> = server.requests().into_iter().filter(Seen::is_get).map(|r| r.key).collect();
        asked.sort();
        assert_eq!(asked, expected);
        // Of the whole time there is nothing to tell.
        Archive::s3(&server).cat(merge).quiet();
    }
}

/// One record a second, each with 20 KiB that do not compress: 36 minutes, 43 MB.
pub fn large() -> String {
    let mut random = Random::new(5);
    (0..2160).map(|n| record(f64::from(n), "stdout", &format!("{n} {}\n", random.hex(20_000)))).collect()
}

#[test]
fn a_range_of_a_large_file_is_the_range() {
    let server = Server::start();
    let text = large();
    let log = Log { when: When::Span(Some(WEDNESDAY), Some(WEDNESDAY + 2159)), ..Log::at(0) };
    archive::put(&server, &log, SealAs::V2, &archive::gzip_level(text.as_bytes(), 1));
    let archive = Archive::s3(&server);
    for (since, until) in [(0, 3), (1000, 1002), (2150, 9999), (0, 9999)] {
        for verify in ["full", "stream"] {
            server.forget();
            let done = archive.cat([
                "--since",
                &rfc3339(at(since)),
                "--until",
                &rfc3339(at(until)),
                "--verify",
                verify,
                "--memory",
                "32MiB",
            ]);
            assert_eq!(done.code, 0, "{}", done.err);
            let want = model::range(&text, at(0), at(since), at(until));
            assert!(String::from_utf8(done.out).unwrap() == want, "{since} to {until}, {verify}");
            let unproven = done.err.contains("is not authenticated");
            // Further on it depends on how far the scan is ahead of the reader.
            assert_eq!(unproven, unproven && verify == "stream", "{}", done.err);
            assert!(unproven || verify == "full" || until > 3, "{}", done.err);
        }
    }
    // And most of it is not even looked at: from five minutes and a segment (of 222 records here) before.
    for (since, least, most) in [(0, 0, 0), (1000, 470, 700), (2150, 1620, 1850)] {
        let done = archive.cat(["-v", "--text", "--since", &rfc3339(at(since))]);
        let from = done.err.split("read from byte ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        let from: usize = from.parse().unwrap();
        assert!((least * 20_000..=most * 20_200).contains(&from), "{since}: {from}");
    }
}

#[test]
fn times_that_go_back_far_are_reported() {
    let mut archive = Archive::copy();
    let text = large();
    let (first, second) = text.split_at(text.len() / 2);
    let second = &second[second.find('\n').unwrap() + 1..];
    let log = Log { when: When::Span(Some(WEDNESDAY), Some(WEDNESDAY + 2159)), ..Log::at(0) };
    archive.add_gzip(&log, &archive::gzip_level(format!("{second}{first}").as_bytes(), 1));
    let done = archive.cat(["--since", "2022-08-24T00:00:00Z"]);
    assert_eq!((done.code, done.out.len()), (0, first.len() + second.len()));
    assert!(done.err.contains("1 files have times that go back by more than 5 minutes"), "{}", done.err);
}

#[test]
fn text_and_streams() {
    let mut archive = Archive::copy();
    let long = "y".repeat(16 << 10);
    let file = [
        record(0.0, "stdout", &long),
        record(0.5, "stderr", "\x1b[31mred\x1b[0m\n"),
        record(0.0, "stdout", &long),
        "half a rec\n".to_owned(),
        record(0.0, "stdout", "end\n"),
        record(1.0, "elsewhere", "other\n"),
    ];
    archive.add(&Log::at(0), file.concat());
    archive.add(&Log::at(100), record(100.0, "stderr", "next\n"));
    let done = archive.cat(["--text"]);
    let want = format!("\x1b[31mred\x1b[0m\nhalf a rec\n{long}{long}end\nother\nnext\n");
    assert_eq!((done.code, String::from_utf8(done.out).unwrap()), (0, want));
    assert_eq!(done.err, "logarchivefs: note: 1 lines are no records and were printed as they are\n");
    let done = archive.cat(["--stream", "stderr"]);
    assert_eq!(String::from_utf8(done.out).unwrap(), format!("{}{}", file[1], record(100.0, "stderr", "next\n")));
    assert_eq!(done.err, "logarchivefs: note: 2 lines are no records of a known stream and were left out\n");
    let done = archive.cat(["--text", "--merge", "--stream", "stdout"]);
    assert_eq!(String::from_utf8(done.out).unwrap(), format!("{long}{long}end\n"));
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut archive = Archive::copy();
    let size = 400 << 20;
    archive.add_gzip(&Log::at(0), &archive::gzip_level(&vec![b'x'; size], 1));
    archive.add(&Log::at(1), record(1.0, "stdout", "behind\n"));
    for args in [&["--merge"][..], &["--text"], &["--until", "2022-08-25"]] {
        let mut command = archive.command(args.iter().chain(&["--memory", "64MiB"]));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut buf = vec![0; 1 << 20];
        for _ in 1..size >> 20 {
            out.read_exact(&mut buf).unwrap();
            assert!(buf.iter().all(|b| *b == b'x'), "{args:?}");
        }
        // There is more left than a pipe holds, so it is still alive.
        let peak = peak_mib(child.id());
        assert!(peak < 164, "{args:?}: {peak} MiB");
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(rest[..1 << 20].iter().all(|b| *b == b'x') && rest[1 << 20] == b'\n', "{args:?}");
        assert!(rest.ends_with(b"behind\n") || rest.ends_with(record(1.0, "stdout", "behind\n").as_bytes()));
    }
}
