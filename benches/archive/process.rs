//! The real binary as a process of its own, and the memory that it took.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::s3;

/// `LOGARCHIVEFS` names another binary, to compare two.
pub fn program(endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("LOGARCHIVEFS").unwrap_or(env!("CARGO_BIN_EXE_logarchivefs").into()));
    command
        .args(args)
        .args(["--endpoint-url", endpoint, "--region", s3::REGION])
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end: the peak of its resident memory in KiB.
pub fn watched(command: &mut Command) -> Option<u64> {
    let mut child = command.spawn().unwrap();
    let mut peak = None;
    loop {
        // A child that has ended shows no memory any more.
        peak = peak.max(peak_rss(child.id()));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "the command failed: {ended}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// So far, in KiB.
pub fn peak_rss(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
