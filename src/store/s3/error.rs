//! What the SDK's errors mean to the user. One table; RELIABILITY section 3 is its source.
//!
//! Messages carry the S3 code, the HTTP status and the request ids, escaped. The request, with its `Authorization`
//! header, is in none of the SDK's errors and is never printed; `Debug` of an SDK error is not used either.

use std::error::Error as StdError;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::err;
use crate::error::{Error, Kind, escape};

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    List,
    /// `pinned`: by a version id.
    Get {
        pinned: bool,
    },
    /// Something about the bucket itself, allowed by this IAM action.
    Ask(&'static str),
}

/// Whether a second request can heal it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// The SDK has taken the service's time from this answer.
    Clock,
    /// After reading the credentials anew.
    Credentials,
}

pub(super) struct Failure {
    pub error: Error,
    pub again: Again,
}

const CREDENTIALS: &str = "set AWS_PROFILE (or --profile), run `aws sso login`, or set AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows whether it works";

/// An error of kind and message that fit.
pub(super) fn classify<E>(e: &SdkError<E, HttpResponse>, op: Op, bucket: &str) -> Failure
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    if let Some(own) = find::<Error>(e) {
        return Failure { error: own.clone(), again: Again::No };
    }
    let error = match e {
        SdkError::ServiceError(service) => {
            let code = service.err().code();
            return answer(service.raw(), code, service.err().message(), op, bucket);
        }
        SdkError::TimeoutError(_) => err!(Kind::Timeout, "no answer from S3: {}", text(e)),
        SdkError::DispatchFailure(d) if d.is_timeout() => err!(Kind::Timeout, "no answer from S3: {}", text(e)),
        SdkError::DispatchFailure(d) if d.is_user() => err!(Kind::Config, "cannot ask S3: {}", text(e)),
        SdkError::DispatchFailure(d) if d.is_other() && d.as_other().is_none() => {
            local(d.as_connector_error().and_then(StdError::source).map_or_else(|| text(e), text))
        }
        SdkError::DispatchFailure(_) => err!(Kind::Storage, "cannot reach S3: {}", text(e)),
        SdkError::ConstructionFailure(_) => err!(Kind::Invalid, "no valid S3 request: {}", text(e)),
        _ => err!(Kind::Storage, "cannot read the answer from S3: {}", text(e)),
    };
    Failure { error, again: Again::No }
}

/// The SDK's catch-all: credentials, the endpoint's name, or an answer that is no HTTP. It shows in the text only, as the
/// credentials' error type is not in the SDK's public interface; what is not recognised counts as the network's fault.
pub(super) fn local(text: String) -> Error {
    let lower = text.to_ascii_lowercase();
    let about = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    if about(&["no credentials found", "no providers in chain"]) {
        err!(Kind::Config, "no AWS credentials ({text}): {CREDENTIALS}")
    } else if about(&["timed out", "timeout"]) {
        err!(Kind::Timeout, "the AWS credentials took too long ({text}): {CREDENTIALS}")
    } else if about(&["dispatch failure", "connect error", "io error"]) {
        err!(Kind::Storage, "cannot get the AWS credentials: {text}")
    } else if about(&["credential", "identity", "profile"]) {
        err!(Kind::Config, "no usable AWS credentials ({text}): {CREDENTIALS}")
    } else if about(&["endpoint", "invalid region"]) {
        err!(Kind::Config, "cannot ask S3: {text}")
    } else {
        err!(Kind::Storage, "cannot reach S3: {text}")
    }
}

/// An answer with an error status, or one that could not be parsed.
fn answer(raw: &HttpResponse, code: Option<&str>, message: Option<&str>, op: Op, bucket: &str) -> Failure {
    let status = raw.status().as_u16();
    let (kind, again, says) = meaning(status, code, op, bucket, || region(raw));
    let mut text = format!("{says} (");
    match code {
        Some(code) => text.push_str(&format!("S3 {}, ", escape(code.as_bytes()))),
        None => text.push_str("no S3 error code, "),
    }
    text.push_str(&format!("HTTP {status}"));
    for (what, header) in [("request", "x-amz-request-id"), ("host", "x-amz-id-2")] {
        if let Some(id) = raw.headers().get(header) {
            text.push_str(&format!(", {what} id {}", escape(id.as_bytes())));
        }
    }
    text.push(')');
    if let Some(message) = message {
        text.push_str(&format!(": {}", escape(message.as_bytes())));
    }
    Failure { error: Error::new(kind, text), again }
}

