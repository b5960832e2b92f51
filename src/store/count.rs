//! Counts what goes through it. Below [`super::Retry`] it counts requests, above it calls.
//!
//! Invariant: a request that is given up (its future is dropped, as at a deadline) is counted as any other that failed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;

use super::{ByteRange, GetRequest, ListRequest, Object, Page, Part, Store, Versioning, VersionsPage, VersionsRequest};
use crate::error::Result;

/// A decorator that counts requests by kind, and bytes of bodies.
#[derive(Debug, Default)]
pub struct Count<S> {
    inner: S,
    lists: AtomicU64,
    heads: AtomicU64,
    gets: AtomicU64,
    checks: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// A snapshot; the numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of objects or of versions.
    pub lists: u64,
    /// Gets of an object's end, which bring its metadata; of small ones they bring everything.
    pub heads: u64,
    /// All other gets.
    pub gets: u64,
    pub checks: u64,
    /// Of all of these, how many ended in an error.
    pub failed: u64,
    /// Of all of these, how many were made since one before had failed. [`super::Retry`] knows.
    pub retries: u64,
    /// Bytes of bodies received, those of broken-off ones included.
    pub bytes: u64,
}

/// One request under way: it has failed, unless it is said to have ended well.
struct Under<'a> {
    failed: &'a AtomicU64,
    well: bool,
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if !self.well {
            self.failed.fetch_add(1, Relaxed);
        }
    }
}

/// Counts what comes into a part, however the request ends.
struct Filling<'a> {
    part: &'a mut Part,
    before: usize,
    bytes: &'a AtomicU64,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.bytes.fetch_add(self.part.have().saturating_sub(self.before) as u64, Relaxed);
    }
}

impl<S> Count<S> {
    pub fn new(inner: S) -> Self {
        let zero = AtomicU64::default;
        Count { inner, lists: zero(), heads: zero(), gets: zero(), checks: zero(), failed: zero(), bytes: zero() }
    }

    async fn run<T>(&self, kind: &AtomicU64, request: impl Future<Output = Result<T>>) -> Result<T> {
        kind.fetch_add(1, Relaxed);
        let mut under = Under { failed: &self.failed, well: false };
        let result = request.await;
        under.well = result.is_ok();
        result
    }

    fn kind(&self, req: &GetRequest) -> &AtomicU64 {
        match req.range {
            ByteRange::Suffix(_) => &self.heads,
            ByteRange::Whole | ByteRange::Span(_) => &self.gets,
        }
    }
}

#[async_trait]
impl<S: Store> Store for Count<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn counts(&self) -> Counts {
        Counts {
            lists: self.lists.load(Relaxed),
            heads: self.heads.load(Relaxed),
            gets: self.gets.load(Relaxed),
            checks: self.checks.load(Relaxed),
            failed: self.failed.load(Relaxed),
            retries: 0,
            bytes: self.bytes.load(Relaxed),
        }
    }

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.run(&self.lists, self.inner.list(req)).await
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let object = self.run(self.kind(req), self.inner.get(req)).await?;
        self.bytes.fetch_add(object.bytes.len() as u64, Relaxed);
        Ok(object)
    }

    async fn check(&self) -> Result<()> {
        self.run(&self.checks, self.inner.check()).await
    }

    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        self.run(&self.lists, self.inner.versions(req)).await
    }

    async fn versioning(&self) -> Result<Option<Versioning>> {
        self.run(&self.checks, self.inner.versioning()).await
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let filling = Filling { before: part.have(), part, bytes: &self.bytes };
        self.run(self.kind(req), self.inner.fetch(req, &mut *filling.part)).await
    }
}
