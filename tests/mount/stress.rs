//! Everything at once: readers of every kind, walks, refreshes, objects that are replaced, deleted and added, faults of the
//! store, hardly any memory. Every byte is compared: a read gives what one version of the object holds there, or an error that
//! this version is gone. What a run does follows from its seed; how its threads meet does not.
//!
//! `LOGARCHIVEFS_STRESS=MINUTES` goes on for so long, with a new seed each round; `LOGARCHIVEFS_STRESS_SEED` says the first.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, forget_pages};
use crate::common::s3::{Reply, Server};
use crate::common::tiles::{TILE, Tiled, Tiles};
use crate::common::watch::{detach, is_mounted, kill, run, unmount, within};

/// What each thread does in a round.
const STEPS: u64 = 60;

/// A thread that finishes no call for so long hangs: far beyond the request deadline, and nothing that a busy machine does.
const HANGS: Duration = Duration::from_secs(120);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

/// An object, and all versions of it that there ever were. A name that is there has at least one.
struct Object {
    log: Log,
    versions: Mutex<Vec<Tiled>>,
    /// It is never replaced or deleted.
    stable: bool,
}

struct World {
    server: Server,
    tiles: [Tiles; 2],
    objects: Vec<Object>,
    seeds: AtomicU64,
}

impl World {
    fn new(seed: u64) -> World {
        let server = Server::start();
        server.set_unversioned();
        let tiles = [Tiles::new(false), Tiles::new(true)];
        let object = |n: i64| {
            // Of each kind some: large and small, lasting and not.
            let log = Log { resource: format!("apps-{}", 300 + n % 3), ..Log::at(n) };
            Object { log, versions: Mutex::default(), stable: n % 4 < 2 }
        };
        let objects = (0..24).map(object).collect();
        let world = World { server, tiles, objects, seeds: AtomicU64::new(seed << 20) };
        (0..world.objects.len()).for_each(|n| world.put(n));
        world
    }

    /// A new version of object `n`.
    fn put(&self, n: usize) {
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let len = match n % 6 {
            0 => 12 * TILE,
            1 => 5 * TILE,
            2 | 3 => TILE / 2,
            _ => 3_000,
        };
        let text = self.tiles[n % 2].log(seed, len + random.below(10_000) as usize);
        // Known before it can be read.
        self.objects[n].versions.lock().unwrap().push(text.clone());
        archive::put(&self.server, &self.objects[n].log, SealAs::V2, &text.gzip());
    }
}

/// What one thread is at: for the watchdog.
struct Worker {
    name: String,
    calls: AtomicU64,
    at: Mutex<String>,
    done: AtomicBool,
}

impl Worker {
    fn new(name: String) -> Worker {
        Worker { name, calls: AtomicU64::new(0), at: Mutex::default(), done: AtomicBool::new(false) }
    }

    /// Makes a call that may hang.
    fn call<T>(&self, what: impl FnOnce() -> String, call: impl FnOnce() -> T) -> T {
        *self.at.lock().unwrap() = what();
        let result = call();
        self.calls.fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// Says so when a thread ends, however it does.
struct Ends<'a>(&'a Worker);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

/// Waits for all workers; false if one hangs, after it has been told who and where. Then the daemon is killed, so that all of
/// them come back.
fn watchdog(workers: &[Worker], mount: &Mount) -> bool {
    let mut seen: Vec<(u64, Instant)> = workers.iter().map(|_| (0, Instant::now())).collect();
    while !workers.iter().all(|w| w.done.load(Ordering::Acquire)) {
        for (worker, (calls, since)) in workers.iter().zip(&mut seen) {
            let now = worker.calls.load(Ordering::Relaxed);
            if now != *calls || worker.done.load(Ordering::Acquire) {
                (*calls, *since) = (now, Instant::now());
            } else if since.elapsed() > HANGS {
                for worker in workers.iter().filter(|w| !w.done.load(Ordering::Acquire)) {
                    let calls = worker.calls.load(Ordering::Relaxed);
                    eprintln!("{} after {calls} calls: {}", worker.name, worker.at.lock().unwrap());
                }
                [mount.pid(), std::process::id()].into_iter().for_each(threads);
                kill(mount.pid(), libc::SIGKILL);
                return false;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Where each thread of a process is, in the kernel's words.
fn threads(pid: u32) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, place, stack) = (read("comm"), read("wchan"), read("stack").replace('\n', " "));
        eprintln!("{pid}/{} {} {place} {stack}", task.file_name().display(), name.trim());
    }
}

/// One handle: the versions that all it has read so far agrees with.
struct Reading<'a> {
    worker: &'a Worker,
    object: &'a Object,
    versions: Vec<Tiled>,
    file: File,
}

impl<'a> Reading<'a> {
    /// None if the object is gone.
    fn open(worker: &'a Worker, object: &'a Object, path: &Path, flags: i32) -> Option<Reading<'a>> {
        let open = || OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = object.allow(worker.call(|| format!("open {}", path.display()), open))?;
        // All that it can be: a later version is none that was listed before.
        let versions = object.versions.lock().unwrap().clone();
        Some(Reading { worker, object, versions, file })
    }

