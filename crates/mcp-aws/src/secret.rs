//! Secrets in AWS Secrets Manager.

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
/// Timeout of one read, retries included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
/// Backoff before the first retry. It doubles with each retry.
const BACKOFF: Duration = Duration::from_millis(50);
/// A secret has at most 64 KiB. JSON escapes can multiply that by six.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;
const BUDGET: Budget = Budget::memory(1024 * 1024);

/// A secret in Secrets Manager: its ARN, and the credentials to read it. Each read is a request; nothing is cached. `Debug`
/// redacts credentials.
#[derive(Clone)]
pub struct StoredSecret {
    arn: String,
    region: String,
    url: String,
    credentials: CredentialSource,
    client: Client,
}

/// The text of a secret, without leading and trailing white space. `Debug` redacts it, and its memory is overwritten when it
/// is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

/// The versions of a secret that may be in use during a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretVersions {
    /// The version with the staging label `AWSCURRENT`.
    pub current: SecretText,
    /// The version with the staging label `AWSPREVIOUS`. `None` for a secret that was never rotated. Equal to `current` if
    /// the secret is rotated between the two reads.
    pub previous: Option<SecretText>,
}

impl SecretText {
    /// Returns the text of the secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Why one attempt returned no text.
enum AttemptError {
    /// The secret does not exist, or no version of it has the staging label.
    NotFound,
    Other(AwsError),
}

impl From<AwsError> for AttemptError {
    fn from(error: AwsError) -> Self {
        Self::Other(error)
    }
}

impl StoredSecret {
    /// Reads credentials and endpoint from environment variables, through the lookup function `get`. The variables are those
    /// of [`CredentialSource::from_env`], and `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL`,
    /// `AWS_USE_DUALSTACK_ENDPOINT` and `AWS_USE_FIPS_ENDPOINT` with the meaning that they have for the AWS SDKs. `variable`
    /// is the name of the setting that contains the ARN. The region is that of the ARN.
    ///
    /// # Errors
    ///
    /// When `arn` is not the ARN of a secret, an endpoint variable is invalid, or no credentials are configured. The error
    /// names the variable, and does not quote its value.
    pub fn from_env<'a>(variable: &str, arn: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let expected = "the ARN of a secret, such as arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf";
        // Redacted: the value may be the secret itself in place of its ARN.
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
        // Unrestricted, because an endpoint that the operator configures may be plain HTTP.
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

    /// Returns the ARN of the secret.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Fetches the current version (`AWSCURRENT`).
    ///
    /// The read has a timeout of five seconds, and ends at `answer_by`. A transient failure (timeout, lost connection,
    /// throttling, 5xx) is retried with backoff, three attempts in all. A response has at most 512 KiB.
    ///
    /// # Errors
    ///
    /// - [`AwsError::Unavailable`]: Secrets Manager or the credentials endpoint cannot be reached in time.
    /// - [`AwsError::Secret`]: the secret does not exist, may not be read, or is binary, empty or white space.
    /// - [`AwsError::Credentials`]: there are no valid credentials.
    /// - [`AwsError::Signature`]: the request cannot be signed.
    pub async fn current(&self, answer_by: Option<std::time::Instant>) -> Result<SecretText, AwsError> {
        self.read(CURRENT, deadline(answer_by)).await?.ok_or(NOT_FOUND)
    }

    /// Fetches the current version and the previous one (`AWSPREVIOUS`). Use it for keys: data that was encrypted before a
    /// rotation needs the previous key. It sends two requests, which share the timeout of [`current`](Self::current).
    ///
    /// # Errors
    ///
    /// Those of [`current`](Self::current), for either version. A missing previous version is not an error.
    pub async fn versions(&self, answer_by: Option<std::time::Instant>) -> Result<SecretVersions, AwsError> {
        let deadline = deadline(answer_by);
        // Current first: after a rotation between the two reads, both return the version that was current before. The other
        // order would miss that version.
        let current = self.read(CURRENT, deadline).await?.ok_or(NOT_FOUND)?;
        let previous = self.read(PREVIOUS, deadline).await?;
        Ok(SecretVersions { current, previous })
    }

