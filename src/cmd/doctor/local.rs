//! This machine: what a mount needs of FUSE, of memory and of limits. Reads files of the kernel; starts and changes nothing.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::check::Check;
use super::report::size;
use crate::daemon;
use crate::memory::{BESIDES, Limit, available, usual};

/// Connections, the device, and some to spare.
const FILES: u64 = 256;
/// Stacks, arenas and the program itself are mapped, whether used or not.
const ADDRESSES: u64 = 1 << 30;

pub fn checks(memory: Option<usize>) -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let root = daemon::uid() == 0;
    let limit = Limit::find();
    let memory = memory.map_or_else(|| usual(limit), |bytes| bytes as u64);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    vec![
        device(),
        helper(&status, find("fusermount3")),
        allow_other(root, &conf),
        room(memory, limit, available()),
        bounds(memory, &limits),
    ]
}

fn device() -> Check {
    let name = "fuse-device";
    let missing = "load the kernel module (`modprobe fuse`), or give the container the device (`--device /dev/fuse \
                   --cap-add SYS_ADMIN`); only mounting needs it";
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Check::ok(name, "/dev/fuse can be opened"),
        Err(e) if e.kind() == ErrorKind::NotFound => Check::fail(name, "/dev/fuse is missing", missing),
        // Setuid fusermount3 opens it for others, but it is open to all wherever mounts are meant to work.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            let advice =
                "`chmod 666 /dev/fuse`, as udev does, or allow the device to the container; only mounting needs it";
            Check::fail(name, "/dev/fuse cannot be opened: permission denied", advice)
        }
        Err(e) => Check::fail(name, format!("/dev/fuse cannot be opened: {e}"), missing),
    }
}

/// The first file of this name in PATH, with its mode and owner.
fn find(program: &str) -> Option<(PathBuf, u32, u32)> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find_map(|file| {
        let meta = fs::metadata(&file).ok().filter(|m| m.is_file() && m.mode() & 0o111 != 0)?;
        Some((file, meta.mode(), meta.uid()))
    })
}

/// Who may mount does it without help; all others need `fusermount3`, which must be allowed to become root.
fn helper(status: &str, found: Option<(PathBuf, u32, u32)>) -> Check {
    const SYS_ADMIN: u64 = 21;
    let name = "fusermount3";
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let capabilities = field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    if capabilities >> SYS_ADMIN & 1 == 1 {
        return Check::ok(name, "not needed: you may mount by yourself");
    }
    let Some((path, mode, owner)) = found else {
        return Check::fail(name, "not found in PATH", "install the package fuse3; only mounting needs it");
    };
    let shown = path.display();
    if mode & 0o4000 == 0 || owner != 0 {
        let advice = format!("`chown root {shown} && chmod u+s {shown}`, or install the package fuse3 anew");
        return Check::fail(name, format!("{shown} is not setuid root, so it cannot mount"), advice);
    }
    if field("NoNewPrivs:") == Some("1") {
        let advice = "start it without no_new_privs (a setting of systemd units, containers and sandboxes)";
        return Check::fail(name, format!("{shown} is setuid root, but no_new_privs is set here"), advice);
    }
    if daemon::uid() == 0 {
        let advice = "give the container `--cap-add SYS_ADMIN --device /dev/fuse`; only mounting needs it";
        return Check::fail(name, "you are root without CAP_SYS_ADMIN, and fusermount3 cannot regain it", advice);
    }
    Check::ok(name, shown.to_string())
}

/// Off is as good as on: it is for `--allow-other` only.
fn allow_other(root: bool, conf: &str) -> Check {
    let name = "user-allow-other";
    if conf.lines().any(|line| line.trim() == "user_allow_other") {
        Check::ok(name, "on in /etc/fuse.conf: --allow-other may be used")
    } else if root {
        Check::ok(name, "off, but root may use --allow-other")
    } else {
        Check::ok(name, "off: mounts are for you alone; --allow-other needs `user_allow_other` in /etc/fuse.conf")
    }
}

