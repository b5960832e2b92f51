//! A random archive on a mount, compared with a plain folder of the same logs: names, links, sizes, times, texts, reads
//! anywhere, by many readers at once. The seed is printed; `LAFS_TEST_SEED` sets another.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use super::model::{self, Entry, Tree};
use crate::common::archive::{self, DAY, Log, WEDNESDAY, When};
use crate::common::mounted::{Mount, Setup, forget_pages};
use crate::common::s3::{Server, UPLOADS};

/// Objects up to this many bytes are fetched whole for their `stat`, which is exact then.
const SMALL: usize = 512 << 10;

struct Sample {
    log: Log,
    kind: SealAs,
    text: Vec<u8>,
    gzip: Vec<u8>,
}

/// The seeds to try, each printed before it is.
fn seeds(first: u64) -> impl Iterator<Item = u64> {
    let given = std::env::var("LAFS_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seeds = given.map_or(first..first + 4, |seed: u64| seed..seed + 1);
    seeds.inspect(|seed| println!("LAFS_TEST_SEED={seed}"))
}

/// Text of a random length: mostly short, a few long enough for several seek points and several ranged GETs.
fn some_text(random: &mut Random, n: usize) -> Vec<u8> {
    match n {
        0 => return archive::noise(random.number(), 5_000_000),
        1 => return archive::text(random.number(), 16_000),
        2 => return archive::noise(random.number(), 900_000 + random.below(200_000) as usize),
        3 => return Vec::new(),
        _ => {}
    }
    match random.below(6) {
        0 => archive::text(random.number(), random.below(4) + 1),
        1 => archive::noise(random.number(), random.below(300) as usize),
        // Around the size of a page and of the kernel's read-ahead.
        2 => archive::noise(random.number(), 4095 + random.below(3) as usize),
        3 => archive::noise(random.number(), (128 << 10) - 1 + random.below(3) as usize),
        4 => archive::text(random.number(), 3000),
        _ => archive::text(random.number(), random.below(300)),
    }
}

fn some_gzip(random: &mut Random, text: &[u8], n: usize) -> Vec<u8> {
    let cut = random.below(text.len() as u64 + 1) as usize;
    let level = random.below(10) as u32;
    match if n == 2 { 1 } else { random.below(5) } {
        0 => [archive::gzip(&text[..cut]), archive::gzip(b""), archive::gzip_level(&text[cut..], level)].concat(),
        1 => [archive::gzip_level(&text[..cut], level), archive::gzip(&text[cut..])].concat(),
        2 => [archive::gzip(text), vec![0; random.below(5000) as usize]].concat(),
        _ => archive::gzip_level(text, level),
    }
}

fn samples(random: &mut Random) -> Vec<Sample> {
    let containers: Vec<String> = (0..4).map(|_| random.hex(64)).collect();
    let resources = ["apps-321", "apps-7", "databases-7", "proxy-55"];
    let mut logs: Vec<Log> = Vec::new();
    while logs.len() < 36 {
        let at = WEDNESDAY + random.below(3 * DAY as u64) as i64;
        let known = |random: &mut Random, at: i64| (random.below(5) > 0).then_some(at);
        let length = match random.below(4) {
            0 => 2 * DAY + random.below(DAY as u64) as i64,
            1 => -5,
            _ => random.below(30_000) as i64,
        };
        let when = match random.below(5) {
            0 => When::Uploaded(known(random, at)),
            _ => When::Span(known(random, at), known(random, at + length)),
        };
        let log = Log {
            stack: random.pick(&["prod", "prod-2", "staging"]).into(),
            resource: random.pick(&resources).into(),
            service: random.below(2) + 1,
            container: containers[random.below(4) as usize].clone(),
            rotation: (random.below(3) == 0).then(|| random.below(12)),
            when,
            master: random.below(2) as u8,
        };
        // Rivals for its name: another service, another key.
        if random.below(4) == 0 {
            logs.push(Log { master: 1 - log.master, ..log.clone() });
            if log.resource.starts_with("apps") && matches!(when, When::Span(..)) {
                logs.push(Log { service: log.service + 10, ..log.clone() });
            }
        }
        logs.push(log);
    }
    let mut keys = BTreeSet::new();
    logs.retain(|log| keys.insert(log.key()));
    let mut n = 0;
    let mut sample = |log: Log| {
        let text = some_text(random, n);
        let gzip = some_gzip(random, &text, n);
        n += 1;
        Sample { log, kind: SealAs::ALL[(n + random.below(2) as usize) % 4], text, gzip }
    };
    logs.into_iter().map(&mut sample).collect()
}

fn setup(setup: Setup) -> Setup {
    // Little memory, so that much is fetched and inflated again.
    setup.args(["--allow-unauthenticated", "--memory", "32MiB", "--verbose"])
}

#[test]
fn over_the_s3_wire() {
    for seed in seeds(2022) {
        let samples = samples(&mut Random::new(seed));
        let server = Server::start();
        let mut uploaded = Vec::new();
        for s in &samples {
            let (_, version) = archive::put(&server, &s.log, s.kind, &s.gzip);
            uploaded.push(UPLOADS as i64 + version[1..].parse::<i64>().unwrap());
        }
        let mount = setup(Setup::s3(&server)).mount();
        check(&mount, &samples, &uploaded, seed);

        // Another mount has the same inode numbers.
        let model = tree(&samples);
        let other = setup(Setup::s3(&server)).mount();
        assert_eq!(model::walk(mount.root(), &model).1, model::walk(other.root(), &model).1);
    }
}

#[test]
fn from_a_sealed_copy() {
    for seed in seeds(4711) {
        let mut random = Random::new(seed);
        let samples = samples(&mut random);
        let dir = tempfile::tempdir().unwrap();
        let mut uploaded = Vec::new();
        for (n, s) in samples.iter().enumerate() {
            uploaded.push(WEDNESDAY + 9 * DAY + n as i64);
            archive::write(dir.path(), &s.log, s.kind, &s.gzip, uploaded[n], &mut random);
        }
        let mount = setup(Setup::copy(dir.path())).mount();
        check(&mount, &samples, &uploaded, seed);
    }
}

fn tree(samples: &[Sample]) -> Tree {
    model::tree(&samples.iter().map(|s| s.log.clone()).collect::<Vec<_>>())
}

fn check(mount: &Mount, samples: &[Sample], uploaded: &[i64], seed: u64) {
    let model = tree(samples);
    assert!(model.values().any(|e| matches!(e, Entry::Link(_))), "the seed makes no links");
    assert!(model.keys().any(|k| k.contains('~')), "the seed makes no rivals");
    let (got, _) = model::walk(mount.root(), &model);
    model::same(&got, &model);

    let files: Vec<(&String, usize)> =
        model.iter().filter_map(|(path, e)| if let Entry::File(n) = e { Some((path, *n)) } else { None }).collect();
    for &(path, n) in &files {
        let (sample, meta) = (&samples[n], fs::metadata(mount.path(path)).unwrap());
        assert_eq!(meta.mtime(), sample.log.mtime().unwrap_or(uploaded[n]), "{path}");
        assert_eq!((meta.mode() & 0o7777, meta.nlink(), meta.uid()), (0o400, 1, 0), "{path}");
        assert_eq!(meta.blocks(), meta.len().div_ceil(512), "{path}");
        if sample.gzip.len() + 16 <= SMALL {
            assert_eq!(meta.len(), sample.text.len() as u64, "{path}: size before any open");
        }
    }
    let mut random = Random::new(seed ^ 1);
    for &(path, n) in &files {
        let text = &samples[n].text;
        let mut file = File::open(mount.path(path)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), text.len() as u64, "{path}: size of an open file");
        for _ in 0..6 {
            read_anywhere(&file, text, &mut random, path);
        }
        let mut got = Vec::new();
        file.read_to_end(&mut got).unwrap();
        assert!(got == *text, "{path}: {} bytes for {}", got.len(), text.len());
        forget_pages(&file);
        for _ in 0..6 {
            read_anywhere(&file, text, &mut random, path);
        }
        drop(file);
        assert_eq!(fs::metadata(mount.path(path)).unwrap().len(), text.len() as u64, "{path}: size after");
    }
    for (path, entry) in &model {
        if let Entry::Link(_) = entry {
            let home = fs::canonicalize(mount.path(path)).unwrap();
            let home = home.strip_prefix(mount.root()).unwrap().to_str().unwrap().to_owned();
            assert!(matches!(model.get(&home), Some(Entry::File(_))), "{path} leads to {home}");
        }
    }
    crowd(mount, samples, &files, seed);
}

