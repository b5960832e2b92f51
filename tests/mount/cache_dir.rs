//! `--cache-dir`: what a later mount need not fetch, and that nothing which happens to the folder changes a byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::cache::Cache;
use crate::common::mounted::{Setup, errno, forget_pages, xattr};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::{eventually, left_out};

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
        // More than may wait is left out.
        mount.written();
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
    // Out of order, so that no head is fetched ahead.
    for (log, text) in logs.iter().rev() {
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

#[test]
fn a_later_mount_fetches_heads_only() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    let mount = cache.mount(&server, &[]);
    server.forget();
    for (log, text) in &logs {
        assert!(fs::read(mount.path(log.path())).unwrap() == *text);
    }
    // All of the ciphertext is less than what may wait to be written, so none was left out.
    assert_eq!(fetched(&server), 2 * 64, "{:#?}", gets(&server));
}

/// Bytes from S3 take the place of chunks that were evicted; the proof is enough to trust them.
#[test]
fn chunks_that_are_gone_come_back() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    let before = cache.files().len();
    for (name, path) in cache.files() {
        if !name.ends_with(".proof") {
            fs::remove_file(path).unwrap();
        }
    }
    for again in [false, true] {
        let mount = cache.mount(&server, &[]);
        server.forget();
        for (log, text) in &logs {
            let path = mount.path(log.path());
            assert_eq!(xattr(&path, "auth").unwrap(), "proven");
            assert!(fs::read(path).unwrap() == *text);
        }
        assert_eq!(fetched(&server) == 2 * 64, again, "{:#?}", gets(&server));
    }
    assert_eq!(cache.files().len(), before);
}

/// No plaintext, neither as it is nor gzipped nor packed: in all that LZ4 and deflate leave of a text there are literals.
#[test]
fn nothing_decrypted_is_in_the_folder() {
    const CANARY: &str = "canary-7f3a-of-the-plain-text";
    let server = Server::start();
    let mut logs = two_logs(&server);
    for (n, (log, text)) in logs.iter_mut().enumerate() {
        let line = format!("{{\"log\":\"{CANARY}\\n\"}}\n");
        (0..text.len() / 30_000).for_each(|n| drop(text.splice(n * 30_000..n * 30_000, line.bytes())));
        archive::put(&server, log, SealAs::ALL[1 + n], &archive::gzip(text));
    }
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    // Once more, by the proofs.
    fill(&cache, &server, &logs);
    let plain = logs.iter().flat_map(|(_, text)| [text.clone(), archive::gzip(text)]);
    let plain: Vec<Vec<u8>> = plain.collect();
    let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().unwrap());
    let needles: std::collections::HashSet<u64> = plain.iter().flat_map(|t| t.chunks_exact(8).map(word)).collect();
    let found = |bytes: &[u8]| bytes.windows(8).position(|w| needles.contains(&word(w)));
    assert!(found(&[b"....", CANARY.as_bytes(), &plain[0][..32 << 10]].concat()).is_some(), "the search finds nothing");
    let mut all = 0;
    for entry in fs::read_dir(cache.path()).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file() && meta.mode() & 0o777 == 0o600, "{}: {:o}", path.display(), meta.mode());
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "{}", path.display());
        assert_eq!(found(&bytes), None, "plaintext in {}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(logs.iter().all(|(log, _)| !name.contains(&log.container[..8])), "{name} tells whose log it is");
        all += bytes.len();
    }
    assert!(all > plain[1].len(), "{all} bytes: not even the ciphertext is there");
    assert_eq!(fs::metadata(cache.path()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn another_version_is_another_file() {
    for versioned in [true, false] {
        let server = Server::start();
        if !versioned {
            server.set_unversioned();
        }
        let cache = Cache::new();
        for seed in [1, 2, 1] {
            let text = archive::noise(seed, 3_000_000);
            archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&text));
            let mount = cache.mount(&server, &[]);
            assert!(fs::read(mount.path(Log::at(0).path())).unwrap() == text);
        }
    }
}

