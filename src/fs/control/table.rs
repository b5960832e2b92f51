//! The one table of what is counted: `status.json` and `metrics` both come from it, and docs/OBSERVABILITY.md names each
//! row (a test compares them).
//!
//! Invariants: counters only grow, and end in `_total`; units are seconds and bytes; what is absent (a cache folder that
//! there is not) is absent in both.

use std::time::Duration;

use crate::catalog::Totals;
use crate::object::cache::CacheStats;
use crate::object::{Auth, DiskStats, Requests};

/// What the rows are made of: everything at one moment.
pub struct Facts {
    pub uptime: Duration,
    /// Since 1970.
    pub started: Duration,
    pub keys: u64,
    pub nodes: u64,
    pub open_files: u64,
    pub open_folders: u64,
    pub totals: Totals,
    pub by_auth: [(Auth, u64); 4],
    pub cache: CacheStats,
    pub disk: Option<DiskStats>,
    pub requests: Requests,
    pub opens: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub pushed_bytes: u64,
    /// Files fetched ahead, and how many of them for nothing.
    pub ahead: (u64, u64),
    pub errors: Vec<(&'static str, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
}

pub enum Value {
    Absent,
    Count(u64),
    Seconds(Duration),
    /// One for each value of the label `kind`.
    Kinds(Vec<(&'static str, u64)>),
}

pub struct Row {
    /// Where it is in `status.json`.
    pub field: &'static str,
    /// Its name in `metrics`, less the prefix.
    pub metric: &'static str,
    pub kind: Type,
    pub help: &'static str,
    pub get: fn(&Facts) -> Value,
}

const fn row(
    kind: Type,
    field: &'static str,
    metric: &'static str,
    get: fn(&Facts) -> Value,
    help: &'static str,
) -> Row {
    Row { field, metric, kind, help, get }
}

use Type::{Counter, Gauge};
use Value::{Count, Kinds, Seconds};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(Gauge, "start_time_seconds", "start_time_seconds", |f| Seconds(f.started),
        "When the mount was made, in seconds since 1970."),
    row(Gauge, "uptime_seconds", "uptime_seconds", |f| Seconds(f.uptime),
        "How long the mount has been there."),
    row(Gauge, "keys", "keys", |f| Count(f.keys),
        "Decryption keys that were given."),
    row(Gauge, "nodes", "nodes", |f| Count(f.nodes),
        "Files, folders and links that the kernel knows."),
    row(Gauge, "open.files", "open_files", |f| Count(f.open_files),
        "Open log files."),
    row(Gauge, "open.folders", "open_folders", |f| Count(f.open_folders),
        "Open folders."),
    row(Gauge, "listed.resources", "listed_resources", |f| Count(f.totals.resources),
        "Resources (apps, databases, endpoints) listed so far."),
    row(Gauge, "listed.objects", "listed_objects", |f| Count(f.totals.files),
        "Logs in these listings."),
    row(Gauge, "listed.bytes", "listed_bytes", |f| Count(f.totals.bytes),
        "Bytes that these logs have in the store."),
    row(Gauge, "listed.left_out", "left_out_keys", |f| Count(f.totals.left_out),
        "Keys left out of listings, as they are no logs."),
    row(Gauge, "objects", "objects", |f| Kinds(f.by_auth.iter().map(|(auth, n)| (auth.name(), *n)).collect()),
        "Objects remembered, by what is known of their authenticity."),
    row(Gauge, "memory.limit_bytes", "memory_limit_bytes", |f| Count(f.cache.memory as u64),
        "The budget of --memory."),
    row(Gauge, "memory.used_bytes", "memory_used_bytes", |f| Count(f.cache.used as u64),
        "What of it is in use: cached, in flight, at work, seek points."),
    row(Gauge, "memory.peak_bytes", "memory_peak_bytes", |f| Count(f.cache.peak as u64),
        "The most that ever was in use."),
    row(Gauge, "cache.bytes", "cache_bytes", |f| Count(f.cache.bytes as u64),
        "Text and ciphertext in the cache in memory."),
    row(Counter, "cache.hits", "cache_hits_total", |f| Count(f.cache.hits),
        "Look-ups in the cache in memory that found something."),
    row(Counter, "cache.misses", "cache_misses_total", |f| Count(f.cache.misses),
        "Look-ups in the cache in memory that found nothing."),
    row(Counter, "cache.evictions", "cache_evictions_total", |f| Count(f.cache.evictions),
        "Entries that had to leave the cache in memory."),
    row(Gauge, "cache_dir.limit_bytes", "cache_dir_limit_bytes", |f| of(f.disk, |d| d.limit),
        "The bound of --cache-size."),
    row(Gauge, "cache_dir.used_bytes", "cache_dir_used_bytes", |f| of(f.disk, |d| d.used),
        "What the files of --cache-dir took when this mount last wrote there."),
    row(Gauge, "cache_dir.waiting_bytes", "cache_dir_waiting_bytes", |f| of(f.disk, |d| d.waiting),
        "What is still to be written to --cache-dir."),
    row(Counter, "cache_dir.hits", "cache_dir_hits_total", |f| of(f.disk, |d| d.hits),
        "Reads of --cache-dir that found what they looked for."),
    row(Counter, "cache_dir.misses", "cache_dir_misses_total", |f| of(f.disk, |d| d.misses),
        "Reads of --cache-dir that did not."),
    row(Counter, "store.requests", "store_requests_total", |f| Kinds(vec![
            ("list", f.requests.lists), ("head", f.requests.heads), ("get", f.requests.gets),
            ("check", f.requests.checks)]),
        "Requests to the store, each attempt counted: listings, ends of objects, other ranges, checks."),
    row(Counter, "store.failed_requests", "store_failed_requests_total", |f| Count(f.requests.failed),
        "Requests to the store that failed or were given up."),
    row(Counter, "store.retries", "store_retries_total", |f| Count(f.requests.retries),
        "Requests to the store made again after one that failed."),
    row(Counter, "store.fetched_bytes", "store_fetched_bytes_total", |f| Count(f.requests.bytes),
        "Bytes of objects that came from the store."),
    row(Counter, "served.opens", "opens_total", |f| Count(f.opens),
        "Log files opened."),
    row(Counter, "served.reads", "reads_total", |f| Count(f.reads),
        "Reads of log files that the kernel asked for; what is in its page cache it does not ask for."),
    row(Counter, "served.bytes", "served_bytes_total", |f| Kinds(vec![
            ("read", f.read_bytes), ("pushed", f.pushed_bytes)]),
        "Bytes of text given to the kernel: as answers to reads, and put into its page cache before."),
    row(Counter, "ahead.files", "ahead_files_total", |f| Count(f.ahead.0),
        "Files whose first request was made before anybody asked for them, in a walk."),
    row(Counter, "ahead.wasted", "ahead_wasted_files_total", |f| Count(f.ahead.1),
        "How many of them turned out not to be asked for."),
    row(Counter, "errors", "errors_total", |f| Kinds(f.errors.clone()),
        "Failures told to readers, by the name in the table of errors."),
];

fn of(disk: Option<DiskStats>, get: fn(DiskStats) -> u64) -> Value {
    disk.map_or(Value::Absent, |disk| Count(get(disk)))
}
