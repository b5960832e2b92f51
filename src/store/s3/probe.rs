//! Questions about the bucket itself, for `doctor`. Each is one read-only request, tried three times at most, within the
//! request deadline; an answer is plain data, or a [`Refusal`] that says what it means for other questions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{ConfigBag, Intercept, ProvideCredentials, RuntimeComponents};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::RetryConfig;
use tokio::time::timeout;

use super::super::Entry;
use super::error::{Again, Failure, Op, classify, local, region, text};
use super::listing::Listing;
use super::{S3Options, client};
use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// A question was not answered.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub why: Why,
    pub error: Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The credentials are good, but may not do this.
    NotAllowed,
    /// S3 does not take the credentials at all.
    Credentials,
    /// Nothing was learned about permissions.
    Other,
}

/// Who the credentials belong to, by STS.
#[derive(Clone, Debug)]
pub struct Identity {
    pub account: String,
    pub arn: String,
}

/// What the first answer shows, whatever its status is.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// Where the bucket is.
    pub region: Option<String>,
    /// The service's time minus that of this machine, in seconds.
    pub skew: Option<i64>,
}

pub struct Probe {
    options: S3Options,
    shared: SdkConfig,
    region: Option<String>,
    client: Client,
}

impl Probe {
    /// Without a configured region it asks in us-east-1, which knows where each bucket is. Errors: `Config`.
    pub async fn open(options: &S3Options) -> Result<Probe> {
        let mut options = options.clone();
        if !options.prefix.is_empty() && !options.prefix.ends_with('/') {
            options.prefix.push('/');
        }
        let mut shared = client::load(&options).await?;
        let region = shared.region().map(|r| r.as_ref().to_owned());
        if region.is_none() {
            shared = shared.into_builder().region(Region::new("us-east-1")).build();
        }
        let config = client::s3(&shared, &options).config().to_builder();
        // So short that three attempts fit the shortest deadline that makes sense.
        let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(200));
        let client = Client::from_conf(config.retry_config(retry).build());
        Ok(Probe { options, shared, region, client })
    }

    /// The configured one.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// No endpoint is configured, or one of Amazon's own.
    pub fn is_amazon(&self) -> bool {
        client::endpoint(&self.shared, &self.options).is_none_or(|url| client::is_amazon(&url))
    }

    /// Whether there are credentials; S3 is not asked.
    pub async fn credentials(&self) -> Result<()> {
        let Some(provider) = self.shared.credentials_provider() else {
            return Err(local("no credentials found".into()));
        };
        let found = timeout(self.options.request_deadline, provider.provide_credentials()).await;
        found.map_err(|_| self.late())?.map(drop).map_err(|e| local(text(&e)))
    }

    /// `None` where another server than Amazon's is asked, which need not have an STS.
    pub async fn identity(&self) -> Option<Result<Identity>> {
        if !self.is_amazon() && std::env::var_os("AWS_ENDPOINT_URL_STS").is_none() {
            return None;
        }
        let sts = client::sts(&self.shared, &self.options);
        let word = |s: Option<&str>| escape(s.unwrap_or_default().as_bytes());
        let answer = match timeout(self.options.request_deadline, sts.get_caller_identity().send()).await {
            Err(_) => Err(self.late()),
            Ok(Err(SdkError::ServiceError(e))) => {
                let (code, message) = (word(e.err().code()), word(e.err().message()));
                Err(err!(Kind::Config, "STS {code}, HTTP {}: {message}", e.raw().status().as_u16()))
            }
            Ok(Err(e)) => Err(err!(Kind::Storage, "cannot ask STS: {}", text(&e))),
            Ok(Ok(out)) => Ok(Identity { account: word(out.account()), arn: word(out.arn()) }),
        };
        Some(answer)
    }

    /// HeadBucket. An error only if no answer came at all; what S3 thinks of the request, [`Probe::list`] says better, as
    /// an answer to HEAD has no body.
    pub async fn front(&self) -> Result<Front> {
        let headers = Headers::default();
        let call = self.client.head_bucket().bucket(&self.options.bucket).customize().interceptor(headers.clone());
        let asked = timeout(self.options.request_deadline, call.send()).await;
        let seen = headers.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (seen, asked) {
            (Some(front), _) => Ok(front),
            (None, Ok(Err(e))) => Err(classify(&e, Op::List, &self.options.bucket).error),
            (None, Ok(Ok(_))) => Ok(Front::default()),
            (None, Err(_)) => Err(self.late()),
        }
    }

    /// The first few objects.
    pub async fn list(&self) -> Result<Vec<Entry>, Refusal> {
        let call = self.client.list_objects_v2().bucket(&self.options.bucket).encoding_type(EncodingType::Url);
        let prefix = Some(self.options.prefix.clone()).filter(|p| !p.is_empty());
        let listing = Listing::new(&self.options.prefix);
        let call = call.set_prefix(prefix).max_keys(100).customize().interceptor(listing.clone());
        self.ask("s3:ListBucket", call.send()).await?;
        listing.page().map(|p| p.objects).map_err(|error| Refusal { why: Why::Other, error })
    }

    /// Whether versions may be listed.
    pub async fn versions(&self) -> Result<(), Refusal> {
        let call = self.client.list_object_versions().bucket(&self.options.bucket).encoding_type(EncodingType::Url);
        let prefix = Some(self.options.prefix.clone()).filter(|p| !p.is_empty());
        self.ask("s3:ListBucketVersions", call.set_prefix(prefix).max_keys(1).send()).await.map(drop)
    }

    /// Reads the first byte of an object, which must have one, and says which version it was.
    pub async fn get(&self, key: &str, version: Option<&str>) -> Result<Option<String>, Refusal> {
        let action = if version.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        let key = format!("{}{key}", self.options.prefix);
        let call = self.client.get_object().bucket(&self.options.bucket).key(key).range("bytes=0-0");
        let out = match self.ask(action, call.set_version_id(version.map(str::to_owned)).send()).await {
            Ok(out) => out,
            // Said to those only who may read the object.
            Err(e) if e.error.kind() == Kind::Archived => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(out.version_id().map(str::to_owned))
    }

    /// `Enabled`, `Suspended`, or nothing if it never was.
    pub async fn versioning(&self) -> Result<Option<String>, Refusal> {
        let call = self.client.get_bucket_versioning().bucket(&self.options.bucket).send();
        let out = self.ask("s3:GetBucketVersioning", call).await?;
        Ok(out.status().map(|s| escape(s.as_str().as_bytes())))
    }

    /// The bucket policy as it is, JSON or not; `None` if there is none.
    pub async fn policy(&self) -> Result<Option<String>, Refusal> {
        let call = self.client.get_bucket_policy().bucket(&self.options.bucket).send();
        match self.ask("s3:GetBucketPolicy", call).await {
            Ok(out) => Ok(out.policy().filter(|p| !p.trim().is_empty()).map(str::to_owned)),
            Err(e) if e.error.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The region by GetBucketLocation, which has names of its own for the two oldest.
    pub async fn location(&self) -> Result<String, Refusal> {
        let call = self.client.get_bucket_location().bucket(&self.options.bucket).send();
        let out = self.ask("s3:GetBucketLocation", call).await?;
        Ok(match out.location_constraint().map(|l| l.as_str()) {
            None | Some("") => "us-east-1".into(),
            Some("EU") => "eu-west-1".into(),
            Some(region) => escape(region.as_bytes()),
        })
    }

    async fn ask<T, E>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Refusal>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let other = |error| Refusal { why: Why::Other, error };
        let answer = timeout(self.options.request_deadline, call).await.map_err(|_| other(self.late()))?;
        answer.map_err(|e| {
            let Failure { error, again } = classify(&e, Op::Ask(action), &self.options.bucket);
            let unknown = matches!(e.code(), Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity"));
            let why = match (error.kind(), again) {
                (_, Again::Credentials) => Why::Credentials,
                (Kind::AccessDenied, Again::No) if unknown => Why::Credentials,
                (Kind::AccessDenied, Again::No) => Why::NotAllowed,
                _ => Why::Other,
            };
            Refusal { why, error }
        })
    }

    fn late(&self) -> Error {
        err!(Kind::Timeout, "no answer within {:?}", self.options.request_deadline)
    }
}

/// Keeps what [`Front`] has, of the last answer.
#[derive(Clone, Debug, Default)]
struct Headers(Arc<Mutex<Option<Front>>>);

#[dyn_dispatch_hint]
impl Intercept for Headers {
    fn name(&self) -> &'static str {
        "Headers"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        let date = answer.headers().get("date").and_then(|d| DateTime::from_str(d, Format::HttpDate).ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok());
        let skew = date.zip(now).map(|(date, now)| date.secs().saturating_sub(now));
        let front = Front { region: region(answer), skew };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(front);
        Ok(())
    }
}
