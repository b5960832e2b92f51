//! Where objects come from: a bucket ([`S3Store`]) or a sealed copy of one ([`DirStore`]), behind one trait.
//!
//! Invariants that every store keeps, so that nothing above has to check again:
//! * A get returns **exactly** the bytes asked for (a suffix is clamped at the start of the object) or an error; never
//!   a short body, never a shifted one, never a mixture of two versions of the object.
//! * An answer to a pinned request belongs to the pinned version; anything else is `Kind::Stale`.
//! * A page of a listing is whole or an error. [`Pages`] extends that to the whole listing.
//! * A call ends. One request has the store's own deadline; [`Retry`] puts one over all attempts together.
//! * Nothing is logged here and nothing is remembered: errors go up, once.
//!
//! Errors, by [`Kind`](crate::error::Kind): `AccessDenied`, `Archived`, `NotFound` (no such key), `Stale` (replaced, or the pinned version
//! is gone), `Config` (bucket, region, endpoint, credentials: nothing a retry could heal), `Storage` and `Timeout` (the
//! only ones worth a retry), `Invalid` (the request makes no sense), `NoMemory`. A pinned object that is no longer
//! there is `NotFound`, as the store cannot know of open handles; the holder of a handle turns it into `Stale`.
//!
//! Keys, prefixes, `start_after`: relative to the store's own prefix, both ways. Entity tags are kept without their
//! quotes. Bodies are ciphertext: no content decoding, ever.
//!
//! Decorators are stores too, and compose: `Retry::new(Count::new(S3Store::open(…).await?), deadline)`, with [`At`] between
//! these two.
//! [`Store::fetch`] exists for them: it leaves what had arrived in a [`Part`], so that the next attempt asks for the
//! rest only.

mod at;
mod bucket;
mod count;
mod dir;
mod name;
mod pages;
mod part;
mod queue;
mod range;
mod retry;
mod s3;
mod versions;
mod waited;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

pub use at::At;
pub use count::{Count, Counts};
pub use dir::{DirStore, NewObject, object_paths, write_object};
pub use pages::{Listing, Pages, list_all};
pub use part::Part;
pub use range::{ByteRange, MOST_WHOLE};
pub use retry::Retry;
pub use s3::{Front, Identity, Probe, Refusal, S3Options, S3Store, StaticCredentials, Why};
pub use versions::{Marker, Version, VersionPages, Versioning, VersionsPage, VersionsRequest};
pub use waited::{Since, Waited};

/// Seconds since 1970 (UTC) and nanoseconds.
pub type Timestamp = (i64, u32);

/// A place that holds objects. See the module for what every implementation promises.
#[async_trait]
pub trait Store: Send + Sync {
    /// For messages and xattrs: `s3://bucket/prefix/` or `file:///dir`.
    fn describe(&self) -> String;

    /// The bucket's name, or the folder's path: what inode numbers and the xattr `bucket` are made from.
    fn bucket(&self) -> &str;

    /// What was asked of it so far, as far as a [`Count`] among its layers knows.
    fn counts(&self) -> Counts {
        Counts::default()
    }

    /// One page of a listing, in byte order of the keys. Use [`Pages`] to walk a whole one.
    async fn list(&self, req: &ListRequest) -> Result<Page>;

    /// The bytes asked for, with the object's metadata.
    async fn get(&self, req: &GetRequest) -> Result<Object>;

    /// Cheap proof that the store is there and may be listed; for use before a mount appears.
    async fn check(&self) -> Result<()>;

    /// One page of a listing of versions, for [`VersionPages`]. `None` where there are none to be had.
    async fn versions(&self, _: &VersionsRequest) -> Result<Option<VersionsPage>> {
        Ok(None)
    }

    /// Whether versions are kept; `None` where there is no such thing.
    async fn versioning(&self) -> Result<Option<Versioning>> {
        Ok(None)
    }

