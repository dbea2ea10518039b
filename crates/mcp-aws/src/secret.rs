//! Secrets of Secrets Manager.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use mcp_https::{Client, StatusCode};
use mcp_server::{
    BoxError, InitError,
    json::{self, Budget},
};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use crate::{AwsError, CredentialSource, SigningScope, endpoint, sign_headers};

const SERVICE: &str = "Secrets Manager";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const TARGET: &str = "secretsmanager.GetSecretValue";
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// For a read with its retries.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
/// Backoff before the second attempt, which doubles.
const BACKOFF: Duration = Duration::from_millis(50);
/// A secret has at most 64 KiB, which JSON escapes.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;
const BUDGET: Budget = Budget::memory(1024 * 1024);

/// A secret in Secrets Manager, by its ARN, with the credentials to read it. Nothing is cached. `Debug` shows no credential.
#[derive(Clone)]
pub struct StoredSecret {
    arn: String,
    region: String,
    url: String,
    credentials: CredentialSource,
    client: Client,
}

/// The text of a secret, without leading and trailing white space. `Debug` does not show it, and its memory is overwritten
/// when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

/// The versions of a secret that are in use around a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretVersions {
    /// The version with the staging label `AWSCURRENT`.
    pub current: SecretText,
    /// The version with the staging label `AWSPREVIOUS`. A secret that was never changed has none. If the secret is rotated
    /// between both reads, it equals `current`.
    pub previous: Option<SecretText>,
}

impl SecretText {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Result of one attempt that has no text.
enum Failure {
    /// No version of the secret has the staging label, or there is no secret.
    NotFound,
    Error(AwsError),
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        Self::Error(error)
    }
}

