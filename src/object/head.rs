//! The head of an object: everything one small request tells, before a byte of the log is read.
//!
//! One suffix request returns the envelope (user metadata), the total size, the version id and enough ciphertext for
//! the exact gzip length and the gzip trailer (FORMAT section 5). An object of at most [`SMALL`] bytes comes whole in
//! the same request. Nothing here is authenticated: the size hint is for `stat` before `open` only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::cache::{Cache, CacheKey, Part};
use super::{Listed, Policy, Shared};
use crate::envelope::{ContentKey, Envelope, Found, Version};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::store::{ByteRange, GetRequest, Pin};

/// Objects up to this size are fetched whole by their first request: `stat`, `open` and `read` cost that one.
pub const SMALL: u64 = 512 << 10;

/// Enough for the tag, the CBC blocks and the gzip trailer of any object (FORMAT section 5).
const SUFFIX: u64 = 64;

/// S3 keeps at most 2 KB of user metadata; other servers a little more. A larger instruction file is no envelope.
const INSTRUCTION_MAX: u64 = 64 << 10;

pub struct Head {
    pub content: Arc<ContentKey>,
    pub version: Version,
    /// SHA-256 of the wrapped data key: equal only where one object is stored under two names.
    pub data_key: [u8; 32],
    /// What every later request is pinned to.
    pub pin: Pin,
    pub version_id: Option<String>,
    /// See [`Object`](crate::store::Object).
    pub replica: Option<bool>,
    pub storage_class: Option<String>,
    /// Bytes of the object in the store.
    pub total: u64,
    /// Bytes of the decrypted gzip stream, from lengths alone.
    pub gzip_len: u64,
    /// ISIZE of the last member where it is plausible for a single member: a hint for `stat`, nothing more.
    pub size_hint: Option<u64>,
    /// Where the cache has the whole object, if it is small, until the scan takes it.
    body: CacheKey,
    /// False for CBC objects.
    pub authenticated: bool,
}

impl Head {
    /// All of the object is asked for at once.
    pub fn is_small(&self) -> bool {
        self.total <= SMALL
    }

    /// Fails if `--max-ratio` allows less text than this.
    pub fn allow(&self, policy: &Policy, text: u64) -> Result<()> {
        match policy.max_ratio {
            Some(ratio) if text > self.gzip_len.saturating_mul(u64::from(ratio)) => {
                let len = self.gzip_len;
                Err(err!(Kind::TooLarge, "more than {ratio} times the {len} bytes of its gzip stream: see --max-ratio"))
            }
            _ => Ok(()),
        }
    }

    /// A small object's bytes, for the first who asks. None also where the cache had no room for them.
    pub fn take_body(&self, cache: &Cache) -> Option<Bytes> {
        cache.remove(self.body).filter(|body| body.len() as u64 == self.total)
    }
}

/// Fetches and opens the head. Errors name the object.
pub async fn fetch(shared: &Shared, object: &Listed) -> Result<Head> {
    fetch_inner(shared, object).await.map_err(|e| e.about(&object.key))
}

