//! The manifest: a head, what is deleted, a line of JSON for each object in the order of the tree, an end with their number.
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

/// A log that a delete marker hides: a line between the head and the objects.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The object's key. Its name is what tells this line from an object's.
    pub deleted: String,
    pub path: String,
    pub deleted_at: String,
    /// The newest of its versions that has content.
    pub version_id: Option<String>,
}

/// How the line of a [`Deleted`] begins.
pub const DELETED: &[u8] = b"{\"deleted\":";

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

    pub fn deleted(&mut self, deleted: &Deleted) -> Result<()> {
        self.file.json(deleted)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The tool itself is the judge.
    #[test]
    fn a_line_of_sums_is_what_sha256sum_writes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["plain", r"back\slash", r"\\two\n", " *blank"] {
            std::fs::write(dir.path().join(name), name).unwrap();
            let written = Command::new("sha256sum").args(["--", name]).current_dir(dir.path()).output().unwrap().stdout;
            let written = String::from_utf8(written).unwrap();
            let sum = written.trim_start_matches('\\').split(' ').next().unwrap();
            assert_eq!(sum_line(sum, name), written);
        }
        assert_eq!(sum_line("00", r"a\b/c"), "\\00  a\\\\b/c\n");
    }

    #[test]
    fn the_line_of_a_deletion_is_told_by_its_beginning() {
        let deleted = Deleted { deleted: "k".into(), path: "p".into(), deleted_at: "t".into(), version_id: None };
        assert!(serde_json::to_vec(&deleted).unwrap().starts_with(DELETED));
        assert!(!serde_json::to_vec(&Report::default()).unwrap().starts_with(DELETED));
    }
}
