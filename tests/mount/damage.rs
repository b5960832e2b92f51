//! Damage: never a byte of a file whose tag fails, never a clean end of file where something is wrong.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logarchivefs::envelope::SealAs;
use serde_json::Value;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, forget_pages, xattr, xattrs};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::eventually;

/// Large, so that it can be opened before it has been read; text of several segments.
const LEN: usize = 6_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Tag,
    /// One bit in the middle of the ciphertext.
    Body,
    /// CRC-32 in the gzip trailer; the tag is right.
    Crc,
    /// ISIZE, still plausible.
    Size,
    /// The gzip stream ends early; the tag is right.
    Cut,
    /// Garbage in the middle of the deflate data; the tag is right.
    Deflate,
}

const HARMS: [Harm; 6] = [Harm::Tag, Harm::Body, Harm::Crc, Harm::Size, Harm::Cut, Harm::Deflate];

impl Harm {
    fn authentic(self) -> bool {
        !matches!(self, Harm::Tag | Harm::Body)
    }
}

fn put(server: &Server, log: &Log, harm: Harm, text: &[u8]) {
    let mut gzip = archive::gzip(text);
    let (end, middle) = (gzip.len(), gzip.len() / 2);
    match harm {
        Harm::Crc => gzip[end - 8] ^= 1,
        Harm::Size => gzip[end - 4] ^= 1,
        Harm::Cut => gzip.truncate(middle),
        Harm::Deflate => gzip[middle..middle + 64].fill(0xff),
        Harm::Tag | Harm::Body => {}
    }
    archive::put_changed(server, log, SealAs::V2, &gzip, |body| match harm {
        Harm::Tag => *body.last_mut().unwrap() ^= 1,
        Harm::Body => {
            let middle = body.len() / 2;
            body[middle] ^= 4;
        }
        _ => {}
    });
}

/// Opens and reads to the end or the error, with nothing asked before: what came, and the errno. The open itself may
/// fail where the damage shows in the gzip trailer, so that the lookup has found it.
fn plain_read(mount: &Mount, log: &Log) -> (Vec<u8>, i32) {
    let mut file = match File::open(mount.path(log.path())) {
        Ok(file) => file,
        Err(e) => return (Vec::new(), errno::<()>(Err(e))),
    };
    let (mut got, mut buf) = (Vec::new(), vec![0; 100_000]);
    loop {
        match file.read(&mut buf) {
            Ok(0) => return (got, 0),
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(e) => return (got, errno::<()>(Err(e))),
        }
    }
}

#[test]
fn reads_of_a_damaged_file_end_in_an_error() {
    let server = Server::start();
    let text = archive::noise(1, LEN);
    for (n, harm) in HARMS.into_iter().enumerate() {
        put(&server, &Log::at(n as i64), harm, &text);
    }
    for verify in ["full", "stream"] {
        let mount = Setup::s3(&server).args(["--verify", verify]).mount();
        for (n, harm) in HARMS.into_iter().enumerate() {
            let log = Log::at(n as i64);
            let (got, failed) = plain_read(&mount, &log);
            assert_eq!(failed, libc::EBADMSG, "{verify} {harm:?}: {} bytes, then this", got.len());
            assert!(got.len() < LEN, "{verify} {harm:?}: all of the text");
            // Up to the damage, wherever bits were changed in the middle.
            let sure = if matches!(harm, Harm::Body | Harm::Deflate) { LEN / 3 } else { LEN }.min(got.len());
            assert!(got[..sure] == text[..sure], "{verify} {harm:?}: another text");
            if verify == "full" && !harm.authentic() {
                assert!(got.is_empty(), "{harm:?}: {} bytes whose tag fails were served", got.len());
            }
            let path = mount.path(log.path());
            // Until the last handle is closed, which the kernel does in the background, its attributes are an error, and
            // so may be all that asks for them first. Then it is shown as unreadable.
            let meta = eventually("it is closed", || fs::metadata(&path).ok());
            assert_eq!((meta.len(), meta.mode() & 0o777), (0, 0));
            assert_eq!(xattr(&path, "auth").unwrap(), "failed", "{verify} {harm:?}");
            assert!(!xattr(&path, "error").unwrap().is_empty());
            // Known by now: it cannot be opened any more.
            assert_eq!(errno(File::open(&path)), libc::EBADMSG);
            assert!(mount.log().contains(&log.key()), "{harm:?} is in the log");
        }
    }
}

