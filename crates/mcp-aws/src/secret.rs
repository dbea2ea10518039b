//! Secrets in AWS Secrets Manager.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use mcp_server::InitError;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    AwsError, CredentialSource, endpoint,
    json_service::{JsonService, RejectionCode, deadline},
};

const READ: &str = "secretsmanager.GetSecretValue";
const WRITE: &str = "secretsmanager.PutSecretValue";
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// A secret in Secrets Manager: its ARN, and the credentials to read it. Each read is a request; nothing is cached. `Debug`
/// redacts credentials.
#[derive(Clone)]
pub struct StoredSecret {
    arn: String,
    service: JsonService,
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
    /// When the current version was created, if the response has the time.
    pub current_created: Option<SystemTime>,
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

/// A version of a secret.
struct Version {
    text: SecretText,
    created: Option<SystemTime>,
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
        let url = endpoint::secrets_manager(partition, region, &get)?;
        let credentials = CredentialSource::from_env(variable, get)?;
        let service =
            JsonService::new(("Secrets Manager", "secretsmanager"), region, url, credentials, AwsError::Secret);
        Ok(Self { arn: arn.to_owned(), service })
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
        Ok(self.read(CURRENT, deadline(answer_by)).await?.ok_or(NOT_FOUND)?.text)
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
        Ok(SecretVersions {
            current: current.text,
            current_created: current.created,
            previous: previous.map(|version| version.text),
        })
    }

    /// Writes a new version, which becomes the current one; the one before is the previous version. `request_token` identifies the write,
    /// so that a repeated request writes once: 32 to 64 letters, digits and hyphens, such as Lambda's request id. The timeout is that of
    /// [`current`](Self::current).
    ///
    /// # Errors
    ///
    /// As [`current`](Self::current).
    pub async fn put(
        &self,
        text: &str,
        request_token: &str,
        answer_by: Option<std::time::Instant>,
    ) -> Result<(), AwsError> {
        let body = json!({ "SecretId": self.arn, "SecretString": text, "ClientRequestToken": request_token });
        let body = Zeroizing::new(body.to_string());
        match self.service.call(WRITE, &body, deadline(answer_by)).await? {
            Ok(_) => Ok(()),
            Err(RejectionCode(code)) if code == "AccessDeniedException" => Err(AwsError::Secret(
                "the function's role may not write it: allow secretsmanager:PutSecretValue, and kms:GenerateDataKey for its key",
            )),
            Err(RejectionCode(code)) if code == "ResourceNotFoundException" => Err(NOT_FOUND),
            Err(code) => Err(rejected(code)),
        }
    }

    /// Fetches the version with a staging label. `None` if no version has the label.
    async fn read(&self, stage: &str, deadline: Instant) -> Result<Option<Version>, AwsError> {
        let body = json!({ "SecretId": self.arn, "VersionStage": stage }).to_string();
        match self.service.call(READ, &Zeroizing::new(body), deadline).await? {
            Ok(members) => version(members).map(Some),
            Err(RejectionCode(code)) if code == "ResourceNotFoundException" => Ok(None),
            Err(code) => Err(rejected(code)),
        }
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSecret")
            .field("arn", &self.arn)
            .field("credentials", &self.service.credentials)
            .finish_non_exhaustive()
    }
}

const NOT_FOUND: AwsError = AwsError::Secret("no secret has this ARN");

fn version(mut members: Map<String, Value>) -> Result<Version, AwsError> {
    let Some(Value::String(text)) = members.remove("SecretString") else {
        return Err(AwsError::Secret("it is binary, not text"));
    };
    let text = Zeroizing::new(text);
    // Seconds since 1970, with a fraction.
    let created = members.get("CreatedDate").and_then(Value::as_f64);
    let created = created.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let created = created.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    match text.trim() {
        "" => Err(AwsError::Secret("it is empty")),
        trimmed => Ok(Version { text: SecretText(Zeroizing::new(trimmed.to_owned())), created }),
    }
}

fn rejected(RejectionCode(code): RejectionCode) -> AwsError {
    AwsError::Secret(match code.as_str() {
        "AccessDeniedException" => {
            "the function's role may not read it: allow secretsmanager:GetSecretValue, and kms:Decrypt for its key"
        }
        "DecryptionFailure" => "its key cannot decrypt it: check the key's policy and state",
        "InvalidRequestException" => "it is marked for deletion, or its version is not complete",
        _ => "Secrets Manager rejected the request",
    })
}