impl StoredSecret {
    /// Reads credentials and endpoint from environment variables, which `get` looks up: those of [`CredentialSource`], and
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL`, `AWS_USE_DUALSTACK_ENDPOINT` and `AWS_USE_FIPS_ENDPOINT`, as
    /// the AWS SDKs do. `variable` is the setting that has the ARN. The region is that of the ARN.
    ///
    /// # Errors
    ///
    /// When `arn` is not the ARN of a secret, or there are no credentials; the error names the variable and not its value.
    pub fn from_env<'a>(variable: &str, arn: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let expected = "the ARN of a secret, such as arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf";
        // A secret in place of its ARN is not repeated.
        let invalid = || InitError::secret(variable, expected);
        let parts: Vec<&str> = arn.splitn(7, ':').collect();
        let ["arn", partition, "secretsmanager", region, _, "secret", name] = parts[..] else { return Err(invalid()) };
        let is_label = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if !is_label(partition) || !is_label(region) || name.is_empty() || arn.chars().any(char::is_control) {
            return Err(invalid());
        }
        // Some endpoints are plain HTTP: those of the operator.
        let client =
            mcp_https::dangerously_unrestricted().timeout(ATTEMPT_TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES);
        Ok(Self {
            arn: arn.to_owned(),
            region: region.to_owned(),
            url: endpoint::secrets_manager(partition, region, &get)?,
            credentials: CredentialSource::from_env(variable, get)?,
            client,
        })
    }

    /// Returns the ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Fetches the current version (`AWSCURRENT`).
    ///
    /// Takes at most five seconds, and ends at `answer_by`. An attempt that fails for a reason that may pass (timeout, lost
    /// connection, throttling, 5xx) is repeated, three attempts in all. A response has at most 512 KiB.
    ///
    /// # Errors
    ///
    /// [`AwsError::Unavailable`] if Secrets Manager cannot be reached in time; [`AwsError::Secret`] if there is no such
    /// secret, it may not be read, or it is binary, empty or white space; [`AwsError::Credentials`] if the function has none.
    pub async fn current(&self, answer_by: Option<std::time::Instant>) -> Result<SecretText, AwsError> {
        self.read(CURRENT, end(answer_by)).await?.ok_or(NOT_FOUND)
    }

    /// Fetches the current version and the previous one (`AWSPREVIOUS`), for example to open with an old key what it sealed
    /// before a rotation. Takes two requests, with the limits of [`current`](Self::current) for both together.
    ///
    /// # Errors
    ///
    /// Those of [`current`](Self::current), for either version. A missing previous version is not an error.
    pub async fn versions(&self, answer_by: Option<std::time::Instant>) -> Result<SecretVersions, AwsError> {
        let ends = end(answer_by);
        // The current version first: a rotation between both reads then hides the newest version, and not the one in use.
        let current = self.read(CURRENT, ends).await?.ok_or(NOT_FOUND)?;
        let previous = self.read(PREVIOUS, ends).await?;
        Ok(SecretVersions { current, previous })
    }

    /// Returns the version with a staging label, or `None` if there is none.
    async fn read(&self, stage: &str, ends: Instant) -> Result<Option<SecretText>, AwsError> {
        let mut backoff = BACKOFF;
        for attempt in 1.. {
            let result = timeout_at(ends, self.attempt(stage, ends)).await;
            let error = match result {
                Ok(Ok(text)) => return Ok(Some(text)),
                Ok(Err(Failure::NotFound)) => return Ok(None),
                Ok(Err(Failure::Error(error))) => error,
                Err(_) => return Err(unavailable("it did not respond in time")),
            };
            let wait = jitter(backoff);
            if !error.is_transient() || attempt == ATTEMPTS || Instant::now() + wait >= ends {
                return Err(error);
            }
            sleep(wait).await;
            backoff *= 2;
        }
        Ok(None)
    }

    async fn attempt(&self, stage: &str, ends: Instant) -> Result<SecretText, Failure> {
        let credentials = self.credentials.load_until(ends).await?;
        let body = json!({ "SecretId": self.arn, "VersionStage": stage }).to_string();
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", TARGET)];
        let scope = SigningScope { region: &self.region, service: "secretsmanager" };
        let signature = sign_headers(credentials, scope, &self.url, &headers, body.as_bytes(), SystemTime::now())?;
        let mut request = self.client.post(&self.url).answer_by(Some(ends.into_std())).idempotent().body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(request_error)?;
        let status = response.status();
        let body = Zeroizing::new(response.bytes().await.map_err(request_error)?.to_vec());
        if status == StatusCode::OK { Ok(parse(&body)?) } else { Err(rejection(status, &body)) }
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSecret")
            .field("arn", &self.arn)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

const NOT_FOUND: AwsError = AwsError::Secret("no secret has this ARN");

fn end(answer_by: Option<std::time::Instant>) -> Instant {
    let latest = Instant::now() + TIMEOUT;
    answer_by.map_or(latest, |deadline| latest.min(deadline.into()))
}

/// Adds jitter: half of the backoff to all of it. The source is the clock, which alone differs between environments that
/// were restored from one snapshot.
fn jitter(backoff: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    backoff / 2 + backoff / 2 * (nanos % 1000) / 1000
}

fn parse(body: &[u8]) -> Result<SecretText, AwsError> {
    let malformed = |_| AwsError::Secret("the response of Secrets Manager is not a JSON object");
    let mut object = json::read_bytes::<Map<String, Value>>(body, BUDGET).map_err(malformed)?;
    let Some(Value::String(text)) = object.remove("SecretString") else {
        return Err(AwsError::Secret("it is binary, not text"));
    };
    let text = Zeroizing::new(text);
    match text.trim() {
        "" => Err(AwsError::Secret("it is empty")),
        trimmed => Ok(SecretText(Zeroizing::new(trimmed.to_owned()))),
    }
}

/// Reads an error. Nothing of it is repeated but its code, which is one of a list.
fn rejection(status: StatusCode, body: &[u8]) -> Failure {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return unavailable(format!("it responded with {status}")).into();
    }
    let object = json::read_bytes::<Map<String, Value>>(body, BUDGET).unwrap_or_default();
    let code = object.get("__type").and_then(Value::as_str).unwrap_or_default();
    // A namespace may stand before the name.
    let reason = match code.rsplit('#').next().unwrap_or_default() {
        "ResourceNotFoundException" => return Failure::NotFound,
        "ThrottlingException" | "RequestTimeoutException" | "InternalServiceError" => {
            return unavailable("it throttles requests, or has an internal error").into();
        }
        "AccessDeniedException" => {
            "the function's role may not read it: allow secretsmanager:GetSecretValue, and kms:Decrypt for its key"
        }
        "DecryptionFailure" => "its key cannot decrypt it: check the key's policy and state",
        "InvalidRequestException" => "it is marked for deletion, or its version is not complete",
        "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException" => {
            return AwsError::Credentials("Secrets Manager rejected them: they expired, or are not valid").into();
        }
        _ => "Secrets Manager rejected the request",
    };
    AwsError::Secret(reason).into()
}

fn unavailable(source: impl Into<BoxError>) -> AwsError {
    AwsError::Unavailable { service: SERVICE, source: source.into() }
}

fn request_error(error: mcp_https::Error) -> Failure {
    match error {
        mcp_https::Error::TooLarge { .. } => AwsError::Secret("the response of Secrets Manager is too large").into(),
        mcp_https::Error::Compressed { .. } => AwsError::Secret("the response of Secrets Manager is compressed").into(),
        error => unavailable(error).into(),
    }
}
