//! Client ID metadata documents (draft-ietf-oauth-client-id-metadata-document-00): a client whose id is the URL of its metadata.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use mcp_https::{Client as HttpsClient, HostsError, StatusCode, foreign_with_hosts, header};
use mcp_server::{
    json::{self, Budget},
    uri::SecureUrl,
};

use crate::{
    Client, ClientKind, ErrorCode, OAuthError, authorization_request::MAX_CLIENT_ID_BYTES,
    client_metadata::ClientMetadata,
};

/// Maximum size of a document, in bytes. The draft recommends 5 KiB (section 6.6).
const MAX_DOCUMENT_BYTES: usize = 10 * 1024;
/// Timeout of a fetch.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Lifetime of a document in the cache: without `Cache-Control`, and its bounds.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
const MIN_AGE: Duration = Duration::from_secs(5 * 60);
const LONGEST_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A response with a document.
#[derive(Debug, Clone)]
pub struct FetchedDocument {
    /// The body.
    pub body: Vec<u8>,
    /// The header `Cache-Control`.
    pub cache_control: Option<String>,
}

/// The future of a fetch.
pub type FetchFuture = Pin<Box<dyn Future<Output = Result<FetchedDocument, FetchDocumentError>> + Send>>;

/// Fetches the document of a URL until the deadline.
type Fetch = dyn Fn(String, Option<Instant>) -> FetchFuture + Send + Sync;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchDocumentError {
    /// The request failed, or its address is not public.
    #[error("the document could not be fetched")]
    Https(#[from] mcp_https::Error),
    /// The status is not 200. Redirects are not followed.
    #[error("the response has the status {0}")]
    Status(StatusCode),
    /// The content type is not JSON.
    #[error("the response is not JSON")]
    ContentType,
}

/// Where documents come from.
#[derive(Clone)]
pub struct DocumentSource(Arc<Fetch>);

impl DocumentSource {
    /// Fetches documents by `https`, within three seconds, at most 10 KiB: from public addresses, and from the hosts in
    /// `MCP_FOREIGN_HOSTS`.
    ///
    /// # Errors
    ///
    /// When `MCP_FOREIGN_HOSTS` or `MCP_FOREIGN_AUTHORITY_FILE` is invalid.
    pub fn from_env<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, HostsError> {
        let client = foreign_with_hosts(get)?.timeout(TIMEOUT).max_response_bytes(MAX_DOCUMENT_BYTES);
        Ok(Self::new(move |url, deadline| Box::pin(fetch(client.clone(), url, deadline))))
    }

    /// Fetches documents by a function, for tests.
    pub fn new(fetch: impl Fn(String, Option<Instant>) -> FetchFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(fetch))
    }

    pub(crate) async fn fetch(
        &self,
        url: &str,
        deadline: Option<Instant>,
    ) -> Result<FetchedDocument, FetchDocumentError> {
        (self.0)(url.to_owned(), deadline).await
    }
}

impl fmt::Debug for DocumentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DocumentSource(..)")
    }
}

async fn fetch(
    client: HttpsClient,
    url: String,
    deadline: Option<Instant>,
) -> Result<FetchedDocument, FetchDocumentError> {
    let response = client.get(&url).header(header::ACCEPT, "application/json").answer_by(deadline).send().await?;
    if response.status() != StatusCode::OK {
        return Err(FetchDocumentError::Status(response.status()));
    }
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let is_json = text(header::CONTENT_TYPE).is_some_and(|own| {
        let own = own.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        own == "application/json" || own.starts_with("application/") && own.ends_with("+json")
    });
    if !is_json {
        return Err(FetchDocumentError::ContentType);
    }
    let cache_control = text(header::CACHE_CONTROL);
    Ok(FetchedDocument { body: response.bytes().await?.to_vec(), cache_control })
}

