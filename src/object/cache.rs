//! The byte budget: one bound for everything that grows with what readers do.
//!
//! Invariants:
//! * What is cached plus what is reserved for indexes never exceeds `memory` less the share for bytes in flight.
//! * Bytes in flight (from the network) and bytes at work (being decrypted and inflated) hold a permit each, taken
//!   *before* they are allocated; a demand larger than its whole share takes all of it and so runs alone. Work waits
//!   for no other permit and for no request, so it always ends, whatever hangs. Small objects, and what is fetched again for
//!   a reader, have shares of their own.
//! * What the process has too much all the same, for which reason ever, the cache has less: down to a half of it.
//! * Entries are evicted least recently used first, with their cost in bytes, before the new one goes in.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::{Flight, Lane, Place};

/// What an entry is: part of one scan of one object version, so a stale entry can never be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The scan's number, unique in the process.
    pub scan: u64,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Ciphertext of run `n`.
    Run(u32),
    /// Plaintext that starts at this offset.
    Segment(u64),
}

const MOST_KIB: u32 = u32::MAX >> 4;

/// Entry overhead: the map's node, the key, the handle.
const OVERHEAD: usize = 160;

pub struct Cache {
    map: Mutex<Lru>,
    memory: usize,
    /// What the map may hold, before reservations.
    limit: usize,
    reserved: AtomicUsize,
    flight: Arc<Flight>,
    work: Arc<Semaphore>,
    /// Size of each of the two.
    share_kib: u32,
    /// Small objects: a fourth of that size.
    small: Arc<Semaphore>,
    /// What is fetched again: half that size.
    again: Arc<Semaphore>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    /// The most that was ever in use.
    peak: AtomicUsize,
    /// Bytes ever inserted.
    inserted: AtomicU64,
    /// See [`Cache::settle_with`].
    excess: OnceLock<Mutex<Box<dyn Fn() -> i64 + Send>>>,
    /// What the map may not hold for that reason.
    squeezed: AtomicUsize,
}

/// See [`Cache::settle_with`].
const SETTLE: u64 = 2 << 20;

struct Lru {
    entries: LruCache<CacheKey, Bytes>,
    bytes: usize,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub bytes: usize,
    /// The whole budget; what of it is cached, reserved, in flight or at work; the most that ever was.
    pub memory: usize,
    pub used: usize,
    pub peak: usize,
}

