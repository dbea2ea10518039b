//! Settings of a function, and requests to it.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex, Once},
};

use authorization_server::{Config, SCHEMA, service};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::KeySize,
    signature::RsaKeyPair,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mcp_lambda::{
    Env, FromEnv, McpService,
    postgres::{MigrationConfig, migrate},
    transport::{Invocation, respond_buffered},
};
use mcp_testing::{BackendKind, TestBackend};
use serde_json::{Value, json};

/// Name of a Function URL.
pub(crate) const HOST: &str = "abcdefghij.lambda-url.eu-west-1.on.aws";
pub(crate) const RESOURCE: &str = "https://mcp.example/mcp";

static SIGNING_KEYS: LazyLock<String> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = BASE64_STANDARD.encode(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref());
    json!({ "keys": [{ "private_key": key, "signs_from": 0 }] }).to_string()
});

/// The secret with a signing key.
pub(crate) fn signing_keys() -> &'static str {
    &SIGNING_KEYS
}

/// Variables with which the function starts. No process listens at the database.
pub(crate) fn variables() -> Vec<(String, String)> {
    let own = [
        ("DATABASE_URL", "postgres://app:x@127.0.0.1:1/authorization"),
        ("MCP_STATE_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("AUTHORIZATION_UPSTREAM_ISSUER", "https://accounts.example"),
        ("AUTHORIZATION_UPSTREAM_CLIENT_ID", "client"),
        ("AUTHORIZATION_UPSTREAM_CLIENT_SECRET", "s3cret"),
        ("AUTHORIZATION_SIGNING_KEYS", signing_keys()),
        ("AUTHORIZATION_RESOURCES", r#"[{"url":"https://mcp.example/mcp","name":"Events"}]"#),
    ];
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The same with other values. An empty value removes a variable.
pub(crate) fn config(others: &[(&str, &str)]) -> Result<Config, String> {
    let others = others.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_env(&Env::from_pairs(variables().into_iter().chain(others))).map_err(|error| error.to_string())
}

/// A migrated database.
pub(crate) async fn database(kind: BackendKind) -> TestBackend {
    let own = TestBackend::create(kind).await;
    let variables = own.variables();
    let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    migrate(MigrationConfig::from_env(get).unwrap(), &SCHEMA).await.unwrap();
    own
}

/// An environment of the function with a database.
pub(crate) async fn environment(backend: &TestBackend) -> McpService {
    let own = backend.variables();
    let mut pairs: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if !own.iter().any(|(name, _)| name == "DATABASE_URL") {
        pairs.push(("DATABASE_URL", ""));
    }
    service(config(&pairs).unwrap()).await.unwrap()
}

/// Sends an event of a Function URL. Returns status and body.
pub(crate) async fn send(service: &McpService, method: &str, target: &str, body: Option<&str>) -> (u64, String) {
    send_to(HOST, service, method, target, body).await
}

/// The same with another host name in the event.
pub(crate) async fn send_to(
    host: &str,
    service: &McpService,
    method: &str,
    target: &str,
    body: Option<&str>,
) -> (u64, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let event = json!({
        "version": "2.0", "rawPath": path, "rawQueryString": query, "body": body, "isBase64Encoded": false,
        "headers": { "content-type": "application/json" },
        "requestContext": { "domainName": host, "http": { "method": method, "sourceIp": "192.0.2.7" } },
    });
    let response = respond_buffered(service, event.to_string().as_bytes(), Invocation::default()).await.unwrap();
    let response: Value = serde_json::to_value(response).unwrap();
    (response["statusCode"].as_u64().unwrap(), response["body"].as_str().unwrap_or_default().to_owned())
}

/// Captures the log of this thread.
pub(crate) fn capture_logs() -> Logs {
    // Without a global subscriber, a call site that another test reaches first is cached as disabled.
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        let nowhere = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(io::sink).finish();
        tracing::subscriber::set_global_default(nowhere).expect("the only one");
    });
    let buffer = Writer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    Logs { buffer, _guard: tracing::subscriber::set_default(subscriber) }
}

pub(crate) struct Logs {
    buffer: Writer,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logs {
    /// Returns the log events.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.buffer.0.lock().unwrap();
        String::from_utf8_lossy(&text).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[derive(Clone, Default)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
