//! What the audit log is told of opens and closes.
//!
//! Invariant: with a log no handle is given out, and no text, that the log does not tell of.

use super::{Fs, OpenFile};
use crate::audit::{Audit, Caller, Opening, What};
use crate::error::{Error, Kind, Result};
use crate::object::LogFile;

/// What a handle owes the log.
pub(super) struct Trail {
    opening: Opening,
    /// What had been put into the page cache for the file when it was opened.
    filled: u64,
}

impl Fs {
    /// Every open of a file is told to this log from now on, or fails.
    pub fn with_audit(self, audit: Option<Audit>) -> Fs {
        Fs { audit, ..self }
    }

    /// Tells the log how an open went.
    pub(super) async fn audited(
        &self,
        caller: Caller,
        file: &LogFile,
        kept: bool,
        opened: Result<OpenFile>,
    ) -> Result<OpenFile> {
        let Some(audit) = &self.audit else { return opened };
        match opened {
            Ok(mut open) => {
                let filled = file.filled();
                let opening = audit.opened(caller, what(file), file.auth().name(), kept).await?;
                open.trail = Some(Trail { opening, filled });
                Ok(open)
            }
            Err(e) => {
                if let Err(unwritten) = audit.refused(caller, what(file), &e).await {
                    self.report.failure(&unwritten);
                }
                Err(e)
            }
        }
    }

    /// A handle that is given out while the log ends may be one that it does not close.
    pub(super) fn unless_ended(&self, handle: u64) -> Result<()> {
        if self.audit.as_ref().is_some_and(Audit::is_closing) {
            self.release(handle);
            return Err(Error::new(Kind::Stale, "the mount has ended"));
        }
        Ok(())
    }

    pub fn reopen_audit(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// For the end: closes what is open, as far as the log is concerned, and ends the log.
    pub fn end_audit(&self) {
        if let Some(audit) = &self.audit {
            audit.closing();
            self.files.all().iter().for_each(|open| open.closed());
            audit.end();
        }
    }
}

impl OpenFile {
    /// To be called before `bytes` of text are given away.
    pub(super) fn given(&self, bytes: usize) -> Result<()> {
        self.trail.as_ref().map_or(Ok(()), |trail| trail.opening.given(bytes as u64))
    }

    pub(super) fn closed(&self) {
        if let Some(Trail { opening, filled }) = &self.trail {
            opening.close(self.file.auth().name(), self.file.filled() - filled);
        }
    }
}

fn what(file: &LogFile) -> What {
    let object = file.object();
    let head = file.known_head().and_then(Result::ok);
    What {
        key: object.key.clone(),
        etag: object.etag.clone(),
        version_id: head.and_then(|head| head.version_id.clone()),
    }
}