/// Who can write to the bucket changes how the object is to be decrypted, and nothing else: neither size, nor ETag, nor data
/// key. The proof is not for that.
#[test]
fn a_proof_holds_for_its_envelope_only() {
    let server = Server::start();
    server.set_unversioned();
    let log = Log::at(0);
    let text = archive::noise(1, 3_000_000);
    let (mut metadata, body) = archive::sealed(SealAs::V2, 0, &archive::gzip(&text), &mut Random::new(1));
    let put = |metadata: &BTreeMap<String, String>| {
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        server.put(&log.key(), &metadata, body.clone())
    };
    let before = put(&metadata);
    let cache = Cache::new();
    fill(&cache, &server, &[(log.clone(), text.clone())]);
    let iv = metadata.get_mut("x-amz-iv").unwrap();
    *iv = if iv.starts_with('A') { iv.replacen('A', "B", 1) } else { format!("A{}", &iv[1..]) };
    assert_eq!(put(&metadata), before, "version and ETag");
    let mount = cache.mount(&server, &[]);
    assert_ne!(xattr(&mount.path(log.path()), "auth").unwrap(), "proven");
    assert_eq!(errno(fs::read(mount.path(log.path()))), libc::EBADMSG);
    assert_eq!(xattr(&mount.path(log.path()), "auth").unwrap(), "failed");
}

const DAMAGES: [&str; 11] =
    ["start", "salt", "index", "middle", "end", "cut", "empty", "swapped", "link", "folder", "full folder"];

/// Does it to every file of the folder.
fn damage(cache: &Cache, how: &str) {
    let files: Vec<PathBuf> = cache.files().into_values().collect();
    let outside = cache.beside("outside");
    fs::write(&outside, fs::read(files.last().unwrap()).unwrap()).unwrap();
    let first = fs::read(&files[0]).unwrap();
    for (n, path) in files.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let flip = match how {
            "start" => Some(0),
            "salt" => Some(20),
            "index" => Some(60),
            "middle" => Some(bytes.len() / 2),
            "end" => Some(bytes.len() - 1),
            _ => None,
        };
        if let Some(at) = flip {
            bytes[at] ^= 1;
        }
        match how {
            "cut" => bytes.truncate(bytes.len() - bytes.len() / 3),
            "empty" => bytes.clear(),
            "swapped" => bytes = files.get(n + 1).map_or(first.clone(), |next| fs::read(next).unwrap()),
            _ => {}
        }
        fs::remove_file(path).unwrap();
        match how {
            "link" => symlink(&outside, path).unwrap(),
            "folder" => fs::create_dir(path).unwrap(),
            "full folder" => fs::create_dir_all(path.join("x")).unwrap(),
            _ => fs::write(path, bytes).unwrap(),
        }
    }
}

#[test]
fn damaged_files_are_as_good_as_none() {
    let server = Server::start();
    let text = archive::noise(1, 3_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&text));
    let logs = [(Log::at(0), text.clone())];
    for how in DAMAGES {
        let cache = Cache::new();
        fill(&cache, &server, &logs);
        damage(&cache, how);
        for round in ["damaged", "healed"] {
            let mount = cache.mount(&server, &[]);
            let path = mount.path(Log::at(0).path());
            server.forget();
            let file = File::open(&path).unwrap();
            let mut last = [0; 1000];
            file.read_exact_at(&mut last, text.len() as u64 - 1000).unwrap();
            assert!(last[..] == text[text.len() - 1000..], "{how}, {round}");
            assert!(fs::read(&path).unwrap() == text, "{how}, {round}");
            assert!(!mount.log().contains("WARN"), "{how}, {round}: {}", mount.log());
            let expected = round == "healed" && how != "full folder";
            assert_eq!(fetched(&server) <= 64, expected, "{how}, {round}: {:#?}", gets(&server));
        }
    }
}

/// The mount goes by a proof when the folder is damaged, emptied or taken away.
#[test]
fn a_proof_that_goes_away_under_a_reader() {
    let server = Server::start();
    let text = archive::noise(1, 6_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&text));
    let logs = [(Log::at(0), text.clone())];
    for how in ["middle", "end", "cut", "link", "full folder", "removed", "no folder"] {
        let cache = Cache::new();
        fill(&cache, &server, &logs);
        let mount = cache.mount(&server, &[]);
        let file = File::open(mount.path(Log::at(0).path())).unwrap();
        let mut buf = [0; 5000];
        file.read_exact_at(&mut buf, 100).unwrap();
        assert!(buf == text[100..5100]);
        match how {
            "removed" => cache.files().into_values().for_each(|path| fs::remove_file(path).unwrap()),
            "no folder" => fs::remove_dir_all(cache.path()).unwrap(),
            how => damage(&cache, how),
        }
        let mut random = Random::new(9);
        for _ in 0..40 {
            forget_pages(&file);
            let at = random.below(text.len() as u64 - 5000) as usize;
            file.read_exact_at(&mut buf, at as u64).unwrap();
            assert!(buf == text[at..at + 5000], "{how}: other bytes at {at}");
        }
        assert_eq!(file.metadata().unwrap().len(), text.len() as u64);
        assert!(fs::read(mount.path(Log::at(0).path())).unwrap() == text);
    }
}

