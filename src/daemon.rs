//! The process itself: going to the background, and what must be set before keys are read.
//!
//! Invariant: [`fork`] and [`harden`] are called while the process has one thread.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::err;
use crate::error::{Kind, Result};

/// The child's end: its parent waits for [`Daemon::ready`].
pub struct Daemon {
    parent: PipeWriter,
}

/// Goes on in a child process. The parent stays until the child is ready, and returns from here only in error: it
/// exits with 0 when the mount answers, else with the child's own exit code; the child says why on standard error.
pub fn fork() -> Result<Daemon> {
    let failed = |e: io::Error| err!(Kind::Internal, "cannot go to the background: {e}");
    let (mut reader, parent) = io::pipe().map_err(failed)?;
    // SAFETY: the process has one thread (keys are loaded without any, the runtime starts later), so the child may go
    // on as if nothing had happened.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    if pid == 0 {
        drop(reader);
        // SAFETY: setsid takes and touches no memory. It cannot fail: a new child leads no process group.
        unsafe { libc::setsid() };
        return Ok(Daemon { parent });
    }
    drop(parent);
    let mut answer = [0];
    if matches!(reader.read(&mut answer), Ok(1)) {
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int, and `pid` is our child, which nobody else waits for.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    if waited == pid && libc::WIFEXITED(status) {
        std::process::exit(libc::WEXITSTATUS(status));
    }
    Err(err!(Kind::Internal, "the background process died before the mount answered"))
}

impl Daemon {
    /// Lets go of the terminal and tells the parent that all is well.
    pub fn ready(mut self) -> Result<()> {
        let failed = |e: io::Error| err!(Kind::Internal, "cannot leave the terminal: {e}");
        std::env::set_current_dir("/").map_err(failed)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        for fd in 0..=2 {
            // SAFETY: both are open descriptors; replacing 0, 1 and 2 is what is meant.
            if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
                return Err(failed(io::Error::last_os_error()));
            }
        }
        self.parent.write_all(&[0]).map_err(failed)
    }
}

/// No core dumps and no debugger of the same user: the process is going to hold keys and log text.
pub fn harden() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit reads the struct, which is valid; prctl with this option takes no pointer.
    let (limited, undumpable) =
        unsafe { (libc::setrlimit(libc::RLIMIT_CORE, &none), libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)) };
    if limited != 0 || undumpable != 0 {
        log::warn!("core dumps could not be turned off: {}", io::Error::last_os_error());
    }
}

/// Keeps a secret out of swap and out of core dumps. As far as the limits go (RLIMIT_MEMLOCK): a refusal is no error.
///
/// A child does not inherit the lock: after [`fork`] it is to be taken anew.
pub fn lock(secret: &[u8]) {
    let before = secret.as_ptr().addr() % page_size();
    // SAFETY: madvise with this advice and mlock take whole pages, all of them mapped, as the secret lies in each; they read
    // nothing and change nothing there.
    let refused = unsafe {
        let (page, len) = (secret.as_ptr().wrapping_sub(before).cast_mut().cast(), before + secret.len());
        libc::madvise(page, len, libc::MADV_DONTDUMP) | libc::mlock(page, len)
    };
    if refused != 0 {
        log::info!("a key could not be locked into memory: {}", io::Error::last_os_error());
    }
}

/// Has the allocator give memory back: text comes and goes in pieces of a mebibyte on many threads, and glibc's own
/// defaults would keep half as much again in its arenas.
pub fn tame_allocator() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt takes two integers and is called before any other thread starts. A refusal changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 512 << 10);
            libc::mallopt(libc::M_ARENA_MAX, 4);
        }
    }
}

/// What the process has, watched: what the allocator keeps of freed memory is given back before it grows large. It does not
/// do so by itself where something is still in use above it: a cache of small texts that make way for large ones.
pub struct Slack {
    /// Below this it does not matter.
    from: u64,
    /// Above this it is too much.
    most: u64,
    /// What the process had after the last time.
    least: AtomicU64,
}

impl Slack {
    const STEP: u64 = 8 << 20;

    /// For a process with a budget of `memory` bytes. Of what it may have beside that, 100 MiB, its program takes up to 20
    /// that do not count here.
    pub fn beyond(memory: usize) -> Slack {
        let memory = memory as u64;
        Slack { from: memory + 2 * Slack::STEP, most: memory + 6 * Slack::STEP, least: AtomicU64::new(0) }
    }

    /// How many bytes it has too many, without `others`; below zero: how many it may have yet. To be called now and then; it
    /// costs little as long as the process does not grow.
    pub fn excess(&self, others: impl Fn() -> u64) -> i64 {
        let own = || own_memory(&std::fs::read_to_string("/proc/self/statm").unwrap_or_default()).unwrap_or(0);
        let mut now = own();
        if self.has_grown(now) {
            give_back();
            now = own();
            self.least.store(now, Ordering::Relaxed);
        }
        let excess = now.cast_signed() - self.most.cast_signed();
        if excess > 0 { excess.saturating_sub_unsigned(others()) } else { excess }
    }

    /// By a step since the last time; true for one of those who ask at once.
    fn has_grown(&self, now: u64) -> bool {
        let least = self.least.load(Ordering::Relaxed);
        let grown = now >= self.from && now >= least.saturating_add(Slack::STEP);
        grown && self.least.compare_exchange(least, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Bytes that are in memory and no file's; in pages the second and the third number of `/proc/self/statm`.
fn own_memory(statm: &str) -> Option<u64> {
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (all, files) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(all.saturating_sub(files) * page_size() as u64)
}

fn give_back() {
    // SAFETY: it takes a number, and touches what was freed only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf takes a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The user that we run as.
pub fn uid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

/// The group that we run as.
pub fn gid() -> u32 {
    // SAFETY: as geteuid.
    unsafe { libc::getegid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_each_step() {
        const MIB: u64 = 1 << 20;
        let slack = Slack::beyond(64 << 20);
        assert!(!slack.has_grown(79 * MIB));
        assert!(slack.has_grown(80 * MIB));
        assert!(!slack.has_grown(87 * MIB), "somebody is at it");
        // It was all in use.
        assert!(slack.has_grown(88 * MIB) && !slack.has_grown(88 * MIB));
        // Much of it was not.
        slack.least.store(40 * MIB, Ordering::Relaxed);
        assert!(!slack.has_grown(60 * MIB) && slack.has_grown(81 * MIB));
    }

    #[test]
    fn own_memory_has_no_files() {
        assert_eq!(own_memory("70000 500 100 30 0 60 0\n"), Some(400 * page_size() as u64));
        assert_eq!(own_memory("1 2"), None);
    }
}