/// Whether a client id is meant as the URL of a document.
pub(crate) fn is_url(client_id: &str) -> bool {
    client_id.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

/// Checks the form of a client id that is a URL (draft, section 3). A query is rejected too, which the draft only advises against, and
/// upper case in scheme and host: one client has one id, and people cannot tell `cIaude.ai` from `claude.ai`.
pub(crate) fn check_url(client_id: &str) -> Result<(), OAuthError> {
    let url = SecureUrl::parse(client_id).filter(|url| url.is_https && client_id.len() <= MAX_CLIENT_ID_BYTES);
    let is_valid = url.is_some_and(|url| {
        let has_dots = url.path.split('/').any(is_dot_segment);
        let is_lower = client_id.starts_with("https://") && !url.host.bytes().any(|byte| byte.is_ascii_uppercase());
        url.query.is_none() && url.fragment.is_none() && url.path.len() > 1 && !has_dots && is_lower
    });
    if is_valid {
        return Ok(());
    }
    Err(OAuthError::new(
        ErrorCode::InvalidClientMetadata,
        "a client_id that is a URL must be https in lower case with a path, without query, fragment and dot segments",
    ))
}

/// Whether a segment is `.` or `..`, also percent-encoded.
fn is_dot_segment(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    matches!(plain.as_str(), "." | "..")
}

/// Parses the document of a client.
///
/// # Errors
///
/// When it is not JSON, its `client_id` is not its URL, no redirect URI is allowed, or the client always authenticates by a secret or
/// a key.
pub(crate) fn parse(client_id: &str, body: &[u8]) -> Result<Client, OAuthError> {
    let invalid = |description| OAuthError::new(ErrorCode::InvalidClientMetadata, description);
    if body.len() > MAX_DOCUMENT_BYTES {
        return Err(invalid("the metadata document of the client is too large"));
    }
    let metadata: ClientMetadata = json::read_bytes(body, Budget::memory(1024 * 1024))
        .map_err(|_| invalid("the metadata document of the client is malformed"))?;
    if metadata.client_id.as_deref() != Some(client_id) {
        return Err(invalid("the client_id in the metadata document is not its URL"));
    }
    // A public document cannot hold a secret (draft, section 4.1).
    if metadata.client_secret.is_some() || !metadata.can_be_public() {
        return Err(invalid("the metadata document must have no client_secret, and none as an authentication method"));
    }
    let valid = metadata.validate(true).map_err(|error| invalid(error.description))?;
    Ok(Client {
        id: client_id.to_owned(),
        kind: ClientKind::Document,
        name: valid.name,
        redirect_uris: valid.redirect_uris,
        refreshes: valid.refreshes,
    })
}

/// Returns how long a document may be used: `max-age` of the header, from five minutes to a day.
pub(crate) fn lifetime(cache_control: Option<&str>) -> Duration {
    let directives = cache_control.unwrap_or_default().split(',').map(|own| own.trim().to_ascii_lowercase());
    let mut age = MAX_AGE;
    for directive in directives {
        match directive.split_once('=') {
            Some(("max-age", seconds)) => {
                age = seconds.trim_matches('"').parse().map_or(MIN_AGE, Duration::from_secs);
            }
            None if matches!(directive.as_str(), "no-store" | "no-cache") => return MIN_AGE,
            _ => {}
        }
    }
    age.clamp(MIN_AGE, LONGEST_AGE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    const ID: &str = "https://app.example/oauth/client.json";

    fn document() -> Value {
        json!({
            "client_id": ID, "client_name": "App", "client_uri": "https://app.example",
            "redirect_uris": ["https://app.example/callback", "http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none",
        })
    }

    #[test]
    fn a_client_id_is_an_https_url_with_a_path() {
        for id in [ID, "https://app.example:8443/a", "https://app.example/a%2Fb/C", "https://xn--bcher-kva.example/c"] {
            assert!(is_url(id) && check_url(id).is_ok(), "{id}");
        }
        let long = format!("https://app.example/{}", "x".repeat(512));
        for id in [
            "https://app.example",
            "https://app.example/",
            "http://app.example/client.json",
            "http://localhost/client.json",
            "https://user@app.example/client.json",
            "https://user:password@app.example/client.json",
            "https://app.example/client.json#fragment",
            "https://app.example/client.json?tenant=1",
            "https://app.example/./client.json",
            "https://app.example/a/../client.json",
            "https://app.example/a/%2e%2E/client.json",
            "https://app.example/..",
            "https://b\u{fc}cher.example/client.json",
            "https://app.example\\@evil.example/client.json",
            "https://app.example%2eevil.example/client.json",
            "https://app.example/client json",
            "HTTPS://app.example/client.json",
            "https://cIaude.ai/client.json",
            &long,
        ] {
            assert!(check_url(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_document_describes_the_client_of_its_url() {
        let client = parse(ID, document().to_string().as_bytes()).unwrap();

        assert_eq!((client.id.as_str(), client.name.as_deref()), (ID, Some("App")));
        assert_eq!((client.redirect_uris.len(), client.refreshes), (2, true));
    }

    #[test]
    fn a_client_that_prefers_a_key_is_public_if_it_supports_none() {
        // As in the documents of ChatGPT, Codex and Visual Studio Code.
        for members in [
            json!({
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
                "token_endpoint_auth_signing_alg": "RS256", "jwks_uri": "https://app.example/jwks.json",
            }),
            json!({
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
            }),
            json!({
                "token_endpoint_auth_method": "none", "token_endpoint_auth_methods_supported": ["none"],
                "application_type": "native",
            }),
            json!({
                "token_endpoint_auth_method": "none",
                "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            }),
            json!({ "token_endpoint_auth_method": null }),
        ] {
            let mut own = document();
            own.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());

            let client = parse(ID, own.to_string().as_bytes()).unwrap();

            assert!(client.refreshes && client.redirect_uris.len() == 2, "{members}");
        }
    }

    #[test]
    fn forged_documents_are_rejected() {
        let with = |name: &str, value: Value| {
            let mut own = document();
            own[name] = value;
            own.to_string()
        };
        let with_methods = |own: &str, supported: Value| {
            let mut document = document();
            document["token_endpoint_auth_method"] = own.into();
            document["token_endpoint_auth_methods_supported"] = supported;
            document.to_string()
        };
        let wide = format!(r#"{{"redirect_uris":[{}]}}"#, vec!["1"; 2000].join(","));
        for body in [
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
            "<html>".to_owned(),
            "[".repeat(10_000),
            wide,
            with("client_id", json!("https://other.example/client.json")),
            with("client_id", json!("https://app.example/oauth/client.json/")),
            with("client_id", json!("https://APP.example/oauth/client.json")),
            with("client_id", Value::Null),
            with("client_id", json!([ID])),
            with("redirect_uris", json!([])),
            with("redirect_uris", json!("https://app.example/callback")),
            with("redirect_uris", json!(["http://app.example/callback"])),
            with("redirect_uris", json!(["javascript:alert(1)", "data:text/html,x"])),
            with("redirect_uris", json!(vec!["https://app.example/callback"; 21])),
            with("token_endpoint_auth_method", json!("client_secret_basic")),
            with("token_endpoint_auth_method", json!("private_key_jwt")),
            with_methods("private_key_jwt", json!(["private_key_jwt"])),
            with_methods("client_secret_basic", json!(["client_secret_post", "None"])),
            with_methods("private_key_jwt", json!("none")),
            with_methods("private_key_jwt", json!([])),
            with("client_secret", json!("s3cret")),
            with("response_types", json!(["token"])),
            with("grant_types", json!(["implicit"])),
            with("client_uri", json!("x".repeat(MAX_DOCUMENT_BYTES))),
        ] {
            let error = parse(ID, body.as_bytes()).unwrap_err();

            assert_eq!(error.code, ErrorCode::InvalidClientMetadata, "{}", &body[..body.len().min(200)]);
        }
    }

    #[tokio::test]
    async fn a_document_of_a_configured_host_is_fetched_from_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hosts = format!("app.example={}", listener.local_addr().unwrap());
        let source = DocumentSource::from_env(|name| (name == "MCP_FOREIGN_HOSTS").then_some(hosts.as_str())).unwrap();

        // The peer ends the connection before the TLS handshake.
        let accept = async { drop(listener.accept().await.unwrap()) };
        let (fetched, accepted) = tokio::join!(source.fetch(ID, None), tokio::time::timeout(TIMEOUT, accept));

        assert!(accepted.is_ok());
        assert!(matches!(fetched, Err(FetchDocumentError::Https(_))), "{fetched:?}");
        assert!(DocumentSource::from_env(|name| (name == "MCP_FOREIGN_HOSTS").then_some("x")).is_err());
    }

    #[test]
    fn the_lifetime_of_a_document_is_that_of_its_headers_within_bounds() {
        for (header, seconds) in [
            (None, 3600),
            (Some("public"), 3600),
            (Some("max-age=600"), 600),
            (Some("public, MAX-AGE=\"7200\""), 7200),
            (Some("max-age=0"), 300),
            (Some("max-age=-1"), 300),
            (Some("max-age=x"), 300),
            (Some("no-store"), 300),
            (Some("max-age=7200, no-cache"), 300),
            (Some("max-age=99999999999"), 86_400),
        ] {
            assert_eq!(lifetime(header), Duration::from_secs(seconds), "{header:?}");
        }
    }
}
