//! A bucket that is written by an enemy: names, streams and objects made to hurt. Nothing of it leaves the tree, reaches a
//! terminal, costs memory without bound, or hides anything.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc, FlushCompress};
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log, When};
use crate::common::client::client;
use crate::common::mounted::{Setup, errno};
use crate::common::s3::{Reply, Server};

/// For longer runs (scripts/fuzz).
fn from_env(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

/// Stands for bytes that are no UTF-8, which the server cannot hold.
const NO_UTF8: &str = "NOUTF8";

#[test]
fn hostile_names_stay_outside_and_are_named() {
    let server = Server::start();
    let sum = archive::key_sum(0);
    let good = [Log::at(0), Log { service: 13, ..Log::at(0) }, Log { stack: "prod -> etc".into(), ..Log::at(5) }];
    for log in &good {
        archive::put(&server, log, SealAs::V2, &archive::gzip(b"x\n"));
    }
    // As a container, so in one listing.
    let components = [
        "..",
        ".",
        "",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "\u{1b}]0;title\u{7}",
        "a\rb",
        "\u{7f}",
        "\u{9b}31m",
        "\u{202e}gpj",
        "\u{2028}",
        "\u{200f}",
        NO_UTF8,
        &"l".repeat(256),
        "a/../b",
        "/",
        "..%2f",
        "-rf",
    ];
    // Two are harmless, however they look: percent signs and dashes are characters like others.
    let hostile = components.len() - 2;
    // With one key below that is not even a file's.
    let file = |c: &str| format!("prod/shareable/v3/{sum}/apps-321/service-1/{c}-json.log.unknown.unknown.archived.gz");
    components.iter().for_each(|c| drop(server.put(&file(c), &[], "x")));
    for key in [
        "prod".to_owned(), // a file and a folder of one name
        "..".into(),
        "../../etc/passwd".into(),
        "/".into(),
        "//".into(),
        "\u{1b}[31m/x".into(),
        format!("{NO_UTF8}/x"),
        "k".repeat(1024),
        "\u{0}".into(),
        format!("prod/shareable/v3/{sum}/apps-321/../{}", "x/".repeat(300)),
        format!("prod/shareable/v3/{sum}/apps-99999999999999999999/x"),
        format!("prod/shareable/v3/{sum}/\u{202e}-1/x"),
        format!("prod/shareable/v3/{}\n/apps-1/x", &sum[1..]),
        "prod/shareable/v3/../x".into(),
        "prod/shareable/../x".into(),
    ] {
        server.put(&key, &[], "x");
    }
    server.set_hook(|seen| {
        seen.is_list().then(|| {
            Reply::Edit(Arc::new(|head, body| {
                *body = String::from_utf8(body.clone()).unwrap().replace(NO_UTF8, "%FF%FE").into();
                head.headers.insert("content-length", body.len().into());
            }))
        })
    });
    let mount = Setup::s3(&server).mount();
    let shown = mount.sh("find . -print0");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let names: Vec<PathBuf> = shown.stdout.split(|b| *b == 0).map(|n| std::ffi::OsStr::from_bytes(n).into()).collect();
    for name in &names {
        let text = name.to_str().expect("UTF-8");
        assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text:?}");
        assert!(text.split('/').all(|part| part != ".." && part.len() <= 255), "{text:?}");
    }
    let files: Vec<_> = names.iter().filter(|n| n.to_str().unwrap().ends_with(".json")).collect();
    assert_eq!(files.len(), good.len() + 2, "{files:?}");
    // One name for two objects: both are there, told apart.
    assert_eq!(files.iter().filter(|n| n.to_str().unwrap().contains('~')).count(), 2, "{files:?}");
    assert!(fs::symlink_metadata(mount.path("prod -> etc")).unwrap().is_dir());
    assert_eq!(fs::read(mount.path(good[2].path())).unwrap(), b"x\n");

    let log = mount.log();
    assert!(log.contains(&format!("{} keys", hostile + 1)), "all are counted:\n{log}");
    for named in ["../ (", "\\x1b[31m", "\\x00", "prod (", "\\xe2\\x80\\xae-1/ (", "apps-99999999999999999999/ ("] {
        assert!(log.contains(named), "{named} is not in the log:\n{log}");
    }
    let harmless = |c: char| c == '\n' || !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c);
    assert!(log.chars().all(harmless), "{log:?}");
    assert!(log.lines().count() < 10, "{log}");
}

