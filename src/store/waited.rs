//! One request for many who want the same: if it fails, those who waited for it have its failure. Were each of them to ask
//! next, one after the other, the last would wait for as many deadlines as there are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The last failure of something that is asked for by one at a time.
#[derive(Debug, Default)]
pub struct Waited(Mutex<(u64, Option<Error>)>);

/// When somebody began to wait.
#[derive(Clone, Copy, Debug)]
pub struct Since(u64);

impl Waited {
    /// To be called before the wait.
    pub fn begin(&self) -> Since {
        Since(self.lock().0)
    }

    /// After the wait: what came of it meanwhile, if that was a failure.
    pub fn check(&self, since: Since) -> Result<()> {
        match &*self.lock() {
            (count, Some(e)) if *count != since.0 => Err(e.clone()),
            _ => Ok(()),
        }
    }

    /// Tells a failure to those who wait.
    pub fn failed(&self, e: &Error) {
        let mut last = self.lock();
        *last = (last.0 + 1, Some(e.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Option<Error>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn who_waited_has_the_failure_and_who_comes_later_has_not() {
        let waited = Waited::default();
        let early = waited.begin();
        assert!(waited.check(early).is_ok());
        waited.failed(&Error::new(Kind::Storage, "down"));
        assert!(waited.check(early).is_err());
        assert!(waited.check(waited.begin()).is_ok());
    }
}
