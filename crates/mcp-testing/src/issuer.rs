//! Test issuer on loopback: metadata, keys, and tokens in the formats of common identity providers.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::keys::{TestKey, base64};

/// URL of a service in [`exchange`](crate::exchange), which is the audience of its tokens.
pub const TEST_AUDIENCE: &str = "https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp";
/// Client id of test tokens.
pub const TEST_CLIENT: &str = "test-client";

/// Identity provider whose token format an issuer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Access tokens of RFC 9068; metadata found by discovery.
    Standard,
    /// Google ID tokens.
    Google,
    /// Amazon Cognito.
    Cognito,
    /// Auth0.
    Auth0,
    /// Okta.
    Okta,
    /// Microsoft Entra, token version 2.
    Entra,
    /// Keycloak.
    Keycloak,
}

impl Provider {
    /// All providers.
    pub const ALL: [Self; 7] =
        [Self::Standard, Self::Google, Self::Cognito, Self::Auth0, Self::Okta, Self::Entra, Self::Keycloak];

    /// Returns the prefix of scopes in authorization requests, and, except for Entra, in tokens.
    pub fn scope_prefix(self) -> &'static str {
        match self {
            Self::Cognito => "https://events.example/",
            Self::Entra => "api://3f2a/",
            Self::Standard | Self::Google | Self::Auth0 | Self::Okta | Self::Keycloak => "",
        }
    }
}

/// Issuer on loopback, which stops when it is dropped.
///
/// ```
/// use mcp_lambda::{Env, FromEnv, HttpConfig, McpService};
/// use mcp_server::Server;
/// use mcp_testing::{TestIssuer, discover, exchange};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let issuer = TestIssuer::start().await;
/// let config = HttpConfig::from_env(&Env::from_pairs(issuer.variables())).unwrap();
/// let service = McpService::new(Server::new("greeter", "0.1.0", ()), config).unwrap();
///
/// let without = exchange(&service, discover()).await;
/// let with = exchange(&service, discover().bearer(&issuer.token(["openid"]))).await;
///
/// assert_eq!((without.status.as_u16(), with.status.as_u16()), (401, 200));
/// # }
/// ```
#[derive(Debug)]
pub struct TestIssuer {
    provider: Provider,
    /// Origin that the issuer listens on.
    origin: String,
    /// Issuer identifier, the claim `iss` of tokens.
    issuer: String,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    responses: HashMap<String, IssuerResponse>,
    requests: HashMap<String, usize>,
    bodies: HashMap<String, Vec<String>>,
}

/// Response of the issuer at one path.
#[derive(Debug, Clone)]
pub enum IssuerResponse {
    /// JSON document.
    Json {
        /// Body, which can be invalid JSON.
        body: String,
        /// `Cache-Control` header; none if empty.
        cache_control: &'static str,
    },
    /// Empty response with this status.
    Status(u16),
    /// JSON document with another status than 200.
    Failure(u16, String),
    /// Redirect (302) to a URL.
    Redirect(String),
    /// No response.
    Silence,
    /// Endless body.
    Endless,
    /// Delayed response.
    Late(Duration, Box<IssuerResponse>),
}

impl IssuerResponse {
    /// Creates a JSON response.
    pub fn json(body: &Value) -> Self {
        Self::Json { body: body.to_string(), cache_control: "" }
    }
}

const KEYS_PATH: &str = "/keys";

impl TestIssuer {
    /// Starts an issuer that follows the specifications.
    pub async fn start() -> Self {
        Self::of(Provider::Standard).await
    }

