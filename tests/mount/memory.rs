//! Memory stays within `--memory` and 100 MiB beside it, whatever readers do: large logs at once, many open files, folders of
//! any length. The most that the program ever had is what counts (VmHWM).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, xattr};
use crate::common::s3::Server;
use crate::common::tiles::{Tiled, Tiles};

/// What DESIGN section 6 allows beside the budget.
const BESIDES: usize = 100;

fn holds_bound(mount: &Mount, mebibytes: usize) {
    let peak = mount.peak() >> 20;
    eprintln!("peak {peak} MiB with --memory {mebibytes}MiB");
    assert!(peak <= mebibytes + BESIDES, "{peak} MiB with --memory {mebibytes}MiB");
}

fn put(server: &Server, log: &Log, text: &Tiled) {
    archive::put(server, log, SealAs::V2, &text.gzip());
}

/// Runs `work` for each number below `count`, on so many threads.
fn on_threads(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    work(n);
                }
            });
        }
    });
}

/// From the first byte to the last, every byte compared.
fn read_whole(path: PathBuf, text: &Tiled) {
    let file = File::open(path).unwrap();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let got = file.read_at(&mut buf, at as u64).unwrap();
        assert!(text.holds(at, &buf[..got]), "another text at {at}");
        at += got;
        if got == 0 {
            break;
        }
    }
    assert_eq!(at, text.len(), "a short file");
}

/// Logs that compress well and logs that hardly do, whose ciphertext alone is five times the budget.
#[test]
fn eight_readers_of_half_a_gigabyte_each() {
    const HALF: usize = 500_000_000;
    let server = Server::start();
    let (easy, hard) = (Tiles::new(false), Tiles::new(true));
    let logs: Vec<(Log, Tiled)> =
        (0..8).map(|n| (Log::at(n), if n < 6 { &easy } else { &hard }.log(n as u64, HALF + n as usize))).collect();
    logs.iter().for_each(|(log, text)| put(&server, log, text));
    for (memory, mebibytes) in [("256MiB", 256), ("64MiB", 64)] {
        let mount = Setup::s3(&server).args(["--memory", memory]).mount();
        on_threads(8, 8, |n| read_whole(mount.path(logs[n].0.path()), &logs[n].1));
        holds_bound(&mount, mebibytes);
    }
}

/// Files that are held open, all of them; then opened and closed, one after the other; and files of which only something
/// small was asked. Each is as large as objects get that are fetched by one request.
#[test]
fn ten_thousand_open_files() {
    const FILES: usize = 10_000;
    const THREADS: usize = 64;
    raise_open_files(FILES as u64 + 1000);
    let server = Server::start();
    let text = archive::noise(1, 600_000);
    let gzip = archive::gzip_level(&text, 1);
    let (metadata, body) = archive::sealed(SealAs::V2, 0, &gzip, &mut Random::new(1));
    assert!((400_000..500_000).contains(&body.len()), "{} bytes", body.len());
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let body = bytes::Bytes::from(body);
    let paths: Vec<String> = (0..FILES as i64)
        .map(|n| {
            let log = Log { service: 1 + n as u64 % 7, ..Log::at(n) };
            server.put(&log.key(), &metadata, body.clone());
            log.path()
        })
        .collect();
    let mount = Setup::s3(&server).args(["--memory", "64MiB"]).mount();

    let names: Vec<PathBuf> = paths.iter().map(|path| mount.path(path)).collect();
    on_threads(THREADS, FILES / 2, |n| assert_eq!(xattr(&names[n], "envelope").unwrap(), "v2"));
    holds_bound(&mount, 64);
    let open: Vec<std::sync::OnceLock<File>> = (0..FILES).map(|_| Default::default()).collect();
    let part = |file: &File, n: usize| {
        let at = n * 7919 % (text.len() - 100);
        let mut buf = [0; 100];
        file.read_exact_at(&mut buf, at as u64).unwrap();
        assert!(buf == text[at..at + 100], "{}", paths[n]);
    };
    on_threads(THREADS, FILES, |n| {
        let file = open[n].get_or_init(|| File::open(&names[n]).unwrap());
        part(file, n);
    });
    holds_bound(&mount, 64);
    drop(open);
    on_threads(1, FILES, |n| part(&File::open(&names[n]).unwrap(), n));
    holds_bound(&mount, 64);
}

fn raise_open_files(need: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct, written by the one and read by the other call.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        if limit.rlim_cur < need {
            (limit.rlim_cur, limit.rlim_max) = (need, limit.rlim_max.max(need));
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0, "{need} open files are not allowed here");
        }
    }
}

/// All entries are there, once, for everybody; and cost as much for many readers as for one.
#[test]
fn a_folder_of_a_hundred_thousand() {
    const FILES: usize = 100_000;
    const READERS: usize = 64;
    let server = Server::start();
    for n in 0..FILES as i64 {
        let log = Log { rotation: Some(n as u64 % 2), ..Log::at(n / 2) };
        server.put(&log.key(), &[], "x");
    }
    let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
    let day = mount.path(Log::at(0).path()).parent().unwrap().to_owned();
    let start = Barrier::new(READERS);
    on_threads(READERS, READERS, |n| {
        // All have the folder open before anybody reads it.
        let mut entries = fs::read_dir(&day).unwrap();
        start.wait();
        let mut names: Vec<_> = entries.by_ref().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), FILES, "reader {n}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FILES, "reader {n}");
        start.wait();
    });
    let first: Vec<_> = fs::read_dir(&day).unwrap().take(2_000).map(|entry| entry.unwrap().path()).collect();
    on_threads(16, first.len(), |n| assert_eq!(fs::symlink_metadata(&first[n]).unwrap().len(), 0));
    // A listing costs 200 bytes an object at most.
    holds_bound(&mount, 32 + FILES * 200 / (1 << 20));
}