/// A file system of a fixed size.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None, with a message, where tests may not mount.
    fn new(path: PathBuf, options: &str) -> Option<Tmpfs> {
        fs::create_dir(&path).unwrap();
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Tmpfs(path));
        }
        left_out("a file system of a fixed size", "mounting a tmpfs takes root");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        crate::common::watch::detach(&self.0);
    }
}

#[test]
fn a_full_disk_is_done_without() {
    let server = Server::start();
    let logs = two_logs(&server);
    // Full soon, and so full that not even a name fits.
    for options in ["size=1m,mode=700", "size=1m,nr_inodes=1,mode=700"] {
        let cache = Cache::new();
        let Some(_disk) = Tmpfs::new(cache.path(), options) else { return };
        for _ in 0..2 {
            let mount = cache.mount(&server, &[]);
            for (log, text) in &logs {
                assert!(fs::read(mount.path(log.path())).unwrap() == *text);
                assert_eq!(xattr(&mount.path(log.path()), "auth").unwrap(), "proven");
            }
            eventually("it is said once", || (mount.log().matches("No space left").count() == 1).then_some(()));
        }
        assert!(!cache.path().join("new").exists(), "the file that did not fit was left behind");
    }
}

/// Whatever was put there is read, and nothing is written.
#[test]
fn a_read_only_folder_serves() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    let Some(disk) = Tmpfs::new(cache.path(), "size=64m,mode=700") else { return };
    fill(&cache, &server, &logs);
    let remount = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap();
    assert!(remount.success());
    let mount = cache.mount(&server, &[]);
    server.forget();
    for (log, text) in &logs {
        assert!(fs::read(mount.path(log.path())).unwrap() == *text);
    }
    assert_eq!(fetched(&server), 2 * 64, "{:#?}", gets(&server));
}

/// Two mounts share a folder that is too small for what they read. The file system holds no byte more than the bound, so
/// that the kernel itself says when it is exceeded, for however short a time.
#[test]
fn two_mounts_keep_one_bound() {
    let server = Server::start();
    let logs: Vec<(Log, Vec<u8>)> = (0..4).map(|n| (Log::at(n * 100), archive::noise(n as u64, 12_000_000))).collect();
    for (log, text) in &logs {
        archive::put(&server, log, SealAs::V2, &archive::gzip(text));
    }
    let cache = Cache::new();
    let Some(_disk) = Tmpfs::new(cache.path(), "size=16m,mode=700") else { return };
    let mounts = [0, 1].map(|_| cache.mount(&server, &["--cache-size", "16MiB", "--memory", "32MiB"]));
    std::thread::scope(|scope| {
        for (m, mount) in mounts.iter().enumerate() {
            let logs = &logs;
            scope.spawn(move || {
                for n in 0..logs.len() {
                    let (log, text) = &logs[(n + m * 2) % logs.len()];
                    let file = File::open(mount.path(log.path())).unwrap();
                    let mut got = vec![0; text.len()];
                    for (n, piece) in got.chunks_mut(1 << 20).enumerate() {
                        file.read_exact_at(piece, (n as u64) << 20).unwrap();
                    }
                    assert!(got == *text, "other bytes");
                    forget_pages(&file);
                }
            });
        }
    });
    for mount in &mounts {
        assert!(!mount.log().contains("WARN"), "{}", mount.log());
    }
    drop(mounts);
    let used: u64 = cache.files().values().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert!((8 << 20..16 << 20).contains(&used), "{used} bytes are there after all that");
    assert!(cache.proofs() > 0);
}