    /// Like [`Store::get`], but keeps in `part` what arrived before a failure and asks only for what is missing there.
    /// `req` stays the same from call to call. After `Ok`, `part.finish()` gives the object.
    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let rest = part.rest(req)?;
        part.put(self.get(&rest).await?)
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn bucket(&self) -> &str {
        (**self).bucket()
    }
    fn counts(&self) -> Counts {
        (**self).counts()
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        (**self).list(req).await
    }
    async fn get(&self, req: &GetRequest) -> Result<Object> {
        (**self).get(req).await
    }
    async fn check(&self) -> Result<()> {
        (**self).check().await
    }
    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        (**self).versions(req).await
    }
    async fn versioning(&self) -> Result<Option<Versioning>> {
        (**self).versioning().await
    }
    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        (**self).fetch(req, part).await
    }
}

/// What to list. The default is everything, in pages of the server's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    pub prefix: String,
    /// Keys with a `/` after `prefix` are folded into [`Page::prefixes`].
    pub delimiter: bool,
    /// Only keys after this one. Ignored by a server when there is a token.
    pub start_after: Option<String>,
    /// Keys after this one are not wanted: the listing may end before them, or go on. [`At`] ends it, as it may have nothing to
    /// show there by which one could see how far it is.
    pub stop: Option<String>,
    /// [`Page::next`] of the page before.
    pub token: Option<String>,
    /// At most this many keys and prefixes in the page; S3 never gives more than 1,000. [`At`] gives as many as there are.
    pub max_keys: Option<i32>,
}

impl ListRequest {
    /// Everything below `prefix`.
    pub fn below(prefix: impl Into<String>) -> Self {
        ListRequest { prefix: prefix.into(), ..ListRequest::default() }
    }
}

/// One page of a listing; complete, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Entry>,
    /// Ends in `/`, each once; only with a delimiter.
    pub prefixes: Vec<Vec<u8>>,
    /// The token of the next page; `None` at the end.
    pub next: Option<String>,
}

/// An object as a listing shows it. Metadata are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes: not to be used as a path or printed as it is.
    pub key: Vec<u8>,
    /// Of the stored (encrypted) object, in bytes.
    pub size: u64,
    /// Without quotes. Empty in a sealed copy whose metadata file is damaged.
    pub etag: String,
    pub last_modified: Timestamp,
    pub storage_class: Option<String>,
}

/// Which version of an object a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pin {
    /// Whatever is there now.
    #[default]
    None,
    /// The object with this entity tag (`If-Match`), without quotes.
    ETag(String),
    /// This version, which must also have this entity tag.
    Version { id: String, etag: String },
}

impl Pin {
    /// The strongest pin there is. `"null"` is what S3 calls the version of an object written without versioning.
    pub fn new(version_id: Option<&str>, etag: &str) -> Self {
        match version_id {
            Some(id) if !id.is_empty() && id != "null" => Pin::Version { id: id.into(), etag: etag.into() },
            _ if etag.is_empty() => Pin::None,
            _ => Pin::ETag(etag.into()),
        }
    }

    /// The entity tag that the answer must have.
    pub fn etag(&self) -> Option<&str> {
        match self {
            Pin::None => None,
            Pin::ETag(etag) | Pin::Version { etag, .. } => Some(etag),
        }
    }

    /// The version that the answer must have.
    pub fn version_id(&self) -> Option<&str> {
        match self {
            Pin::Version { id, .. } => Some(id),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRequest {
    pub key: String,
    pub pin: Pin,
    pub range: ByteRange,
}

/// An object, or the piece of it that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub bytes: Bytes,
    /// Offset of `bytes` in the object.
    pub start: u64,
    /// Size of the whole object.
    pub total: u64,
    /// Without quotes.
    pub etag: String,
    pub version_id: Option<String>,
    pub last_modified: Timestamp,
    pub storage_class: Option<String>,
    /// User metadata: names in lower case, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// How many metadata entries the server could not show.
    pub missing_meta: u32,
    /// Whether it came by replication, as Aptible delivers; `None` where that is not known.
    pub replica: Option<bool>,
}

impl Object {
    /// For the following requests of the same object.
    pub fn pin(&self) -> Pin {
        Pin::new(self.version_id.as_deref(), &self.etag)
    }
}

/// An entity tag without its quotes; weak ones and oddities stay as they are.
fn bare_etag(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|e| e.strip_suffix('"')).unwrap_or(etag)
}
