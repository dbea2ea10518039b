//! Asynchronous invocation of a Lambda function.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use mcp_https::{Client, StatusCode};
use mcp_server::InitError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{AwsError, CredentialSource, SigningScope, endpoint, sign_headers};

const SERVICE: &str = "Lambda";
const CONTENT_TYPE: &str = "application/json";
/// Timeout of an invocation request, retries included.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
const ATTEMPTS: u32 = 3;
/// Backoff before the first retry. It doubles with each retry.
const BACKOFF: Duration = Duration::from_millis(50);
/// The response has no content that is used.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
const MAX_NAME_BYTES: usize = 200;

/// A Lambda function that is invoked asynchronously: Lambda queues the event, and responds before the function runs. `Debug`
/// redacts credentials.
#[derive(Clone)]
pub struct AsyncFunction {
    name: String,
    region: String,
    url: String,
    credentials: CredentialSource,
    client: Client,
}

impl AsyncFunction {
    /// Reads region, credentials and endpoint from environment variables, through the lookup function `get`: `AWS_REGION`, those of
    /// [`CredentialSource::from_env`], and `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL`, `AWS_USE_DUALSTACK_ENDPOINT` and
    /// `AWS_USE_FIPS_ENDPOINT` with the meaning that they have for the AWS SDKs. `variable` is the name of the setting that contains
    /// the function's name, with a version or alias after a colon if it has one.
    ///
    /// # Errors
    ///
    /// When the name or an endpoint variable is invalid, or no region or credentials are configured.
    pub fn from_env<'a>(variable: &str, name: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let is_name = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_NAME_BYTES
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'$'))
        };
        let (function, qualifier) = name.split_once(':').map_or((name, None), |(name, own)| (name, Some(own)));
        if !is_name(function) || qualifier.is_some_and(|own| !is_name(own)) {
            return Err(InitError::setting(
                variable,
                "the name of a function, such as `export-tasks` or `export-tasks:live`",
                name,
            ));
        }
        let region = get("AWS_REGION").filter(|region| is_name(region));
        let region = region.ok_or_else(|| InitError::new(format!("AWS_REGION must be set: {variable} needs it")))?;
        let endpoint = endpoint::lambda(region, &get)?;
        let query = qualifier.map(|own| format!("?Qualifier={}", own.replace('$', "%24"))).unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            region: region.to_owned(),
            url: format!("{endpoint}2015-03-31/functions/{function}/invocations{query}"),
            credentials: CredentialSource::from_env(variable, get)?,
            // Unrestricted, because an endpoint that the operator configures may be plain HTTP.
            client: mcp_https::dangerously_unrestricted()
                .timeout(ATTEMPT_TIMEOUT)
                .max_response_bytes(MAX_RESPONSE_BYTES),
        })
    }

    /// Returns the name of the function.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues an event: JSON of at most 256 KiB. A transient failure is retried with backoff, three attempts within three seconds, so
    /// that an event may be queued twice. Lambda delivers at least once in any case.
    ///
    /// # Errors
    ///
    /// - [`AwsError::Unavailable`]: Lambda cannot be reached in time, or throttles the request.
    /// - [`AwsError::Invocation`]: the function does not exist, or may not be invoked.
    /// - [`AwsError::Credentials`] and [`AwsError::Signature`]: the request cannot be signed.
    pub async fn invoke(&self, event: &str) -> Result<(), AwsError> {
        let (deadline, mut backoff, mut attempt) = (Instant::now() + TIMEOUT, BACKOFF, 1);
        loop {
            let error = match timeout_at(deadline, self.attempt(event, deadline)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => unavailable("it did not respond in time"),
            };
            if !error.is_transient() || attempt == ATTEMPTS || Instant::now() + backoff >= deadline {
                return Err(error);
            }
            sleep(backoff).await;
            (backoff, attempt) = (backoff * 2, attempt + 1);
        }
    }

    async fn attempt(&self, event: &str, deadline: Instant) -> Result<(), AwsError> {
        let credentials = self.credentials.load_until(deadline).await?;
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-invocation-type", "Event")];
        let scope = SigningScope { region: &self.region, service: "lambda" };
        let signature = sign_headers(credentials, scope, &self.url, &headers, event.as_bytes(), SystemTime::now())?;
        let mut request = self.client.post(&self.url).answer_by(Some(deadline.into_std())).idempotent();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let response = request.body(event.to_owned()).send().await;
        match response.map_err(unavailable)?.status() {
            StatusCode::ACCEPTED => Ok(()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(unavailable(format!("it responded with {status}")))
            }
            StatusCode::NOT_FOUND => Err(AwsError::Invocation("the function does not exist")),
            StatusCode::FORBIDDEN => {
                Err(AwsError::Invocation("the function's role may not invoke it: allow lambda:InvokeFunction"))
            }
            _ => Err(AwsError::Invocation("Lambda rejected the request")),
        }
    }
}

fn unavailable(reason: impl Into<mcp_server::BoxError>) -> AwsError {
    AwsError::Unavailable { service: SERVICE, source: reason.into() }
}

impl fmt::Debug for AsyncFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFunction")
            .field("name", &self.name)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
