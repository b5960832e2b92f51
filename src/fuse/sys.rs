//! System calls that no crate of ours wraps: each is one `unsafe` block.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

/// umount2(2); lazily: with `MNT_DETACH`.
pub fn umount(path: &CStr, lazily: bool) -> io::Result<()> {
    let detach = if lazily { libc::MNT_DETACH } else { 0 };
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the kernel only reads it.
    let result = unsafe { libc::umount2(path.as_ptr(), detach | libc::UMOUNT_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether statfs(2) works: the file system at `path` answers.
pub fn statfs(path: &CStr) -> io::Result<()> {
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `answer` has room for the struct; both outlive the call.
    let result = unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
