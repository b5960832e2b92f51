//! What S3 and the network do to objects and listings that a mount reads: its log.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use logarchivefs::envelope::SealAs;

use super::desk::Desk;
use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, forget_pages};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::eventually;

fn edit(change: impl Fn(&mut Parts, &mut Vec<u8>) + Send + Sync + 'static) -> Reply {
    Reply::Edit(Arc::new(change))
}

fn header(name: &'static str, value: &'static str) -> Reply {
    edit(move |head, _| drop(head.headers.insert(name, HeaderValue::from_static(value))))
}

fn without(name: &'static str) -> Reply {
    edit(move |head, _| drop(head.headers.remove(name)))
}

type Fault = fn() -> Reply;

/// Of small objects, which come in one request.
const SMALL: [Fault; 21] = [
    || Reply::error(503, "SlowDown"),
    || Reply::error(403, "AccessDenied"),
    || Reply::error(403, "InvalidAccessKeyId"),
    || Reply::error(403, "InvalidObjectState"),
    || Reply::error(404, "NoSuchKey"),
    || Reply::error(412, "PreconditionFailed"),
    || Reply::error(416, "InvalidRange"),
    || Reply::Canned { status: 200, headers: vec![], body: b"<html>sign in</html>".to_vec() },
    || Reply::Canned { status: 405, headers: vec![], body: vec![] },
    || Reply::Hang,
    || Reply::Cut(0),
    || Reply::Reset,
    || without("etag"),
    || Reply::Endless { status: 200, first: Vec::new(), again: vec![b'x'; 1000] },
    || header("etag", "\"another\""),
    || header("content-range", "bytes 0-9/*"),
    || header("content-range", "bytes 0-9/5000"),
    || {
        edit(|head, body| {
            body.pop();
            head.headers.insert("content-length", HeaderValue::from(body.len()));
        })
    },
    || {
        edit(|head, body| {
            body.push(0);
            header_len(head, body.len(), body.len());
        })
    },
    || {
        edit(|head, _| {
            // The SDK takes no such answer.
            head.headers.append("x-amz-meta-x-amz-iv", HeaderValue::from_static("AAAA"));
        })
    },
    || edit(|head, body| header_len(head, body.len(), 70_000_000)),
];

fn header_len(head: &mut Parts, len: usize, total: usize) {
    let range = format!("bytes 0-{}/{total}", len - 1);
    head.headers.insert("content-range", HeaderValue::from_str(&range).unwrap());
    head.headers.insert("content-length", HeaderValue::from(len));
}

/// Of the ranges of large ones.
const LARGE: [Fault; 7] = [
    || Reply::Cut(1000),
    || without("content-range"),
    || header("content-range", "bytes 0-9/10"),
    || Reply::Canned { status: 200, headers: vec![("etag", "e".into())], body: vec![0; 3 << 20] },
    || Reply::error(416, "InvalidRange"),
    || Reply::error(404, "NoSuchVersion"),
    || header("x-amz-version-id", "another"),
];

/// Of what is left of a body that broke off.
const REST: [Fault; 2] = [
    || without("x-amz-version-id"),
    || {
        edit(|head, _| {
            let range = head.headers["content-range"].to_str().unwrap().rsplit_once('/').unwrap().0.to_owned();
            head.headers.insert("content-range", HeaderValue::from_str(&format!("{range}/9999999")).unwrap());
        })
    },
];

fn log(n: usize, large: bool) -> Log {
    Log { service: 20 + u64::from(large), ..Log::at((n + 1000 * usize::from(large)) as i64) }
}

fn is_run(seen: &Seen) -> bool {
    seen.range.as_deref().is_some_and(|range| !range.starts_with("bytes=-"))
}

fn read_all(mount: &Mount, logs: &[Log]) {
    std::thread::scope(|scope| {
        for log in logs {
            // With an error, most of them.
            scope.spawn(|| fs::read(mount.path(log.path())).ok());
        }
    });
}

