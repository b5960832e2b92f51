//! The SDK's client, configured as the AWS CLI would be, and two guards that see each request.

use std::net::IpAddr;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    ConfigBag, Credentials, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::S3Options;
use crate::err;
use crate::error::{Kind, Result, escape};

/// Reads environment and profiles. Errors: `Config`.
pub(super) async fn build(options: &S3Options) -> Result<Client> {
    let shared = load(options).await?;
    if shared.region().is_none() {
        let hint = "set --region, AWS_REGION, or region in the profile (the bucket's region, for example us-east-1)";
        return Err(err!(Kind::Config, "no AWS region is configured: {hint}"));
    }
    Ok(s3(&shared, options))
}

/// What environment, profiles and flags say; perhaps without a region. Errors: `Config`.
pub(super) async fn load(options: &S3Options) -> Result<SdkConfig> {
    let bucket = &options.bucket;
    if bucket.is_empty() || bucket.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(err!(Kind::Config, "\"{}\" is not the name of a bucket", escape(bucket.as_bytes())));
    }
    if let Some(url) = &options.endpoint_url
        && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme) && url.len() > scheme.len())
    {
        return Err(err!(Kind::Config, "--endpoint-url \"{}\": write https://HOST", escape(url.as_bytes())));
    }

    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Ok(name) = AppName::new(concat!("logarchivefs-", env!("CARGO_PKG_VERSION"))) {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(given) = &options.credentials {
        let (id, secret) = (&given.access_key_id, &given.secret_access_key);
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "given"));
    }
    if let Some(region) = region(options).await {
        loader = loader.region(region);
    }
    Ok(loader.load().await)
}

pub(super) fn s3(shared: &SdkConfig, options: &S3Options) -> Client {
    // Set here and not in the loader, as they would hold for STS and SSO as well.
    let mut config = aws_sdk_s3::config::Builder::from(shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .interceptor(NoPlainHttp { allowed: options.allow_http })
        .interceptor(super::limit::ShortAnswers);
    if let Some(account) = &options.expected_bucket_owner {
        config = config.interceptor(Owner(account.clone()));
    }
    if let Some(url) = &options.endpoint_url {
        config = config.endpoint_url(url);
    }
    config = config.force_path_style(options.force_path_style.unwrap_or(endpoint(shared, options).is_some()));
    Client::from_conf(config.build())
}

/// The same client without its connections; the credentials that it has found are kept.
pub(super) fn again(client: &Client) -> Client {
    Client::from_conf(client.config().clone())
}

/// Where one is configured, which is seldom Amazon's.
pub(super) fn endpoint(shared: &SdkConfig, options: &S3Options) -> Option<String> {
    let given = options.endpoint_url.clone().or_else(|| shared.endpoint_url().map(str::to_owned));
    given.or_else(|| Some(std::env::var_os("AWS_ENDPOINT_URL_S3")?.to_string_lossy().into_owned()))
}

/// The service that says whose credentials these are.
pub(super) fn sts(shared: &SdkConfig, options: &S3Options) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::config::Builder::from(shared)
        .timeout_config(timeouts())
        .interceptor(NoPlainHttp { allowed: options.allow_http });
    aws_sdk_sts::Client::from_conf(config.build())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(10))
        .operation_attempt_timeout(Duration::from_secs(15))
        .build()
}

/// The region to set; `None` leaves it to the SDK, which also asks the instance metadata service.
async fn region(options: &S3Options) -> Option<Region> {
    if let Some(region) = &options.region {
        return Some(Region::new(region.clone()));
    }
    options.endpoint_url.as_ref()?;
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    // Compatible servers seldom care, and us-east-1 is what those that do are set to.
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
    chain.or_else(Region::new("us-east-1")).region().await
}

/// Plain http goes to this machine only, wherever the endpoint was configured.
#[derive(Debug)]
struct NoPlainHttp {
    allowed: bool,
}

#[dyn_dispatch_hint]
impl Intercept for NoPlainHttp {
    fn name(&self) -> &'static str {
        "NoPlainHttp"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri();
        let encrypted = uri.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if self.allowed || encrypted || is_loopback(uri) {
            return Ok(());
        }
        let hint = "use https, or --allow-http where the network is trusted";
        Err(err!(Kind::Config, "the endpoint is plain http on another host: {hint}").into())
    }
}

/// Says in every request, whatever it asks, whose the bucket is to be.
#[derive(Debug)]
struct Owner(String);

#[dyn_dispatch_hint]
impl Intercept for Owner {
    fn name(&self) -> &'static str {
        "Owner"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().try_insert("x-amz-expected-bucket-owner", self.0.clone())?;
        Ok(())
    }
}

fn is_loopback(uri: &str) -> bool {
    let host = host(uri);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn is_amazon(uri: &str) -> bool {
    let host = host(uri).to_ascii_lowercase();
    [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"].iter().any(|domain| host.ends_with(domain))
}

fn host(uri: &str) -> &str {
    let authority = uri.split("//").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for uri in ["http://127.0.0.1:9000/b?x", "http://localhost/b", "http://[::1]:80/b", "http://u@127.3.2.1"] {
            assert!(is_loopback(uri), "{uri}");
        }
        for uri in ["http://localhost.example.com/", "http://127.0.0.1@evil/", "http://10.0.0.1", "http:///x", "x"] {
            assert!(!is_loopback(uri), "{uri}");
        }
    }
    #[test]
    fn amazon_is_told_from_others() {
        for uri in ["https://s3.eu-central-1.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn:443/x"] {
            assert!(is_amazon(uri), "{uri}");
        }
        for uri in ["http://127.0.0.1:9000", "https://amazonaws.com.evil", "https://s3.example/.amazonaws.com", "x"] {
            assert!(!is_amazon(uri), "{uri}");
        }
    }
}
