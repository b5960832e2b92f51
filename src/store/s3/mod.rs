//! Amazon S3, or a server that speaks like it. This folder is the only place that knows the AWS SDK.
//!
//! Trust in the SDK ends where RELIABILITY section 1 measured it to: answers are checked before a byte of them is used
//! (`range::verify` for bodies, `listing` for listings), and each wait is bounded (connect 5 s, headers 10 s, one
//! attempt up to its headers 15 s, 10 s between two pieces of a body, the whole request `request_deadline`).
//!
//! One call here is one request, with two exceptions that are no retries of a failing service: a clock that is off
//! (the SDK learns the offset from the refusal's `Date` header and signs the second request right) and expired
//! credentials (read anew once, at most every 5 s). A suffix of an empty object also takes two, as S3 refuses the first.
//! Everything else is [`super::Retry`]'s, so the SDK's own retries are off.

mod client;
mod document;
mod error;
mod limit;
mod listing;
mod probe;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{EncodingType, ReplicationStatus};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    ByteRange, GetRequest, ListRequest, Object, Page, Part, Store, Timestamp, Versioning, VersionsPage,
    VersionsRequest, bare_etag, range,
};
use crate::err;
use crate::error::{Kind, Result};
use error::{Again, Failure, Op};
use listing::Listing;
pub use probe::{Front, Identity, Probe, Refusal, Why};

/// No piece of a body for so long: the connection is dead.
const STALL: Duration = Duration::from_secs(10);
/// Credentials are read anew at most this often.
const RENEWAL: Duration = Duration::from_secs(5);

/// Where the bucket is and how to get in; everything left out is found as the AWS CLI finds it.
#[derive(Clone, Debug)]
pub struct S3Options {
    pub bucket: String,
    /// Keys below it only. `/` is added if it does not end in one. Empty: the whole bucket.
    pub prefix: String,
    /// What `check` looks at, below `prefix`: who may see one stack need not see all.
    pub check_below: String,
    pub region: Option<String>,
    /// Of an S3-compatible server.
    pub endpoint_url: Option<String>,
    pub profile: Option<String>,
    /// Bucket in the path, not in the host name. By default where an endpoint is configured.
    pub force_path_style: Option<bool>,
    /// Plain http to other hosts than this one: the log text stays encrypted, but anyone can see and change answers.
    pub allow_http: bool,
    /// The AWS account that the bucket must belong to: S3 refuses each request if it does not.
    pub expected_bucket_owner: Option<String>,
    /// For one request with its body.
    pub request_deadline: Duration,
    /// Instead of what the environment, profiles, SSO or the instance give; for tests and demonstrations.
    pub credentials: Option<StaticCredentials>,
}

/// An access key given outright.
#[derive(Clone)]
pub struct StaticCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticCredentials(..)")
    }
}

impl S3Options {
    pub fn new(bucket: impl Into<String>) -> Self {
        S3Options {
            bucket: bucket.into(),
            prefix: String::new(),
            check_below: String::new(),
            region: None,
            endpoint_url: None,
            profile: None,
            force_path_style: None,
            allow_http: false,
            expected_bucket_owner: None,
            request_deadline: Duration::from_secs(30),
            credentials: None,
        }
    }
}

/// A bucket, or what lies below a prefix of it.
pub struct S3Store {
    options: S3Options,
    session: Mutex<Session>,
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Session {
    client: Client,
    /// Which client this is: how many there were before.
    n: u64,
    /// How often credentials have been read anew, and when last.
    renewals: u64,
    renewed: Option<Instant>,
}

impl S3Store {
    /// Reads the configuration; no request to S3 yet (but perhaps to the instance metadata service, for a region).
    /// Errors: `Config`, with what to set.
    pub async fn open(mut options: S3Options) -> Result<S3Store> {
        if !options.prefix.is_empty() && !options.prefix.ends_with('/') {
            options.prefix.push('/');
        }
        let session = Session { client: client::build(&options).await?, n: 0, renewals: 0, renewed: None };
        Ok(S3Store { options, session: Mutex::new(session), renewing: tokio::sync::Mutex::new(()) })
    }

