//! The client's secret: set, or fetched from Secrets Manager by one signed request. The AWS SDK would add a third to the
//! zip of a function that needs it for nothing else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use mcp_https::{Client, StatusCode};
use mcp_server::{
    BoxError, InitError,
    json::{self, Budget},
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::ExchangeError;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const TARGET: &str = "secretsmanager.GetSecretValue";
/// A secret has at most 64 KiB, which JSON escapes.
const MAX_ANSWER_BYTES: usize = 512 * 1024;
const BUDGET: Budget = Budget::memory(1024 * 1024);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two fetches of a secret that the issuer does not accept.
const COOLDOWN: Duration = Duration::from_secs(30);

/// A secret as it is held.
pub(crate) type SecretValue = Arc<Zeroizing<String>>;

/// Where the secret is.
#[derive(Clone)]
pub(crate) enum Secret {
    Fixed(SecretValue),
    Arn(SecretsManager),
}

/// A secret in Secrets Manager, and what a request for it is signed with.
#[derive(Clone)]
pub(crate) struct SecretsManager {
    arn: String,
    url: String,
    region: String,
    credentials: Credentials,
}

/// The secret, fetched when it is first needed.
pub(crate) struct ClientSecret {
    secret: Secret,
    client: Client,
    fetched: tokio::sync::Mutex<Option<SecretValue>>,
    expired: Mutex<Option<SystemTime>>,
}

impl ClientSecret {
    pub(crate) fn new(secret: Secret) -> Self {
        // The endpoint is AWS's, or the operator's for tests.
        let client = mcp_https::dangerously_unrestricted().timeout(TIMEOUT).max_response_bytes(MAX_ANSWER_BYTES);
        Self { secret, client, fetched: tokio::sync::Mutex::default(), expired: Mutex::default() }
    }

    pub(crate) async fn get(&self, answer_by: Option<Instant>) -> Result<SecretValue, ExchangeError> {
        let manager = match &self.secret {
            Secret::Fixed(value) => return Ok(Arc::clone(value)),
            Secret::Arn(manager) => manager,
        };
        let mut fetched = self.fetched.lock().await;
        if let Some(value) = &*fetched {
            return Ok(Arc::clone(value));
        }
        let value = manager.fetch(&self.client, SystemTime::now(), answer_by).await?;
        Ok(Arc::clone(fetched.insert(value)))
    }

    /// Discards a value that the issuer does not accept. Whether another may be fetched now.
    pub(crate) fn expire(&self, rejected: &SecretValue, now: SystemTime) -> bool {
        if matches!(self.secret, Secret::Fixed(_)) {
            return false;
        }
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        if expired.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < COOLDOWN)) {
            return false;
        }
        // Held by another, it is being fetched.
        let Ok(mut fetched) = self.fetched.try_lock() else { return true };
        if fetched.as_ref().is_some_and(|own| Arc::ptr_eq(own, rejected)) {
            *fetched = None;
            *expired = Some(now);
        }
        true
    }
}

impl SecretsManager {
    /// Lambda sets region and credentials in every environment of a function; `AWS_ENDPOINT_URL_SECRETS_MANAGER` is the
    /// SDKs' variable for another service.
    pub(crate) fn from_env<'a>(
        variable: &str,
        arn: &str,
        get: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, InitError> {
        let expected = "the ARN of a secret, such as arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf";
        let mut parts = arn.splitn(7, ':');
        let region = match [(); 4].map(|()| parts.next()) {
            [Some("arn"), Some(_), Some("secretsmanager"), Some(region)] if !region.is_empty() => region,
            _ => return Err(InitError::secret(variable, expected)),
        };
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(InitError::secret(variable, expected));
        }
        let needed = |name: &str| {
            get(name)
                .map(str::to_owned)
                .ok_or_else(|| InitError::new(format!("{variable} needs {name}, which Lambda sets")))
        };
        let credentials = Credentials::new(
            needed("AWS_ACCESS_KEY_ID")?,
            needed("AWS_SECRET_ACCESS_KEY")?,
            get("AWS_SESSION_TOKEN").map(str::to_owned),
            None,
            "environment",
        );
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = get("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| get("AWS_ENDPOINT_URL"));
        let url = endpoint.map_or_else(
            || format!("https://secretsmanager.{region}.{domain}/"),
            |endpoint| format!("{}/", endpoint.trim_end_matches('/')),
        );
        Ok(Self { arn: arn.to_owned(), url, region: region.to_owned(), credentials })
    }

    async fn fetch(
        &self,
        client: &Client,
        now: SystemTime,
        answer_by: Option<Instant>,
    ) -> Result<SecretValue, ExchangeError> {
        let body = json!({ "SecretId": self.arn }).to_string();
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", TARGET)];
        let signature = self
            .signature(&headers, body.as_bytes(), now)
            .map_err(|_| ExchangeError::Secret("the request for it cannot be signed"))?;
        let mut request = client.post(&self.url).answer_by(answer_by).idempotent().body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let unavailable = |error: mcp_https::Error| ExchangeError::Unavailable(error.into());
        let response = request.send().await.map_err(unavailable)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                return Err(ExchangeError::Secret("there is no such secret, or the function's role may not read it"));
            }
            status => {
                return Err(ExchangeError::Unavailable(format!("Secrets Manager responded with {status}").into()));
            }
        }
        let body = response.bytes().await.map_err(unavailable)?;
        let malformed = ExchangeError::Secret("it is binary, not text");
        let Ok(mut secret) = json::read_bytes::<Map<String, Value>>(&body, BUDGET) else { return Err(malformed) };
        match secret.remove("SecretString") {
            Some(Value::String(text)) if !text.trim().is_empty() => {
                let text = Zeroizing::new(text);
                Ok(Arc::new(Zeroizing::new(text.trim().to_owned())))
            }
            _ => Err(malformed),
        }
    }

    fn signature(
        &self,
        headers: &[(&str, &str)],
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<(String, String)>, BoxError> {
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("secretsmanager")
            .time(now)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let request = SignableRequest::new("POST", &self.url, headers.iter().copied(), SignableBody::Bytes(body))?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
