//! logarchivefs: Aptible S3 log archives as plain files.
//!
//! ```text
//!  kernel ─► fuse ─► fs ─┬─► catalog ─► key        names and folders, from listings
//!                        └─► object ─┬─► store     ciphertext, in pinned ranges
//!                                    ├─► envelope  data keys, GHASH, CTR
//!                                    ├─► gunzip    inflate, CRC, seek points
//!                                    └─► cachedir  the folder of --cache-dir
//! ```
//!
//! Arrows point down only (a test asserts it): `main → cmd → {config, fuse} → fs → {catalog, object} →
//! {store, key, envelope, gunzip, cachedir}`. The last five import nothing of ours but `error`; nor do `record`, which
//! `cmd` uses, and `audit`, which `fs` tells of opens.

#![deny(unsafe_code)]

pub mod audit;
pub mod cachedir;
pub mod catalog;
pub mod cli;
pub mod cmd;
pub mod config;
#[allow(unsafe_code)]
pub mod daemon;
pub mod demo;
pub mod envelope;
pub mod error;
pub mod fs;
pub mod fuse;
pub mod gunzip;
pub mod key;
pub mod keysource;
pub mod logging;
pub mod memory;
pub mod object;
pub mod record;
pub mod store;
