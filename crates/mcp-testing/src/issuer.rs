//! An issuer of tokens on loopback: metadata, keys, and tokens in the shapes of the providers that people use.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::keys::{TestKey, base64};

/// The name by which [`exchange`](crate::exchange) reaches a service, and so the audience of tokens for it.
pub const TEST_AUDIENCE: &str = "https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp";
/// The client that test tokens are issued to.
pub const TEST_CLIENT: &str = "test-client";

/// Whose tokens an issuer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Access tokens as RFC 9068 has them, found by discovery.
    Standard,
    /// ID tokens of Google.
    Google,
    /// Amazon Cognito.
    Cognito,
    /// Auth0.
    Auth0,
    /// Okta.
    Okta,
    /// Microsoft Entra, version 2 of its tokens.
    Entra,
    /// Keycloak.
    Keycloak,
}

impl Provider {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Standard, Self::Google, Self::Cognito, Self::Auth0, Self::Okta, Self::Entra, Self::Keycloak];

    /// What stands before a scope when a client asks for it, and in the tokens of all but Entra.
    pub fn scope_prefix(self) -> &'static str {
        match self {
            Self::Cognito => "https://events.example/",
            Self::Entra => "api://3f2a/",
            Self::Standard | Self::Google | Self::Auth0 | Self::Okta | Self::Keycloak => "",
        }
    }
}

/// An issuer on loopback, which ends when it is dropped.
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
    /// Where it listens.
    origin: String,
    /// What tokens call it.
    issuer: String,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, IssuerAnswer>,
    requests: HashMap<String, usize>,
}

/// What a path of the issuer answers.
#[derive(Debug, Clone)]
pub enum IssuerAnswer {
    /// A JSON document, with a `Cache-Control` header unless it is empty.
    Json {
        /// The document, or something that pretends to be one.
        body: String,
        /// The header.
        cache_control: &'static str,
    },
    /// An error.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// Nothing, ever.
    Silence,
    /// A body that never ends.
    Endless,
    /// Another answer, later.
    Late(Duration, Box<IssuerAnswer>),
}

impl IssuerAnswer {
    /// A document.
    pub fn json(body: &Value) -> Self {
        Self::Json { body: body.to_string(), cache_control: "" }
    }
}

const KEYS_PATH: &str = "/keys";

impl TestIssuer {
    /// An issuer as the specifications have it.
    pub async fn start() -> Self {
        Self::of(Provider::Standard).await
    }

    /// An issuer whose tokens have a provider's shape. Except for [`Provider::Standard`], they name the provider's own
    /// address, so that only the keys come from loopback.
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
        own.answer("/.well-known/openid-configuration", IssuerAnswer::json(&metadata));
        own.publish([TestKey::rsa().jwk("rsa"), TestKey::p256().jwk("p256")]);
        own
    }

    /// What tokens call it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where it listens.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("{}{KEYS_PATH}", self.origin)
    }

    /// The environment variables by which a function believes it.
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

    /// A good token for Ada, for the service that [`exchange`](crate::exchange) reaches. Google's carries no scopes.
    pub fn token<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> String {
        self.mint(scopes, |_, _| {})
    }

    /// A token that is not quite that: `change` gets its header and its claims before they are signed with the RSA key.
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

    /// An ID token for Ada.
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

    /// What each provider writes into an access token (into Google's ID token).
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

    /// Publishes these keys in place of those that were there.
    pub fn publish(&self, keys: impl IntoIterator<Item = Value>) {
        let keys: Vec<Value> = keys.into_iter().collect();
        self.answer(KEYS_PATH, IssuerAnswer::json(&json!({ "keys": keys })));
    }

    /// What the keys' URL answers from now on.
    pub fn answer_keys(&self, answer: IssuerAnswer) {
        self.answer(KEYS_PATH, answer);
    }

    /// What a path answers from now on.
    pub fn answer(&self, path: &str, answer: IssuerAnswer) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers.insert(path.to_owned(), answer);
    }

    /// How often the keys were fetched.
    pub fn key_fetches(&self) -> usize {
        self.requests(KEYS_PATH)
    }

    /// How often a path was asked for.
    pub fn requests(&self, path: &str) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requests.get(path).copied().unwrap_or(0)
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A compact JWS of a header and claims as they are written.
pub fn sign(header: &str, claims: &str, key: &TestKey) -> String {
    let algorithm: Value = serde_json::from_str(header).unwrap_or_default();
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = key.sign(algorithm["alg"].as_str().unwrap_or_default(), message.as_bytes());
    format!("{message}.{}", base64(signature))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections end with the issuer.
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
        let path = request.uri().path().to_owned();
        let answer = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            *state.requests.entry(path.clone()).or_default() += 1;
            state.answers.get(&path).cloned()
        };
        async move { Ok::<_, Infallible>(respond(answer.unwrap_or(IssuerAnswer::Status(404))).await) }
    });
    // A client that breaks off is what several tests are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(mut answer: IssuerAnswer) -> Response<Body> {
    while let IssuerAnswer::Late(delay, later) = answer {
        tokio::time::sleep(delay).await;
        answer = *later;
    }
    let mut response = Response::new(Full::default().boxed());
    match answer {
        IssuerAnswer::Json { body, cache_control } => {
            if !cache_control.is_empty() {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
            }
            *response.body_mut() = Full::from(body).boxed();
        }
        IssuerAnswer::Status(status) => *response.status_mut() = StatusCode::from_u16(status).expect("a status"),
        IssuerAnswer::Redirect(target) => {
            *response.status_mut() = StatusCode::FOUND;
            let target = HeaderValue::from_str(&target).expect("a URL");
            response.headers_mut().insert(header::LOCATION, target);
        }
        IssuerAnswer::Endless => {
            let piece = Bytes::from_static(br#"{"keys":[{"kty":"RSA"},"#);
            let pieces = stream::repeat(piece).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            *response.body_mut() = BodyExt::boxed(StreamBody::new(pieces));
        }
        IssuerAnswer::Silence | IssuerAnswer::Late(..) => std::future::pending().await,
    }
    response
}
