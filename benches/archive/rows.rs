//! The rows of the table.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use logarchivefs::demo::gzip;
use logarchivefs::demo::logs::{self, Program, Random};
use logarchivefs::envelope::{Found, MasterKey, SealAs, seal};
use logarchivefs::gunzip::{Decoder, State};
use logarchivefs::key::{LogKey, Resource, Span, Time};
use logarchivefs::object::Verify;

use crate::measure::{median, percentile, ratio, row, time};
use crate::mounted::Mounted;
use crate::s3::Server;

pub type Row = fn(&Setup);

pub const ALL: [(&str, Row); 8] = [
    ("engine", engine),
    ("cat", cat),
    ("stream", stream),
    ("first-byte", first_byte),
    ("again", again),
    ("random", random),
    ("tail", tail),
    ("small", small),
];

pub struct Setup {
    rounds: usize,
    latency: u64,
    server: Server,
    master: MasterKey,
    folder: tempfile::TempDir,
    body: Vec<u8>,
    metadata: Vec<(String, String)>,
    text_len: usize,
    /// Verify, decrypt and inflate with seek points, from memory, on one thread.
    limit: Duration,
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
            body,
            metadata,
            text_len: text.len(),
            limit: Duration::ZERO,
        };
        setup.put("big", 0, &setup.body.clone(), &setup.metadata.clone());
        setup.limit = median((0..rounds).map(|_| time(|| setup.in_process()).0).collect());
        setup
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn put(&self, stack: &str, n: i64, body: &[u8], metadata: &[(String, String)]) {
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
        self.server.put(&key.to_key(), &metadata, body.to_vec());
    }

    fn mount(&self, options: &[&str]) -> Mounted {
        Mounted::new(&self.server.endpoint(), &self.key_file(), options)
    }

    fn in_process(&self) {
        let found = Found::from_metadata(self.metadata.iter().map(|(k, v)| (k, v))).unwrap();
        let Found::Complete(envelope) = found else { panic!("no envelope") };
        let key = envelope.open(&self.master).unwrap();
        let total = self.body.len() as u64;
        let mut verifier = key.verifier(total).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut out = vec![0; 1 << 20];
        let mut buf = Vec::with_capacity(1 << 20);
        let (mut at, mut made) = (0, 0);
        for piece in self.body.chunks(1 << 20) {
            verifier.update(piece);
            buf.clear();
            let plain = at as u64..(at + piece.len()).min(self.body.len() - 16) as u64;
            buf.extend_from_slice(&piece[..(plain.end - plain.start) as usize]);
            key.decrypt(plain, total, &mut buf).unwrap();
            at += piece.len();
            let mut used = 0;
            loop {
                let step = decoder.decode(&buf[used..], &mut out).unwrap();
                used += step.consumed;
                made += step.produced;
                for mut point in decoder.take_points() {
                    point.pack().unwrap();
                }
                if step.state == State::NeedInput {
                    break;
                }
            }
        }
        decoder.finish().unwrap();
        verifier.finish().unwrap();
        assert_eq!(made, self.text_len);
    }

    fn cold(&self, options: &[&str]) -> (Duration, Option<u64>) {
        let mut rss = None;
        let times = (0..self.rounds).map(|_| {
            let mount = self.mount(options);
            let file = mount.file("big");
            if std::env::var_os("PHASES").is_some() {
                phases(&file);
                return Duration::from_millis(1);
            }
            let took = time(|| cat_file(&file)).0;
            rss = rss.max(mount.peak_rss());
            took
        });
        (median(times.collect()), rss)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        std::fs::remove_file("/dev/shm/logarchivefs-bench").ok();
    }
}

