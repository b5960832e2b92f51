//! The versions that a bucket keeps of its objects, delete markers among them.
//!
//! Invariant: as with [`Pages`](super::Pages), a listing of them is whole or an error, and ends.

use std::ops::Deref;

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
    /// As in [`ListRequest`](super::ListRequest).
    pub delimiter: bool,
    /// [`VersionsPage::next`] of the page before.
    pub after: Option<Marker>,
}

/// Where a page ended. To be given back as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub(super) key: String,
    pub(super) version_id: Option<String>,
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
}

/// One key may fill so many pages; S3 itself sets no limit.
const MOST_OF_ONE_KEY: u32 = 1000;

/// Walks a listing of versions. After an error it must not be used further.
pub struct VersionPages<P> {
    store: P,
    req: VersionsRequest,
    /// The last key or prefix so far.
    last: Vec<u8>,
    /// Pages since it was another.
    stuck: u32,
    done: bool,
}

impl<P: Deref<Target: Store>> VersionPages<P> {
    pub fn new(store: P, req: VersionsRequest) -> Self {
        VersionPages { store, req, last: Vec::new(), stuck: 0, done: false }
    }

    /// The next page; `None` after the last one, and at once where the store has no versions to show.
    pub async fn next(&mut self) -> Result<Option<VersionsPage>> {
        if self.done {
            return Ok(None);
        }
        let Some(page) = self.store.versions(&self.req).await? else { return Ok(None) };
        self.advance(&page).map_err(|e| e.about(&format!("{}{}", self.store.describe(), self.req.prefix)))?;
        Ok(Some(page))
    }

    fn advance(&mut self, page: &VersionsPage) -> Result<()> {
        let names = || page.versions.iter().map(|v| &v.key).chain(&page.prefixes);
        if !names().all(|name| name.starts_with(self.req.prefix.as_bytes())) {
            return Err(err!(Kind::Storage, "the listing shows keys that were not asked for"));
        }
        let stuck = || -> Error { err!(Kind::Storage, "the listing does not advance from page to page") };
        if names().any(|name| *name < self.last) {
            return Err(stuck());
        }
        match names().max() {
            Some(last) if *last > self.last => (self.last, self.stuck) = (last.clone(), 0),
            _ => self.stuck += 1,
        }
        match &page.next {
            None => self.done = true,
            Some(next) if self.stuck > MOST_OF_ONE_KEY || self.req.after.as_ref() == Some(next) => return Err(stuck()),
            next => self.req.after.clone_from(next),
        }
        Ok(())
    }
}
