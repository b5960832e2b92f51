//! Memory stays within `--memory` and 100 MiB beside it.

use logarchivefs::envelope::SealAs;

use crate::common::archive;
use crate::common::tiles::Tiles;
use crate::common::watch::eventually;
use crate::run::{Bucket, log};

/// Logs that compress well, and logs whose ciphertext alone is more than all of the budget.
#[test]
fn large_logs_in_little_memory() {
    const TEXT: usize = 60_000_000;
    let bucket = Bucket::s3();
    let (easy, hard) = (Tiles::new(false), Tiles::new(true));
    for n in 0..4 {
        let text = if n % 2 == 0 { &easy } else { &hard }.log(n as u64, TEXT);
        archive::put(bucket.server(), &log(n), SealAs::V2, &text.gzip());
    }
    let mut child = bucket.command(["--format", "json", "--memory", "64MiB"]).spawn().unwrap();
    let mut peak = 0;
    let status = eventually("all is read", || {
        // It only grows; a child that has ended shows none any more.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        peak = peak.max(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
        child.try_wait().unwrap()
    });
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut told).unwrap();
    // Tiles are cut through lines, and noise has no times.
    assert_eq!(status.code(), Some(5), "{told}");
    assert_eq!(told.matches(&format!("\"text_size\":{TEXT},")).count(), 4, "{told}");
    eprintln!("peak {} MiB with --memory 64MiB", peak >> 10);
    assert!((20..64 + 100).contains(&(peak >> 10)), "{peak} KiB");
}
