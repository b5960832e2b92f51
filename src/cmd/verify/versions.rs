//! What the bucket keeps beside what is read: which objects were replaced, and which logs are hidden by a delete marker.
//!
//! Invariant: none of this fails a run, nor does failing to see it; the summary says so.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use futures::StreamExt;

use super::Run;
use super::manifest::Deleted;
use crate::catalog::{History, names};
use crate::cli::ReportFormat;
use crate::cmd::out::Reader;
use crate::err;
use crate::error::{Kind, Result};

/// The keys that have several versions, by a hash of each that nobody can make collide.
#[derive(Default)]
pub struct Replaced {
    hasher: RandomState,
    keys: HashSet<u64>,
}

impl Replaced {
    pub fn holds(&self, key: &str) -> bool {
        !self.keys.is_empty() && self.keys.contains(&self.hasher.hash_one(key))
    }

    fn add(&mut self, key: &str) {
        self.keys.insert(self.hasher.hash_one(key));
    }
}

impl Run {
    /// About one request for each thousand versions, before anything is read.
    pub async fn look_back(&mut self) -> Result<Reader> {
        match self.archive.store.versioning().await {
            // A sealed copy.
            Ok(None) => return Ok(Reader::There),
            Ok(Some(versioning)) => self.summary.versioning = Some(versioning.name()),
            // Who may not see that may see the versions.
            Err(e) => log::info!("whether the bucket keeps versions is not to be seen: {e}"),
        }
        let mut all = self.archive.catalog.histories(&self.scope.paths);
        while let Some(history) = all.next().await {
            match history {
                Ok(history) if history.deleted.is_some() => {
                    if self.deleted(&history)? == Reader::Gone && self.is_for_reader_only() {
                        return Ok(Reader::Gone);
                    }
                }
                Ok(history) => self.replaced.add(&history.key),
                Err(e) => {
                    self.summary.versions_unseen = Some(e.to_string());
                    break;
                }
            }
        }
        Ok(Reader::There)
    }

    fn deleted(&mut self, history: &History) -> Result<Reader> {
        let log = &history.log;
        let (day, name) = (names::day(&log.span), names::plain(&log.span, log.rotation));
        let path = format!("{}/{}/{}/{day}/{name}", log.stack, log.resource, log.container);
        let (Some(at), true) = (history.deleted, self.scope.covers_path(&path, log)) else { return Ok(Reader::There) };
        self.summary.deleted += 1;
        let (deleted, version_id) = (history.key.clone(), history.version_id.clone());
        let deleted = Deleted { deleted, path, deleted_at: at.to_string(), version_id };
        if let Some(manifest) = &mut self.manifest {
            manifest.deleted(&deleted)?;
        }
        if self.format != ReportFormat::Json {
            return Ok(Reader::There);
        }
        let line = serde_json::to_string(&deleted).map_err(|e| err!(Kind::Internal, "{e}"))?;
        self.print(&format!("{line}\n"))
    }
}
