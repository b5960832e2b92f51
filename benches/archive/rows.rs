//! The rows of the table.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use logarchivefs::demo::gzip;
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::{MasterKey, SealAs, seal};
use logarchivefs::key::{LogKey, Resource, Span, Time};

use crate::data::text;
use crate::measure::{cores, median, percentile, ratio, row, time};
use crate::mounted::Mounted;
use crate::s3::Server;
use crate::{commands, direct, download, engine, limit, peers, scale, verifying, warm};

pub type Row = fn(&Setup);

pub const ALL: &[(&str, Row)] = &[
    ("engine", engine::scans),
    ("reread", engine::reread),
    ("cat", cat),
    ("stream", stream),
    ("first-byte", first_byte),
    ("again", again),
    ("random", random),
    ("tail", tail),
    ("small", small),
    ("readers", readers),
    ("direct-large", direct::large),
    ("direct-small", direct::small),
    ("remount", warm::remount),
    ("peers", peers::gzip_tools),
    ("find", commands::find),
    ("download", download::download),
    ("verify", verifying::verify),
    ("scale-root", scale::root),
    ("scale-resource", scale::resource),
    ("scale-find", scale::find),
    ("scale-long", scale::long),
];

pub struct Setup {
    pub rounds: usize,
    pub latency: u64,
    pub server: Server,
    pub master: MasterKey,
    pub folder: tempfile::TempDir,
    pub body: Bytes,
    /// The decrypted object.
    pub packed: Vec<u8>,
    pub metadata: Vec<(String, String)>,
    pub text_len: usize,
    /// See [`limit`].
    pub limit: Duration,
}

