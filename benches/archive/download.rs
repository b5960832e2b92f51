//! What `download` costs, as a whole process, synced to the disk and all.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use logarchivefs::demo::gzip;
use logarchivefs::envelope::{SealAs, seal};

use crate::data::text;
use crate::measure::{cores, median, ratio, row, time};
use crate::process::{program, watched};
use crate::rows::{Setup, counter};
use crate::{peers, s3};

/// One large object against the reference client; eight of them; many small ones.
pub fn download(setup: &Setup) {
    let size = setup.packed.len() as f64 / 1e6;
    let (gzipped, gzip_rss) = run(setup, "big", &["--gzip"], 1, setup.rounds);
    let (plain, plain_rss) = run(setup, "big", &[], 1, setup.rounds);
    if let Some(theirs) = peers::ruby(setup, false) {
        let with = "Ruby client's get_object, alone (theirs/ours)";
        row(&format!("`download --gzip`, {size:.0} MB"), gzipped, with, ratio(theirs, gzipped), ">= 2", gzip_rss);
        row(&format!("`download`, {size:.0} MB"), plain, with, ratio(theirs, plain), "-", plain_rss);
    }

    const LARGE: usize = 8;
    for n in 0..LARGE {
        setup.put("large", n as i64, setup.body.clone(), &setup.metadata);
    }
    let limit = setup.limit * LARGE as u32 / cores() as u32;
    for form in ["--gzip", "--sealed"] {
        let (ours, rss) = run(setup, "large", &[form], LARGE, setup.rounds.min(3));
        let name = format!("`download {form}`, {LARGE} such objects, {} MiB at most", 256 + 100);
        row(&name, ours, "in-process limit on all cores (limit/ours)", ratio(limit, ours), "-", rss);
    }

    const SMALL: usize = 2000;
    for n in 0..SMALL {
        let packed = gzip(&text(20_000, n as u64 + 10)).unwrap();
        let (metadata, body) = seal(SealAs::V2, &setup.master, &packed, &mut counter()).unwrap();
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        setup.put("many-small", 60 * n as i64, Bytes::from(body), &metadata);
    }
    setup.server.set_latency(Duration::from_millis(setup.latency));
    let one_by_one = Duration::from_millis(setup.latency) * SMALL as u32;
    let (ours, rss) = run(setup, "many-small", &[], SMALL, setup.rounds.min(3));
    setup.server.set_latency(Duration::ZERO);
    let name = format!("`download`, {SMALL} small files, {} ms a request", setup.latency);
    row(&name, ours, "one request after another (theirs/ours)", ratio(one_by_one, ours), ">= 8", rss);
}

/// Median, and the peak of resident memory in KiB.
fn run(setup: &Setup, stack: &str, args: &[&str], files: usize, rounds: usize) -> (Duration, Option<u64>) {
    let mut rss = None;
    let times = (0..rounds).map(|_| {
        let to = tempfile::tempdir().unwrap();
        let mut command = program(&setup.server.endpoint(), &["download", s3::BUCKET, "--stack", stack]);
        command.arg("--key-file").arg(setup.key_file()).arg("--to").arg(to.path()).args(args).stderr(Stdio::null());
        let (took, peak) = time(|| watched(&mut command));
        rss = rss.max(peak);
        let journal = fs::read_to_string(to.path().join(".logarchivefs-download.jsonl")).unwrap();
        let paths: std::collections::BTreeSet<&str> = journal.lines().map(|l| l.split('"').nth(3).unwrap()).collect();
        assert!(paths.len() == files && paths.iter().all(|path| to.path().join(path).is_file()));
        took
    });
    (median(times.collect()), rss)
}
