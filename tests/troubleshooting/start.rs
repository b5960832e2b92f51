//! What keeps a mount from starting: mountpoint, bucket, credentials, keys, folders and files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use logarchivefs::envelope::SealAs;

use super::desk::Desk;
use crate::common::archive::{self, Log};
use crate::common::mounted::Setup;
use crate::common::s3::{ACCESS_KEY, Kept, REGION, Reply, SECRET_KEY, Server};
use crate::common::watch::{detach, eventually, run};

pub const SAID: [fn() -> Vec<String>; 5] =
    [|| with(mountpoints), || with(places), || with(keys), || with(folders), || with(answers)];

fn with(part: fn(&mut Desk, &Server)) -> Vec<String> {
    let (mut desk, server) = (Desk::new(), Server::start());
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    part(&mut desk, &server);
    desk.said
}

fn mountpoints(desk: &mut Desk, server: &Server) {
    let missing = desk.path("missing");
    desk.refused(Setup::s3(server).on(&missing));
    desk.file("file", "x");
    desk.refused(Setup::s3(server).on(&desk.path("file")));
    desk.refused(Setup::s3(server).on(&desk.path("file/below")));
    desk.refused(Setup::s3(server).on(Path::new("/proc")));

    // Of a daemon that died.
    let mut dead = Setup::s3(server).mount();
    dead.signal(libc::SIGKILL);
    dead.wait();
    let output = run(Command::new("ls").arg(dead.root()).env("LC_ALL", "C"));
    desk.errno(&output);
    let next = Setup::s3(server).on(dead.root()).mount();
    desk.log_of(&next);
    drop(next);

    // Of one that does not answer.
    let stopped = Setup::s3(server).mount();
    stopped.signal(libc::SIGSTOP);
    eventually("all its threads have stopped", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", stopped.pid())).unwrap();
        let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        tasks.flatten().all(|task| stat(task).contains(") T ")).then_some(())
    });
    desk.refused(Setup::s3(server).on(stopped.root()));
    stopped.signal(libc::SIGCONT);
    drop(stopped);

    // Without the device; and as a user who needs the helper, which is not there, does not allow it, or fails.
    let point = desk.folder("point", 0o755);
    desk.inside("mount -t tmpfs none /dev", &desk.on(server, &["mount", &point]));
    fs::set_permissions(desk.path(""), Permissions::from_mode(0o711)).unwrap();
    // A device that everybody may use, whatever this machine's is like.
    let device = "mount -t tmpfs none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse";
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    for (owner, more) in [(65_534, Some("--allow-other")), (0, None)] {
        std::os::unix::fs::chown(&point, Some(owner), None).unwrap();
        let endpoint = server.endpoint();
        let mut mount = desk.command(&["mount", "archive", &point, "--region", REGION, "--endpoint-url", &endpoint]);
        mount.args(more).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        mount.env("LOGARCHIVEFS_KEYS", archive::key_base64(0));
        desk.inside(&format!("{device} && set -- {nobody} \"$@\""), &mount);
    }
}

