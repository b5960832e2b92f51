//! From the mount's beginning to its end: signals, unmounting from outside, a killed program, going to the background.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::cache::Cache;
use crate::common::mounted::{Mount, Setup, errno};
use crate::common::s3::{Reply, Server};
use crate::common::watch::{detach, eventually, is_mounted, kill, run, steady, unmount};
use crate::secrets::locks_keys;

fn server() -> Server {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&archive::text(1, 100)));
    archive::put(&server, &Log::at(9), SealAs::V2, &archive::gzip(&archive::noise(1, 5_000_000)));
    server
}

fn ends_well(mount: &mut Mount) {
    let status = mount.wait();
    assert_eq!(status.code(), Some(0), "{}{}", mount.stderr(), mount.log());
    assert!(!is_mounted(mount.root()));
    // The folder is a plain one again.
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 0);
    fs::write(mount.path("file"), "x").unwrap();
}

#[test]
fn signals_unmount() {
    let server = server();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut mount = Setup::s3(&server).mount();
        assert_eq!(mount.out("ls"), "prod");
        mount.signal(signal);
        ends_well(&mut mount);
    }
}

#[test]
fn signals_unmount_a_mount_in_use() {
    let server = server();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut mount = Setup::s3(&server).mount();
        let mut file = File::open(mount.path(Log::at(9).path())).unwrap();
        let mut buf = [0; 1000];
        file.read_exact(&mut buf).unwrap();
        // And somebody's working directory, as it is that of a shell.
        let mut shell = Command::new("sleep").arg("1000").current_dir(mount.path("prod")).spawn().unwrap();
        mount.signal(signal);
        ends_well(&mut mount);
        // The reader is told; it does not hang and does not take it for the end of the file.
        let mut rest = Vec::new();
        let failed = errno(file.read_to_end(&mut rest));
        assert!([libc::ENOTCONN, libc::ECONNABORTED].contains(&failed), "{failed}");
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}

/// The store does not answer, and readers wait: the end does not.
#[test]
fn a_signal_ends_waiting_readers() {
    let server = server();
    let mut mount = Setup::s3(&server).mount();
    assert_eq!(mount.out("find . -type f | wc -l"), "2");
    server.forget();
    server.set_hook(|r| r.is_get().then_some(Reply::Hang));
    let path = mount.path(Log::at(0).path());
    let reader = std::thread::spawn(move || errno(fs::read(path)));
    eventually("the reader waits", || server.requests().iter().any(|r| r.is_get()).then_some(()));
    mount.signal(libc::SIGTERM);
    ends_well(&mut mount);
    assert_ne!(reader.join().unwrap(), 0);
}

/// From SIGTERM to the end of the program, whatever goes on.
const END: Duration = Duration::from_secs(2);

/// A scan of which more and more comes, and one of which nothing does: no request would be given up for minutes. With a
/// cache folder and an audit log, there is also something to be written at the end, and the folder's lock does not come.
#[test]
fn a_signal_ends_scans() {
    steady(scans_that_end);
}

fn scans_that_end() {
    let server = Server::start();
    let text = archive::noise(1, 60_000_000);
    let gzip = archive::gzip_level(&text, 1);
    let logs = [0, 1].map(Log::at);
    logs.iter().for_each(|log| drop(archive::put(&server, log, SealAs::V2, &gzip)));
    let well = Log::at(2);
    archive::put(&server, &well, SealAs::V2, &archive::gzip_level(&text[..2_000_000], 1));
    let (slow, still) = (logs[0].key(), logs[1].key());
    // The end of each object comes at once, and tells what it is.
    server.set_hook(move |r| {
        let run = r.is_get() && r.range.as_deref().is_some_and(|range| !range.starts_with("bytes=-"));
        match run {
            true if r.key == slow => Some(Reply::Cut(200_000)),
            true if r.key == still => Some(Reply::Stall(100_000)),
            _ => None,
        }
    });
    for (verify, keeps) in [("full", false), ("stream", false), ("full", true), ("stream", true)] {
        // In memory: the disk of a busy machine may take as long as all of this.
        let kept = Cache::new();
        let (cache, audit) = (kept.path(), kept.beside("audit"));
        let mut setup = Setup::s3(&server).args(["--verify", verify, "--request-deadline", "10m"]);
        if keeps {
            setup = setup.args([Path::new("--cache-dir"), &cache, Path::new("--audit-log"), &audit]);
        }
        let mut mount = setup.mount();
        server.forget();
        let readers: Vec<_> = (0..40)
            .map(|n| {
                let path = mount.path(logs[n % logs.len()].path());
                std::thread::spawn(move || errno(fs::read(path)))
            })
            .collect();
        let asked = |log: &Log, n| server.requests().iter().filter(|r| r.key == log.key()).count() > n;
        eventually("one scan waits", || asked(&logs[1], 1).then_some(()));
        eventually("and the other goes on", || asked(&logs[0], 20).then_some(()));
        let lock = keeps.then(|| File::open(cache.join("logarchivefs-cache-1")).unwrap());
        lock.iter().for_each(|lock| lock.lock().unwrap());
        if keeps {
            // Now there is something that waits to be written.
            assert!(fs::read(mount.path(well.path())).unwrap() == text[..2_000_000]);
        }
        let start = Instant::now();
        mount.signal(libc::SIGTERM);
        ends_well(&mut mount);
        let took = start.elapsed();
        assert!(took < END, "--verify {verify}, cache folder and audit log {keeps}: the end took {took:?}");
        readers.into_iter().for_each(|reader| assert_ne!(reader.join().unwrap(), 0));
    }
}

