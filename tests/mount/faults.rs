//! What S3 and the network can do wrong, as a reader of the mount sees it: the right errno by the deadline and within few
//! requests, other files served meanwhile, and all well again the moment S3 is, without a remount.
//!
//! `docs/SECURITY.md` has the whole table, and where each row is shown.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::response::Parts;
use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, forget_pages};
use crate::common::s3::{ACCESS_KEY, REGION, Reply, SECRET_KEY, Seen, Server};
use crate::common::watch::{eventually, steady, within};

/// The request deadline of these mounts, and when a reader counts as hanging.
const DEADLINE: &str = "5s";
const HANGING: Duration = Duration::from_secs(30);

/// Ranged GETs of one scan at a time: what is under way when the first of them fails.
const PARALLEL: usize = 8;

struct Row {
    name: &'static str,
    reply: fn() -> Reply,
    /// What it is for a file that is looked up, for one that is open already, and for a small one. 0: it does no harm.
    errnos: [i32; 3],
    /// Requests that the look-up costs at most; a reader of an open file adds those under way.
    most: usize,
}

const OK: i32 = 0;

/// As if S3 were away: tried again until the deadline, and over when S3 is well.
const fn away(name: &'static str, reply: fn() -> Reply) -> Row {
    Row { name, reply, errnos: [libc::EIO; 3], most: 25 - PARALLEL }
}

/// S3 has decided. Alone it costs less (see below); here the readers of its neighbours ask for it, too.
const fn no(name: &'static str, reply: fn() -> Reply, errno: i32) -> Row {
    Row { name, reply, errnos: [errno; 3], most: 6 }
}

const fn edited(name: &'static str, reply: fn() -> Reply, errnos: [i32; 3]) -> Row {
    Row { errnos, ..away(name, reply) }
}

fn canned(status: u16, body: &str) -> Reply {
    Reply::Canned { status, headers: vec![], body: body.into() }
}

fn edit(change: impl Fn(&mut Parts, &mut Vec<u8>) + Send + Sync + 'static) -> Reply {
    Reply::Edit(Arc::new(change))
}

fn header(head: &mut Parts, name: &'static str, value: &str) {
    head.headers.insert(name, HeaderValue::from_str(value).unwrap());
}

/// Another Content-Range of the same form: start, bytes that come, total.
fn range(head: &mut Parts, change: impl Fn(u64, u64, u64) -> (u64, u64, u64)) {
    let value = head.headers["content-range"].to_str().unwrap()["bytes ".len()..].to_owned();
    let mut numbers = value.split(['-', '/']).map(|n| n.parse::<u64>().unwrap());
    let [start, end, total] = [(); 3].map(|()| numbers.next().unwrap());
    let (start, len, total) = change(start, end + 1 - start, total);
    header(head, "content-range", &format!("bytes {start}-{}/{total}", start + len - 1));
    header(head, "content-length", &len.to_string());
}

fn metadata(head: &Parts) -> Vec<HeaderName> {
    head.headers.keys().filter(|name| name.as_str().starts_with("x-amz-meta-")).cloned().collect()
}