/// However many keys are none of ours: little memory, and a line or two.
#[test]
fn many_foreign_keys_cost_little() {
    let server = Server::start();
    let many = from_env("LOGARCHIVEFS_TEST_KEYS", 200_000);
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(b"x\n"));
    let resource = log.key().rsplit_once('/').unwrap().0.to_owned();
    for n in 0..many / 2 {
        server.put(&format!("junk-{n:08}"), &[], "");
        server.put(&format!("{resource}/junk-{n:08}-{}", "j".repeat(100)), &[], "");
    }
    let mount = Setup::s3(&server).mount();
    let before = mount.peak();
    assert_eq!(mount.out("find . -type f"), format!("./{}", log.path()));
    let more = mount.peak() - before;
    assert!(more < 16 << 20, "{} MB for {many} foreign keys", more >> 20);
    let told = mount.log();
    assert!(told.contains(&format!("{} keys", many / 2)) && told.lines().count() <= 5, "{told}");
}

/// `mebibytes` of zeros; a thousandth of that as gzip.
fn bomb(mebibytes: u64) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    // One mebibyte that can be repeated: it ends on a byte and refers to nothing before it.
    let mut block = Vec::with_capacity(1 << 16);
    let mut deflate = flate2::Compress::new(Compression::best(), false);
    deflate.compress_vec(&zeros, &mut block, FlushCompress::Full).unwrap();
    let (mut crc, mut one) = (Crc::new(), Crc::new());
    one.update(&zeros);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for _ in 0..mebibytes {
        gzip.extend_from_slice(&block);
        crc.combine(&one);
    }
    gzip.extend_from_slice(&DeflateEncoder::new(Vec::new(), Compression::fast()).finish().unwrap());
    gzip.extend_from_slice(&crc.sum().to_le_bytes());
    gzip.extend_from_slice(&((mebibytes << 20) as u32).to_le_bytes());
    gzip
}

