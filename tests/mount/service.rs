//! Life as a service: telling the manager, the pid file, idle mounts, the log's formats, mount(8), and the units in dist/.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, PROGRAM, Setup};
use crate::common::s3::{ACCESS_KEY, REGION, SECRET_KEY, Server};
use crate::common::watch::{answers, detach, eventually, is_mounted, kill, left_out, mountinfo, run, unmount};

fn server() -> Server {
    let server = Server::start();
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(&archive::text(1, 100)));
    server
}

#[test]
fn the_manager_is_told_and_the_pid_file_lives_as_long_as_the_mount() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (dir.path().join("notify"), dir.path().join("pid"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    let setup = Setup::s3(&server).args(["--pid-file".as_ref(), pid_file.as_os_str()]).env("NOTIFY_SOCKET", &socket);
    let mut mount = setup.mount();
    let mut said = [0; 64];
    let n = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..n], b"READY=1");
    assert_eq!(mount.out("ls"), "prod", "ready means that it answers");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{}\n", mount.pid()));
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success());
    let n = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..n], b"STOPPING=1");
    assert!(!pid_file.exists());
}

#[test]
fn an_idle_mount_ends_but_not_under_anybody() {
    let server = server();
    let mut mount = Setup::s3(&server).args(["-v", "--idle-timeout", "2s"]).mount();
    let mut shell = Command::new("sleep").arg("1000").current_dir(mount.path("prod")).spawn().unwrap();
    // It tries, and finds somebody there.
    let tries = || mount.log().matches("in use").count();
    eventually("an attempt to unmount", || (tries() > 1).then_some(()));
    assert!(is_mounted(mount.root()));
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(mount.wait().success());
    assert!(!is_mounted(mount.root()));
}

#[test]
fn an_open_file_is_not_idle() {
    let server = server();
    let mut mount = Setup::s3(&server).args(["--idle-timeout", "2s"]).mount();
    let file = fs::File::open(mount.path(Log::at(0).path())).unwrap();
    let pid = mount.pid();
    // Two more mounts come and go meanwhile: each takes longer than the time-out.
    for _ in 0..2 {
        assert!(Setup::s3(&server).args(["--idle-timeout", "2s"]).mount().wait().success());
    }
    assert!(Path::new(&format!("/proc/{pid}")).exists() && is_mounted(mount.root()));
    drop(file);
    assert!(mount.wait().success());
}

#[test]
fn the_log_is_json_if_wanted_and_grows_on_demand() {
    let server = server();
    let mut mount = Setup::s3(&server).args(["--log-format", "json"]).mount();
    let told = |word: &'static str| move |log: String| log.contains(word).then_some(());
    mount.out("find . | wc -l");
    assert!(!mount.log().contains("\"debug\""));
    mount.signal(libc::SIGUSR1);
    eventually("more log", || told("debug log is on")(mount.log()));
    assert!(mount.sh("cat nothing").status.code() == Some(1));
    eventually("a debug line", || told("\"level\":\"debug\"")(mount.log()));
    mount.signal(libc::SIGUSR1);
    eventually("less log", || told("debug log is off")(mount.log()));
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success());
    let lines: Vec<serde_json::Value> = mount.log().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for line in &lines {
        assert!(["time", "level", "target", "message"].iter().all(|name| line[name].is_string()), "{line}");
    }
    assert!(lines.len() > 3);
}

/// sd-daemon(3): 3 is an error, 4 a warning, 6 information, 7 for debugging.
#[test]
fn the_journal_is_told_priorities() {
    let server = server();
    archive::put_changed(&server, &Log::at(1), SealAs::V2, &archive::gzip(b"x"), |body| body[0] ^= 1);
    for journal in [true, false] {
        let setup = Setup::s3(&server).args(["-vv", "--allow-unauthenticated"]).under_systemd();
        let mut mount = if journal { setup } else { setup.env("JOURNAL_STREAM", "1:1") }.mount();
        fs::read(mount.path(Log::at(1).path())).unwrap_err();
        mount.signal(libc::SIGTERM);
        assert!(mount.wait().success());
        let told = mount.stderr();
        for (priority, word) in
            [(3, "EBADMSG"), (4, "nothing authenticates their text"), (6, "is mounted on"), (7, "read_ahead_kb")]
        {
            let line = told.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {told}"));
            assert_eq!(line.starts_with(&format!("<{priority}>")), journal, "{line}");
        }
        let all = told.lines().all(|line| matches!(line.as_bytes(), [b'<', b'3' | b'4' | b'6' | b'7', b'>', ..]));
        assert_eq!(all, journal, "{told}");
    }
}

/// mount(8) looks for its helpers in /sbin only.
struct Helper;

const HELPER: &str = "/sbin/mount.logarchivefs";

impl Helper {
    fn install() -> Helper {
        fs::remove_file(HELPER).ok();
        std::os::unix::fs::symlink(PROGRAM, HELPER).unwrap();
        Helper
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        fs::remove_file(HELPER).ok();
    }
}

fn mount8(args: &[&str]) -> Output {
    let mut command = Command::new("mount");
    command.args(args).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    run(&mut command)
}

