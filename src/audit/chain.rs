//! The file of the audit log: append only, ours alone while we have it.
//!
//! Invariants: nothing that is in the file is ever changed or taken out; what stands in it is whole lines that hang on
//! each other, and between them beginnings of lines that could not be finished (a full disk, a crash), each ended by
//! [`TORN`] and vouched for by a `torn` line behind them, which hangs on the last whole line before them.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::line::{BEGIN, Event, GENESIS, LONGEST, TORN, VERSION, hex, parse, render};
use super::own::{Own, config, shown};
use crate::err;
use crate::error::{Kind, Result};

/// How much of the end of a file is looked at for its last whole line.
const TAIL: u64 = 4 * LONGEST as u64;

pub struct Chain {
    path: PathBuf,
    file: Own,
    /// Number and hash of the last whole line.
    n: u64,
    hash: String,
    /// Bytes in the file, as far as we know.
    len: u64,
    torn: Option<Torn>,
}

/// What stands behind the last whole line.
#[derive(Clone, Default)]
struct Torn {
    bytes: u64,
    sum: Sha256,
    /// [`TORN`] is behind it.
    ended: bool,
}

impl Chain {
    /// Goes on with the chain in `path`, or begins one. [`Kind::Config`] where that cannot be.
    pub fn open(path: &Path) -> Result<Chain> {
        let path = std::path::absolute(path).map_err(|e| config(path, &format!("cannot be opened: {e}")))?;
        let file = Own::open(&path)?;
        let reading = |e: io::Error| config(&path, &format!("cannot be read: {e}"));
        let len = file.metadata().map_err(reading)?.len();
        let from = len.saturating_sub(TAIL);
        let mut tail = vec![0; usize::try_from(len - from).unwrap_or_default()];
        file.read_exact_at(&mut tail, from).map_err(reading)?;
        let (n, hash, torn) = last(&tail, from == 0).map_err(|why| {
            config(&path, &format!("{why}: keep it as evidence (`verify --audit-log` says more) and name a new file"))
        })?;
        if torn.is_some() {
            log::warn!(
                "the audit log {} ends in the middle of a line, as after a crash: it goes on behind it",
                shown(&path)
            );
        }
        Ok(Chain { path, file, n, hash, len, torn })
    }

    /// Appends a line: its number. An error is about the file, and [`Kind::Storage`].
    pub fn append(&mut self, time: &str, event: &Event) -> Result<u64> {
        self.watch().and_then(|()| self.mend(time)).and_then(|()| self.line(time, event)).map_err(|e| {
            let what = "the audit log cannot be written, and what it cannot tell of is refused";
            err!(Kind::Storage, "{what}: {e}").about(&self.path.to_string_lossy())
        })?;
        Ok(self.n)
    }

    pub fn n(&self) -> u64 {
        self.n
    }

    /// For people: where it ends.
    pub fn head(&self) -> String {
        format!("the audit log {} has line {}, head {}", shown(&self.path), self.n, self.hash)
    }

    /// The file, to be synced elsewhere.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Goes on in a new file where the old one was moved away: what it had was its `head`. None if it is where it was.
    pub fn reopen(&mut self, time: &str) -> Result<Option<(Own, String)>> {
        let (ours, there) = (self.file.metadata(), std::fs::symlink_metadata(&self.path));
        if let (Ok(ours), Ok(there)) = (&ours, &there)
            && (ours.dev(), ours.ino()) == (there.dev(), there.ino())
        {
            return Ok(None);
        }
        let file = Own::open(&self.path)?;
        if file.metadata().is_ok_and(|m| m.len() > 0) {
            return Err(config(&self.path, "is another file now, and not an empty one: the old one is written on"));
        }
        // The old one may be why: it is full, or gone.
        self.append(time, &Event::Rotated {}).map_err(|e| log::error!("{e}")).ok();
        let head = self.head();
        let old = std::mem::replace(&mut self.file, file);
        (self.len, self.torn) = (0, None);
        self.append(time, &Event::Continued { format: VERSION })?;
        Ok(Some((old, head)))
    }

    /// What others do to the file.
    fn watch(&mut self) -> io::Result<()> {
        let meta = self.file.metadata()?;
        if meta.nlink() == 0 {
            return Err(io::Error::other("it was removed; SIGHUP begins a new file"));
        }
        if meta.len() != self.len {
            log::error!(
                "the audit log {} has {} bytes and not {}: somebody else has changed it",
                shown(&self.path),
                meta.len(),
                self.len
            );
            self.len = meta.len();
        }
        Ok(())
    }

    fn mend(&mut self, time: &str) -> io::Result<()> {
        if self.torn.as_ref().is_some_and(|torn| !torn.ended) {
            self.put(TORN)?;
            self.tear(TORN);
        }
        let Some(Torn { bytes, sum, .. }) = self.torn.clone() else { return Ok(()) };
        self.line(time, &Event::Torn { bytes, sha256: hex(&sum.finalize()) })
    }

    /// The line is in the file, whole, or what there is of it is torn.
    fn line(&mut self, time: &str, event: &Event) -> io::Result<()> {
        let (line, hash) = render(self.n + 1, time, event, &self.hash)?;
        self.put(line.as_bytes())?;
        self.n += 1;
        self.hash = hash;
        self.torn = None;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let failed = match (&*self.file).write(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(n) => {
                    self.len += n as u64;
                    left = left.get(n..).unwrap_or_default();
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            self.tear(bytes.get(..bytes.len() - left.len()).unwrap_or_default());
            return Err(failed);
        }
        Ok(())
    }

    /// These bytes are in the file, and no line.
    fn tear(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.torn.get_or_insert_default().add(bytes);
        }
    }
}

impl Torn {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sum.update(bytes);
        self.ended = bytes.ends_with(TORN);
    }
}

/// The end of a file: number and hash of its last whole line, and what is behind that. `all`: it is the whole file.
fn last(tail: &[u8], all: bool) -> Result<(u64, String, Option<Torn>), &'static str> {
    let mut lines = tail;
    // What has no line feed behind it, and what was ended in its place.
    while !lines.is_empty() && (!lines.ends_with(b"\n") || lines.ends_with(TORN)) {
        let before = lines.strip_suffix(b"\n").unwrap_or(lines);
        lines = tail.get(..memchr::memrchr(b'\n', before).map_or(0, |at| at + 1)).unwrap_or_default();
    }
    let rest = tail.get(lines.len()..).unwrap_or_default();
    // Of a line, or the zeros that some file systems leave after a crash.
    let begin = rest.split(|b| *b == TORN[0]).next().unwrap_or_default();
    let ours = begin.starts_with(BEGIN) || BEGIN.starts_with(begin) || begin.starts_with(&[0]);
    if !ours || rest.len() > LONGEST {
        return Err("is no audit log, or what stands at its end is none");
    }
    let mut torn = Torn::default();
    torn.add(rest);
    let torn = (!rest.is_empty()).then_some(torn);
    let Some(line) = lines.strip_suffix(b"\n") else {
        return if all { Ok((0, GENESIS.into(), torn)) } else { Err("is no audit log") };
    };
    match parse(line.rsplit(|b| *b == b'\n').next().unwrap_or_default()) {
        Ok(line) => Ok((line.n, line.hash, torn)),
        Err(_) => Err("is no audit log, or its last line was changed"),
    }
}
