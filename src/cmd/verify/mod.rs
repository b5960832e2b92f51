//! `verify`: reads everything selected end to end and says what is not sound, missing or changed.
//!
//! ```text
//! catalog::histories ─► what was replaced or deleted, first
//! catalog::walk ─► check, many at once ─► in the order of the walk ─┬─► stdout     what is wrong; a summary
//!                                                                  ├─► --manifest, --sha256sums
//!                                                                  └─► --against  missing, changed, new
//! ```
//!
//! Invariant: what is written depends neither on the number of cores nor on what arrives first; memory does not grow with
//! the number of objects, but for 17 bytes each to recognise data keys, as many with `--against`, and as many for each
//! that has several versions.

mod against;
mod audit;
mod check;
mod lines;
mod manifest;
mod newfile;
mod report;
mod scope;
mod summary;
mod versions;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::archive::Archive;
use super::out::{Out, Reader};
use super::progress::Progress;
use super::serve::runtime;
use crate::catalog::Selected;
use crate::cli::{ReadArgs, ReportFormat, VerifyArgs};
use crate::config;
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::keysource::EnvKeys;
use against::{Against, Change, shown};
use check::{Checked, check};
use manifest::{Manifest, sum_line};
use newfile::NewFile;
use report::{Finding, Note, Report};
use scope::Scope;
use summary::Summary;
use versions::Replaced;

/// Objects that may be done or under way while an earlier one is not.
const WINDOW: usize = 512;

/// Returns the exit code.
pub fn run(args: VerifyArgs, env_keys: Option<EnvKeys>) -> Result<u8> {
    let Some(bucket) = args.bucket else { return audit::run(&args.audit, args.format) };
    let at = config::moment(&args.at)?;
    let mut selected = serde_json::to_value(&args.select).map_err(|e| err!(Kind::Internal, "{e}"))?;
    if let Some(flags) = selected.as_object_mut() {
        flags.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        flags.extend((!args.paths.is_empty()).then(|| ("paths".to_owned(), json!(args.paths))));
        flags.extend(at.map(|at| ("at".to_owned(), json!(at.to_string()))));
    }
    let selection = config::selection(args.select)?;
    config::Place::parse(&bucket)?;
    // Files first: hours of reading must not end with one that cannot be written.
    let file = |path: &Option<PathBuf>| path.as_deref().map(|path| NewFile::create(path, args.force)).transpose();
    let (manifest, sums) = (file(&args.manifest)?, file(&args.sha256sums)?);
    let against = args.against.as_deref().map(Against::open).transpose()?;
    let keyring = config::keyring(args.keys, env_keys)?;
    let read = ReadArgs {
        allow_unauthenticated: args.allow_unauthenticated,
        allow_instruction_files: args.allow_instruction_files,
        ratio: args.ratio,
        memory: args.memory,
        ..ReadArgs::default()
    };
    let scope = Scope { selection: selection.clone(), paths: args.paths };
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let work = async {
            let archive = Archive::open(&bucket, &args.store, at, keyring, selection, &read).await?;
            let manifest =
                manifest.map(|file| Manifest::begin(file, archive.store.describe(), selected)).transpose()?;
            let summary = Summary::new(against.is_some(), at.map(|at| at.to_string()));
            let progress = Progress::start();
            let run = Run {
                archive: Arc::new(archive),
                scope,
                manifest,
                sums,
                against,
                summary,
                data_keys: DataKeys::default(),
                replaced: Replaced::default(),
                out: Out::new(),
                format: args.format,
                progress: progress.clone(),
            };
            let result = run.through().await;
            progress.end();
            result
        };
        tokio::select! {
            result = work => result,
            code = interrupted() => code,
        }
    });
    // Reads that are still under way are not waited for.
    runtime.shutdown_background();
    result
}