    /// Fetches the version with a staging label, with retries. `None` if no version has the label.
    async fn read(&self, stage: &str, deadline: Instant) -> Result<Option<SecretText>, AwsError> {
        let mut backoff = BACKOFF;
        for attempt in 1.. {
            let result = timeout_at(deadline, self.attempt(stage, deadline)).await;
            let error = match result {
                Ok(Ok(text)) => return Ok(Some(text)),
                Ok(Err(AttemptError::NotFound)) => return Ok(None),
                Ok(Err(AttemptError::Other(error))) => error,
                Err(_) => return Err(unavailable("it did not respond in time")),
            };
            let wait = jitter(backoff);
            if !error.is_transient() || attempt == ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(error);
            }
            sleep(wait).await;
            backoff *= 2;
        }
        Ok(None)
    }

    async fn attempt(&self, stage: &str, deadline: Instant) -> Result<SecretText, AttemptError> {
        let credentials = self.credentials.load_until(deadline).await?;
        let body = json!({ "SecretId": self.arn, "VersionStage": stage }).to_string();
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", TARGET)];
        let scope = SigningScope { region: &self.region, service: "secretsmanager" };
        let signature = sign_headers(credentials, scope, &self.url, &headers, body.as_bytes(), SystemTime::now())?;
        let mut request = self.client.post(&self.url).answer_by(Some(deadline.into_std())).idempotent().body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(request_error)?;
        let status = response.status();
        let body = Zeroizing::new(response.bytes().await.map_err(request_error)?.to_vec());
        if status == StatusCode::OK { Ok(parse(&body)?) } else { Err(error_of_response(status, &body)) }
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

fn deadline(answer_by: Option<std::time::Instant>) -> Instant {
    let latest = Instant::now() + TIMEOUT;
    answer_by.map_or(latest, |end| latest.min(end.into()))
}

/// Returns the backoff with jitter: a random duration from half of it to all of it. The clock is the source of randomness,
/// because execution environments that were restored from one snapshot share all other state.
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

/// Maps an error response to an error. Only known error codes are used; no text of the response is quoted.
fn error_of_response(status: StatusCode, body: &[u8]) -> AttemptError {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return unavailable(format!("it responded with {status}")).into();
    }
    let object = json::read_bytes::<Map<String, Value>>(body, BUDGET).unwrap_or_default();
    let code = object.get("__type").and_then(Value::as_str).unwrap_or_default();
    // The code may have a namespace as its prefix.
    let reason = match code.rsplit('#').next().unwrap_or_default() {
        "ResourceNotFoundException" => return AttemptError::NotFound,
        "ThrottlingException" | "RequestTimeoutException" | "InternalServiceError" => {
            return unavailable("it throttled the request, or had an internal error").into();
        }
        "AccessDeniedException" => {
            "the function's role may not read it: allow secretsmanager:GetSecretValue, and kms:Decrypt for its key"
        }
        "DecryptionFailure" => "its key cannot decrypt it: check the key's policy and state",
        "InvalidRequestException" => "it is marked for deletion, or its version is not complete",
        "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException" => {
            return AwsError::Credentials("Secrets Manager rejected them: they are expired or invalid").into();
        }
        _ => "Secrets Manager rejected the request",
    };
    AwsError::Secret(reason).into()
}

fn unavailable(source: impl Into<BoxError>) -> AwsError {
    AwsError::Unavailable { service: SERVICE, source: source.into() }
}

fn request_error(error: mcp_https::Error) -> AttemptError {
    match error {
        mcp_https::Error::TooLarge { .. } => AwsError::Secret("the response of Secrets Manager is too large").into(),
        mcp_https::Error::Compressed { .. } => AwsError::Secret("the response of Secrets Manager is compressed").into(),
        error => unavailable(error).into(),
    }
}
