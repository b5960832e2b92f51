//! Where an error leaves the program: one escaped line in the log, with the errno that the reader gets.
//!
//! The same failure of the same object is logged once in [`QUIET`], so that a reader in a loop cannot flood the log. Here it
//! is counted and remembered each time (see `control`).
//!
//! Invariant: that there is no such name or attribute, and the like, is an answer and no failure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failures::Failures;
use crate::error::{Error, Kind};

const QUIET: Duration = Duration::from_secs(30);
/// Distinct failures remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 4096;

pub struct Report {
    logged: Mutex<HashMap<(String, Kind), Instant>>,
    counts: [AtomicU64; Kind::ALL.len()],
    last: Mutex<Failures>,
}

impl Default for Report {
    fn default() -> Self {
        Report {
            logged: Mutex::default(),
            counts: [const { AtomicU64::new(0) }; Kind::ALL.len()],
            last: Mutex::default(),
        }
    }
}

impl Report {
    /// A reader gets this error.
    pub fn failure(&self, error: &Error) {
        if is_failure(error) {
            self.count(error);
        }
        if let Some(subject) = error.subject() {
            if self.first(subject, error.kind()) {
                tell(error);
            }
        } else if error.kind() == Kind::Internal {
            log::error!("{error}");
        } else {
            log::debug!("{error}");
        }
    }

    /// A `stat` shows that a file cannot be read: what the kernel may say itself to who opens it, for the mode alone.
    pub fn unreadable(&self, error: &Error) {
        if error.subject().is_some_and(|subject| self.first(subject, error.kind())) {
            self.count(error);
            tell(error);
        }
    }

    fn count(&self, error: &Error) {
        let same = Kind::ALL.iter().zip(&self.counts).filter(|(kind, _)| **kind == error.kind());
        same.for_each(|(_, count)| _ = count.fetch_add(1, Relaxed));
        self.last().push(error);
    }

    /// How many of each kind there were.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        Kind::ALL.iter().zip(&self.counts).map(|(kind, count)| (kind.row().name, count.load(Relaxed))).collect()
    }

    pub fn last(&self) -> MutexGuard<'_, Failures> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&self, subject: &str, kind: Kind) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= REMEMBERED {
            logged.clear();
        }
        match logged.insert((subject.to_owned(), kind), now) {
            Some(last) if now.duration_since(last) < QUIET => {
                logged.insert((subject.to_owned(), kind), last);
                false
            }
            _ => true,
        }
    }
}

fn tell(error: &Error) {
    log::error!("{} {error}", errno_name(error.errno()));
}

fn is_failure(error: &Error) -> bool {
    use Kind::{Invalid, IsADirectory, NoAttribute, NotADirectory, NotFound, ReadOnly};
    error.subject().is_some()
        || !matches!(error.kind(), NotFound | NoAttribute | NotADirectory | IsADirectory | Invalid | ReadOnly)
}

/// The symbolic names of the errno table.
pub(super) fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::ENOKEY => "ENOKEY",
        libc::EBADMSG => "EBADMSG",
        libc::EFBIG => "EFBIG",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EACCES => "EACCES",
        libc::EREMOTE => "EREMOTE",
        libc::ENOENT => "ENOENT",
        libc::ESTALE => "ESTALE",
        libc::EIO => "EIO",
        libc::ENOMEM => "ENOMEM",
        libc::EROFS => "EROFS",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::ENODATA => "ENODATA",
        libc::EINVAL => "EINVAL",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_once() {
        let report = Report::default();
        assert!(report.first("k", Kind::Tag));
        assert!(!report.first("k", Kind::Tag));
        assert!(report.first("k", Kind::NoKey));
        assert!(report.first("l", Kind::Tag));
    }

    #[test]
    fn every_errno_has_a_name() {
        for kind in Kind::ALL {
            assert_ne!(errno_name(kind.row().errno), "error", "{kind:?}");
        }
    }
}