    /// Fills `buf` up to the end of the file: how much there was. None if the version is gone.
    fn read(&mut self, offset: usize, buf: &mut [u8]) -> Option<usize> {
        let mut n = 0;
        while n < buf.len() {
            let (at, rest) = (offset + n, &mut buf[n..]);
            let what = format!("read {} bytes at {at} of {}", rest.len(), self.object.log.path());
            let got = self.worker.call(|| what, || self.file.read_at(rest, at as u64));
            // What came before an error in the middle is there: read(2) tells that first.
            let got = self.object.allow(got)?;
            self.agree(|text| text.holds(at, &rest[..got]), || format!("{got} bytes at {at}"));
            if got == 0 {
                self.agree(|text| text.len() <= at, || format!("an end at {at}"));
                break;
            }
            n += got;
        }
        Some(n)
    }

    /// The exact size.
    fn len(&mut self) -> Option<usize> {
        let what = || format!("fstat {}", self.object.log.path());
        let len = self.object.allow(self.worker.call(what, || self.file.metadata()))?.len() as usize;
        self.agree(|text| text.len() == len, || format!("a size of {len}"));
        Some(len)
    }

    fn agree(&mut self, is: impl Fn(&Tiled) -> bool, what: impl Fn() -> String) {
        self.versions.retain(is);
        let path = self.object.log.path();
        assert!(!self.versions.is_empty(), "{path}: {} are of no version that agrees with the rest", what());
    }
}

impl Object {
    fn allow<T>(&self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                let gone = matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESTALE));
                assert!(gone && !self.stable, "{}: {e}", self.log.path());
                None
            }
        }
    }
}

fn whole(reading: &mut Reading<'_>, piece: usize) {
    let (mut buf, mut at) = (vec![0; piece], 0);
    while let Some(n @ 1..) = reading.read(at, &mut buf) {
        at += n;
    }
}

/// Writes the ranges of a mapping of what its input is.
const MAP: &str = "import mmap, sys\n\
    m = mmap.mmap(0, 0, prot=mmap.PROT_READ)\n\
    for range in sys.argv[1:]:\n\
    \x20   start, end = map(int, range.split('-'))\n\
    \x20   sys.stdout.buffer.write(m[start:end])\n\
    \x20   sys.stdout.flush()\n";

/// Pages as a mapping shows them, to a process of its own: while the kernel waits for one, it may hold the lock of the address
/// space, and here the server needs that to answer.
fn mapped(reading: &mut Reading<'_>, random: &mut Random) {
    let Some(len) = reading.len().filter(|len| *len > 0) else { return };
    let mut range = || {
        let start = random.below(len as u64) as usize;
        start..len.min(start + 200_000)
    };
    let ranges = [range(), range(), range(), range()];
    let mut python = Command::new("python3");
    python.args(["-c", MAP]).args(ranges.iter().map(|r| format!("{}-{}", r.start, r.end)));
    python.stdin(reading.file.try_clone().unwrap());
    let what = || format!("mapped {ranges:?} of {}", reading.object.log.path());
    let output = reading.worker.call(what, || python.output()).unwrap();
    // It ends at a page that is not to be had, by a signal.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || !reading.object.stable,
        "{}: {}: {stderr}",
        reading.object.log.path(),
        output.status
    );
    let mut rest = &output.stdout[..];
    for range in ranges {
        let (got, after) = rest.split_at(rest.len().min(range.len()));
        assert!(got.len() == range.len() || !output.status.success(), "{} bytes of {range:?}", got.len());
        reading.agree(|text| text.holds(range.start, got), || format!("{} mapped bytes of {range:?}", got.len()));
        rest = after;
    }
    assert!(rest.is_empty(), "{} bytes more", rest.len());
}

