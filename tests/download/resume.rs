//! Runs that are broken off, and the ones after them.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use logarchivefs::envelope::SealAs;

use super::run::{JOURNAL, Place};
use crate::common::archive::{self, Log, sha256};
use crate::common::s3::{Reply, Server};
use crate::common::watch::eventually;

/// Small logs of one container, and the one whose content never comes.
fn stalled(server: &Server) -> (Vec<Log>, Vec<String>, Log) {
    let mut logs: Vec<Log> = (0..20).map(|n| Log::at(100 * n)).collect();
    let mut sums = Vec::new();
    for (n, log) in logs.iter().enumerate() {
        let text = archive::text(n as u64, 30);
        archive::put(server, log, SealAs::V2, &archive::gzip(&text));
        sums.push(sha256(&text));
    }
    let last = logs.pop().unwrap();
    let key = last.key();
    server.set_hook(move |r| (r.key == key).then_some(Reply::Stall(1000)));
    (logs, sums, last)
}

/// All but the last log have arrived, and that has been asked for.
fn midway(server: &Server, place: &Place, last: &Log, files: usize) {
    eventually("all but one are there, and that one is on its way", || {
        let asked = server.requests().iter().any(|r| r.key == last.key());
        let there = place.files().keys().filter(|name| !name.contains(".part")).count();
        (asked && place.temporaries() == 1 && there == files).then_some(())
    });
}

fn gets(server: &Server) -> Vec<String> {
    server.requests().into_iter().filter(|r| r.is_get()).map(|r| r.key).collect()
}

fn resumed_after(signal: i32, code: Option<i32>, left: usize, form: &[&str], files_each: usize) {
    let server = Server::start();
    let (logs, sums, last) = stalled(&server);
    let place = Place::s3(&server);
    let running = place.start(form);
    midway(&server, &place, &last, logs.len() * files_each);
    running.signal(signal);
    let ended = running.wait();
    assert_eq!(ended.code, code, "{}", ended.stderr);
    assert_eq!(place.temporaries(), left, "{}", ended.stderr);
    if code.is_some() {
        assert!(ended.stderr.contains("19 downloaded") && ended.stderr.contains("same command"), "{}", ended.stderr);
    }
    let before = place.files();
    server.clear_hook();
    server.forget();
    let said = place.works(form);
    assert!(said.starts_with("1 downloaded") && said.contains("19 there already"), "{said}");
    assert_eq!(gets(&server), [last.key()], "what is finished costs no request");
    let after = place.files();
    assert!(before.iter().filter(|(name, _)| !name.contains(".part")).all(|(name, file)| after[name] == *file));
    if form.is_empty() {
        for (log, sum) in logs.iter().chain([&last]).zip(&sums) {
            assert_eq!(&after[&log.path()].1, sum);
        }
    }
    server.forget();
    let said = place.works(form);
    assert!(said.starts_with("0 downloaded") && gets(&server).is_empty(), "{said}");
}

#[test]
fn kill_9_leaves_a_temporary_file_that_the_next_run_removes() {
    resumed_after(libc::SIGKILL, None, 1, &[], 1);
}

#[test]
fn ctrl_c_leaves_none() {
    resumed_after(libc::SIGINT, Some(130), 0, &["--gzip"], 1);
}

#[test]
fn nor_does_sigterm() {
    resumed_after(libc::SIGTERM, Some(143), 0, &["--sealed"], 2);
}

#[test]
fn one_run_at_a_time() {
    let server = Server::start();
    let (logs, _, last) = stalled(&server);
    let place = Place::s3(&server);
    let running = place.start(&[]);
    midway(&server, &place, &last, logs.len());
    let second = crate::common::watch::run(&mut place.command(&[]));
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("another download"), "{said}");
    assert_eq!(place.temporaries(), 1, "the other's temporary file is not touched");
    drop(running);
    server.clear_hook();
    place.works(&[]);
}

