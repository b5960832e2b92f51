//! No test hangs: conditions are polled up to a limit, and a watchdog ends the whole test program.
//!
//! The watchdog takes every mount of this process out of the tree and kills its daemons first, so that a reader stuck
//! in the kernel comes back and nothing is left behind.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// For one condition. Far beyond what any takes; a test that needs it has failed.
const LIMIT: Duration = Duration::from_secs(180);
/// For the whole test program.
const PROGRAM: Duration = Duration::from_secs(15 * 60);

/// Daemons by mountpoint.
static RUNNING: Mutex<BTreeMap<PathBuf, u32>> = Mutex::new(BTreeMap::new());

pub fn watch(path: &Path, pid: u32) {
    static DOG: Once = Once::new();
    DOG.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(PROGRAM);
            eprintln!("watchdog: the tests are not done after {PROGRAM:?}: aborting");
            for (path, pid) in RUNNING.lock().unwrap().iter() {
                eprintln!("watchdog: still mounted: {}", path.display());
                kill(*pid, libc::SIGKILL);
                detach(path);
            }
            std::process::abort();
        });
    });
    RUNNING.lock().unwrap().insert(path.to_owned(), pid);
}

pub fn unwatch(path: &Path) {
    RUNNING.lock().unwrap().remove(path);
}

/// Asks until `test` says something; the only place where tests wait by the clock.
pub fn eventually<T>(what: &str, test: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, test).unwrap_or_else(|| panic!("not after {LIMIT:?}: {what}"))
}

pub fn within<T>(limit: Duration, mut test: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = test() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Runs a test that counts in seconds. Again, twice at most, if it fails when the whole machine stood still meanwhile, as
/// those of others do that share a host: that says nothing about the program.
pub fn steady(test: impl Fn()) {
    const STOOD_STILL: Duration = Duration::from_millis(300);
    for last in [false, false, true] {
        let done = AtomicBool::new(false);
        let (result, longest) = std::thread::scope(|scope| {
            let pulse = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    std::thread::sleep(Duration::from_millis(10));
                    longest = longest.max(start.elapsed());
                }
                longest
            });
            let result = catch_unwind(AssertUnwindSafe(&test));
            done.store(true, Ordering::Relaxed);
            (result, pulse.join().unwrap())
        });
        match result {
            Ok(()) => return,
            Err(failed) if last || longest < STOOD_STILL => resume_unwind(failed),
            Err(_) => eprintln!("the machine stood still for {longest:?}: once more"),
        }
    }
}

/// Says that a test, or a part of it, cannot run here. Not by a macro: what those print of a test that passes is not shown.
pub fn left_out(what: &str, why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    std::io::Write::write_all(&mut std::io::stderr(), format!("{name}: left out: {what}: {why}\n").as_bytes()).unwrap();
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: kill takes no pointer; the pid is that of a child which has not been waited for.
    unsafe { libc::kill(pid as i32, signal) };
}

/// The most memory that a process had so far (VmHWM), in MiB. It must not have been waited for.
pub fn peak_mib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the process has ended");
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

pub fn detach(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a valid C string.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
}

/// Unmounts by a plain `umount`, not lazily: nobody may have anything open but children of other tests, which hold all
/// descriptors of this process until they are programs of their own.
pub fn unmount(command: &mut Command) {
    eventually("nobody has anything open", || run(command).status.success().then_some(()));
}

/// The options of the file system mounted right on `path`: `(mount options, type, source)`.
pub fn mountinfo(path: &Path) -> Option<(String, String, String)> {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().rev().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|f| *f == "-")?;
        (Path::new(fields[4]) == path).then(|| (fields[5].into(), fields[dash + 1].into(), fields[dash + 2].into()))
    })
}

/// Whether the file system at `path` answers: a dead mount does not.
pub fn answers(path: &Path) -> bool {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a valid C string, and room for the struct.
    unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) == 0 }
}

pub fn is_mounted(path: &Path) -> bool {
    mountinfo(path).is_some()
}

/// Runs a command to its end, with what it printed; killed and failed after [`LIMIT`].
pub fn run(command: &mut Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let Some(status) = within(LIMIT, || child.try_wait().unwrap()) else {
        kill(pid, libc::SIGKILL);
        panic!("{command:?} is not done after {LIMIT:?}");
    };
    Output { status, stdout: out.join().unwrap().unwrap(), stderr: err.join().unwrap().unwrap() }
}
