//! `--at` on the command line: `cat`, `find` and `download` of an archive that has changed since.

use std::fs;
use std::process::Command;

use logarchivefs::envelope::SealAs;

use super::setup::{Archive, environment};
use crate::common::archive::{self, Log};
use crate::common::mounted::PROGRAM;
use crate::common::s3::{BUCKET, Kept, REGION, Reply, Server};
use crate::common::watch::run;

fn ours(archive: &Archive, server: &Server, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(PROGRAM);
    command.arg(args[0]).arg(BUCKET).args(["--endpoint-url", &server.endpoint(), "--region", REGION]);
    command.args(&args[1..]).env_clear().envs(environment(archive.dir.path())).current_dir("/");
    let output = run(&mut command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn put(server: &Server, log: &Log, text: &str) {
    archive::put(server, log, SealAs::V2, &archive::gzip(text.as_bytes()));
}

#[test]
fn replaced_and_deleted() {
    let server = Server::start();
    let archive = Archive::s3(&server);
    let log = Log::at(0);
    put(&server, &Log { stack: "other".into(), ..log.clone() }, "other\n");
    let before = server.time();
    put(&server, &log, "A\n");
    let first = server.time();
    put(&server, &log, "B\n");
    let second = server.time();
    server.delete(&log.key());
    let last = server.time();
    for page in [1, 1000] {
        server.set_page(page);
        for (time, text) in [(&before, ""), (&first, "A\n"), (&second, "B\n"), (&last, "")] {
            let cat = archive.cat(["--at", time, "--stack", "prod"]);
            let found = ours(&archive, &server, &["find", "--at", time, "--stack", "prod"]);
            if text.is_empty() {
                assert_eq!((cat.code, found.0), (4, 4), "{time}: {} {}", cat.err, found.2);
                assert_eq!((cat.out.len(), found.1.len()), (0, 0));
                continue;
            }
            assert_eq!(cat.quiet(), text, "{time}");
            assert_eq!(found, (0, format!("{}\n", log.path()), String::new()), "{time}");
            // What is found is what it was: its size and upload too.
            let (_, json, _) = ours(&archive, &server, &["find", "--at", time, "--stack", "prod", "--format", "json"]);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!((&json["last_modified"], json["size"].as_u64() > Some(16)), (&(**time).into(), true), "{json}");
        }
    }
    // The end of a day, and the same instant in another zone.
    assert_eq!(archive.cat(["--at", "2022-09-01", &log.path()]).code, 4);
    assert_eq!(archive.cat(["--at", "2022-08-31"]).code, 4, "before anything was there");
    assert_eq!(
        archive.cat(["--at", &first.replace("T00:", "T02:").replace('Z', "+02:00"), &log.path()]).quiet(),
        "A\n"
    );
    assert!(!server.requests().iter().any(|seen| seen.is_list()), "the present was listed");

    // A copy of then is read like any other.
    let to = archive.dir.path().join("then");
    let keys = archive.dir.path().join("keys");
    let (keys, to) = (keys.to_str().unwrap(), to.to_str().unwrap());
    let (code, _, err) =
        ours(&archive, &server, &["download", "--at", &first, "--sealed", "--to", to, "--key-file", keys]);
    assert_eq!(code, 0, "{err}");
    let mut copy = Command::new(PROGRAM);
    copy.args(["cat", &format!("file://{to}"), &log.path(), "--key-file", keys]);
    assert_eq!(run(copy.env_clear().envs(environment(archive.dir.path()))).stdout, b"A\n");
    // It is not filled up with what there was at another time.
    let (code, _, err) =
        ours(&archive, &server, &["download", "--at", &second, "--sealed", "--to", to, "--key-file", keys]);
    assert!(code != 0 && err.contains("--force"), "{err}");
    assert!(fs::read_dir(to).unwrap().count() > 0);
}

/// An envelope in an instruction file is that of its time, too.
#[test]
fn instruction_files_go_the_same_way() {
    let server = Server::start();
    let archive = Archive::s3(&server);
    let log = Log::at(0);
    let mut random = logarchivefs::demo::logs::Random::new(1);
    let mut put = |text: &[u8]| {
        let (metadata, body) = archive::sealed(SealAs::V2, 0, &archive::gzip(text), &mut random);
        server.put(&format!("{}.instruction", log.key()), &[], serde_json::to_vec(&metadata).unwrap());
        server.put(&log.key(), &[], body);
        server.time()
    };
    let (first, second) = (put(b"A\n"), put(b"B\n"));
    for key in [log.key(), format!("{}.instruction", log.key())] {
        server.delete(&key);
    }
    for (time, text) in [(first, "A\n"), (second, "B\n")] {
        assert_eq!(archive.cat(["--at", &time, "--allow-instruction-files"]).quiet(), text, "{time}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let server = Server::start();
    let archive = Archive::s3(&server);
    put(&server, &Log::at(0), "A\n");
    let time = server.time();
    let refused = |code: i32, args: &[&str], says: &[&str]| {
        let done = archive.cat(args);
        assert_eq!((done.code, done.out.len()), (code, 0), "{args:?}: {}", done.err);
        assert!(says.iter().all(|word| done.err.contains(word)), "{args:?}: {}", done.err);
    };
    refused(2, &["--at", "9999-12-31"], &["--at \"9999-12-31\": this is in the future"]);
    refused(2, &["--at", "2022-02-31"], &["--at \"2022-02-31\": no such date"]);
    // Who may list objects only.
    let denied = |what: &'static str, status: u16, code: &'static str| {
        server.set_hook(move |seen| {
            (seen.key.is_empty() && seen.query.split(['&', '=']).next() == Some(what))
                .then(|| Reply::error(status, code))
        });
    };
    denied("versions", 403, "AccessDenied");
    refused(
        3,
        &["--at", &time],
        &["s3://archive/: s3:ListBucketVersions is not allowed", "; --at cannot do without it"],
    );
    denied("versions", 501, "NotImplemented");
    refused(3, &["--at", &time], &["the server does not know this request"]);
    // Who may not ask whether versions are kept is told so, and reads.
    for (status, code) in [(403, "AccessDenied"), (501, "NotImplemented")] {
        denied("versioning", status, code);
        let done = archive.cat(["--at", &time]);
        assert_eq!((done.code, &done.out[..]), (0, &b"A\n"[..]), "{}", done.err);
        assert!(done.err.contains("whether the bucket keeps versions is not to be seen"), "{}", done.err);
    }
    server.clear_hook();
    server.set_versioning(Kept::Older);
    let done = archive.cat(["--at", &time]);
    assert_eq!((done.code, &done.out[..]), (0, &b"A\n"[..]), "{}", done.err);
    assert!(done.err.contains("versioning is suspended"), "{}", done.err);
    server.set_versioning(Kept::Never);
    refused(3, &["--at", &time], &["s3://archive/: --at: versioning was never enabled", "leave --at out"]);
    let copy = Archive::copy().cat(["--at", &time]);
    assert_eq!(copy.code, 3, "{}", copy.err);
    assert!(copy.err.contains("--at needs a bucket"), "{}", copy.err);
}