#[test]
fn a_journal_with_torn_and_foreign_lines() {
    let server = Server::start();
    let logs = [Log::at(0), Log::at(100)];
    for (n, log) in logs.iter().enumerate() {
        archive::put(&server, log, SealAs::V2, &archive::gzip(&archive::text(n as u64, 30)));
    }
    let place = Place::s3(&server);
    place.works(&[&logs[0].path()]);
    let mut journal = fs::OpenOptions::new().append(true).open(place.path(JOURNAL)).unwrap();
    journal.write_all(b"\xff\n{}\n[1]\n{\"path\":\"x\",\"key\":\"y").unwrap();
    server.forget();
    place.works(&[]);
    assert_eq!(gets(&server), [logs[1].key()]);
    server.forget();
    place.works(&[]);
    assert_eq!(gets(&server), [""; 0], "the line after a torn one counts");
}

/// The body got its name and the metadata did not: a run that was killed in between.
#[test]
fn half_a_sealed_object_is_made_whole() {
    let server = Server::start();
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(&archive::text(1, 30)));
    let place = Place::s3(&server);
    place.works(&["--sealed"]);
    let whole = place.files();
    let meta = whole.keys().find(|name| name.ends_with(".meta.json")).unwrap();
    fs::remove_file(place.path(meta)).unwrap();
    place.works(&["--sealed"]);
    assert_eq!(place.files(), whole.clone());
    // The other way round nothing of ours can be.
    let body = meta.strip_suffix(".meta.json").unwrap();
    fs::remove_file(place.path(body)).unwrap();
    let ended = place.run(&["--sealed"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    place.works(&["--sealed", "--force"]);
    assert_eq!(place.files(), whole);
}

/// Damage in a sealed copy is named on every run, without asking the store again.
#[test]
fn a_damaged_copy_is_named_again() {
    let server = Server::start();
    let logs = [Log::at(0), Log::at(100)];
    archive::put(&server, &logs[0], SealAs::V2, &archive::gzip(&archive::text(1, 30)));
    archive::put_changed(&server, &logs[1], SealAs::V2, &archive::gzip(&archive::text(2, 30)), |body| body[9] ^= 1);
    let place = Place::s3(&server);
    for gets_wanted in [2, 0] {
        server.forget();
        let ended = place.run(&["--sealed"]);
        assert_eq!((ended.code, gets(&server).len()), (Some(5), gets_wanted), "{}", ended.stderr);
        assert!(ended.stderr.contains(&logs[1].key()) && !ended.stderr.contains(&logs[0].key()), "{}", ended.stderr);
        assert!(ended.stderr.contains("the copy is kept"), "{}", ended.stderr);
    }
}

/// What no other file would fare better with ends the run.
#[test]
fn expired_credentials_end_the_run_at_once() {
    let server = Server::start();
    for n in 0..400 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip(b"x"));
    }
    let expired = AtomicBool::new(false);
    server.set_hook(move |r| {
        let before = expired.fetch_or(r.is_get(), Ordering::SeqCst);
        before.then(|| Reply::error(400, "ExpiredToken"))
    });
    let place = Place::s3(&server);
    let ended = place.run(&[]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(gets(&server).len() < 400 && ended.stderr.lines().count() < 5, "{}", ended.stderr);
}

/// What is listed is downloaded, and the run is known to be short.
#[test]
fn a_listing_that_fails_is_never_a_short_answer() {
    let server = Server::start();
    let [first, second] = ["apps-321", "databases-7"].map(|resource| Log { resource: resource.into(), ..Log::at(0) });
    for log in [&first, &second] {
        archive::put(&server, log, SealAs::V2, &archive::gzip(&archive::text(1, 30)));
    }
    for (failing, other) in [("apps-321", &second), ("databases-7", &first)] {
        for form in [&[][..], &["--gzip"], &["--sealed"], &["prod"]] {
            let place = Place::s3(&server);
            server.set_hook(move |r| (r.is_list() && r.query.contains(failing)).then(|| Reply::error(503, "SlowDown")));
            let ended = place.run(&[&["--request-deadline", "4s"], form].concat());
            assert_eq!(ended.code, Some(1), "{failing} {form:?}: {}", ended.stderr);
            assert!(ended.stderr.contains("SlowDown"), "{}", ended.stderr);
            assert!(ended.stderr.contains("1 downloaded") && ended.stderr.contains("1 failed"), "{}", ended.stderr);
            assert_eq!(place.journal().first().map(|line| line["key"].as_str() == Some(&other.key())), Some(true));
            server.clear_hook();
            let said = place.works(form);
            assert!(said.contains("1 downloaded") && said.contains("1 there already"), "{said}");
        }
    }
}
