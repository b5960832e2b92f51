//! The demo: runs, says what is true, and leaves nothing behind.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::common::mounted::PROGRAM;
use crate::common::watch::{detach, eventually, is_mounted, kill, run, unwatch, watch};

fn demo(tmp: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").env("TMPDIR", tmp).env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

/// Runs a command in the demo's mount, in a temporary folder that must be empty in the end.
fn run_in_demo(command: &str) -> Output {
    let tmp = tempfile::tempdir().unwrap();
    let output = run(demo(tmp.path()).args(["--run", command]));
    nothing_left(&tmp);
    output
}

fn nothing_left(tmp: &TempDir) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(tmp.path().to_str().unwrap()), "a mount is left");
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "files are left");
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn run_gives_the_status_and_the_output() {
    let output = run_in_demo("echo out; echo err >&2; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "out\n", "standard output is the command's alone");
    assert!(text(&output.stderr).contains("err\n"));
    assert_eq!(run_in_demo("true").status.code(), Some(0));
    assert_eq!(run_in_demo("kill -9 $$").status.code(), Some(128 + 9));
}

#[test]
fn its_counts_are_right() {
    // The same logs on every run.
    let dir = tempfile::tempdir().unwrap();
    let archive = logarchivefs::demo::write(dir.path(), 2022).unwrap();
    let unreadable = archive.unreadable.len();
    assert_eq!(unreadable, 5);
    let output = run_in_demo(
        "find . -type f | wc -l; find . -type f -size 0 | wc -l; find . -type f ! -size 0 -exec cat {} + | wc -c; \
         ls; find . -type l | wc -l; find . -type f -exec cat {} + 2>&1 >/dev/null | wc -l",
    );
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], archive.objects.to_string(), "{stdout}");
    assert_eq!(lines[1], unreadable.to_string(), "{stdout}");
    assert_eq!(lines[2], archive.text_bytes.to_string(), "{stdout}");
    assert_eq!(lines[3..5], ["acme-prod", "acme-staging"]);
    assert!(lines[5].parse::<u32>().unwrap() > 0, "spans over midnight");
    assert_eq!(lines[6], unreadable.to_string(), "each is an error of cat");
}

/// The commands that it suggests find something.
#[test]
fn what_it_suggests_works() {
    let output = run_in_demo(
        "grep -rc ERROR acme-prod/apps-321 | grep -v ':0$' | wc -l; \
         cat acme-prod/apps-321/*/2022-08-24/*.json | jq -r 'select(.stream==\"stderr\") | .time + \" \" + .log' | wc -l; \
         tail -n 3 acme-prod/databases-71/*/2022-08-26/*.json | wc -l; \
         getfattr -d acme-prod/proxy-55/*/2022-08-22/*.json | grep -c key_sha256",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for (n, line) in text(&output.stdout).lines().enumerate() {
        assert!(line.parse::<u32>().unwrap() > 0, "command {n} finds nothing");
    }
    assert_eq!(text(&output.stdout).lines().count(), 4);
}

#[test]
fn a_folder_may_be_given() {
    let (tmp, mnt) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = run(demo(tmp.path()).arg(mnt.path()).args(["--run", "pwd"]));
    assert_eq!(text(&output.stdout).trim_end(), mnt.path().to_str().unwrap());
    nothing_left(&tmp);
    nothing_left(&mnt);
    let output = run(demo(tmp.path()).args(["/nonexistent/mnt", "--run", "true"]));
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("does not exist"));
    nothing_left(&tmp);
}

#[test]
fn an_interrupt_cleans_up() {
    for (signal, interactive) in [(libc::SIGINT, true), (libc::SIGTERM, true), (libc::SIGTERM, false)] {
        let (tmp, mnt) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut command = demo(tmp.path());
        command.arg(mnt.path());
        if !interactive {
            command.args(["--run", "echo Ctrl-C; exec sleep 1000"]);
        }
        let mut child = command.stdout(File::create(out.path()).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        watch(mnt.path(), child.id());
        let said = eventually("it introduces itself", || {
            let said = fs::read_to_string(out.path()).unwrap();
            (said.contains("Ctrl-C") || child.try_wait().unwrap().is_some()).then_some(said)
        });
        let was_mounted = is_mounted(mnt.path());
        let sleeper = (!interactive).then(|| child_of(child.id()));
        kill(child.id(), signal);
        let status = eventually("it ends", || child.try_wait().unwrap());
        if let Some(pid) = sleeper.flatten() {
            kill(pid, libc::SIGKILL);
        }
        unwatch(mnt.path());
        detach(mnt.path());
        assert!(was_mounted, "{said}");
        assert_eq!(status.code(), Some(if interactive { 0 } else { 130 }), "{signal}");
        if interactive {
            assert!(said.contains("67 objects") || said.contains(" objects, "), "{said}");
            assert!(said.contains(mnt.path().to_str().unwrap()) && said.contains("acme-prod/"), "{said}");
        }
        nothing_left(&tmp);
        nothing_left(&mnt);
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}
