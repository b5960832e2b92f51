//! Telling the service manager (sd_notify(3)) and writing the pid file.

use std::fs;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use crate::err;
use crate::error::{Kind, Result};

/// `READY=1`, `STOPPING=1`, `STATUS=…`; nothing without a manager that wants to know.
pub fn manager(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = socket.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(&socket),
    };
    let sent = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
    if let Err(e) = sent {
        log::warn!("the service manager could not be told {state}: {e}");
    }
}

/// A file with our process id, for as long as this lives.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Replaces what an earlier process left behind.
    pub fn write(path: &Path) -> Result<PidFile> {
        let failed = |e| err!(Kind::Config, "cannot write the pid file {}: {e}", path.display());
        // The working directory of a daemon is another one.
        let path = std::path::absolute(path).map_err(failed)?;
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0) {
            log::warn!("the pid file {} stays: {e}", self.0.display());
        }
    }
}
