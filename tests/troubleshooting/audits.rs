//! The audit log of a mount.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use logarchivefs::envelope::SealAs;

use super::desk::Desk;
use crate::common::archive::{self, Log};
use crate::common::mounted::Setup;
use crate::common::s3::Server;
use crate::common::watch::{detach, eventually, run};

pub fn said() -> Vec<String> {
    let (mut desk, server) = (Desk::new(), Server::start());
    archive::put(&server, &Log::at(0), SealAs::V2, &archive::gzip(b"x\n"));
    starts(&mut desk, &server);
    disturbed(&mut desk, &server);
    full(&mut desk, &server);
    desk.said
}

fn with(server: &Server, log: &str) -> Setup {
    Setup::s3(server).args(["--audit-log", log])
}

fn starts(desk: &mut Desk, server: &Server) {
    let log = desk.file("audit", "");
    fs::set_permissions(&log, Permissions::from_mode(0o666)).unwrap();
    desk.refused(with(server, &log));
    symlink(&log, desk.path("link")).unwrap();
    desk.refused(with(server, &desk.shown("link")));
    desk.refused(with(server, "/dev/null"));
    desk.refused(with(server, "/nonexistent/audit"));
    desk.refused(with(server, &desk.file("other", "{}\n")));
    let begun = desk.file("begun", "");
    drop(with(server, &begun).mount());
    let changed = fs::read_to_string(&begun).unwrap().replace("\"end\"", "\"end \"");
    desk.refused(with(server, &desk.file("changed", &changed)));
    for place in ["audit", "../log"] {
        let setup = Setup::s3(server);
        let path = setup.path().join(place);
        desk.refused(setup.args(["--audit-log".as_ref(), path.as_os_str()]));
    }
    let taken = desk.shown("taken");
    let holder = with(server, &taken).mount();
    desk.refused(with(server, &taken));
    drop(holder);
    desk.say(&["verify", "--audit-log", "/nonexistent"]);
}

/// What a crash, and what somebody else, leaves in it.
fn disturbed(desk: &mut Desk, server: &Server) {
    let log = desk.shown("disturbed");
    drop(with(server, &log).mount());
    let append = |text: &str| fs::write(&log, [fs::read(&log).unwrap(), text.into()].concat()).unwrap();
    append("{\"n\":");
    let mount = with(server, &log).mount();
    append("x");
    fs::read(mount.path(Log::at(0).path())).unwrap();
    eventually("it is told", || mount.log().contains("somebody else").then_some(()));
    let elsewhere = desk.shown("elsewhere");
    fs::rename(&log, &elsewhere).unwrap();
    fs::write(&log, "x").unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o600)).unwrap();
    mount.signal(libc::SIGHUP);
    eventually("it is told", || mount.log().contains("another file now").then_some(()));
    desk.log_of(&mount);
}

fn full(desk: &mut Desk, server: &Server) {
    let dir = desk.folder("small", 0o700);
    assert!(run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "tmpfs", &dir])).status.success());
    let mount = with(server, &format!("{dir}/audit")).mount();
    assert!(fs::write(Path::new(&dir).join("filler"), [0; 16 << 10]).is_err());
    let path = mount.path(Log::at(0).path());
    eventually("an open fails", || File::open(&path).is_err().then_some(()));
    eventually("it is told", || mount.log().contains("cannot be written").then_some(()));
    desk.log_of(&mount);
    drop(mount);
    detach(Path::new(&dir));
}
