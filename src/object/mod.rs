//! A log file as bytes: what `stat`, `open` and `read` of one object mean, whatever the store and the front end.
//!
//! ```text
//! LogFile::read_at ── segment cached? ─────────────────────────────► bytes
//!        │ no
//!        ├─ scan still running: wait until it gets there (full: and the tag has held)
//!        └─ scan done: seek point ≤ offset → ciphertext chunks (digest-checked) → decrypt → inflate → cache
//! Scan   fetch runs in parallel → digests + GHASH in order ┐
//!                                 decrypt → inflate, CRC  ─┴► segments, seek points, exact size, verdict
//! ```
//!
//! Invariants:
//! * `--verify full`: nothing that was not covered by a tag that held leaves [`LogFile::read_at`]; ciphertext that is
//!   fetched again is compared with the digest taken when the tag was computed.
//! * A read returns all bytes asked for up to the true end of the file, or an error; never a short piece.
//! * A verdict on an object ([`Kind::is_verdict`]) is remembered; a failure of the storage never is.

mod access;
mod belt;
pub mod cache;
pub mod cpu;
mod cutter;
mod digest;
mod disk;
mod file;
pub mod flight;
mod follow;
pub mod head;
mod pass;
mod pool;
mod proof;
mod reads;
mod running;
mod scan;
mod segment;
mod sequence;
mod shelf;
mod small;
mod stretch;
mod sweep;
mod turn;
mod warm;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::store::Counts as Requests;
use bytes::Bytes;
use cache::Cache;
use cpu::Cpu;
pub use disk::DiskStats;
pub use file::{Auth, LogFile, Size};
pub use reads::{Awaited, Told};
pub use sequence::Sequence;
pub use sweep::{Held, Stored, Swept, Text};

use head::Head;

use crate::cachedir::Folder;
use crate::envelope::Keyring;
use crate::err;
use crate::error::{Kind, Result};
use crate::gunzip::SPACING;
use crate::store::{ByteRange, GetRequest, Part, Store};

/// An object as its listing shows it: enough to ask for exactly this version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// Component 4 of the key: which master key it needs.
    pub key_sum: String,
    /// Bytes in the store.
    pub size: u64,
    pub etag: String,
    pub storage_class: Option<String>,
}

/// When bytes are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// After the tag over the whole object has held.
    #[default]
    Full,
    /// As they arrive; the last read fails if the tag or a CRC does.
    Stream,
}

/// Where the size of a file that was never opened comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sizes {
    /// From the gzip trailer, unless it is implausible.
    #[default]
    Hint,
    /// From a scan on the first `stat`.
    Exact,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub verify: Verify,
    pub sizes: Sizes,
    pub allow_unauthenticated: bool,
    pub allow_instruction_files: bool,
    /// Text that a log may have, in lengths of its gzip stream.
    pub max_ratio: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            verify: Verify::Full,
            sizes: Sizes::Hint,
            allow_unauthenticated: false,
            allow_instruction_files: false,
            max_ratio: None,
        }
    }
}

/// What every file of one mount shares.
pub struct Shared {
    pub store: Arc<dyn Store>,
    pub keyring: Keyring,
    pub policy: Policy,
    pub cache: Arc<Cache>,
    pub cpu: Cpu,
    /// Buffers for text, and for ciphertext and what it decrypts to.
    texts: Arc<pool::Pool>,
    runs: Arc<pool::Pool>,
    /// The folder of `--cache-dir`.
    disk: Option<Arc<disk::Disk>>,
    next_scan: AtomicU64,
    turns: Arc<turn::Turns>,
}

/// The open and the recently used files, one [`LogFile`] for each object version: N readers share one scan.
pub struct Objects {
    shared: Arc<Shared>,
    table: Mutex<HashMap<(String, String), Kept>>,
    clock: AtomicU64,
    /// The whole budget. Proofs of files that nobody holds are dropped, oldest first, beyond a fourth of it.
    memory: usize,
    /// Files that nobody holds, at most.
    idle: usize,
}

struct Kept {
    file: Arc<LogFile>,
    used: u64,
}

/// How many files nobody holds are kept at most (data key, proof): some 4 KB each, beside the budget. What `stat` needs is
/// remembered longer, see `fs::remembered`.
const IDLE_FILES: usize = 8_192;

/// Idle buffers of each of the two kinds take this part of the budget at most, beside it.
const IDLE_PART: usize = 16;

impl Objects {
    pub fn new(store: Arc<dyn Store>, keyring: Keyring, policy: Policy, memory: usize) -> Self {
        Objects::with_cache_dir(store, keyring, policy, memory, None)
    }

    pub fn with_cache_dir(
        store: Arc<dyn Store>,
        keyring: Keyring,
        policy: Policy,
        memory: usize,
        cache_dir: Option<Folder>,
    ) -> Self {
        let (cache, cpu) = (Cache::new(memory), Cpu::default());
        let shared = Shared {
            store,
            keyring,
            policy,
            cache,
            cpu: cpu.clone(),
            texts: pool::Pool::new(SPACING as usize + (96 << 10), memory / IDLE_PART),
            runs: pool::Pool::new(scan::RUN as usize, memory / IDLE_PART),
            disk: cache_dir.map(disk::Disk::new),
            next_scan: AtomicU64::new(1),
            turns: turn::Turns::new(cpu.cores()),
        };
        let (shared, table, clock) = (Arc::new(shared), Mutex::default(), AtomicU64::default());
        Objects { shared, table, clock, memory, idle: IDLE_FILES }
    }

