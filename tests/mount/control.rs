//! `.logarchivefs`: hidden but there, right for every tool, alive while S3 is not. What it says is in `metrics`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logarchivefs::envelope::SealAs;
use serde_json::Value;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno, xattrs};
use crate::common::s3::{Reply, Server};
use crate::common::watch::eventually;

const FILES: [&str; 3] = ["errors.jsonl", "metrics", "status.json"];

fn server() -> Server {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&archive::text(1, 100)));
    server
}

fn without_key() -> Log {
    Log { master: 7, ..Log::at(9) }
}

fn errors(mount: &Mount) -> Vec<Value> {
    let text = fs::read_to_string(mount.path(".logarchivefs/errors.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn who_does_not_know_its_name_does_not_meet_it() {
    let server = server();
    // A stack of that name: neither hides the other in silence.
    let squatter = Log { stack: ".logarchivefs".into(), ..Log::at(1) };
    archive::put(&server, &squatter, SealAs::V2, &archive::gzip(b"x\n"));
    let mut numbers = Vec::new();
    for shown in [false, true] {
        let mount = Setup::s3(&server).args(shown.then_some("--show-control")).mount();
        let listed = if shown { ".\n..\n.logarchivefs\nprod" } else { ".\n..\nprod" };
        assert_eq!(mount.out("ls -a"), listed);
        for walk in
            ["find . -name '*.json*' -o -name metrics", "grep -rl . .", "du -a | grep -E 'status|metrics'; true"]
        {
            let met = mount.out(walk);
            assert_eq!(met.contains("/status.json"), shown, "{walk}: {met}");
        }
        assert_eq!(mount.out("ls -a .logarchivefs").lines().collect::<Vec<_>>(), [&[".", ".."], &FILES[..]].concat());
        assert_eq!(errno(fs::read_dir(mount.path(".logarchivefs/prod"))), libc::ENOENT);
        assert!(mount.log().contains(".logarchivefs/ (the stack's name is that of the mount's control folder)"));
        let told: Value = serde_json::from_str(&mount.out("cat .logarchivefs/status.json")).unwrap();
        assert_eq!(told["listed"]["left_out"], 1);
        numbers.push(mount.out("ls -di . .logarchivefs .logarchivefs/* prod .logarchivefs/.."));
    }
    assert_eq!(numbers[0], numbers[1], "inode numbers are the same in each mount");
}

#[test]
fn its_files_are_read_only_and_private() {
    let server = server();
    let mount = Setup::s3(&server).args(["--uid", "12", "--gid", "34", "--file-mode", "0440"]).mount();
    for name in FILES {
        let path = mount.path(".logarchivefs").join(name);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mode(), meta.uid(), meta.gid()), (libc::S_IFREG | 0o440, 12, 34));
        assert_eq!(errno(File::options().write(true).open(&path)), libc::EROFS);
        assert_eq!(errno(fs::remove_file(&path)), libc::EROFS);
        assert_eq!(errno(fs::write(path.with_extension("new"), "")), libc::EROFS);
        assert!(xattrs(&path).is_empty());
    }
    assert_eq!(errno(fs::create_dir(mount.path(".logarchivefs/x"))), libc::EROFS);
    assert_eq!(errno(fs::read(mount.path(".logarchivefs"))), libc::EISDIR);
    assert_eq!(errno(fs::read(mount.path(".logarchivefs/x"))), libc::ENOENT);
    // What was there when the loop asked for its size; then the present.
    assert!(errors(&mount).is_empty());
    assert!(errors(&mount).is_empty(), "none of this is a failure of the archive");
}

