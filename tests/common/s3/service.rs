//! The operations, on objects in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::state::{State, Version};
use super::{BUCKET, Kept, REGION};

pub struct Memory(pub Arc<State>);

/// As S3 encodes names in listings: a space is a plus.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'*');

fn url(encoding: Option<&EncodingType>, name: &str) -> String {
    match encoding {
        Some(_) => percent_encode(name.as_bytes(), URL).to_string().replace("%20", "+"),
        None => name.to_owned(),
    }
}

fn same_bucket(bucket: &str) -> S3Result<()> {
    match bucket {
        BUCKET => Ok(()),
        _ => Err(s3_error!(NoSuchBucket, "The specified bucket does not exist")),
    }
}

fn etag(version: &Version) -> Option<ETag> {
    Some(ETag::Strong(version.etag.clone()))
}

impl Memory {
    /// Names in a page at most.
    fn page(&self) -> usize {
        match *self.0.page.lock().unwrap() {
            0 => 1000,
            page => page,
        }
    }

    /// What never kept versions names none.
    fn keeps(&self) -> bool {
        *self.0.kept.lock().unwrap() != Kept::Never
    }

    fn find(&self, key: &str, id: Option<&str>, if_match: Option<&ETagCondition>) -> S3Result<Version> {
        let objects = self.0.objects.lock().unwrap();
        let versions = objects.get(key);
        let found = match (versions, id) {
            (Some(versions), Some(id)) => versions.iter().find(|v| v.id == id),
            (Some(versions), None) => versions.last().filter(|v| v.body.is_some()),
            (None, _) => None,
        };
        let version = match (found, id) {
            (Some(version), _) if version.body.is_none() => return Err(s3_error!(MethodNotAllowed)),
            (Some(version), _) => version.clone(),
            (None, Some(_)) => return Err(s3_error!(NoSuchVersion, "The specified version does not exist.")),
            (None, None) => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
        };
        match if_match {
            Some(ETagCondition::ETag(want)) if Some(want) != etag(&version).as_ref() => {
                Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"))
            }
            _ => Ok(version),
        }
    }
}