impl Setup {
    pub fn new(mb: usize, rounds: usize, latency: u64) -> Setup {
        let master = MasterKey::new(&[7; 32]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("keys");
        std::fs::write(&key_file, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = text(mb * 1_000_000, 1);
        let packed = gzip(&text).unwrap();
        let (metadata, body) = seal(SealAs::V2, &master, &packed, &mut counter()).unwrap();
        println!("Data: {} MB of Docker JSON, {:.1} MB gzipped; medians of {rounds}\n", mb, packed.len() as f64 / 1e6);
        std::fs::write("/dev/shm/logarchivefs-bench", &text).unwrap();
        let server = Server::start();
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        let mut setup = Setup {
            rounds,
            latency,
            server,
            master,
            folder,
            body: body.into(),
            packed,
            metadata,
            text_len: text.len(),
            limit: Duration::ZERO,
        };
        setup.put("big", 0, setup.body.clone(), &setup.metadata);
        setup.limit = median((0..rounds).map(|_| time(|| limit::once(&setup)).0).collect());
        setup
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub fn put(&self, stack: &str, n: i64, body: Bytes, metadata: &[(String, String)]) {
        let key = LogKey {
            stack: stack.into(),
            key_sum: self.master.fingerprint(),
            resource: Resource::new("apps", 1),
            service: Some(1),
            container: "ab".repeat(32),
            rotation: None,
            span: Span::Range {
                start: Time::from_unix(1_661_299_200 + n, 0),
                end: Time::from_unix(1_661_299_260 + n, 0),
            },
        };
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.server.put(&key.to_key(), &metadata, body);
    }

    pub fn mount(&self, options: &[&str]) -> Mounted {
        Mounted::new(&self.server.endpoint(), &self.key_file(), options)
    }

    /// The key of the large object.
    pub fn key(&self) -> String {
        self.server.keys().into_iter().find(|k| k.starts_with("big/")).expect("the large object")
    }

    pub fn cold(&self, options: &[&str]) -> (Duration, Option<u64>) {
        let (ours, _, rss) = self.cold_and_limit(options);
        (ours, rss)
    }

    /// With the in-process limit, measured in turns: these machines change their speed from one second to the next.
    fn cold_and_limit(&self, options: &[&str]) -> (Duration, Duration, Option<u64>) {
        let (mut times, mut limits, mut rss) = (Vec::new(), Vec::new(), None);
        for _ in 0..self.rounds {
            let mount = self.mount(options);
            let file = mount.file("big");
            times.push(time(|| cat_file(&file)).0);
            rss = rss.max(mount.peak_rss());
            drop(mount);
            limits.push(time(|| limit::once(self)).0);
        }
        (median(times), median(limits), rss)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        std::fs::remove_file("/dev/shm/logarchivefs-bench").ok();
    }
}

fn cat(setup: &Setup) {
    let (ours, limit, rss) = setup.cold_and_limit(&[]);
    row("cold `cat`, --verify full", ours, "in-process limit", ratio(ours, limit), "<= 1.35", rss);
    if let Some(theirs) = peers::ruby(setup, true) {
        row(
            "cold `cat`, --verify full",
            ours,
            "Ruby get_object + gzip -dc (theirs/ours)",
            ratio(theirs, ours),
            ">= 4.5",
            rss,
        );
    }
}

fn stream(setup: &Setup) {
    let (ours, limit, rss) = setup.cold_and_limit(&["--verify", "stream"]);
    row("cold `cat`, --verify stream", ours, "in-process limit", ratio(ours, limit), "<= 1.2", rss);
}

fn first_byte(setup: &Setup) {
    let (whole, _) = setup.cold(&[]);
    let times = (0..setup.rounds).map(|_| {
        let mount = setup.mount(&[]);
        let file = mount.file("big");
        time(|| File::open(&file).unwrap().read_exact(&mut [0]).unwrap()).0
    });
    let ours = median(times.collect());
    row("first byte, full verification", ours, "its whole cold `cat`", ratio(ours, whole), "<= 0.25", None);
}

fn again(setup: &Setup) {
    let mount = setup.mount(&[]);
    let file = mount.file("big");
    cat_file(&file);
    let ours = median((0..setup.rounds).map(|_| time(|| cat_file(&file)).0).collect());
    let tmpfs = Path::new("/dev/shm/logarchivefs-bench");
    let theirs = median((0..setup.rounds).map(|_| time(|| cat_file(tmpfs)).0).collect());
    row("second `cat`", ours, "`cat` from tmpfs (theirs/ours)", ratio(theirs, ours), ">= 0.8", mount.peak_rss());
}

fn random(setup: &Setup) {
    for memory in ["256MiB", "64MiB"] {
        let (mut times, rss) = random_reads(setup, memory);
        for (p, bar) in [(50, 1), (99, 5)] {
            let (ours, bar) = (percentile(&mut times, p), Duration::from_millis(bar));
            let name = format!("random 4 KiB reads, --memory {memory}, p{p}");
            row(&name, ours, &format!("{bar:?}"), ratio(ours, bar), "<= 1", rss);
        }
    }
}

/// In a proven file, without the page cache. 256 MiB hold all of the ciphertext, 64 MiB half of it.
pub fn random_reads(setup: &Setup, memory: &str) -> (Vec<Duration>, Option<u64>) {
    let mount = setup.mount(&["--memory", memory]);
    let path = mount.file("big");
    cat_file(&path);
    let file = File::open(&path).unwrap();
    let mut random = Random::new(3);
    let times = (0..1000).map(|_| {
        forget_pages(&file);
        let offset = random.below(setup.text_len as u64 - 4096);
        time(|| file.read_exact_at(&mut [0; 4096], offset).unwrap()).0
    });
    let times = times.collect();
    (times, mount.peak_rss())
}

fn tail(setup: &Setup) {
    let mount = setup.mount(&["--memory", "64MiB"]);
    let path = mount.file("big");
    let file = File::open(&path).unwrap();
    let mut times = Vec::new();
    let mut gets = 0;
    for _ in 0..setup.rounds {
        // Reading the middle evicts the end.
        let mut reader = File::open(&path).unwrap();
        reader.seek(SeekFrom::Start(0)).unwrap();
        std::io::copy(&mut reader.take(setup.text_len as u64 * 8 / 10), &mut std::io::sink()).unwrap();
        forget_pages(&file);
        setup.server.forget();
        let run = || Command::new("tail").args(["-n", "10"]).arg(&path).stdout(Stdio::null()).status().unwrap();
        times.push(time(run).0);
        gets = gets.max(setup.server.requests().iter().filter(|r| r.is_get()).count());
    }
    let ours = median(times);
    row(
        &format!("`tail -n 10` after eviction ({gets} GETs)"),
        ours,
        "10 ms",
        ratio(ours, Duration::from_millis(10)),
        "<= 1",
        mount.peak_rss(),
    );
}

fn small(setup: &Setup) {
    const FILES: usize = 2000;
    for n in 0..FILES {
        let packed = gzip(&text(20_000, n as u64 + 10)).unwrap();
        let (metadata, body) = seal(SealAs::V2, &setup.master, &packed, &mut counter()).unwrap();
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        setup.put("small", 60 * n as i64, body.into(), &metadata);
    }
    setup.server.set_latency(Duration::from_millis(setup.latency));
    let mount = setup.mount(&[]);
    setup.server.forget();
    let run = || {
        Command::new("grep")
            .args(["-rc", "no such text"])
            .arg(mount.path().join("small"))
            .stdout(Stdio::null())
            .status()
            .unwrap()
    };
    let ours = time(run).0;
    let gets = setup.server.requests().iter().filter(|r| r.is_get()).count() as f64 / FILES as f64;
    setup.server.set_latency(Duration::ZERO);
    let one_by_one = Duration::from_millis(setup.latency) * FILES as u32;
    let name = format!("`grep -r`, {FILES} small files, {} ms a request ({gets:.3} GETs a file)", setup.latency);
    row(&name, ours, "one request after another (theirs/ours)", ratio(one_by_one, ours), ">= 8", mount.peak_rss());
}

pub fn cat_file(path: &Path) {
    // Not to /dev/null through `cat` itself, which would splice nothing but costs the same: one process, 128 KiB reads.
    let status = Command::new("cat").arg(path).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
}

/// Every one reads a file of its own, from a cold start.
fn readers(setup: &Setup) {
    const READERS: usize = 8;
    for n in 0..READERS {
        setup.put(&format!("many{n}"), 0, setup.body.clone(), &setup.metadata);
    }
    let mut rss = None;
    let times = (0..setup.rounds.min(3)).map(|_| {
        let mount = setup.mount(&[]);
        let files: Vec<PathBuf> = (0..READERS).map(|n| mount.file(&format!("many{n}"))).collect();
        let all = || std::thread::scope(|s| files.iter().for_each(|f| drop(s.spawn(|| cat_file(f)))));
        let took = time(all).0;
        rss = rss.max(mount.peak_rss());
        took
    });
    let ours = median(times.collect());
    let limit = setup.limit * READERS as u32 / cores() as u32;
    let name = format!("{READERS} readers, cold, {} MiB at most", 256 + 100);
    row(&name, ours, "in-process limit on all cores (limit/ours)", ratio(limit, ours), ">= 0.9", rss);
}

pub fn forget_pages(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor, and no pointers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

pub fn counter() -> impl FnMut(&mut [u8]) {
    let mut n = 0u8;
    move |buf: &mut [u8]| buf.iter_mut().for_each(|b| (*b, n) = (n, n.wrapping_add(1)))
}