#[test]
fn a_bomb_is_read_in_bounded_memory() {
    let server = Server::start();
    let mebibytes = from_env("LOGARCHIVEFS_TEST_BOMB", 1024);
    let (log, size) = (Log::at(0), mebibytes << 20);
    let gzip = bomb(mebibytes);
    assert!(size / gzip.len() as u64 > 900, "{} bytes", gzip.len());
    archive::put(&server, &log, SealAs::V2, &gzip);
    let mount = Setup::s3(&server).args(["--memory", "64MiB"]).mount();
    // A large one takes its time; the watchdog's is long enough.
    let out = |command: String| {
        let output = Command::new("bash").arg("-c").arg(&command).current_dir(mount.root()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let path = log.path();
    assert_eq!(out(format!("wc -c <{path}")), size.to_string());
    assert_eq!(out(format!("tail -c 1000000 {path} | tr -d '\\0' | wc -c")), "0");
    assert_eq!(out(format!("dd if={path} bs=1M skip={} count=3 status=none | wc -c", mebibytes / 2)), "3145728");
    assert_eq!(out(format!("cat {path} | wc -c")), size.to_string());
    assert!(mount.peak() < 164 << 20, "{} MB for a bomb of {mebibytes} MiB", mount.peak() >> 20);
}

/// `--max-ratio`: a log that is within it is read as always; of one that is not, no reader and no command is given the end.
#[test]
fn bombs_may_be_refused() {
    let server = Server::start();
    // A large one, and one that a single request brings.
    let texts = [("bomb", bomb(40)), ("small bomb", bomb(1)), ("log", archive::gzip(&archive::text(1, 40_000)))];
    let logs: Vec<Log> = (0..3).map(Log::at).collect();
    texts.iter().zip(&logs).for_each(|((_, gzip), log)| drop(archive::put(&server, log, SealAs::V2, gzip)));
    let cache = tempfile::Builder::new().prefix("lafs-cache-").tempdir().unwrap();
    let cache = cache.path().join("cache");
    let setup = || Setup::s3(&server).args([Path::new("--cache-dir"), &cache]);
    let whole = setup().mount();
    for log in &logs {
        assert!(fs::read(whole.path(log.path())).unwrap().len() >= 1 << 20, "without the option");
    }
    drop(whole);
    // Also where a proof in the folder says how long it is.
    for mount in [setup(), Setup::s3(&server), Setup::s3(&server).args(["--verify", "stream"])] {
        let mount = mount.args(["--max-ratio", "100"]).mount();
        for (log, (name, gzip)) in logs.iter().zip(&texts).take(2) {
            assert_eq!(errno(fs::read(mount.path(log.path()))), libc::EFBIG, "{name}");
            let told = mount.log();
            let why = format!("{}: more than 100 times the {} bytes of its gzip stream", log.key(), gzip.len());
            assert!(told.contains(&why) && told.contains("--max-ratio"), "{told}");
        }
        assert!(fs::read(mount.path(logs[2].path())).unwrap() == archive::text(1, 40_000));
    }

    let keys = Setup::s3(&server);
    let to = tempfile::tempdir().unwrap();
    let into = ["--to", to.path().to_str().unwrap()];
    for (command, code, more) in [("cat", 1, &[][..]), ("verify", 5, &[]), ("download", 1, &into)] {
        let mut command = client(&server, command);
        command.args(["--max-ratio", "100"]).args(more).arg("--key-file").arg(keys.key_file());
        let said = command.output().unwrap();
        let all = [said.stdout, said.stderr].concat();
        let all = String::from_utf8_lossy(&all);
        assert_eq!(said.status.code(), Some(code), "{command:?}: {}", &all[all.len().saturating_sub(500)..]);
        assert_eq!(all.matches("more than 100 times").count(), 2, "{command:?}");
    }
    let files = Command::new("find").arg(to.path()).args(["-name", "*.json"]).output().unwrap().stdout;
    let files = String::from_utf8(files).unwrap();
    assert!(files.lines().count() == 1 && files.contains(logs[2].path().rsplit('/').next().unwrap()), "{files}");
}

/// Members without text, and a header as long as headers can be.
#[test]
fn odd_gzip_streams_are_read_whole() {
    let server = Server::start();
    let text = archive::text(1, 100);
    let extra = {
        let mut encoder = flate2::GzBuilder::new().extra(vec![7; 65_535]).write(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap()
    };
    let empty = archive::gzip(b"").repeat(100_000);
    let streams = [extra, [&empty[..], &archive::gzip(&text), &empty].concat(), empty.clone()];
    let want = [&text[..], &text, b""];
    for (n, gzip) in streams.iter().enumerate() {
        archive::put(&server, &Log::at(n as i64), SealAs::V2, gzip);
    }
    let mount = Setup::s3(&server).mount();
    for (n, want) in want.iter().enumerate() {
        assert!(fs::read(mount.path(Log::at(n as i64).path())).unwrap() == *want, "{n}");
    }
}

/// Who can write to the bucket can swap whole objects, which nothing in them tells; but not their parts.
#[test]
fn swapped_objects() {
    let server = Server::start();
    let sealed = |seed: u64, text: &[u8]| archive::sealed(SealAs::V2, 0, &archive::gzip(text), &mut Random::new(seed));
    let (one, other) = (sealed(1, b"one\n"), sealed(2, b"two\n"));
    let long = std::collections::BTreeMap::from([("x-amz-key-v2".to_owned(), "A".repeat(200_000))]);
    let cases = [
        (&one.0, &one.1, Ok(b"one\n".to_vec())),
        (&one.0, &other.1, Err(libc::EBADMSG)),
        (&other.0, &one.1, Err(libc::EBADMSG)),
        // As SECURITY says: authentic, wherever it lies.
        (&other.0, &other.1, Ok(b"two\n".to_vec())),
        (&long, &one.1, Err(libc::EBADMSG)),
    ];
    for (n, (metadata, body, _)) in cases.iter().enumerate() {
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        server.put(&Log { when: When::Uploaded(Some(n as i64)), ..Log::at(0) }.key(), &metadata, (*body).clone());
    }
    let mount = Setup::s3(&server).mount();
    for (n, (.., want)) in cases.iter().enumerate() {
        let path = mount.path(Log { when: When::Uploaded(Some(n as i64)), ..Log::at(0) }.path());
        let got = fs::read(&path).map_err(|e| errno::<()>(Err(e)));
        assert_eq!(got, *want, "case {n}");
        if got.is_err() {
            assert_eq!(fs::metadata(&path).unwrap().size(), 0);
        }
    }
}
