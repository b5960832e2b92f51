//! What integration tests share.
#![allow(dead_code)] // Each test crate uses its part.

pub mod archive;
pub mod gate;
pub mod mounted;
pub mod s3;
pub mod tiles;
pub mod watch;