fn places(desk: &mut Desk, server: &Server) {
    for bucket in ["gs://bucket", "bucket/prefix", "file://dir", "a b"] {
        desk.say(&["find", bucket]);
    }
    desk.say(&["find", "file:///nonexistent"]);
    let empty = desk.folder("empty", 0o700);
    desk.say(&["find", &format!("file://{empty}")]);
    let mut find = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = desk.command(&[&["find", "archive"], args].concat());
        command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y").envs(env.iter().copied());
        desk.hear(&mut command);
    };
    find(&[], &[]);
    find(&["--region", REGION, "--endpoint-url", "s3.example"], &[]);
    find(&["--region", REGION, "--endpoint-url", "http://192.0.2.1"], &[]);
    find(&["--region", REGION, "--endpoint-url", "https://["], &[]);
    find(&["--region", "a b"], &[]);
    find(&["--region", REGION, "--endpoint-url", &server.endpoint()], &[]);
    find(&["--region", REGION, "--endpoint-url", "http://127.0.0.1:1", "--request-deadline", "1s"], &[]);
    let endpoint = server.endpoint();
    let mut elsewhere = desk.on(server, &["find"]);
    desk.hear(elsewhere.env("AWS_SECRET_ACCESS_KEY", "wrong"));
    let mut elsewhere = desk.command(&["find", "nowhere", "--region", REGION, "--endpoint-url", &endpoint]);
    desk.hear(elsewhere.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY));
    let mut elsewhere = desk.command(&["find", "archive", "--region", "us-east-1", "--endpoint-url", &endpoint]);
    desk.hear(elsewhere.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY));

    // Credentials: none, a profile that is not there, a process that fails, one that cannot be asked, one that hangs.
    let file = desk.file("config", &format!(
        "[profile fails]\ncredential_process = false\n[profile away]\nsource_profile = base\nrole_arn = arn:aws:iam::1:role/r\n\
         [profile base]\naws_access_key_id = x\naws_secret_access_key = y\n
         [profile plain]\nregion = {REGION}\n"
    ));
    for (profile, deadline) in [("plain", "4s"), ("fails", "4s"), ("nobody", "4s"), ("away", "14s")] {
        let mut command = desk.command(&["find", "archive", "--region", REGION, "--endpoint-url", &endpoint]);
        command.args(["--profile", profile, "--request-deadline", deadline]).env("AWS_CONFIG_FILE", &file);
        desk.hear(command.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"));
    }
}

fn keys(desk: &mut Desk, server: &Server) {
    desk.refused(Setup::s3(server).without_key_file());
    desk.refused(Setup::s3(server).args(["--decryption-keys", "c2VjcmV0"]));
    for text in ["# nothing\n", "c2VjcmV0IQ==\n", "not base64!\n", "\u{e9}\n"] {
        desk.refused(Setup::s3(server).keys(text));
    }
    desk.refused(Setup::s3(server).keys(&"A".repeat(500)));
    let bytes = Setup::s3(server);
    fs::write(bytes.key_file(), b"\xff\n").unwrap();
    desk.refused(bytes);
    let open = Setup::s3(server);
    fs::set_permissions(open.key_file(), Permissions::from_mode(0o640)).unwrap();
    desk.refused(open);
    let theirs = Setup::s3(server);
    std::os::unix::fs::chown(theirs.key_file(), Some(12_345), None).unwrap();
    desk.refused(theirs);
    let file = |path: &str| Setup::s3(server).without_key_file().args(["--key-file", path]);
    desk.refused(file("/nonexistent"));
    desk.refused(file("/dev/null"));
    let command = |text: &str| Setup::s3(server).without_key_file().args(["--key-command", text]);
    desk.refused(command("exit 9"));
    desk.refused(command("yes"));
    desk.refused(Setup::s3(server).without_key_file().env("LOGARCHIVEFS_KEYS", "x"));
}

fn folders(desk: &mut Desk, server: &Server) {
    let cache = |path: &Path| Setup::s3(server).args([Path::new("--cache-dir"), path]);
    for (name, mode) in [("open", 0o750), ("full", 0o700), ("theirs", 0o700), ("marked/logarchivefs-cache-1", 0o700)] {
        desk.folder(name, mode);
    }
    fs::set_permissions(desk.path("marked"), Permissions::from_mode(0o700)).unwrap();
    desk.file("full/thesis.tex", "x");
    desk.file("file", "x");
    symlink(desk.path("full"), desk.path("link")).unwrap();
    std::os::unix::fs::chown(desk.path("theirs"), Some(12_345), None).unwrap();
    for name in ["open", "full", "theirs", "link", "file", "marked"] {
        desk.refused(cache(&desk.path(name)));
    }
    desk.refused(cache(Path::new("/proc/none")));
    let inside = Setup::s3(server);
    let path = inside.path().join("cache");
    desk.refused(inside.args([Path::new("--cache-dir"), &path]));
    desk.refused(Setup::s3(server).args(["--pid-file", "/nonexistent/pid"]));
    desk.say(&["mount", "archive", "/nonexistent", "--log-file", "/nonexistent/log"]);

    // A full disk under the cache, a manager that is not there, a pid file that somebody has removed.
    let disk = desk.folder("disk", 0o700);
    let mounted =
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=1,mode=700", "tmpfs", &disk]));
    assert!(mounted.status.success());
    let pid = desk.path("pid");
    let mut mount = cache(Path::new(&disk))
        .args([Path::new("--pid-file"), &pid])
        .args(["--allow-unauthenticated"])
        .env("NOTIFY_SOCKET", "/nonexistent")
        .mount();
    fs::remove_file(&pid).unwrap();
    for told in 1..=2 {
        mount.signal(libc::SIGUSR1);
        eventually("it is told", || (mount.log().matches("SIGUSR1").count() == told).then_some(()));
    }
    mount.signal(libc::SIGTERM);
    mount.wait();
    // Between the two, the log of everything is on.
    let told: Vec<String> =
        mount.log().lines().filter(|l| !l.contains(" DEBUG") && !l.contains(" INFO")).map(str::to_owned).collect();
    desk.said.extend(super::desk::lines(&told.join("\n")));
    detach(Path::new(&disk));
}

