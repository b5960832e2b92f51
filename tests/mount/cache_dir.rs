//! `--cache-dir`: what a later mount need not fetch, and that nothing which happens to the folder changes a byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, forget_pages, xattr};
use crate::common::s3::{Seen, Server};
use crate::common::watch::eventually;

fn gets(server: &Server) -> Vec<Seen> {
    server.requests().into_iter().filter(Seen::is_get).collect()
}

/// Bytes that the ranges of the GETs ask for.
fn fetched(server: &Server) -> u64 {
    let len = |range: &str| match range.strip_prefix("bytes=").unwrap().split_once('-').unwrap() {
        ("", suffix) => suffix.parse::<u64>().unwrap(),
        (from, to) => to.parse::<u64>().unwrap() - from.parse::<u64>().unwrap() + 1,
    };
    gets(server).iter().map(|r| len(r.range.as_deref().expect("a GET of a whole object"))).sum()
}

struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Cache {
        Cache(tempfile::Builder::new().prefix("lafs-cache-").tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn mount(&self, server: &Server, args: &[&str]) -> Mount {
        Setup::s3(server).args([Path::new("--cache-dir"), &self.path()]).args(args).mount()
    }

    /// The files that hold something, by name.
    fn files(&self) -> BTreeMap<String, PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|e| e.unwrap().path());
        let named = entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), p));
        named.filter(|(name, _)| name.len() > 32 && name.as_bytes()[32] == b'.').collect()
    }

    fn proofs(&self) -> usize {
        self.files().keys().filter(|n| n.ends_with(".proof")).count()
    }
}

/// 12 MB of text, 9 MB of ciphertext, 24 segments; and a log that compresses well.
fn two_logs(server: &Server) -> [(Log, Vec<u8>); 2] {
    let logs = [(Log::at(0), archive::noise(1, 12_000_000)), (Log::at(100), archive::text(2, 120_000))];
    for ((log, text), kind) in logs.iter().zip([SealAs::V2, SealAs::V3]) {
        archive::put(server, log, kind, &archive::gzip(text));
    }
    logs
}

/// Reads all of them through a mount that then ends.
fn fill(cache: &Cache, server: &Server, logs: &[(Log, Vec<u8>)]) {
    let mount = cache.mount(server, &[]);
    for (log, text) in logs {
        assert!(fs::read(mount.path(log.path())).unwrap() == *text);
    }
    drop(mount);
    assert_eq!(cache.proofs(), logs.len());
}

#[test]
fn a_later_mount_scans_nothing() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    let mount = cache.mount(&server, &[]);
    for (log, text) in &logs {
        let path = mount.path(log.path());
        server.forget();
        assert_eq!(fs::metadata(&path).unwrap().len(), text.len() as u64);
        assert_eq!(xattr(&path, "auth").unwrap(), "proven", "from one small request");
        assert_eq!(gets(&server).len(), 1, "{:#?}", gets(&server));
        let last = mount.sh(&format!("tail -c 100000 '{}'", path.display())).stdout;
        assert!(last == text[text.len() - 100_000..]);
        let head = gets(&server).remove(0);
        assert!(head.range.as_deref() == Some("bytes=-64"), "{head:?}");
        assert!(fetched(&server) <= 4 << 20, "{} bytes: {:#?}", fetched(&server), gets(&server));
    }
    for (log, text) in &logs {
        let file = File::open(mount.path(log.path())).unwrap();
        let mut random = Random::new(5);
        let mut buf = vec![0; 200_000];
        for _ in 0..60 {
            forget_pages(&file);
            let at = random.below(text.len() as u64) as usize;
            let got = file.read_at(&mut buf, at as u64).unwrap();
            assert!(got > 0 && buf[..got] == text[at..at + got], "other bytes at {at}");
        }
        assert!(fs::read(mount.path(log.path())).unwrap() == *text);
    }
}

/// As long as the disk keeps up, which is asked for by reading slowly enough: not a byte of a body is fetched twice.
#[test]
fn a_later_mount_fetches_heads_only() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    // What was left out, if the disk was slow, comes with the second.
    for round in 0..2 {
        let mount = cache.mount(&server, &[]);
        server.forget();
        for (log, text) in &logs {
            assert!(fs::read(mount.path(log.path())).unwrap() == *text);
        }
        assert!(round == 0 || fetched(&server) == 2 * 64, "{:#?}", gets(&server));
    }
}
