//! What integration tests share.
#![allow(dead_code)] // Each test crate uses its part.

pub mod s3;