/// So that the files that are not finished go away.
async fn interrupted() -> Result<u8> {
    let listen = |kind| signal(kind).map_err(|e| err!(Kind::Internal, "cannot listen for signals: {e}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
    }
}

struct Run {
    archive: Arc<Archive>,
    scope: Scope,
    manifest: Option<Manifest>,
    sums: Option<NewFile>,
    against: Option<Against>,
    summary: Summary,
    data_keys: DataKeys,
    replaced: Replaced,
    out: Out,
    format: ReportFormat,
    progress: Progress,
}

impl Run {
    async fn through(mut self) -> Result<u8> {
        let start = Instant::now();
        let archive = Arc::clone(&self.archive);
        if self.look_back().await? == Reader::Gone && self.is_for_reader_only() {
            return Ok(self.summary.exit_code());
        }
        let paths = std::mem::take(&mut self.scope.paths);
        let mut all = self.checked(&archive, &paths);
        while let Some(mut checked) = all.try_next().await? {
            if self.object(&mut checked)? == Reader::Gone && self.is_for_reader_only() {
                return Ok(self.summary.exit_code());
            }
        }
        drop(all);
        self.scope.paths = paths;
        self.end(start)
    }

    /// Nothing is left to do once nobody reads what is told.
    fn is_for_reader_only(&self) -> bool {
        self.manifest.is_none() && self.sums.is_none()
    }

    /// All that is selected, in order, each read to its end.
    fn checked<'a>(&self, archive: &'a Arc<Archive>, paths: &'a [String]) -> BoxStream<'a, Result<Checked>> {
        let progress = self.progress.clone();
        let hashed = self.manifest.is_some() || self.sums.is_some() || self.against.is_some();
        let compared = self.against.is_some();
        let slots = Slots::new();
        let told = progress.clone();
        let batches = archive.selected(paths).filter_map(move |batch| {
            // What a path named before and does not now is missing, which is for the comparison to say.
            let gone = compared && matches!(&batch, Err(e) if e.kind() == Kind::NoMatch);
            std::future::ready((!gone).then_some(batch))
        });
        let selected = batches.map_ok(move |batch| {
            told.more(batch.len() as u64, batch.iter().map(|s| s.item.size()).sum());
            stream::iter(batch.into_iter().map(Ok::<Selected, Error>))
        });
        let check = move |selected: Result<Selected>| {
            let (archive, slots, progress) = (Arc::clone(archive), slots.clone(), progress.clone());
            async move {
                let selected = selected?;
                let permit = slots.take(selected.item.size()).await?;
                let task = tokio::spawn(async move {
                    let checked = check(&archive, &selected, hashed, &progress).await;
                    drop(permit);
                    checked
                });
                task.await.map_err(|_| err!(Kind::Internal, "a check panicked"))
            }
        };
        selected.try_flatten().map(check).buffered(WINDOW).boxed()
    }

    fn object(&mut self, checked: &mut Checked) -> Result<Reader> {
        let report = &mut checked.report;
        if report.text_size.is_some() && self.data_keys.is_another(report) {
            report.find(
                Finding::DuplicateDataKey,
                "another object of this run has the same data key: one log, two names",
            );
        }
        if self.replaced.holds(&report.key) {
            report.notes.push(Note::SeveralVersions);
        }
        let change = match &mut self.against {
            Some(against) => against.compare(report)?,
            None => Change::None,
        };
        if let Some(manifest) = &mut self.manifest {
            manifest.object(report)?;
        }
        if let (Some(file), Some(sum), true) = (&mut self.sums, &report.sha256_text, report.is_ok()) {
            file.write(&sum_line(sum, &report.path))?;
        }
        self.progress.file();
        self.summary.add(checked);
        self.summary.compared(&change);
        let text = self.told(&checked.report, &change)?;
        if self.format == ReportFormat::Json || text.is_empty() {
            return self.print(&text);
        }
        // What is wrong is seldom, and is shown at once.
        let out = &mut self.out;
        self.progress.aside(|| match out.write(text.as_bytes())? {
            Reader::There => out.flush(),
            Reader::Gone => Ok(Reader::Gone),
        })
    }

    /// What standard output says about one object.
    fn told(&self, report: &Report, change: &Change) -> Result<String> {
        let (change, fields) = match change {
            Change::None => (None, &[][..]),
            Change::New => (Some("new"), &[][..]),
            Change::OtherVersion(fields) => (Some("other-version"), &fields[..]),
            Change::Changed(fields) => (Some("changed"), &fields[..]),
        };
        match self.format {
            ReportFormat::Json => {
                let mut value = serde_json::to_value(report).map_err(|e| err!(Kind::Internal, "{e}"))?;
                if let (Some(value), Some(change)) = (value.as_object_mut(), change) {
                    value.insert("change".into(), change.into());
                    value.insert("changed".into(), json!(fields));
                }
                Ok(format!("{value}\n"))
            }
            ReportFormat::Paths if report.is_ok() && change != Some("changed") => Ok(String::new()),
            ReportFormat::Paths => Ok(format!("{}\n", report.path)),
            ReportFormat::Text => {
                let mut text = String::new();
                if !report.is_ok() {
                    text += &line(&report.label(), &report.path, report.reason.as_deref().unwrap_or_default());
                }
                if let Some(change) = change {
                    text += &line(change, &report.path, &fields.join(", "));
                }
                Ok(text)
            }
        }
    }

    fn end(mut self, start: Instant) -> Result<u8> {
        self.progress.end();
        if let Some(against) = self.against.take() {
            for old in against.missing() {
                let old = old?;
                if !self.scope.covers(&old) {
                    continue;
                }
                if let Some(compared) = &mut self.summary.against {
                    compared.missing += 1;
                }
                let text = match self.format {
                    ReportFormat::Text => line("missing", &shown(&old.path), ""),
                    ReportFormat::Paths => format!("{}\n", shown(&old.path)),
                    ReportFormat::Json => {
                        format!("{}\n", json!({"path": old.path, "key": old.key, "change": "missing"}))
                    }
                };
                let _ = self.print(&text)?;
            }
        }
        self.summary.end(start.elapsed());
        let text = match self.format {
            ReportFormat::Text => self.summary.table(),
            ReportFormat::Paths => String::new(),
            ReportFormat::Json => format!("{}\n", json!({"summary": self.summary})),
        };
        let _ = self.print(&text)?;
        let _ = self.out.flush()?;
        if self.summary.exit_code() == crate::error::exit::NO_MATCH {
            return Err(err!(Kind::NoMatch, "nothing matched: no log is selected"));
        }
        if let Some(manifest) = self.manifest {
            manifest.commit()?;
        }
        if let Some(sums) = self.sums {
            sums.commit()?;
        }
        Ok(self.summary.exit_code())
    }

    fn print(&mut self, text: &str) -> Result<Reader> {
        self.out.write(text.as_bytes())
    }
}

fn line(label: &str, path: &str, reason: &str) -> String {
    let line = format!("{label:<19} {path}  {reason}");
    format!("{}\n", line.trim_end())
}

/// How many objects are read at once: large ones two a core, so that the cores are busy to the end, small ones so many
/// that waiting for the store costs nothing.
#[derive(Clone)]
struct Slots {
    free: Arc<Semaphore>,
    /// What a large object takes.
    most: u32,
}

impl Slots {
    const SMALL: u32 = 32;
    /// Of an object that takes one more slot.
    const BYTES: u64 = 2 << 20;

    fn new() -> Slots {
        let large = 2 * std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
        let all = Slots::SMALL.max(large);
        Slots { free: Arc::new(Semaphore::new(all as usize)), most: all / large }
    }

    async fn take(&self, size: u64) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let slots = u32::try_from(size.div_ceil(Slots::BYTES)).unwrap_or(u32::MAX).clamp(1, self.most);
        let permit = Arc::clone(&self.free).acquire_many_owned(slots).await;
        permit.map_err(|e| err!(Kind::Internal, "waiting for a turn: {e}"))
    }
}

/// The data keys of this run, to find one log under two names: by a hash of each, with a hash of its object's key.
#[derive(Default)]
struct DataKeys {
    hasher: RandomState,
    seen: HashMap<u64, u64>,
}

impl DataKeys {
    /// Whether an object of another name had this data key before.
    fn is_another(&mut self, report: &Report) -> bool {
        let Some(data_key) = &report.data_key else { return false };
        let (data_key, key) = (self.hasher.hash_one(data_key), self.hasher.hash_one(&report.key));
        *self.seen.entry(data_key).or_insert(key) != key
    }
}
