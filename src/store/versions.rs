//! The versions that a bucket keeps of its objects, delete markers among them.
//!
//! Invariant: as with [`Pages`](super::Pages), a listing of them is whole or an error, and ends.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::{Store, Timestamp};
use crate::err;
use crate::error::{Error, Kind, Result};

/// Whether a bucket keeps what is replaced and deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    Enabled,
    Suspended,
    Never,
}

impl Versioning {
    pub fn name(self) -> &'static str {
        match self {
            Versioning::Enabled => "enabled",
            Versioning::Suspended => "suspended",
            Versioning::Never => "never",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionsRequest {
    pub prefix: String,
    /// These three as in [`ListRequest`](super::ListRequest); of one key there may be several entries.
    pub delimiter: bool,
    pub start_after: Option<String>,
    pub max_keys: Option<i32>,
    /// [`VersionsPage::next`] of the page before. `start_after` is ignored then.
    pub after: Option<Marker>,
}

/// Where a page ended. To be given back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Of the bucket, whatever the store's own prefix is.
    pub(super) key: String,
    pub(super) version_id: Option<String>,
    /// The last key of which [`At`](super::At) has found the version that counts. It may have more behind the marker.
    pub(super) found: Vec<u8>,
}

impl Marker {
    /// Behind all versions of this key.
    pub(super) fn behind(key: String) -> Marker {
        Marker { key, version_id: None, found: Vec::new() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionsPage {
    /// In byte order of the keys; of one key, versions come newest first.
    pub versions: Vec<Version>,
    pub prefixes: Vec<Vec<u8>>,
    pub next: Option<Marker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Any bytes.
    pub key: Vec<u8>,
    pub version_id: Option<String>,
    pub last_modified: Timestamp,
    /// It is the one that others see.
    pub latest: bool,
    /// It has no content: it stands for a deletion.
    pub delete_marker: bool,
    /// As a listing shows them; a delete marker has none of these.
    pub size: Option<u64>,
    pub etag: String,
    pub storage_class: Option<String>,
}

/// One key may fill so many pages; S3 itself sets no limit.
const MOST_OF_ONE_KEY: u32 = 1000;

/// How far a listing of versions has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub after: Option<Marker>,
    /// The last key or prefix so far.
    last: Vec<u8>,
    /// Pages since that, and the key of the marker, was another.
    stuck: u32,
}

impl Progress {
    /// Takes note of the page that was asked for. Its names begin with `prefix`, and lead on.
    pub fn advance(&mut self, prefix: &str, page: &VersionsPage) -> Result<()> {
        let names = || page.versions.iter().map(|v| &v.key).chain(&page.prefixes);
        if !names().all(|name| name.starts_with(prefix.as_bytes())) {
            return Err(err!(Kind::Storage, "the listing shows keys that were not asked for"));
        }
        let stuck = || -> Error { err!(Kind::Storage, "the listing does not advance from page to page") };
        if names().any(|name| *name < self.last) {
            return Err(stuck());
        }
        let key = |marker: &Option<Marker>| marker.as_ref().map(|marker| marker.key.clone());
        // A page may show nothing, as all of it is of another time: its marker tells that it leads on.
        let mut leads_on = key(&page.next) > key(&self.after);
        if let Some(last) = names().max().filter(|last| **last > self.last) {
            (self.last, leads_on) = (last.clone(), true);
        }
        self.stuck = if leads_on { 0 } else { self.stuck + 1 };
        if page.next.is_some() && (self.stuck > MOST_OF_ONE_KEY || self.after == page.next) {
            return Err(stuck());
        }
        self.after.clone_from(&page.next);
        Ok(())
    }
}

/// Walks a listing of versions. After an error it must not be used further.
pub struct VersionPages<P> {
    store: P,
    req: VersionsRequest,
    progress: Progress,
    done: bool,
}

impl<P: Deref<Target: Store>> VersionPages<P> {
    pub fn new(store: P, req: VersionsRequest) -> Self {
        VersionPages { store, req, progress: Progress::default(), done: false }
    }

    /// The next page; `None` after the last one, and at once where the store has no versions to show.
    pub async fn next(&mut self) -> Result<Option<VersionsPage>> {
        if self.done {
            return Ok(None);
        }
        let Some(page) = self.store.versions(&self.req).await? else { return Ok(None) };
        let advanced = self.progress.advance(&self.req.prefix, &page);
        advanced.map_err(|e| e.about(&format!("{}{}", self.store.describe(), self.req.prefix)))?;
        self.req.after.clone_from(&self.progress.after);
        self.done = page.next.is_none();
        Ok(Some(page))
    }
}