    /// Starts an issuer with the token format of a provider. Except for [`Provider::Standard`], the claim `iss` is the
    /// provider's own, and only the keys are served from loopback.
    pub async fn of(provider: Provider) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let issuer = match provider {
            Provider::Standard => origin.clone(),
            Provider::Google => "https://accounts.google.com".to_owned(),
            Provider::Cognito => "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TestPool1".to_owned(),
            Provider::Auth0 => "https://tenant.eu.auth0.com/".to_owned(),
            Provider::Okta => "https://tenant.okta.com/oauth2/default".to_owned(),
            Provider::Entra => "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0".to_owned(),
            Provider::Keycloak => "https://id.example.com/realms/main".to_owned(),
        };
        let state = Arc::new(Mutex::new(State::default()));
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        let own = Self { provider, origin, issuer, state, server };
        let metadata = json!({
            "issuer": own.issuer,
            "jwks_uri": own.keys_url(),
            "authorization_endpoint": format!("{}/authorize", own.origin),
            "token_endpoint": format!("{}/token", own.origin),
            "code_challenge_methods_supported": ["S256"],
        });
        own.set_response("/.well-known/openid-configuration", IssuerResponse::json(&metadata));
        own.publish([TestKey::rsa().jwk("rsa"), TestKey::p256().jwk("p256")]);
        own
    }

    /// Returns the issuer identifier, the claim `iss` of tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the origin that the issuer listens on.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the JWKS URL.
    pub fn keys_url(&self) -> String {
        format!("{}{KEYS_PATH}", self.origin)
    }

    /// Returns the environment variables that make a function trust this issuer.
    pub fn variables(&self) -> Vec<(String, String)> {
        let own = json!({ "issuer": self.issuer, "jwks_uri": self.keys_url() });
        let with = |more: Value| {
            let mut own = json!({ "jwks_uri": self.keys_url() });
            own.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            own
        };
        let entry = match self.provider {
            Provider::Standard => return vec![("OIDC_ISSUER".to_owned(), self.issuer.clone())],
            Provider::Google => with(json!({
                "preset": "google", "client_ids": [TEST_CLIENT], "hosted_domain": "example.com",
                "grant_scopes": ["events:read", "events:write"],
            })),
            Provider::Cognito => with(json!({
                "preset": "cognito", "user_pool_id": "eu-west-1_TestPool1", "client_ids": [TEST_CLIENT],
                "scope_prefix": self.provider.scope_prefix(),
            })),
            Provider::Entra => with(json!({
                "issuer": self.issuer, "audience": "3f2a", "scope_prefix": self.provider.scope_prefix(),
            })),
            Provider::Auth0 | Provider::Okta | Provider::Keycloak => own,
        };
        vec![("OIDC_ISSUERS".to_owned(), json!([entry]).to_string())]
    }

    /// Issues a valid token for the subject `ada` and the service of [`exchange`](crate::exchange). Google's tokens
    /// have no scopes.
    pub fn token<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> String {
        self.mint(scopes, |_, _| {})
    }

    /// Issues a token with modifications: `change` gets header and claims before they are signed with the RSA key.
    pub fn mint<'a>(
        &self,
        scopes: impl IntoIterator<Item = &'a str>,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> String {
        let mut header = json!({ "alg": "RS256", "kid": "rsa", "typ": self.token_type() });
        let mut claims = self.claims(&scopes.into_iter().collect::<Vec<_>>());
        change(&mut header, &mut claims);
        sign(&header.to_string(), &claims.to_string(), TestKey::rsa())
    }

    /// Issues an ID token for the subject `ada`.
    pub fn id_token(&self) -> String {
        self.mint([], |header, claims| {
            header["typ"] = json!("JWT");
            let claims = claims.as_object_mut().expect("an object");
            for name in ["scope", "scp", "client_id", "azp", "cid"] {
                claims.remove(name);
            }
            claims.insert("aud".to_owned(), json!(TEST_CLIENT));
            match self.provider {
                Provider::Cognito => claims.insert("token_use".to_owned(), json!("id")),
                Provider::Keycloak => claims.insert("typ".to_owned(), json!("ID")),
                _ => claims.insert("nonce".to_owned(), json!("n-0S6_WzA2Mj")),
            };
        })
    }

    fn token_type(&self) -> &'static str {
        if self.provider == Provider::Standard { "at+jwt" } else { "JWT" }
    }

    /// Returns the claims of a provider's access token (Google: ID token).
    fn claims(&self, scopes: &[&str]) -> Value {
        let now = now();
        let scopes: Vec<String> = scopes
            .iter()
            .map(|scope| match self.provider {
                Provider::Entra => (*scope).to_owned(),
                provider => format!("{}{scope}", provider.scope_prefix()),
            })
            .collect();
        let text = scopes.join(" ");
        let mut claims = json!({ "iss": self.issuer, "sub": "ada", "iat": now, "exp": now + 3600 });
        let own = match self.provider {
            Provider::Standard => json!({
                "aud": TEST_AUDIENCE, "client_id": TEST_CLIENT, "scope": text, "jti": "t-1",
                "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
            }),
            Provider::Google => json!({
                "aud": TEST_CLIENT, "azp": TEST_CLIENT, "email": "ada@example.com", "email_verified": true,
                "hd": "example.com", "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
            }),
            Provider::Cognito => json!({
                "token_use": "access", "client_id": TEST_CLIENT, "scope": text, "version": 2,
                "cognito:groups": ["staff"], "username": "ada",
            }),
            Provider::Auth0 => json!({
                "aud": [TEST_AUDIENCE, "https://tenant.eu.auth0.com/userinfo"], "azp": TEST_CLIENT, "scope": text,
                "permissions": scopes, "org_id": "org_1",
            }),
            Provider::Okta => {
                json!({ "aud": TEST_AUDIENCE, "cid": TEST_CLIENT, "uid": "00u1", "ver": 1, "scp": scopes })
            }
            Provider::Entra => json!({
                "aud": "3f2a", "azp": TEST_CLIENT, "azpacr": "0", "scp": text, "nbf": now,
                "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "oid": "o-1", "ver": "2.0", "roles": ["Reader"],
                "email": "ada@example.com",
            }),
            Provider::Keycloak => json!({
                "aud": [TEST_AUDIENCE, "account"], "azp": TEST_CLIENT, "typ": "Bearer", "scope": text,
                "realm_access": { "roles": ["staff"] }, "email": "ada@example.com", "email_verified": true,
            }),
        };
        claims.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        claims
    }

    /// Replaces the published keys.
    pub fn publish(&self, keys: impl IntoIterator<Item = Value>) {
        let keys: Vec<Value> = keys.into_iter().collect();
        self.set_response(KEYS_PATH, IssuerResponse::json(&json!({ "keys": keys })));
    }

    /// Sets the response of the JWKS URL.
    pub fn set_keys_response(&self, response: IssuerResponse) {
        self.set_response(KEYS_PATH, response);
    }

    /// Sets the response of a path.
    pub fn set_response(&self, path: &str, response: IssuerResponse) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).responses.insert(path.to_owned(), response);
    }

    /// Returns the number of requests to the JWKS URL.
    pub fn key_fetches(&self) -> usize {
        self.requests(KEYS_PATH)
    }

    /// Returns the number of requests to a path.
    pub fn requests(&self, path: &str) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requests.get(path).copied().unwrap_or(0)
    }

    /// Returns the bodies of the requests to a path.
    pub fn bodies(&self, path: &str) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bodies.get(path).cloned().unwrap_or_default()
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Signs a header and claims, unvalidated, as a compact JWS.
pub fn sign(header: &str, claims: &str, key: &TestKey) -> String {
    let algorithm: Value = serde_json::from_str(header).unwrap_or_default();
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = key.sign(algorithm["alg"].as_str().unwrap_or_default(), message.as_bytes());
    format!("{message}.{}", base64(signature))
}

