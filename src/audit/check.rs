//! Walking an audit log: does each line hang on the one before it, and what do they tell.
//!
//! Invariant: a report is whole only if every byte of every file is part of the chain, or vouched for by it; but for
//! what stands behind the last line feed, whose size it tells.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::line::{Fields, GENESIS, LONGEST, TORN, hex, parse};
use crate::err;
use crate::error::{Kind, Result, escape};

/// What the files tell, as far as they are whole. The fields as docs/AUDIT.md explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub whole: bool,
    pub broken: Option<Broken>,
    /// What the first line hangs on, where it is not the first of its chain.
    pub continues: Option<String>,
    pub lines: u64,
    pub mounts: u64,
    /// Mounts without an `end`, but for the last one.
    pub unended: u64,
    pub opens: u64,
    pub closes: u64,
    pub refused: u64,
    /// Bytes of text in all closes.
    pub bytes: u64,
    /// Beginnings of lines that the chain vouches for.
    pub torn: u64,
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    /// The last mount has ended.
    pub ended: bool,
    /// Bytes behind the last whole line, which nothing vouches for yet.
    pub unfinished: u64,
    pub head: String,
    /// The heads that were asked for.
    pub heads: Vec<Head>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub file: String,
    /// In that file.
    pub line: u64,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    pub hash: String,
    /// The number of the line that has it.
    pub n: Option<u64>,
}

/// Checks the files of one log, oldest first, and that each of `heads` is the hash of one of their lines. An error: a
/// file cannot be read.
pub fn check(paths: &[PathBuf], heads: &[String]) -> Result<Report> {
    let mut walk = Walk::new(heads);
    for path in paths {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let failed = |e: io::Error| err!(Kind::Config, "cannot read the audit log {shown}: {e}");
        let file = File::open(path).map_err(failed)?;
        walk.file(BufReader::with_capacity(1 << 20, file), &shown).map_err(failed)?;
    }
    Ok(walk.end())
}

/// The same of bytes.
pub fn check_bytes(bytes: &[u8]) -> Report {
    let mut walk = Walk::new(&[]);
    // Memory can be read.
    walk.file(bytes, "").ok();
    walk.end()
}

struct Walk {
    report: Report,
    /// Number of the last line.
    n: u64,
    /// A mount has begun and not ended.
    running: bool,
    torn: Torn,
}

/// Beginnings of lines since the last whole one.
#[derive(Default)]
struct Torn {
    pieces: u64,
    bytes: u64,
    sum: Sha256,
}

impl Walk {
    fn new(heads: &[String]) -> Walk {
        let heads = heads.iter().map(|hash| Head { hash: hash.clone(), n: None }).collect();
        let report = Report { head: GENESIS.into(), heads, ..Report::default() };
        Walk { report, n: 0, running: false, torn: Torn::default() }
    }

    fn file(&mut self, mut input: impl BufRead, shown: &str) -> io::Result<()> {
        let mut text = Vec::new();
        let mut number = 0;
        while self.report.broken.is_none() {
            text.clear();
            number += 1;
            if input.by_ref().take(LONGEST as u64).read_until(b'\n', &mut text)? == 0 {
                // What a crash has left is told by the next mount; until then, and where a file was moved away, by nobody.
                self.report.unfinished += std::mem::take(&mut self.torn).bytes;
                break;
            }
            let result = match text.strip_suffix(b"\n") {
                None if text.len() == LONGEST => Err("it is no line of an audit log".to_owned()),
                None => {
                    self.torn.bytes += text.len() as u64;
                    Ok(())
                }
                Some(_) if text.ends_with(TORN) => {
                    self.torn.pieces += 1;
                    self.torn.bytes += text.len() as u64;
                    self.torn.sum.update(&text);
                    Ok(())
                }
                Some(line) => parse(line).map_err(str::to_owned).and_then(|line| self.line(line)),
            };
            if let Err(reason) = result {
                self.report.broken = Some(Broken { file: shown.to_owned(), line: number, reason });
            }
        }
        Ok(())
    }

    fn line(&mut self, line: Fields) -> Result<(), String> {
        let report = &mut self.report;
        let first = report.lines == 0;
        if first && line.event == "continued" && line.n > 1 {
            report.continues = Some(line.prev.clone());
            // Whether the mount that goes on here had begun, the file before tells.
            self.running = true;
        } else if first && (line.n != 1 || line.prev != GENESIS) {
            return Err(format!("it is line {} of its log: what was before it is not there", line.n));
        } else if line.prev != report.head || line.n != self.n + 1 {
            let (said, after) = (line.n, self.n);
            return Err(format!(
                "it is line {said} and does not follow from line {after}: lines were cut out, put in, moved or changed"
            ));
        }
        match line.event.as_str() {
            "torn" => {
                let Torn { pieces, bytes, sum } = std::mem::take(&mut self.torn);
                if pieces == 0 || (line.bytes, line.sha256) != (bytes, hex(&sum.finalize())) {
                    return Err("it vouches for a torn line that is not there, or was changed".into());
                }
                report.torn += pieces;
            }
            _ if self.torn.pieces > 0 => return Err("before it is a torn line that nothing vouches for".into()),
            "start" => {
                report.mounts += 1;
                report.unended += u64::from(self.running);
                self.running = true;
            }
            "end" => self.running = false,
            "open" => report.opens += 1,
            "refused" => report.refused += 1,
            "close" => {
                report.closes += 1;
                report.bytes = report.bytes.saturating_add(line.bytes);
            }
            _ => {}
        }
        self.n = line.n;
        report.lines += 1;
        report.first_time.get_or_insert_with(|| line.time.clone());
        report.last_time = Some(line.time);
        report.heads.iter_mut().filter(|head| head.hash == line.hash).for_each(|head| head.n = Some(line.n));
        report.head = line.hash;
        Ok(())
    }

    fn end(self) -> Report {
        let mut report = self.report;
        report.ended = !self.running && report.lines > 0 && report.unfinished == 0 && report.broken.is_none();
        report.whole = report.broken.is_none() && report.heads.iter().all(|head| head.n.is_some());
        report
    }
}