/// What S3 says to the first request.
fn answers(desk: &mut Desk, server: &Server) {
    let mut asked = |reply: fn() -> Reply, args: &[&str]| {
        server.set_hook(move |_| Some(reply()));
        let mut command = desk.on(server, &[&["find", "--request-deadline", "2s"], args].concat());
        desk.hear(&mut command);
    };
    asked(|| Reply::error(403, "AccessDenied"), &[]);
    asked(|| Reply::error(403, "AccessDenied"), &["--expected-bucket-owner", "123456789012"]);
    asked(|| Reply::error(301, "PermanentRedirect"), &[]);
    asked(|| Reply::error(400, "InvalidArgument"), &[]);
    asked(|| Reply::error(501, "NotImplemented"), &[]);
    asked(|| Reply::error(400, "ExpiredToken"), &[]);
    asked(|| Reply::error(403, "RequestTimeTooSkewed"), &[]);
    asked(|| Reply::error(503, "SlowDown"), &[]);
    asked(|| Reply::Hang, &[]);
    asked(|| Reply::Reset, &[]);
    asked(|| Reply::Canned { status: 404, headers: vec![], body: b"nothing here".to_vec() }, &[]);
    asked(|| Reply::Canned { status: 400, headers: vec![], body: b"garbage".to_vec() }, &[]);
    asked(|| Reply::Canned { status: 200, headers: vec![], body: b"<html>sign in</html>".to_vec() }, &[]);
    for body in LISTINGS {
        server.set_hook(move |_| Some(Reply::Canned { status: 200, headers: vec![], body: body.into() }));
        let mut command = desk.on(server, &["find", "--request-deadline", "3s"]);
        desk.hear(&mut command);
    }
    // As it was.
    let at = server.time();
    let mut asked = |what: &'static str, reply: fn() -> Reply| {
        server.set_hook(move |seen| (seen.query.split(['&', '=']).next() == Some(what)).then(reply));
        let mut command = desk.on(server, &["find", "--at", &at, "--request-deadline", "3s"]);
        desk.hear(&mut command);
    };
    asked("versions", || Reply::error(403, "AccessDenied"));
    asked("versioning", || Reply::error(403, "AccessDenied"));
    asked("versions", || {
        let body =
            "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>k</Key></Version></ListVersionsResult>";
        Reply::Canned { status: 200, headers: vec![], body: body.into() }
    });
    server.clear_hook();
    for kept in [Kept::Older, Kept::Never] {
        server.set_versioning(kept);
        let mut command = desk.on(server, &["find", "--at", &at]);
        desk.hear(&mut command);
    }
    server.set_versioning(Kept::Everything);
}

/// Answers to a listing that are damaged, each in its way.
const LISTINGS: [&str; 8] = [
    "<ListBucketResult><IsTruncated>false</IsTruncated>",
    "<ListBucketResult></ListBucketResult>",
    "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount></ListBucketResult>",
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents></ListBucketResult>",
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents></ListBucketResult>",
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key><Size>x</Size></Contents></ListBucketResult>",
    "<ListBucketResult><IsTruncated>no</IsTruncated></ListBucketResult>",
];
