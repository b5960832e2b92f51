//! The thread that writes the audit log, so that nobody else waits for a disk.
//!
//! Invariants: lines are in the order in which they were sent; a close is never given up: while it cannot be written it
//! is kept, and nothing else is written before it. Those kept are no more than were open when writing began to fail.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::Chain;
use super::line::Event;
use crate::error::Result;

/// How often the log is synced, and its head told, if it has grown.
const TELL: Duration = Duration::from_secs(60);

pub enum Job {
    /// The answer is the line's number.
    Write(Entry, Option<oneshot::Sender<Result<u64>>>),
    Reopen,
    /// The last one; answered when the log is on the disk.
    End(Sender<()>),
}

pub struct Entry {
    /// When it happened.
    pub time: String,
    pub event: Event,
}

pub struct Writer {
    chain: Chain,
    /// Closes that could not be written.
    kept: VecDeque<Entry>,
    /// The line that was the last when the head was told.
    told: u64,
    /// Those who wait for the disk, with the file and so its lock.
    syncs: Vec<JoinHandle<()>>,
}

impl Writer {
    pub fn new(chain: Chain) -> Writer {
        Writer { chain, kept: VecDeque::new(), told: 0, syncs: Vec::new() }
    }

    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut next = Instant::now() + TELL;
        loop {
            match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Job::Write(entry, answer)) => self.one(entry, answer),
                Ok(Job::Reopen) => self.reopen(),
                Ok(Job::End(done)) => {
                    self.end();
                    // Nobody may be waiting any more.
                    done.send(()).ok();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next {
                next = Instant::now() + TELL;
                self.write_kept().ok();
                self.tell();
            }
        }
    }

    fn one(&mut self, entry: Entry, answer: Option<oneshot::Sender<Result<u64>>>) {
        let result = self.write_kept().and_then(|()| self.chain.append(&entry.time, &entry.event));
        match (result, answer) {
            (result, Some(answer)) => {
                if let (Err(Ok(open)), Event::Open { who, what, auth, .. }) = (answer.send(result), &entry.event) {
                    // Who asked has given up waiting: nothing was opened after all.
                    let (who, what) = (who.clone(), what.clone());
                    let event = Event::Close { open, who, what, auth, bytes: 0 };
                    self.one(Entry { time: entry.time, event }, None);
                }
            }
            (Err(e), None) => {
                if self.kept.is_empty() {
                    log::error!("{e}");
                }
                self.kept.push_back(entry);
            }
            (Ok(_), None) => {}
        }
    }

    fn write_kept(&mut self) -> Result<()> {
        while let Some(entry) = self.kept.front() {
            self.chain.append(&entry.time, &entry.event)?;
            self.kept.pop_front();
        }
        Ok(())
    }

    fn reopen(&mut self) {
        match self.chain.reopen(&super::now()) {
            Ok(None) => {}
            Ok(Some((old, head))) => {
                self.sync(old, head);
                self.tell();
            }
            Err(e) => log::error!("{e}"),
        }
    }

    /// A head that is known elsewhere is what shows a file that was cut or written anew.
    fn tell(&mut self) {
        if self.told == self.chain.n() {
            return;
        }
        self.told = self.chain.n();
        match self.chain.file() {
            Ok(file) => self.sync(Box::new(file), self.chain.head()),
            Err(e) => log::error!("the audit log: {e}"),
        }
    }

    /// A disk may take long: lines go on meanwhile.
    fn sync(&mut self, file: impl Deref<Target = File> + Send + 'static, head: String) {
        let work = move || match file.sync_data() {
            Ok(()) => log::info!("{head}"),
            Err(e) => log::error!("the audit log cannot be synced: {e}"),
        };
        self.syncs.retain(|sync| !sync.is_finished());
        match std::thread::Builder::new().name("audit-sync".into()).spawn(work) {
            Ok(sync) => self.syncs.push(sync),
            Err(e) => log::error!("the audit log: cannot start a thread: {e}"),
        }
    }

    /// The file is closed when this returns.
    fn end(mut self) {
        let ended = self.write_kept().and_then(|()| self.chain.append(&super::now(), &Event::End {}));
        if let Err(e) = ended {
            log::error!("{e}; {} lines are lost", self.kept.len() + 1);
        }
        match self.chain.file().and_then(|file| file.sync_data()) {
            Ok(()) => log::info!("{}", self.chain.head()),
            Err(e) => log::error!("the audit log cannot be synced: {e}"),
        }
        // One that panicked has let go of it too.
        self.syncs.into_iter().for_each(|sync| drop(sync.join()));
    }
}