/// Readers of the same files and of different ones, with and without the kernel's pages.
fn crowd(mount: &Mount, samples: &[Sample], files: &[(&String, usize)], seed: u64) {
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            scope.spawn(move || {
                let mut random = Random::new(seed ^ (thread + 2));
                for round in 0..40 {
                    // The longest three, which need seek points, are everybody's.
                    let long = round % 2 == 0;
                    let among: Vec<_> = files.iter().filter(|(_, n)| (*n < 3) == long).collect();
                    let (path, n) = among[random.below(among.len() as u64) as usize];
                    let file = File::open(mount.path(path)).unwrap();
                    if random.below(3) == 0 {
                        forget_pages(&file);
                    }
                    for _ in 0..4 {
                        read_anywhere(&file, &samples[*n].text, &mut random, path);
                    }
                }
            });
        }
    });
}

/// One pread, often across the end: all the bytes that there are, and the right ones.
fn read_anywhere(file: &File, text: &[u8], random: &mut Random, path: &str) {
    let size = text.len() as u64;
    let offset = match random.below(6) {
        0 => size.saturating_sub(random.below(200)),
        1 => size + random.below(2),
        _ => random.below(size + 1),
    };
    let len = match random.below(4) {
        0 => random.below(2),
        1 => random.below(5000),
        2 => random.below(300_000),
        _ => random.below(3_000_000),
    };
    let mut buf = vec![0xee; len as usize];
    let got = file.read_at(&mut buf, offset).unwrap();
    let want = text.get(offset as usize..).unwrap_or_default();
    let want = &want[..want.len().min(len as usize)];
    assert!(buf[..got] == *want, "{path}: {got} bytes at {offset}, {len} asked for, of {size}");
}
