//! `download`: logs as files of a folder, each whole and proven, or not there.
//!
//! ```text
//! catalog ─► feed ─► is it there already? (journal) ─► plain | sealed ─► Part ─► commit: sync, journal, rename
//! ```
//!
//! Invariants:
//! * A file gets its name when it is complete, its tag and CRC have held (a sealed copy: when it is what the store has)
//!   and it is on the disk. Nothing is overwritten without `--force`, and nothing outside the folder is written.
//! * What an earlier run has finished costs no request: see `journal`.
//! * Many small objects are on their way at once, large ones as many as there are cores: see `gate::Gate`.

mod commit;
mod gate;
mod journal;
mod plain;
mod root;
mod sealed;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use self::commit::{Commits, Files};
use self::gate::Gate;
use self::journal::{Found, Journal, Line, Receipts};
use self::root::{Part, Root};
use self::sealed::Checked;
use self::summary::Summary;
use super::archive::{Archive, listed};
use super::progress::{Meter, Progress};
use super::serve::runtime;
use super::tally::Tally;
use crate::catalog::Selected;
use crate::cli::{DownloadArgs, KeyArgs, ReadArgs};
use crate::config::{self, Place};
use crate::envelope::Keyring;
use crate::err;
use crate::error::{Error, Kind, Result, escape, exit};
use crate::key::Time;
use crate::keysource::EnvKeys;
use crate::object::{Listed, Objects};
use crate::store::{DirStore, Timestamp};

/// Downloads that are begun and not yet on the disk.
const MOST: usize = 128;
/// After a signal, for writes that are under way.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Sealed,
}

/// A run.
struct Download {
    archive: Archive,
    /// Opens what is copied, if there is any key: from the sealed copy itself.
    copy: Option<Objects>,
    gate: Gate,
    form: Form,
    force: bool,
    allow_instruction_files: bool,
    root: Arc<Root>,
    receipts: Receipts,
    commits: Commits,
    tally: Tally,
    progress: Progress,
    summary: Arc<Summary>,
}

/// A log that was fetched.
struct Got {
    part: Part,
    /// Further files, with their paths.
    more: Vec<(Part, String)>,
    version_id: Option<String>,
    /// The modification time, if the key is not to tell it.
    modified: Option<Timestamp>,
}

/// Returns the exit code.
pub fn run(args: DownloadArgs, env_keys: Option<EnvKeys>) -> Result<u8> {
    let selection = config::selection(args.select)?;
    let at = config::moment(&args.at)?;
    outside(&args.to, &Place::parse(&args.bucket)?)?;
    let form = match (args.gzip, args.sealed) {
        (true, _) => Form::Gzip,
        (_, true) => Form::Sealed,
        _ => Form::Plain,
    };
    // What is copied as it is needs no key; those given are for looking at the copy.
    let keyless = form == Form::Sealed && env_keys.is_none() && is_empty(&args.keys);
    let keyring = if keyless { Keyring::default() } else { config::keyring(args.keys, env_keys)? };
    let read = ReadArgs {
        allow_unauthenticated: args.allow_unauthenticated,
        allow_instruction_files: args.allow_instruction_files,
        ratio: args.ratio,
        memory: args.memory,
        ..ReadArgs::default()
    };
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let progress = Progress::start();
        let (here, there) = match form {
            Form::Sealed => (Keyring::default(), Some(keyring).filter(|ring| !ring.is_empty())),
            _ => (keyring, None),
        };
        let archive = Archive::open(&args.bucket, &args.store, at, here, selection, &read).await?;
        let (root, file) = Root::open(&args.to, journal::NAME)?;
        let receipts = Receipts::read(&file)?;
        let summary = Arc::new(Summary::default());
        let (commits, committer) = Commits::start(Arc::clone(&root), Journal::new(file)?, Arc::clone(&summary));
        let memory = archive.objects.memory();
        let copy = there.map(|keyring| open_copy(&root, &args.to, keyring, &read, memory)).transpose()?;
        let gate = Gate::new(archive.objects.shared().cpu.cores(), memory);
        let download = Download {
            archive,
            gate,
            copy,
            form,
            force: args.force,
            allow_instruction_files: args.allow_instruction_files,
            root,
            receipts,
            commits,
            tally: Tally::new(progress.clone()),
            progress,
            summary,
        };
        all(Arc::new(download), &args.paths, committer).await
    });
    // Parts that are being written are removed when that ends.
    runtime.shutdown_timeout(PATIENCE);
    result
}

