//! Credentials of the function's execution role.

use std::{fmt, fs::File, io::Read, path::PathBuf, sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use mcp_https::{Client, HeaderValue, StatusCode, header};
use mcp_server::{
    InitError,
    json::{self, Budget},
    uri::is_loopback,
};
use serde_json::{Map, Value};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::AwsError;

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// Timeout of a request to the credentials endpoint, which is local.
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
const BUDGET: Budget = Budget::memory(128 * 1024);
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// Link-local addresses of the credentials endpoints of ECS and EKS.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// Source of AWS credentials: environment variables, or the container credentials endpoint. Lambda provides the endpoint to
/// functions that are restored from a snapshot (SnapStart).
///
/// Credentials in environment variables are constant: Lambda ends the execution environment before they expire. Credentials
/// of the endpoint expire, so they are fetched for each signature and not cached. `Debug` redacts credentials.
#[derive(Clone)]
pub struct CredentialSource(Source);

#[derive(Clone)]
enum Source {
    Environment(Credentials),
    Endpoint { url: String, client: Client, token: Token },
}

/// Source of the `Authorization` header for the credentials endpoint.
#[derive(Clone)]
enum Token {
    None,
    Fixed(Arc<Zeroizing<String>>),
    /// Read for each request, because the platform rotates the token.
    File(PathBuf),
}

impl CredentialSource {
    /// Reads environment variables through the lookup function `get`. The error message names `variable`, the setting that
    /// needs credentials. The order of precedence is that of the AWS SDKs:
    ///
    /// 1. `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, with `AWS_SESSION_TOKEN` if it is set.
    /// 2. The endpoint `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, else `AWS_CONTAINER_CREDENTIALS_FULL_URI`. Its token is
    ///    `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, else `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    ///
    /// # Errors
    ///
    /// When neither source is configured, or the endpoint is neither an `https` URL nor an `http` URL of this machine or of
    /// a container service.
    pub fn from_env<'a>(variable: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        if let (Some(id), Some(secret)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            let session = get("AWS_SESSION_TOKEN").map(str::to_owned);
            return Ok(Self(Source::Environment(Credentials::new(id, secret, session, None, "environment"))));
        }
        let url = match (get(RELATIVE_URI), get(FULL_URI)) {
            (Some(path), _) if path.starts_with('/') => format!("http://{}{path}", CONTAINER_HOSTS[0]),
            (Some(_), _) => return Err(InitError::secret(RELATIVE_URI, "a path that begins with `/`")),
            (None, Some(url)) => url.to_owned(),
            (None, None) => {
                return Err(InitError::new(format!(
                    "{variable} needs AWS credentials, which Lambda sets: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                     or {FULL_URI}"
                )));
            }
        };
        let client = endpoint_client(&url).ok_or_else(|| {
            InitError::secret(FULL_URI, "an https URL, or an http URL of this machine or of a container service")
        })?;
        let token = match (get(TOKEN_FILE), get(TOKEN)) {
            (Some(path), _) => Token::File(path.into()),
            (None, Some(token)) => Token::Fixed(Arc::new(Zeroizing::new(token.to_owned()))),
            (None, None) => Token::None,
        };
        Ok(Self(Source::Endpoint { url, client, token }))
    }

    /// Returns the current credentials. A request to the endpoint has a timeout of two seconds, and ends at `answer_by`.
    ///
    /// # Errors
    ///
    /// [`AwsError::Unavailable`] if the endpoint cannot be reached in time, or responds with 429 or 5xx.
    /// [`AwsError::Credentials`] if it rejects the request, its token cannot be read, or its response has no credentials.
    pub async fn load(&self, answer_by: Option<std::time::Instant>) -> Result<Credentials, AwsError> {
        let (url, client, token) = match &self.0 {
            Source::Environment(credentials) => return Ok(credentials.clone()),
            Source::Endpoint { url, client, token } => (url, client, token),
        };
        let mut request = client.get(url).answer_by(answer_by).header(header::ACCEPT, "application/json");
        if let Some(token) = token.read()? {
            request = request.header(header::AUTHORIZATION, token);
        }
        let response = request.send().await.map_err(request_error)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(unavailable(format!("it responded with {status}")));
            }
            _ => return Err(AwsError::Credentials("the credentials endpoint rejected the request")),
        }
        parse(&response.bytes().await.map_err(request_error)?)
    }

    /// [`load`](Self::load) with a deadline of tokio's clock.
    pub(crate) async fn load_until(&self, ends: Instant) -> Result<Credentials, AwsError> {
        self.load(Some(ends.into_std())).await
    }
}

impl Token {
    fn read(&self) -> Result<Option<HeaderValue>, AwsError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Fixed(token) => Zeroizing::new(token.to_string()),
            Self::File(path) => {
                let mut text = Zeroizing::new(String::new());
                let file = File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text));
                file.map_err(|_| AwsError::Credentials("the token file of the credentials endpoint cannot be read"))?;
                text
            }
        };
        let invalid = |_| AwsError::Credentials("the token of the credentials endpoint is not a valid header value");
        let mut value = HeaderValue::try_from(text.trim_end()).map_err(invalid)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Returns the HTTP client for a credentials endpoint. `None` if the URL is not trusted: it is neither `https`, nor `http` on
/// loopback or at a container service's address.
fn endpoint_client(url: &str) -> Option<Client> {
    let client = match url.strip_prefix("http://") {
        Some(rest) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => authority,
            };
            match host {
                host if CONTAINER_HOSTS.contains(&host) => mcp_https::dangerously_unrestricted(),
                // The client also checks the address that the name resolves to.
                host if is_loopback(host) => Client::trusted(),
                _ => return None,
            }
        }
        None if url.starts_with("https://") => Client::trusted(),
        None => return None,
    };
    Some(client.timeout(TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES))
}

fn parse(body: &[u8]) -> Result<Credentials, AwsError> {
    const MALFORMED: AwsError = AwsError::Credentials("the response of the credentials endpoint has no credentials");
    let mut object = json::read_bytes::<Map<String, Value>>(body, BUDGET).map_err(|_| MALFORMED)?;
    let mut text = |name: &str| match object.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else { return Err(MALFORMED) };
    Ok(Credentials::new(id, secret, text("Token"), None, "endpoint"))
}

fn unavailable(source: impl Into<mcp_server::BoxError>) -> AwsError {
    AwsError::Unavailable { service: "the credentials endpoint", source: source.into() }
}

fn request_error(error: mcp_https::Error) -> AwsError {
    match error {
        error if error.is_transient() => unavailable(error),
        mcp_https::Error::TooLarge { .. } => {
            AwsError::Credentials("the response of the credentials endpoint is too large")
        }
        _ => AwsError::Credentials("the request to the credentials endpoint failed"),
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Environment(_) => "CredentialSource(environment)",
            Source::Endpoint { .. } => "CredentialSource(endpoint)",
        })
    }
}
