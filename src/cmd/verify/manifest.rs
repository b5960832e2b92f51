//! The manifest: a head, a line of JSON for each object in the order of the tree, an end with their number.
//!
//! Invariant: but for the head's `made` a manifest depends on the archive and the flags only, not on what was done first;
//! one that was cut has no end.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::newfile::NewFile;
use super::report::Report;
use crate::error::Result;
use crate::key::Time;

/// Of the format. A reader refuses a higher one.
pub const VERSION: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub manifest: u32,
    pub tool: String,
    pub bucket: String,
    /// Flags and paths that were given.
    pub selection: serde_json::Value,
    pub made: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub end: bool,
    pub objects: u64,
}

pub struct Manifest {
    file: NewFile,
    objects: u64,
}

impl Manifest {
    pub fn begin(mut file: NewFile, bucket: String, selection: serde_json::Value) -> Result<Manifest> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let made = i64::try_from(now.as_secs()).ok().and_then(|secs| Time::from_unix(secs, 0)).unwrap_or(Time::EPOCH);
        let tool = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
        file.json(&Head { manifest: VERSION, tool, bucket, selection, made: made.to_string() })?;
        Ok(Manifest { file, objects: 0 })
    }

    pub fn object(&mut self, report: &Report) -> Result<()> {
        self.objects += 1;
        self.file.json(report)
    }

    pub fn commit(mut self) -> Result<()> {
        self.file.json(&End { end: true, objects: self.objects })?;
        self.file.commit()
    }
}

/// A line for `sha256sum -c`, which wants names with a backslash marked.
pub fn sum_line(sum: &str, path: &str) -> String {
    if path.contains('\\') {
        return format!("\\{sum}  {}\n", path.replace('\\', "\\\\"));
    }
    format!("{sum}  {path}\n")
}
