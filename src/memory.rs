//! How much memory this process may use: what its control groups and the machine leave it.
//!
//! Invariant: files of the kernel are read, and nothing else; a limit that cannot be read is none.

use std::fs;
use std::path::Path;

/// What a mount takes beyond `--memory`, at most.
pub const BESIDES: u64 = 100 << 20;

/// `--memory` where nobody gave one and there is room, and the least that there is.
const USUAL: u64 = 256 << 20;
pub const LEAST: u64 = 32 << 20;

/// The most memory that this process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub bytes: u64,
    /// Whose it is, for messages.
    pub whose: &'static str,
}

impl Limit {
    /// The tightest: of a control group, or the machine's memory.
    pub fn find() -> Option<Limit> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Limit::of(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"), &read("/proc/meminfo"))
    }

    fn of(groups: &Path, cgroups: &str, meminfo: &str) -> Option<Limit> {
        let group = group_limit(groups, cgroups).map(|bytes| Limit { bytes, whose: "the control group" });
        let machine = field(meminfo, "MemTotal:").map(|bytes| Limit { bytes, whose: "the machine" });
        [group, machine].into_iter().flatten().min_by_key(|limit| limit.bytes)
    }

    /// Whether a mount with this `--memory` may take more.
    pub fn is_below(&self, memory: u64) -> bool {
        self.bytes < memory.saturating_add(BESIDES)
    }

    /// A `--memory` that fits: half of the limit at most, as others are in the group or on the machine too.
    pub fn fitting(&self) -> u64 {
        (self.bytes / 2).min(self.bytes.saturating_sub(BESIDES)).max(LEAST)
    }
}

/// The budget where none is given.
pub fn usual(limit: Option<Limit>) -> u64 {
    limit.map_or(USUAL, |limit| limit.fitting().min(USUAL))
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

/// What is free, or can be made so.
pub fn available() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn field(meminfo: &str, name: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let both = Limit::of(dir.path(), v1, "MemTotal: 1 kB\n");
        assert_eq!(both, Some(Limit { bytes: 300, whose: "the control group" }));
        write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(&v1.replace("0::/nowhere\n", "")), None);
        assert_eq!(limit("nonsense\n::\n"), Some(500));
        let machine = Limit::of(dir.path(), "", "MemTotal:     20 kB\nMemFree: 1 kB\n");
        assert_eq!(machine, Some(Limit { bytes: 20 * 1024, whose: "the machine" }));
        assert_eq!(Limit::of(dir.path(), "", ""), None);
    }

    #[test]
    fn the_usual_budget_fits_wherever_it_can() {
        let budget = |mib: u64| usual(Some(Limit { bytes: mib << 20, whose: "" })) >> 20;
        assert_eq!(usual(None), USUAL);
        assert_eq!([64, 131, 150, 200, 300, 512, 8192].map(budget), [32, 32, 50, 100, 150, 256, 256]);
        for mib in 132..1024 {
            let limit = Limit { bytes: mib << 20, whose: "" };
            assert!(!limit.is_below(usual(Some(limit))), "{mib} MiB");
        }
        assert!(Limit { bytes: 131 << 20, whose: "" }.is_below(LEAST));
    }
}
