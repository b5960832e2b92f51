//! Flags and files of the commands that need no mount.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::http::response::Parts;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use super::desk::{Desk, place};
use crate::common::archive::{self, Log, WEDNESDAY};
use crate::common::s3::{Reply, Server};
use crate::common::watch::eventually;

pub fn said() -> Vec<String> {
    let mut desk = Desk::new();
    let copy = desk.path("copy");
    for n in 0..3 {
        let text = format!("{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"2022-08-24T00:00:0{n}Z\"}}\nodd\n");
        archive::write(
            &copy,
            &Log::at(n),
            SealAs::V2,
            &archive::gzip(text.as_bytes()),
            WEDNESDAY,
            &mut Random::new(n as u64),
        );
    }
    let (place, keys) = (place(&copy), desk.shown("keys"));
    selection(&mut desk, &place, &keys);
    cat(&mut desk, &place, &keys);
    download(&mut desk, &place, &keys);
    verify(&mut desk, &place, &keys);
    desk.said
}

fn selection(desk: &mut Desk, place: &str, keys: &str) {
    for (flag, value) in [
        ("--stack", "a/b"),
        ("--container-id", "38d59273"),
        ("--string-matches", "apps-(321"),
        ("--start-date", "2022-02-31"),
        ("--at", "9999-12-31"),
        ("--at", "2022-08-24"),
    ] {
        desk.say(&["find", place, flag, value]);
    }
    desk.say(&["find", place, "--start-date", "2022-08-25", "--end-date", "2022-08-24"]);
    desk.say(&["find", place, "--summary", "--format", "keys"]);
    desk.say(&["find", place, "--format", "table", "-0"]);
    desk.say(&["find", place, "--stack", "other"]);
    desk.say(&["find", place, "nowhere/at/all"]);
    desk.say(&["find", place, "--string-matches", "prod", "apps-321"]);
    let empty = desk.folder("none/objects", 0o700);
    desk.say(&["find", &super::desk::place(empty.strip_suffix("/objects").unwrap())]);
    let to = desk.shown("to");
    desk.say(&["download", place, "--stack", "other", "--to", &to, "--key-file", keys]);
    desk.say(&["verify", place, "--stack", "other", "--key-file", keys]);
    desk.say(&["cat", place, "--stack", "other", "--key-file", keys]);
    desk.say(&["doctor", place, "--print-bucket-policy"]);
    desk.say(&["man", "--out", "/proc/none/man"]);
}

fn cat(desk: &mut Desk, place: &str, keys: &str) {
    desk.say(&["cat", place, "--key-file", keys, "--memory", "512TiB"]);
    let mut cat = |args: &[&str]| desk.say(&[&["cat", place, "--key-file", keys], args].concat());
    cat(&["--since", "yesterday"]);
    cat(&["--since", "2022-08-25", "--until", "2022-08-24"]);
    cat(&["--text"]);
    cat(&["--stream", "stdout"]);
    cat(&["prod/apps-1"]);
}