/// The size of each is one that programs can rely on, whether they ask before the open or after it.
#[test]
fn tools_agree_on_it() {
    let server = server();
    archive::put(&server, &without_key(), SealAs::V2, &archive::gzip(b"x"));
    let mount = Setup::s3(&server).mount();
    // A program that trusts what it was told before the open, as tar does, while the text changes.
    let path = mount.path(".logarchivefs/errors.jsonl");
    let agree = || {
        let told = fs::metadata(&path).unwrap().len();
        // It grows by a line each time.
        File::open(mount.path(without_key().path())).unwrap_err();
        fs::read(&path).unwrap().len() as u64 == told
    };
    // Once is enough: a machine may be slow, but without that care they never agree.
    assert!((0..50).any(|_| agree()));
    for _ in 0..1100 {
        assert_eq!(errno(File::open(mount.path(without_key().path()))), libc::ENOKEY);
    }
    // It changes with failures only, so that several programs see one text: a long one.
    let all = errors(&mount);
    assert_eq!(all.len(), 1000);
    assert!(all.iter().all(|e| e["errno"] == "ENOKEY" && e["kind"] == "no-key" && e["key"] == without_key().key()));
    let reason = all[0]["reason"].as_str().unwrap();
    assert!(reason.contains(&archive::key_sum(7)), "{reason}");
    let time = all[0]["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    assert_eq!(mount.log().matches("ENOKEY").count(), 1, "the log says it once");
    let text = fs::read_to_string(mount.path(".logarchivefs/errors.jsonl")).unwrap();
    let (size, last) = (text.len().to_string(), text.lines().last().unwrap());
    assert!(text.len() > 256 << 10);
    let here = "cd .logarchivefs && f=errors.jsonl && to=$(mktemp) && trap 'rm $to' EXIT";
    for (command, want) in [
        ("cat $f | wc -c", &*size),
        ("wc -c < $f", &size),
        ("stat -c %s $f", &size),
        ("find $f -printf %s", &size),
        ("cp $f $to && stat -c %s $to", &size),
        ("dd if=$f bs=1000 status=none | wc -c", &size),
        ("tar cf - $f | tar xOf - | wc -c", &size),
        ("tail -c +1 $f | wc -c", &size),
        ("python3 -c 'import sys; print(len(open(sys.argv[1]).read()))' $f", &size),
        ("wc -l < $f", "1000"),
        ("grep -c ENOKEY $f", "1000"),
        ("jq -s length $f", "1000"),
        ("tail -n 1 $f", last),
        ("tail -c 100000 $f | tail -n 1", last),
        (
            "cp $f $to && cmp $f $to && tar cf - $f | tar xOf - | cmp - $to && dd if=$f bs=777 status=none | cmp - $to",
            "",
        ),
    ] {
        assert_eq!(mount.out(&format!("{here} && {command}")), want, "{command}");
    }
    // These change all the time.
    for name in ["status.json", "metrics"] {
        let one_handle = "import os, sys; f = open(sys.argv[1], 'rb', 0); size = os.fstat(f.fileno()).st_size; \
                          end = f.seek(0, 2); f.seek(0); print(size == end == len(f.read()) > 1000)";
        assert_eq!(mount.out(&format!("python3 -c \"{one_handle}\" .logarchivefs/{name}")), "True");
    }
    for copy in ["cat $f", "cat < $f", "tar cf - $f | tar xOf -", "cp $f /dev/stdout", "head -c 1000000 $f"] {
        let told = mount.out(&format!("f=.logarchivefs/status.json; {copy} | jq -r .version"));
        assert_eq!(told, env!("CARGO_PKG_VERSION"), "{copy}");
    }
    assert_eq!(
        mount.out("tail -n 1 .logarchivefs/status.json; grep -c '^logarchivefs_keys{' .logarchivefs/metrics"),
        "}\n1"
    );
}

#[test]
fn a_handle_shows_one_text_and_the_next_one_the_present() {
    let server = server();
    let mount = Setup::s3(&server).mount();
    let path = mount.path(".logarchivefs/status.json");
    let opens = |text: &str| serde_json::from_str::<Value>(text).unwrap()["served"]["opens"].as_u64().unwrap();
    let mut old = File::open(&path).unwrap();
    let mut start = [0; 100];
    old.read_exact(&mut start).unwrap();
    for n in 1..=30 {
        fs::read(mount.path(Log::at(0).path())).unwrap();
        assert_eq!(opens(&fs::read_to_string(&path).unwrap()), n, "nothing old is shown");
    }
    let mut rest = String::new();
    old.read_to_string(&mut rest).unwrap();
    let whole = format!("{}{rest}", String::from_utf8_lossy(&start));
    assert_eq!(opens(&whole), 0);
    let mut piece = [0; 64];
    assert_eq!(old.read_at(&mut piece, whole.len() as u64 - 10).unwrap(), 10, "its own end, not that of a newer text");
    assert_eq!(old.read_at(&mut piece, whole.len() as u64 + 10).unwrap(), 0);
}

/// Before anything was listed, and with a reader that waits.
#[test]
fn it_answers_while_s3_does_not() {
    let server = server();
    let hanging = Arc::new(AtomicBool::new(false));
    let hang = Arc::clone(&hanging);
    server.set_hook(move |_| hang.load(Ordering::Relaxed).then_some(Reply::Hang));
    for listed in [false, true] {
        hanging.store(false, Ordering::Relaxed);
        let mount = Setup::s3(&server).mount();
        if listed {
            assert_eq!(mount.out("find . -type f | wc -l"), "1");
        }
        hanging.store(true, Ordering::Relaxed);
        server.forget();
        let path = mount.path(Log::at(0).path());
        let reader = std::thread::spawn(move || fs::read(path));
        eventually("the reader waits for S3", || (!server.requests().is_empty()).then_some(()));
        for name in FILES {
            mount.out(&format!("cat .logarchivefs/{name}"));
        }
        assert!(mount.out("ls .logarchivefs").contains("status.json"));
        let asked = server.requests().len();
        let told: Value = serde_json::from_str(&mount.out("cat .logarchivefs/status.json")).unwrap();
        assert_eq!(told["store"]["retries"], 0);
        assert!(!reader.is_finished() && server.requests().len() == asked, "nothing here asks S3");
        drop(mount);
        reader.join().unwrap().unwrap_err();
    }
}

/// Or a monitor would keep every mount alive.
#[test]
fn watching_a_mount_is_no_use_of_it() {
    let server = server();
    let mut mount = Setup::s3(&server).args(["--idle-timeout", "2s"]).mount();
    let path = mount.path(".logarchivefs/metrics");
    eventually("looking does not keep it", || {
        let entries = fs::read_dir(path.parent().unwrap()).map(Iterator::count);
        (fs::read(&path).is_err() && entries.is_err()).then_some(())
    });
    assert!(mount.wait().success());
}
