//! A server, its identity provider, and a browser.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use mcp_authorization_server::{
    AuthorizationServer, ConfiguredClient, DocumentSource, FetchDocumentError, FetchedDocument, KeyRing, Parameters,
    Provider, RefreshLifetimes, RegistrationPolicy, RequestContext, Resources, Settings, Source, Upstream,
    UpstreamConfig,
};
use mcp_postgres::{DatabaseConfig, PostgresStore};
use mcp_server::{
    KeyLoader, StateKey,
    store::{MemoryStore, Store, StoreClock},
};
use mcp_testing::{BackendKind, IssuerResponse, TestBackend, TestIssuer, state_key};
use serde_json::{Value, json};

/// URL of the registered MCP server.
pub(crate) const RESOURCE: &str = "https://mcp.example/mcp";
/// Client with a metadata document.
pub(crate) const CLIENT: &str = "https://app.example/client.json";
pub(crate) const CALLBACK: &str = "https://app.example/callback";
/// Client with a metadata document and a redirect URI on loopback.
pub(crate) const NATIVE: &str = "https://native.example/client.json";
// RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// This server's client id at the identity provider.
pub(crate) const UPSTREAM_CLIENT: &str = "authorization-server";

/// Start of the URLs of forged documents, which end with their index.
pub(crate) const FORGED: &str = "https://forged.example/";
/// Documents of clients that are rejected. `ID` stands for the client id.
pub(crate) const FORGED_DOCUMENTS: [&str; 18] = [
    "",
    "x",
    "[]",
    "null",
    r#"{"redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":null,"redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":["ID"],"redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"https://app.example/client.json","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"ID/","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"HTTPS://forged.example/8","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"x","client_id":"ID","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"ID","client_secret":"x","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"ID","token_endpoint_auth_method":"client_secret_basic","redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"ID","redirect_uris":[]}"#,
    r#"{"client_id":"ID","redirect_uris":"https://forged.example/callback"}"#,
    r#"{"client_id":"ID","redirect_uris":["https://other.example/callback"]}"#,
    r#"{"client_id":"ID","grant_types":["client_credentials"],"redirect_uris":["https://forged.example/callback"]}"#,
    r#"{"client_id":"ID","response_types":["token"],"redirect_uris":["https://forged.example/callback"]}"#,
];

/// A server with one store, its identity provider, and the host of its public documents.
pub(crate) struct World {
    pub(crate) server: AuthorizationServer,
    pub(crate) upstream: TestIssuer,
    /// Serves the documents of the server at its issuer.
    pub(crate) front: TestIssuer,
    store: Arc<dyn Store>,
    documents: DocumentSource,
    seconds: Arc<AtomicU64>,
    /// The database of the store.
    _backend: Option<TestBackend>,
}

thread_local! {
    /// The kind of database of the worlds on this thread; `None` for a store in memory.
    static KIND: Cell<Option<BackendKind>> = const { Cell::new(None) };
}