fn cat(setup: &Setup) {
    let (ours, rss) = setup.cold(&[]);
    row("cold `cat`, --verify full", ours, "in-process limit", ratio(ours, setup.limit), "<= 1.35", rss);
    if let Some(theirs) = ruby(setup) {
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

fn engine(setup: &Setup) {
    for (name, verify) in [("full", Verify::Full), ("stream", Verify::Stream)] {
        let run = || crate::engine::scan(&setup.body, &setup.metadata, &setup.master, verify);
        let ours = median((0..setup.rounds).map(|_| run()).collect());
        let name = format!("scan without kernel and network, --verify {name}");
        row(&name, ours, "in-process limit", ratio(ours, setup.limit), "-", None);
    }
}

fn stream(setup: &Setup) {
    let (ours, rss) = setup.cold(&["--verify", "stream"]);
    row("cold `cat`, --verify stream", ours, "in-process limit", ratio(ours, setup.limit), "<= 1.2", rss);
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
        random_reads(setup, memory);
    }
}

/// Without the page cache. 64 MiB hold about half of the ciphertext, or a tenth of the text.
fn random_reads(setup: &Setup, memory: &str) {
    let mount = setup.mount(&["--memory", memory]);
    let path = mount.file("big");
    cat_file(&path);
    let file = File::open(&path).unwrap();
    let mut random = Random::new(3);
    let mut times: Vec<Duration> = (0..1000)
        .map(|_| {
            forget_pages(&file);
            let offset = random.below(setup.text_len as u64 - 4096);
            time(|| file.read_exact_at(&mut [0; 4096], offset).unwrap()).0
        })
        .collect();
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    row(
        &format!("random 4 KiB reads, --memory {memory}, p50"),
        p50,
        "1 ms",
        ratio(p50, Duration::from_millis(1)),
        "<= 1",
        mount.peak_rss(),
    );
    row(
        &format!("random 4 KiB reads, --memory {memory}, p99"),
        p99,
        "5 ms",
        ratio(p99, Duration::from_millis(5)),
        "<= 1",
        mount.peak_rss(),
    );
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
        setup.put("small", 60 * n as i64, &body, &metadata);
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

/// What people do today.
fn ruby(setup: &Setup) -> Option<Duration> {
    const SCRIPT: &str = r#"
require 'aws-sdk-s3'
s3 = Aws::S3::Client.new(endpoint: ENV['ENDPOINT'], region: ENV['REGION'], force_path_style: true,
  access_key_id: ENV['ID'], secret_access_key: ENV['SECRET'])
crypt = Aws::S3::EncryptionV2::Client.new(client: s3, encryption_key: [7].pack('C') * 32, key_wrap_schema: :aes_gcm,
  content_encryption_schema: :aes_gcm_no_padding, security_profile: :v2_and_legacy)
crypt.get_object(bucket: ENV['BUCKET'], key: ENV['KEY'], response_target: ENV['OUT'])
"#;
    let key = setup.server.keys().into_iter().find(|k| k.starts_with("big/"))?;
    let out = setup.folder.path().join("ruby.gz");
    let times: Vec<Duration> = (0..setup.rounds.min(3))
        .filter_map(|_| {
            let (took, ok) = time(|| {
                let mut ruby = Command::new("ruby")
                    .arg("-")
                    .stdin(Stdio::piped())
                    .env("ENDPOINT", setup.server.endpoint())
                    .env("REGION", crate::s3::REGION)
                    .env("ID", crate::s3::ACCESS_KEY)
                    .env("SECRET", crate::s3::SECRET_KEY)
                    .env("BUCKET", crate::s3::BUCKET)
                    .env("KEY", &key)
                    .env("OUT", &out)
                    .spawn()
                    .ok()?;
                ruby.stdin.take()?.write_all(SCRIPT.as_bytes()).ok()?;
                let fetched = ruby.wait().ok()?.success();
                let gzip = Command::new("gzip").arg("-dc").arg(&out).stdout(Stdio::null()).status().ok()?.success();
                (fetched && gzip).then_some(())
            });
            ok.map(|()| took)
        })
        .collect();
    if times.is_empty() {
        eprintln!("no Ruby client here: install ruby-aws-sdk-s3 for that comparison");
        return None;
    }
    Some(median(times))
}

fn phases(path: &Path) {
    let (open, mut file) = time(|| File::open(path).unwrap());
    let (stat, _) = time(|| file.metadata().unwrap());
    let mut buf = vec![0; 128 << 10];
    let (read, _) = time(|| while file.read(&mut buf).unwrap() > 0 {});
    eprintln!("open {open:.1?} fstat {stat:.1?} read {read:.1?}");
}

fn cat_file(path: &Path) {
    // Not to /dev/null through `cat` itself, which would splice nothing but costs the same: one process, 128 KiB reads.
    let status = Command::new("cat").arg(path).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
}

fn forget_pages(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor, and no pointers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + (1 << 20));
    let mut at = 1_661_299_200;
    while out.len() < len {
        for program in [Program::Web, Program::Worker, Program::Database, Program::Proxy] {
            logs::write(program, &mut random, at, at + 60, 60, &mut out);
        }
        at += 60;
    }
    out.truncate(len);
    out
}

fn counter() -> impl FnMut(&mut [u8]) {
    let mut n = 0u8;
    move |buf: &mut [u8]| buf.iter_mut().for_each(|b| (*b, n) = (n, n.wrapping_add(1)))
}
