//! `mount --at`: the archive as it was, for as long as the mount is there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::cache::Cache;
use crate::common::mounted::{Mount, Setup, errno, forget_pages, xattr};
use crate::common::s3::Server;
use crate::common::watch::eventually;

fn at(server: &Server, time: &str) -> Mount {
    Setup::s3(server).args(["--at", time]).mount()
}

fn put(server: &Server, log: &Log, text: &[u8]) -> (String, String) {
    archive::put(server, log, SealAs::V2, &archive::gzip(text))
}

#[test]
fn what_was_replaced_and_deleted_is_as_it_was() {
    let server = Server::start();
    let (log, other) = (Log::at(0), Log::at(600));
    let (first, second) = (archive::text(1, 100), archive::text(2, 150));
    put(&server, &other, &first);
    let empty = server.time();
    let (_, id) = put(&server, &log, &first);
    let then = server.time();
    put(&server, &log, &second);
    let replaced = server.time();
    server.delete(&log.key());
    let deleted = server.time();
    // A page has an entry or two, so that one key's versions are on several.
    for page in [1, 2, 1000] {
        server.set_page(page);
        for (time, text) in [(&empty, None), (&then, Some(&first)), (&replaced, Some(&second)), (&deleted, None)] {
            let mount = at(&server, time);
            let path = mount.path(log.path());
            let read = fs::read(&path);
            match text {
                Some(text) => assert!(read.unwrap() == *text, "{time} in pages of {page}"),
                None => assert_eq!(errno(read), libc::ENOENT, "{time} in pages of {page}"),
            }
            let files = if text.is_some() { "2" } else { "1" };
            assert_eq!(mount.out("find . -type f | wc -l"), files);
            assert_eq!(fs::read(mount.path(other.path())).unwrap(), first);
            let status = fs::read_to_string(mount.path(".logarchivefs/status.json")).unwrap();
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            assert_eq!(status["options"]["at"], **time);
            assert!(mount.log().contains(&format!("the archive is shown as it was at {time}")), "{}", mount.log());
        }
    }
    let mount = at(&server, &then);
    assert_eq!(xattr(&mount.path(log.path()), "version_id").unwrap(), id);
    assert!(!server.requests().iter().any(|seen| seen.is_list()), "the present was listed");
    // It stays so.
    put(&server, &log, &second);
    mount.signal(libc::SIGHUP);
    server.forget();
    eventually("the listings were fetched again", || {
        (server.requests().iter().filter(|seen| seen.query.contains("prefix=prod")).count() >= 5).then_some(())
    });
    assert_eq!(fs::read(mount.path(log.path())).unwrap(), first);
    assert!(mount.sh("mount | grep -c lafs-test").status.success());
}

/// A listing of several pages, with many more versions than there are names.
#[test]
fn a_folder_longer_than_a_page() {
    let server = Server::start();
    let logs: Vec<Log> = (0..1500).map(|n| Log::at(n * 40)).collect();
    let mut half = String::new();
    let (old, new) = (archive::gzip(b"old\n"), archive::gzip(b"new\n"));
    for (n, log) in logs.iter().enumerate() {
        archive::put(&server, log, SealAs::V2, &old);
        if n + 1 == 500 {
            half = server.time();
        }
    }
    let then = server.time();
    for (n, log) in logs.iter().enumerate() {
        match n % 3 {
            0 => server.delete(&log.key()),
            _ => drop(archive::put(&server, log, SealAs::V2, &new)),
        }
    }
    let mount = at(&server, &then);
    assert_eq!(mount.out("find . -type f | wc -l"), "1500");
    assert_eq!(mount.out("find . -type f -exec cat {} + | sort | uniq -c | xargs"), "1500 old");
    let mount = at(&server, &server.time());
    assert_eq!(mount.out("find . -type f -exec cat {} + | sort | uniq -c | xargs"), "1000 new");

    // Two thirds of the listing are of a later time, in pages that show nothing: each is asked for once, and not once by each of the
    // ranges that are listed at once.
    server.set_page(20);
    let mount = at(&server, &half);
    server.forget();
    assert_eq!(mount.out("find . -type f | wc -l"), "500");
    let asked = server.requests().len();
    assert!(asked <= 3000 / 20 * 13 / 10 + 30, "{asked} requests");
}

#[test]
fn a_version_that_is_deleted_meanwhile() {
    let server = Server::start();
    let (log, large) = (Log::at(0), Log::at(600));
    let noise = archive::gzip_level(&archive::noise(2, 40_000_000), 1);
    let (_, id) = put(&server, &log, b"x\n");
    let (_, held) = archive::put(&server, &large, SealAs::V2, &noise);
    put(&server, &Log::at(1200), b"y\n");
    let time = server.time();
    for log in [&log, &large] {
        server.delete(&log.key());
    }
    let mount = Setup::s3(&server).args(["--at", &time, "--memory", "32MiB"]).mount();
    assert_eq!(mount.out("find . -type f | wc -l"), "3");
    let file = File::open(mount.path(large.path())).unwrap();
    // By its last byte, the whole object has been verified.
    file.read_exact_at(&mut [0], 39_999_999).unwrap();
    server.delete_version(&log.key(), &id);
    server.delete_version(&large.key(), &held);
    assert_eq!(errno(File::open(mount.path(log.path()))), libc::ENOENT);
    let mut buf = vec![0; 1 << 20];
    let failed = (0..38).rev().find_map(|n| {
        forget_pages(&file);
        file.read_at(&mut buf, n << 20).err()
    });
    assert_eq!(failed.expect("all of it was in memory").raw_os_error(), Some(libc::ESTALE));
    eventually("the names are gone", || (mount.out("find . -type f | wc -l") == "1").then_some(()));
}

/// One cache folder for the present and for the past: each shows its own, and finds what it has read before.
#[test]
fn a_cache_folder_never_mixes_versions() {
    let server = Server::start();
    let log = Log::at(0);
    // Of one length, so that nothing but the version tells them apart.
    let texts: Vec<Vec<u8>> = (0..3).map(|n| archive::noise(n, 3_000_000)).collect();
    let mut times = Vec::new();
    for text in &texts {
        put(&server, &log, text);
        times.push(server.time());
    }
    let cache = Cache::new();
    for again in [false, true] {
        for (time, text) in times.iter().map(Some).chain([None]).zip(texts.iter().chain([&texts[2]])) {
            let mount = match time {
                Some(time) => cache.mount(&server, &["--at", time]),
                None => cache.mount(&server, &[]),
            };
            server.forget();
            assert!(fs::read(mount.path(log.path())).unwrap() == *text, "{time:?}, again: {again}");
            let gets = server.requests().iter().filter(|seen| seen.is_get()).count();
            // The last of the past is the present.
            assert_eq!(gets == 1, again || time.is_none(), "{time:?}, again: {again}: {gets} requests");
        }
    }
}
