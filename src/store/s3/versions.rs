//! Versions: what was replaced and what was deleted.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType};
use percent_encoding::percent_decode_str;

use super::super::versions::{Marker, Version, Versioning, VersionsPage, VersionsRequest};
use super::error::{self, Op};
use super::{S3Store, timestamp};
use crate::err;
use crate::error::{Error, Kind, Result};

impl S3Store {
    pub(super) async fn ask_versions(&self, req: &VersionsRequest) -> Result<VersionsPage> {
        let prefix = Some(format!("{}{}", self.options.prefix, req.prefix)).filter(|p| !p.is_empty());
        let (key, version_id) = req.after.clone().map(|after| (after.key, after.version_id)).unzip();
        let mut tried = false;
        loop {
            let session = self.session();
            let call = session.client.list_object_versions().bucket(&self.options.bucket);
            let call = call.encoding_type(EncodingType::Url).set_prefix(prefix.clone());
            let call = call.set_delimiter(req.delimiter.then(|| "/".to_owned()));
            let call = call.set_key_marker(key.clone()).set_version_id_marker(version_id.clone().flatten());
            match call.send().await {
                Ok(out) => return page(&out, &self.options.prefix),
                Err(e) => {
                    let failure = error::classify(&e, Op::Ask("s3:ListBucketVersions"), &self.options.bucket);
                    self.recover(failure, &session, &mut tried).await?;
                }
            }
        }
    }

    pub(super) async fn ask_versioning(&self) -> Result<Versioning> {
        let mut tried = false;
        loop {
            let session = self.session();
            match session.client.get_bucket_versioning().bucket(&self.options.bucket).send().await {
                Ok(out) => {
                    return Ok(match out.status() {
                        Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
                        Some(_) => Versioning::Suspended,
                        None => Versioning::Never,
                    });
                }
                Err(e) => {
                    let failure = error::classify(&e, Op::Ask("s3:GetBucketVersioning"), &self.options.bucket);
                    self.recover(failure, &session, &mut tried).await?;
                }
            }
        }
    }
}

/// A page, if it is whole. There is no count to hold it to, as there is for objects: its end was looked at, and the marker
/// of the next page must be there.
fn page(out: &ListObjectVersionsOutput, below: &str) -> Result<VersionsPage> {
    let bad = |what: &str| -> Error { err!(Kind::Storage, "damaged listing: {what}") };
    let url = out.encoding_type() == Some(&EncodingType::Url);
    let mut versions = Vec::with_capacity(out.versions().len() + out.delete_markers().len());
    for v in out.versions() {
        versions.push(Version {
            key: relative(v.key(), url, below)?,
            version_id: v.version_id().map(str::to_owned),
            last_modified: timestamp(v.last_modified()),
            latest: v.is_latest().unwrap_or_default(),
            delete_marker: false,
        });
    }
    for marker in out.delete_markers() {
        versions.push(Version {
            key: relative(marker.key(), url, below)?,
            version_id: marker.version_id().map(str::to_owned),
            last_modified: timestamp(marker.last_modified()),
            latest: marker.is_latest().unwrap_or_default(),
            delete_marker: true,
        });
    }
    // The SDK gives the two kinds apart. Stable: what there is of one key stays newest first.
    versions.sort_by(|a, b| a.key.cmp(&b.key));
    let prefixes = out.common_prefixes().iter().map(|p| relative(p.prefix(), url, below)).collect::<Result<_>>()?;
    let next = match (out.is_truncated(), out.next_key_marker()) {
        (None, _) => return Err(bad("no IsTruncated")),
        (Some(false), _) => None,
        (Some(true), Some(key)) if !key.is_empty() => {
            let key = if url { decode(key) } else { key.into() };
            let key = String::from_utf8(key).map_err(|_| bad("a marker that cannot be sent back"))?;
            Some(Marker { key, version_id: out.next_version_id_marker().map(str::to_owned) })
        }
        (Some(true), _) => return Err(bad("truncated, without a continuation token")),
    };
    Ok(VersionsPage { versions, prefixes, next })
}

/// A name in a listing, without the store's prefix; `url`: as below.
fn relative(name: Option<&str>, url: bool, below: &str) -> Result<Vec<u8>> {
    let bad = |what: &str| -> Error { err!(Kind::Storage, "damaged listing: {what}") };
    let name = name.ok_or_else(|| bad("an entry without a name"))?;
    let name = if url { decode(name) } else { name.into() };
    name.strip_prefix(below.as_bytes()).map(<[u8]>::to_vec).ok_or_else(|| bad("a key from elsewhere"))
}

/// `encoding-type=url`: percent-encoded, and a plus is a space.
fn decode(key: &str) -> Vec<u8> {
    percent_decode_str(&key.replace('+', " ")).collect()
}