/// Runs a test whose worlds have a database of this kind.
#[expect(clippy::print_stdout, reason = "names the test that fails")]
pub(crate) fn on(kind: BackendKind, name: &str, test: fn()) {
    println!("{name}, {kind:?}");
    KIND.set(Some(kind));
    test();
    KIND.set(None);
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_documents(documents()).await
    }

    pub(crate) async fn with_documents(documents: DocumentSource) -> Self {
        let Some(kind) = KIND.get() else {
            return Self::with_store(documents, |clock| Arc::new(MemoryStore::with_clock(clock))).await;
        };
        let backend = TestBackend::create(kind).await;
        let variables = backend.variables();
        let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let store = PostgresStore::new(DatabaseConfig::from_env(get).unwrap());
        store.migrate().await.unwrap();
        let world = Self::with_store(documents, |clock| Arc::new(store.with_clock(clock))).await;
        Self { _backend: Some(backend), ..world }
    }

    /// A server whose store is created with the clock of the test.
    pub(crate) async fn with_store(
        documents: DocumentSource,
        store: impl FnOnce(StoreClock) -> Arc<dyn Store>,
    ) -> Self {
        let (upstream, front) = (TestIssuer::start().await, TestIssuer::start().await);
        let seconds = Arc::new(AtomicU64::new(0));
        let offset = Arc::clone(&seconds);
        let start = SystemTime::now();
        let store = store(Arc::new(move || start + Duration::from_secs(offset.load(Ordering::SeqCst))));
        let server = Self::environment_of(&upstream, &store, &documents);
        Self { server, upstream, front, store, documents, seconds, _backend: None }
    }

    /// One more environment with the same store.
    pub(crate) fn environment(&self) -> AuthorizationServer {
        Self::environment_of(&self.upstream, &self.store, &self.documents)
    }

    /// One more environment with other resources and clients of the configuration.
    pub(crate) fn environment_with(&self, resources: &Value, clients: Vec<ConfiguredClient>) -> AuthorizationServer {
        let keys = (&state_key(), &Arc::default());
        Self::configured(&self.upstream, &self.store, &self.documents, resources, clients, keys)
    }

    /// One more environment with this state key.
    pub(crate) fn environment_with_key(&self, key: &str, loader: &Arc<KeyLoader>) -> AuthorizationServer {
        let keys = (&StateKey::parse(key).unwrap(), loader);
        Self::configured(&self.upstream, &self.store, &self.documents, &resources(), vec![portal()], keys)
    }

    fn environment_of(
        upstream: &TestIssuer,
        store: &Arc<dyn Store>,
        documents: &DocumentSource,
    ) -> AuthorizationServer {
        let keys = (&state_key(), &Arc::default());
        Self::configured(upstream, store, documents, &resources(), vec![portal()], keys)
    }

    fn configured(
        upstream: &TestIssuer,
        store: &Arc<dyn Store>,
        documents: &DocumentSource,
        resources: &Value,
        clients: Vec<ConfiguredClient>,
        (state_key, loader): (&StateKey, &Arc<KeyLoader>),
    ) -> AuthorizationServer {
        let resources = resources.to_string();
        AuthorizationServer::new(
            Settings {
                resources: Source::new(Duration::MAX, move || {
                    let resources = resources.clone();
                    Box::pin(async move { Resources::parse(&resources).map_err(Into::into) })
                }),
                keys: Source::new(Duration::MAX, || {
                    Box::pin(async { KeyRing::parse(&signing_keys()).map_err(Into::into) })
                }),
                upstream: Upstream::new(UpstreamConfig {
                    issuer: upstream.issuer().to_owned(),
                    client_id: UPSTREAM_CLIENT.to_owned(),
                    client_secret: Source::new(Duration::MAX, || Box::pin(async { Ok("s3cret".to_owned()) })),
                    provider: Provider::Other,
                })
                .unwrap(),
                clients,
                registration: RegistrationPolicy::Known(Vec::new()),
                documents: documents.clone(),
                token_lifetime: Duration::from_secs(600),
                refresh: RefreshLifetimes::default(),
            },
            Arc::clone(store),
            state_key,
            loader,
        )
        .unwrap()
    }

    pub(crate) fn issuer(&self) -> &str {
        self.front.origin()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.send_to(&self.server, request).await
    }

    pub(crate) async fn send_to(&self, server: &AuthorizationServer, request: Request<Bytes>) -> Response<Bytes> {
        server.handle(&request, &self.context(None)).await
    }

    /// Sends a request from the address with this number.
    pub(crate) async fn send_from(&self, address: u32, request: Request<Bytes>) -> Response<Bytes> {
        let context = self.context(Some(IpAddr::from(address.to_be_bytes())));
        self.server.handle(&request, &context).await
    }

    fn context(&self, address: Option<IpAddr>) -> RequestContext<'_> {
        let now = SystemTime::now() + Duration::from_secs(self.seconds.load(Ordering::SeqCst));
        RequestContext { issuer: self.issuer(), address, now, deadline: None }
    }

    /// Sends a form to an endpoint for programs.
    pub(crate) async fn post(&self, path: &str, parameters: &[(&str, &str)]) -> (StatusCode, Value) {
        let response = self.send(form_request(path, parameters)).await;
        (response.status(), serde_json::from_slice(response.body()).unwrap_or_default())
    }

    /// Lets the identity provider sign a person in: the next code is redeemed for an ID token with this nonce.
    pub(crate) fn signs_in(&self, nonce: &str, change: impl FnOnce(&mut Value)) {
        let response = json!({ "id_token": self.id_token(nonce, change), "refresh_token": "upstream-1" });
        self.upstream.set_response("/token", IssuerResponse::json(&response));
    }

    pub(crate) fn id_token(&self, nonce: &str, change: impl FnOnce(&mut Value)) -> String {
        self.upstream.mint([], |header, claims| {
            header["typ"] = json!("JWT");
            let own = claims.as_object_mut().unwrap();
            for name in ["scope", "client_id"] {
                own.remove(name);
            }
            claims["aud"] = json!(UPSTREAM_CLIENT);
            for name in ["iat", "exp"] {
                claims[name] = (claims[name].as_u64().unwrap() + self.seconds.load(Ordering::SeqCst)).into();
            }
            claims["nonce"] = json!(nonce);
            claims["groups"] = json!(["staff"]);
            change(claims);
        })
    }

    /// Signs a person in by a browser that approves the client. Returns the redirect to the client.
    pub(crate) async fn sign_in(&self, browser: &Browser, query: &str, subject: &str) -> String {
        let page = browser.get(self, &format!("/authorize?{query}")).await;
        let upstream = match page.status() {
            StatusCode::OK => browser.decide(self, &page, "approve").await,
            _ => page,
        };
        let upstream = location(&upstream);
        self.signs_in(&parameter(&upstream, "nonce"), |claims| claims["sub"] = json!(subject));
        let callback = format!("/callback?code=c-1&state={}", parameter(&upstream, "state"));
        location(&browser.get(self, &callback).await)
    }

    /// Signs a person in, and returns the token response.
    pub(crate) async fn tokens(&self, browser: &Browser) -> Value {
        let redirect = self.sign_in(browser, &authorization_query(&[]), "ada").await;
        let code = parameter(&redirect, "code");
        let (status, tokens) = self.post("/token", &code_request(&code)).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }
}

