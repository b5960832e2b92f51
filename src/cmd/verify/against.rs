//! A manifest of before, to compare with.
//!
//! Invariants: a manifest is taken whole or refused with the line that is wrong; memory is 17 bytes an object, as its lines
//! stay in the file until they are asked for.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::manifest::{DELETED, Deleted, End, Head, VERSION};
use super::report::Report;
use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// Bytes. Keys have 1,024 at most, and reasons are short.
const LONGEST_LINE: usize = 64 << 10;

pub struct Against {
    path: PathBuf,
    file: File,
    /// Hash of the key and offset of the line, in the order of the hashes.
    lines: Vec<(u64, u64)>,
    seen: Vec<bool>,
    /// Keyed, so that nobody can make keys that collide.
    hasher: RandomState,
}

/// What an object is to the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    New,
    /// The same bytes, uploaded again: the names of the fields that differ.
    OtherVersion(Vec<&'static str>),
    Changed(Vec<&'static str>),
}

impl Against {
    pub fn open(path: &Path) -> Result<Against> {
        let reading = |e: std::io::Error| err!(Kind::Config, "cannot read the manifest {}: {e}", path.display());
        let file = File::open(path).map_err(reading)?;
        if !file.metadata().map_err(reading)?.is_file() {
            return Err(err!(Kind::Config, "{}: not a regular file; a manifest is read twice", path.display()));
        }
        let mut against =
            Against { path: path.to_owned(), file, lines: Vec::new(), seen: Vec::new(), hasher: RandomState::new() };
        against.index()?;
        Ok(against)
    }

    fn index(&mut self) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 20, self.file.try_clone().map_err(|e| self.reading(&e))?);
        let (mut line, mut at, mut number) = (Vec::new(), 0, 0_u64);
        let mut ended = false;
        loop {
            line.clear();
            let got = reader.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', &mut line);
            got.map_err(|e| self.reading(&e))?;
            if line.is_empty() {
                break;
            }
            number += 1;
            let wrong = |why: &str| err!(Kind::Config, "{}, line {number}: {why}", self.path.display());
            if line.last() != Some(&b'\n') {
                return Err(wrong(if line.len() == LONGEST_LINE { "too long for a manifest" } else { "cut off" }));
            }
            if ended {
                return Err(wrong("something follows the manifest's end"));
            }
            if number == 1 {
                let head: Head = serde_json::from_slice(&line).map_err(|_| wrong("not the head of a manifest"))?;
                if head.manifest != VERSION {
                    return Err(wrong(&format!("version {} of the format is not known here", head.manifest)));
                }
            } else if line.starts_with(DELETED) && self.lines.is_empty() {
                // What was hidden then is no object to look for.
                serde_json::from_slice::<Deleted>(&line).map_err(|e| wrong(&no_line(&e)))?;
            } else if let Ok(end) = serde_json::from_slice::<End>(&line) {
                if end.objects != self.lines.len() as u64 {
                    let (said, there) = (end.objects, self.lines.len());
                    return Err(wrong(&format!("the manifest is of {said} objects, and {there} are there")));
                }
                ended = true;
            } else {
                let report = parse(&line).map_err(|why| wrong(&why))?;
                self.lines.push((self.hasher.hash_one(report.key), at));
            }
            at += line.len() as u64;
        }
        if !ended {
            return Err(err!(Kind::Config, "{}: the manifest has no end: it was cut off", self.path.display()));
        }
        self.lines.sort_unstable();
        self.seen = vec![false; self.lines.len()];
        for two in self.lines.windows(2).filter(|two| two[0].0 == two[1].0) {
            let key = self.read(two[0].1)?.key;
            if self.read(two[1].1)?.key == key {
                return Err(err!(Kind::Config, "{}: two lines for one key, {}", self.path.display(), shown(&key)));
            }
        }
        Ok(())
    }

    /// Looks the object up, and remembers that it is there.
    pub fn compare(&mut self, report: &Report) -> Result<Change> {
        let hash = self.hasher.hash_one(&report.key);
        let first = self.lines.partition_point(|line| line.0 < hash);
        for place in first..self.lines.len() {
            let (other, at) = self.lines[place];
            if other != hash {
                break;
            }
            let old = self.read(at)?;
            if old.key == report.key {
                self.seen[place] = true;
                return Ok(change(&old, report));
            }
        }
        Ok(Change::New)
    }

    /// The lines of objects that were not compared, in the manifest's order.
    pub fn missing(&self) -> impl Iterator<Item = Result<Report>> {
        let unseen = self.lines.iter().zip(&self.seen).filter(|(_, seen)| !**seen);
        let mut places: Vec<u64> = unseen.map(|((_, at), _)| *at).collect();
        places.sort_unstable();
        places.into_iter().map(|at| self.read(at))
    }

    fn read(&self, at: u64) -> Result<Report> {
        let mut line = vec![0; 2048];
        loop {
            let got = self.file.read_at(&mut line, at).map_err(|e| self.reading(&e))?;
            if let Some(end) = memchr::memchr(b'\n', &line[..got]) {
                return parse(&line[..end]).map_err(|why| err!(Kind::Config, "{}: {why}", self.path.display()));
            }
            if got < line.len() || line.len() > LONGEST_LINE {
                return Err(err!(Kind::Config, "{}: the manifest changed while it was read", self.path.display()));
            }
            line.resize(2 * line.len(), 0);
        }
    }

    fn reading(&self, e: &std::io::Error) -> Error {
        err!(Kind::Config, "cannot read the manifest {}: {e}", self.path.display())
    }
}

fn parse(line: &[u8]) -> Result<Report, String> {
    let report: Report = serde_json::from_slice(line).map_err(|e| no_line(&e))?;
    if report.key.is_empty() || report.verdict.is_empty() {
        return Err("no line of a manifest: key or verdict is missing".into());
    }
    Ok(report)
}

fn no_line(e: &serde_json::Error) -> String {
    format!("no line of a manifest: {}", escape(e.to_string().as_bytes()))
}

fn change(old: &Report, new: &Report) -> Change {
    let differ = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let contents = [
        ("size", old.size != new.size),
        ("sha256_ciphertext", differ(&old.sha256_ciphertext, &new.sha256_ciphertext)),
        ("sha256_gzip", differ(&old.sha256_gzip, &new.sha256_gzip)),
        ("sha256_text", differ(&old.sha256_text, &new.sha256_text)),
    ];
    let version = [("etag", old.etag != new.etag), ("version_id", differ(&old.version_id, &new.version_id))];
    let names = contents.iter().chain(&version).filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    let compared = old.sha256_ciphertext.is_some() && new.sha256_ciphertext.is_some();
    match (contents.iter().any(|c| c.1), version.iter().any(|v| v.1)) {
        (false, false) => Change::None,
        (false, true) if compared => Change::OtherVersion(names),
        _ => Change::Changed(names),
    }
}

/// Text of a manifest, which may be anybody's, fit for a terminal.
pub fn shown(text: &str) -> String {
    if text.split('/').all(crate::key::is_safe_component) { text.to_owned() } else { escape(text.as_bytes()) }
}