fn download(desk: &mut Desk, place: &str, keys: &str) {
    let to = desk.shown("downloads");
    let args = |to: &str| ["download", place, "--to", to, "--key-file", keys].map(str::to_owned);
    let run = |desk: &mut Desk, to: &str| {
        let args = args(to);
        desk.say(&args.each_ref().map(String::as_str));
    };
    run(desk, &desk.shown("copy/objects/x"));
    run(desk, &desk.file("file", "x"));
    run(desk, "/proc/none");
    let journal = desk.folder("pipe", 0o700);
    std::os::unix::net::UnixListener::bind(format!("{journal}/.logarchivefs-download.jsonl")).ok();
    run(desk, &journal);
    fs::create_dir(desk.path("odd")).unwrap();
    std::process::Command::new("mkfifo").arg(desk.path("odd/.logarchivefs-download.jsonl")).status().unwrap();
    run(desk, &desk.shown("odd"));

    // In the way: files that no download made or that were changed, a link, a folder's place taken.
    let first = [0, 1, 2].map(|n| desk.path("downloads").join(Log::at(n).path()));
    fs::create_dir_all(first[0].parent().unwrap()).unwrap();
    fs::write(&first[0], "mine").unwrap();
    symlink("/etc/passwd", &first[1]).unwrap();
    run(desk, &to);
    fs::write(&first[2], "changed").unwrap();
    run(desk, &to);
    fs::remove_dir_all(desk.path("downloads/prod")).unwrap();
    fs::write(desk.path("downloads/prod"), "x").unwrap();
    run(desk, &to);
    fs::remove_file(desk.path("downloads/prod")).unwrap();

    // Another run, a signal, a full disk.
    let server = Server::start();
    for n in 0..3 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip_level(&archive::noise(n as u64, 100_000), 1));
    }
    server.set_hook(|seen| seen.is_get().then_some(Reply::Hang));
    let to = desk.shown("busy");
    let mut first = desk.on(&server, &["download", "--to", &to]);
    let mut first = first.stderr(Stdio::piped()).spawn().unwrap();
    eventually("it has begun", || server.requests().iter().any(|r| r.is_get()).then_some(()));
    let mut second = desk.on(&server, &["download", "--to", &to]);
    desk.hear(&mut second);
    crate::common::watch::kill(first.id(), libc::SIGINT);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut first.stderr.take().unwrap(), &mut told).unwrap();
    first.wait().unwrap();
    desk.said.extend(super::desk::lines(&told));
    server.clear_hook();
    // A listing that lies, and metadata that cannot be shown.
    server.set_hook(|seen| {
        let lie = |xml: &mut Vec<u8>| *xml = String::from_utf8_lossy(xml).replace("<Size>", "<Size>1").into();
        seen.is_list().then(|| Reply::Edit(Arc::new(move |_, xml| lie(xml))))
    });
    let mut lied = desk.on(&server, &["download", "--sealed", "--to", &desk.shown("lied")]);
    desk.hear(&mut lied);
    server.set_hook(|seen| {
        let hide = |head: &mut Parts| drop(head.headers.insert("x-amz-missing-meta", HeaderValue::from_static("1")));
        seen.is_get().then(|| Reply::Edit(Arc::new(move |head, _| hide(head))))
    });
    let mut hidden = desk.on(&server, &["download", "--sealed", "--to", &desk.shown("hidden")]);
    desk.hear(&mut hidden);
    server.clear_hook();
    let to = desk.folder("disk", 0o700);
    let command = desk.on(&server, &["download", "--to", &to]);
    desk.inside(&format!("mount -t tmpfs -o size=64k none {to}"), &command);
}

fn verify(desk: &mut Desk, place: &str, keys: &str) {
    let manifest = desk.shown("manifest");
    let verify = |desk: &mut Desk, flag: &str, path: &str| {
        desk.say(&["verify", place, "--key-file", keys, flag, path]);
    };
    let made = std::process::Command::new(crate::common::mounted::PROGRAM)
        .args(["verify", place, "--key-file", keys, "--manifest", &manifest])
        .output()
        .unwrap();
    assert!(!made.stdout.is_empty());
    verify(desk, "--manifest", &manifest);
    verify(desk, "--manifest", "/nonexistent/manifest");
    verify(desk, "--against", "/nonexistent/manifest");
    verify(desk, "--against", "/dev/null");
    let text = fs::read_to_string(&manifest).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (n, changed) in [
        String::new(),
        text[..text.len() - 2].to_owned(),
        format!("{}\n{}\n{}\n", lines[0], lines[1], lines[4]),
        format!("{}\n{}\n{}\n{}\n{}\n", lines[0], lines[1], lines[1], lines[2], lines[4]),
        text.replacen("\"manifest\":1", "\"manifest\":2", 1),
        format!("{}\nnot JSON\n", lines[0]),
        format!("{}\n{{\"verdict\":\"ok\"}}\n", lines[0]),
        format!("{text}{}\n", lines[1]),
        format!("{}\n{}\n", lines[0], "x".repeat(70_000)),
        "no head\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let path = desk.file(&format!("manifest-{n}"), changed);
        verify(desk, "--against", &path);
    }
}