/// `mount -t logarchivefs` and a line of fstab. One test: the helper has one place.
#[test]
fn mount8_and_fstab() {
    let server = server();
    let _helper = Helper::install();
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    fs::write(&keys, archive::key_text()).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let at = dir.path().join("mnt");
    fs::create_dir(&at).unwrap();
    let at = at.to_str().unwrap();
    let pid_file = dir.path().join("pid");
    let options = format!(
        "rw,_netdev,x-systemd.automount,key_file={},endpoint_url={},region={REGION},file_mode=0440,show_control,pid_file={}",
        keys.display(),
        server.endpoint(),
        pid_file.display()
    );
    let fstab = dir.path().join("fstab");
    fs::write(&fstab, format!("{} {at} logarchivefs {options} 0 0\n", crate::common::s3::BUCKET)).unwrap();
    let direct = ["-t", "logarchivefs", crate::common::s3::BUCKET, at, "-o", &options];
    // Gone when all else of a program is: it unmounts what is still there, and that must not be the next one.
    let ended = || (!pid_file.exists()).then_some(());
    let by_fstab = ["-T", fstab.to_str().unwrap(), at];
    for args in [&direct[..], &by_fstab] {
        let output = mount8(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(is_mounted(Path::new(at)), "mounted when mount(8) returns");
        let file = Path::new(at).join(Log::at(0).path());
        assert_eq!(fs::read(&file).unwrap(), archive::text(1, 100));
        let output = run(Command::new("stat").args(["-c", "%a"]).arg(&file));
        assert_eq!(output.stdout, b"440\n");
        let names: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.contains(&".logarchivefs".into()), "{names:?}");
        let (options, _, _) = mountinfo(Path::new(at)).unwrap();
        assert!(options.starts_with("ro,"), "`rw` changes nothing: {options}");
        unmount(Command::new("umount").arg(at));
        assert!(!is_mounted(Path::new(at)));
        eventually("the program has ended", ended);
    }
    // A dead mount is in nobody's way.
    for kills in [true, false] {
        let output = mount8(&["-t", "logarchivefs", crate::common::s3::BUCKET, at, "-o", &options]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "after a kill: {stderr}");
        assert!(answers(Path::new(at)));
        if kills {
            kill(fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap(), libc::SIGKILL);
            eventually("the mount is dead", || (!answers(Path::new(at))).then_some(()));
        }
    }
    unmount(Command::new("umount").arg(at));
    eventually("the program has ended", ended);
    assert!(!is_mounted(Path::new(at)), "neither the dead one nor the new one is left");
    // What fails, fails as mount(8) says it.
    let output = mount8(&["-t", "logarchivefs", "nowhere", at, "-o", &options]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(32) && stderr.contains("nowhere"), "{stderr}");
    let output = mount8(&["-t", "logarchivefs", "b", at, "-o", "no_such_option"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("--no-such-option"), "{stderr}");
    assert!(!is_mounted(Path::new(at)));
}

/// fusermount3 stays behind only for a mount that others may see, which as root needs no line in fuse.conf.
#[test]
fn a_killed_program_takes_a_shared_mount_along() {
    let server = server();
    let mut mount: Mount = Setup::s3(&server).args(["--allow-other"]).mount();
    assert_eq!(mount.out("ls"), "prod");
    let root = mount.root().to_owned();
    mount.signal(libc::SIGKILL);
    assert!(!mount.wait().success());
    let clean = eventually("the mount is gone", || (!is_mounted(&root)).then_some(true));
    detach(&root);
    assert!(clean);
}

/// Root needs no helper: without one, nobody stays behind, and the mount is there all the same.
#[test]
fn a_shared_mount_needs_no_helper() {
    let server = server();
    let mount = Setup::s3(&server).args(["--allow-other"]).env("PATH", "/nonexistent").mount();
    assert_eq!(mount.out("ls"), "prod");
}

/// What systemd does before it starts the program once more, with its rule for a dash: that command may fail.
#[test]
fn a_unit_starts_again_after_a_kill() {
    let server = server();
    let mut dead = Setup::s3(&server).mount();
    dead.signal(libc::SIGKILL);
    assert!(!dead.wait().success());
    assert!(is_mounted(dead.root()) && !answers(dead.root()));
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/logarchivefs@.service")).unwrap();
    let at = dead.root().to_str().unwrap();
    let before: Vec<String> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStartPre="))
        .map(|line| line.replace("/srv/logarchivefs/%i", at))
        .collect();
    assert!(!before.is_empty());
    for line in &before {
        let may_fail = line.starts_with('-');
        let words: Vec<&str> = line.trim_start_matches('-').split(' ').collect();
        assert!(words.contains(&at), "{line}");
        let done = run(Command::new(words[0]).args(&words[1..]));
        assert!(done.status.success() || may_fail, "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let next = Setup::s3(&server).on(dead.root()).mount();
    assert_eq!(next.out("ls"), "prod");
}

/// `systemd-analyze verify` reads a unit as systemd would, and knows all directives.
#[test]
fn the_units_are_sound() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let text = fs::read_to_string(dist.join("logarchivefs@.service")).unwrap();
    for line in ["Type=notify", "NoNewPrivileges=yes", "LoadCredential=keys:", "LimitCORE=0"] {
        assert!(text.contains(line), "{line}");
    }
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return left_out("a part of it", "systemd-analyze is not here, so the units were not verified");
    }
    // It wants to find the program: the installed one's place is replaced by this one's.
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("logarchivefs@x.service");
    fs::write(&unit, text.replace("/usr/local/bin/logarchivefs", PROGRAM)).unwrap();
    let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|l| l.contains("logarchivefs@")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}
