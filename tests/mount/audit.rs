//! `mount --audit-log`: who opened what, as the kernel says it, whatever becomes of the mount, the disk and the file.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use logarchivefs::envelope::SealAs;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, PROGRAM, Setup, errno, forget_pages};
use crate::common::s3::{Reply, Server};
use crate::common::watch::{detach, eventually, run};

/// A log file in a folder of its own.
struct Audit(TempDir);

impl Audit {
    fn new() -> Audit {
        Audit(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("audit.jsonl")
    }

    fn setup(&self, server: &Server) -> Setup {
        Setup::s3(server).args(["--audit-log".as_ref(), self.file().as_os_str()])
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).unwrap();
        // The last one may be on its way.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    /// From now on nothing of the text of a large object comes before its open is in the log.
    fn opens_first(&self, server: &Server, log: &Log) {
        let (file, key) = (self.file(), log.key());
        server.set_hook(move |seen| {
            let text = seen.key == key && seen.range.as_deref().is_some_and(|range| !range.starts_with("bytes=-"));
            let opened = || fs::read_to_string(&file).is_ok_and(|log| log.contains(&key));
            (text && !opened()).then(|| Reply::error(503, "SlowDown"))
        });
    }

    /// The lines of one kind, once there are so many; a close comes when its program may have gone already.
    fn of(&self, event: &str, count: usize) -> Vec<Value> {
        eventually("the lines are there", || {
            let lines: Vec<Value> = self.lines().into_iter().filter(|line| line["event"] == event).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    fn verify(&self, more: &[&str]) -> (i32, Value) {
        let mut command = Command::new(PROGRAM);
        command.args(["verify", "--format", "json", "--audit-log"]).arg(self.file()).args(more);
        let output = run(&mut command);
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The log is whole and has ended in order; its report.
    fn whole(&self) -> Value {
        let (code, report) = self.verify(&[]);
        assert!(code == 0 && report["whole"] == true && report["ended"] == true, "{code}: {report}");
        report
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the audit log\n{}---", fs::read_to_string(self.file()).unwrap_or_default());
        }
    }
}

fn terminate(mount: &mut Mount) {
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
}

fn small(server: &Server) -> (Log, usize) {
    let text = archive::text(1, 100);
    archive::put(server, &Log::at(0), SealAs::V2, &archive::gzip(&text));
    (Log::at(0), text.len())
}

#[test]
fn each_open_says_who_what_and_how_much() {
    let server = Server::start();
    let (log, len) = small(&server);
    let big = Log::at(9);
    let text = archive::noise(1, 5_000_000);
    let (etag, version) = archive::put(&server, &big, SealAs::V2, &archive::gzip(&text));
    let audit = Audit::new();
    let mut mount = audit.setup(&server).args(["--allow-other", "--file-mode", "0444", "--dir-mode", "0555"]).mount();
    fs::set_permissions(mount.root().parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    let start = &audit.lines()[0];
    assert_eq!((&start["event"], &start["n"], &start["pid"]), (&"start".into(), &1.into(), &mount.pid().into()));
    assert_eq!((&start["source"], &start["mountpoint"]), (&"s3://archive/".into(), &mount.root().to_str().into()));
    // Listings and attributes are no opens.
    mount.out("find . -type f -exec stat {} + | grep -c File:");

    audit.opens_first(&server, &big);
    // Two users, by process and name, also of a program with threads.
    let pid = mount.out(&format!("sh -c 'echo $$; exec cat {} >/dev/null'", big.path()));
    let nobody = ["--reuid=65534", "--regid=65533", "--clear-groups", "grep", "-c", "x"];
    let grep = run(Command::new("setpriv").args(nobody).arg(mount.path(log.path())));
    assert!(!grep.stdout.is_empty() && grep.stderr.is_empty(), "{grep:?}");
    let script = "import os, sys, threading
t = threading.Thread(target=lambda: open(sys.argv[1], 'rb').read(7)); t.start(); t.join(); print(os.getpid())";
    let python = mount.out(&format!("python3 -c \"{script}\" {}", big.path()));

    let closes = audit.of("close", 3);
    let opens = audit.of("open", 3);
    for (open, close) in opens.iter().map(|open| (open, closes.iter().find(|c| c["open"] == open["n"]).unwrap())) {
        for field in ["uid", "gid", "pid", "command", "key", "etag", "version_id"] {
            assert_eq!(open[field], close[field], "{field}");
        }
        assert_eq!(close["auth"], "proven");
    }
    let close = |n: usize| closes.iter().find(|c| c["open"] == opens[n]["n"]).unwrap();
    let said = |line: &Value| ["uid", "gid", "pid", "command"].map(|field| line[field].to_string()).join(" ");
    assert_eq!(said(&opens[0]), format!("0 0 {pid} \"cat\""));
    assert_eq!((&opens[0]["key"], &opens[0]["etag"]), (&big.key().into(), &etag.into()));
    assert_eq!((&opens[0]["version_id"], &opens[0]["auth"]), (&version.into(), &"unproven".into()));
    // The kernel may ask for a page twice, and never gets one that is not counted.
    let all = |n: usize, len: usize| (len..len + len / 2).contains(&(close(n)["bytes"].as_u64().unwrap() as usize));
    assert!(opens[0]["kept"] == false && all(0, text.len()), "{}", close(0));
    assert!(said(&opens[1]).starts_with("65534 65533 ") && opens[1]["command"] == "grep", "{}", opens[1]);
    assert!(opens[1]["key"] == log.key() && all(1, len), "{}", close(1));
    assert!(said(&opens[2]).starts_with(&format!("0 0 {python} \"python3")), "{}", opens[2]);
    // What the kernel had kept from `cat` it need not ask for.
    assert_eq!((&opens[2]["kept"], &opens[2]["auth"]), (&true.into(), &"proven".into()));
    assert!(close(2)["bytes"].as_u64().unwrap() < 1_000_000, "{}", close(2));

    // A copy of the descriptor is no other open, and a mapping no other read.
    let file = File::open(mount.path(big.path())).unwrap();
    forget_pages(&file);
    let twin = file.try_clone().unwrap();
    file.read_exact_at(&mut [0; 10], 4_000_000).unwrap();
    drop(file);
    twin.read_exact_at(&mut [0; 10], 4_000_000).unwrap();
    assert_eq!(audit.of("close", 3).len(), 3, "still open");
    drop(twin);
    let close = audit.of("close", 4).pop().unwrap();
    let bytes = close["bytes"].as_u64().unwrap();
    assert!((10..5_000_000).contains(&bytes), "{close}");
    assert_eq!(close["pid"], std::process::id());

    terminate(&mut mount);
    let report = audit.whole();
    assert_eq!((&report["opens"], &report["closes"], &report["mounts"]), (&4.into(), &4.into(), &1.into()));
    assert_eq!(fs::metadata(audit.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Of those that reach us: as another user than root, the kernel itself refuses what has mode 0000.
#[test]
fn a_refused_open_is_a_line() {
    let server = Server::start();
    small(&server);
    let keyless = Log { master: 7, ..Log::at(9) };
    archive::put(&server, &keyless, SealAs::V2, &archive::gzip(b"x"));
    let damaged = Log::at(99);
    archive::put_changed(&server, &damaged, SealAs::V2, &archive::gzip(&archive::noise(1, 2_000_000)), |body| {
        body[9] ^= 1
    });
    let audit = Audit::new();
    let mut mount = audit.setup(&server).mount();
    assert_eq!(errno(File::open(mount.path(keyless.path()))), libc::ENOKEY);
    let refused = audit.of("refused", 1).remove(0);
    assert_eq!((&refused["error"], &refused["key"]), (&"no-key".into(), &keyless.key().into()));
    assert_eq!((&refused["uid"], &refused["pid"]), (&0.into(), &std::process::id().into()));
    assert!(refused["reason"].as_str().unwrap().contains(&archive::key_sum(7)), "{refused}");
    // Damage is found while it is read: the close tells, and then the next open is refused.
    audit.opens_first(&server, &damaged);
    assert_eq!(errno(fs::read(mount.path(damaged.path()))), libc::EBADMSG);
    let close = audit.of("close", 1).remove(0);
    assert_eq!((&close["auth"], &close["bytes"]), (&"failed".into(), &0.into()));
    // Until it is closed for the mount too, the look-up before the open says the same, and is no line.
    let refused = eventually("an open is refused", || {
        assert_eq!(errno(File::open(mount.path(damaged.path()))), libc::EBADMSG);
        audit.of("refused", 1).into_iter().nth(1)
    });
    assert_eq!((&refused["error"], &refused["key"]), (&"tag-mismatch".into(), &damaged.key().into()));
    terminate(&mut mount);
    audit.whole();
}

#[test]
fn the_chain_goes_on_after_a_restart_and_a_kill() {
    let server = Server::start();
    let (log, _) = small(&server);
    let audit = Audit::new();
    let mut heads = Vec::new();
    for how in [libc::SIGTERM, libc::SIGKILL, libc::SIGTERM] {
        let setup = audit.setup(&server);
        let mut mount = setup.mount();
        fs::read(mount.path(log.path())).unwrap();
        let _open = File::open(mount.path(log.path())).unwrap();
        audit.of("open", 2);
        mount.signal(how);
        mount.wait();
        // Where an auditor finds what the log must still have, whatever the level of the program's log.
        let told = mount.log();
        heads.extend(told.lines().filter_map(|l| Some(l.split_once(", head ")?.1.to_owned())));
        detach(mount.root());
        if how == libc::SIGKILL {
            let (code, report) = audit.verify(&[]);
            assert!(code == 0 && report["whole"] == true && report["ended"] == false, "{report}");
        }
    }
    let report = audit.whole();
    assert_eq!((&report["mounts"], &report["unended"], &report["opens"]), (&3.into(), &1.into(), &6.into()));
    // A mount that ends closes what is open.
    let events = audit.events();
    assert!(events.ends_with(&["close".to_owned(), "end".to_owned()]), "{events:?}");
    assert_eq!(heads.len(), 5, "three beginnings, two ends");
    for head in &heads {
        assert_eq!(audit.verify(&["--audit-head", head]).0, 0, "{head}");
    }
    // The end is cut off: only the head knows.
    let text = fs::read_to_string(audit.file()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(audit.file(), lines[..lines.len() - 3].concat()).unwrap();
    assert_eq!(audit.verify(&[]).0, 0);
    let (code, report) = audit.verify(&["--audit-head", &heads[4]]);
    assert!(code == 5 && report["whole"] == false && report["heads"][0]["n"].is_null(), "{report}");
    // A line is taken out: everybody knows.
    fs::write(audit.file(), [&lines[..4], &lines[5..]].concat().concat()).unwrap();
    let (code, report) = audit.verify(&[]);
    assert!(code == 5 && report["broken"]["line"] == 5, "{report}");
}

#[test]
fn a_moved_log_goes_on_in_a_new_file_after_sighup() {
    let server = Server::start();
    let (log, _) = small(&server);
    let audit = Audit::new();
    let mut mount = audit.setup(&server).mount();
    fs::read(mount.path(log.path())).unwrap();
    let old = audit.0.path().join("audit.jsonl.1");
    fs::rename(audit.file(), &old).unwrap();
    mount.signal(libc::SIGHUP);
    eventually("a new file", || audit.file().exists().then_some(()));
    fs::read(mount.path(log.path())).unwrap();
    audit.of("open", 1);
    terminate(&mut mount);
    assert!(!audit.whole()["continues"].is_null());
    let mut both = Command::new(PROGRAM);
    let output = run(both.args(["verify", "--audit-log"]).arg(&old).arg("--audit-log").arg(audit.file()));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("\nopens               2\n"), "{said}");
}

/// Opens fail while nothing can be written; what was open can be read and closed, and the log tells that later.
#[test]
fn a_full_disk_stops_opens_and_nothing_else() {
    let server = Server::start();
    let (log, len) = small(&server);
    let audit = Audit::new();
    let disk = Disk::new(audit.0.path(), "size=16k,mode=700");
    let mut mount = audit.setup(&server).mount();
    let path = mount.path(log.path());
    let open = File::open(&path).unwrap();
    let filler = audit.0.path().join("filler");
    let room = fs::metadata(audit.file()).unwrap().len().next_multiple_of(4096);
    assert!(fs::write(&filler, vec![0; 64 << 10]).is_err(), "the disk is full");
    // What is left is the rest of the log's last block.
    let failed = eventually("an open fails", || Some(errno(File::open(&path))).filter(|errno| *errno != 0));
    assert_eq!(failed, libc::EIO);
    assert_eq!(fs::metadata(audit.file()).unwrap().len(), room, "to the last byte");
    let mut text = vec![0; len];
    open.read_exact_at(&mut text, 0).unwrap();
    assert!(text == archive::text(1, 100));
    drop(open);
    assert_eq!(mount.out("ls"), "prod");
    let told = format!("{}: the audit log cannot be written", audit.file().display());
    eventually("it is told", || mount.log().contains(&told).then_some(()));
    assert!(mount.log().contains("No space left on device"), "{}", mount.log());
    fs::remove_file(filler).unwrap();
    drop(File::open(&path).unwrap());
    terminate(&mut mount);
    let report = audit.whole();
    assert_eq!((&report["torn"], &report["unended"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(report["opens"], report["closes"]);
    drop(disk);
}

#[test]
fn who_else_writes_to_the_log_is_told_at_once() {
    let server = Server::start();
    let (log, _) = small(&server);
    let audit = Audit::new();
    let mut mount = audit.setup(&server).mount();
    fs::OpenOptions::new().append(true).open(audit.file()).unwrap().write_all(b"x\n").unwrap();
    fs::read(mount.path(log.path())).unwrap();
    eventually("it is told", || mount.log().contains("somebody else has changed it").then_some(()));
    terminate(&mut mount);
    let (code, report) = audit.verify(&[]);
    assert!(code == 5 && report["broken"]["line"] == 2, "{report}");
}

struct Disk(PathBuf);

impl Disk {
    fn new(path: &Path, options: &str) -> Disk {
        let output = run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path));
        assert!(output.status.success(), "{output:?}");
        Disk(path.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

/// Before anything is mounted, and with --daemon before the parent has gone.
#[test]
fn a_log_that_cannot_be_is_no_mount() {
    let server = Server::start();
    let audit = Audit::new();
    let refused = |setup: Setup, words: &str| {
        let (code, stderr) = setup.refused();
        assert!(code == 3 && stderr.contains(words) && stderr.lines().count() == 1, "{code}: {stderr}");
    };
    let at = |file: &Path| Setup::s3(&server).args(["--audit-log".as_ref(), file.as_os_str()]);
    for more in [&[][..], &["--daemon"]] {
        refused(at(Path::new("/dev/full")).args(more), "/dev/full is not a regular file");
        refused(at(&audit.0.path().join("no/log")).args(more), "No such file");
    }
    let setup = Setup::s3(&server);
    let inside = setup.path().join("log");
    refused(setup.args(["--audit-log".as_ref(), inside.as_os_str()]), "--audit-log is inside the mountpoint");
    let setup = Setup::s3(&server);
    let log = setup.path().with_file_name("log");
    refused(setup.args(["--audit-log".as_ref(), log.as_os_str()]), "are one file");
    let mut mount = audit.setup(&server).mount();
    refused(audit.setup(&server), "belongs to another mount");
    terminate(&mut mount);
    audit.whole();

    let disk = Disk::new(audit.0.path(), "size=4k,mode=700");
    fs::write(audit.0.path().join("filler"), [0; 4096]).unwrap();
    refused(audit.setup(&server).args(["--daemon"]), "No space left");
    drop(disk);
}
