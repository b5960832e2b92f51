//! What cannot be mounted: the right exit code, one sentence that says what to do, nothing left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::Setup;
use crate::common::s3::{REGION, Reply, SECRET_KEY, Seen, Server};

fn server() -> Server {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    server
}

/// The message of a mount that is refused with `code`: one line, with all of `words` in it.
fn refused(setup: Setup, code: i32, words: &[&str]) -> String {
    let (got, stderr) = setup.refused();
    assert_eq!(got, code, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("logarchivefs: ") && stderr.ends_with('\n'), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
    assert!(!stderr.contains(SECRET_KEY) && !stderr.contains(&archive::key_base64(0)), "{stderr}");
    stderr
}

#[test]
fn the_mountpoint() {
    let server = server();
    let missing = Setup::s3(&server);
    let path = missing.path().join("missing");
    refused(missing.on(&path), 3, &["missing", "does not exist", "mkdir"]);
    let file = Setup::s3(&server);
    let path = file.path().join("file");
    fs::write(&path, "x").unwrap();
    refused(file.on(&path), 3, &["file", "not a folder"]);
    assert_eq!(server.requests().len(), 0, "before anything starts");
}

#[test]
fn the_bucket() {
    let server = server();
    refused(Setup::s3(&server).bucket("nowhere"), 3, &["nowhere", "no bucket"]);
    refused(Setup::s3(&server).bucket("http://archive"), 2, &["s3://NAME"]);
    let setup = Setup::s3(&server);
    let empty = setup.path().to_owned();
    refused(setup.bucket(&format!("file://{}", empty.display())), 3, &["no sealed copy", "objects"]);
    refused(Setup::s3(&server).bucket("file:///nonexistent"), 3, &["/nonexistent"]);
}

#[test]
fn the_region() {
    let server = server();
    let elsewhere = || Setup::s3(&server).args(["--verbose"]).env("AWS_REGION", "us-east-1");
    // Without --region the environment's counts; the server answers as S3 does for another region.
    refused(
        Setup::new("archive")
            .args(["--endpoint-url", &server.endpoint()])
            .env("AWS_ACCESS_KEY_ID", crate::common::s3::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", "us-east-1"),
        3,
        &["region", REGION, "--region"],
    );
    server.set_hook(|_| {
        let body = "<Error><Code>PermanentRedirect</Code><Message>use the other endpoint</Message></Error>";
        let headers = vec![("x-amz-bucket-region", "ap-southeast-2".to_owned())];
        Some(Reply::Canned { status: 301, headers, body: body.into() })
    });
    refused(elsewhere(), 3, &["archive is in region ap-southeast-2", "--region ap-southeast-2"]);
}

#[test]
fn no_region() {
    let setup = Setup::new("archive").env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y");
    refused(setup, 3, &["no AWS region", "--region", "AWS_REGION"]);
}

#[test]
fn the_credentials() {
    let server = server();
    refused(Setup::s3(&server).env("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN"), 3, &["access key"]);
    refused(Setup::s3(&server).env("AWS_SECRET_ACCESS_KEY", "wrong"), 3, &["signature", "secret key"]);
    let none = Setup::s3(&server)
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .env("HOME", "/nonexistent");
    server.forget();
    refused(none, 3, &["no AWS credentials", "AWS_PROFILE", "aws sso login"]);
    assert_eq!(server.requests().len(), 0);
    server.set_hook(|_| Some(Reply::error(403, "AccessDenied")));
    refused(Setup::s3(&server), 3, &["s3:ListBucket"]);
    server.set_hook(|_| Some(Reply::error(400, "ExpiredToken")));
    refused(Setup::s3(&server), 3, &["expired", "aws sso login"]);
}

#[test]
fn a_store_that_does_not_answer() {
    // Nobody else takes its port when it is gone.
    let server = Server::start_at("127.0.0.2");
    server.set_hook(|_| Some(Reply::error(503, "SlowDown")));
    refused(Setup::s3(&server).args(["--request-deadline", "2s"]), 6, &["S3"]);
    let endpoint = server.endpoint();
    drop(server);
    let gone = Setup::new("archive")
        .args(["--endpoint-url", &endpoint, "--region", REGION, "--request-deadline", "2s"])
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y");
    refused(gone, 6, &["cannot reach S3"]);
    let remote = Setup::new("archive")
        .args(["--endpoint-url", "http://192.0.2.1", "--region", REGION])
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y");
    refused(remote, 3, &["plain http"]);
}

/// Whose the bucket is to be is said in every request, and it is S3 that refuses.
#[test]
fn the_owner() {
    const OURS: &str = "123456789012";
    let server = server();
    let theirs = |seen: &Seen| (seen.owner.as_deref() != Some(OURS)).then(|| Reply::error(403, "AccessDenied"));
    server.set_hook(theirs);
    let mount = Setup::s3(&server).args(["--expected-bucket-owner", OURS]).mount();
    assert_eq!(mount.out("cat prod/*/*/*/*"), "x");
    let other = Setup::s3(&server).args(["--expected-bucket-owner", "999999999999"]);
    refused(other, 3, &["not allowed", "account 999999999999's", "--expected-bucket-owner"]);
    let (code, stderr) = Setup::s3(&server).args(["--expected-bucket-owner", "acme"]).refused();
    assert!(code == 2 && stderr.contains("12 digits"), "{stderr}");
}

/// An answer that sends us elsewhere is an answer, and elsewhere nobody is asked.
#[test]
fn no_redirect_is_followed() {
    let (server, elsewhere) = (server(), Server::start());
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/archive?list-type=2", elsewhere.endpoint());
        server.set_hook(move |_| {
            Some(Reply::Canned { status, headers: vec![("location", to.clone())], body: Vec::new() })
        });
        let (code, stderr) = Setup::s3(&server).args(["--request-deadline", "1s"]).refused();
        assert!(code == 3 || code == 6, "{status}: {code} {stderr}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn the_keys() {
    let server = server();
    let ways = ["--key-file", "--key-command", "LOGARCHIVEFS_KEYS"];
    refused(Setup::s3(&server).without_key_file(), 3, &[&["no decryption key"], &ways[..]].concat());
    refused(Setup::s3(&server).keys("# nothing\n\n"), 3, &["no key in"]);
    let bad = refused(Setup::s3(&server).keys("\n\nc2VjcmV0IQ==\n"), 3, &["line 3"]);
    assert!(!bad.contains("c2VjcmV0IQ=="), "key text is not repeated");

    let open = Setup::s3(&server);
    let file = open.key_file().to_owned();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    refused(open, 3, &["0644", "chmod 600", "--insecure-key-file"]);
    let open = Setup::s3(&server).args(["--insecure-key-file"]);
    fs::set_permissions(open.key_file(), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(open.mount().out("ls"), "prod");

    let missing = Setup::s3(&server).without_key_file().args(["--key-file", "/nonexistent/keys"]);
    refused(missing, 3, &["/nonexistent/keys"]);
    let command = Setup::s3(&server).without_key_file().args(["--key-command", "exit 9"]);
    refused(command, 3, &["key command"]);
    let shown = Setup::s3(&server).args(["--decryption-keys", &archive::key_base64(0)]);
    refused(shown, 2, &[&["--decryption-keys", "ps"], &ways[..]].concat());
    assert_eq!(server.requests().iter().filter(|r| r.is_get()).count(), 0);
}

#[test]
fn keys_from_elsewhere() {
    let server = server();
    let read = |setup: Setup| {
        let mount = setup.mount();
        assert_eq!(fs::read(mount.path(Log::at(0).path())).unwrap(), b"x\n");
        // The environment's keys do not reach what the program starts.
        assert!(!mount.log().contains(&archive::key_base64(0)));
    };
    let without = || Setup::s3(&server).without_key_file();
    read(without().env("LOGARCHIVEFS_KEYS", format!("{},{}", archive::key_base64(1), archive::key_base64(0))));
    read(without().args(["--key-command".to_owned(), format!("echo {}", archive::key_base64(0))]));
}

#[test]
fn usage() {
    let server = server();
    for (args, word) in [
        (&["--start-date", "2022-02-31"][..], "2022-02-31"),
        (&["--start-date", "2022-08-25", "--end-date", "2022-08-24"], "after start"),
        (&["--container-id", "38d5927338d"], "12 characters"),
        (&["--stack", "a/b"], "--stack"),
    ] {
        refused(Setup::s3(&server).args(args), 2, &[word]);
    }
    for args in [&["--file-mode", "0644"][..], &["--no-such-flag"], &["--verify", "none"], &["--memory", "1KiB"]] {
        let (code, stderr) = Setup::s3(&server).args(args).refused();
        assert_eq!(code, 2, "{stderr}");
    }
    assert_eq!(server.requests().len(), 0);
}

/// An IAM policy may allow `s3:ListBucket` below one stack only: then `--stack` asks for nothing else.
#[test]
fn who_may_see_one_stack_need_not_see_all() {
    let server = server();
    server.set_hook(|seen| {
        let below = seen.query.split('&').any(|pair| pair.starts_with("prefix=prod%2F"));
        (seen.is_list() && !below).then(|| Reply::error(403, "AccessDenied"))
    });
    let mount = Setup::s3(&server).args(["--stack", "prod"]).mount();
    assert_eq!(mount.out("find . -type f"), format!("./{}", Log::at(0).path()));
    refused(Setup::s3(&server), 3, &["s3:ListBucket"]);
}
