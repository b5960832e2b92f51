//! Extended attributes: where a file's text comes from, for an examiner's notes.
//!
//! Invariant: the store is asked only for what no listing tells and nothing remembered; never for a name that is not ours,
//! as `ls -l` asks for those of every file.

use std::sync::Arc;

use super::node::{Ino, Node};
use super::{Fs, listed};
use crate::catalog::Item;
use crate::envelope::Version;
use crate::error::{Error, Kind, Result};
use crate::object::Auth;
use crate::object::head::Head;

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

impl Fs {
    /// Names, each ended by NUL. Only some depend on the file's state.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        let node = self.node(ino)?;
        let Node::File(item, stack, resource) = &*node else { return Ok(Vec::new()) };
        let state = self.state(item, stack, resource);
        let readable = state.as_ref().is_none_or(|state| state.reason().is_none());
        let has_service = item.log_key().is_some_and(|log| log.service.is_some());
        let mut out = Vec::new();
        for name in NAMES {
            let there = match name {
                "error" => !readable,
                "service_id" => has_service,
                // These need a head that could be opened.
                "envelope" | "gzip_size" => readable,
                "version_id" => state.as_ref().is_some_and(|state| state.versioned),
                _ => true,
            };
            if there {
                out.extend_from_slice(PREFIX.as_bytes());
                out.extend_from_slice(name.as_bytes());
                out.push(0);
            }
        }
        Ok(out)
    }

    /// One value.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let none = || Error::new(Kind::NoAttribute, "no such attribute");
        let node = self.node(ino)?;
        let Node::File(item, stack, resource) = &*node else { return Err(none()) };
        let name = std::str::from_utf8(name).ok().and_then(|n| n.strip_prefix(PREFIX)).ok_or_else(none)?;
        let log = item.log_key().ok_or_else(none)?;
        let state = || self.state(item, stack, resource);
        let value = match name {
            "bucket" => self.catalog.bucket().to_owned(),
            "key" => item.key(),
            "etag" => item.etag(),
            "last_modified" => item.modified().to_string(),
            "storage_class" => item.storage_class().unwrap_or("STANDARD").to_owned(),
            "key_sha256" => log.key_sum,
            "service_id" => log.service.ok_or_else(none)?.to_string(),
            "ciphertext_size" => item.size().to_string(),
            "version_id" => self.head(item).await?.version_id.clone().ok_or_else(none)?,
            "gzip_size" => self.head(item).await?.gzip_len.to_string(),
            "envelope" => {
                let known = state().and_then(|state| state.envelope);
                let envelope = match known {
                    Some(envelope) => envelope,
                    None => self.head(item).await?.version,
                };
                match envelope {
                    Version::V1 => "v1",
                    Version::V2 => "v2",
                    Version::V3 => "v3",
                }
                .to_owned()
            }
            "auth" => state().map_or(Auth::Unproven, |state| state.auth).name().to_owned(),
            "error" => state().as_ref().and_then(|state| state.reason()).ok_or_else(none)?.message().to_owned(),
            _ => return Err(none()),
        };
        Ok(value.into_bytes())
    }

    async fn head(&self, item: &Item) -> Result<Arc<Head>> {
        self.objects.get(&listed(item)).head().await
    }
}
