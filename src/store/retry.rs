//! Patience, bounded. A decorator that tries again what failed for a reason that may pass ([`Kind::is_transient`]).
//!
//! Bounds: ten attempts, a deadline over the whole call, one bucket of retry tokens for the store ([`Bucket`]), so that many
//! readers of a dead endpoint do not hammer it, and one retry at a time for each object and listing ([`Queues`]). First attempts are
//! free. A body that broke off goes on where it stopped, pinned to the version that the first answer named ([`Part`]); an
//! attempt that brought bytes does not count against the ten, the deadline bounds those.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use super::bucket::Bucket;
use super::queue::Queues;
use super::{Counts, GetRequest, ListRequest, Object, Page, Part, Store, Versioning, VersionsPage, VersionsRequest};
use crate::err;
use crate::error::{Error, Kind, Result};

const ATTEMPTS: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A mount that cannot start says so soon.
const CHECK: Duration = Duration::from_secs(20);

/// A store whose calls are tried again. Errors are those of the last attempt; `Timeout` when the deadline passed.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    deadline: Duration,
    bucket: Mutex<Bucket>,
    queues: Queues,
    retries: AtomicU64,
}

impl<S> Retry<S> {
    /// `deadline` holds for each call, all attempts and waits included; 30 s is usual. Needs a tokio runtime with time.
    pub fn new(inner: S, deadline: Duration) -> Self {
        Retry {
            inner,
            deadline,
            bucket: Mutex::new(Bucket::full()),
            queues: Queues::default(),
            retries: AtomicU64::new(0),
        }
    }

    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// How long to wait before attempt `n` + 1, which is of use before `until` only.
    fn pause(&self, n: u32, until: Instant) -> Duration {
        let most = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(n.saturating_sub(1).min(8)));
        // Between half and all of it; without randomness, all.
        let part = getrandom::u32().map_or(1.0, |r| 0.5 + f64::from(r) / f64::from(u32::MAX) / 2.0);
        let turn = self.bucket().take(until).unwrap_or(Duration::MAX);
        most.mul_f64(part).max(turn)
    }

    /// Calls that nobody else makes at the same time: they wait for no turn.
    async fn patiently<T, F>(&self, deadline: Duration, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = Attempts::new(deadline);
        loop {
            match attempts.run(call()).await {
                Ok(answer) => return Ok(answer),
                Err(e) => attempts.again(e, self, ready(())).await?,
            }
        }
    }

    fn succeeded(&self, key: &str) {
        self.bucket().earn();
        self.queues.succeeded(key);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's attempts.
struct Attempts {
    until: Instant,
    most: Duration,
    /// Those that count, and all of them.
    n: u32,
    made: u32,
    /// The last failure.
    last: Option<Error>,
    /// The deadline cut the last attempt short.
    cut: bool,
}

impl Attempts {
    fn new(most: Duration) -> Self {
        // A deadline beyond the clock's range is no deadline; a year is one that nobody will see.
        let until = Instant::now() + most.min(Duration::from_secs(365 * 86_400));
        Attempts { until, most, n: 0, made: 0, last: None, cut: false }
    }

    /// Runs one attempt within the deadline.
    async fn run<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.n += 1;
        self.made += 1;
        match timeout_at(self.until, call).await {
            Ok(result) => result,
            Err(_) => {
                self.cut = true;
                Err(self.too_late())
            }
        }
    }

    /// After a failure: waits for the next attempt, or says what the call ends with. `turn` comes first.
    async fn again<S>(&mut self, e: Error, retry: &Retry<S>, turn: impl Future<Output = ()>) -> Result<()> {
        if !e.kind().is_transient() {
            return Err(e);
        }
        if Instant::now() >= self.until {
            // What broke off at the deadline says so itself.
            if self.cut {
                return Err(e);
            }
            self.last = Some(e);
            return Err(self.too_late());
        }
        if self.n >= ATTEMPTS {
            return Err(err!(e.kind(), "{} (after {} attempts)", e.message(), self.n));
        }
        self.last = Some(e);
        let (n, until) = (self.n, self.until);
        let wait = async {
            turn.await;
            sleep(retry.pause(n, until)).await;
        };
        match timeout_at(until, wait).await {
            Ok(()) => {
                retry.retries.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Error {
        let most = self.most;
        match &self.last {
            None => err!(Kind::Timeout, "no answer within {most:?}"),
            Some(e) => err!(Kind::Timeout, "no success within {most:?}, {} attempts: {}", self.made, e.message()),
        }
    }
}

#[async_trait]
impl<S: Store> Store for Retry<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn counts(&self) -> Counts {
        let inner = self.inner.counts();
        Counts { retries: inner.retries + self.retries.load(Relaxed), ..inner }
    }

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        let about = |e: Error| e.about(&format!("{}{}", self.describe(), req.prefix));
        let mut attempts = Attempts::new(self.deadline);
        let mut place = None;
        loop {
            match attempts.run(self.inner.list(req)).await {
                Ok(page) => {
                    self.succeeded(&req.prefix);
                    return Ok(page);
                }
                Err(e) => {
                    let turn = place.get_or_insert_with(|| self.queues.join(&req.prefix)).wait();
                    attempts.again(e, self, turn).await.map_err(about)?;
                }
            }
        }
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let mut part = Part::new();
        self.fetch(req, &mut part).await?;
        part.finish()
    }

    async fn check(&self) -> Result<()> {
        let checked = self.patiently(self.deadline.min(CHECK), || self.inner.check()).await;
        checked.map_err(|e| e.about(&self.describe()))
    }

    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        let page = self.patiently(self.deadline, || self.inner.versions(req)).await;
        page.map_err(|e| e.about(&format!("{}{}", self.describe(), req.prefix)))
    }

    async fn versioning(&self) -> Result<Option<Versioning>> {
        let told = self.patiently(self.deadline.min(CHECK), || self.inner.versioning()).await;
        told.map_err(|e| e.about(&self.describe()))
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let mut attempts = Attempts::new(self.deadline);
        let mut place = None;
        loop {
            let before = part.have();
            match attempts.run(self.inner.fetch(req, part)).await {
                Err(e) if !part.is_complete() => {
                    if part.have() > before {
                        attempts.n = 0;
                        self.queues.succeeded(&req.key);
                    }
                    let turn = place.get_or_insert_with(|| self.queues.join(&req.key)).wait();
                    attempts.again(e, self, turn).await.map_err(|e| e.about(&req.key))?;
                }
                // Also if the body was whole before what failed did.
                _ => {
                    self.succeeded(&req.key);
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_two_seconds() {
        const DEADLINE: Duration = Duration::from_secs(30);
        let retry = Retry::new((), DEADLINE);
        for (n, most) in [(1, 50), (2, 100), (3, 200), (6, 1600), (7, 2000), (u32::MAX, 2000)] {
            let pause = retry.pause(n, Instant::now() + DEADLINE).as_millis();
            assert!((most / 2..=most).contains(&pause), "{n}: {pause}");
        }
    }
}
