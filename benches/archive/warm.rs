//! A mount with a `--cache-dir` that an earlier one has filled, against one that has none: nothing is scanned again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::measure::{median, ratio, row, time};
use crate::rows::{Setup, cat_file};

/// What somebody does with the file.
type Use<'a> = &'a dyn Fn(&Path);

pub fn remount(setup: &Setup) {
    let folder = tempfile::tempdir().unwrap();
    // Made by the mount, as private as it has to be.
    let cache = folder.path().join("cache");
    let with = ["--cache-dir", cache.to_str().unwrap()];
    // Twice: chunks that were left out while the disk was busy come with the second.
    for _ in 0..2 {
        let mount = setup.mount(&with);
        cat_file(&mount.file("big"));
        drop(mount);
    }
    let last = setup.text_len as u64 - 1;
    let runs: [(&str, Use); 3] = [
        ("`tail -n 10`", &|path| {
            let tail = Command::new("tail").args(["-n", "10"]).arg(path).stdout(Stdio::null()).status();
            assert!(tail.unwrap().success());
        }),
        ("last byte of the text", &|path| File::open(path).unwrap().read_exact_at(&mut [0], last).unwrap()),
        ("first byte of the text", &|path| File::open(path).unwrap().read_exact_at(&mut [0], 0).unwrap()),
    ];
    for (name, run) in runs {
        let (mut warm, mut cold, mut rss, mut fetched) = (Vec::new(), Vec::new(), None, 0);
        for _ in 0..setup.rounds {
            let (took, _) = fresh(setup, &[], run, &mut fetched);
            cold.push(took);
            fetched = 0;
            let (took, peak) = fresh(setup, &with, run, &mut fetched);
            warm.push(took);
            rss = rss.max(peak);
        }
        let (warm, cold) = (median(warm), median(cold));
        let name = format!("{name}, remount with a warm --cache-dir ({:.1} KiB fetched)", fetched as f64 / 1024.0);
        row(&name, warm, "the same without", ratio(warm, cold), "<= 0.1", rss);
    }
}

/// In a mount that nothing has been read from; adds to `fetched` what GETs ask for.
fn fresh(setup: &Setup, options: &[&str], run: Use, fetched: &mut u64) -> (Duration, Option<u64>) {
    let mount = setup.mount(options);
    let path = mount.file("big");
    setup.server.forget();
    let took = time(|| run(&path)).0;
    for seen in setup.server.requests().iter().filter(|r| r.is_get()) {
        let range = seen.range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
        *fetched += match range.map(|(from, to)| (from.parse::<u64>().ok(), to.parse::<u64>().unwrap())) {
            Some((Some(from), to)) => to + 1 - from,
            Some((None, suffix)) => suffix,
            None => setup.body.len() as u64,
        };
    }
    (took, mount.peak_rss())
}
