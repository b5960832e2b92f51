//! The folder that a mount goes to: checked before anything starts, cleaned of a dead earlier mount, and given back.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::sys;
use crate::err;
use crate::error::{Kind, Result};

/// The subtype: `fuse.logarchivefs` in /proc/self/mountinfo, where fusermount3 did the mounting. Root's own mounts show
/// `fuse`, as fuser leaves it out there.
pub const SUBTYPE: &str = "logarchivefs";

/// What is mounted on a folder answers within this time.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 300 } else { 5 });

/// Checks that `path` is a folder that nothing is mounted on; a dead mount of ours is removed first.
pub fn prepare(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    // Only the second asks the file system itself: of a daemon that has just died, the kernel still knows attributes.
    let (asked, answer) = std::sync::mpsc::channel();
    let about = path.to_owned();
    // Of a mount that does not answer it never returns.
    std::thread::spawn(move || {
        let answers = || std::fs::metadata(&about).and_then(|_| sys::statfs(&c_path(&about)?));
        asked.send(answers()).ok();
    });
    let answer = answer.recv_timeout(PATIENCE).map_err(|_| {
        err!(
            Kind::Config,
            "{shown} holds a mount that does not answer: choose another folder, or end it with `umount -f {shown}`"
        )
    })?;
    if let Err(e) = answer {
        match e.raw_os_error() {
            Some(libc::ENOTCONN | libc::ECONNABORTED) => {
                log::warn!("{shown} holds a mount whose daemon has died: removing it");
                detach(path).map_err(|e| {
                    err!(
                        Kind::Config,
                        "{shown} holds a dead mount that cannot be removed ({e}): run `fusermount3 -u {shown}`"
                    )
                })?;
            }
            Some(libc::ENOENT) => {
                return Err(err!(Kind::Config, "the mountpoint {shown} does not exist: create it with mkdir"));
            }
            _ => return Err(err!(Kind::Config, "the mountpoint {shown} cannot be used: {e}")),
        }
    }
    let real = path.canonicalize().map_err(|e| err!(Kind::Config, "the mountpoint {shown} cannot be used: {e}"))?;
    if !real.is_dir() {
        return Err(err!(Kind::Config, "the mountpoint {shown} is not a folder"));
    }
    if is_mounted(&real) {
        return Err(err!(
            Kind::Config,
            "something is mounted on {shown} already: choose another folder, or `fusermount3 -u {shown}` first"
        ));
    }
    Ok(real)
}

/// [`Kind::Config`] if what `flag` names would lie within the mount that hides it. `mountpoint` is canonical.
pub fn check_outside(flag: &str, name: Option<&Path>, mountpoint: &Path) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    // Of what does not exist yet, what there is of its path decides.
    let absolute = std::path::absolute(name).map_err(|e| err!(Kind::Config, "{flag}: {e}"))?;
    let real = absolute.ancestors().find_map(|part| {
        let rest = absolute.strip_prefix(part).ok()?;
        Some(part.canonicalize().ok()?.join(rest))
    });
    if real.is_some_and(|real: PathBuf| real.starts_with(mountpoint)) {
        return Err(err!(Kind::Config, "{flag} is inside the mountpoint: name a place elsewhere"));
    }
    Ok(())
}

/// Whether a file system is mounted right on `path` (canonical).
pub fn is_mounted(path: &Path) -> bool {
    device(path).is_some()
}

/// The device number, `major:minor`, of the file system mounted right on `path` (canonical); the last one if there are several.
fn device(path: &Path) -> Option<String> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    mounts.rsplit(|b| *b == b'\n').find_map(|line| {
        // Fields 3 and 5 are the device and the mountpoint, with space, tab, newline and backslash in octal
        // (proc_pid_mountinfo(5)).
        let mut fields = line.split(|b| *b == b' ').skip(2);
        let device = fields.next()?;
        (unescape(fields.nth(1)?) == path.as_os_str().as_bytes()).then(|| String::from_utf8_lossy(device).into_owned())
    })
}

/// Lets the kernel read ahead of sequential readers further than the 128 KiB that it offers. Only root may; for others
/// nothing changes.
pub fn raise_read_ahead(path: &Path) {
    const KIB: &str = "1024";
    let Some(device) = device(path) else { return };
    let setting = format!("/sys/class/bdi/{device}/read_ahead_kb");
    match std::fs::write(&setting, KIB) {
        Ok(()) => log::debug!("{setting} is {KIB}"),
        Err(e) => log::debug!("{setting} stays as it is: {e}"),
    }
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Takes the mount out of the tree even while it is in use (`umount -l`).
pub fn detach(path: &Path) -> io::Result<()> {
    umount(path, true)
}

/// Unmounts if nobody uses it: not even as a working directory.
pub fn release(path: &Path) -> io::Result<()> {
    umount(path, false)
}

fn umount(path: &Path, lazily: bool) -> io::Result<()> {
    match sys::umount(&c_path(path)?, lazily) {
        // Only root may unmount; for everybody else there is the setuid helper.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) || lazily => {}
        done => return done,
    }
    let how: &[&str] = if lazily { &["-u", "-q", "-z", "--"] } else { &["-u", "-q", "--"] };
    let status = Command::new("fusermount3").args(how).arg(path).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("fusermount3 ended with {status}"))) }
}

pub fn has_fusermount() -> bool {
    Command::new("fusermount3").arg("-V").stdin(Stdio::null()).output().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_escapes_are_undone() {
        assert_eq!(unescape(b"/a\\040b\\134c\\0"), b"/a b\\c\\0");
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/nonexistent")));
        assert!(device(Path::new("/proc")).unwrap().split_once(':').unwrap().1.parse::<u32>().is_ok());
    }

    #[test]
    fn a_bad_mountpoint_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(prepare(dir.path()).is_ok());
        assert!(prepare(&file).unwrap_err().to_string().contains("not a folder"));
        assert!(prepare(&dir.path().join("none")).unwrap_err().to_string().contains("does not exist"));
        assert!(prepare(Path::new("/proc")).unwrap_err().to_string().contains("mounted"));
    }
}