/// Returns the current time in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections are closed with the issuer.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(connection(stream, Arc::clone(&state)));
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.map_or_else(|_| Bytes::new(), Collected::to_bytes);
            let response = {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                *state.requests.entry(path.clone()).or_default() += 1;
                let body = String::from_utf8_lossy(&body).into_owned();
                state.bodies.entry(path.clone()).or_default().push(body);
                state.responses.get(&path).cloned()
            };
            Ok::<_, Infallible>(respond(response.unwrap_or(IssuerResponse::Status(404))).await)
        }
    });
    // Errors are ignored: several tests close connections early.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(mut configured: IssuerResponse) -> Response<Body> {
    while let IssuerResponse::Late(delay, later) = configured {
        tokio::time::sleep(delay).await;
        configured = *later;
    }
    let mut response = Response::new(Full::default().boxed());
    match configured {
        IssuerResponse::Json { body, cache_control } => {
            if !cache_control.is_empty() {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
            }
            *response.body_mut() = Full::from(body).boxed();
        }
        IssuerResponse::Status(status) => *response.status_mut() = StatusCode::from_u16(status).expect("a status"),
        IssuerResponse::Failure(status, body) => {
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            *response.body_mut() = Full::from(body).boxed();
        }
        IssuerResponse::Redirect(target) => {
            *response.status_mut() = StatusCode::FOUND;
            let target = HeaderValue::from_str(&target).expect("a URL");
            response.headers_mut().insert(header::LOCATION, target);
        }
        IssuerResponse::Endless => {
            let piece = Bytes::from_static(br#"{"keys":[{"kty":"RSA"},"#);
            let pieces = stream::repeat(piece).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            *response.body_mut() = BodyExt::boxed(StreamBody::new(pieces));
        }
        IssuerResponse::Silence | IssuerResponse::Late(..) => std::future::pending().await,
    }
    response
}