/// Names of all files, each once; those of lasting objects are among them.
fn walk(world: &World, worker: &Worker, root: &Path) {
    let (mut folders, mut files) = (vec![root.to_owned()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        let list = || fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>();
        let entries = match worker.call(|| format!("list {}", folder.display()), list) {
            Ok(entries) => entries,
            // All that was in it is gone.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(e) => panic!("{}: {e}", folder.display()),
        };
        for entry in entries {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => assert!(files.insert(entry.path()), "{} twice", entry.path().display()),
            }
        }
    }
    for object in world.objects.iter().filter(|object| object.stable) {
        assert!(files.contains(&root.join(object.log.path())), "{} is missing", object.log.path());
    }
}

/// What thread `n` does, over and over.
fn work(world: &World, mount: &Mount, worker: &Worker, n: usize, seed: u64) {
    let _ends = Ends(worker);
    let mut random = Random::new(seed ^ (n as u64) << 32);
    for _ in 0..STEPS {
        let object = &world.objects[random.below(world.objects.len() as u64) as usize];
        let path = mount.path(object.log.path());
        let open = |flags| Reading::open(worker, object, &path, flags);
        match n {
            0..3 => {
                let Some(mut reading) = open(0) else { continue };
                if random.below(2) == 0 {
                    reading.len();
                }
                whole(&mut reading, 1 << 20);
                forget_pages(&reading.file);
            }
            3..6 => {
                let Some(mut reading) = open(0) else { continue };
                let most = reading.versions.iter().map(Tiled::len).max().unwrap_or(0) as u64;
                for _ in 0..8 {
                    let (at, len) = (random.below(most + 9_000), 1 + random.below(300_000));
                    reading.read(at as usize, &mut vec![0; len as usize]);
                    forget_pages(&reading.file);
                }
            }
            6 => {
                let Some(mut reading) = open(libc::O_DIRECT) else { continue };
                whole(&mut reading, 777_777);
            }
            7 => {
                let Some(mut reading) = open(0) else { continue };
                mapped(&mut reading, &mut random);
                forget_pages(&reading.file);
            }
            // As `tail -c` does it.
            8 => {
                let Some(mut reading) = open(0) else { continue };
                let Some(len) = reading.len() else { continue };
                reading.read(len.saturating_sub(50_000), &mut [0; 60_000]);
            }
            9 => {
                let stat = || fs::symlink_metadata(&path);
                let Some(stat) = object.allow(worker.call(|| format!("stat {}", path.display()), stat)) else {
                    continue;
                };
                let is = |text: &Tiled| text.len() as u64 == stat.len();
                assert!(object.versions.lock().unwrap().iter().any(is), "{}: size {}", path.display(), stat.len());
            }
            10 => walk(world, worker, mount.root()),
            _ => {
                let changing: Vec<usize> = (0..world.objects.len()).filter(|n| !world.objects[*n].stable).collect();
                let n = changing[random.below(changing.len() as u64) as usize];
                match random.below(3) {
                    0 => world.server.delete(&world.objects[n].log.key()),
                    _ => world.put(n),
                }
                mount.signal(libc::SIGHUP);
                // Let somebody see it.
                let before = worker.calls.fetch_add(1, Ordering::Relaxed);
                worker.call(|| format!("list after change {before}"), || drop(fs::read_dir(mount.path("prod"))));
            }
        }
    }
}

/// Every so often a request fails, in one of the ways that pass.
fn faults(world: &World, seed: u64) {
    let count = AtomicU64::new(seed);
    world.server.set_hook(move |seen| {
        let n = Random::new(count.fetch_add(1, Ordering::Relaxed)).below(400);
        match n {
            0..4 => Some(Reply::error(503, "SlowDown")),
            4..6 => Some(Reply::Reset),
            6..12 if seen.is_get() => Some(Reply::Cut(n as usize * 10_000)),
            _ => None,
        }
    });
}