const ROWS: [Row; 37] = [
    away("500", || Reply::error(500, "InternalError")),
    away("502", || canned(502, "<html>bad gateway</html>")),
    away("503", || Reply::error(503, "SlowDown")),
    away("504", || canned(504, "")),
    away("429", || Reply::error(429, "Whatever&#x1b;[31m")),
    away("408", || Reply::error(400, "RequestTimeout")),
    away("garbage", || canned(400, "\0\u{1}garbage")),
    away("sign-in page", || canned(200, "<html>sign in</html>")),
    away("no answer", || Reply::Hang),
    away("no body", || Reply::Stall(0)),
    away("half a body", || Reply::Stall(30)),
    away("reset before", || Reply::Reset),
    // The end of an object is too short for these two to harm it.
    edited("drip", || Reply::Drip, [OK, libc::EIO, libc::EIO]),
    edited("reset within", || Reply::Cut(0), [OK, libc::EIO, libc::EIO]),
    // Consistent, but not what was asked for.
    away("short", || {
        edit(|head, body| {
            body.pop();
            range(head, |start, len, total| (start, len - 1, total));
        })
    }),
    away("truncated", || {
        edit(|head, body| {
            body.pop();
            range(head, |start, len, total| (start, len - 1, total - 1));
        })
    }),
    away("shifted", || edit(|head, _| range(head, |start, len, total| (start + 1, len, total)))),
    away("another size", || edit(|head, _| range(head, |start, len, total| (start, len, total + 1)))),
    away("of unknown size", || edit(|head, _| header(head, "content-range", "bytes 0-9/*"))),
    edited("range ignored", || edit(|head, _| drop(head.headers.remove("content-range"))), [libc::EIO, libc::EIO, OK]),
    away("no etag", || edit(|head, _| drop(head.headers.remove("etag")))),
    no("403", || Reply::error(403, "AccessDenied"), libc::EACCES),
    no("403 without a word", || canned(403, ""), libc::EACCES),
    no("unknown key", || Reply::error(403, "InvalidAccessKeyId"), libc::EACCES),
    no("signature", || Reply::error(403, "SignatureDoesNotMatch"), libc::EACCES),
    no("expired", || Reply::error(400, "ExpiredToken"), libc::EACCES),
    // Each request once more, as the SDK corrects its clock.
    Row { most: 12, ..no("clock", || Reply::error(403, "RequestTimeTooSkewed"), libc::EACCES) },
    no("archived", || Reply::error(403, "InvalidObjectState"), libc::EREMOTE),
    no("another region", || Reply::error(301, "PermanentRedirect"), libc::EIO),
    Row { errnos: [libc::ENOENT, libc::ESTALE, libc::ENOENT], ..no("404", || Reply::error(404, "NoSuchKey"), 0) },
    no("replaced", || Reply::error(412, "PreconditionFailed"), libc::ESTALE),
    no("another etag", || edit(|head, _| header(head, "etag", "\"another\"")), libc::ESTALE),
    // The first answer is what says which version it is.
    edited(
        "another version",
        || edit(|head, _| header(head, "x-amz-version-id", "another")),
        [libc::ESTALE, libc::ESTALE, OK],
    ),
    // A lie about the object's bytes cannot be told from damage of the object: the tag decides, and is believed.
    edited(
        "no metadata",
        || edit(|head, _| metadata(head).iter().for_each(|name| drop(head.headers.remove(name)))),
        [libc::EBADMSG, OK, libc::EBADMSG],
    ),
    edited(
        "metadata twice",
        || {
            edit(|head, _| {
                // The SDK takes no such answer.
                for name in metadata(head) {
                    head.headers.append(name, HeaderValue::from_static("AAAA"));
                }
            })
        },
        [libc::EIO; 3],
    ),
    edited("other bytes", || edit(|_, body| body[0] ^= 1), [OK, libc::EBADMSG, libc::EBADMSG]),
    edited("another object's body", || edit(|_, body| body.rotate_left(1)), [OK, libc::EBADMSG, libc::EBADMSG]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Head,
    Body,
    Small,
}

const WHEN: [When; 3] = [When::Head, When::Body, When::Small];

/// The log that meets row `n`; the last ones are well.
fn log(n: usize, when: When) -> Log {
    Log { service: 20 + when as u64, ..Log::at((n + when as usize * 1000) as i64) }
}

fn read(path: &Path) -> Result<Vec<u8>, i32> {
    fs::read(path).map_err(|e| errno::<()>(Err(e)))
}

/// Reads in the background.
fn reader(mount: &Mount, log: &Log) -> JoinHandle<Result<Vec<u8>, i32>> {
    let path = mount.path(log.path());
    std::thread::spawn(move || read(&path))
}

fn is_run(seen: &Seen) -> bool {
    seen.range.as_deref().is_some_and(|r| !r.starts_with("bytes=-"))
}

/// The fault of this request, in any file of the table.
fn fault(seen: &Seen, logs: &[(String, usize, When)]) -> Option<Reply> {
    let (_, n, when) = logs.iter().find(|(key, ..)| *key == seen.key)?;
    (seen.is_get() && (*when == When::Small || (*when == When::Body) == is_run(seen))).then(|| (ROWS[*n].reply)())
}

#[test]
fn each_fault_has_its_errno_its_bounds_and_passes() {
    steady(each_fault);
}

fn each_fault() {
    let server = Server::start();
    // Three runs; and less than a drip brings in time.
    let texts = [archive::noise(1, 6_500_000), archive::noise(2, 10_000)];
    let gzips = texts.each_ref().map(|text| archive::gzip_level(text, 1));
    let kind = |when: When| usize::from(when == When::Small);
    let mut logs = Vec::new();
    for n in 0..ROWS.len() + 3 {
        for when in WHEN {
            archive::put(&server, &log(n, when), SealAs::V2, &gzips[kind(when)]);
            logs.push((log(n, when).key(), n, when));
        }
    }
    let well = logs.split_off(WHEN.len() * ROWS.len());
    // Room for all of them at once: nobody waits for a place behind those that hang.
    let mount = Setup::s3(&server).args(["--request-deadline", "4s", "--memory", "2GiB"]).mount();
    let listed = mount.out("find . -name '*.json' | wc -l");
    server.forget();
    let table = logs.clone();
    server.set_hook(move |seen| fault(seen, &table));

    let readers: Vec<_> = logs.iter().map(|(_, n, when)| (*n, *when, reader(&mount, &log(*n, *when)))).collect();
    for (_, n, when) in &well {
        let healthy = reader(&mount, &log(*n, *when));
        within(HANGING, || healthy.is_finished().then_some(())).expect("a healthy file hangs with the others");
        assert!(healthy.join().unwrap().unwrap() == texts[kind(*when)]);
    }
    assert_eq!(mount.out("find . -name '*.json' | wc -l"), listed);

    let mut wrong = Vec::new();
    let mut failed = Vec::new();
    for (n, when, reader) in readers {
        let Row { name, errnos, most, .. } = ROWS[n];
        let Some(()) = within(HANGING, || reader.is_finished().then_some(())) else {
            wrong.push(format!("{name} {when:?}: hangs"));
            continue;
        };
        let most = if when == When::Body { most + PARALLEL } else { most };
        let key = log(n, when).key();
        let requests = server.requests().iter().filter(|r| r.key == key).count();
        let got = reader.join().unwrap();
        let errno = got.as_ref().err().copied().unwrap_or(OK);
        if errno != errnos[when as usize] || requests > most || got.is_ok_and(|text| text != texts[kind(when)]) {
            wrong.push(format!("{name} {when:?}: errno {errno} with {requests} requests"));
        }
        if errno != OK {
            failed.push((name, when, key));
        }
    }
    // Each once, whole and harmless.
    let told = mount.log();
    for (name, when, key) in &failed {
        let lines: Vec<_> = told.lines().filter(|line| line.contains(key.as_str())).collect();
        if lines.len() != 1 {
            wrong.push(format!("{name} {when:?} is {} times in the log: {lines:#?}", lines.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!told.contains('\u{1b}') && told.contains("\\x1b"));

    server.clear_hook();
    for (_, n, when) in &logs {
        let Row { name, errnos, .. } = ROWS[*n];
        if errnos[*when as usize] == libc::EBADMSG {
            let got = read(&mount.path(log(*n, *when).path()));
            assert_eq!(got, Err(libc::EBADMSG), "{name} {when:?}: a verdict holds while the version is the same");
            continue;
        }
        let text = eventually(name, || read(&mount.path(log(*n, *when).path())).ok());
        assert!(text == texts[kind(*when)], "{name} {when:?}");
    }
}

/// What S3 has decided is not asked for again and again.
#[test]
fn a_refusal_costs_few_requests() {
    for (status, code, errno) in [
        (403, "AccessDenied", libc::EACCES),
        (403, "InvalidAccessKeyId", libc::EACCES),
        (404, "NoSuchKey", libc::ENOENT),
        (412, "PreconditionFailed", libc::ESTALE),
    ] {
        let server = Server::start();
        let log = Log::at(0);
        archive::put(&server, &log, SealAs::V2, &archive::gzip(b"x\n"));
        server.set_hook(move |seen| seen.is_get().then(|| Reply::error(status, code)));
        let mount = Setup::s3(&server).mount();
        assert_eq!(read(&mount.path(log.path())), Err(errno), "{code}");
        let gets = server.requests().into_iter().filter(Seen::is_get).count();
        assert!((1..=3).contains(&gets), "{code}: {gets} requests");
    }
}

/// One file that is open but not read, one that was read, one that nobody has asked for.
fn three(server: &Server, setup: Setup) -> (Mount, [Log; 3], Vec<u8>) {
    let logs = [0, 1, 2].map(Log::at);
    let text = archive::noise(3, 3_000_000);
    logs.iter().for_each(|log| drop(archive::put(server, log, SealAs::V2, &archive::gzip_level(&text, 1))));
    let mount = setup.args(["--request-deadline", DEADLINE]).mount();
    assert!(read(&mount.path(logs[1].path())).unwrap() == text);
    (mount, logs, text)
}

#[test]
fn nothing_listens_and_then_it_does_again() {
    // Nobody else takes a port there.
    let server = Server::start_at("127.0.0.2");
    let (mount, logs, text) = three(&server, Setup::s3(&server));
    server.stop();
    let readers = [0, 2].map(|n| reader(&mount, &logs[n]));
    assert!(read(&mount.path(logs[1].path())).unwrap() == text, "what is known is served");
    for reader in readers {
        within(HANGING, || reader.is_finished().then_some(())).expect("a reader hangs");
        assert_eq!(reader.join().unwrap(), Err(libc::EIO));
    }
    // Neither an absence nor an empty folder: what was listed is shown until a new listing is whole.
    mount.signal(libc::SIGHUP);
    eventually("listings are fetched again", || mount.log().contains("the old one serves on").then_some(()));
    assert_eq!(mount.out("ls"), "prod");
    server.start_again();
    for log in &logs {
        assert!(read(&mount.path(log.path())).unwrap() == text);
    }
}

/// A reader that waits for S3 can be killed, at the latest when its request has its deadline.
#[test]
fn a_killed_reader_is_gone_and_others_read_on() {
    let server = Server::start();
    let (mount, logs, text) = three(&server, Setup::s3(&server));
    server.forget();
    let key = logs[0].key();
    server.set_hook(move |seen| (seen.key == key).then_some(Reply::Hang));
    let mut cat = Command::new("cat").arg(mount.path(logs[0].path())).stdout(Stdio::null()).spawn().unwrap();
    eventually("it waits", || server.requests().iter().any(Seen::is_get).then_some(()));
    cat.kill().unwrap();
    assert!(read(&mount.path(logs[2].path())).unwrap() == text);
    let status = within(HANGING, || cat.try_wait().unwrap()).expect("the killed reader is still there");
    assert!(!status.success());
}

/// Many who want the same folder wait for one deadline, not one after the other for one each.
#[test]
fn those_who_wait_for_a_folder_share_its_failure() {
    const MANY: usize = 20;
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    let mount = Setup::s3(&server).args(["--request-deadline", DEADLINE]).mount();
    assert_eq!(mount.out("ls"), "prod");
    server.forget();
    server.set_hook(|seen| seen.is_list().then_some(Reply::Hang));
    let start = std::sync::Barrier::new(MANY);
    std::thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                start.wait();
                assert_eq!(errno(fs::read_dir(mount.path("prod"))), libc::EIO);
            });
        }
    });
    // One alone costs four requests, twice. Some may have come so late that they asked again.
    let lists = server.requests().iter().filter(|r| r.is_list()).count();
    assert!(lists < 4 * MANY, "{lists} requests for {MANY} readers");
}

