//! Nothing can be written, and nobody else can look.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup, errno};
use crate::common::s3::Server;
use crate::common::watch::{mountinfo, run};

fn one_log(server: &Server) -> Log {
    // Past midnight, so that there is a link too.
    let log = Log::at(86_390);
    archive::put(server, &log, SealAs::V2, &archive::gzip(&archive::text(1, 50)));
    log
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn ok(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn every_kind_of_write_is_erofs() {
    let server = Server::start();
    let log = one_log(&server);
    let mount = Setup::s3(&server).mount();
    let file = mount.path(log.path());
    let link = mount.path(log.folder()).join(&log.later_days()[0]).join(file.file_name().unwrap());
    let day = file.parent().unwrap();
    let before = fs::read(&file).unwrap();
    let text = c(&file);
    let value = b"x";

    let mut tried = 0;
    let mut refused = |what: &str, result: io::Result<()>| {
        assert_eq!(errno(result), libc::EROFS, "{what}");
        tried += 1;
    };
    for dir in [mount.root(), &mount.path("prod"), day] {
        let new = dir.join("new");
        refused("create", File::create(&new).map(drop));
        refused("mkdir", fs::create_dir(&new));
        refused("symlink", symlink("target", &new));
        refused("link", fs::hard_link(&file, &new));
        refused("rename", fs::rename(&file, &new));
        // SAFETY (here and below): valid C strings, and valid pointers of the length that is given.
        refused("mkfifo", ok(unsafe { libc::mkfifo(c(&new).as_ptr(), 0o600) }));
        refused("chmod folder", fs::set_permissions(dir, Permissions::from_mode(0o777)));
        refused("chown folder", chown(dir, Some(1), Some(1)));
    }
    refused("unlink", fs::remove_file(&file));
    refused("unlink link", fs::remove_file(&link));
    refused("rmdir", fs::remove_dir(day));
    refused("open for writing", OpenOptions::new().write(true).open(&file).map(drop));
    refused("open for appending", OpenOptions::new().append(true).open(&file).map(drop));
    refused("open and truncate", OpenOptions::new().write(true).truncate(true).open(&file).map(drop));
    refused("truncate", ok(unsafe { libc::truncate(text.as_ptr(), 0) }));
    refused("chmod", fs::set_permissions(&file, Permissions::from_mode(0o644)));
    refused("chown", chown(&file, Some(1), Some(1)));
    refused("chown link", lchown(&link, Some(1), Some(1)));
    refused("utimes", ok(unsafe { libc::utimensat(libc::AT_FDCWD, text.as_ptr(), std::ptr::null(), 0) }));
    let name = c"user.logarchive.auth";
    refused("setxattr", ok(unsafe { libc::setxattr(text.as_ptr(), name.as_ptr(), value.as_ptr().cast(), 1, 0) }));
    refused("removexattr", ok(unsafe { libc::removexattr(text.as_ptr(), name.as_ptr()) }));
    // Through an open descriptor too.
    let open = File::open(&file).unwrap();
    refused("fchmod", open.set_permissions(Permissions::from_mode(0o644)));
    refused("futimes", open.set_modified(std::time::SystemTime::UNIX_EPOCH));
    assert_eq!(tried, 39);

    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(server.requests().iter().all(|r| r.method == "GET" || r.method == "HEAD"), "{:?}", server.requests());
}

#[test]
fn the_mount_is_read_only_without_suid_and_devices() {
    let server = Server::start();
    let log = one_log(&server);
    let mount = Setup::s3(&server).mount();
    let (options, kind, source) = mountinfo(mount.root()).unwrap();
    let options: Vec<&str> = options.split(',').collect();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains(&option), "{option} is not among {options:?}");
    }
    // The subtype shows only where fusermount3 mounts, that is for users other than root.
    assert!(kind == "fuse" || kind == "fuse.logarchivefs", "{kind}");
    assert_eq!(source, "s3://archive/");
    assert_eq!(mode(&mount.path(log.path())), 0o400);
    assert_eq!(mode(mount.root()), 0o500);
    assert_eq!(mode(&mount.path(log.folder())), 0o500);
    // Totals are those of the store.
    let totals = mount.out("stat -f -c '%T %l %c' . && df --output=used -B512 . | tail -1");
    assert!(totals.contains("fuse") && totals.contains("255"), "{totals}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// As another user, from a folder that this user may look into.
fn as_nobody(mount: &Mount, command: &str) -> Output {
    fs::set_permissions(mount.root().parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", command, "sh"]).arg(mount.root());
    run(nobody.current_dir("/").env("LC_ALL", "C"))
}

#[test]
fn another_user_is_refused() {
    let server = Server::start();
    let log = one_log(&server);
    let mount = Setup::s3(&server).mount();
    for command in ["ls \"$1\"", "stat \"$1/prod\"", &format!("cat \"$1/{}\"", log.path()), "ls \"$1/prod\""] {
        let output = as_nobody(&mount, command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{command}");
        assert!(stderr.contains("Permission denied"), "{command}: {stderr}");
    }
    // The folder around it can be seen: it is the mount that refuses.
    assert!(as_nobody(&mount, "test -x \"$(dirname \"$1\")\"").status.success());
}

#[test]
fn allow_other_and_modes_let_another_user_in() {
    let server = Server::start();
    let log = one_log(&server);
    let text = archive::text(1, 50);
    let args = ["--allow-other", "--file-mode", "0444", "--dir-mode", "0555", "--uid", "1234", "--gid", "4321"];
    let mount = Setup::s3(&server).args(args).mount();
    let cat = format!("cat \"$1/{}\"", log.path());
    assert_eq!(as_nobody(&mount, &cat).stdout, text);
    let stat = as_nobody(&mount, &format!("stat -c '%a %u %g' \"$1\" \"$1/{}\"", log.path()));
    assert_eq!(String::from_utf8_lossy(&stat.stdout), "555 1234 4321\n444 1234 4321\n");
    let touch = as_nobody(&mount, "touch \"$1/x\"");
    assert!(String::from_utf8_lossy(&touch.stderr).contains("Read-only file system"));
}

#[test]
fn allow_other_keeps_the_modes() {
    let server = Server::start();
    one_log(&server);
    let mount = Setup::s3(&server).args(["--allow-other"]).mount();
    let output = as_nobody(&mount, "ls \"$1\"");
    assert!(!output.status.success(), "0500 is for the owner only, and the kernel checks it");
}
