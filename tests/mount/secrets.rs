//! Keys and log text are where they must be and nowhere else: not in what the kernel shows of the process, not in its logs
//! however much they tell, not in swap.

use std::fs;

use logarchivefs::envelope::SealAs;
use logarchivefs::logging;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup};
use crate::common::s3::{SECRET_KEY, Server};
use crate::common::watch::{eventually, is_mounted, run};

const CANARY: &str = "the patient's name is not for the log";

fn server() -> Server {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(format!("{CANARY}\n").as_bytes()));
    // One that is damaged, and one without its key: what is said of them must not say too much.
    let mut damaged = archive::gzip(format!("{CANARY}\n").repeat(500).as_bytes());
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    archive::put(&server, &Log::at(1), SealAs::V3, &damaged);
    archive::put(&server, &Log { master: 7, ..Log::at(2) }, SealAs::V2, &archive::gzip(b"x"));
    server
}

/// A key as it might be written.
fn forms(n: u8) -> Vec<Vec<u8>> {
    let raw = archive::key_bytes(n).to_vec();
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    let list = format!("{:?}", &raw[..8]).trim_matches(['[', ']']).to_owned();
    vec![archive::key_base64(n).into(), raw, hex.to_uppercase().into(), hex.into(), list.into()]
}

fn hides(place: &str, bytes: &[u8]) {
    let mut secrets: Vec<Vec<u8>> = (0..2).flat_map(forms).collect();
    secrets.extend([CANARY.into(), SECRET_KEY.into()]);
    for secret in secrets {
        let found = bytes.windows(secret.len()).any(|w| w == secret);
        assert!(!found, "{place} holds {:?}", String::from_utf8_lossy(&secret));
    }
}

fn exercise(mount: &Mount) {
    assert_eq!(fs::read(mount.path(Log::at(0).path())).unwrap(), format!("{CANARY}\n").as_bytes());
    for hour in 1..3 {
        fs::read(mount.path(Log::at(hour).path())).unwrap_err();
    }
    mount.sh("find . -type f -exec getfattr -d {} +; ls -lR; cat nothing");
    mount.signal(libc::SIGHUP);
    mount.signal(libc::SIGUSR1);
    mount.out("find . | wc -l");
    for (name, tells) in [("status.json", "fetched_bytes"), ("metrics", "keys"), ("errors.jsonl", "ENOKEY")] {
        let text = fs::read(mount.path(".logarchivefs").join(name)).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(tells), "{name} tells too little for a test");
        hides(name, &text);
    }
}

#[test]
fn nothing_shows_a_key_or_a_line_of_log() {
    let server = server();
    let by_variable = || {
        let keys = format!("{},{}", archive::key_base64(1), archive::key_base64(0));
        Setup::s3(&server).without_key_file().env("LOGARCHIVEFS_KEYS", keys)
    };
    for (setup, variable) in [(Setup::s3(&server), false), (by_variable(), true)] {
        let temporary = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let audit = dir.path().join("audit");
        let setup = setup.args(["--audit-log".as_ref(), audit.as_os_str()]);
        let mount = setup.env("RUST_LOG", "trace,hyper=trace,aws=info").env("TMPDIR", temporary.path()).mount();
        exercise(&mount);
        // A close comes when its program may have gone already.
        let close = || String::from_utf8(fs::read(&audit).unwrap()).ok().filter(|text| text.contains("\"close\""));
        let audited = eventually("a close", close);
        assert!(audited.contains("\"refused\""));
        hides("the audit log", audited.as_bytes());
        let shown = |name: &str| fs::read(format!("/proc/{}/{name}", mount.pid())).unwrap();
        hides("cmdline", &shown("cmdline"));
        let environ = shown("environ");
        // The credential that the test gave is the SDK's to keep: it stays where the user put it.
        let environ: Vec<&[u8]> =
            environ.split(|b| *b == 0).filter(|v| !v.starts_with(b"AWS_SECRET_ACCESS_KEY")).collect();
        hides("environ", &environ.join(&0));
        assert_eq!(environ.iter().any(|v| *v == b"LOGARCHIVEFS_KEYS="), variable);
        // No file of any kind is open for writing but the log, and none was left where temporary files go.
        for fd in fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap() {
            let path = fd.unwrap().path();
            let file = fs::metadata(&path).is_ok_and(|meta| meta.is_file());
            let target = fs::read_link(&path).unwrap_or_default();
            assert!(
                !file || ["log", "stderr", "audit"].iter().any(|name| target.ends_with(name)),
                "{}",
                target.display()
            );
        }
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
        let log = mount.log();
        assert!(log.contains("TRACE") && log.contains("ENOKEY") && log.contains("EBADMSG"), "{log}");
        hides("the log", log.as_bytes());
        hides("stderr", mount.stderr().as_bytes());
    }
}

/// What a panic says may quote what was being worked on. In a process of its own, as the log is started once.
#[test]
fn a_panic_tells_its_place_only() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "secrets::child_that_panics", "--ignored", "--nocapture"]);
    let output = run(child.env("LOGARCHIVEFS_TEST_LOG", log.path()));
    assert!(output.status.success());
    let told = fs::read(log.path()).unwrap();
    hides("the log", &told);
    hides("stderr", &output.stderr);
    assert!(String::from_utf8(told).unwrap().contains("a bug: panicked at tests/mount/secrets.rs:"));
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_that_panics() {
    let log = std::env::var_os("LOGARCHIVEFS_TEST_LOG").unwrap();
    logging::start(0, logging::Format::Text, Some(log.as_ref())).unwrap();
    std::panic::catch_unwind(|| panic!("{CANARY}")).unwrap_err();
}

/// Also readable by root only, as what is not dumpable is.
#[test]
fn the_process_leaves_no_core_and_locks_its_keys() {
    let server = server();
    let mount = Setup::s3(&server).mount();
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let locked = status.lines().find_map(|l| l.strip_prefix("VmLck:")).unwrap();
    let kib: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib > 0, "{locked}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    let owner = run(std::process::Command::new("stat").args(["-c", "%u", &format!("/proc/{}/mem", mount.pid())]));
    assert_eq!(owner.stdout, b"0\n");
    assert!(is_mounted(mount.root()));
}
