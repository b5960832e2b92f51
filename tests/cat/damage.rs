//! Files that fail: named, counted, and not in the way of the others.

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::s3::{Reply, Server};
use crate::setup::{Archive, record};

const WAYS: [&[&str]; 3] = [&[], &["--merge"], &["--since", "2022-08-24"]];

fn text(n: i64) -> String {
    (0..40).map(|s| record((n + s) as f64, "stdout", "x\n")).collect()
}

/// Three files; something is wrong with the one in the middle.
fn three(change: impl FnOnce(&mut Vec<u8>), gzip: impl FnOnce(Vec<u8>) -> Vec<u8>, master: u8) -> (Server, Log) {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(text(0).as_bytes()));
    let middle = Log { master, ..Log::at(100) };
    let packed = gzip(archive::gzip(text(100).as_bytes()));
    archive::put_changed(&server, &middle, SealAs::V3, &packed, change);
    archive::put(&server, &Log::at(200), SealAs::V2, &archive::gzip(text(200).as_bytes()));
    (server, middle)
}

#[test]
fn a_file_that_fails_is_named_and_the_others_go_on() {
    let keep = |_: &mut Vec<u8>| ();
    let cases = [
        (three(|body| body[20] ^= 1, |gzip| gzip, 0), 5, "tag"),
        (three(|body| body.truncate(10), |gzip| gzip, 0), 5, ""),
        (three(keep, |gzip| gzip[..gzip.len() - 9].to_vec(), 0), 5, ""),
        (three(keep, |gzip| gzip, 7), 1, &archive::key_sum(7)),
    ];
    for ((server, middle), code, says) in &cases {
        for args in WAYS {
            let done = Archive::s3(server).cat(args.iter());
            assert_eq!((done.code, String::from_utf8(done.out).unwrap()), (*code, text(0) + &text(200)), "{args:?}");
            assert!(done.err.contains(&middle.key()) && done.err.contains(says), "{}", done.err);
            assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        }
    }
}

#[test]
fn with_full_verification_nothing_of_a_damaged_file_is_printed() {
    let server = Server::start();
    let noise = archive::noise(1, 12_000_000);
    let packed = archive::gzip_level(&noise, 1);
    archive::put_changed(&server, &Log::at(0), SealAs::V2, &packed, |body| {
        let last = body.len() - 1;
        body[last] ^= 1;
    });
    let archive = Archive::s3(&server);
    let done = archive.cat([""; 0]);
    assert_eq!((done.code, done.out.len()), (5, 0));
    let done = archive.cat(["--verify", "stream"]);
    assert_eq!(done.code, 5);
    // Whether anything was out before the damage was known is a matter of time; the last run never is.
    assert!(done.out.len() < noise.len() && noise.starts_with(&done.out));
}

#[test]
fn what_fails_alone_decides_the_exit_code() {
    let server = Server::start();
    archive::put(&server, &Log { master: 9, ..Log::at(0) }, SealAs::V2, &archive::gzip(b"x\n"));
    let done = Archive::s3(&server).cat([""; 0]);
    assert_eq!((done.code, done.out.len()), (3, 0), "{}", done.err);
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    server.set_hook(|r| r.is_get().then(|| Reply::error(503, "SlowDown")));
    let done = Archive::s3(&server).cat(["--request-deadline", "4s"]);
    assert_eq!((done.code, done.out.len()), (6, 0), "{}", done.err);
}

#[test]
fn a_listing_that_fails_is_never_a_short_answer() {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    let other = Log { resource: "databases-7".into(), ..Log::at(0) };
    archive::put(&server, &other, SealAs::V2, &archive::gzip(b"y\n"));
    server.set_hook(|r| (r.is_list() && r.query.contains("databases-7")).then(|| Reply::error(503, "SlowDown")));
    for args in WAYS {
        let done = Archive::s3(&server).cat(args.iter().chain(&["--request-deadline", "4s"]));
        assert_eq!(done.code, 1, "{args:?} {}", done.err);
        assert!(done.err.contains("SlowDown"), "{}", done.err);
    }
}
