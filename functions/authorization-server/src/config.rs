//! Settings from environment variables.

use std::{sync::Arc, time::Duration};

use mcp_authorization_server::{
    ConfiguredClient, DocumentSource, KeyRing, Provider, RegistrationPolicy, Resources, Source, UpstreamConfig,
};
use mcp_aws::{ParameterPath, StoredSecret};
use mcp_lambda::{
    BoxError, Env, FromEnv, HttpConfig, InitError,
    json::{self, Budget},
    postgres::DatabaseConfig,
    transport::{Authentication, StateKey},
    uri::SecureUrl,
};
use serde_json::Value;

const UPSTREAM_ISSUER: &str = "AUTHORIZATION_UPSTREAM_ISSUER";
const UPSTREAM_PROVIDER: &str = "AUTHORIZATION_UPSTREAM_PROVIDER";
const UPSTREAM_CLIENT_ID: &str = "AUTHORIZATION_UPSTREAM_CLIENT_ID";
const UPSTREAM_CLIENT_SECRET: &str = "AUTHORIZATION_UPSTREAM_CLIENT_SECRET";
const UPSTREAM_CLIENT_SECRET_ARN: &str = "AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN";
const SIGNING_KEYS: &str = "AUTHORIZATION_SIGNING_KEYS";
const SIGNING_KEYS_SECRET_ARN: &str = "AUTHORIZATION_SIGNING_KEYS_SECRET_ARN";
const RESOURCES: &str = "AUTHORIZATION_RESOURCES";
const RESOURCES_PATH: &str = "AUTHORIZATION_RESOURCES_PATH";
const CLIENTS: &str = "AUTHORIZATION_CLIENTS";
const REGISTRATION: &str = "AUTHORIZATION_REGISTRATION";
const REGISTRATION_HOSTS: &str = "AUTHORIZATION_REGISTRATION_HOSTS";
const ASSERTION_ISSUERS: &str = "AUTHORIZATION_ASSERTION_ISSUERS";

/// How long a secret is used that cannot be read again.
const MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of the function, of the database and of the authorization server.
#[derive(Debug)]
pub struct Config {
    /// Public URL, invoke mode and log. No caller is authenticated by them.
    pub http: HttpConfig,
    /// The database of grants and registrations.
    pub database: DatabaseConfig,
    /// The key of codes, refresh tokens and cookies.
    pub state_key: StateKey,
    /// The identity provider.
    pub upstream: UpstreamConfig,
    /// The signing keys.
    pub keys: Source<KeyRing>,
    /// The secret of the signing keys, which the commands for them write; `None` if a variable has the keys.
    pub keys_secret: Option<StoredSecret>,
    /// The MCP servers that tokens are issued for.
    pub resources: Source<Resources>,
    /// Clients that need no registration.
    pub clients: Vec<ConfiguredClient>,
    /// Which clients may register themselves.
    pub registration: RegistrationPolicy,
    /// Issuers whose identity assertions (ID-JAG) are accepted.
    pub assertion_issuers: Vec<String>,
    /// Where metadata documents of clients come from.
    pub documents: DocumentSource,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let http = HttpConfig::from_env(env)?;
        if !matches!(http.authentication, Authentication::Unconfigured | Authentication::DangerouslyOff) {
            return Err(InitError::new(
                "remove MCP_AUTH and the variables of issuers: this function issues tokens, and accepts none",
            ));
        }
        if http.public_url.as_ref().is_some_and(|url| !url.path().is_empty()) {
            return Err(InitError::new("MCP_PUBLIC_URL must have no path: it is the issuer of tokens"));
        }
        let state_key = http.state_key.clone().ok_or_else(|| {
            InitError::new("set MCP_STATE_KEY or MCP_STATE_KEY_SECRET_ARN: it is the key of codes and refresh tokens")
        })?;
        let documents = DocumentSource::from_env(|name| env.get(name))
            .map_err(|error| InitError::new("the hosts with a configured address are invalid").with_source(error))?;
        Ok(Self {
            database: <DatabaseConfig as FromEnv>::from_env(env)?,
            state_key,
            upstream: upstream(env)?,
            keys_secret: env
                .get(SIGNING_KEYS_SECRET_ARN)
                .map(|arn| StoredSecret::from_env(SIGNING_KEYS_SECRET_ARN, arn, |name| env.get(name)))
                .transpose()?,
            keys: secret(env, SIGNING_KEYS, SIGNING_KEYS_SECRET_ARN, |text| Ok(KeyRing::parse(text)?))?,
            resources: resources(env)?,
            clients: clients(env)?,
            registration: registration(env)?,
            assertion_issuers: list(env, ASSERTION_ISSUERS).map(str::to_owned).collect(),
            documents,
            http,
        })
    }
}

fn upstream(env: &Env) -> Result<UpstreamConfig, InitError> {
    let issuer = required(env, UPSTREAM_ISSUER)?;
    let is_issuer = SecureUrl::parse(issuer).is_some_and(|url| url.query.is_none() && url.fragment.is_none());
    if !is_issuer {
        let expected = "the issuer in the metadata of the identity provider: an https URL without query";
        return Err(InitError::setting(UPSTREAM_ISSUER, expected, issuer));
    }
    Ok(UpstreamConfig {
        issuer: issuer.to_owned(),
        client_id: required(env, UPSTREAM_CLIENT_ID)?.to_owned(),
        client_secret: secret(env, UPSTREAM_CLIENT_SECRET, UPSTREAM_CLIENT_SECRET_ARN, |text| Ok(text.to_owned()))?,
        provider: provider(env)?,
    })
}

