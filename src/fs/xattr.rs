//! Extended attributes: where a file's text comes from, for an examiner's notes.

use crate::catalog::Item;
use crate::envelope::Version;
use crate::error::{Error, Kind, Result};
use crate::object::LogFile;

const PREFIX: &str = "user.logarchive.";

/// Names without the prefix, in the order in which they are listed.
const NAMES: [&str; 13] = [
    "bucket",
    "key",
    "version_id",
    "etag",
    "last_modified",
    "storage_class",
    "key_sha256",
    "envelope",
    "service_id",
    "ciphertext_size",
    "gzip_size",
    "auth",
    "error",
];

/// What `listxattr` returns: names, each ended by NUL. Only `error` depends on the file's state.
pub fn list(file: &LogFile, item: &Item) -> Vec<u8> {
    let mut out = Vec::new();
    let readable = file.verdict().is_none();
    let has_service = item.log_key().is_some_and(|log| log.service.is_some());
    for name in NAMES {
        let there = match name {
            "error" => !readable,
            "service_id" => has_service,
            // These need a head that could be opened.
            "envelope" | "gzip_size" => readable,
            "version_id" => file.known_head().is_some_and(|h| h.is_ok_and(|h| h.version_id.is_some())),
            _ => true,
        };
        if there {
            out.extend_from_slice(PREFIX.as_bytes());
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    }
    out
}

/// One value. The store is asked only for what no listing tells.
pub async fn get(file: &LogFile, item: &Item, bucket: &str, name: &[u8]) -> Result<Vec<u8>> {
    let none = || Error::new(Kind::NoAttribute, "no such attribute");
    let name = std::str::from_utf8(name).ok().and_then(|n| n.strip_prefix(PREFIX)).ok_or_else(none)?;
    let log = item.log_key().ok_or_else(none)?;
    let value = match name {
        "bucket" => bucket.to_owned(),
        "key" => item.key(),
        "etag" => item.etag(),
        "last_modified" => item.modified().to_string(),
        "storage_class" => item.storage_class().unwrap_or("STANDARD").to_owned(),
        "key_sha256" => log.key_sum,
        "service_id" => log.service.ok_or_else(none)?.to_string(),
        "ciphertext_size" => item.size().to_string(),
        "version_id" => file.head().await?.version_id.clone().ok_or_else(none)?,
        "gzip_size" => file.head().await?.gzip_len.to_string(),
        "envelope" => match file.head().await?.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::V3 => "v3",
        }
        .to_owned(),
        "auth" => file.auth().name().to_owned(),
        "error" => file.verdict().ok_or_else(none)?.message().to_owned(),
        _ => return Err(none()),
    };
    Ok(value.into_bytes())
}