fn is_empty(keys: &KeyArgs) -> bool {
    keys.key_file.is_empty() && keys.key_command.is_none() && keys.decryption_keys.is_empty()
}

/// The copy that is going to be made, for looking at it.
fn open_copy(root: &Root, dir: &Path, keyring: Keyring, read: &ReadArgs, memory: usize) -> Result<Objects> {
    root.make_folder("objects")?;
    Ok(Objects::new(Arc::new(DirStore::open(dir, "")?), keyring, config::policy(read), memory))
}

/// A sealed copy is evidence: nothing is written into the one that is read.
fn outside(to: &Path, bucket: &Place) -> Result<()> {
    let Place::Dir(copy) = bucket else { return Ok(()) };
    let Ok(copy) = copy.canonicalize() else { return Ok(()) };
    let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    // The folder may not be there yet.
    let there: Option<PathBuf> = to.ancestors().find_map(|above| above.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&copy)) {
        let to = escape(to.as_os_str().as_encoded_bytes());
        return Err(err!(Kind::Usage, "--to {to}: is in the sealed copy that is read: give a folder outside of it"));
    }
    Ok(())
}

/// How the run ends before everything was looked at.
enum Cut {
    Signal(u8),
    Halt(Error),
}

async fn all(download: Arc<Download>, paths: &[String], committer: tokio::task::JoinHandle<()>) -> Result<u8> {
    let listen = |kind| signal(kind).map_err(|e| err!(Kind::Internal, "cannot listen for signals: {e}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut tasks = JoinSet::new();
    let cut = tokio::select! {
        () = feed(&download, &mut tasks, paths) => None,
        _ = interrupt.recv() => Some(Cut::Signal(130)),
        _ = terminate.recv() => Some(Cut::Signal(143)),
        e = download.root.halted() => Some(Cut::Halt(e)),
    };
    tasks.shutdown().await;
    let cut = match cut {
        // The last file was the one that met it.
        None if download.root.is_halted() => Some(Cut::Halt(download.root.halted().await)),
        cut => cut,
    };
    let Some(Download { root, commits, tally, progress, summary, .. }) = Arc::into_inner(download) else {
        return Err(err!(Kind::Internal, "a download goes on after its end"));
    };
    // The committer ends with the last of these.
    drop(commits);
    committer.await.map_err(|_| err!(Kind::Internal, "writing files panicked"))?;
    progress.end();
    summary.print(root.shown(), &tally);
    match cut {
        Some(Cut::Signal(code)) => {
            eprintln!("Interrupted. The same command goes on where this one stopped.");
            Ok(code)
        }
        Some(Cut::Halt(e)) => Err(e),
        None => {
            let code = tally.exit_code();
            if code == exit::NO_MATCH && tally.counts().failed == 0 {
                eprintln!("logarchivefs: nothing matched: no log is selected");
            }
            Ok(code)
        }
    }
}

/// Begins everything that is selected, and waits for it.
async fn feed(download: &Arc<Download>, tasks: &mut JoinSet<()>, paths: &[String]) {
    let mut found = download.archive.selected(paths);
    while let Some(batch) = found.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(e) => {
                download.failed(&e);
                continue;
            }
        };
        download.progress.more(batch.len() as u64, batch.bytes());
        for selected in batch {
            let turn = match download.gate.turn(selected.item.size()).await {
                Ok(turn) => turn,
                Err(e) => return download.root.halt(e),
            };
            while let Some(ended) = tasks.try_join_next() {
                download.ended(ended);
            }
            if tasks.len() >= MOST
                && let Some(ended) = tasks.join_next().await
            {
                download.ended(ended);
            }
            tasks.spawn(one(Arc::clone(download), selected, turn));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        download.ended(ended);
    }
}

async fn one(download: Arc<Download>, selected: Selected, turn: OwnedSemaphorePermit) {
    let meter = Arc::new(download.progress.of_file(selected.item.size()));
    match download.get(&selected, turn, &meter).await {
        Ok(()) => download.tally.ok(),
        Err(e) => {
            // Is it this object that may not be read, or everything (credentials have expired)?
            let store = &download.archive.store;
            if e.kind() == Kind::AccessDenied
                && let Err(all) = store.check().await
            {
                download.root.halt(err!(Kind::Config, "{}: {all}", store.describe()));
            }
            download.failed(&e);
        }
    }
}

impl Download {
    fn ended(&self, task: std::result::Result<(), tokio::task::JoinError>) {
        if task.is_err() {
            self.failed(&err!(Kind::Internal, "a download panicked"));
        }
    }

    fn failed(&self, e: &Error) {
        // Not of this file, but of the bucket: every other one would fail too.
        if e.kind() == Kind::Config {
            self.root.halt(e.clone());
        }
        // The run ends with its own error, and this file is not to blame.
        if self.root.is_halted() {
            return;
        }
        self.tally.failed(e);
    }

    async fn get(&self, selected: &Selected, turn: OwnedSemaphorePermit, meter: &Arc<Meter>) -> Result<()> {
        let object = listed(selected);
        let path = match self.form {
            Form::Plain => selected.path(),
            Form::Gzip => format!("{}.gz", selected.path()),
            Form::Sealed => sealed::paths(&object.key)?.0,
        };
        if selected.by_upload {
            self.summary.by_upload.fetch_add(1, Ordering::Relaxed);
        }
        let found = self.find(&path, &object)?;
        match found {
            Found::Finished { proven } => {
                self.summary.skipped.fetch_add(1, Ordering::Relaxed);
                return if proven { Ok(()) } else { self.look(&object, None).await };
            }
            Found::InTheWay(why) if !self.force => {
                let (root, path) = (self.root.shown(), escape(path.as_bytes()));
                return Err(err!(Kind::Invalid, "{root}/{path}: {why}: --force overwrites it"));
            }
            Found::InTheWay(_) | Found::Half | Found::Nothing => {}
        }
        let Got { part, more, version_id, modified } = match self.form {
            Form::Sealed => sealed::fetch(self, &object, meter).await?,
            form => plain::fetch(self, &object, form == Form::Gzip, meter).await?,
        };
        let time = modified.and_then(|(secs, nanos)| Time::from_unix(secs, nanos)).or(selected.log.span.last());
        let stat = part.finish(time.unwrap_or(selected.item.modified()))?;
        let line = Line {
            path: path.clone(),
            key: object.key.clone(),
            etag: object.etag.clone(),
            version_id,
            size: stat.size,
            mtime: stat.mtime.to_string(),
            proven: false,
        };
        let parts = std::iter::once((part, path)).chain(more).collect();
        drop(turn);
        self.commits.commit(line.clone(), Files { parts, replace: found != Found::Nothing }).await?;
        if self.form != Form::Sealed {
            return Ok(());
        }
        let _turn = self.gate.turn(object.size).await?;
        self.look(&object, Some(line)).await
    }

    fn find(&self, path: &str, object: &Listed) -> Result<Found> {
        let found = self.receipts.find(&self.root, path, object)?;
        if self.form != Form::Sealed {
            return Ok(found);
        }
        // The metadata get their name last.
        let described = self.root.stat(&sealed::paths(&object.key)?.1)?.is_some();
        Ok(match found {
            Found::Finished { .. } if !described => Found::Half,
            Found::Nothing if described => Found::InTheWay("is missing, and its metadata are there"),
            found => found,
        })
    }

    /// Opens what was copied, if it is a sealed copy. `line`: to be written again, if the object is sound.
    async fn look(&self, object: &Listed, line: Option<Line>) -> Result<()> {
        if self.form != Form::Sealed {
            return Ok(());
        }
        match (sealed::check(self, object).await?, line) {
            (Checked::Not, _) => self.summary.unchecked.fetch_add(1, Ordering::Relaxed),
            (Checked::Proven, None) => 0,
            (Checked::Proven, Some(line)) => {
                self.commits.commit(Line { proven: true, ..line }, Files::default()).await?;
                0
            }
        };
        Ok(())
    }
}