    /// Keeps so many files that nobody holds, at most.
    pub fn keeping(self, idle: usize) -> Self {
        Objects { idle, ..self }
    }

    /// For the end: waits, though not for long, until the cache folder has what is still to be written there.
    pub async fn settle(&self) {
        if let Some(disk) = &self.shared.disk {
            disk.settle().await;
        }
    }

    /// The byte budget.
    pub fn memory(&self) -> usize {
        self.memory
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The file of this object version.
    pub fn get(&self, object: &Listed) -> Arc<LogFile> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (object.key.clone(), object.etag.clone());
        // A listing that told another size was wrong, or this one is.
        if let Some(kept) = table.get_mut(&id).filter(|kept| kept.file.object().size == object.size) {
            kept.used = used;
            return Arc::clone(&kept.file);
        }
        self.trim(&mut table);
        let file = LogFile::new(Arc::clone(&self.shared), object.clone());
        table.insert(id, Kept { file: Arc::clone(&file), used });
        file
    }

    /// The store has said that the version which this file is pinned to is gone: who opens the object next asks for its head
    /// anew, even if the ETag is the same. Those who hold the file keep it.
    pub fn forget(&self, file: &Arc<LogFile>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (file.object().key.clone(), file.object().etag.clone());
        if table.get(&id).is_some_and(|kept| Arc::ptr_eq(&kept.file, file)) {
            table.remove(&id);
        }
    }

    /// Verdicts are forgotten, as an answer that was wrong only once may be behind one, but for missing keys, which no answer
    /// is behind. Those who hold a file keep it, and its verdict: they must not see another size.
    pub fn forget_failed(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, kept| {
            let holds = kept.file.verdict().is_none_or(|e| e.kind() == Kind::NoKey);
            holds || Arc::strong_count(&kept.file) > 1
        });
    }

    /// The file of this object version, if it is among those remembered; one that is open always is.
    pub fn find(&self, object: &Listed) -> Option<Arc<LogFile>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = table.get(&(object.key.clone(), object.etag.clone()));
        kept.filter(|kept| kept.file.object().size == object.size).map(|kept| Arc::clone(&kept.file))
    }

    /// Forgets files that nobody holds while there are too many or their indexes take too much of the budget.
    /// An eighth goes at a time, so that the work stays small for each call.
    fn trim(&self, table: &mut HashMap<(String, String), Kept>) {
        if table.len() < self.idle && self.shared.cache.reserved() <= self.memory / 4 {
            return;
        }
        let mut idle: Vec<u64> = table.values().filter(|k| Arc::strong_count(&k.file) == 1).map(|k| k.used).collect();
        idle.sort_unstable();
        if let Some(&cut) = idle.get(idle.len() / 8) {
            table.retain(|_, k| Arc::strong_count(&k.file) > 1 || k.used > cut);
        }
    }

    /// How many of the remembered files are known to be what.
    pub fn by_auth(&self) -> [(Auth, u64); 4] {
        let mut all = Auth::ALL.map(|auth| (auth, 0));
        for kept in self.table.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let auth = kept.file.auth();
            all.iter_mut().filter(|(which, _)| *which == auth).for_each(|(_, count)| *count += 1);
        }
        all
    }

    /// What was asked of the store so far, for listings too.
    pub fn requests(&self) -> Requests {
        self.shared.store.counts()
    }

    /// How the cache folder serves, if there is one.
    pub fn disk_stats(&self) -> Option<DiskStats> {
        self.shared.disk.as_ref().map(|disk| disk.stats())
    }

    /// Files remembered, for the status and tests.
    pub fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    /// Where a buffer for `len` bytes of ciphertext, or what it decrypts to, comes from.
    fn pool_for(&self, len: usize) -> &Arc<pool::Pool> {
        if len <= self.texts.size() { &self.texts } else { &self.runs }
    }

    /// Exactly these bytes of the object, of the version that its head is of.
    async fn fetch(&self, key: &str, head: &Head, range: Range<u64>) -> Result<Bytes> {
        let len = range.end - range.start;
        let request = GetRequest { key: key.to_owned(), pin: head.pin.clone(), range: ByteRange::Span(range) };
        let pool = self.pool_for(len as usize);
        let mut part = Part::into_buffer(pool.take());
        self.store.fetch(&request, &mut part).await?;
        let got = part.finish_with(|bytes| pool.lend(bytes))?;
        if got.total != head.total || got.bytes.len() as u64 != len {
            return Err(err!(
                Kind::Storage,
                "the store sent {} of {len} bytes, of an object of {} bytes that had {}",
                got.bytes.len(),
                got.total,
                head.total
            ));
        }
        Ok(got.bytes)
    }

    fn next_scan(&self) -> u64 {
        self.next_scan.fetch_add(1, Ordering::Relaxed)
    }
}
