//! Versions: what was replaced and what was deleted.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType};
use aws_smithy_runtime_api::client::interceptors::context::Output;

use super::super::versions::{Marker, Version, Versioning, VersionsPage, VersionsRequest};
use super::S3Store;
use super::document::{Answer, Document, End, Open, bad, decode, named};
use super::error::{self, Op};
use crate::error::Result;

impl S3Store {
    pub(super) async fn ask_versions(&self, req: &VersionsRequest) -> Result<VersionsPage> {
        let full = |s: &str| format!("{}{s}", self.options.prefix);
        let prefix = Some(full(&req.prefix)).filter(|p| !p.is_empty());
        // A marker without a version is one behind all versions of its key.
        let start = || req.start_after.as_deref().map(|key| Marker::behind(full(key)));
        let (key, version_id) = req.after.clone().or_else(start).map(|after| (after.key, after.version_id)).unzip();
        let mut tried = false;
        loop {
            let session = self.session();
            let call = session.client.list_object_versions().bucket(&self.options.bucket);
            let call = call.encoding_type(EncodingType::Url).set_prefix(prefix.clone());
            let call = call.set_delimiter(req.delimiter.then(|| "/".to_owned()));
            let call = call.set_key_marker(key.clone()).set_version_id_marker(version_id.clone().flatten());
            let answer = Answer::<Versions>::new(&self.options.prefix);
            match call.set_max_keys(req.max_keys).customize().interceptor(answer.clone()).send().await {
                Ok(_) => return answer.page(),
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

#[derive(Default)]
struct Versions(VersionsPage);

/// There is no count to hold a page to, as there is for objects; the marker of the next page must be there.
impl Document for Versions {
    const ROOT: &'static str = "ListVersionsResult";
    type Page = VersionsPage;

    fn entry(name: &[u8]) -> Option<bool> {
        match name {
            b"Version" => Some(false),
            b"DeleteMarker" => Some(true),
            _ => None,
        }
    }

    fn add(&mut self, open: Open, delete_marker: bool) -> Result<()> {
        self.0.versions.push(Version {
            key: named(open.key)?,
            version_id: open.version_id,
            last_modified: open.modified,
            latest: open.latest,
            delete_marker,
            size: open.size,
            etag: open.tag,
            storage_class: open.class,
        });
        Ok(())
    }

    fn add_prefix(&mut self, name: Vec<u8>) {
        self.0.prefixes.push(name);
    }

    fn page(self, mut end: End, below: &[u8]) -> Result<VersionsPage> {
        let mut page = self.0;
        let keys = page.versions.iter_mut().map(|version| &mut version.key);
        for name in keys.chain(&mut page.prefixes) {
            end.cut(name, below)?;
        }
        // S3 sends them so. Other servers send delete markers behind all versions; what came in one second is then told apart
        // by which is the latest only.
        page.versions.sort_by(|a, b| {
            a.key.cmp(&b.key).then(b.latest.cmp(&a.latest)).then(b.last_modified.cmp(&a.last_modified))
        });
        page.next = match end.is_truncated()? {
            false => None,
            true if end.next_key.is_empty() => return Err(bad("truncated, without a continuation token")),
            true => {
                if end.encoded {
                    decode(&mut end.next_key);
                }
                let key = String::from_utf8(end.next_key).map_err(|_| bad("a marker that cannot be sent back"))?;
                Some(Marker { version_id: end.next_version_id, ..Marker::behind(key) })
            }
        };
        Ok(page)
    }

    fn nothing() -> Output {
        Output::erase(ListObjectVersionsOutput::builder().build())
    }
}