async fn fetch_inner(shared: &Shared, object: &Listed) -> Result<Head> {
    // Asked first: a missing key costs no request.
    let master = shared.keyring.require(&object.key_sum)?;
    // Not `Whole`: a listing that lies about the size does not decide how much is fetched.
    let range = ByteRange::Suffix(if object.size <= SMALL { SMALL } else { SUFFIX });
    let _room = if object.size <= SMALL { Some(shared.cache.small_flight(object.size).await) } else { None };
    let got =
        shared.store.get(&GetRequest { key: object.key.clone(), pin: Pin::ETag(object.etag.clone()), range }).await?;
    if got.total != object.size {
        // The same version has one size: what is wrong is the answer, or the listing.
        let (total, listed) = (got.total, object.size);
        return Err(err!(Kind::Storage, "the store says that it has {total} bytes, and listed it with {listed}"));
    }
    let pin = match &got.version_id {
        Some(id) => Pin::Version { id: id.clone(), etag: got.etag.clone() },
        None => Pin::ETag(got.etag.clone()),
    };
    let envelope = envelope(shared, object, &got.metadata).await?;
    let version = envelope.version();
    if !envelope.is_authenticated() && !shared.policy.allow_unauthenticated {
        return Err(err!(
            Kind::Unauthenticated,
            "encrypted with AES-CBC, which authenticates nothing, so it may be a downgrade: \
             --allow-unauthenticated reads it all the same"
        ));
    }
    let data_key = Sha256::digest(envelope.wrapped()).into();
    let content = match envelope.open(master) {
        // One and the same error for every damage of an unauthenticated object.
        Err(e) if !envelope.is_authenticated() && e.kind().is_verdict() => return Err(unauthenticated_damage()),
        other => other?,
    };
    let suffix = got.bytes.slice(got.bytes.len().saturating_sub(SUFFIX as usize)..);
    let authenticated = content.authenticated();
    let tail =
        content.tail(got.total, &suffix).map_err(|e| if authenticated { e } else { unauthenticated_damage() })?;
    let gzip_len = tail.plain_len;
    let isize = tail.trailer.map(|[_, _, _, _, a, b, c, d]| u64::from(u32::from_le_bytes([a, b, c, d])));
    let size_hint = isize.and_then(|isize| plausible(gzip_len, isize));
    let body = CacheKey { scan: shared.next_scan(), part: Part::Run(0) };
    if got.start == 0 && got.bytes.len() as u64 == got.total {
        shared.cache.insert(body, got.bytes);
    }
    Ok(Head {
        content: Arc::new(content),
        version,
        data_key,
        pin,
        version_id: got.version_id,
        replica: got.replica,
        storage_class: got.storage_class.or_else(|| object.storage_class.clone()),
        total: got.total,
        gzip_len,
        size_hint,
        body,
        authenticated,
    })
}

/// What a reader is told of any damage to an object that nothing authenticates: always the same (no padding oracle).
pub fn unauthenticated_damage() -> Error {
    err!(Kind::Padding, "damaged (this object is not authenticated, so no more can be said)")
}

async fn envelope(shared: &Shared, object: &Listed, metadata: &BTreeMap<String, String>) -> Result<Envelope> {
    let partial = match Found::from_metadata(metadata)? {
        Found::Complete(envelope) => return Ok(envelope),
        Found::NeedsInstruction(partial) => partial,
    };
    if !shared.policy.allow_instruction_files {
        return Err(partial.refused());
    }
    let request = GetRequest {
        key: format!("{}.instruction", object.key),
        pin: Pin::None,
        // Of a shorter object that is all of it; a longer one is refused below.
        range: ByteRange::Suffix(INSTRUCTION_MAX),
    };
    match shared.store.get(&request).await {
        Ok(got) if got.total <= INSTRUCTION_MAX => partial.complete(Some(&got.bytes)),
        Ok(_) => Err(err!(Kind::NoEnvelope, "its instruction file is larger than any envelope")),
        // A 403 or 404 is "no envelope"; anything else is a failure of the storage (FORMAT section 2).
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::AccessDenied) => partial.complete(None),
        Err(e) => Err(e),
    }
}

/// ISIZE is taken as a hint only where one member of that many bytes could give this stream: deflate expands by at
/// most 5 bytes for 64 KiB and compresses by at most 1032:1. Anything else (several members, zero padding, more than
/// 4 GiB) is for the scan to find out.
fn plausible(gzip_len: u64, isize: u64) -> Option<u64> {
    const HEADER_AND_TRAILER: u64 = 18;
    let deflate = gzip_len.checked_sub(HEADER_AND_TRAILER)?;
    let least = deflate.saturating_sub(64 + 5 * (deflate >> 14));
    (isize >= least && isize <= deflate.saturating_mul(1032) && isize > 0).then_some(isize)
}

#[cfg(test)]
mod tests {
    use super::plausible;

    #[test]
    fn a_hint_is_one_that_a_single_member_could_have() {
        assert_eq!(plausible(62_000_000, 500_000_000), Some(500_000_000));
        assert_eq!(plausible(62_000_000, 0), None, "zero padding");
        assert_eq!(plausible(62_000_000, 4_000), None, "a short last member");
        assert_eq!(plausible(2_000, 3_000_000), None, "beyond deflate's ratio");
        assert_eq!(plausible(10, 5), None, "no gzip at all");
        // Stored blocks: a little larger than the text.
        assert_eq!(plausible(1_000_000 + 18 + 80, 1_000_000), Some(1_000_000));
    }
}
