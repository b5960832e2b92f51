//! What the mount asks of the store: few requests, each pinned to one version of one object.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, forget_pages, xattr};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::eventually;

fn gets(server: &Server) -> Vec<Seen> {
    server.requests().into_iter().filter(Seen::is_get).collect()
}

fn pinned(r: &Seen) -> bool {
    r.if_match.is_some() || r.query.contains("versionId=")
}

#[test]
fn a_small_file_costs_one_get() {
    let server = Server::start();
    let text = archive::text(1, 1000);
    for n in 0..40 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip(&text));
    }
    let mount = Setup::s3(&server).mount();
    // Out of order, so that nothing is fetched ahead.
    for n in [3, 30, 17] {
        let log = Log::at(n);
        server.forget();
        assert_eq!(fs::metadata(mount.path(log.path())).unwrap().len(), text.len() as u64);
        for _ in 0..2 {
            assert_eq!(fs::read(mount.path(log.path())).unwrap(), text);
        }
        assert_eq!(xattr(&mount.path(log.path()), "auth").unwrap(), "proven");
        let gets = gets(&server);
        assert_eq!(gets.len(), 1, "{gets:#?}");
        assert!(gets[0].if_match.is_some() && gets[0].key == log.key(), "{gets:#?}");
    }
}

/// In order much is fetched ahead, but nothing twice.
#[test]
fn a_walk_asks_for_each_file_once() {
    let server = Server::start();
    for n in 0..100 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip(&archive::text(n as u64, 30)));
    }
    let mount = Setup::s3(&server).mount();
    mount.out("grep -rc nothing . | sort && ls -lR . && find . -type f -exec cat {} + | wc -c");
    let mut keys: Vec<String> = gets(&server).into_iter().map(|r| r.key).collect();
    assert_eq!(keys.len(), 100);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 100, "some were asked for twice");
}

#[test]
fn every_request_of_a_large_file_is_pinned() {
    for versioned in [true, false] {
        let server = Server::start();
        if !versioned {
            server.set_unversioned();
        }
        let text = archive::noise(3, 9_000_000);
        let (etag, version) = archive::put(&server, &Log::at(0), SealAs::V3, &archive::gzip(&text));
        let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
        server.forget();
        assert!(fs::read(mount.path(Log::at(0).path())).unwrap() == text);
        let gets = gets(&server);
        assert!(gets.len() >= 4, "one for the head, one for each two megabytes: {gets:#?}");
        for (n, get) in gets.iter().enumerate() {
            assert!(pinned(get), "request {n} is not pinned: {get:?}");
            let same = get.if_match.as_deref().is_none_or(|e| e.trim_matches('"') == etag);
            assert!(same, "request {n} is pinned to something else: {get:?}");
            if versioned && n > 0 {
                assert!(get.query.contains(&format!("versionId={version}")), "{get:?}");
            }
        }
    }
}

#[test]
fn names_cost_listings_only() {
    let server = Server::start();
    for n in 0..30 {
        archive::put(&server, &Log::at(n * 5000), SealAs::V2, &archive::gzip(b"x\n"));
    }
    let mount = Setup::s3(&server).mount();
    server.forget();
    assert_eq!(mount.out("find . -name '*.json' | wc -l"), mount.out("find . -name '2022*Z.json' | wc -l"));
    assert_eq!(mount.out("find . -type f | wc -l"), "30");
    let seen = server.requests();
    assert!(seen.iter().all(Seen::is_list), "{seen:#?}");
    // One level at a time, and once: stack, shareable, schemas, sums, resource.
    assert!(!seen.is_empty() && seen.len() <= 12, "{} listings: {seen:#?}", seen.len());
    server.forget();
    mount.out("ls -R . | wc -l");
    assert_eq!(server.requests().len(), 0, "listings are kept");
}

#[test]
fn a_replaced_object_is_seen_after_sighup() {
    let server = Server::start();
    let (old, new) = (archive::text(1, 100), archive::text(2, 150));
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&old));
    let mount = Setup::s3(&server).mount();
    let path = mount.path(Log::at(0).path());
    assert_eq!(fs::read(&path).unwrap(), old);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&new));
    archive::put(&server, &Log::at(7), SealAs::V2, &archive::gzip(&new));
    mount.signal(libc::SIGHUP);
    eventually("the new version is there", || match fs::read(&path) {
        Ok(text) if text == old => None,
        Ok(text) => {
            assert!(text == new, "a mixture");
            Some(())
        }
        Err(e) => {
            assert_eq!(e.raw_os_error(), Some(libc::ESTALE), "{e}");
            None
        }
    });
    eventually("the new object is there", || fs::read(mount.path(Log::at(7).path())).ok().filter(|t| *t == new));
    let folder = path.parent().unwrap();
    eventually("both are listed", || (fs::read_dir(folder).unwrap().count() == 2).then_some(()));
}

