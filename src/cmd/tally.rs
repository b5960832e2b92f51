//! What became of a command's items, and the exit code that follows.
//!
//! | what happened | exit code |
//! |---|---|
//! | nothing was selected | 4 |
//! | every item is fine | 0 |
//! | an object is not what its writer wrote | 5 |
//! | every failure has the same code (no key: 3, storage: 6) and nothing else went well | that one |
//! | some items failed | 1 |

use std::sync::{Mutex, PoisonError};

use super::progress::Progress;
use crate::error::{Error, exit};

#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
    progress: Progress,
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub ok: u64,
    pub failed: u64,
    /// Exit codes of the failures, each once.
    codes: Vec<u8>,
}

impl Counts {
    pub fn is_empty(&self) -> bool {
        self.ok == 0 && self.failed == 0
    }
}

impl Tally {
    /// One whose lines do not run into `progress`.
    pub fn new(progress: Progress) -> Tally {
        Tally { progress, ..Tally::default() }
    }

    pub fn ok(&self) {
        self.lock().ok += 1;
    }

    /// Counts the failure of one item and names it on stderr.
    pub fn failed(&self, e: &Error) {
        self.progress.say(&format!("logarchivefs: {e}"));
        let mut counts = self.lock();
        counts.failed += 1;
        if !counts.codes.contains(&e.exit_code()) {
            counts.codes.push(e.exit_code());
        }
    }

    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    pub fn exit_code(&self) -> u8 {
        let counts = self.lock();
        match *counts.codes {
            [] if counts.ok == 0 => exit::NO_MATCH,
            [] => exit::OK,
            _ if counts.codes.contains(&exit::INTEGRITY) => exit::INTEGRITY,
            [only] if counts.ok == 0 => only,
            _ => exit::SOME_FAILED,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_gravest_counts() {
        let code = |ok: u64, kinds: &[Kind]| {
            let tally = Tally::default();
            (0..ok).for_each(|_| tally.ok());
            kinds.iter().for_each(|kind| tally.failed(&Error::new(*kind, "x")));
            tally.exit_code()
        };
        assert_eq!(code(0, &[]), exit::NO_MATCH);
        assert_eq!(code(2, &[]), exit::OK);
        assert_eq!(code(2, &[Kind::Tag, Kind::Storage]), exit::INTEGRITY);
        assert_eq!(code(0, &[Kind::NoKey, Kind::NoKey]), exit::CONFIG);
        assert_eq!(code(0, &[Kind::Storage]), exit::STORAGE);
        assert_eq!(code(1, &[Kind::Storage]), exit::SOME_FAILED);
        assert_eq!(code(0, &[Kind::Storage, Kind::NoKey]), exit::SOME_FAILED);
    }
}