/// A wrong answer that is given once looks like damage of the object. That is believed, until SIGHUP, and by those who have
/// the file open even then: to them it must not become another one.
#[test]
fn a_verdict_is_found_anew_after_sighup() {
    let server = Server::start();
    // A large one, and one that its first request brings whole.
    let texts = [archive::noise(1, LEN), archive::noise(2, 10_000)];
    let logs = [0, 1].map(Log::at);
    for (log, text) in logs.iter().zip(&texts) {
        archive::put(&server, log, SealAs::V2, &archive::gzip_level(text, 1));
    }
    let mount = Setup::s3(&server).mount();
    let paths = logs.each_ref().map(|log| mount.path(log.path()));
    server.set_hook(|seen| seen.is_get().then(|| Reply::Edit(Arc::new(|_, body| body[0] ^= 1))));
    // The end of the large one is looked at with nothing changed that matters.
    let open = File::open(&paths[0]).unwrap();
    assert_eq!(errno(open.read_at(&mut [0; 10], 0)), libc::EBADMSG);
    assert_eq!(errno(fs::read(&paths[1])), libc::EBADMSG);
    server.clear_hook();
    for path in &paths {
        assert_eq!(errno(fs::read(path)), libc::EBADMSG, "it holds while the version is the same");
    }
    let is = |part: &str, name: &str, n: u64| {
        let status: Value = serde_json::from_slice(&fs::read(mount.path(".logarchivefs/status.json")).ok()?).ok()?;
        (status[part][name] == n).then_some(())
    };
    eventually("one of them is still open", || is("open", "files", 1));
    mount.signal(libc::SIGHUP);
    eventually("the other one is forgotten", || is("objects", "failed", 1));
    assert!(fs::read(&paths[1]).unwrap() == texts[1]);
    assert_eq!(errno(open.read_at(&mut [0; 10], 0)), libc::EBADMSG);
    drop(open);
    eventually("it is closed", || is("open", "files", 0));
    mount.signal(libc::SIGHUP);
    eventually("it is forgotten, too", || is("objects", "failed", 0));
    assert!(fs::read(&paths[0]).unwrap() == texts[0]);
}

/// `stream` gives text before the tag is known; `full` does not. All but the first two megabytes of the object are held
/// back by the server until the test lets them go.
#[test]
fn stream_gives_text_before_the_tag_is_known() {
    let server = Server::start();
    let text = archive::noise(2, LEN);
    put(&server, &Log::at(0), Harm::Tag, &text);
    let mount = Setup::s3(&server).args(["--verify", "stream"]).mount();
    let go = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&go);
    server.set_hook(move |r| {
        let later = r.range.as_deref().is_some_and(|r| !r.starts_with("bytes=0-") && !r.starts_with("bytes=-"));
        (r.is_get() && later && !gone.load(Ordering::Relaxed)).then(|| Reply::error(503, "SlowDown"))
    });
    let file = File::open(mount.path(Log::at(0).path())).unwrap();
    let mut first = vec![0; 100_000];
    file.read_exact_at(&mut first, 0).unwrap();
    assert!(first == text[..100_000]);
    let next = |r: &Seen| r.range.as_deref().is_some_and(|r| r.starts_with("bytes=2097152-"));
    eventually("the next is asked for", || server.requests().iter().any(next).then_some(()));
    go.store(true, Ordering::Relaxed);
    assert_eq!(errno(file.read_at(&mut first, LEN as u64 - 100)), libc::EBADMSG);
    server.clear_hook();

    let mount = Setup::s3(&server).mount();
    let file = File::open(mount.path(Log::at(0).path())).unwrap();
    assert_eq!(errno(file.read_at(&mut first, 0)), libc::EBADMSG, "full: the first read");
}