/// A request with a form.
pub(crate) fn form_request(path: &str, parameters: &[(&str, &str)]) -> Request<Bytes> {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    request.body(encode(parameters).into()).unwrap()
}

/// Parameters of a refresh.
pub(crate) fn refresh_request(token: &str) -> [(&str, &str); 3] {
    [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)]
}

/// A browser with cookies.
#[derive(Default)]
pub(crate) struct Browser {
    pub(crate) cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    pub(crate) async fn get(&self, world: &World, target: &str) -> Response<Bytes> {
        self.send(world, Request::get(target).body(Bytes::new()).unwrap()).await
    }

    /// Adds the cookies to a request.
    pub(crate) fn attach(&self, request: &mut Request<Bytes>) {
        let cookies: Vec<_> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.headers_mut().insert(header::COOKIE, cookies.join("; ").try_into().unwrap());
        }
    }

    pub(crate) async fn send(&self, world: &World, mut request: Request<Bytes>) -> Response<Bytes> {
        self.attach(&mut request);
        let response = world.send(request).await;
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-"), "{cookie}");
            for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(cookie.split("; ").any(|own| own == attribute), "{cookie}");
            }
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        response
    }

    /// Sends the form of a consent page.
    pub(crate) async fn decide(&self, world: &World, page: &Response<Bytes>, decision: &str) -> Response<Bytes> {
        self.send(world, decision_request(&form_of(page), decision)).await
    }
}

/// The request that sends the form of a consent page.
pub(crate) fn decision_request(form: &str, decision: &str) -> Request<Bytes> {
    let body = encode(&[("form", form), ("decision", decision)]);
    let request = Request::builder().method(Method::POST).uri("/authorize");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.header("sec-fetch-site", "same-origin").body(body.into()).unwrap()
}

/// The sealed form in a consent page.
#[track_caller]
pub(crate) fn form_of(page: &Response<Bytes>) -> String {
    assert_eq!(page.status(), StatusCode::OK, "{}", text(page));
    let html = text(page);
    let (_, rest) = html.split_once("name=\"form\" value=\"").expect("a form");
    rest.split('"').next().unwrap().to_owned()
}