pub const SAID: [fn() -> Vec<String>; 7] = [faults, rest, slow, attempts, changed, versions, listings];

fn faults() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    let gzips = [archive::gzip(b"x\n"), archive::gzip_level(&archive::noise(1, 3_000_000), 1)];
    let mut logs = Vec::new();
    for (large, faults) in [(false, &SMALL[..]), (true, &LARGE)] {
        for (n, fault) in faults.iter().enumerate() {
            archive::put(&server, &log(n, large), SealAs::V2, &gzips[usize::from(large)]);
            logs.push((log(n, large), large, *fault));
        }
    }
    let table: Vec<_> = logs.iter().map(|(log, large, fault)| (log.key(), *large, *fault)).collect();
    server.set_hook(move |seen| {
        let (_, large, fault) = table.iter().find(|(key, ..)| *key == seen.key)?;
        (seen.is_get() && *large == is_run(seen)).then(fault)
    });
    let mount = Setup::s3(&server).args(["--request-deadline", "6s"]).mount();
    mount.out("find . | wc -l");
    let logs: Vec<Log> = logs.into_iter().map(|(log, ..)| log).collect();
    read_all(&mount, &logs);
    desk.log_of(&mount);
    drop(mount);

    desk.said
}

/// A body that breaks off, and what is left of it belongs to something else.
fn rest() -> Vec<String> {
    let mut desk = Desk::new();
    for fault in REST {
        let server = Server::start();
        archive::put(&server, &log(0, true), SealAs::V2, &archive::gzip_level(&archive::noise(1, 3_000_000), 1));
        // Each run once, told by its last byte.
        let broken = Mutex::new(BTreeSet::new());
        server.set_hook(move |seen| {
            let end = seen.range.as_ref().filter(|_| is_run(seen))?.rsplit_once('-')?.1.to_owned();
            Some(if broken.lock().unwrap().insert(end) { Reply::Cut(1000) } else { fault() })
        });
        let mount = Setup::s3(&server).args(["--request-deadline", "6s"]).mount();
        read_all(&mount, &[log(0, true)]);
        desk.log_of(&mount);
    }
    desk.said
}

/// Longer than ten seconds are waited for nothing.
fn slow() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    let logs = [log(0, false), log(1, false)];
    logs.iter().for_each(|log| drop(archive::put(&server, log, SealAs::V2, &archive::gzip(b"x\n"))));
    let key = logs[0].key();
    server.set_hook(move |seen| seen.is_get().then(|| if seen.key == key { Reply::Hang } else { Reply::Stall(9) }));
    let mount = Setup::s3(&server).args(["--request-deadline", "24s"]).mount();
    read_all(&mount, &logs);
    desk.log_of(&mount);
    desk.said
}

/// A store that fails at once, so often that the attempts are used up before the time is.
fn attempts() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    let log = log(0, false);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(b"x\n"));
    server.set_hook(move |seen| seen.is_get().then(|| Reply::error(500, "InternalError")));
    let mut cat = desk.on(&server, &["cat", "--request-deadline", "50s"]);
    desk.hear(&mut cat);
    desk.said
}

/// Objects that are deleted, replaced or changed while they are open, and too large to be kept in memory.
fn changed() -> Vec<String> {
    let mut desk = Desk::new();
    let gzip = archive::gzip_level(&archive::noise(2, 40_000_000), 1);
    type Change = fn(&Server, &Log);
    let changes: [Change; 3] = [
        |server, log| server.delete(&log.key()),
        |server, log| {
            archive::put(server, log, SealAs::V3, &archive::gzip(b"x\n"));
        },
        |server, _| {
            let flipped = |seen: &Seen| is_run(seen).then(|| edit(|_, body| body.iter_mut().for_each(|b| *b ^= 1)));
            server.set_hook(flipped);
        },
    ];
    for change in changes {
        let server = Server::start();
        server.set_unversioned();
        let log = log(0, true);
        archive::put(&server, &log, SealAs::V2, &gzip);
        let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
        let file = File::open(mount.path(log.path())).unwrap();
        // By its last byte, the whole object has been verified.
        file.read_exact_at(&mut [0], 39_999_999).unwrap();
        change(&server, &log);
        let mut buf = vec![0; 1 << 20];
        let failed = (0..38).rev().filter(|n| {
            forget_pages(&file);
            file.read_at(&mut buf, n << 20).is_err()
        });
        assert!(failed.count() > 0, "all of it was in memory");
        desk.log_of(&mount);
    }
    desk.said
}