/// However little memory there is: an object whose scan hangs, and one of which read segments hang, leave enough of it for a
/// third one.
#[test]
fn objects_that_hang_leave_room_for_others() {
    let server = Server::start();
    let (text, logs) = (archive::noise(3, 30_000_000), [0, 1, 2].map(Log::at));
    logs.iter().for_each(|log| drop(archive::put(&server, log, SealAs::V2, &archive::gzip_level(&text, 1))));
    let mount = Setup::s3(&server).args(["--memory", "32MiB", "--request-deadline", "10m"]).mount();
    let file = fs::File::open(mount.path(logs[0].path())).unwrap();
    let mut last = [0];
    file.read_exact_at(&mut last, text.len() as u64 - 1).unwrap();
    // Nothing more comes of two of them, for longer than this test may take.
    let hanging = [logs[0].key(), logs[1].key()];
    server.forget();
    server.set_hook(move |seen| (hanging.contains(&seen.key) && is_run(seen)).then_some(Reply::Hang));
    let file = Arc::new(file);
    let mut readers: Vec<_> = (0..12)
        .map(|n| {
            let file = Arc::clone(&file);
            std::thread::spawn(move || errno(file.read_at(&mut [0; 1000], n * 2_400_000)))
        })
        .collect();
    readers.push(std::thread::spawn({
        let path = mount.path(logs[1].path());
        move || errno(fs::read(path))
    }));
    for log in &logs[..2] {
        eventually("it hangs", || server.requests().iter().any(|r| r.key == log.key() && is_run(r)).then_some(()));
    }
    let other = reader(&mount, &logs[2]);
    eventually("the third one does not hang with them", || other.is_finished().then_some(()));
    assert!(other.join().unwrap().unwrap() == text);
    let waiting = readers.iter().filter(|reader| !reader.is_finished()).count();
    assert!(waiting > 2, "{waiting} readers wait: the test shows nothing");
    // Ends them.
    mount.signal(libc::SIGKILL);
    for reader in readers {
        reader.join().unwrap();
    }
    let mut mount = mount;
    assert!(!mount.wait().success());
}