fn provider(env: &Env) -> Result<Provider, InitError> {
    let Some(name) = env.get(UPSTREAM_PROVIDER) else { return Ok(Provider::Other) };
    let expected = "`cognito`, `entra`, `google`, `okta`, `auth0`, `keycloak` or `other`";
    serde_json::from_value(Value::from(name)).map_err(|_| InitError::setting(UPSTREAM_PROVIDER, expected, name))
}

fn required<'a>(env: &'a Env, name: &str) -> Result<&'a str, InitError> {
    env.get(name).ok_or_else(|| InitError::new(format!("{name} must be set")))
}

/// A value in a variable, which is parsed at once, or in the secret that another variable names.
fn secret<T: Send + Sync + 'static>(
    env: &Env,
    variable: &'static str,
    arn_variable: &'static str,
    parse: fn(&str) -> Result<T, BoxError>,
) -> Result<Source<T>, InitError> {
    match (env.get(variable), env.get(arn_variable)) {
        (Some(text), None) => {
            let invalid = |error: BoxError| InitError::new(format!("{variable} is invalid")).with_source(error);
            parse(text).map_err(invalid)?;
            let text = text.to_owned();
            Ok(Source::new(Duration::MAX, move || {
                let parsed = parse(&text);
                Box::pin(async { parsed })
            }))
        }
        (None, Some(arn)) => {
            let stored = Arc::new(StoredSecret::from_env(arn_variable, arn, |name| env.get(name))?);
            Ok(Source::new(MAX_STALE, move || {
                let stored = Arc::clone(&stored);
                Box::pin(async move { parse(stored.current(None).await?.as_str()) })
            }))
        }
        _ => Err(InitError::new(format!("set one of {variable} and {arn_variable}"))),
    }
}

/// The resources in a variable, or one in each parameter below a path.
fn resources(env: &Env) -> Result<Source<Resources>, InitError> {
    match (env.get(RESOURCES), env.get(RESOURCES_PATH)) {
        (Some(text), None) => {
            let invalid = |error| InitError::new(format!("{RESOURCES} is invalid")).with_source(error);
            Resources::parse(text).map_err(invalid)?;
            let text = text.to_owned();
            Ok(Source::new(Duration::MAX, move || {
                let parsed = Resources::parse(&text);
                Box::pin(async { Ok(parsed?) })
            }))
        }
        (None, Some(path)) => {
            let path = Arc::new(ParameterPath::from_env(RESOURCES_PATH, path, |name| env.get(name))?);
            Ok(Resources::source(move || {
                let path = Arc::clone(&path);
                Box::pin(async move {
                    let parameters = path.read(None).await?;
                    Ok(parameters.into_iter().map(|own| (own.name, own.value)).collect())
                })
            }))
        }
        _ => Err(InitError::new(format!("set one of {RESOURCES} and {RESOURCES_PATH}"))),
    }
}

fn clients(env: &Env) -> Result<Vec<ConfiguredClient>, InitError> {
    let Some(text) = env.get(CLIENTS) else { return Ok(Vec::new()) };
    let clients: Vec<ConfiguredClient> = json::read(text, Budget::of(text))
        .map_err(|error| InitError::new(format!("{CLIENTS} is not a JSON array of clients")).with_source(error))?;
    for (index, own) in clients.iter().enumerate() {
        if own.id.is_empty() || clients[..index].iter().any(|other| other.id == own.id) {
            return Err(InitError::new(format!("{CLIENTS} has a client without an id, or two with the same id")));
        }
        if own.secret_sha256.as_deref().is_some_and(|digest| !is_sha256(digest)) {
            let expected = "a SHA-256 digest in Base64url without padding, of 43 characters";
            return Err(InitError::new(format!("{CLIENTS} has a secret_sha256 that is not {expected}")));
        }
    }
    Ok(clients)
}

/// Whether a text is a SHA-256 digest in Base64url.
fn is_sha256(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn registration(env: &Env) -> Result<RegistrationPolicy, InitError> {
    let hosts: Vec<String> = list(env, REGISTRATION_HOSTS).map(str::to_ascii_lowercase).collect();
    match env.get(REGISTRATION) {
        None | Some("known") => Ok(RegistrationPolicy::Known(hosts)),
        Some("off" | "open") if !hosts.is_empty() => {
            Err(InitError::new(format!("remove {REGISTRATION_HOSTS}, or set {REGISTRATION}=known")))
        }
        Some("off") => Ok(RegistrationPolicy::Off),
        Some("open") => Ok(RegistrationPolicy::Open),
        Some(other) => Err(InitError::setting(REGISTRATION, "`known`, `off` or `open`", other)),
    }
}

/// The items of a variable, separated by commas.
fn list<'a>(env: &'a Env, name: &str) -> impl Iterator<Item = &'a str> {
    env.get(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}