/// Tools ask for the size of what they have opened, so they meet the damage there or in a read: they must fail.
#[test]
fn tools_never_end_well_on_a_damaged_file() {
    const TOOLS: [&str; 9] = [
        "cat F",
        "wc -c F",
        "wc -l F",
        "tail -c 100 F",
        "tail -n 2 F",
        "dd if=F bs=77777 status=none",
        "md5sum F",
        "grep -c no-such-text F",
        "cp F /dev/null",
    ];
    let server = Server::start();
    let text = archive::noise(3, LEN / 4);
    let place = |harm: usize, tool: usize| Log::at((harm * 100 + tool) as i64);
    for (h, harm) in HARMS.into_iter().enumerate() {
        for t in 0..TOOLS.len() {
            put(&server, &place(h, t), harm, &text);
        }
    }
    let mut wrong = Vec::new();
    for verify in ["full", "stream"] {
        let mount = Setup::s3(&server).args(["--verify", verify]).mount();
        for (h, harm) in HARMS.into_iter().enumerate() {
            for (t, tool) in TOOLS.iter().enumerate() {
                // Twice: while the damage is unknown, and when it is known.
                for round in ["first", "second"] {
                    let output = mount.sh(&tool.replace('F', &place(h, t).path()));
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    // grep ends with 1 if it finds nothing and with 2 if something is wrong.
                    let well = output.status.success() || tool.starts_with("grep") && output.status.code() != Some(2);
                    if well || !stderr.contains("Bad message") {
                        wrong.push(format!("{verify} {harm:?} {tool} ({round}): {}: {stderr}", output.status));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} ended well or without the reason:\n{}", wrong.len(), wrong.join("\n"));
}

/// Somebody looks at the folder while the damaged file is open.
#[test]
fn a_stat_beside_an_open_damaged_file_does_not_end_it_early() {
    let server = Server::start();
    for n in 0..2 {
        put(&server, &Log::at(n), HARMS[2 * n as usize], &archive::noise(4, LEN));
    }
    let mount = Setup::s3(&server).mount();
    for n in 0..2 {
        let path = mount.path(Log::at(n).path());
        let mut file = File::open(&path).unwrap();
        // Whatever these say.
        fs::metadata(&path).ok();
        mount.sh("ls -lR .");
        let mut got = Vec::new();
        assert_eq!(errno(file.read_to_end(&mut got)), libc::EBADMSG, "{} bytes and a clean end", got.len());
    }
}

/// The whole object has held; then the store serves other bytes under the same version. GCM is CTR: who knows the text could
/// have made them say anything.
#[test]
fn bytes_changed_after_they_were_verified_are_not_served() {
    let server = Server::start();
    let text = archive::noise(6, 40_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip_level(&text, 1));
    // Too little for all of it: some is fetched again.
    let mount = Setup::s3(&server).args(["--memory", "32MiB"]).mount();
    let file = File::open(mount.path(Log::at(0).path())).unwrap();
    file.read_exact_at(&mut [0], text.len() as u64 - 1).unwrap();
    let flip = |body: &mut Vec<u8>| body.iter_mut().step_by(1000).for_each(|b| *b ^= 1);
    server.set_hook(move |seen| seen.is_get().then(|| Reply::Edit(Arc::new(move |_, body| flip(body)))));
    let mut buf = vec![0; 1 << 20];
    let mut refused = 0;
    for offset in (0..text.len()).step_by(buf.len()).rev() {
        forget_pages(&file);
        match file.read_at(&mut buf, offset as u64) {
            Ok(got) => assert!(buf[..got] == text[offset..offset + got], "another text at {offset}"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::EBADMSG), "{e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "nothing was asked for again: the test shows nothing");
}

#[test]
fn an_archived_object_says_what_to_do() {
    let server = Server::start();
    let log = Log::at(0);
    let gzip = archive::gzip(b"cold\n");
    let (metadata, body) = archive::sealed(SealAs::V2, 0, &gzip, &mut logarchivefs::demo::logs::Random::new(1));
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    server.put_class(&log.key(), &metadata, body.clone(), "GLACIER");
    let mount = Setup::s3(&server).mount();
    let path = mount.path(log.path());
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o777), (0, 0));
    assert_eq!(errno(File::open(&path)), libc::EREMOTE);
    assert!(mount.log().contains("restore"), "{}", mount.log());
    assert_eq!(xattr(&path, "storage_class").unwrap(), "GLACIER");
    let error = xattr(&path, "error").expect("DESIGN section 5: named in `error`, with what to do");
    assert!(error.contains("restore"), "{error}");
    assert!(xattrs(&path).iter().any(|n| n == "error"));

    // Restored: readable at once, and whole.
    server.put_class(&log.key(), &metadata, body, "STANDARD");
    mount.signal(libc::SIGHUP);
    eventually("it is restored", || match fs::read(&path) {
        Ok(text) => {
            assert_eq!(text, b"cold\n", "a short read");
            Some(())
        }
        Err(_) => None,
    });
}

#[test]
fn a_file_without_its_key_is_there_and_refused() {
    let server = Server::start();
    let log = Log { master: 7, ..Log::at(0) };
    archive::put(&server, &log, SealAs::V2, &archive::gzip(b"secret\n"));
    let mount = Setup::s3(&server).mount();
    server.forget();
    let path = mount.path(log.path());
    assert_eq!(mount.out("find . -type f | wc -l"), "1");
    assert_eq!(errno(File::open(&path)), libc::ENOKEY);
    assert!(mount.log().contains(&archive::key_sum(7)), "{}", mount.log());
    assert!(server.requests().iter().all(|r| !r.is_get()), "a missing key costs no request");
}