/// Credentials that expire while the mount is there: read anew once, from where they come from.
#[test]
fn expired_credentials_are_read_anew() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let credentials = |token: &str| {
        let json = format!(
            r#"{{"Version":1,"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","SessionToken":"{token}"}}"#
        );
        fs::write(folder.path().join("json"), json).unwrap();
    };
    let tool = folder.path().join("tool");
    fs::write(&tool, format!("#!/bin/sh\ncd '{}' && echo >>runs && cat json\n", folder.path().display())).unwrap();
    let config = folder.path().join("config");
    fs::write(&config, format!("[default]\nregion = {REGION}\ncredential_process = sh {}\n", tool.display())).unwrap();
    let runs = || fs::read_to_string(folder.path().join("runs")).unwrap().len();
    credentials("first");
    // Before the others in the order of the folders: nobody fetches it ahead.
    let later = Log { container: "11".repeat(32), ..Log::at(7) };
    archive::put(&server, &later, SealAs::V2, &archive::gzip(b"x\n"));
    let setup = Setup::s3(&server)
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", config.as_os_str());
    let (mount, logs, text) = three(&server, setup);
    assert_eq!(runs(), 1);

    server.set_hook(|seen| (seen.token.as_deref() != Some("second")).then(|| Reply::error(400, "ExpiredToken")));
    credentials("second");
    let readers = [0, 2].map(|n| reader(&mount, &logs[n]));
    for reader in readers {
        assert!(reader.join().unwrap().unwrap() == text);
    }
    assert_eq!(runs(), 2, "once for all who met it");

    // Expired again, and nobody has renewed them: an error that says so; and then somebody has.
    server.set_hook(|seen| (seen.token.as_deref() != Some("third")).then(|| Reply::error(400, "ExpiredToken")));
    assert_eq!(read(&mount.path(later.path())), Err(libc::EACCES));
    assert!(mount.log().contains("aws sso login"), "{}", mount.log());
    credentials("third");
    assert_eq!(eventually("it is let in", || read(&mount.path(later.path())).ok()), b"x\n");
}