#[async_trait::async_trait]
impl S3 for Memory {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        same_bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(REGION.into()), ..Default::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        same_bucket(&req.input.bucket)?;
        let location_constraint = Some(BucketLocationConstraint::from_static(REGION));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        same_bucket(&req.input.bucket)?;
        let status = match *self.0.kept.lock().unwrap() {
            Kept::Everything => Some(BucketVersioningStatus::ENABLED),
            Kept::Older => Some(BucketVersioningStatus::SUSPENDED),
            Kept::Never => None,
        };
        let status = status.map(BucketVersioningStatus::from_static);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn get_bucket_policy(
        &self,
        req: S3Request<GetBucketPolicyInput>,
    ) -> S3Result<S3Response<GetBucketPolicyOutput>> {
        same_bucket(&req.input.bucket)?;
        match self.0.policy.lock().unwrap().clone() {
            None => Err(s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist")),
            policy => Ok(S3Response::new(GetBucketPolicyOutput { policy })),
        }
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        same_bucket(&input.bucket)?;
        let encoding = input.encoding_type.as_ref();
        let prefix = input.prefix.clone().unwrap_or_default();
        let page = self.page() as i32;
        let max = input.max_keys.unwrap_or(page).clamp(0, page);
        // A token is its page's last name, in hex; one that was a common prefix ends in a slash.
        let after = match &input.continuation_token {
            Some(token) => Some(unhex(token).ok_or_else(|| s3_error!(InvalidArgument))?),
            None => input.start_after.clone(),
        };
        let folded = input.continuation_token.is_some() && input.delimiter.is_some();
        let (mut contents, mut prefixes, mut last) = (Vec::new(), Vec::<CommonPrefix>::new(), None);
        let mut truncated = false;
        let objects = self.0.objects.lock().unwrap();
        let from = after.as_deref().unwrap_or_default().max(&prefix).to_owned();
        for (key, versions) in objects.range(from..).take_while(|(key, _)| key.starts_with(&prefix)) {
            let Some(Version { body: Some(body), .. }) = versions.last() else { continue };
            if after.as_ref().is_some_and(|a| key <= a || folded && a.ends_with('/') && key.starts_with(a.as_str())) {
                continue;
            }
            let common = input.delimiter.as_ref().and_then(|d| {
                key[prefix.len()..].find(d.as_str()).map(|at| key[..prefix.len() + at + d.len()].to_owned())
            });
            if common.is_some() && common == last {
                continue;
            }
            if (contents.len() + prefixes.len()) as i32 == max {
                truncated = true;
                break;
            }
            last = Some(common.clone().unwrap_or_else(|| key.clone()));
            let version = versions.last().unwrap();
            match common {
                Some(common) => prefixes.push(CommonPrefix { prefix: Some(url(encoding, &common)) }),
                None => contents.push(Object {
                    key: Some(url(encoding, key)),
                    size: Some(body.len() as i64),
                    e_tag: etag(version),
                    last_modified: Some(version.modified.into()),
                    storage_class: Some(ObjectStorageClass::from(version.storage_class.clone())),
                    ..Default::default()
                }),
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(url(encoding, &prefix)),
            max_keys: Some(max),
            key_count: Some((contents.len() + prefixes.len()) as i32),
            is_truncated: Some(truncated),
            next_continuation_token: last.filter(|_| truncated).map(|l| hex(&l)),
            continuation_token: input.continuation_token,
            start_after: input.start_after.map(|s| url(encoding, &s)),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        same_bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let encoding = input.encoding_type.as_ref();
        let max = input.max_keys.unwrap_or(1000).clamp(0, self.page() as i32) as usize;
        let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::<CommonPrefix>::new());
        // Where the page ended; the next one begins behind it.
        let (mut last, mut truncated) = (None, false);
        let after = input.key_marker.clone().filter(|key| !key.is_empty());
        let objects = self.0.objects.lock().unwrap();
        'page: for (key, all) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let common = input.delimiter.as_ref().and_then(|d| {
                key[prefix.len()..].find(d.as_str()).map(|at| key[..prefix.len() + at + d.len()].to_owned())
            });
            let place = common.as_ref().unwrap_or(key);
            if after.as_ref().is_some_and(|after| place < after) {
                continue;
            }
            let mut rest = all.iter().enumerate().rev().peekable();
            if after.as_ref() == Some(place) {
                let Some(id) = &input.version_id_marker else { continue };
                while rest.next().is_some_and(|(_, version)| version.id != *id) {}
            }
            if let Some(common) = common {
                let shown = url(encoding, &common);
                if prefixes.last().is_some_and(|p| p.prefix.as_ref() == Some(&shown)) {
                    continue;
                }
                if versions.len() + markers.len() + prefixes.len() == max {
                    truncated = true;
                    break;
                }
                prefixes.push(CommonPrefix { prefix: Some(shown) });
                last = Some((common, None));
                continue;
            }
            for (n, version) in rest {
                if versions.len() + markers.len() + prefixes.len() == max {
                    truncated = true;
                    break 'page;
                }
                last = Some((key.clone(), Some(version.id.clone())));
                let key = Some(url(encoding, key));
                let is_latest = Some(n + 1 == all.len());
                let version_id = Some(version.id.clone());
                let last_modified = Some(version.modified.into());
                match &version.body {
                    Some(body) => versions.push(ObjectVersion {
                        key,
                        is_latest,
                        version_id,
                        last_modified,
                        e_tag: etag(version),
                        size: Some(body.len() as i64),
                        storage_class: Some(ObjectVersionStorageClass::from(version.storage_class.clone())),
                        ..Default::default()
                    }),
                    None => markers.push(DeleteMarkerEntry { key, is_latest, version_id, last_modified, owner: None }),
                }
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(url(encoding, &prefix)),
            is_truncated: Some(truncated),
            next_key_marker: last.as_ref().filter(|_| truncated).map(|(key, _)| url(encoding, key)),
            next_version_id_marker: last.filter(|_| truncated).and_then(|(_, id)| id),
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        same_bucket(&input.bucket)?;
        let version = self.find(&input.key, input.version_id.as_deref(), input.if_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: version.body.as_ref().map(|b| b.len() as i64),
            e_tag: etag(&version),
            last_modified: Some(version.modified.into()),
            metadata: Some(version.metadata.into_iter().collect()),
            version_id: Some(version.id),
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        same_bucket(&input.bucket)?;
        let version = self.find(&input.key, input.version_id.as_deref(), input.if_match.as_ref())?;
        if matches!(version.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE") {
            return Err(s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class"));
        }
        let body = version.body.clone().unwrap_or_default();
        let total = body.len() as u64;
        let range = match input.range {
            None => None,
            // RFC 9110 lets a suffix of an empty object be satisfied; S3 does not.
            Some(_) if total == 0 => return Err(s3_error!(InvalidRange)),
            Some(range) => Some(range.check(total).map_err(|_| s3_error!(InvalidRange))?),
        };
        let span = range.clone().unwrap_or(0..total);
        let piece = body.slice(span.start as usize..span.end as usize);
        let pieces: Vec<std::io::Result<Bytes>> = piece.chunks(64 * 1024).map(|c| Ok(piece.slice_ref(c))).collect();
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(piece.len() as i64),
            content_range: range.map(|r| format!("bytes {}-{}/{total}", r.start, r.end - 1)),
            body: Some(StreamingBlob::wrap(stream::iter(pieces))),
            e_tag: etag(&version),
            last_modified: Some(version.modified.into()),
            metadata: Some(version.metadata.into_iter().collect()),
            storage_class: Some(StorageClass::from(version.storage_class)),
            replication_status: Some(ReplicationStatus::from_static(ReplicationStatus::REPLICA)),
            version_id: Some(version.id).filter(|_| self.keeps()),
            ..Default::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        same_bucket(&input.bucket)?;
        let mut body = Vec::new();
        if let Some(mut stream) = input.body {
            while let Some(piece) = stream.next().await {
                body.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        let metadata: BTreeMap<_, _> = input.metadata.into_iter().flatten().collect();
        let class = input.storage_class.map_or("STANDARD".to_owned(), |c| c.as_str().to_owned());
        let version = self.0.put(&input.key, metadata, body.into(), &class);
        Ok(S3Response::new(PutObjectOutput {
            e_tag: etag(&version),
            version_id: Some(version.id).filter(|_| self.keeps()),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        same_bucket(&req.input.bucket)?;
        self.0.delete(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<String> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    String::from_utf8((0..text.len()).step_by(2).map(byte).collect::<Option<_>>()?).ok()
}