/// Descriptors that are no sockets: connections are kept for a while.
fn descriptors(mount: &Mount) -> usize {
    let all = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().flatten();
    all.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| !to.to_string_lossy().starts_with("socket:"))).count()
}

fn round(seed: u64, verify: &str) {
    eprintln!("LOGARCHIVEFS_STRESS_SEED={seed} --verify {verify}");
    let world = World::new(seed);
    let args = ["--memory", "32MiB", "--verify", verify, "--listing-ttl", "1s"];
    let mut mount = Setup::s3(&world.server).args(args).mount();
    assert_eq!(mount.out("ls"), "prod");
    let before = descriptors(&mount);
    faults(&world, seed);
    let workers: Vec<Worker> = (0..12).map(|n| Worker::new(format!("thread {n}"))).collect();
    let (world, shared) = (&world, &mount);
    let whole = std::thread::scope(|scope| {
        for (n, worker) in workers.iter().enumerate() {
            scope.spawn(move || work(world, shared, worker, n, seed));
        }
        watchdog(&workers, shared)
    });
    assert!(whole, "a thread hangs");
    // All is well again, and nothing is left over.
    world.server.clear_hook();
    assert!(mount.peak() >> 20 <= 132, "{} MiB", mount.peak() >> 20);
    for object in world.objects.iter().filter(|object| object.stable) {
        let text = fs::read(mount.path(object.log.path())).unwrap();
        assert!(object.versions.lock().unwrap()[0].is_at(0, usize::MAX, &text), "{}", object.log.path());
    }
    assert_eq!(descriptors(&mount), before);
    unmount(Command::new("umount").arg(mount.root()));
    assert_eq!(mount.wait().code(), Some(0), "{}", mount.log());
}

#[test]
fn everything_at_once() {
    let end = Instant::now() + Duration::from_secs(60 * number("LOGARCHIVEFS_STRESS", 0));
    let first = number("LOGARCHIVEFS_STRESS_SEED", 1);
    for seed in first.. {
        round(seed, if seed % 2 == 1 { "full" } else { "stream" });
        if Instant::now() >= end && seed > first {
            break;
        }
    }
}

/// Readers that are at it when a mount ends, in each way that it can: what they got was right, and they are told.
#[test]
fn mounts_that_end_under_their_readers() {
    let server = Server::start();
    let text = Tiles::new(false).log(1, 30 * TILE);
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &text.gzip());
    for round in 0..3 * number("LOGARCHIVEFS_STRESS", 1) {
        for end in [0, libc::SIGTERM, libc::SIGKILL] {
            let mut mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
            let path: PathBuf = mount.path(log.path());
            let reads = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for reader in 0..6 {
                    let (path, reads, text) = (&path, &reads, &text);
                    scope.spawn(move || {
                        let mut random = Random::new(round * 100 + reader);
                        let mut buf = vec![0; 300_000];
                        // Until one of them fails.
                        let ended = (0..).find_map(|_| {
                            let file = match File::open(path) {
                                Ok(file) => file,
                                Err(e) => return Some(errno::<()>(Err(e))),
                            };
                            (0..4).find_map(|_| {
                                let at = random.below(text.len() as u64) as usize;
                                let got = file.read_at(&mut buf, at as u64);
                                reads.fetch_add(1, Ordering::Relaxed);
                                forget_pages(&file);
                                match got {
                                    // Short, where the end came in the middle: then the next one fails.
                                    Ok(n) => assert!(n > 0 && text.holds(at, &buf[..n]), "{n} bytes at {at}"),
                                    Err(e) => return Some(errno::<()>(Err(e))),
                                }
                                None
                            })
                        });
                        let told = [libc::ENOTCONN, libc::ECONNABORTED, libc::ENOENT, libc::EIO];
                        assert!(ended.is_some_and(|e| told.contains(&e)), "{ended:?}");
                    });
                }
                while reads.load(Ordering::Relaxed) < 20 {
                    std::thread::yield_now();
                }
                match end {
                    0 => detach(mount.root()),
                    signal => mount.signal(signal),
                }
                let status = mount.wait();
                assert_eq!(status.code(), (end != libc::SIGKILL).then_some(0), "{}", mount.log());
            });
            assert_eq!(is_mounted(mount.root()), end == libc::SIGKILL);
        }
    }
}