/// Listings and errors that never end cost neither memory nor the mount.
#[test]
fn endless_answers_are_cut_off() {
    let server = Server::start();
    let (mount, logs, text) = three(&server, Setup::s3(&server));
    let before = mount.peak();
    let endless = |status| Reply::Endless {
        status,
        first: b"<ListBucketResult><IsTruncated>false</IsTruncated>".to_vec(),
        again: b"<Contents><Key>k</Key><Size>1</Size></Contents>".repeat(1000),
    };
    for status in [200, 503, 403] {
        // A folder that was never listed, and a file that was never asked for.
        let fresh = Log { stack: format!("s{status}"), ..Log::at(0) };
        archive::put(&server, &fresh, SealAs::V2, &archive::gzip(b"x\n"));
        mount.signal(libc::SIGHUP);
        eventually("it is listed", || mount.path(&fresh.stack).exists().then_some(()));
        server.set_hook(move |seen| (!seen.is_get() || status != 200).then(|| endless(status)));
        assert_eq!(errno(fs::read_dir(mount.path(&fresh.stack))), libc::EIO, "{status}: {}", mount.log());
        server.clear_hook();
        assert_eq!(fs::read_dir(mount.path(&fresh.stack)).unwrap().count(), 1);
    }
    assert!(mount.log().contains("length limit"), "{}", mount.log());
    let more = mount.peak().saturating_sub(before);
    assert!(more < 150 << 20, "{more} bytes for answers without end");
    assert!(read(&mount.path(logs[0].path())).unwrap() == text);
}

