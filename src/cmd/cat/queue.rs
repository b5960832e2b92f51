//! Files in order, the next ones opened ahead: many small files do not cost a round trip each.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use super::super::archive::Archive;
use super::super::tally::Tally;
use super::files::File;
use crate::err;
use crate::error::{Kind, Result};
use crate::object::LogFile;

/// Files opened ahead at most.
const MOST: usize = 64;

/// A log file that is open for reading.
pub struct Open(Arc<LogFile>);

impl std::ops::Deref for Open {
    type Target = Arc<LogFile>;

    fn deref(&self) -> &Arc<LogFile> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub struct Queue {
    archive: Arc<Archive>,
    tally: Arc<Tally>,
    listing: Receiver<Result<Vec<File>>>,
    listed: VecDeque<File>,
    /// Files listed so far.
    count: u64,
    ahead: VecDeque<(File, JoinHandle<Result<Open>>)>,
    /// Bytes in the store of the files opened ahead, and how many they may be.
    bytes: u64,
    most_bytes: u64,
}

impl Queue {
    /// `memory`: the budget that the files opened ahead share with the one that is read.
    pub fn new(archive: Arc<Archive>, tally: Arc<Tally>, listing: Receiver<Result<Vec<File>>>, memory: usize) -> Queue {
        let (listed, ahead) = Default::default();
        // Text is eight times as large, or so.
        Queue { archive, tally, listing, listed, ahead, count: 0, bytes: 0, most_bytes: memory as u64 / 16 }
    }

    /// The next file, and what came of opening it. Listings that fail are told to the tally.
    pub async fn next(&mut self) -> Option<(File, Result<Open>)> {
        loop {
            self.open_ahead();
            if let Some((file, open)) = self.ahead.pop_front() {
                self.bytes -= file.listed.size;
                let open = open.await.unwrap_or_else(|_| Err(err!(Kind::Internal, "opening a file panicked")));
                return Some((file, open));
            }
            let listed = self.listing.recv().await?;
            self.take(listed);
        }
    }

    /// Waits for the end of the listing and puts all files in the order of `key`; from then on [`Queue::peek`] knows
    /// what is next.
    pub async fn sort_all<K: Ord>(&mut self, key: impl Fn(&File) -> K) {
        while let Some(listed) = self.listing.recv().await {
            self.take(listed);
        }
        self.listed.make_contiguous().sort_by_key(key);
    }

    /// The file that [`Queue::next`] would give, of those listed so far.
    pub fn peek(&self) -> Option<&File> {
        self.ahead.front().map(|(file, _)| file).or(self.listed.front())
    }

    fn take(&mut self, listed: Result<Vec<File>>) {
        match listed {
            Ok(files) => {
                for file in files {
                    self.listed.push_back(File { order: self.count, ..file });
                    self.count += 1;
                }
            }
            Err(e) => self.tally.failed(&e),
        }
    }

    fn open_ahead(&mut self) {
        while self.ahead.len() < MOST {
            if self.listed.is_empty()
                && let Ok(listed) = self.listing.try_recv()
            {
                self.take(listed);
                continue;
            }
            let fits = |file: &File| self.ahead.is_empty() || self.bytes + file.listed.size <= self.most_bytes;
            if !self.listed.front().is_some_and(fits) {
                break;
            }
            let Some(file) = self.listed.pop_front() else { break };
            self.bytes += file.listed.size;
            let log = self.archive.objects.get(&file.listed);
            let open = tokio::spawn(async move {
                log.open(|| ()).await?;
                Ok(Open(log))
            });
            self.ahead.push_back((file, open));
        }
    }
}
