//! The whole read path: the real program, a real FUSE mount, objects over the S3 wire or from a sealed copy, and the
//! tools that people use. Needs /dev/fuse and root (or fusermount3 and its rights).

mod common;

#[path = "mount/at.rs"]
mod at;
#[path = "mount/audit.rs"]
mod audit;
#[path = "mount/budget.rs"]
mod budget;
#[path = "mount/cache_dir.rs"]
mod cache_dir;
#[path = "mount/control.rs"]
mod control;
#[path = "mount/damage.rs"]
mod damage;
#[path = "mount/demo.rs"]
mod demo;
#[path = "mount/faults.rs"]
mod faults;
#[path = "mount/hostile.rs"]
mod hostile;
#[path = "mount/life.rs"]
mod life;
#[path = "mount/listing.rs"]
mod listing;
#[path = "mount/memory.rs"]
mod memory;
#[path = "mount/metadata.rs"]
mod metadata;
#[path = "mount/metrics.rs"]
mod metrics;
#[path = "mount/model.rs"]
mod model;
#[path = "mount/network.rs"]
mod network;
#[path = "mount/property.rs"]
mod property;
#[path = "mount/refusals.rs"]
mod refusals;
#[path = "mount/requests.rs"]
mod requests;
#[path = "mount/secrets.rs"]
mod secrets;
#[path = "mount/service.rs"]
mod service;
#[path = "mount/sizes.rs"]
mod sizes;
#[path = "mount/startup.rs"]
mod startup;
#[path = "mount/stress.rs"]
mod stress;
#[path = "mount/tools.rs"]
mod tools;
#[path = "mount/vectors.rs"]
mod vectors;