/// A listing that lies about sizes does not decide how much is fetched.
#[test]
fn a_large_object_that_was_listed_as_small() {
    let server = Server::start();
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &archive::gzip_level(&archive::noise(3, 3_000_000), 1));
    server.set_hook(|seen| {
        let small = |body: &mut Vec<u8>| {
            let xml = String::from_utf8(std::mem::take(body)).unwrap();
            let (before, after) = xml.split_once("<Size>").unwrap();
            *body = format!("{before}<Size>1000{}", &after[after.find('<').unwrap()..]).into();
        };
        let lie = move |head: &mut Parts, body: &mut Vec<u8>| {
            small(body);
            header(head, "content-length", &body.len().to_string());
        };
        (seen.is_list() && !seen.query.contains("delimiter")).then(|| edit(lie))
    });
    let mount = Setup::s3(&server).args(["--request-deadline", DEADLINE]).mount();
    assert_eq!(read(&mount.path(log.path())), Err(libc::EIO));
    let gets: Vec<_> = server.requests().into_iter().filter(Seen::is_get).collect();
    assert!(!gets.is_empty() && gets.iter().all(|seen| seen.range.as_deref() == Some("bytes=-524288")), "{gets:#?}");
    assert!(mount.log().contains("listed it with 1000"), "{}", mount.log());
    // The lie is not remembered.
    server.clear_hook();
    mount.signal(libc::SIGHUP);
    assert_eq!(eventually("it is listed again", || read(&mount.path(log.path())).ok()).len(), 3_000_000);
}

/// Who reads a folder sees what it was when it was opened: what stays is there, and once.
#[test]
fn a_folder_that_changes_while_it_is_read() {
    let server = Server::start();
    // More than the kernel asks for at once.
    let many = 3000;
    (0..many).for_each(|n| drop(server.put(&Log::at(2 * n).key(), &[], "x")));
    let mount = Setup::s3(&server).mount();
    let day = mount.path(Log::at(0).path()).parent().unwrap().to_owned();
    let mut entries = fs::read_dir(&day).unwrap();
    let mut names: Vec<_> = entries.by_ref().take(5).map(|e| e.unwrap().file_name()).collect();
    for n in 0..many {
        server.put(&Log::at(2 * n + 1).key(), &[], "x");
        if n % 3 == 0 {
            server.delete(&Log::at(2 * n).key());
        }
    }
    mount.signal(libc::SIGHUP);
    eventually("the change is there", || {
        (fs::read_dir(&day).unwrap().count() == 2 * many as usize - many as usize / 3).then_some(())
    });
    names.extend(entries.map(|e| e.unwrap().file_name()));
    let got = names.len();
    names.sort();
    names.dedup();
    assert_eq!((got, names.len()), (many as usize, many as usize));
}

/// A scan that takes longer than any reader may wait, though each of its requests succeeds: readers have an answer by their
/// deadline and can be killed, and the scan goes on for who tries again.
#[test]
fn readers_of_a_slow_scan_have_a_deadline() {
    let server = Server::start();
    let (text, log) = (archive::noise(3, 60_000_000), Log::at(0));
    archive::put(&server, &log, SealAs::V2, &archive::gzip_level(&text, 1));
    // So little memory that the scan's requests, some 26, come one after the other.
    let mount = Setup::s3(&server).args(["--memory", "32MiB", "--request-deadline", "6s"]).mount();
    let path = mount.path(log.path());
    fs::metadata(&path).unwrap();
    server.forget();
    server.set_latency(Duration::from_secs(1));
    let file = fs::File::open(&path).unwrap();
    let mut cat = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn().unwrap();
    eventually("it waits for the size", || server.requests().iter().any(is_run).then_some(()));
    cat.kill().unwrap();
    assert_eq!(errno(file.read_at(&mut [0; 1000], 0)), libc::EIO);
    let status = eventually("the killed reader is gone", || cat.try_wait().unwrap());
    assert!(!status.success());
    let told = mount.log();
    assert!(told.contains("nothing to answer after 12s") && told.contains(&log.key()), "{told}");
    server.set_latency(Duration::ZERO);
    // It has not begun anew.
    assert!(eventually("the scan ends", || read(&path).ok()) == text);
    let mut runs: Vec<_> = server.requests().into_iter().filter(is_run).filter_map(|seen| seen.range).collect();
    let all = runs.len();
    runs.sort_unstable();
    runs.dedup();
    assert!(runs.len() > 20 && all < 2 * runs.len(), "{all} requests for {} runs", runs.len());
}