/// Waits for the end of the scan by its last byte. Not by `fstat`: that would fill the kernel's page cache meanwhile.
fn scanned(file: &File, text: &[u8]) {
    let mut last = [0];
    file.read_exact_at(&mut last, text.len() as u64 - 1).unwrap();
    assert_eq!(last[0], text[text.len() - 1]);
}

/// Reads a large file in pieces through one handle, and replaces the object after the first.
fn replaced_under_a_handle(versioned: bool) {
    let server = Server::start();
    if !versioned {
        server.set_unversioned();
    }
    let (old, new) = (archive::noise(1, 40_000_000), archive::noise(2, 40_000_000));
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip_level(&old, 1));
    // Too little memory for the whole file: some of it is asked for again.
    let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
    let path = mount.path(Log::at(0).path());
    let file = File::open(&path).unwrap();
    scanned(&file, &old);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip_level(&new, 1));
    mount.signal(libc::SIGHUP);
    server.forget();
    let mut buf = vec![0; 1 << 20];
    let mut stale = 0;
    for piece in (0..old.len() >> 20).rev() {
        let offset = piece << 20;
        forget_pages(&file);
        match file.read_at(&mut buf, offset as u64) {
            Ok(got) => assert!(buf[..got] == old[offset..offset + got], "another text at {offset}"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::ESTALE), "{e}");
                stale += 1;
            }
        }
    }
    assert!(!gets(&server).is_empty(), "nothing was asked for again: the test shows nothing");
    assert_eq!(stale > 0, !versioned, "{stale} pieces were stale");
    drop(file);
    eventually("the new version is there", || {
        let text = fs::read(&path).ok()?;
        assert!(text == old || text == new, "a mixture");
        (text == new).then_some(())
    });
}

#[test]
fn a_handle_keeps_its_version() {
    replaced_under_a_handle(true);
}

#[test]
fn a_handle_is_stale_without_versions() {
    replaced_under_a_handle(false);
}

fn one(server: &Server, args: &[&str]) -> Mount {
    archive::put(server, &Log::at(0), SealAs::V2, &archive::gzip(&archive::text(1, 10)));
    archive::put(server, &Log::at(9), SealAs::V2, &archive::gzip(&archive::text(2, 20)));
    let mount = Setup::s3(server).args(args).mount();
    assert_eq!(mount.out("find . -type f | wc -l"), "2");
    mount
}

#[test]
fn deleted_after_it_was_listed() {
    for versioned in [true, false] {
        let server = Server::start();
        if !versioned {
            server.set_unversioned();
        }
        let mount = one(&server, &[]);
        server.delete(&Log::at(0).key());
        let path = mount.path(Log::at(0).path());
        assert_eq!(errno(File::open(&path)), libc::ENOENT);
        assert_eq!(errno(fs::metadata(&path)), libc::ENOENT);
        // The listing is fetched anew by itself.
        eventually("the name is gone", || (mount.out("find . -type f | wc -l") == "1").then_some(()));
        assert!(fs::read(mount.path(Log::at(9).path())).is_ok());
    }
}

/// One object of a folder goes, or is replaced, while nothing can be listed: the others are there as before, the old text is
/// never shown again, and what there is now is seen as soon as it can be listed.
#[test]
fn what_is_gone_hides_nothing_else() {
    for (replaced, code) in [(false, 403), (true, 403), (false, 503), (true, 503)] {
        let server = Server::start();
        server.set_unversioned();
        let logs: Vec<Log> = (0..6).map(|n| Log::at(n * 600)).collect();
        let text = |n: usize| archive::text(n as u64, 10 + n as u64);
        for (n, log) in logs.iter().enumerate() {
            archive::put(&server, log, SealAs::V2, &archive::gzip(&text(n)));
        }
        let mount = Setup::s3(&server).args(["--request-deadline", "6s"]).mount();
        let folder = mount.path(logs[0].path()).parent().unwrap().to_owned();
        let listed = || -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names.into_iter().map(|name| name.into_string().unwrap()).collect()
        };
        let all = listed();
        assert_eq!(all.len(), 6);
        server.set_hook(move |r| r.is_list().then(|| Reply::error(code, "AccessDenied")));
        let new = archive::text(99, 30);
        match replaced {
            true => drop(archive::put(&server, &logs[2], SealAs::V2, &archive::gzip(&new))),
            false => server.delete(&logs[2].key()),
        }
        let gone = mount.path(logs[2].path());
        let want = if replaced { libc::ESTALE } else { libc::ENOENT };
        for _ in 0..3 {
            assert_eq!(errno(fs::read(&gone)), want, "{replaced} {code}");
        }
        let others: Vec<String> = all.iter().filter(|name| !gone.ends_with(name)).cloned().collect();
        for _ in 0..2 {
            assert_eq!(listed(), others, "{replaced} {code}");
            for n in [0, 1, 3, 4, 5] {
                assert!(fs::read(mount.path(logs[n].path())).unwrap() == text(n));
            }
        }
        if !replaced {
            archive::put(&server, &logs[2], SealAs::V2, &archive::gzip(&new));
        }
        server.clear_hook();
        eventually("the new object is there", || match fs::read(&gone) {
            Ok(text) => {
                assert!(text == new, "another text");
                Some(())
            }
            Err(e) => {
                assert!([libc::ENOENT, libc::ESTALE].contains(&e.raw_os_error().unwrap()), "{e}");
                None
            }
        });
        assert_eq!(listed(), all);
    }
}

