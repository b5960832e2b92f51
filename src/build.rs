//! Before the crate is built: which commit it is, for `--version`, in `LOGARCHIVEFS_VERSION`.
//!
//! A checkout asks git; a package from a registry has the commit in `.cargo_vcs_info.json`; without either it is the plain
//! version. Nothing else of the machine or the time gets in, so a build stays reproducible.

use std::path::Path;
use std::process::Command;

fn main() {
    let mut version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(commit) = packaged().or_else(checked_out) {
        version = format!("{version} ({commit})");
    }
    println!("cargo::rustc-env=LOGARCHIVEFS_VERSION={version}");
    println!("cargo::rerun-if-changed=src/build.rs");
}

/// What `cargo package` wrote: `{"git": {"sha1": "<40 hex digits>"}, ...}`.
fn packaged() -> Option<String> {
    let info = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    commit(rest.trim_start_matches([':', ' ', '"']))
}

fn checked_out() -> Option<String> {
    // Sources that were unpacked somewhere inside another repository are not of its commit.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // The log of HEAD grows with every commit and checkout, wherever the branch itself is kept. A path that is missing
    // would make cargo build again each time.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    commit(&git(&["rev-parse", "HEAD"])?)
}

fn commit(text: &str) -> Option<String> {
    text.get(..12).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned)
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