/// Objects whose scans hang leave room for another one, also if there are several of them.
#[test]
fn several_scans_that_hang_leave_room_for_others() {
    const HANG: usize = 4;
    let server = Server::start();
    let text = archive::noise(3, 30_000_000);
    let logs: Vec<Log> = (0..=HANG as i64).map(Log::at).collect();
    logs.iter().for_each(|log| drop(archive::put(&server, log, SealAs::V2, &archive::gzip_level(&text, 1))));
    let mount = Setup::s3(&server).args(["--request-deadline", "10m"]).mount();
    let hanging: Vec<String> = logs[..HANG].iter().map(Log::key).collect();
    server.set_hook(move |seen| (hanging.contains(&seen.key) && is_run(seen)).then_some(Reply::Hang));
    let readers: Vec<_> = logs[..HANG].iter().map(|log| reader(&mount, log)).collect();
    for log in &logs[..HANG] {
        eventually("it hangs", || server.requests().iter().any(|r| r.key == log.key() && is_run(r)).then_some(()));
    }
    let other = reader(&mount, &logs[HANG]);
    eventually("the last one does not hang with them", || other.is_finished().then_some(()));
    assert!(other.join().unwrap().unwrap() == text);
    assert!(readers.iter().all(|reader| !reader.is_finished()), "the test shows nothing");
    mount.signal(libc::SIGKILL);
    for reader in readers {
        assert!(reader.join().unwrap().is_err());
    }
    let mut mount = mount;
    assert!(!mount.wait().success());
}

/// The kernel reads ahead for all files from one small store of requests: those of many files that hang leave some for others.
#[test]
fn many_readers_that_hang_leave_the_kernel_requests() {
    const HANG: usize = 100;
    let server = Server::start();
    let text = archive::noise(3, 3_000_000);
    let gzip = archive::gzip_level(&text, 1);
    let logs: Vec<Log> = (0..=HANG as i64).map(Log::at).collect();
    logs.iter().for_each(|log| drop(archive::put(&server, log, SealAs::V2, &gzip)));
    let mount = Setup::s3(&server).args(["--request-deadline", "10m"]).mount();
    let well = fs::File::open(mount.path(logs[HANG].path())).unwrap();
    let whole = |file: &fs::File| {
        let mut got = vec![0; text.len()];
        file.read_exact_at(&mut got, 0).map(|()| got)
    };
    assert!(whole(&well).unwrap() == text);
    let hanging: Vec<String> = logs[..HANG].iter().map(Log::key).collect();
    server.set_hook(move |seen| (hanging.contains(&seen.key) && is_run(seen)).then_some(Reply::Hang));
    let readers: Vec<_> = logs[..HANG]
        .iter()
        .map(|log| {
            let path = mount.path(log.path());
            // Without asking for the size first: its pages are read ahead.
            std::thread::spawn(move || errno(fs::File::open(path).and_then(|file| file.read_at(&mut [0; 100_000], 0))))
        })
        .collect();
    // All that may be on their way hang, and the other readers wait behind them.
    eventually("they hang", || (server.requests().iter().filter(|r| is_run(r)).count() >= 16).then_some(()));
    let is_open = format!("\"files\":{}", HANG + 1);
    eventually("all are open", || {
        let told = fs::read_to_string(mount.path(".logarchivefs/status.json")).ok()?;
        told.split_whitespace().collect::<String>().contains(&is_open).then_some(())
    });
    forget_pages(&well);
    let other = std::thread::scope(|scope| {
        let other = scope.spawn(|| whole(&well));
        let ended = within(4 * HANGING, || other.is_finished().then_some(()));
        if ended.is_none() {
            mount.signal(libc::SIGKILL);
        }
        ended.map(|()| other.join().unwrap().unwrap())
    });
    assert!(other.expect("a file that is known hangs with them") == text);
    mount.signal(libc::SIGKILL);
    for reader in readers {
        assert_ne!(reader.join().unwrap(), 0);
    }
    let mut mount = mount;
    assert!(!mount.wait().success());
}
