//! A value that is fetched when it is first asked for and again when it is older than its lifetime.
//!
//! Invariants: one fetch at a time; while a newer value is being fetched, the old one serves, and it serves on if that fails;
//! what is said to be out of date while a value is being fetched is still so when it is there. A failed fetch changes
//! nothing: those who waited for it have its error; the next caller tries again, or, where an old value serves, a second
//! later at the earliest.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::err;
use crate::error::{Error, Kind, Result};
use crate::store::Waited;

pub struct Fresh<T> {
    current: RwLock<Option<Aged<T>>>,
    /// How often it was said that the value is out of date.
    outdated: AtomicU64,
    fetching: tokio::sync::Mutex<()>,
    waited: Waited,
    /// The last fetch failed.
    failed: Mutex<Option<(Instant, Error)>>,
}

struct Aged<T> {
    value: Arc<T>,
    since: Instant,
    /// Of what was said to be out of date it knows so much.
    knows: u64,
}

/// After a failure, while an old value serves.
const PAUSE: Duration = Duration::from_secs(1);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        let (outdated, fetching, waited, failed) = Default::default();
        Fresh { current: RwLock::new(None), outdated, fetching, waited, failed }
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    /// The value: a fresh one as it is; an old one after `fetch` was started in the background; a missing one when `fetch`
    /// has brought it.
    pub async fn get<F, Fut>(self: &Arc<Self>, ttl: Duration, fetch: F) -> Result<Arc<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        match self.look(ttl) {
            Look::Fresh(value) => return Ok(value),
            Look::Old(value) => {
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    let Ok(_one) = this.fetching.try_lock() else { return };
                    if matches!(this.look(ttl), Look::Old(_))
                        && let Err(e) = this.fetch(fetch).await
                    {
                        log::warn!("a listing could not be refreshed, the old one serves on: {e}");
                    }
                });
                return Ok(value);
            }
            Look::Nothing => {}
        }
        let (this, since) = (Arc::clone(self), self.waited.begin());
        // A task of its own: a long listing does not start again because who asked for it has waited too long.
        let task = tokio::spawn(async move {
            let _one = this.fetching.lock().await;
            if let Look::Fresh(value) | Look::Old(value) = this.look(ttl) {
                return Ok(value); // somebody else fetched it meanwhile
            }
            this.waited.check(since)?;
            this.fetch(fetch).await
        });
        task.await.map_err(|_| err!(Kind::Internal, "a listing's task panicked"))?
    }

    /// A value that knows of all that was said to be out of date so far. Goes on if nobody waits for it any more.
    pub async fn renewed<F, Fut>(self: &Arc<Self>, fetch: F) -> Result<Arc<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (this, wanted) = (Arc::clone(self), self.outdated());
        let task = tokio::spawn(async move {
            let _one = this.fetching.lock().await;
            if let Some((value, _)) = this.current().filter(|(_, knows)| *knows >= wanted) {
                return Ok(value);
            }
            match this.failure() {
                Some(e) => Err(e),
                None => this.fetch(fetch).await,
            }
        });
        task.await.map_err(|_| err!(Kind::Internal, "a listing's task panicked"))?
    }

    /// The value as it is, if there is one.
    pub fn peek(&self) -> Option<Arc<T>> {
        self.current().map(|(value, _)| value)
    }

    /// The same, with how much it knows: see [`Fresh::age`].
    pub fn current(&self) -> Option<(Arc<T>, u64)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|aged| (Arc::clone(&aged.value), aged.knows))
    }

    /// Fetches a new value, whatever the age of the one there is, which serves meanwhile.
    pub async fn refresh<Fut: Future<Output = Result<T>>>(&self, fetch: impl FnOnce() -> Fut) -> Result<()> {
        let _one = self.fetching.lock().await;
        self.fetch(fetch).await.map(drop)
    }

    /// The value is out of date: the next caller has a new one fetched, and the old one. Values that know less than what is
    /// returned here do not know of it.
    pub fn age(&self) -> u64 {
        self.outdated.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn outdated(&self) -> u64 {
        self.outdated.load(Ordering::SeqCst)
    }

    fn look(&self, ttl: Duration) -> Look<T> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(aged) = current.as_ref() else { return Look::Nothing };
        let is_fresh = aged.knows >= self.outdated() && aged.since.elapsed() < ttl;
        let value = Arc::clone(&aged.value);
        if is_fresh || self.failure().is_some() { Look::Fresh(value) } else { Look::Old(value) }
    }

    /// The last fetch, if it failed a moment ago.
    fn failure(&self) -> Option<Error> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE).map(|(_, e)| e.clone())
    }

    /// To be called by one at a time.
    async fn fetch<Fut: Future<Output = Result<T>>>(&self, fetch: impl FnOnce() -> Fut) -> Result<Arc<T>> {
        let knows = self.outdated();
        let result = fetch().await;
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) =
            result.as_ref().err().map(|e| (Instant::now(), e.clone()));
        let value = Arc::new(result.inspect_err(|e| self.waited.failed(e))?);
        let aged = Aged { value: Arc::clone(&value), since: Instant::now(), knows };
        let old = self.current.write().unwrap_or_else(PoisonError::into_inner).replace(aged);
        // Not before the lock is free: a listing of a million takes tens of milliseconds to free, and a look at it none.
        drop(old);
        Ok(value)
    }
}

