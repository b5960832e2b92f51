//! From finished parts to files: many at a time, so that the disk is asked to sync once for all of them.
//!
//! Order, for each batch: what is to be overwritten is removed; the parts are synced; the journal's lines are written and
//! synced; the parts get their names. Whenever that breaks off, a file that has its name and its line is whole.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::journal::{Journal, Line};
use super::root::{Part, Root};
use super::summary::Summary;
use crate::err;
use crate::error::{Error, Kind, Result};

/// Files that wait or are committed at once: each holds a descriptor or four.
const MOST: usize = 64;
/// Syncs at a time: a file system makes one write of them. To sync all of it at once would wait for other programs.
const SYNCS: usize = 16;

/// One download that is complete but for its name.
struct Finished {
    line: Line,
    files: Files,
    answer: oneshot::Sender<Result<()>>,
}

/// Parts with their paths; placed in this order, so that the last one makes the others valid.
#[derive(Default)]
pub struct Files {
    pub parts: Vec<(Part, String)>,
    pub replace: bool,
}

#[derive(Clone)]
pub struct Commits(mpsc::Sender<Finished>);

impl Commits {
    /// Runs until the last clone is dropped.
    pub fn start(root: Arc<Root>, journal: Journal, summary: Arc<Summary>) -> (Commits, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(MOST);
        (Commits(sender), tokio::spawn(run(root, journal, summary, receiver)))
    }

    /// Writes the line and gives the parts their names.
    pub async fn commit(&self, line: Line, files: Files) -> Result<()> {
        let ended = || err!(Kind::Internal, "the download is ending");
        let (answer, answered) = oneshot::channel();
        self.0.send(Finished { line, files, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn run(root: Arc<Root>, mut journal: Journal, summary: Arc<Summary>, mut receiver: mpsc::Receiver<Finished>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, MOST).await > 0 {
        let (root, summary, work) = (Arc::clone(&root), Arc::clone(&summary), std::mem::take(&mut batch));
        let done = tokio::task::spawn_blocking(move || {
            commit(&root, &mut journal, &summary, work);
            journal
        });
        match done.await {
            Ok(back) => journal = back,
            // It panicked. Whoever waits is told as the receiver goes.
            Err(_) => return,
        }
    }
}

fn commit(root: &Root, journal: &mut Journal, summary: &Summary, batch: Vec<Finished>) {
    let mut ready = Vec::with_capacity(batch.len());
    for finished in batch {
        match clear(root, &finished.files) {
            Ok(()) => ready.push(finished),
            Err(e) => tell(finished.answer, Err(e)),
        }
    }
    if let Err(e) = sync(&ready).and_then(|()| journal.append(root, ready.iter().map(|f| &f.line))) {
        root.halt(e.clone());
        return ready.into_iter().for_each(|finished| tell(finished.answer, Err(e.clone())));
    }
    for Finished { line, files, answer } in ready {
        let (new, size) = (!files.parts.is_empty(), line.size);
        let mut placed = files.parts.into_iter().try_for_each(|(part, path)| part.place(&path));
        if placed.is_err() {
            // What stands at this path has nothing to do with the line.
            let void = Line { key: String::new(), ..line };
            placed = journal.append(root, std::iter::once(&void)).and(placed);
        } else if new {
            summary.wrote(size);
        }
        tell(answer, placed);
    }
}

/// What made the others valid goes first.
fn clear(root: &Root, files: &Files) -> Result<()> {
    if files.replace { files.parts.iter().rev().try_for_each(|(_, path)| root.remove(path)) } else { Ok(()) }
}

fn sync(batch: &[Finished]) -> Result<()> {
    let parts: Vec<&Part> = batch.iter().flat_map(|f| &f.files.parts).map(|(part, _)| part).collect();
    std::thread::scope(|scope| {
        let share = parts.len().div_ceil(SYNCS).max(1);
        let sync = |parts: &[&Part]| parts.iter().try_for_each(|part| part.sync());
        let threads: Vec<_> = parts.chunks(share).map(|parts| scope.spawn(move || sync(parts))).collect();
        let failed = |_| Err(err!(Kind::Internal, "a thread that syncs files failed"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(failed))
    })
}

fn tell(to: oneshot::Sender<Result<()>>, result: Result<(), Error>) {
    // Whoever was cancelled does not listen any more.
    let _ = to.send(result);
}
