//! The two questions about the process itself that std leaves to `unsafe`: its environment and its user.
//!
//! Invariant: all `unsafe` for key sources is here, and each block says why it holds.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use zeroize::{Zeroize, Zeroizing};

use crate::err;
use crate::error::{Kind, Result};

/// The variable with base64 keys, separated by commas or white space.
pub const KEYS_VARIABLE: &str = "LOGARCHIVEFS_KEYS";

/// What [`KEYS_VARIABLE`] held. Wiped when dropped.
pub struct EnvKeys(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for EnvKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvKeys")
    }
}

/// Takes [`KEYS_VARIABLE`] out of the environment, so that no child process and no later code sees it, and wipes it where
/// `/proc/PID/environ` shows it.
///
/// Call it first in `main`: once there is a second thread it is refused ([`Kind::Internal`]), if the variable is set.
pub fn take_env_keys() -> Result<Option<EnvKeys>> {
    let Some(keys) = std::env::var_os(KEYS_VARIABLE) else {
        return Ok(None);
    };
    let keys = EnvKeys(Zeroizing::new(keys.into_vec()));
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if !matches!(threads, Ok(1)) {
        return Err(err!(Kind::Internal, "{KEYS_VARIABLE} cannot be taken: not the only thread, or no /proc"));
    }
    let name = CString::new(KEYS_VARIABLE).unwrap_or_default();
    // SAFETY: nothing else can read or change the environment meanwhile: the kernel counts one thread, which is this one,
    // and it starts none before the block ends. What getenv returns is a NUL-terminated string in this process's own
    // writable memory (the block that exec laid out), and it keeps its length.
    unsafe {
        let text = libc::getenv(name.as_ptr());
        if !text.is_null() {
            std::slice::from_raw_parts_mut(text.cast::<u8>(), libc::strlen(text)).zeroize();
        }
        std::env::remove_var(KEYS_VARIABLE);
    }
    Ok(Some(keys))
}

pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Does something only in the process that the test below starts: there the variable is set.
    #[test]
    fn child() {
        if std::env::var_os(KEYS_VARIABLE).is_some_and(|v| v == "a,b") {
            let e = take_env_keys().unwrap_err();
            assert_eq!(e.kind(), Kind::Internal);
            assert!(std::env::var_os(KEYS_VARIABLE).is_some());
            println!("refused");
        }
    }

    /// The harness always has a second thread. A single thread is the program itself: its tests cover that.
    #[test]
    fn with_a_second_thread_the_environment_is_left_alone() {
        let name = module_path!().split_once("::").unwrap().1.to_owned() + "::child";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(KEYS_VARIABLE, "a,b")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("refused"), "{text}");
    }
}