    fn session(&self) -> Session {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `Ok`: the request is worth one more try. `tried` says that this has been found before.
    async fn recover(&self, failure: Failure, used: &Session, tried: &mut bool) -> Result<()> {
        if std::mem::replace(tried, true) {
            return Err(failure.error);
        }
        match failure.again {
            Again::No => Err(failure.error),
            Again::Clock => Ok(()),
            Again::Credentials => {
                let _one_at_a_time = self.renewing.lock().await;
                let now = self.session();
                if now.renewals > used.renewals {
                    return Ok(());
                }
                if now.renewed.is_some_and(|at| at.elapsed() < RENEWAL) {
                    return Err(failure.error);
                }
                let client = client::build(&self.options).await?;
                let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                let (n, renewals) = (session.n + 1, session.renewals + 1);
                *session = Session { client, n, renewals, renewed: Some(Instant::now()) };
                Ok(())
            }
        }
    }

    /// Lets go of the connections of client `n`, one of which has not answered in time. After the machine has slept, or has
    /// come to another network, none of them will, and each would cost its own time-out to find out.
    fn reconnect(&self, n: u64) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.n == n {
            (session.client, session.n) = (client::again(&session.client), n + 1);
        }
    }

    async fn send_list(&self, req: &ListRequest) -> Result<Page> {
        let full = |s: &str| format!("{}{s}", self.options.prefix);
        let prefix = Some(full(&req.prefix)).filter(|p| !p.is_empty());
        let start_after = req.start_after.as_deref().filter(|_| req.token.is_none()).map(full);
        let mut tried = false;
        loop {
            let session = self.session();
            let call = session.client.list_objects_v2().bucket(&self.options.bucket).encoding_type(EncodingType::Url);
            let call = call.set_prefix(prefix.clone()).set_delimiter(req.delimiter.then(|| "/".to_owned()));
            let call = call.set_start_after(start_after.clone()).set_continuation_token(req.token.clone());
            let listing = Listing::new(&self.options.prefix);
            match call.set_max_keys(req.max_keys).customize().interceptor(listing.clone()).send().await {
                Ok(_) => return listing.page(),
                Err(e) => {
                    let failure = error::classify(&e, Op::List, &self.options.bucket);
                    self.recover(failure, &session, &mut tried).await?;
                }
            }
        }
    }

    /// `None`: S3 has no such bytes (416).
    async fn send_get(&self, req: &GetRequest, range: Option<String>) -> Result<Option<GetObjectOutput>> {
        let key = format!("{}{}", self.options.prefix, req.key);
        let if_match = req.pin.etag().filter(|e| !e.is_empty()).map(|etag| match etag.contains('"') {
            true => etag.to_owned(),
            false => format!("\"{etag}\""),
        });
        let mut tried = false;
        loop {
            let session = self.session();
            let call = session.client.get_object().bucket(&self.options.bucket).key(&key).set_range(range.clone());
            let call = call.set_if_match(if_match.clone()).set_version_id(req.pin.version_id().map(str::to_owned));
            match call.send().await {
                Ok(out) => return Ok(Some(out)),
                Err(SdkError::ServiceError(e)) if e.raw().status().as_u16() == 416 => return Ok(None),
                Err(e) => {
                    let op = Op::Get { pinned: req.pin.version_id().is_some() };
                    let failure = error::classify(&e, op, &self.options.bucket);
                    self.recover(failure, &session, &mut tried).await?;
                }
            }
        }
    }