/// However many objects are found gone, one listing is on its way, and nobody waits for it.
#[test]
fn many_that_are_gone_cost_one_listing() {
    let server = Server::start();
    let logs: Vec<Log> = (0..40).map(|n| Log::at(n * 600)).collect();
    for (n, log) in logs.iter().enumerate() {
        archive::put(&server, log, SealAs::V2, &archive::gzip(&archive::text(n as u64, 3)));
    }
    let mount = Setup::s3(&server).mount();
    assert_eq!(mount.out("find . -type f | wc -l"), "40");
    server.set_hook(|r| r.is_list().then_some(Reply::Hang));
    server.forget();
    logs.iter().take(20).for_each(|log| server.delete(&log.key()));
    for log in &logs[..20] {
        assert_eq!(errno(File::open(mount.path(log.path()))), libc::ENOENT);
    }
    for (n, log) in logs.iter().enumerate().skip(20) {
        assert!(fs::read(mount.path(log.path())).unwrap() == archive::text(n as u64, 3));
    }
    assert_eq!(mount.out("find . -type f | wc -l"), "20");
    let lists = server.requests().iter().filter(|r| r.is_list()).count();
    assert!(
        (1..=2).contains(&lists),
        "{lists}: one is on its way until its deadline, with a second attempt if all this takes long"
    );
}

#[test]
fn deleted_under_a_handle() {
    let server = Server::start();
    server.set_unversioned();
    let text = archive::noise(1, 40_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip_level(&text, 1));
    let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
    let file = File::open(mount.path(Log::at(0).path())).unwrap();
    scanned(&file, &text);
    server.delete(&Log::at(0).key());
    let mut buf = vec![0; 1 << 20];
    let mut read = |n: u64| {
        forget_pages(&file);
        errno(file.read_at(&mut buf, n << 20))
    };
    let failed = (0..38).map(&mut read).find(|e| *e != 0);
    assert_eq!(failed, Some(libc::ESTALE));
}

/// A hook that fails every GET of an object.
fn failing(status: u16, code: &'static str) -> (Server, Mount) {
    let server = Server::start();
    let mount = one(&server, &["--request-deadline", "6s"]);
    server.set_hook(move |r| r.is_get().then(|| Reply::error(status, code)));
    (server, mount)
}

#[test]
fn failures_of_the_store_are_errors_and_heal() {
    for (status, code, want) in [
        (403, "AccessDenied", libc::EACCES),
        (403, "InvalidObjectState", libc::EREMOTE),
        (503, "SlowDown", libc::EIO),
        (500, "InternalError", libc::EIO),
    ] {
        let (server, mount) = failing(status, code);
        let path = mount.path(Log::at(0).path());
        assert_eq!(errno(File::open(&path)), want, "{code}");
        let log = mount.log();
        assert!(log.contains(&Log::at(0).key()) && log.contains(code), "{log}");
        assert_eq!(mount.out("find . -name '*.json' | wc -l"), "2", "the listing is not disturbed");
        server.clear_hook();
        assert_eq!(fs::read(&path).unwrap(), archive::text(1, 10), "{code}");
        assert_eq!(fs::metadata(&path).unwrap().len(), archive::text(1, 10).len() as u64);
    }
}

#[test]
fn a_body_that_breaks_off_is_resumed() {
    let server = Server::start();
    let text = archive::noise(4, 6_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&text));
    let mount = Setup::s3(&server).mount();
    let count = std::sync::atomic::AtomicU32::new(0);
    server.set_hook(move |r| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (r.is_get() && n.is_multiple_of(2)).then_some(Reply::Cut(300_001))
    });
    let mut got = Vec::new();
    File::open(mount.path(Log::at(0).path())).unwrap().read_to_end(&mut got).unwrap();
    assert!(got == text);
}

/// A listing that fails is an error, never a short folder.
#[test]
fn a_listing_that_fails_is_an_error() {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x"));
    let mount = Setup::s3(&server).args(["--request-deadline", "6s"]).mount();
    server.set_hook(|r| r.is_list().then(|| Reply::error(503, "SlowDown")));
    assert_eq!(errno(fs::read_dir(mount.root())), libc::EIO);
    server.clear_hook();
    assert_eq!(mount.out("ls"), "prod");
}