pub(crate) fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// The URL of a redirect.
#[track_caller]
pub(crate) fn location(response: &Response<Bytes>) -> String {
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{}", text(response));
    response.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

/// The URL of the link to the client, in an error page that does not redirect.
#[track_caller]
pub(crate) fn link(response: &Response<Bytes>) -> String {
    let status = response.status();
    assert!(status.is_client_error() || status.is_server_error(), "{status}");
    assert!(!response.headers().contains_key(header::LOCATION));
    let html = text(response);
    let (_, rest) = html.split_once("<a href=\"").unwrap_or_else(|| panic!("no link in {html}"));
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

/// A parameter in the query of a URL.
#[track_caller]
pub(crate) fn parameter(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').expect("a query");
    let parameters = Parameters::parse(query.as_bytes()).unwrap();
    parameters.get(name).unwrap_or_else(|| panic!("no {name} in {url}")).to_owned()
}

pub(crate) fn has_parameter(url: &str, name: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    Parameters::parse(query.as_bytes()).unwrap().get(name).is_some()
}

/// Parameters of a valid authorization request, with changes.
pub(crate) fn authorization_query(changes: &[(&str, Option<&str>)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", CALLBACK),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", RESOURCE),
        ("state", "s-1"),
    ];
    for (name, value) in changes {
        pairs.retain(|(own, _)| own != name);
        pairs.extend(value.map(|value| (*name, value)));
    }
    encode(&pairs)
}

/// Parameters of a valid token request.
pub(crate) fn code_request(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("code", code),
        ("code_verifier", VERIFIER),
        ("redirect_uri", CALLBACK),
        ("resource", RESOURCE),
    ]
}

pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    let encoded = |text: &str| text.bytes().map(byte).collect::<String>();
    pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

/// A confidential client of the configuration.
fn portal() -> ConfiguredClient {
    ConfiguredClient {
        id: "portal".to_owned(),
        name: "Portal".to_owned(),
        redirect_uris: vec![CALLBACK.to_owned().try_into().unwrap()],
        // SHA-256 of `s3cret`.
        secret_sha256: Some("HsHCa1DV08WNlYMYGvgHZlX-AHVr9yhZQLo2cPmfy6A".to_owned()),
    }
}

pub(crate) fn resources() -> Value {
    json!([
        {
            "url": RESOURCE, "name": "Event <logger>",
            "scopes": [
                { "name": "events:read", "text": "Read events", "translations": { "pt": "Ler eventos" } },
                { "name": "events:write", "text": "Add events" },
                { "name": "events:delete", "text": "Delete events" },
            ],
            "everyone": ["events:read"],
            "claims": [
                { "claim": "groups", "value": "staff", "scopes": ["events:write"] },
                { "claim": "groups", "value": "admins", "scopes": ["events:delete"] },
            ],
        },
        { "url": "https://other.example/mcp", "name": "Other" },
    ])
}

/// The documents of the clients.
pub(crate) fn documents() -> DocumentSource {
    DocumentSource::new(|url, _| Box::pin(async move { document(&url) }))
}

fn document(url: &str) -> Result<FetchedDocument, FetchDocumentError> {
    let forged = url.strip_prefix(FORGED).and_then(|index| FORGED_DOCUMENTS.get(index.parse::<usize>().ok()?));
    if let Some(forged) = forged {
        return Ok(FetchedDocument { body: forged.replace("ID", url).into_bytes(), cache_control: None });
    }
    let redirect_uris = match url {
        CLIENT => vec![CALLBACK],
        NATIVE => vec!["http://localhost/callback"],
        _ => return Err(FetchDocumentError::ContentType),
    };
    let body = json!({ "client_id": url, "client_name": "<b>App</b>", "redirect_uris": redirect_uris }).to_string();
    Ok(FetchedDocument { body: body.into_bytes(), cache_control: None })
}

/// The secret with one signing key, generated once.
fn signing_keys() -> String {
    use std::sync::LazyLock;

    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rsa::KeySize,
        signature::RsaKeyPair,
    };
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    static SECRET: LazyLock<String> = LazyLock::new(|| {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let key = BASE64_STANDARD.encode(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref());
        json!({ "keys": [{ "private_key": key, "signs_from": 0 }] }).to_string()
    });
    SECRET.clone()
}

/// Header values of a response as one text.
pub(crate) fn header_text(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("\n")
}
