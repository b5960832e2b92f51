//! What integration tests share.
#![allow(dead_code)] // Each test crate uses its part.

pub mod archive;
pub mod cache;
pub mod client;
pub mod gate;
pub mod mounted;
pub mod proxy;
pub mod s3;
pub mod terminal;
pub mod tiles;
pub mod watch;
