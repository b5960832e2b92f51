//! Keys and log text are where they must be and nowhere else: not in what the kernel shows of the process, not in its logs
//! however much they tell, not in swap.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use logarchivefs::envelope::SealAs;
use logarchivefs::logging;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, PROGRAM, Setup};
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, Reply, SECRET_KEY, Seen, Server};
use crate::common::watch::{eventually, run, within};

const CANARY: &str = "the patient's name is not for the log";
/// Of credentials that expire.
const TOKEN: &str = "FwoGZXIvYXdzEXAMPLETOKEN";

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
    secrets.extend([CANARY, SECRET_KEY, TOKEN, "Signature=", "Credential="].map(Into::into));
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
        // As much as anybody can ask for, of what signs and sends requests by its own name.
        let levels =
            "trace,aws=trace,aws_smithy_runtime::client::orchestrator=trace,aws_sigv4::http_request::sign=trace";
        let setup = setup.env("RUST_LOG", levels).env("AWS_SESSION_TOKEN", TOKEN);
        let mount = setup.env("TMPDIR", temporary.path()).mount();
        exercise(&mount);
        assert!(server.requests().iter().all(|seen| seen.token.as_deref() == Some(TOKEN)));
        // A close comes when its program may have gone already.
        let close = || String::from_utf8(fs::read(&audit).unwrap()).ok().filter(|text| text.contains("\"close\""));
        let audited = eventually("a close", close);
        assert!(audited.contains("\"refused\""));
        hides("the audit log", audited.as_bytes());
        let shown = |name: &str| fs::read(format!("/proc/{}/{name}", mount.pid())).unwrap();
        hides("cmdline", &shown("cmdline"));
        let environ = shown("environ");
        // The credentials that the test gave are the SDK's to keep: they stay where the user put them.
        let given = |v: &&[u8]| v.starts_with(b"AWS_SECRET_ACCESS_KEY") || v.starts_with(b"AWS_SESSION_TOKEN");
        let environ: Vec<&[u8]> = environ.split(|b| *b == 0).filter(|v| !given(v)).collect();
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
        assert!(log.contains("beginning attempt #1"), "the SDK tells too little for a test");
        hides("the log", log.as_bytes());
        hides("stderr", mount.stderr().as_bytes());
    }
}

/// What a panic says may quote what was being worked on. In a process of its own, as the log is started once.
#[test]
fn a_panic_tells_its_place_only() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
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

/// Some memory of the process is neither swapped (`lo`) nor dumped (`dd`): see proc_pid_smaps(5).
pub fn locks_keys(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut flags = maps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.any(|flags| ["lo", "dd"].iter().all(|flag| flags.split(' ').any(|f| f == *flag)))
}

#[test]
fn the_process_leaves_no_core_and_locks_its_keys() {
    let server = server();
    let mount = Setup::s3(&server).mount();
    assert!(locks_keys(mount.pid()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
}

/// Root may look at everything, so here the program runs as somebody else, and `sleep` beside it: that one can be looked at.
#[test]
fn another_process_of_the_same_user_cannot_look_inside() {
    const NOBODY: u32 = 65534;
    let server = server();
    server.set_hook(|seen| seen.is_get().then_some(Reply::Hang));
    // A copy that everybody may read: else the kernel would hide the process whatever it does.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("logarchivefs");
    // By somebody else: a child of another test that had it open for writing would be in the way of running it.
    assert!(run(Command::new("cp").arg(PROGRAM).arg(&program)).status.success());
    let nobody = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()]).arg(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir("/").stdin(Stdio::null());
        command
    };
    let mut cat = nobody(&program);
    cat.args(["cat", BUCKET, "--endpoint-url", &server.endpoint(), "--region", REGION, "--request-deadline", "10m"]);
    cat.env("LOGARCHIVEFS_KEYS", archive::key_base64(0)).env("AWS_EC2_METADATA_DISABLED", "true");
    cat.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let mut cat = cat.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut sleep = nobody("sleep".as_ref()).arg("1000").spawn().unwrap();
    let hangs = within(Duration::from_secs(60), || server.requests().iter().any(Seen::is_get).then_some(()));
    let look = |pid: u32| {
        let owner = fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid();
        (owner, run(nobody("cat".as_ref()).arg(format!("/proc/{pid}/environ"))))
    };
    // Before, it is still the test or setpriv.
    let slept = within(Duration::from_secs(60), || Some(look(sleep.id())).filter(|(owner, _)| *owner == NOBODY));
    let (owner, seen) = look(cat.id());
    for child in [&mut cat, &mut sleep] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(hangs.is_some(), "it has its keys, and waits for S3");
    assert!(slept.expect("sleep can be looked at").1.status.success());
    assert_eq!(owner, 0);
    assert!(!seen.status.success() && seen.stdout.is_empty());
    assert!(String::from_utf8_lossy(&seen.stderr).contains("Permission denied"), "{seen:?}");
}
