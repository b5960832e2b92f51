//! Where an error leaves the program: its errno goes to the reader, one escaped line to the log.
//!
//! The same failure of the same object is logged once in [`QUIET`], so that a reader in a loop cannot flood the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuser::Errno;

use crate::error::{Error, Kind};

const QUIET: Duration = Duration::from_secs(30);
/// Distinct failures remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub struct Edge {
    logged: Mutex<HashMap<(String, Kind), Instant>>,
}

impl Edge {
    pub fn errno(&self, error: &Error) -> Errno {
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
        Errno::from_i32(error.errno())
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
        let edge = Edge::default();
        assert!(edge.first("k", Kind::Tag));
        assert!(!edge.first("k", Kind::Tag));
        assert!(edge.first("k", Kind::NoKey));
        assert!(edge.first("l", Kind::Tag));
    }

    #[test]
    fn every_errno_of_an_object_has_a_name() {
        for kind in Kind::ALL.into_iter().filter(|k| k.is_verdict() || k.is_transient()) {
            assert_ne!(errno_name(kind.row().errno), "error", "{kind:?}");
        }
    }
}
