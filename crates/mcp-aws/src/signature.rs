//! Signature Version 4, computed by the signer of the AWS SDK.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings, sign},
    sign::v4,
};

use crate::AwsError;

/// Region and service that a signature is valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningScope<'a> {
    /// The region, such as `eu-west-1`.
    pub region: &'a str,
    /// The service's signing name, such as `secretsmanager`, `lambda` or `rds-db`.
    pub service: &'a str,
}

/// Signs a `POST` request. Returns the headers to add to it: `authorization`, `x-amz-date`, and `x-amz-security-token` for
/// temporary credentials. Send the request within five minutes of `now`, with exactly the `headers` and `body` that were
/// signed.
///
/// # Errors
///
/// [`AwsError::Signature`] if the URL, a header or a credential cannot be part of a signed request.
pub fn sign_headers(
    credentials: Credentials,
    scope: SigningScope<'_>,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    now: SystemTime,
) -> Result<Vec<(String, String)>, AwsError> {
    let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body));
    let signed = instructions(credentials, scope, request, SigningSettings::default(), now)?;
    Ok(signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Signs a `GET` request by query parameters (a presigned URL). Returns the parameters to append to the URL, not
/// percent-encoded. No request is sent.
///
/// The signature is valid from `now` for `lifetime`, in whole seconds.
///
/// # Errors
///
/// [`AwsError::Signature`] if the URL or a credential cannot be part of a signed request.
pub fn presign(
    credentials: Credentials,
    scope: SigningScope<'_>,
    url: &str,
    lifetime: Duration,
    now: SystemTime,
) -> Result<Vec<(String, String)>, AwsError> {
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(lifetime);
    settings.signature_location = SignatureLocation::QueryParams;
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]));
    let signed = instructions(credentials, scope, request, settings, now)?;
    Ok(signed.params().iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect())
}

fn instructions(
    credentials: Credentials,
    scope: SigningScope<'_>,
    request: Result<SignableRequest<'_>, impl Into<mcp_server::BoxError>>,
    settings: SigningSettings,
    now: SystemTime,
) -> Result<SigningInstructions, AwsError> {
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| AwsError::Signature(error.into()))?
        .into();
    let request = request.map_err(|error| AwsError::Signature(error.into()))?;
    let signed = sign(request, &parameters).map_err(|error| AwsError::Signature(error.into()))?;
    Ok(signed.into_parts().0)
}