/// Versions that may not be read, or are deleted for good, with and without an older one, below a mount that shows their time.
fn versions() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    // Of two resources, as each is listed again when something of it is found gone.
    let (one, two) = (log(0, false), Log { resource: "databases-9".into(), ..log(1, false) });
    archive::put(&server, &two, SealAs::V2, &archive::gzip(b"older\n"));
    let ids = [&one, &two].map(|log| archive::put(&server, log, SealAs::V2, &archive::gzip(b"x\n")).1);
    let denied = Log { resource: "databases-7".into(), ..log(2, false) };
    archive::put(&server, &denied, SealAs::V2, &archive::gzip(b"x\n"));
    let mount = Setup::s3(&server).args(["--at", &server.time()]).mount();
    mount.out("find . -type f");
    server.set_hook(|seen| seen.is_get().then(|| Reply::error(403, "AccessDenied")));
    fs::read(mount.path(denied.path())).unwrap_err();
    server.clear_hook();
    for (log, id) in [&one, &two].into_iter().zip(ids) {
        server.delete_version(&log.key(), &id);
        // The kernel asks again, and may be given what there is now.
        fs::read(mount.path(log.path())).ok();
    }
    desk.log_of(&mount);
    desk.said
}

/// Listings that go wrong once the mount is there.
fn listings() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    for n in 0..3 {
        archive::put(&server, &log(n, false), SealAs::V2, &archive::gzip(b"x\n"));
    }
    server.put("what is this?", &[], "x");
    server.put("prod/shareable/v3/x", &[], "x");
    let mount = Setup::s3(&server).args(["--request-deadline", "10s"]).mount();
    mount.out("find . | wc -l");
    server.set_hook(|seen| seen.is_list().then(|| Reply::error(503, "SlowDown")));
    mount.signal(libc::SIGHUP);
    eventually("it is tried", || mount.log().contains("serves on").then_some(()));
    desk.log_of(&mount);
    drop(mount);

    // The same page again and again, the same token, a token without end; keys that nobody asked for.
    let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
    let prefix = log(0, false).key().split_inclusive('/').take(5).collect::<String>();
    let next = |token: &str| format!("<NextContinuationToken>{token}</NextContinuationToken>");
    let long = "t".repeat(20_000);
    let count = Arc::new(AtomicUsize::new(0));
    for case in 0..4 {
        let (prefix, long, count) = (prefix.clone(), long.clone(), Arc::clone(&count));
        server.set_hook(move |seen| {
            if !seen.is_list() || seen.query.contains("delimiter") {
                return None;
            }
            let n = count.fetch_add(1, Ordering::Relaxed);
            let (more, rest) = match case {
                0 => (true, next(&n.to_string()) + &entry(&format!("{prefix}k"))),
                1 => (true, next("t") + &entry(&format!("{prefix}{n:09}"))),
                2 => (true, next(&long) + &entry(&format!("{prefix}k"))),
                _ => (false, entry("else/where")),
            };
            let body = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{rest}</ListBucketResult>");
            Some(Reply::Canned { status: 200, headers: vec![], body: body.into() })
        });
        let mount = Setup::s3(&server).args(["--request-deadline", "10s"]).mount();
        desk.tool(&mount, "ls prod/apps-321");
        let log = mount.log();
        desk.said.extend(super::desk::lines(&log));
    }
    desk.said
}
