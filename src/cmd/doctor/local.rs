//! This machine: what a mount needs of FUSE, of memory and of limits. Reads files of the kernel; starts and changes nothing.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::Check;
use super::report::size;
use crate::daemon;

/// What a mount takes beyond `--memory`, at most.
const BESIDES: u64 = 100 << 20;
/// Connections, the device, and some to spare.
const FILES: u64 = 256;
/// Stacks, arenas and the program itself are mapped, whether used or not.
const ADDRESSES: u64 = 1 << 30;

pub fn checks(memory: usize) -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let root = daemon::uid() == 0;
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(Path::new("/sys/fs/cgroup"), &cgroups);
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    vec![
        device(),
        helper(&status, find("fusermount3")),
        allow_other(root, &conf),
        room(memory as u64, limit, free),
        bounds(memory as u64, &limits),
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

/// The least memory limit of the control groups that this process is in, v2 or v1.
fn group_limit(root: &Path, cgroups: &str) -> Option<u64> {
    let limits = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // A container may see its own group as the top, whatever the path says: those that are not there are passed over.
        let group = top.join(path.trim_start_matches('/'));
        let read = |dir: &Path| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
        group.ancestors().take_while(|dir| dir.starts_with(&top)).filter_map(read).min()
    });
    // v1 writes "no limit" as a number beyond any memory.
    limits.min().filter(|limit| *limit < 1 << 60)
}

fn available(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn room(memory: u64, limit: Option<u64>, free: Option<u64>) -> Check {
    let name = "memory";
    let need = memory.saturating_add(BESIDES);
    let wanted = format!("a mount with --memory {} takes up to {}", size(memory), size(need));
    let fitting = |most: u64| match most.saturating_sub(BESIDES) >> 20 {
        mib @ 32.. => format!("give --memory {mib}MiB"),
        _ => "32MiB is the least for --memory".into(),
    };
    if let Some(limit) = limit.filter(|limit| *limit < need) {
        let advice = format!("{}, or raise the limit of the container or unit", fitting(limit));
        return Check::warn(name, format!("{wanted}, but the control group's limit is {}", size(limit)), advice);
    }
    if let Some(free) = free.filter(|free| *free < need) {
        let advice = format!("{}, or free some", fitting(free));
        return Check::warn(name, format!("{wanted}, but only {} is available", size(free)), advice);
    }
    let limit =
        limit.map_or("no control group limits it".into(), |l| format!("the control group's limit is {}", size(l)));
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
    fn control_groups() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |cgroups: &str| group_limit(dir.path(), cgroups);
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "1000\n");
        assert_eq!(limit("0::/a/b\n"), Some(1000));
        write("a/b/memory.max", "2000\n");
        assert_eq!(limit("0::/a/b\n"), Some(1000), "the least of all above it");
        assert_eq!(limit("0::/elsewhere\n"), None);
        write("memory.max", "500\n");
        assert_eq!(limit("0::/elsewhere/of/the/host\n"), Some(500), "what a container sees");
        // v1, beside an empty v2.
        let v1 = "9:name=systemd:/\n4:cpu,memory:/x\n0::/nowhere\n";
        write("memory/x/memory.limit_in_bytes", "300\n");
        assert_eq!(limit(v1), Some(300));
        write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(&v1.replace("0::/nowhere\n", "")), None);
        assert_eq!(limit("nonsense\n::\n"), Some(500));
    }

    #[test]
    fn memory() {
        let mib = |n: u64| n << 20;
        assert_eq!(room(mib(256), None, None).status, Status::Ok);
        assert_eq!(room(mib(256), Some(mib(356)), Some(mib(356))).status, Status::Ok);
        let tight = room(mib(256), Some(mib(300)), None);
        assert_eq!(tight.status, Status::Warn);
        assert!(tight.advice.unwrap().starts_with("give --memory 200MiB"));
        assert!(room(mib(256), None, Some(mib(50))).advice.unwrap().contains("32MiB is the least"));
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:     20 kB\n"), Some(20 * 1024));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
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
