//! The cache folder, as the engine uses it: never waited for long, and never an error.
//!
//! Invariant: what waits to be written is bounded; ciphertext beyond that is left out. Files are read and written on
//! threads that may block, and a disk that hangs is done without.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::cachedir::{Folder, Hold};

/// A read that takes longer has found nothing, and so have all reads for a while.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(60);

/// Bytes of ciphertext that wait to be written.
const QUEUE: usize = 16 << 20;

/// How long an end waits for what is still to be written: a mount is gone two seconds after SIGTERM.
const SETTLE: Duration = Duration::from_secs(1);

pub struct Disk {
    folder: Arc<Folder>,
    hung: Mutex<Option<Instant>>,
    /// Bytes that wait.
    waiting: watch::Sender<usize>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How the folder serves; see [`Folder::usage`].
#[derive(Clone, Copy, Debug)]
pub struct DiskStats {
    pub limit: u64,
    pub used: u64,
    /// Bytes that are still to be written there.
    pub waiting: u64,
    /// Reads that found what they looked for, and those that did not.
    pub hits: u64,
    pub misses: u64,
}

impl Disk {
    pub fn new(folder: Folder) -> Arc<Disk> {
        let (hung, hits, misses) = Default::default();
        Arc::new(Disk { folder: Arc::new(folder), hung, waiting: watch::Sender::new(0), hits, misses })
    }

    pub fn stats(&self) -> DiskStats {
        let ((limit, used), waiting) = (self.folder.usage(), *self.waiting.borrow() as u64);
        DiskStats { limit, used, waiting, hits: self.hits.load(Relaxed), misses: self.misses.load(Relaxed) }
    }

    pub async fn read<T, F>(&self, look: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&Folder) -> Option<T> + Send + 'static,
    {
        let found = self.look(look).await;
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
        found
    }

    async fn look<T, F>(&self, look: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&Folder) -> Option<T> + Send + 'static,
    {
        let hung = || self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        if hung().is_some_and(|since| since.elapsed() < PAUSE) {
            return None;
        }
        let folder = Arc::clone(&self.folder);
        match timeout(PATIENCE, tokio::task::spawn_blocking(move || look(&folder))).await {
            Ok(found) => found.ok()?,
            Err(_) => {
                log::warn!("{:?} does not answer: going on without for a while", self.folder);
                *hung() = Some(Instant::now());
                None
            }
        }
    }

    /// Has something written: ciphertext of so many `bytes`, or what is worth waiting for, whatever its size (None).
    pub fn write<F>(&self, bytes: Option<usize>, write: F)
    where
        F: FnOnce(&mut Hold<'_>) -> std::io::Result<()> + Send + 'static,
    {
        let cost = bytes.unwrap_or(1);
        let room = |waiting: &mut usize| {
            let fits = bytes.is_none() || *waiting + cost <= QUEUE;
            *waiting += if fits { cost } else { 0 };
            fits
        };
        if !self.waiting.send_if_modified(room) {
            return;
        }
        let (folder, waiting) = (Arc::clone(&self.folder), Waiting(self.waiting.clone(), cost));
        tokio::task::spawn_blocking(move || {
            let _waiting = waiting;
            folder.write(write);
        });
    }

    /// Waits, though not for ever, for what is still to be written.
    pub async fn settle(&self) {
        timeout(SETTLE, self.waiting.subscribe().wait_for(|bytes| *bytes == 0)).await.ok();
    }
}

struct Waiting(watch::Sender<usize>, usize);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|bytes| *bytes -= self.1);
    }
}
