//! Services whose requests are JSON objects with a target in a header: Secrets Manager and Systems Manager.

use std::time::{Duration, SystemTime};

use mcp_https::{Client, StatusCode};
use mcp_server::{
    BoxError,
    json::{self, Budget},
};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use crate::{AwsError, CredentialSource, SigningScope, sign_headers};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// Timeout of one call, retries included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
/// Backoff before the first retry. It doubles with each retry.
const BACKOFF: Duration = Duration::from_millis(50);
/// A secret has at most 64 KiB, ten parameters 80 KiB. JSON escapes can multiply that by six.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;
const BUDGET: Budget = Budget::memory(1024 * 1024);

/// A service in a region, and the credentials for it. `Debug` is that of its users, who redact it.
#[derive(Clone)]
pub(crate) struct JsonService {
    /// Name for messages.
    name: &'static str,
    /// Name in signatures.
    signing_name: &'static str,
    region: String,
    url: String,
    pub(crate) credentials: CredentialSource,
    client: Client,
    /// Creates the error of a response that a retry does not change.
    error: fn(&'static str) -> AwsError,
}

/// Why a call was rejected: the service's error code, without its namespace.
#[derive(Debug)]
pub(crate) struct RejectionCode(pub(crate) String);

impl JsonService {
    pub(crate) fn new(
        (name, signing_name): (&'static str, &'static str),
        region: &str,
        url: String,
        credentials: CredentialSource,
        error: fn(&'static str) -> AwsError,
    ) -> Self {
        // Unrestricted, because an endpoint that the operator configures may be plain HTTP.
        let client =
            mcp_https::dangerously_unrestricted().timeout(ATTEMPT_TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES);
        Self { name, signing_name, region: region.to_owned(), url, credentials, client, error }
    }

    /// Sends a call that may be repeated. A transient failure is retried with backoff, three attempts in all. Returns the members of
    /// the response, or the code with which the service rejected the call.
    ///
    /// # Errors
    ///
    /// When the service cannot be reached in time, the credentials cannot be used, or the response is not a JSON object.
    pub(crate) async fn call(
        &self,
        target: &str,
        body: &Zeroizing<String>,
        deadline: Instant,
    ) -> Result<Result<Map<String, Value>, RejectionCode>, AwsError> {
        let (mut backoff, mut attempt) = (BACKOFF, 1);
        loop {
            let error = match timeout_at(deadline, self.attempt(target, body, deadline)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.unavailable("it did not respond in time")),
            };
            let wait = jitter(backoff);
            if !error.is_transient() || attempt == ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(error);
            }
            sleep(wait).await;
            (backoff, attempt) = (backoff * 2, attempt + 1);
        }
    }

    async fn attempt(
        &self,
        target: &str,
        body: &Zeroizing<String>,
        deadline: Instant,
    ) -> Result<Result<Map<String, Value>, RejectionCode>, AwsError> {
        let credentials = self.credentials.load_until(deadline).await?;
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", target)];
        let scope = SigningScope { region: &self.region, service: self.signing_name };
        let signature = sign_headers(credentials, scope, &self.url, &headers, body.as_bytes(), SystemTime::now())?;
        let mut request = self.client.post(&self.url).answer_by(Some(deadline.into_std())).idempotent();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let response =
            request.body(body.as_str().to_owned()).send().await.map_err(|error| self.request_error(error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.request_error(error))?;
        let body = Zeroizing::new(body.to_vec());
        if status == StatusCode::OK {
            let members = json::read_bytes(&body, BUDGET);
            return members.map(Ok).map_err(|_| (self.error)("the response is not a JSON object"));
        }
        self.rejection(status, &body).map(Err)
    }

    /// Returns the code of an error response. Only known codes are used; no text of the response is quoted.
    fn rejection(&self, status: StatusCode, body: &[u8]) -> Result<RejectionCode, AwsError> {
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.unavailable(format!("it responded with {status}")));
        }
        let object = json::read_bytes::<Map<String, Value>>(body, BUDGET).unwrap_or_default();
        let code = object.get("__type").and_then(Value::as_str).unwrap_or_default();
        // The code may have a namespace as its prefix.
        match code.rsplit('#').next().unwrap_or_default() {
            "ThrottlingException" | "RequestTimeoutException" | "InternalServiceError" | "InternalServerError" => {
                Err(self.unavailable("it throttled the request, or had an internal error"))
            }
            "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException" => {
                Err(AwsError::Credentials("the service rejected them: they are expired or invalid"))
            }
            code => Ok(RejectionCode(code.to_owned())),
        }
    }

    fn unavailable(&self, source: impl Into<BoxError>) -> AwsError {
        AwsError::Unavailable { service: self.name, source: source.into() }
    }

    fn request_error(&self, error: mcp_https::Error) -> AwsError {
        match error {
            mcp_https::Error::TooLarge { .. } => (self.error)("the response is too large"),
            mcp_https::Error::Compressed { .. } => (self.error)("the response is compressed"),
            error => self.unavailable(error),
        }
    }
}

/// Returns the end of a call: five seconds from now, or `answer_by`.
pub(crate) fn deadline(answer_by: Option<std::time::Instant>) -> Instant {
    let latest = Instant::now() + TIMEOUT;
    answer_by.map_or(latest, |end| latest.min(end.into()))
}

/// Returns the backoff with jitter: a random duration from half of it to all of it. The clock is the source of randomness,
/// because execution environments that were restored from one snapshot share all other state.
fn jitter(backoff: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    backoff / 2 + backoff / 2 * (nanos % 1000) / 1000
}
