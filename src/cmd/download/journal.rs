//! The receipt of a download, `.logarchivefs-download.jsonl` in its folder: a JSON line for each file. It says which
//! object the file was made from, and a later run knows by it what it need not fetch again.
//!
//! Invariants:
//! * A line is written when the file's content is on the disk under a temporary name, *before* the file gets its own. So
//!   a file that is as its line says is whole, whenever the run was killed or the power failed.
//! * Nothing of a log's text is in it. It is only ever appended to; of two lines for one path the later one counts, and a
//!   line that cannot be read (the last one of a killed run) counts for nothing.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};

use serde::{Deserialize, Serialize};

use super::root::{Root, Stat};
use crate::err;
use crate::error::{Kind, Result};
use crate::key::Time;
use crate::object::Listed;

pub const NAME: &str = ".logarchivefs-download.jsonl";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// Below the folder.
    pub path: String,
    /// Empty: what is at `path` is not ours, whatever was said before.
    pub key: String,
    pub etag: String,
    pub version_id: Option<String>,
    pub size: u64,
    /// RFC 3339.
    pub mtime: String,
    /// Of sealed copies: the object was opened with its key, and is sound. The others are not there otherwise.
    #[serde(default)]
    pub proven: bool,
}

/// What the lines say, in a few bytes for each: there may be a million.
pub struct Receipts {
    hash: RandomState,
    /// By path.
    files: HashMap<u64, Receipt>,
}

struct Receipt {
    object: u64,
    stat: u64,
    proven: bool,
}

/// What is at a path, as far as a download is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// The very file that this download would make.
    Finished {
        proven: bool,
    },
    /// A part of it: the run that made it ended before the rest had its name.
    Half,
    /// Why it may not be overwritten.
    InTheWay(&'static str),
}

impl Receipts {
    pub fn read(file: &File) -> Result<Receipts> {
        let mut receipts = Receipts { hash: RandomState::new(), files: HashMap::new() };
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(|e| err!(Kind::Config, "cannot read {NAME}: {e}"))?;
            let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
            let path = receipts.hash.hash_one(line.path.as_str());
            if line.key.is_empty() {
                receipts.files.remove(&path);
                continue;
            }
            let Some(mtime) = Time::parse_rfc3339(&line.mtime) else { continue };
            let receipt = Receipt {
                object: receipts.hash.hash_one((&line.key, &line.etag)),
                stat: receipts.hash.hash_one(Stat { size: line.size, mtime }),
                proven: line.proven,
            };
            receipts.files.insert(path, receipt);
        }
        Ok(receipts)
    }

    /// Compares what is on the disk with what was written there once, and that with the object.
    pub fn find(&self, root: &Root, path: &str, object: &Listed) -> Result<Found> {
        let Some(stat) = root.stat(path)? else { return Ok(Found::Nothing) };
        let Some(receipt) = self.files.get(&self.hash.hash_one(path)) else {
            return Ok(Found::InTheWay("is there, and no download made it"));
        };
        Ok(if receipt.stat != self.hash.hash_one(stat) {
            Found::InTheWay("is there, and was changed since it was downloaded")
        } else if receipt.object != self.hash.hash_one((&object.key, &object.etag)) {
            Found::InTheWay("is there, from another version of the object")
        } else {
            Found::Finished { proven: receipt.proven }
        })
    }
}

/// For appending.
pub struct Journal {
    file: File,
    /// The last line has no end.
    torn: bool,
}

impl Journal {
    /// `file`: one that [`Receipts`] were read from.
    pub fn new(file: File) -> Result<Journal> {
        use std::os::unix::fs::FileExt;
        let failed = |e: std::io::Error| err!(Kind::Config, "cannot read {NAME}: {e}");
        let mut last = [b'\n'];
        if let Some(at) = file.metadata().map_err(failed)?.len().checked_sub(1) {
            file.read_exact_at(&mut last, at).map_err(failed)?;
        }
        Ok(Journal { torn: last != *b"\n", file })
    }

    /// On the disk when this returns.
    pub fn append<'a>(&mut self, root: &Root, lines: impl Iterator<Item = &'a Line>) -> Result<()> {
        let mut text = Vec::new();
        if std::mem::take(&mut self.torn) {
            text.push(b'\n');
        }
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|e| err!(Kind::Internal, "cannot write {NAME}: {e}"))?;
            text.push(b'\n');
        }
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.map_err(|e| {
            self.torn = true;
            root.failed(NAME, &e)
        })
    }
}