fn room(memory: u64, limit: Option<Limit>, free: Option<u64>) -> Check {
    let name = "memory";
    let need = memory.saturating_add(BESIDES);
    let wanted = format!("a mount with --memory {} takes up to {}", size(memory), size(need));
    let fitting = |limit: Limit| match limit.fitting() {
        fits if limit.is_below(fits) => "32MiB is the least for --memory".into(),
        fits => format!("give --memory {}MiB", fits >> 20),
    };
    if let Some(limit) = limit.filter(|limit| limit.is_below(memory)) {
        let advice = format!("{}, or raise the limit of the container or unit", fitting(limit));
        return Check::warn(name, format!("{wanted}, but {} has {}", limit.whose, size(limit.bytes)), advice);
    }
    if let Some(free) = free.map(|bytes| Limit { bytes, whose: "" }).filter(|free| free.is_below(memory)) {
        let advice = format!("{}, or free some", fitting(free));
        return Check::warn(name, format!("{wanted}, but only {} is available", size(free.bytes)), advice);
    }
    let limit = limit.map_or("no limit is known".into(), |l| format!("{} has {}", l.whose, size(l.bytes)));
    Check::ok(name, format!("{wanted}; {limit}"))
}

/// `None`: unlimited, or not known.
fn limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn bounds(memory: u64, limits: &str) -> Check {
    let name = "limits";
    let files = limit(limits, "Max open files");
    if let Some(files) = files.filter(|n| *n < FILES) {
        return Check::warn(
            name,
            format!("only {files} files may be open at once"),
            format!("`ulimit -n 1024`; {FILES} are enough"),
        );
    }
    let need = memory.saturating_add(ADDRESSES);
    if let Some(addresses) = limit(limits, "Max address space").filter(|n| *n < need) {
        let finding = format!("the address space is limited to {}", size(addresses));
        return Check::warn(name, finding, "`ulimit -v unlimited`: it is no measure of memory in use");
    }
    let files = files.map_or("any number of".into(), |n| n.to_string());
    // This program has turned them off for itself.
    let cores = if limit(limits, "Max core file size") == Some(0) { "; no core dumps" } else { "" };
    Check::ok(name, format!("{files} open files; address space enough{cores}"))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn who_may_mount() {
        let found = |mode, owner| Some((PathBuf::from("/usr/bin/fusermount3"), mode, owner));
        let status = |text: &str, found| helper(text, found).status;
        assert_eq!(status("CapEff:\t000001ffffffffff\n", None), Status::Ok);
        let user = "Name:\tx\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n";
        assert_eq!(status(user, None), Status::Fail);
        assert_eq!(status(user, found(0o100755, 0)), Status::Fail);
        assert_eq!(status(user, found(0o104755, 1000)), Status::Fail);
        // Root without the capability gains nothing by the helper.
        let helped = if daemon::uid() == 0 { Status::Fail } else { Status::Ok };
        assert_eq!(status(user, found(0o104755, 0)), helped);
        assert_eq!(status(&user.replace("Privs:\t0", "Privs:\t1"), found(0o104755, 0)), Status::Fail);
    }

    #[test]
    fn allowing_others() {
        assert!(allow_other(false, "# user_allow_other\n").finding.starts_with("off: "));
        assert!(allow_other(false, "mount_max = 9\n user_allow_other\n").finding.starts_with("on "));
        assert!(allow_other(true, "").finding.contains("root"));
    }

    #[test]
    fn memory() {
        let mib = |n: u64| n << 20;
        assert_eq!(room(mib(256), None, None).status, Status::Ok);
        let limit = |n| Some(Limit { bytes: mib(n), whose: "the control group" });
        assert_eq!(room(mib(256), limit(356), Some(mib(356))).status, Status::Ok);
        let tight = room(mib(256), limit(300), None);
        assert_eq!(tight.status, Status::Warn);
        assert!(tight.finding.ends_with("but the control group has 300.0 MiB"), "{}", tight.finding);
        assert!(tight.advice.unwrap().starts_with("give --memory 150MiB"));
        assert!(room(mib(256), None, Some(mib(50))).advice.unwrap().contains("32MiB is the least"));
    }

    #[test]
    fn limits() {
        let text = |files: &str, space: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            {files}                1048576              files     \n\
                 Max address space         {space}            unlimited            bytes     \n"
            )
        };
        assert_eq!(bounds(1, &text("1024", "unlimited")).status, Status::Ok);
        assert_eq!(bounds(1, &text("unlimited", "unlimited")).status, Status::Ok);
        assert_eq!(bounds(1, &text("64", "unlimited")).status, Status::Warn);
        assert_eq!(bounds(1 << 30, &text("1024", "1500000000")).status, Status::Warn);
        assert_eq!(bounds(1, "").status, Status::Ok);
        assert!(!bounds(1, "").finding.contains("core"));
        assert!(bounds(1, "Max core file size        0      0     bytes\n").finding.contains("no core dumps"));
        // The kernel's own text is read.
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(own.contains("Max open files") && own.contains("Max address space"));
    }
}