/// What begins at `stop` or later never comes.
fn hang_from(server: &Server, stop: u64) {
    server.set_hook(move |seen| {
        let from = seen.range.as_deref()?.strip_prefix("bytes=")?.split('-').next()?.parse::<u64>().ok()?;
        (seen.is_get() && from >= stop).then_some(Reply::Hang)
    });
}

/// Bytes of text that were given to the page cache so far.
fn pushed(mount: &Mount) -> Option<u64> {
    let told = fs::read_to_string(mount.path(".logarchivefs/status.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&told).ok()?.pointer("/served/bytes/pushed")?.as_u64()
}

/// Text on its way to the page cache must not wait for pages of a read that S3 holds up: a program that ends then would stay
/// for ever, and so would its readers.
#[test]
fn a_program_that_ends_leaves_nobody_waiting() {
    const STOP: u64 = 8 << 20;
    let server = Server::start();
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(&archive::noise(3, 30_000_000)));
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        // Readers get what there is so far; nothing comes from here on.
        hang_from(&server, STOP);
        let mut mount = Setup::s3(&server).args(["--verify", "stream", "--request-deadline", "10m"]).mount();
        let path = mount.path(log.path());
        let (read, path) = (AtomicU64::new(0), &path);
        std::thread::scope(|scope| {
            // Stops in the middle of a read.
            scope.spawn(|| {
                let file = File::open(path).unwrap();
                let mut buf = vec![0; 100_000];
                while let Ok(n @ 1..) = file.read_at(&mut buf, read.load(Ordering::Relaxed)) {
                    read.fetch_add(n as u64, Ordering::Relaxed);
                }
            });
            let mut told = within(HANGS, || (read.load(Ordering::Relaxed) > STOP / 4).then_some(()));
            // Has to wait for the end of the file, and has the text put into the page cache meanwhile.
            scope.spawn(|| errno(File::open(path).and_then(|file| file.metadata())));
            // Until both have come as far as they can: what is asked often enough, and stays the same.
            let (mut last, mut same) = ((0, 0), 0);
            let settled = || {
                let now = (read.load(Ordering::Relaxed), pushed(&mount)?);
                same = if now == last { same + 1 } else { 0 };
                last = now;
                (now.1 > STOP / 8 && same > 100).then_some(())
            };
            told = told.and_then(|()| within(HANGS, settled));
            mount.signal(signal);
            // A zombie has one task; one more is a thread that does not end.
            let tasks = || fs::read_dir(format!("/proc/{}/task", mount.pid())).map_or(0, Iterator::count);
            let zombie = || fs::read_to_string(format!("/proc/{}/stat", mount.pid())).is_ok_and(|s| s.contains(") Z "));
            let ended = within(HANGS / 4, || (zombie() && tasks() == 1).then_some(()));
            if ended.is_none() {
                run(Command::new("umount").arg("-f").arg(mount.root()));
            }
            told.expect("no text is put into the page cache: the test shows nothing");
            ended.expect("the program stays");
        });
        mount.wait();
    }
}

/// What is given to the page cache ends a whole read before what the scan has: so a read that the kernel sends at the same
/// moment, and whose pages are locked until it is answered, needs nothing that S3 may never send.
#[test]
fn the_page_cache_gets_text_only_a_read_behind_the_scan() {
    const STOP: u64 = 8 << 20;
    const LARGEST_READ: u64 = 1 << 20;
    let server = Server::start();
    let (log, gzip) = (Log::at(0), archive::gzip(&archive::noise(3, 30_000_000)));
    archive::put(&server, &log, SealAs::V2, &gzip);
    hang_from(&server, STOP);
    let mut there = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..STOP as usize]), &mut there).unwrap_err();
    let mut mount = Setup::s3(&server).args(["--verify", "stream", "--request-deadline", "10m"]).mount();
    let path = mount.path(log.path());
    std::thread::scope(|scope| {
        scope.spawn(|| errno(File::open(&path).and_then(|file| file.metadata())));
        let (mut last, mut same) = (0, 0);
        let settled = within(HANGS, || {
            let now = pushed(&mount)?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (now > STOP / 8 && same > 100).then_some(now)
        });
        mount.signal(libc::SIGKILL);
        let settled = settled.expect("text is put into the page cache");
        assert!(settled + LARGEST_READ <= there.len() as u64, "{settled} of {} bytes", there.len());
    });
    mount.wait();
}