/// Killed in the midst of a scan whose ciphertext is being written, several times: what is left is whole or a miss, and the
/// bound holds.
#[test]
fn a_kill_while_the_folder_is_written() {
    const BOUND: u64 = 16 << 20;
    let server = Server::start();
    let logs: Vec<(Log, Vec<u8>)> = (0..3).map(|n| (Log::at(n * 100), archive::noise(n as u64, 12_000_000))).collect();
    for (log, text) in &logs {
        archive::put(&server, log, SealAs::V2, &archive::gzip(text));
    }
    let cache = Cache::new();
    // All that there is, under whatever name: a file that was not finished counts too.
    let used = || -> u64 {
        let entries = fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap());
        entries.map(|e| e.metadata().map_or(0, |meta| meta.len())).sum()
    };
    let args = ["--cache-size", "16MiB"];
    for (log, _) in &logs {
        // The scan cannot end: its last run does not come.
        let key = log.key();
        server.set_hook(move |seen| {
            let late = seen.range.as_deref().is_some_and(|r| r.starts_with("bytes=8388608-"));
            (seen.key == key && late).then_some(Reply::Hang)
        });
        let mut mount = cache.mount(&server, &args);
        let before: BTreeMap<_, _> = cache.files();
        let path = mount.path(log.path());
        let reader = std::thread::spawn(move || fs::read(path));
        eventually("ciphertext of this scan is written", || {
            cache.files().keys().any(|name| !before.contains_key(name)).then_some(())
        });
        mount.signal(libc::SIGKILL);
        assert_eq!(mount.wait().code(), None);
        assert!(reader.join().unwrap().is_err(), "a scan that has not ended gave out text");
        assert!(used() <= BOUND, "{} bytes", used());
    }
    assert_eq!(cache.proofs(), 0);
    server.clear_hook();
    for _ in 0..2 {
        let mount = cache.mount(&server, &args);
        for (log, text) in &logs {
            assert!(fs::read(mount.path(log.path())).unwrap() == *text);
        }
        assert!(used() <= BOUND, "{} bytes", used());
        assert!(!mount.log().contains("WARN"), "{}", mount.log());
    }
    assert!(cache.proofs() > 0, "nothing was written after the kills");
}

/// What one mount has read another need not fetch, while both run.
#[test]
fn a_mount_beside_it_profits_at_once() {
    let server = Server::start();
    let logs = two_logs(&server);
    let cache = Cache::new();
    let [one, other] = [0, 1].map(|_| cache.mount(&server, &[]));
    for (n, (log, text)) in logs.iter().enumerate() {
        assert!(fs::read(one.path(log.path())).unwrap() == *text);
        one.written();
        assert!(cache.proofs() > n);
        server.forget();
        let path = other.path(log.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), text.len() as u64);
        assert_eq!(xattr(&path, "auth").unwrap(), "proven", "from one small request");
        assert!(fs::read(&path).unwrap() == *text);
        assert_eq!(fetched(&server), 64, "{:#?}", gets(&server));
    }
}

#[test]
fn a_smaller_bound_holds_from_the_start() {
    let server = Server::start();
    let logs: Vec<(Log, Vec<u8>)> = (0..3).map(|n| (Log::at(n * 100), archive::noise(n as u64, 12_000_000))).collect();
    for (log, text) in &logs {
        archive::put(&server, log, SealAs::V2, &archive::gzip(text));
    }
    let cache = Cache::new();
    fill(&cache, &server, &logs);
    let used = || cache.files().values().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>();
    assert!(used() > 20 << 20);
    let mount = cache.mount(&server, &["--cache-size", "16MiB"]);
    assert!((8 << 20..16 << 20).contains(&used()), "{}", used());
    // What was used last is still there.
    let (log, text) = &logs[2];
    server.forget();
    assert!(fs::read(mount.path(log.path())).unwrap() == *text);
    assert!(fetched(&server) <= 4 << 20, "{:#?}", gets(&server));
}

#[test]
fn what_is_not_a_private_folder_is_refused() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    make("open", 0o750);
    fs::write(make("mine", 0o700).join("thesis.tex"), "x").unwrap();
    symlink(make("real", 0o700), dir.path().join("link")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let marked = make("marked", 0o700);
    fs::create_dir(marked.join("logarchivefs-cache-1")).unwrap();
    let mut cases = vec![
        ("open", "chmod 700"),
        ("mine", "holds other files"),
        ("link", "symbolic link"),
        ("file", "is no folder"),
        ("file/below", "is no folder"),
        ("marked", "logarchivefs-cache-1"),
    ];
    if std::os::unix::fs::chown(make("theirs", 0o700), Some(12_345), None).is_ok() {
        cases.push(("theirs", "belongs to user 12345"));
    } else {
        left_out("a folder of another user", "giving one away takes root");
    }
    for (name, why) in cases {
        let (code, stderr) = Setup::s3(&server).args([Path::new("--cache-dir"), &dir.path().join(name)]).refused();
        assert!(code == 3 && stderr.contains(why) && stderr.contains("--cache-dir"), "{name}: {code}: {stderr}");
    }
    let setup = Setup::s3(&server);
    let inside = setup.path().join("cache");
    let (code, stderr) = setup.args([Path::new("--cache-dir"), &inside]).refused();
    assert!(code == 3 && stderr.contains("inside the mountpoint"), "{code}: {stderr}");
    let (code, stderr) = Setup::s3(&server).args(["--cache-size", "1GiB"]).refused();
    assert!(code == 2 && stderr.contains("--cache-dir"), "{code}: {stderr}");
}
