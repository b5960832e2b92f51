//! A value that is fetched when it is first asked for and again when it is older than its lifetime.
//!
//! Invariants: one fetch at a time; while a newer value is being fetched, the old one serves; a failed fetch changes
//! nothing and is not remembered: those who waited for it have its error, and the next caller tries again.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::err;
use crate::error::{Kind, Result};
use crate::store::Waited;

pub struct Fresh<T> {
    current: RwLock<Option<Aged<T>>>,
    fetching: tokio::sync::Mutex<()>,
    waited: Waited,
}

struct Aged<T> {
    value: Arc<T>,
    since: Instant,
    due: Due,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// When its time has come.
    ByAge,
    /// [`Fresh::age`]: as if that were now.
    Now,
    /// [`Fresh::expire`]: nobody may have it any more.
    Gone,
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Fresh { current: RwLock::new(None), fetching: tokio::sync::Mutex::new(()), waited: Waited::default() }
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    /// The value: a fresh one as it is; an old one after `fetch` was started in the background; a missing or expired
    /// one when `fetch` has brought it.
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
                    if matches!(this.look(ttl), Look::Old(_)) {
                        match fetch().await {
                            Ok(new) => drop(this.put(new)),
                            Err(e) => log::warn!("a listing could not be refreshed, the old one serves on: {e}"),
                        }
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
            match fetch().await {
                Ok(new) => Ok(this.put(new)),
                Err(e) => {
                    this.waited.failed(&e);
                    Err(e)
                }
            }
        });
        task.await.map_err(|_| err!(Kind::Internal, "a listing's task panicked"))?
    }

    /// The value as it is, if there is one.
    pub fn peek(&self) -> Option<Arc<T>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|aged| Arc::clone(&aged.value))
    }

    /// Fetches a new value, whatever the age of the one there is, which serves meanwhile.
    pub async fn refresh<Fut: Future<Output = Result<T>>>(&self, fetch: impl FnOnce() -> Fut) -> Result<()> {
        let _one = self.fetching.lock().await;
        self.put(fetch().await?);
        Ok(())
    }

    /// The next caller has a new value fetched, and the old one.
    pub fn age(&self) {
        self.set_due(Due::Now);
    }

    /// The next caller fetches and waits for it: something in the value is known to be wrong.
    pub fn expire(&self) {
        self.set_due(Due::Gone);
    }

    fn set_due(&self, due: Due) {
        if let Some(aged) = self.current.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            aged.due = due;
        }
    }

    fn look(&self, ttl: Duration) -> Look<T> {
        match self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            None => Look::Nothing,
            Some(aged) if aged.due == Due::Gone => Look::Nothing,
            Some(aged) if aged.due == Due::ByAge && aged.since.elapsed() < ttl => Look::Fresh(Arc::clone(&aged.value)),
            Some(aged) => Look::Old(Arc::clone(&aged.value)),
        }
    }

    fn put(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let aged = Aged { value: Arc::clone(&value), since: Instant::now(), due: Due::ByAge };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(aged);
        value
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
    use std::sync::atomic::{AtomicU32, Ordering};

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn fetched_once_until_it_expires() {
        let cell = Arc::new(Fresh::<u32>::default());
        let calls = Arc::new(AtomicU32::new(0));
        let fetch = || {
            let calls = Arc::clone(&calls);
            move || async move { Ok(calls.fetch_add(1, Ordering::Relaxed)) }
        };
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 0);
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 0);
        cell.expire();
        assert_eq!(*cell.get(TTL, fetch()).await.unwrap(), 1);
        // Lifetime zero: the old value at once, the new one by and by.
        let served = *cell.get(Duration::ZERO, fetch()).await.unwrap();
        assert!(served <= 2);
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

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let cell = Arc::new(Fresh::<u32>::default());
        assert!(cell.get(TTL, || async { Err(err!(Kind::Storage, "down")) }).await.is_err());
        assert_eq!(*cell.get(TTL, || async { Ok(7) }).await.unwrap(), 7);
    }
}
