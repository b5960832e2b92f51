//! What is fetched for a range of a large file, and that a merge of ranges is right.

use std::path::Path;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log, WEDNESDAY, When};
use crate::common::cache::Cache;
use crate::common::s3::{Seen, Server};
use crate::model;
use crate::records::{at, large, rfc3339};
use crate::setup::{Archive, record};

fn spanning(secs: i64) -> Log {
    Log { when: When::Span(Some(WEDNESDAY), Some(WEDNESDAY + secs)), ..Log::at(0) }
}

/// Bytes that a request asked for, of an object of `size` bytes.
fn bytes(request: &Seen, size: u64) -> u64 {
    let Some(range) = &request.range else { return size };
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    match from.parse::<u64>() {
        Ok(from) => to.parse::<u64>().unwrap() - from + 1,
        Err(_) => to.parse().unwrap(),
    }
}

/// Removes all ciphertext from a cache folder, and leaves the one proof.
fn without_ciphertext(cache: &Path) {
    let (mut chunks, mut proofs) = (0, 0);
    let mut folders = vec![cache.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match name.split_at_checked(32) {
                _ if path.is_dir() => folders.push(path),
                Some((_, ".proof")) => proofs += 1,
                Some((_, chunk)) if chunk.starts_with('.') => {
                    std::fs::remove_file(path).unwrap();
                    chunks += 1;
                }
                _ => {}
            }
        }
    }
    assert!(chunks > 0 && proofs == 1, "{chunks} chunks, {proofs} proofs");
}

/// Of a file that an earlier run has proven, only the part that is asked for is fetched, and five minutes before it. The
/// ciphertext that is in the cache folder as well is taken away: what is shown here is the seeking.
#[test]
fn a_late_range_of_a_proven_file_costs_a_part_of_it() {
    let server = Server::start();
    let (text, log) = (large(), spanning(2159));
    let mut size = 0;
    // In blocks: a log that is one block has no proof (docs/CACHE.md).
    archive::put_changed(&server, &log, SealAs::V2, &archive::gzip(text.as_bytes()), |body| size = body.len() as u64);
    assert!(size > 8 << 20);
    let archive = Archive::s3(&server);
    let folder = Cache::new();
    let cache = folder.path();
    let cached = |args: &[&str]| {
        let dir = ["--cache-dir", cache.to_str().unwrap(), "--cache-size", "16MiB"];
        archive.cat(dir.iter().chain(args))
    };
    assert!(cached(&[]).quiet() == text);
    for args in [&[][..], &["--merge"]] {
        without_ciphertext(&cache);
        server.forget();
        let since = at(2100);
        let done = cached(&[&["--since", &rfc3339(since)], args].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(String::from_utf8(done.out).unwrap() == model::range(&text, at(0), since, at(9999)), "{args:?}");
        let fetched: u64 = server.requests().iter().filter(|r| r.is_get()).map(|r| bytes(r, size)).sum();
        assert!(fetched > 1 << 20 && fetched < size / 3, "{args:?}: {fetched} bytes of {size}");
    }
}

/// One file in which there is something to seek, among others that are read whole.
#[test]
fn a_merge_of_ranges_is_the_range_of_the_merge() {
    let server = Server::start();
    let mut files = vec![(at(0), large())];
    let mut random = Random::new(3);
    for n in 1..6u64 {
        let start = 300 * n as i64;
        let lines = (0..300).map(|s| record((start + s) as f64, "stderr", &format!("{n} {s} {}\n", random.hex(20))));
        files.push((at(start), lines.collect()));
    }
    for (n, (start, text)) in files.iter().enumerate() {
        let from = start.unix_timestamp();
        let span = if n == 0 { 2159 } else { 300 };
        let log = Log { container: format!("{n:064x}"), when: When::Span(Some(from), Some(from + span)), ..Log::at(0) };
        let mut size = 0;
        let gzip = archive::gzip_level(text.as_bytes(), 1);
        archive::put_changed(&server, &log, SealAs::V2, &gzip, |body| size = body.len());
        assert_eq!(size > 2 << 20, n == 0, "the first one is large");
    }
    let archive = Archive::s3(&server);
    for (since, until) in [(0, 9999), (650, 660), (1200, 9999), (2100, 9999)] {
        let (since, until) = (at(since), at(until));
        let cut: Vec<_> =
            files.iter().map(|(start, text)| (*start, model::range(text, *start, since, until))).collect();
        for memory in ["32MiB", "256MiB"] {
            let range = ["--merge", "--since", &rfc3339(since), "--until", &rfc3339(until), "--memory", memory];
            assert!(archive.cat(range).quiet() == model::merged(&cut), "{since} to {until}, {memory}");
        }
    }
}
