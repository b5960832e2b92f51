//! The audit log: who opened which object, and how much of it they were given. docs/AUDIT.md has the format.
//!
//! Invariants: an open that the log cannot tell of fails; a line that was changed, taken out, put in or moved shows
//! ([`check()`]), and so does a missing end to who knows a later head. No key and no log text is in it. Nobody waits longer
//! than ten seconds for a line.

mod chain;
mod check;
mod line;
mod own;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;

use chain::Chain;
pub use check::{Broken, Head, Report, check, check_bytes};
pub use line::What;
use line::{Event, VERSION, Who};
use writer::{Entry, Job, Writer};

use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// For a disk that does not answer. That of a busy machine with tests may take long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 300 } else { 10 });

/// Who asks, as the kernel says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Of the thread, really.
    pub pid: u32,
}

/// A mount, as its first line says it.
#[derive(Clone, Debug)]
pub struct Mount {
    pub program: String,
    pub source: String,
    pub mountpoint: String,
    pub uid: u32,
}

/// The log of a running mount.
pub struct Audit {
    jobs: Sender<Job>,
    path: PathBuf,
    ended: AtomicBool,
}

/// A file that is open: what its close will tell.
pub struct Opening {
    jobs: Sender<Job>,
    open: u64,
    who: Who,
    what: What,
    /// Given to the kernel; none when the close is told.
    bytes: Mutex<Option<u64>>,
}

impl Audit {
    /// Opens the log and writes its first line for this mount. [`Kind::Config`] where that cannot be.
    pub fn start(path: &Path, mount: Mount) -> Result<Audit> {
        let mut chain = Chain::open(path)?;
        let Mount { program, source, mountpoint, uid } = mount;
        let event = Event::Start { format: VERSION, program, source, mountpoint, uid, pid: std::process::id() };
        chain.append(&now(), &event).map_err(|e| err!(Kind::Config, "--audit-log {e}"))?;
        log::info!("{}", chain.head());
        let (jobs, received) = mpsc::channel();
        let writer = Writer::new(chain);
        let thread = std::thread::Builder::new().name("audit".into());
        thread.spawn(move || writer.run(&received)).map_err(|e| err!(Kind::Internal, "cannot start a thread: {e}"))?;
        Ok(Audit { jobs, path: path.to_owned(), ended: AtomicBool::new(false) })
    }

    /// Tells of an open. In error it must not happen.
    pub async fn opened(&self, caller: Caller, what: What, auth: &'static str, kept: bool) -> Result<Opening> {
        let who = Who::of(caller);
        let event = Event::Open { who: who.clone(), what: what.clone(), auth, kept };
        let open = self.write(event).await?;
        Ok(Opening { jobs: self.jobs.clone(), open, who, what, bytes: Mutex::new(Some(0)) })
    }

    /// Tells of an open that has failed.
    pub async fn refused(&self, caller: Caller, what: What, error: &Error) -> Result<()> {
        let (error, reason) = (error.kind().row().name, error.message().to_owned());
        self.write(Event::Refused { who: Who::of(caller), what, error, reason }).await.map(drop)
    }

    async fn write(&self, event: Event) -> Result<u64> {
        let ended = || err!(Kind::Storage, "the audit log has ended with the mount");
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Write(Entry { time: now(), event }, Some(answer))).map_err(|_| ended())?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answer) => answer.map_err(|_| ended())?,
            Err(_) => {
                let slow = err!(Kind::Timeout, "the audit log's disk does not answer, so nothing is opened");
                Err(slow.about(&self.path.to_string_lossy()))
            }
        }
    }

    /// Goes on in a new file where the old one was moved away.
    pub fn reopen(&self) {
        // Without the thread there is nothing to be written any more.
        self.jobs.send(Job::Reopen).ok();
    }

    /// From here on nothing can be opened.
    pub fn closing(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub fn is_closing(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Writes the last line and waits for the disk, though not for ever.
    pub fn end(&self) {
        self.closing();
        let (done, is_done) = mpsc::channel();
        if self.jobs.send(Job::End(done)).is_ok() && is_done.recv_timeout(PATIENCE).is_err() {
            log::error!("the audit log's disk does not answer: its end is not written");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The mount that never was.
        if !self.is_closing() {
            self.end();
        }
    }
}

impl Opening {
    /// To be called before `bytes` of text are given away. In error they must not be.
    pub fn given(&self, bytes: u64) -> Result<()> {
        match &mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(so_far) => *so_far = so_far.saturating_add(bytes),
            None => return Err(err!(Kind::Stale, "the mount has ended")),
        }
        Ok(())
    }

    /// Tells of the close, once.
    pub fn close(&self, auth: &'static str, beside: u64) {
        // Held until it is sent: who finds it closed may send the end next.
        let mut given = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bytes) = given.take() else { return };
        let (who, what) = (self.who.clone(), self.what.clone());
        let event = Event::Close { open: self.open, who, what, auth, bytes: bytes.saturating_add(beside) };
        // Nobody listens after the end, which closes all.
        self.jobs.send(Job::Write(Entry { time: now(), event }, None)).ok();
    }
}

impl Who {
    /// While it waits for our answer it is there, unless it was killed; /proc may hide it.
    fn of(caller: Caller) -> Who {
        let Caller { uid, gid, pid: thread } = caller;
        let status = std::fs::read(format!("/proc/{thread}/status")).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
        let pid = process.unwrap_or(thread);
        let command = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        Who { uid, gid, pid, command: escape(command.strip_suffix(b"\n").unwrap_or(&command)) }
    }
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
