//! `.logarchivefs`: what the mount says of itself, as files. The folder is at the top of the mount, for who knows its name;
//! listings show it only if that was asked for.
//!
//! Invariants: nothing here asks the store, or waits for who does; a handle shows one text from its first byte to its
//! last; looking here does not count as using the mount; no text holds a key, or a line of a log.

mod table;
mod text;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::failures::stamp;
use super::handle::Handles;
use super::{Attr, Fs, Ino, Opened};
use crate::error::Result;
pub use crate::key::RESERVED as NAME;
use table::Facts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Status,
    Metrics,
    Errors,
}

/// What a mount knows of itself that is not counted.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What is mounted: `s3://bucket/prefix/`.
    pub source: String,
    pub mountpoint: String,
    /// The options in force, by their names.
    pub options: Map<String, Value>,
    /// Listings of the root show the folder.
    pub shown: bool,
}

pub struct Control {
    about: About,
    started: (SystemTime, Instant),
    /// The last text of each file that was made.
    newest: [Mutex<Option<Snapshot>>; 3],
    open: Handles<Bytes>,
    pub served: Arc<Served>,
}

/// What readers got.
#[derive(Default)]
pub struct Served {
    pub opens: AtomicU64,
    pub reads: AtomicU64,
    pub read_bytes: AtomicU64,
    pub pushed_bytes: AtomicU64,
}

#[derive(Clone)]
struct Snapshot {
    text: Bytes,
    /// When it was true last, and since when.
    at: Instant,
    since: SystemTime,
    /// How many failures there had been.
    serial: u64,
    opened: bool,
}

/// What a snapshot is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Lookup,
    Attributes,
    Open,
}

/// Handles of this folder's files have this bit, others do not get that far.
const OURS: u64 = 1 << 63;

/// So long a text that somebody was told the size of waits to be opened (tar, cp), by the same path again.
const TOLD: Duration = Duration::from_secs(1);

impl File {
    pub const ALL: [File; 3] = [File::Status, File::Metrics, File::Errors];

    pub fn name(self) -> &'static str {
        match self {
            File::Status => "status.json",
            File::Metrics => "metrics",
            File::Errors => "errors.jsonl",
        }
    }

    pub fn ino(self) -> Ino {
        Ino(Ino::CONTROL.0 + 1 + self as u64)
    }
}

impl Control {
    pub fn new(about: About) -> Control {
        let (newest, open, served) = Default::default();
        Control { about, started: (SystemTime::now(), Instant::now()), newest, open, served }
    }

    pub fn shown(&self) -> bool {
        self.about.shown
    }

    /// None for a handle of somebody else.
    pub fn read(&self, handle: u64, offset: u64, len: usize) -> Option<Result<Bytes>> {
        (handle & OURS != 0).then(|| {
            let text = self.open.get(handle & !OURS)?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            Ok(text.slice(from..from.saturating_add(len).min(text.len())))
        })
    }

    /// False for a handle of somebody else.
    pub fn release(&self, handle: u64) -> bool {
        if handle & OURS != 0 {
            self.open.close(handle & !OURS);
        }
        handle & OURS != 0
    }

    fn about(&self, bucket: &str) -> Map<String, Value> {
        let version = env!("LOGARCHIVEFS_VERSION");
        let commit = version.split_once(" (").map(|(_, commit)| commit.trim_end_matches(')'));
        let facts = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": commit,
            "bucket": bucket,
            "source": self.about.source,
            "mountpoint": self.about.mountpoint,
        });
        facts.as_object().cloned().unwrap_or_default()
    }
}

impl Served {
    pub fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Fs {
    pub(super) fn control_lookup(&self, file: File) {
        self.snapshot(file, For::Lookup);
    }

    pub(super) fn control_attr(&self, ino: Ino, file: File) -> Attr {
        let snapshot = self.snapshot(file, For::Attributes);
        self.look.control(ino, snapshot.text.len() as u64, snapshot.since)
    }

    pub(super) fn control_open(&self, file: File) -> Opened {
        let text = self.snapshot(file, For::Open).text;
        Opened { handle: self.control.open.open(text) | OURS, keep_cache: false, direct: true }
    }

    /// The last text that was made, if it will do, or a new one.
    fn snapshot(&self, file: File, why: For) -> Snapshot {
        let [status, metrics, errors] = &self.control.newest;
        let newest = match file {
            File::Status => status,
            File::Metrics => metrics,
            File::Errors => errors,
        };
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        let will_do = |newest: &&mut Snapshot| match why {
            // Nobody is shown the past a second time.
            For::Lookup => !newest.opened && newest.at.elapsed() < TOLD,
            For::Open => newest.at.elapsed() < TOLD,
            // A program that has a file open asks for the size of what it reads, however old.
            For::Attributes => true,
        };
        let opened = why == For::Open;
        if let Some(newest) = newest.as_mut().filter(will_do) {
            newest.opened |= opened;
            return newest.clone();
        }
        let (at, since) = (Instant::now(), SystemTime::now());
        let (text, serial) = match file {
            File::Status => (self.status(), 0),
            File::Metrics => (self.metrics(), 0),
            File::Errors => {
                let failures = self.report.last();
                let serial = failures.serial();
                // The same text for as many handles as there may be.
                if let Some(newest) = newest.as_mut().filter(|newest| newest.serial == serial) {
                    (newest.at, newest.opened) = (at, opened);
                    return newest.clone();
                }
                (failures.lines(), serial)
            }
        };
        newest.insert(Snapshot { text: text.into(), at, since, serial, opened }).clone()
    }

    fn status(&self) -> String {
        let Control { about, started, .. } = &self.control;
        let mut all = self.control.about(self.catalog.bucket());
        all.insert("time".into(), stamp(SystemTime::now()).into());
        all.insert("started".into(), stamp(started.0).into());
        all.insert("options".into(), Value::Object(about.options.clone()));
        text::status(&all, &self.facts())
    }

    fn metrics(&self) -> String {
        let mut info = self.control.about(self.catalog.bucket());
        info.extend(self.control.about.options.clone());
        text::metrics(&self.control.about.mountpoint, &info, &self.facts())
    }

    fn facts(&self) -> Facts {
        let Control { started, served, .. } = &self.control;
        let shared = self.objects.shared();
        Facts {
            uptime: started.1.elapsed(),
            started: started.0.duration_since(UNIX_EPOCH).unwrap_or_default(),
            keys: shared.keyring.len() as u64,
            nodes: self.nodes.len() as u64,
            open_files: self.files.len() as u64,
            open_folders: self.folders.len() as u64,
            totals: self.catalog.totals(),
            by_auth: self.objects.by_auth(),
            cache: shared.cache.stats(),
            disk: self.objects.disk_stats(),
            requests: self.objects.requests(),
            opens: served.opens.load(Relaxed),
            reads: served.reads.load(Relaxed),
            read_bytes: served.read_bytes.load(Relaxed),
            pushed_bytes: served.pushed_bytes.load(Relaxed),
            ahead: self.walks.totals(),
            errors: self.report.counts(),
        }
    }
}
