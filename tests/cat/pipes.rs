//! Who reads the output, and how fast.

use std::io::Read;
use std::process::{Command, Stdio};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::cache::Cache;
use crate::common::s3::{Reply, Server};
use crate::common::watch::{eventually, run};
use crate::setup::{Archive, record};

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut archive = Archive::copy();
    for n in 0..5 {
        archive.add(&Log::at(n * 100), archive::noise(n as u64, 1_000_000));
    }
    for args in ["", "--merge", "--text"] {
        let cat = archive.command([""; 0]);
        let words: Vec<String> = std::iter::once(cat.get_program())
            .chain(cat.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let script = format!("{} {args} | head -1; exit ${{PIPESTATUS[0]}}", words.join(" "));
        let done = run(Command::new("bash").args(["-c", &script]));
        assert_eq!(done.status.code(), Some(0), "{args}");
        // These lines are no records, so --text has a word to say about them.
        let err = String::from_utf8(done.stderr).unwrap();
        assert!(err.is_empty() || args == "--text" && err.lines().count() == 1, "{err}");
        assert_eq!(done.stdout.iter().filter(|b| **b == b'\n').count(), 1);
    }
}

/// The reader has not taken the first file yet, and the next ones are on their way.
#[test]
fn small_files_are_opened_ahead() {
    let server = Server::start();
    let texts: Vec<Vec<u8>> = (0..30).map(|n| archive::noise(n, 500_000 + n as usize)).collect();
    for (n, text) in texts.iter().enumerate() {
        archive::put(&server, &Log::at(n as i64 * 100), SealAs::V2, &archive::gzip(text));
    }
    let archive = Archive::s3(&server);
    let mut child = archive.command([""; 0]).stdout(Stdio::piped()).spawn().unwrap();
    let asked = |n: i64| server.requests().iter().any(|r| r.key == Log::at(n * 100).key());
    eventually("the twentieth file is asked for", || asked(20).then_some(()));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let mut want = Vec::new();
    for text in &texts {
        if want.last().is_some_and(|b| *b != b'\n') {
            want.push(b'\n');
        }
        want.extend_from_slice(text);
    }
    assert!(out == want);
    let mut keys: Vec<String> = server.requests().into_iter().filter(|r| r.is_get()).map(|r| r.key).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), count), (30, 30), "each once");
}

/// What one run has proven, the next one need not fetch: the proof is written before the command ends.
#[test]
fn a_cache_folder_serves_the_next_run() {
    let server = Server::start();
    let text = archive::noise(5, 3_000_000);
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip_level(&text, 1));
    let archive = Archive::s3(&server);
    let folder = Cache::new();
    let cache = folder.path();
    let run = || archive.command(["--cache-dir".as_ref(), cache.as_os_str()]).output().unwrap();
    assert!(run().stdout == text);
    server.forget();
    assert!(run().stdout == text);
    let ranges: Vec<_> = server.requests().into_iter().filter(|r| r.is_get()).map(|r| r.range).collect();
    assert_eq!(ranges, [Some("bytes=-64".to_owned())], "the head, and no scan");
}

/// A merge has to wait for a file; what comes before it is seen meanwhile.
#[test]
fn a_merge_that_waits_shows_what_it_has() {
    let server = Server::start();
    let early: String = (0..40).map(|n| record(f64::from(n), "stdout", "x\n")).collect();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(early.as_bytes()));
    archive::put(&server, &Log::at(1000), SealAs::V2, &archive::gzip(record(1000.0, "stdout", "y\n").as_bytes()));
    let late = Log::at(1000).key();
    server.set_hook(move |r| (r.is_get() && r.key == late).then_some(Reply::Hang));
    let archive = Archive::s3(&server);
    let path = archive.dir.path().join("out");
    let mut child = archive.command(["--merge"]).stdout(std::fs::File::create(&path).unwrap()).spawn().unwrap();
    eventually("the first file is seen", || (std::fs::read_to_string(&path).unwrap() == early).then_some(()));
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}
