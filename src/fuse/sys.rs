//! System calls that no crate of ours wraps: each is one `unsafe` block.

use std::ffi::CStr;
use std::io;

/// umount2(2) with `MNT_DETACH`.
pub fn umount_lazily(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the kernel only reads it.
    let result = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
