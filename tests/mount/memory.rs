//! Memory stays within `--memory` and 100 MiB beside it, whatever readers do: large logs at once, many open files, folders of
//! any length. The most that the program ever had is what counts (VmHWM).

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, xattr};
use crate::common::s3::Server;
use crate::common::tiles::{Tiled, Tiles};
use crate::common::watch::left_out;

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

/// Logs that compress well and logs that hardly do, whose ciphertext alone is many times the budget.
#[test]
fn eight_readers_of_half_a_gigabyte_each() {
    const HALF: usize = 500_000_000;
    let server = Server::start();
    let (easy, hard) = (Tiles::new(false), Tiles::new(true));
    let logs: Vec<(Log, Tiled)> =
        (0..8).map(|n| (Log::at(n), if n < 6 { &easy } else { &hard }.log(n as u64, HALF + n as usize))).collect();
    logs.iter().for_each(|(log, text)| put(&server, log, text));
    let mount = Setup::s3(&server).args(["--memory", "64MiB", "--request-deadline", "10m"]).mount();
    on_threads(8, 8, |n| read_whole(mount.path(logs[n].0.path()), &logs[n].1));
    holds_bound(&mount, 64);
}

/// Held open, all of them; then opened and closed, one after the other, by when the kernel has forgotten what it had of them.
/// Of some, which are as large as objects get that come with one request, only something small is asked first.
#[test]
fn ten_thousand_open_files() {
    const FILES: usize = 10_000;
    const LARGE: usize = 600;
    const THREADS: usize = 64;
    raise_open_files(FILES as u64 + 1000);
    let server = Server::start();
    let (large, small) = (archive::noise(1, 600_000), archive::noise(2, 2_000));
    let sealed = |text: &[u8]| {
        let (metadata, body) = archive::sealed(SealAs::V2, 0, &archive::gzip_level(text, 1), &mut Random::new(1));
        (metadata, bytes::Bytes::from(body))
    };
    let objects = [sealed(&large), sealed(&small)];
    assert!((400_000..500_000).contains(&objects[0].1.len()), "{} bytes", objects[0].1.len());
    let mut paths = Vec::new();
    for n in 0..FILES {
        let (metadata, body) = &objects[usize::from(n >= LARGE)];
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        server.put(&Log::at(n as i64).key(), &metadata, body.clone());
        paths.push(Log::at(n as i64).path());
    }
    let mount = Setup::s3(&server).args(["--memory", "64MiB"]).mount();
    let names: Vec<PathBuf> = paths.iter().map(|path| mount.path(path)).collect();

    on_threads(THREADS, LARGE, |n| assert_eq!(xattr(&names[n], "envelope").unwrap(), "v2"));
    holds_bound(&mount, 64);
    let part = |file: &File, n: usize| {
        let text = if n < LARGE { &large } else { &small };
        let at = n * 7919 % (text.len() - 100);
        let mut buf = [0; 100];
        file.read_exact_at(&mut buf, at as u64).unwrap();
        assert!(buf == text[at..at + 100], "{}", paths[n]);
    };
    let open: Vec<std::sync::OnceLock<File>> = (0..FILES).map(|_| Default::default()).collect();
    on_threads(THREADS, FILES, |n| part(open[n].get_or_init(|| File::open(&names[n]).unwrap()), n));
    holds_bound(&mount, 64);
    // As it does now and then by itself, where memory is short.
    open.iter().for_each(|file| forget_pages(file.get().unwrap()));
    drop(open);
    on_threads(1, FILES, |n| part(&File::open(&names[n]).unwrap(), n));
    holds_bound(&mount, 64);
}

/// Has the kernel drop what it has of a file's text.
fn forget_pages(file: &File) {
    // SAFETY: an open descriptor and three numbers.
    let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(refused, 0);
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

/// A control group with a limit of so many MiB; removed when dropped. None where this machine lets us make none.
struct Group(PathBuf);

impl Group {
    fn new(mebibytes: usize) -> Option<Group> {
        let (top, file) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let dir = Path::new(top).join(format!("lafs-test-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let group = Group(dir);
        fs::write(group.0.join(file), (mebibytes << 20).to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// The default leaves half of it to others; more than there is can be asked for, with a warning.
#[test]
fn a_control_group_limits_the_default_budget() {
    let Some(group) = Group::new(200) else {
        return left_out("a control group limits the default budget", "none can be made here");
    };
    let server = Server::start();
    let text = Tiles::new(true).log(1, 150_000_000);
    put(&server, &Log::at(0), &text);
    let mount = Setup::s3(&server).args(["-v"]).within(&group.0).mount();
    assert!(mount.log().contains("--memory is 100MiB here, as the control group has 200 MiB"), "{}", mount.log());
    on_threads(4, 4, |_| read_whole(mount.path(Log::at(0).path()), &text));
    holds_bound(&mount, 100);
    drop(mount);
    let mount = Setup::s3(&server).args(["--memory", "1GiB"]).within(&group.0).mount();
    assert!(mount.log().contains("--memory of 1024 MiB and up to 100 MiB beside it are more"), "{}", mount.log());
}