    async fn receive(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let (out, asked) = match self.send_get(req, req.range.header()?).await? {
            Some(out) => (out, req.range.clone()),
            // Only an empty object has no last bytes; ask without a range for the rest of the truth about it.
            None if matches!(req.range, ByteRange::Suffix(_)) => match self.send_get(req, None).await? {
                Some(out) if out.content_length() == Some(0) => (out, ByteRange::Whole),
                _ => return Err(err!(Kind::Storage, "S3 has no last bytes of an object that is not empty")),
            },
            None => return Err(err!(Kind::Storage, "the object has fewer bytes than it was listed with (HTTP 416)")),
        };
        let (bytes, total) = range::verify(&asked, out.content_range(), out.content_length())?;
        part.begin(head(&out, bytes.start, total, req)?, bytes.end - bytes.start)?;
        let mut body = out.body;
        loop {
            match timeout(STALL, body.next()).await {
                Ok(Some(Ok(frame))) => part.push(&frame)?,
                Ok(None) if part.is_complete() => return Ok(()),
                Ok(None) => return Err(err!(Kind::Storage, "the body broke off after {} bytes", part.have())),
                Ok(Some(Err(e))) => {
                    return Err(err!(
                        Kind::Storage,
                        "the body broke off after {} bytes: {}",
                        part.have(),
                        error::text(&e)
                    ));
                }
                Err(_) => {
                    return Err(err!(
                        Kind::Timeout,
                        "the body stalled for {} s after {} bytes",
                        STALL.as_secs(),
                        part.have()
                    ));
                }
            }
        }
    }

    async fn within_deadline<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let (most, n) = (self.options.request_deadline, self.session().n);
        let result = timeout(most, call).await;
        let result = result.unwrap_or_else(|_| Err(err!(Kind::Timeout, "no whole answer within {most:?}")));
        if result.as_ref().is_err_and(|e| e.kind() == Kind::Timeout) {
            self.reconnect(n);
        }
        result
    }
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        format!("s3://{}/{}", self.options.bucket, self.options.prefix)
    }

    fn bucket(&self) -> &str {
        &self.options.bucket
    }

    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.within_deadline(self.send_list(req))
            .await
            .map_err(|e| e.about(&format!("{}{}", self.describe(), req.prefix)))
    }

    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let mut part = Part::new();
        self.fetch(req, &mut part).await?;
        part.finish()
    }

    async fn check(&self) -> Result<()> {
        self.list(&ListRequest { max_keys: Some(1), ..ListRequest::below(&self.options.check_below) }).await.map(drop)
    }

    async fn versions(&self, req: &VersionsRequest) -> Result<Option<VersionsPage>> {
        let page = self.within_deadline(self.ask_versions(req)).await;
        page.map(Some).map_err(|e| e.about(&format!("{}{}", self.describe(), req.prefix)))
    }

    async fn versioning(&self) -> Result<Option<Versioning>> {
        self.within_deadline(self.ask_versioning()).await.map(Some).map_err(|e| e.about(&self.describe()))
    }

    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let rest = part.rest(req)?;
        self.within_deadline(self.receive(&rest, part)).await.map_err(|e| e.about(&req.key))
    }
}

/// What the headers say of the object, checked against the pin.
fn head(out: &GetObjectOutput, start: u64, total: u64, req: &GetRequest) -> Result<Object> {
    let etag = bare_etag(out.e_tag().unwrap_or_default());
    if etag.is_empty() {
        return Err(err!(Kind::Storage, "the answer has no ETag. Not S3: a proxy or a sign-in page?"));
    }
    let stale = |what: &str| Err(err!(Kind::Stale, "the object was replaced: the answer has another {what}"));
    if req.pin.etag().is_some_and(|pinned| bare_etag(pinned) != etag) {
        return stale("ETag");
    }
    if let (Some(pinned), Some(id)) = (req.pin.version_id(), out.version_id())
        && pinned != id
    {
        return stale("version id");
    }
    let metadata = out.metadata().into_iter().flatten().map(|(k, v)| (k.to_ascii_lowercase(), v.clone()));
    Ok(Object {
        bytes: Bytes::new(),
        start,
        total,
        etag: etag.to_owned(),
        version_id: out.version_id().map(str::to_owned),
        last_modified: timestamp(out.last_modified()),
        storage_class: out.storage_class().map(|c| c.as_str().to_owned()),
        metadata: metadata.collect::<BTreeMap<_, _>>(),
        missing_meta: out.missing_meta().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        replica: Some(out.replication_status() == Some(&ReplicationStatus::Replica)),
    })
}

fn timestamp(at: Option<&DateTime>) -> Timestamp {
    at.map_or((0, 0), |t| (t.secs(), t.subsec_nanos()))
}
