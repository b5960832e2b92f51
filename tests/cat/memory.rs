//! Lines that never end, in many files at once.

use std::io::Read;
use std::process::Stdio;

use crate::common::archive::{self, Log};
use crate::common::watch::peak_mib;
use crate::setup::{Archive, record};

/// Each of these files is 16 MiB of text without a line feed, in pieces as Docker cuts them; all begin at the same time.
#[test]
fn long_lines_of_many_files_share_little_memory() {
    const FILES: usize = 50;
    const PIECES: usize = 1024;
    let piece = "y".repeat(16 << 10);
    let text: String = (0..PIECES).map(|n| record(n as f64 / 10.0, "stdout", &piece)).collect();
    let gzip = archive::gzip_level(text.as_bytes(), 1);
    let mut archive = Archive::copy();
    for n in 0..FILES {
        archive.add_gzip(&Log { container: format!("{n:064x}"), ..Log::at(0) }, &gzip);
    }
    let all = FILES * PIECES * piece.len();
    for args in [&["--merge", "--text"][..], &["--text"], &["--merge"]] {
        let mut child =
            archive.command(args.iter().chain(&["--memory", "64MiB"])).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (mut buf, mut seen, mut ends) = (vec![0; 1 << 20], 0, 0);
        let mut count = |bytes: &[u8]| {
            seen += bytes.iter().filter(|b| **b == b'y').count();
            ends += bytes.iter().filter(|b| **b == b'\n').count();
            seen
        };
        // There is more left then than a pipe holds, so it is still alive.
        while all - count(&[]) > 4 << 20 {
            let n = out.read(&mut buf).unwrap();
            assert!(n > 0, "{args:?}: the end, too early");
            count(&buf[..n]);
        }
        let peak = peak_mib(child.id());
        eprintln!("{args:?}: {peak} MiB");
        assert!(peak < 164, "{args:?}: {peak} MiB");
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(count(&rest), all, "{args:?}");
        match args {
            // Not in more parts than 64 KiB make.
            ["--merge", "--text"] => assert!((FILES - 1..FILES * PIECES / 4).contains(&ends), "{ends}"),
            ["--text"] => assert_eq!(ends, FILES - 1),
            _ => assert_eq!(ends, FILES * PIECES),
        }
    }
}