impl Cache {
    /// `memory`: the whole budget in bytes; an eighth of it is for bytes in flight, an eighth for bytes at work, and
    /// three fourths of that for small objects and what is fetched again.
    pub fn new(memory: usize) -> Arc<Self> {
        let share_kib = u32::try_from(memory / 8 / 1024).unwrap_or(MOST_KIB).clamp(1, MOST_KIB);
        Arc::new(Cache {
            map: Mutex::new(Lru { entries: LruCache::unbounded(), bytes: 0 }),
            memory,
            limit: memory - memory / 4 - memory / 32 * 3,
            reserved: AtomicUsize::new(0),
            flight: Flight::new(u64::from(share_kib) << 10),
            work: Arc::new(Semaphore::new(share_kib as usize)),
            share_kib,
            small: Arc::new(Semaphore::new(share_kib.div_ceil(4) as usize)),
            again: Arc::new(Semaphore::new(share_kib.div_ceil(2) as usize)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            peak: AtomicUsize::new(0),
            inserted: AtomicU64::new(0),
            excess: OnceLock::new(),
            squeezed: AtomicUsize::new(0),
        })
    }

    /// Asks for each two mebibytes that come how many bytes the process has too many; if fewer than none, how many it may have
    /// yet. Where freed memory lies in small pieces among what is in use, no allocator can give it back: then less is cached.
    pub fn settle_with(&self, excess: impl Fn() -> i64 + Send + 'static) {
        self.excess.set(Mutex::new(Box::new(excess))).ok();
    }

    fn settle(&self) {
        // One at a time: the same bytes would be taken away twice.
        let Some(Ok(excess)) = self.excess.get().map(Mutex::try_lock) else { return };
        let excess = excess();
        // Given back little by little, or it would be too much again at once.
        let change = if excess > 0 { excess } else { excess / 8 };
        let squeezed = (self.squeezed.load(Ordering::Relaxed) as i64).saturating_add(change);
        self.squeezed.store(squeezed.clamp(0, self.limit as i64 / 2) as usize, Ordering::Relaxed);
        if excess > 0 {
            self.shrink();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lru> {
        // The map is consistent between any two statements: a panic elsewhere does not spoil it.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: CacheKey) -> Option<Bytes> {
        let found = self.lock().entries.get(&key).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The same question, which does not count as a use.
    pub fn holds(&self, key: CacheKey) -> bool {
        self.lock().entries.contains(&key)
    }

    /// Keeps `bytes`, evicting what was used longest ago. Something larger than the whole cache is not kept.
    pub fn insert(&self, key: CacheKey, bytes: Bytes) {
        let cost = bytes.len() + OVERHEAD;
        let limit = self.room();
        let mut dropped = Vec::new();
        {
            let mut map = self.lock();
            if cost > limit {
                return;
            }
            while map.bytes + cost > limit {
                let Some((_, old)) = map.entries.pop_lru() else { break };
                map.bytes -= old.len() + OVERHEAD;
                dropped.push(old);
            }
            map.bytes += cost;
            if let Some((_, old)) = map.entries.push(key, bytes) {
                map.bytes -= old.len() + OVERHEAD;
                dropped.push(old);
            }
            self.used(&map);
        }
        // Freed outside the lock.
        self.evictions.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        drop(dropped);
        let before = self.inserted.fetch_add(cost as u64, Ordering::Relaxed);
        if before / SETTLE < (before + cost as u64) / SETTLE {
            self.settle();
        }
    }

    /// Makes this the next to be evicted.
    pub fn demote(&self, key: CacheKey) {
        self.lock().entries.demote(&key);
    }

    /// Removes an entry: what it was.
    pub fn remove(&self, key: CacheKey) -> Option<Bytes> {
        let mut map = self.lock();
        let old = map.entries.pop(&key)?;
        map.bytes -= old.len() + OVERHEAD;
        Some(old)
    }

    /// Drops every cached byte; reservations stay.
    pub fn clear(&self) {
        let mut map = self.lock();
        map.entries.clear();
        map.bytes = 0;
    }

    /// What the map may hold now.
    pub fn room(&self) -> usize {
        let limit = self.limit - self.squeezed.load(Ordering::Relaxed);
        limit.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// How many eighths of the cache are reserved.
    pub fn crowding(&self) -> usize {
        self.reserved() / (self.limit / 8).max(1)
    }

    /// Counts `bytes` of an index (seek points, digests) against the budget; what no longer fits is evicted.
    pub fn reserve(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.shrink();
    }

    /// Evicts what there is no room for any more.
    fn shrink(&self) {
        let limit = self.room();
        let mut map = self.lock();
        while map.bytes > limit {
            let Some((_, old)) = map.entries.pop_lru() else { break };
            map.bytes -= old.len() + OVERHEAD;
        }
        self.used(&map);
    }

    pub fn release(&self, bytes: usize) {
        let _ = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |r| Some(r.saturating_sub(bytes)));
    }

    /// For a large object: its part of the place for bytes that come from the network.
    pub fn lane(&self) -> Arc<Lane> {
        self.flight.lane()
    }

    /// Waits for a place there for `bytes`.
    pub async fn flight(&self, lane: &Arc<Lane>, bytes: u64) -> Place {
        let place = lane.take(bytes).await;
        self.used(&self.lock());
        place
    }

    /// Waits for a place for a small object, all of it.
    pub async fn small_flight(&self, bytes: u64) -> OwnedSemaphorePermit {
        self.permit(&self.small, bytes, self.share_kib.div_ceil(4)).await
    }

    /// The same for a part of a scanned object that is fetched again: half of this share at most.
    pub async fn again(&self, bytes: u64) -> OwnedSemaphorePermit {
        self.permit(&self.again, bytes, self.share_kib.div_ceil(4)).await
    }

    /// What one object may have in flight, and what its segments may take: half a share each, so that one whose requests
    /// hang does not keep all others waiting.
    pub fn own_share(&self) -> u64 {
        u64::from(self.share_kib) * 512
    }

    /// Waits for a place for `bytes` that are being decrypted or inflated.
    pub async fn work(&self, bytes: u64) -> OwnedSemaphorePermit {
        self.permit(&self.work, bytes, self.share_kib).await
    }

    async fn permit(&self, share: &Arc<Semaphore>, bytes: u64, most_kib: u32) -> OwnedSemaphorePermit {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, most_kib);
        match Arc::clone(share).acquire_many_owned(kib).await {
            Ok(permit) => {
                self.used(&self.lock());
                permit
            }
            Err(_) => unreachable!("these semaphores are never closed"),
        }
    }

    /// What of the budget is in use now.
    fn used(&self, map: &Lru) -> usize {
        let taken = |share: &Semaphore, of: u32| (of as usize).saturating_sub(share.available_permits()) << 10;
        let large = self.flight.taken() as usize + taken(&self.work, self.share_kib);
        let small = taken(&self.small, self.share_kib.div_ceil(4)) + taken(&self.again, self.share_kib.div_ceil(2));
        let used = map.bytes + self.reserved() + large + small;
        self.peak.fetch_max(used, Ordering::Relaxed);
        used
    }

    pub fn stats(&self) -> CacheStats {
        let map = self.lock();
        let used = self.used(&map);
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            bytes: map.bytes,
            memory: self.memory,
            used,
            peak: self.peak.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> CacheKey {
        CacheKey { scan: 1, part: Part::Segment(n) }
    }

    #[test]
    fn the_oldest_goes_first_and_the_bound_holds() {
        let cache = Cache::new(4 << 20);
        let block = || Bytes::from(vec![0u8; 1 << 20]);
        for n in 0..3 {
            cache.insert(key(n), block());
        }
        // 3 MiB is the limit and each entry costs a little more than its bytes.
        assert!(cache.get(key(0)).is_none());
        assert!(cache.get(key(1)).is_some());
        cache.insert(key(3), block());
        assert!(cache.get(key(2)).is_none(), "1 was used after 2");
        assert!(cache.get(key(1)).is_some() && cache.get(key(3)).is_some());
        assert!(cache.stats().bytes <= 3 << 20);
    }

    #[test]
    fn a_reservation_takes_room_and_gives_it_back() {
        let cache = Cache::new(4 << 20);
        cache.insert(key(1), Bytes::from(vec![0u8; 2 << 20]));
        cache.reserve(2 << 20);
        assert!(cache.get(key(1)).is_none());
        cache.insert(key(2), Bytes::from(vec![0u8; 2 << 20]));
        assert!(cache.get(key(2)).is_none(), "too large for what is left");
        cache.release(2 << 20);
        cache.insert(key(2), Bytes::from(vec![0u8; 2 << 20]));
        assert!(cache.get(key(2)).is_some());
    }

    #[test]
    fn what_the_process_has_too_much_is_taken_from_the_cache() {
        let cache = Cache::new(64 << 20);
        let excess = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let told = Arc::clone(&excess);
        cache.settle_with(move || told.load(Ordering::Relaxed));
        let mut next = 0;
        let mut fill = |mebibytes: u64| {
            (0..mebibytes).for_each(|_| (next, _) = (next + 1, cache.insert(key(next), Bytes::from(vec![0; 1 << 20]))));
            cache.stats().bytes >> 20
        };
        let full = fill(50);
        excess.store(10 << 20, Ordering::Relaxed);
        assert!((full - 11..full - 8).contains(&fill(2)));
        // Whatever it is, half of the cache stays.
        assert!((full / 2 - 1..=full / 2 + 1).contains(&fill(10)));
        excess.store(-(8 << 20), Ordering::Relaxed);
        assert!(fill(4) < full - 10, "not at once");
        assert_eq!(fill(90), full);
    }

    #[test]
    fn replacing_an_entry_counts_its_bytes_once() {
        let cache = Cache::new(4 << 20);
        cache.insert(key(1), Bytes::from(vec![0u8; 100]));
        cache.insert(key(1), Bytes::from(vec![0u8; 300]));
        assert_eq!(cache.stats().bytes, 300 + OVERHEAD);
        cache.remove(key(1));
        assert_eq!(cache.stats().bytes, 0);
    }

    #[tokio::test]
    async fn bytes_in_flight_are_bounded() {
        let cache = Cache::new(64 << 20);
        let lane = cache.lane();
        let all = cache.flight(&lane, u64::MAX).await;
        assert!(futures::FutureExt::now_or_never(cache.flight(&lane, 1)).is_none());
        assert_eq!(cache.stats().used, 8 << 20);
        drop(all);
        assert_eq!((cache.stats().used, cache.stats().peak), (0, 8 << 20));
        assert!(futures::FutureExt::now_or_never(cache.flight(&lane, 1)).is_some());
    }
}
