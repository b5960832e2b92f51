//! A bucket as it was at some moment. A decorator that shows, of each key, the newest version of that time, and nothing
//! where that is a delete marker.
//!
//! Below [`super::Retry`], so that looking a version up and getting it are tried again as one call. It keeps nothing: what
//! a page of a listing has to know of the page before is in its token.
//!
//! Invariants: no answer is made of anything newer than the moment; a get is pinned to the version that a listing of
//! versions shows for its key, whether or not it was pinned to an entity tag before; a store that tells no versions, or none with
//! times, is an error, and never shown as it is now.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::versions::Progress;
use super::{
    Counts, Entry, GetRequest, ListRequest, Object, Page, Part, Pin, Store, Timestamp, Version, VersionPages,
    Versioning, VersionsPage, VersionsRequest,
};
use crate::err;
use crate::error::{Error, Kind, Result};

/// A store as it was.
#[derive(Debug)]
pub struct At<S> {
    inner: S,
    /// Versions of this moment count.
    moment: Timestamp,
    /// What [`Store::check`] looks at.
    check_below: String,
}

impl<S: Store> At<S> {
    pub fn new(inner: S, moment: Timestamp, check_below: String) -> At<S> {
        At { inner, moment, check_below }
    }

    /// The versions of that time, newest first, the newest of them as the latest. `found`: the last key of which there were
    /// some on the page before, and then on this one.
    fn choose(&self, versions: &mut Vec<Version>, found: &mut Vec<u8>) -> Result<()> {
        if versions.iter().any(|version| version.last_modified == (0, 0)) {
            return Err(damaged("a version without a time"));
        }
        versions.retain_mut(|version| {
            if version.last_modified > self.moment {
                return false;
            }
            version.latest = version.key != *found;
            found.clone_from(&version.key);
            true
        });
        Ok(())
    }

    /// A page as it was, and the last key that there is in it now.
    async fn of_then(&self, req: &VersionsRequest) -> Result<Option<(VersionsPage, Option<Vec<u8>>)>> {
        let Some(mut page) = self.inner.versions(req).await? else { return Ok(None) };
        let last = page.versions.last().map(|version| version.key.clone());
        let mut found = req.after.as_ref().map(|after| after.found.clone()).unwrap_or_default();
        self.choose(&mut page.versions, &mut found)?;
        if let Some(next) = &mut page.next {
            next.found = found;
        }
        Ok(Some((page, last)))
    }

    async fn page(&self, req: &ListRequest) -> Result<Page> {
        let mut progress = match &req.token {
            Some(token) => Token::parse(token)?.0,
            None => Progress::default(),
        };
        let request = VersionsRequest {
            prefix: req.prefix.clone(),
            delimiter: req.delimiter,
            start_after: req.start_after.clone(),
            // Not as many as are asked for: most of them may be of another time.
            max_keys: None,
            after: progress.after.clone(),
        };
        let (mut page, last) = self.of_then(&request).await?.ok_or_else(no_versions)?;
        if req.token.is_none()
            && let Some(start) = &req.start_after
        {
            // A server may take the marker for where to begin.
            page.versions.retain(|version| version.key.as_slice() > start.as_bytes());
        }
        progress.advance(&req.prefix, &page)?;
        let stops = req.stop.as_ref().zip(last).is_some_and(|(stop, last)| last.as_slice() > stop.as_bytes());
        let more = page.next.is_some() && !stops;
        let shown = page.versions.into_iter().filter(|version| version.latest && !version.delete_marker);
        Ok(Page {
            objects: shown.map(entry).collect::<Result<_>>()?,
            prefixes: page.prefixes,
            next: if more { Some(Token(progress).text()?) } else { None },
        })
    }

    /// The pin of the version of then of an object that `pin` does not name one of.
    async fn find(&self, key: &str, pin: &Pin) -> Result<Pin> {
        let request = VersionsRequest { prefix: key.to_owned(), ..VersionsRequest::default() };
        let mut pages = VersionPages::new(&self.inner, request);
        let mut found = None;
        while found.is_none()
            && let Some(mut page) = pages.next().await?
        {
            // In order, the key itself comes before all that it is the beginning of.
            let is_over = page.versions.last().is_some_and(|version| version.key != key.as_bytes());
            page.versions.retain(|version| version.key == key.as_bytes());
            self.choose(&mut page.versions, &mut Vec::new())?;
            found = page.versions.into_iter().next();
            if is_over {
                break;
            }
        }
        let Some(version) = found.filter(|version| !version.delete_marker) else {
            return Err(err!(Kind::NotFound, "no such object at the time of --at"));
        };
        if pin.etag().is_some_and(|etag| etag != version.etag) {
            return Err(err!(Kind::Stale, "the version that was listed is gone, and there is an older one"));
        }
        // So S3 calls what was written without versioning.
        let id = version.version_id.unwrap_or_else(|| "null".into());
        Ok(Pin::Version { id, etag: version.etag })
    }
}

#[async_trait]
impl<S: Store> Store for At<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.page(req).await.map_err(|e| e.about(&format!("{}{}", self.describe(), req.prefix)))
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let mut part = Part::new();
        self.fetch(req, &mut part).await?;
        part.finish()
    }

    async fn check(&self) -> Result<()> {
        let request =
            VersionsRequest { prefix: self.check_below.clone(), max_keys: Some(1), ..VersionsRequest::default() };
        self.inner.versions(&request).await?.ok_or_else(no_versions).map(drop)
    }

    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        let page = self.of_then(req).await.map(|page| page.map(|(page, _)| page));
        page.map_err(|e| e.about(&format!("{}{}", self.describe(), req.prefix)))
    }

    async fn versioning(&self) -> Result<Option<Versioning>> {
        self.inner.versioning().await
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        // What has begun goes on with the version that its first answer named.
        let rest = part.rest(req)?;
        if rest.pin.version_id().is_some() {
            return self.inner.fetch(req, part).await;
        }
        let pin = self.find(&req.key, &rest.pin).await.map_err(|e| e.about(&req.key))?;
        self.inner.fetch(&GetRequest { pin, ..req.clone() }, part).await
    }
}

/// What a listing's token is made of.
#[derive(Serialize, Deserialize)]
struct Token(Progress);

impl Token {
    fn parse(text: &str) -> Result<Token> {
        serde_json::from_str(text).map_err(|_| err!(Kind::Invalid, "not a continuation token of this store"))
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| err!(Kind::Internal, "{e}"))
    }
}

fn entry(version: Version) -> Result<Entry> {
    Ok(Entry {
        key: version.key,
        size: version.size.ok_or_else(|| damaged("an object without size"))?,
        etag: version.etag,
        last_modified: version.last_modified,
        storage_class: version.storage_class,
    })
}

fn damaged(what: &str) -> Error {
    err!(Kind::Storage, "damaged listing: {what}")
}

fn no_versions() -> Error {
    err!(Kind::Internal, "--at, of a store without versions")
}

#[cfg(test)]
mod tests;
