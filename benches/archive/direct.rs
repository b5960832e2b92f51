//! The command `cat`, against the same through a mount. The command's time includes its start, its keys and its listing;
//! the mount's does not.

use std::process::{Command, Stdio};
use std::time::Duration;

use logarchivefs::demo::gzip;
use logarchivefs::envelope::{SealAs, seal};

use crate::data::text;
use crate::measure::{median, ratio, row, time};
use crate::process::program;
use crate::rows::{Setup, cat_file, counter};
use crate::s3;

fn cat(setup: &Setup, args: &[&str]) -> Duration {
    let run = || {
        let mut command = program(&setup.server.endpoint(), &["cat", s3::BUCKET]);
        let status = command.arg("--key-file").arg(setup.key_file()).args(args).stdout(Stdio::null()).status();
        assert!(status.unwrap().success());
    };
    time(run).0
}

/// One large file, whole and in part.
pub fn large(setup: &Setup) {
    let mounted = || {
        let mount = setup.mount(&[]);
        let file = mount.file("big");
        time(|| cat_file(&file)).0
    };
    let ways: [(&str, &[&str], &str); 5] = [
        ("whole", &[], ">= 1"),
        (
            "one minute by --since and --until",
            &["--since", "2022-08-24T00:05:00Z", "--until", "2022-08-24T00:06:00Z"],
            "-",
        ),
        ("--text", &["--text"], "-"),
        ("--stream stderr", &["--stream", "stderr"], "-"),
        ("--merge", &["--merge"], "-"),
    ];
    for (name, args, bar) in ways {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..setup.rounds {
            ours.push(cat(setup, &[&["--stack", "big"], args].concat()));
            theirs.push(mounted());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let name = format!("the command `cat`, cold, {name}");
        row(&name, ours, "`cat` on a fresh mount (theirs/ours)", ratio(theirs, ours), bar, None);
    }
}

/// Many small files, one after the other and merged.
pub fn small(setup: &Setup) {
    const FILES: usize = 2000;
    for n in 0..FILES {
        let packed = gzip(&text(20_000, n as u64 + 10)).unwrap();
        let (metadata, body) = seal(SealAs::V2, &setup.master, &packed, &mut counter()).unwrap();
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        setup.put("direct", 60 * n as i64, body.into(), &metadata);
    }
    setup.server.set_latency(Duration::from_millis(setup.latency));
    let mount = setup.mount(&[]);
    let mut find = Command::new("find");
    find.arg(mount.path().join("direct")).args(["-type", "f", "-exec", "cat", "{}", "+"]).stdout(Stdio::null());
    let theirs = time(|| assert!(find.status().unwrap().success())).0;
    for args in [&["--stack", "direct"][..], &["--stack", "direct", "--merge"]] {
        let ours = cat(setup, args);
        let name =
            format!("the command `cat`, {FILES} small files, {} ms a request {}", setup.latency, args[2..].join(" "));
        row(&name, ours, "`find -exec cat` on a fresh mount (theirs/ours)", ratio(theirs, ours), "-", None);
    }
    setup.server.set_latency(Duration::ZERO);
}