/// The table.
fn meaning(
    status: u16,
    code: Option<&str>,
    op: Op,
    bucket: &str,
    region: impl Fn() -> Option<String>,
) -> (Kind, Again, String) {
    let list = matches!(op, Op::List | Op::Ask(_));
    let bucket = escape(bucket.as_bytes());
    let no = |kind, says: &str| (kind, Again::No, says.to_owned());
    match (code.unwrap_or_default(), status) {
        ("InvalidObjectState", _) => {
            no(Kind::Archived, "the object is archived: restore it first, with `aws s3api restore-object`")
        }
        ("NoSuchKey", _) => no(Kind::NotFound, "no such object"),
        ("NoSuchVersion", _) => no(Kind::Stale, "this version of the object is gone"),
        ("NoSuchBucketPolicy", _) => no(Kind::NotFound, "the bucket has no policy"),
        ("NoSuchBucket", _) => no(Kind::Config, &format!("there is no bucket {bucket}")),
        ("PreconditionFailed", _) | (_, 412) => no(Kind::Stale, "the object was replaced"),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IncorrectEndpoint", _) | (_, 301) => {
            let says = match region() {
                Some(region) => format!("bucket {bucket} is in region {region}: use --region {region}"),
                None => format!("wrong region or endpoint for bucket {bucket}: check --region and --endpoint-url"),
            };
            (Kind::Config, Again::No, says)
        }
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken", _) => {
            let says = "the AWS credentials have expired: renew them, for example with `aws sso login`";
            (Kind::AccessDenied, Again::Credentials, says.to_owned())
        }
        ("RequestTimeTooSkewed" | "RequestExpired", _) => {
            (Kind::AccessDenied, Again::Clock, "the clock of this machine is wrong: check it".to_owned())
        }
        ("InvalidAccessKeyId", _) => no(Kind::AccessDenied, "S3 does not know the access key: wrong profile?"),
        ("SignatureDoesNotMatch", _) => {
            no(Kind::AccessDenied, "S3 refuses the signature: wrong secret key, or the clock is off?")
        }
        (_, 429 | 408 | 307) | ("RequestTimeout" | "SlowDown" | "InternalError" | "ServiceUnavailable", _) => {
            no(Kind::Storage, "S3 cannot answer now")
        }
        ("NotImplemented", _) | (_, 501) => no(Kind::Config, "the server does not know this request"),
        (_, 500..) => no(Kind::Storage, "S3 cannot answer now"),
        (_, 200..=299) => no(Kind::Storage, "the answer is not understood. Not S3: a proxy or a sign-in page?"),
        (_, 403) if let Op::Ask(action) = op => no(Kind::AccessDenied, &format!("{action} is not allowed")),
        (_, 403) if list => no(Kind::AccessDenied, &format!("listing bucket {bucket} is not allowed (s3:ListBucket)")),
        (_, 403) if matches!(op, Op::Get { pinned: true }) => {
            no(Kind::AccessDenied, "reading this version is not allowed (s3:GetObjectVersion, kms:Decrypt)")
        }
        (_, 403) => no(Kind::AccessDenied, "reading the object is not allowed (s3:GetObject, kms:Decrypt)"),
        (_, 405) if matches!(op, Op::Get { pinned: true }) => no(Kind::Stale, "this version of the object is gone"),
        ("", 404) if list => no(Kind::Config, &format!("there is no bucket {bucket}, or this is not S3")),
        (_, 404) if !list => no(Kind::NotFound, "no such object"),
        ("", _) => no(Kind::Storage, "the answer is not understood. Not S3: a proxy?"),
        _ => no(Kind::Config, "S3 refuses the request"),
    }
}

/// The region that a refusal names.
pub(super) fn region(raw: &HttpResponse) -> Option<String> {
    let element = || {
        let body = std::str::from_utf8(raw.body().bytes()?).ok()?;
        Some(body.split_once("<Region>")?.1.split_once("</Region>")?.0)
    };
    let fit = |r: &&str| {
        (1..=32).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    raw.headers().get("x-amz-bucket-region").or_else(element).filter(fit).map(str::to_owned)
}

/// An error with its causes, in one line, escaped.
pub(super) fn text(e: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(e);
    while let Some(e) = next {
        // Some have lines of their own.
        let part = e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if parts.last().is_none_or(|before| !before.contains(&part)) {
            parts.push(part);
        }
        next = e.source();
    }
    escape(parts.join(": ").as_bytes())
}

fn find<'a, T: StdError + 'static>(e: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(e);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        next = e.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str, op: Op) -> Kind {
        meaning(status, Some(code).filter(|c| !c.is_empty()), op, "b", || None).0
    }

    #[test]
    fn the_table() {
        let get = Op::Get { pinned: false };
        for (status, code, op, want) in [
            (403, "AccessDenied", get, Kind::AccessDenied),
            (403, "", get, Kind::AccessDenied),
            (403, "AccessDenied", Op::List, Kind::AccessDenied),
            (403, "InvalidAccessKeyId", get, Kind::AccessDenied),
            (403, "SignatureDoesNotMatch", get, Kind::AccessDenied),
            (403, "RequestTimeTooSkewed", get, Kind::AccessDenied),
            (400, "ExpiredToken", get, Kind::AccessDenied),
            (403, "InvalidObjectState", get, Kind::Archived),
            (404, "NoSuchKey", get, Kind::NotFound),
            (404, "", get, Kind::NotFound),
            (404, "NoSuchVersion", get, Kind::Stale),
            (405, "MethodNotAllowed", Op::Get { pinned: true }, Kind::Stale),
            (412, "PreconditionFailed", get, Kind::Stale),
            (412, "", get, Kind::Stale),
            (404, "NoSuchBucket", get, Kind::Config),
            (404, "NoSuchBucket", Op::List, Kind::Config),
            (404, "", Op::List, Kind::Config),
            (301, "PermanentRedirect", Op::List, Kind::Config),
            (301, "", Op::List, Kind::Config),
            (400, "AuthorizationHeaderMalformed", Op::List, Kind::Config),
            (400, "InvalidArgument", Op::List, Kind::Config),
            (400, "RequestTimeout", get, Kind::Storage),
            (503, "SlowDown", get, Kind::Storage),
            (502, "", get, Kind::Storage),
            (429, "Whatever", get, Kind::Storage),
            (400, "", get, Kind::Storage),
            (200, "", Op::List, Kind::Storage),
            (403, "AccessDenied", Op::Ask("s3:GetBucketPolicy"), Kind::AccessDenied),
            (404, "NoSuchBucketPolicy", Op::Ask("s3:GetBucketPolicy"), Kind::NotFound),
            (404, "NoSuchBucket", Op::Ask("s3:GetBucketPolicy"), Kind::Config),
            (501, "NotImplemented", Op::Ask("s3:GetBucketPolicy"), Kind::Config),
        ] {
            assert_eq!(kind(status, code, op), want, "{status} {code}");
        }
    }
}