#[test]
fn an_unmount_from_outside_ends_the_program() {
    let server = server();
    for lazily in [false, true] {
        let mut mount = Setup::s3(&server).mount();
        assert_eq!(mount.out("ls"), "prod");
        let mut fusermount = Command::new("fusermount3");
        fusermount.args(if lazily { &["-u", "-z"][..] } else { &["-u"] }).arg(mount.root());
        assert!(run(&mut fusermount).status.success());
        ends_well(&mut mount);
    }
}

/// `umount -l`: out of the tree at once, but what is open goes on, and the program ends with the last of it.
#[test]
fn handles_go_on_after_a_lazy_unmount() {
    let server = server();
    let mut mount = Setup::s3(&server).mount();
    let mut begun = File::open(mount.path(Log::at(9).path())).unwrap();
    let mut text = vec![0; 1000];
    begun.read_exact(&mut text).unwrap();
    let mut untouched = File::open(mount.path(Log::at(0).path())).unwrap();
    assert!(run(Command::new("fusermount3").args(["-u", "-z"]).arg(mount.root())).status.success());
    assert!(!is_mounted(mount.root()));
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 0);
    begun.read_to_end(&mut text).unwrap();
    assert!(text == archive::noise(1, 5_000_000));
    drop(begun);
    text.clear();
    untouched.read_to_end(&mut text).unwrap();
    assert!(text == archive::text(1, 100));
    drop(untouched);
    ends_well(&mut mount);
}

#[test]
fn a_busy_mount_stays_after_a_plain_unmount() {
    let server = server();
    let mount = Setup::s3(&server).mount();
    let _file = File::open(mount.path(Log::at(0).path())).unwrap();
    let output = run(Command::new("fusermount3").arg("-u").arg(mount.root()));
    assert!(!output.status.success());
    assert_eq!(mount.out("ls"), "prod");
}

#[test]
fn a_killed_program_leaves_a_dead_mount_that_the_next_one_removes() {
    let server = server();
    let mut dead = Setup::s3(&server).mount();
    let file = File::open(dead.path(Log::at(0).path())).unwrap();
    dead.signal(libc::SIGKILL);
    assert!(!dead.wait().success());
    assert!(is_mounted(dead.root()));
    // Not `stat`: the kernel still has the root's attributes.
    assert_eq!(errno(fs::read_dir(dead.root())), libc::ENOTCONN);
    drop(file);

    let next = Setup::s3(&server).on(dead.root()).mount();
    assert_eq!(next.out("find . -type f | wc -l"), "2");
    assert!(next.log().contains("daemon has died"), "{}", next.log());
    drop(next);
    assert!(!is_mounted(dead.root()), "neither the dead one nor the new one is left");
}

#[test]
fn the_first_of_two_mounts_is_unharmed() {
    let server = server();
    let first = Setup::s3(&server).mount();
    let file = File::open(first.path(Log::at(9).path())).unwrap();
    // It is all there: nothing goes on in the background.
    assert_eq!(file.metadata().unwrap().len(), 5_000_000);
    let seen = server.requests().len();
    let (code, stderr) = Setup::s3(&server).on(first.root()).refused();
    assert_eq!(code, 3);
    assert!(
        stderr.contains("mounted on") && stderr.contains("fusermount3 -u") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert_eq!(server.requests().len(), seen, "refused before anything was asked");
    assert_eq!(first.out("find . -type f | wc -l"), "2");
    assert!(file.metadata().is_ok() && is_mounted(first.root()));
}

/// Processes that have `path` in their command line and our program's name.
fn daemons(path: &Path) -> Vec<u32> {
    let path = path.to_str().unwrap().as_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|b| *b == 0);
        let ours = words.next().is_some_and(|w| w.ends_with(b"/logarchivefs"));
        if ours && words.any(|w| w == path) {
            found.push(pid);
        }
    }
    found
}

#[test]
fn the_background_mount_answers_when_the_command_returns() {
    let server = server();
    for signal in [Some(libc::SIGTERM), None] {
        let setup = Setup::s3(&server).args(["--daemon"]);
        let root = setup.path().to_owned();
        let output = run(&mut setup.command());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let answers = fs::read_dir(&root).map(|d| d.count());
        let pids = daemons(&root);
        let text = fs::read(root.join(Log::at(0).path()));
        let locked = pids.iter().all(|pid| locks_keys(*pid));
        match signal {
            Some(signal) => pids.iter().for_each(|pid| kill(*pid, signal)),
            None => unmount(Command::new("fusermount3").arg("-u").arg(&root)),
        }
        let ended = eventually("the daemon ends", || daemons(&root).is_empty().then_some(true));
        let left = is_mounted(&root);
        detach(&root);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
        assert!(output.stdout.is_empty());
        assert_eq!(answers.unwrap(), 1);
        assert_eq!(pids.len(), 1, "one process serves it");
        assert!(locked, "the locks of the process that went away are none of this one's");
        assert_eq!(text.unwrap(), archive::text(1, 100));
        assert!(ended && !left);
    }
}

#[test]
fn the_background_mount_says_why_it_failed() {
    let server = server();
    for (setup, code, word) in [
        (Setup::s3(&server).bucket("nowhere"), 3, "nowhere"),
        (Setup::s3(&server).keys("not base64!"), 3, "line 1"),
        (Setup::s3(&server).on(Path::new("/nonexistent/mnt")), 3, "does not exist"),
    ] {
        let setup = setup.args(["--daemon"]);
        let root = setup.path().to_owned();
        let (got, stderr) = setup.refused();
        assert_eq!(got, code, "{stderr}");
        assert!(stderr.contains(word) && stderr.lines().count() == 1, "{stderr}");
        assert!(daemons(&root).is_empty());
    }
}
