//! The store module from outside: both stores behind one suite, S3's errors and faults, hostile folders, retries.

mod common;

#[path = "store/at.rs"]
mod at;
#[path = "store/both.rs"]
mod both;
#[path = "store/dir.rs"]
mod dir;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/listing.rs"]
mod listing;
#[path = "store/retry.rs"]
mod retry;
#[path = "store/s3.rs"]
mod s3;
#[path = "store/versions.rs"]
mod versions;

use common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use logarchivefs::store::{ByteRange, GetRequest, Pin, S3Options, S3Store, StaticCredentials};

fn options(server: &Server) -> S3Options {
    S3Options {
        region: Some(REGION.into()),
        endpoint_url: Some(server.endpoint()),
        credentials: Some(StaticCredentials { access_key_id: ACCESS_KEY.into(), secret_access_key: SECRET_KEY.into() }),
        ..S3Options::new(BUCKET)
    }
}

async fn open(server: &Server) -> S3Store {
    S3Store::open(options(server)).await.unwrap()
}

fn get(key: &str, range: ByteRange) -> GetRequest {
    GetRequest { key: key.into(), pin: Pin::None, range }
}

/// Bytes that differ from place to place.
fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 256 * 7) as u8).collect()
}
