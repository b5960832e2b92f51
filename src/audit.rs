//! The audit log: who opened which object, and how much of it was read. One JSON object a line, each chained to the one
//! before it.
//!
//! ```text
//! {"n":7,"time":"2022-08-24T21:12:33.123456Z","event":"open",…,"hash":"<64 hex>"}
//! hash = SHA-256(hash of the line before, in hex || "\n" || the line as it is without `,"hash":"…"`)
//! ```
//!
//! Invariants: a line that was changed, taken out, put in or moved shows ([`check`]); so does a missing end, as an orderly
//! end is a line of its own. A chain proves order and wholeness, not who wrote it: whoever can write the file can write
//! another one, so the last hash is told to the program's log as well. No log text and no key is in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::err;
use crate::error::{Error, Kind, Result};

/// What the first line is chained to.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const LONGEST_LINE: u64 = 64 << 10;

/// Who asked, as the kernel says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    /// The name of the program, from /proc; empty if it has gone already.
    #[serde(default)]
    pub command: String,
}

impl Who {
    pub fn new(uid: u32, gid: u32, pid: u32) -> Who {
        Who { uid, gid, pid, command: String::new() }
    }

    fn named(&self) -> Who {
        let comm = std::fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        Who { command: crate::error::escape(comm.trim_ascii_end()), ..self.clone() }
    }
}

/// Which object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct What {
    pub key: String,
    pub etag: String,
    pub version_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A mount begins.
    Start { version: String, source: String, mountpoint: String },
    /// `open` numbers the opens of a mount.
    Open { open: u64, who: Who, what: What, proven: bool },
    /// An open that failed.
    Refused { who: Who, what: What, reason: String },
    /// `bytes`: handed to the kernel for this open; what it had in its page cache is not asked for again.
    Close { open: u64, who: Who, what: What, proven: bool, bytes: u64 },
    /// The mount has ended in order.
    End {},
}

#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    time: String,
    #[serde(flatten)]
    event: Event,
}

/// The log of a running mount. One process at a time has it.
pub struct Audit {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    n: u64,
    hash: String,
}

impl Audit {
    /// Goes on with the chain in `path`, or begins one (mode 0600). [`Kind::Config`] if it cannot be written, or another
    /// process has it. A damaged end does not stop the mount: a new chain begins behind it, and [`check`] tells.
    pub fn open(path: &Path) -> Result<Audit> {
        let shown = path.display();
        let failed = |e: io::Error| err!(Kind::Config, "cannot write the audit log {shown}: {e}");
        let path = std::path::absolute(path).map_err(failed)?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(err!(Kind::Config, "the audit log {shown} belongs to another mount: give each its own"));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let (n, hash) = match last_line(&mut file).map_err(failed)? {
            Last::None => (0, GENESIS.to_owned()),
            Last::Whole(line) => parse(&line).map_or((0, GENESIS.to_owned()), |(line, hash)| (line.n, hash)),
            Last::Torn => {
                log::error!("the audit log {shown} ends in the middle of a line: a new chain begins behind it");
                file.write_all(b"\n").map_err(failed)?;
                (0, GENESIS.to_owned())
            }
        };
        Ok(Audit { path, state: Mutex::new(State { file, n, hash }) })
    }

    /// Writes a line. [`Kind::Storage`] if that fails: then what it is about must not happen.
    pub fn write(&self, event: Event) -> Result<()> {
        let event = match event {
            Event::Open { open, who, what, proven } => Event::Open { open, who: who.named(), what, proven },
            Event::Refused { who, what, reason } => Event::Refused { who: who.named(), what, reason },
            other => other,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let line = serde_json::to_string(&Line { n: state.n + 1, time, event });
        let line = line.map_err(|e| err!(Kind::Internal, "the audit log: {e}"))?;
        let hash = chain(&state.hash, &line);
        let open = line.strip_suffix('}').unwrap_or(&line);
        // One write: a line is there or it is not.
        let whole = format!("{open},\"hash\":\"{hash}\"}}\n");
        state.file.write_all(whole.as_bytes()).map_err(|e| {
            err!(Kind::Storage, "the audit log {} cannot be written, so nothing is opened: {e}", self.path.display())
        })?;
        state.n += 1;
        state.hash = hash;
        Ok(())
    }

    /// The hash of the last line.
    pub fn head(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hash.clone()
    }
}

/// What [`check`] found in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub lines: u64,
    pub opens: u64,
    /// The hash of the last line.
    pub head: String,
    /// The last line is an orderly end. If not, a mount still runs, was killed, or the end was cut off.
    pub ended: bool,
}

/// Walks the chain. [`Kind::Tag`], with the number of the line, where it breaks.
pub fn check(path: &Path) -> Result<Summary> {
    let shown = path.display();
    let file = File::open(path).map_err(|e| err!(Kind::Config, "cannot read the audit log {shown}: {e}"))?;
    check_lines(BufReader::new(file), &shown.to_string())
}