enum Look<T> {
    Fresh(Arc<T>),
    Old(Arc<T>),
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn fetched_once_until_it_is_out_of_date() {
        let cell = Arc::new(Fresh::<u32>::default());
        let calls = Arc::new(AtomicU32::new(0));
        let fetch = || {
            let calls = Arc::clone(&calls);
            move || async move { Ok(calls.fetch_add(1, Ordering::Relaxed)) }
        };
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 0);
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 0);
        cell.age();
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 0, "the old value at once");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 1, "the new one by and by");
        tokio::time::sleep(TTL).await;
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_newer_value_shares_one_fetch_and_one_failure() {
        let cell = Arc::new(Fresh::<u32>::default());
        let calls = Arc::new(AtomicU32::new(0));
        let fetch = |fails: bool| {
            let calls = Arc::clone(&calls);
            move || async move {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                if fails { Err(err!(Kind::Storage, "down")) } else { Ok(call) }
            }
        };
        assert_eq!(*cell.get(TTL, fetch(false)).await.unwrap(), 0);
        (0..3).for_each(|_| _ = cell.age());
        let (a, b) = tokio::join!(cell.renewed(fetch(false)), cell.renewed(fetch(false)));
        assert_eq!((*a.unwrap(), *b.unwrap()), (1, 1));
        assert_eq!(*cell.renewed(fetch(false)).await.unwrap(), 1, "it knows all");
        // What is said while it is being fetched may not be in it.
        cell.age();
        let (value, ()) = tokio::join!(cell.renewed(fetch(false)), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            cell.age();
        });
        assert_eq!((*value.unwrap(), *cell.renewed(fetch(false)).await.unwrap()), (2, 3));
        cell.age();
        let (a, b) = tokio::join!(cell.renewed(fetch(true)), cell.renewed(fetch(true)));
        assert!(a.is_err() && b.is_err());
        // Nobody is made to wait, and nothing is asked, for a while.
        assert_eq!(*cell.get(TTL, fetch(true)).await.unwrap(), 3);
        assert!(cell.renewed(fetch(true)).await.is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 5);
        tokio::time::sleep(PAUSE).await;
        assert_eq!(*cell.renewed(fetch(false)).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn the_old_value_serves_while_a_new_one_is_fetched() {
        let cell = Arc::new(Fresh::<u32>::default());
        assert_eq!(*cell.get(TTL, || async { Ok(1) }).await.unwrap(), 1);
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let slow = || async move {
            gate.await.ok();
            Ok(2)
        };
        let refresh = tokio::spawn({
            let cell = Arc::clone(&cell);
            async move { cell.refresh(slow).await }
        });
        cell.age();
        // One fetch at a time: this one is not needed.
        assert_eq!(*cell.get(TTL, || async { Ok(3) }).await.unwrap(), 1);
        open.send(()).unwrap();
        refresh.await.unwrap().unwrap();
        assert!(*cell.get(TTL, || async { Ok(4) }).await.unwrap() >= 2);
    }

    /// When it is freed it sees whether its cell can be looked at.
    struct Old(std::sync::Weak<Fresh<Old>>, Arc<AtomicU32>);

    impl Drop for Old {
        fn drop(&mut self) {
            let is_free = self.0.upgrade().is_some_and(|cell| cell.current.try_read().is_ok());
            self.1.fetch_add(u32::from(is_free), Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn nobody_waits_while_an_old_value_is_freed() {
        let (cell, free) = (Arc::new(Fresh::<Old>::default()), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            let value = Old(Arc::downgrade(&cell), Arc::clone(&free));
            cell.refresh(|| async { Ok(value) }).await.unwrap();
        }
        assert_eq!(free.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let cell = Arc::new(Fresh::<u32>::default());
        assert!(cell.get(TTL, || async { Err(err!(Kind::Storage, "down")) }).await.is_err());
        assert_eq!(*cell.get(TTL, || async { Ok(7) }).await.unwrap(), 7);
    }
}
