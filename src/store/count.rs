//! Counts what goes through it. Below [`super::Retry`] it counts requests, above it calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;

use super::{GetRequest, ListRequest, Object, Page, Part, Store};
use crate::error::Result;

/// A decorator that counts requests by kind, and bytes of bodies.
#[derive(Debug, Default)]
pub struct Count<S> {
    inner: S,
    lists: AtomicU64,
    gets: AtomicU64,
    checks: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// A snapshot; the numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub lists: u64,
    pub gets: u64,
    pub checks: u64,
    /// Of all of these, how many ended in an error.
    pub failed: u64,
    /// Bytes of bodies received, those of broken-off ones included.
    pub bytes: u64,
}

impl<S> Count<S> {
    pub fn new(inner: S) -> Self {
        let zero = AtomicU64::default;
        Count { inner, lists: zero(), gets: zero(), checks: zero(), failed: zero(), bytes: zero() }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            lists: self.lists.load(Relaxed),
            gets: self.gets.load(Relaxed),
            checks: self.checks.load(Relaxed),
            failed: self.failed.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    fn outcome<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.failed.fetch_add(1, Relaxed);
        }
        result
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

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.lists.fetch_add(1, Relaxed);
        self.outcome(self.inner.list(req).await)
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        self.gets.fetch_add(1, Relaxed);
        let result = self.inner.get(req).await;
        if let Ok(object) = &result {
            self.bytes.fetch_add(object.bytes.len() as u64, Relaxed);
        }
        self.outcome(result)
    }

    async fn check(&self) -> Result<()> {
        self.checks.fetch_add(1, Relaxed);
        self.outcome(self.inner.check().await)
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        self.gets.fetch_add(1, Relaxed);
        let before = part.have();
        let result = self.inner.fetch(req, part).await;
        self.bytes.fetch_add(part.have().saturating_sub(before) as u64, Relaxed);
        self.outcome(result)
    }
}