fn check_lines(mut input: impl BufRead, shown: &str) -> Result<Summary> {
    let broken = |n: u64, why: &str| err!(Kind::Tag, "{shown}, line {n}: {why}");
    let mut summary = Summary { head: GENESIS.into(), ..Summary::default() };
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
        let here = summary.lines + 1;
        if read.map_err(|e| err!(Kind::Config, "cannot read the audit log {shown}: {e}"))? == 0 {
            return Ok(summary);
        }
        let line = text.strip_suffix(b"\n").ok_or_else(|| broken(here, "it breaks off"))?;
        let (line, hash) = parse(line).ok_or_else(|| broken(here, "not a line of an audit log"))?;
        if line.n != here {
            return Err(broken(here, &format!("it says that it is line {}: lines are missing or were added", line.n)));
        }
        if chain(&summary.head, &without_hash(&text).unwrap_or_default()) != hash {
            return Err(broken(here, "its hash does not follow from it and the line before: one of them was changed"));
        }
        summary.opens += u64::from(matches!(line.event, Event::Open { .. }));
        summary.ended = matches!(line.event, Event::End {});
        (summary.lines, summary.head) = (here, hash);
    }
}

fn chain(before: &str, line: &str) -> String {
    let hash = Sha256::new().chain_update(before).chain_update("\n").chain_update(line).finalize();
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

const HASH: &str = ",\"hash\":\"";

/// The line as it was when it was hashed.
fn without_hash(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?.trim_end_matches('\n');
    let (body, _) = line.rsplit_once(HASH)?;
    Some(format!("{body}}}"))
}

fn parse(line: &[u8]) -> Option<(Line, String)> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, hash) = text.rsplit_once(HASH)?;
    let hash = hash.strip_suffix("\"}").filter(|h| h.len() == 64)?.to_owned();
    Some((serde_json::from_slice(line).ok()?, hash))
}

enum Last {
    None,
    Whole(Vec<u8>),
    Torn,
}

fn last_line(file: &mut File) -> io::Result<Last> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(end.saturating_sub(LONGEST_LINE)))?;
    Read::by_ref(file).take(LONGEST_LINE).read_to_end(&mut tail)?;
    Ok(match tail.strip_suffix(b"\n") {
        None if tail.is_empty() => Last::None,
        None => Last::Torn,
        Some(lines) => Last::Whole(lines.rsplit(|b| *b == b'\n').next().unwrap_or_default().to_vec()),
    })
}

impl Drop for Audit {
    fn drop(&mut self) {
        let ended: Result<(), Error> = self.write(Event::End {});
        match ended {
            Ok(()) => log::info!("the audit log {} ends with {}", self.path.display(), self.head()),
            Err(e) => log::error!("{e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn what(key: &str) -> What {
        What { key: key.into(), etag: "e".into(), version_id: None }
    }

    fn log(path: &Path, opens: u64) {
        let audit = Audit::open(path).unwrap();
        audit.write(Event::Start { version: "1".into(), source: "s3://b/".into(), mountpoint: "/mnt".into() }).unwrap();
        for open in 1..=opens {
            let (who, what) = (Who::new(1, 2, std::process::id()), what("a\u{e9}\"\n,\"hash\":\"x\"}"));
            audit.write(Event::Open { open, who: who.clone(), what: what.clone(), proven: false }).unwrap();
            audit.write(Event::Close { open, who, what, proven: true, bytes: 7 }).unwrap();
        }
        assert_eq!(Audit::open(path).err().unwrap().kind(), Kind::Config, "one at a time");
    }

    #[test]
    fn a_whole_chain_holds_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        log(&path, 2);
        log(&path, 1);
        let summary = check(&path).unwrap();
        assert_eq!((summary.lines, summary.opens, summary.ended), (2 + 4 + 2 + 2, 3, true));
        let text = fs::read_to_string(&path).unwrap();
        let first_open: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(first_open["event"], "open");
        assert!(!first_open["who"]["command"].as_str().unwrap().is_empty());
    }

    #[test]
    fn every_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        log(&path, 3);
        let whole = fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
        let says = |bytes: &[u8]| check_lines(bytes, "log");
        // Any byte.
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(says(&changed).is_err(), "byte {at}");
        }
        for n in 0..lines.len() {
            let without: Vec<u8> =
                lines.iter().enumerate().filter(|(i, _)| *i != n).flat_map(|(_, l)| *l).copied().collect();
            let result = says(&without);
            // The last one is the end: without it the log is whole so far, and says that it has not ended.
            assert!(if n + 1 == lines.len() { !result.unwrap().ended } else { result.is_err() }, "line {n}");
        }
        let cut = whole.len() - 10;
        assert!(says(&whole[..cut]).unwrap_err().to_string().contains("breaks off"));
        assert_eq!(says(b"").unwrap(), Summary { head: GENESIS.into(), ..Summary::default() });
        assert!(says(&[b'x'; 100_000]).is_err());
    }

    #[test]
    fn a_torn_end_does_not_stop_a_mount_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        log(&path, 1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        log(&path, 1);
        assert!(check(&path).unwrap_err().to_string().contains("line 4"));
    }
}
