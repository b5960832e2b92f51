//! Answers that the SDK takes into memory as a whole, listings and errors, are only so long: a hostile endpoint could send
//! one without end. Bodies of objects are streams, bounded by `range::verify`.

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// A page of 1,000 keys of 1,024 bytes, each of them percent-encoded, has 3.5 MB.
const LISTING: usize = 4 << 20;
const ERROR: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct ShortAnswers;

#[dyn_dispatch_hint]
impl Intercept for ShortAnswers {
    fn name(&self) -> &'static str {
        "ShortAnswers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let object = config.load::<Metadata>().is_some_and(|operation| operation.name() == "GetObject");
        let most = match response.status().is_success() {
            true if object => return Ok(()),
            true => LISTING,
            false => ERROR,
        };
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, most));
        Ok(())
    }
}
