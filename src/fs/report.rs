//! Where an error leaves the program: one escaped line in the log, with the errno that the reader gets.
//!
//! The same failure of the same object is logged once in [`QUIET`], so that a reader in a loop cannot flood the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};

const QUIET: Duration = Duration::from_secs(30);
/// Distinct failures remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub struct Report {
    logged: Mutex<HashMap<(String, Kind), Instant>>,
}

impl Report {
    pub fn failure(&self, error: &Error) {
        if let Some(subject) = error.subject() {
            if self.first(subject, error.kind()) {
                let name = errno_name(error.errno());
                log::error!("{name} {error}");
            }
        } else if error.kind() == Kind::Internal {
            log::error!("{error}");
        } else {
            log::debug!("{error}");
        }
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

/// The symbolic names of the errno table.
fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::ENOKEY => "ENOKEY",
        libc::EBADMSG => "EBADMSG",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EACCES => "EACCES",
        libc::EREMOTE => "EREMOTE",
        libc::ENOENT => "ENOENT",
        libc::ESTALE => "ESTALE",
        libc::EIO => "EIO",
        libc::ENOMEM => "ENOMEM",
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
    fn every_errno_of_an_object_has_a_name() {
        for kind in Kind::ALL.into_iter().filter(|k| k.is_verdict() || k.is_transient()) {
            assert_ne!(errno_name(kind.row().errno), "error", "{kind:?}");
        }
    }
}
