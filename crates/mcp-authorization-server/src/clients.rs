//! All clients: configured ones, those with a metadata document, and registered ones.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_server::{
    json::{self, Budget},
    store::{Content, Kind, SealedStore, StoreError, StoreId, StoredValue, Version},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Client, ClientKind, DocumentSource, ErrorCode, FetchDocumentError, OAuthError, RedirectUri,
    client_document::{self, is_url},
    client_metadata::ClientMetadata,
    clock::unix_seconds,
    limits::{RowLimit, RowLimits},
    random,
};

const REGISTERED: Kind = Kind::new("client");
const DOCUMENT: Kind = Kind::new("client-metadata");
/// Documents that are fetched again: their limit cannot be reached by requests with new client ids.
const REFETCHED: Kind = Kind::new("client-metadata-again");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lifetime of a registration until its first use.
const UNUSED: Duration = DAY;
/// Lifetime of a registration from its latest use: the longest of the store.
const USED: Duration = mcp_server::store::MAX_LIFETIME;
/// How long a document is used after its lifetime, while it cannot be fetched again.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Pause between two attempts to fetch a document again.
const PAUSE: Duration = Duration::from_secs(5 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Maximum number of registrations, and of documents that are not in the cache, in an hour: from one network, and in all.
const PER_NETWORK: u64 = 20;
const IN_ALL: u64 = 1000;
/// Requests with a wrong secret, which might be guesses (OAuth 2.1, section 2.4.1). Those of other networks do not count against a client.
const WRONG_SECRETS: RowLimit =
    RowLimit { kind: Kind::new("client-secret"), per_network: PER_NETWORK, in_all: 1_000_000, window: HOUR };
/// Maximum size of a registration request, in bytes.
pub(crate) const MAX_REGISTRATION_BYTES: usize = 16 * 1024;
/// Redirect URIs of well-known clients, which may be registered without a review. Other URLs on their hosts may redirect elsewhere.
///
/// | Client | Source, read on 2026-11-27 |
/// | --- | --- |
/// | ChatGPT, for servers that return `iss` (RFC 9207) | <https://developers.openai.com/apps-sdk/build/auth> |
/// | Claude: `claude.ai` today, `claude.com` possibly later | <https://support.claude.com/en/articles/11503834-building-custom-connectors-via-remote-mcp-servers> |
/// | Cursor's web and cloud agents; the desktop uses loopback | <https://cursor.com/docs/mcp> |
/// | Visual Studio Code, which registers both with two on loopback | <https://github.com/microsoft/vscode/issues/278512> |
const KNOWN_URIS: [&str; 6] = [
    "https://chatgpt.com/connector_platform_oauth_redirect",
    "https://claude.ai/api/mcp/auth_callback",
    "https://claude.com/api/mcp/auth_callback",
    "https://insiders.vscode.dev/redirect",
    "https://vscode.dev/redirect",
    "https://www.cursor.com/agents/mcp/oauth/callback",
];
/// Start of the redirect URIs of ChatGPT's connectors, which end with the id of the connector. The source is that of ChatGPT above.
const CHATGPT_CONNECTORS: &str = "https://chatgpt.com/connector/oauth/";
/// Redirect URI that Cursor registers together with others. A private scheme is not accepted: the URI is left out of the registration.
const LEFT_OUT: &str = "cursor://anysphere.cursor-mcp/oauth/callback";

/// Which clients may register themselves (RFC 7591).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationPolicy {
    /// None.
    Off,
    /// Clients whose redirect URIs are all on loopback, those of well-known clients, or on one of these hosts.
    Known(Vec<String>),
    /// All.
    Open,
}

impl RegistrationPolicy {
    fn allows(&self, uri: &RedirectUri) -> bool {
        match self {
            Self::Off => false,
            Self::Open => true,
            Self::Known(hosts) => uri.is_loopback() || is_well_known(uri.as_str()) || hosts.contains(&uri.host()),
        }
    }
}

fn is_well_known(uri: &str) -> bool {
    let is_id =
        |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    KNOWN_URIS.contains(&uri) || uri.strip_prefix(CHATGPT_CONNECTORS).is_some_and(is_id)
}

/// A client in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredClient {
    /// The client id.
    pub id: String,
    /// Name on the consent page.
    pub name: String,
    /// Redirect URIs.
    pub redirect_uris: Vec<RedirectUri>,
    /// SHA-256 digest of the client's secret in Base64url, for a confidential client.
    #[serde(default)]
    pub secret_sha256: Option<String>,
}

/// The row of a metadata document.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CachedDocument {
    client: Client,
    /// The end of its lifetime, in seconds since 1970.
    fresh_until: u64,
    /// The time until which it is used if it cannot be fetched again, in seconds since 1970.
    kept_until: u64,
}

/// Credentials in a request to the token or revocation endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) secret: Option<&'a str>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client is unknown or invalid: the error for it.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// The store failed.
    #[error("the store of clients failed")]
    Store(#[from] StoreError),
    /// The metadata document of the client could not be fetched.
    #[error("the metadata document of the client could not be fetched")]
    Document(#[from] FetchDocumentError),
    /// There were too many requests from this address, or in all.
    #[error("too many clients are registered or fetched")]
    Limited,
    /// A value could not be encoded, or there are no random numbers.
    #[error("could not create a client")]
    Internal,
}

/// The clients of a server.
#[derive(Debug)]
pub struct Clients {
    configured: Vec<(Client, Option<String>)>,
    policy: RegistrationPolicy,
    documents: DocumentSource,
    store: SealedStore,
    limits: RowLimits,
}

impl Clients {
    /// Creates the clients of a server.
    pub fn new(
        configured: Vec<ConfiguredClient>,
        policy: RegistrationPolicy,
        documents: DocumentSource,
        store: SealedStore,
    ) -> Self {
        let configured = configured.into_iter().map(|own| {
            let client = Client {
                id: own.id,
                kind: ClientKind::Configured,
                name: Some(own.name),
                redirect_uris: own.redirect_uris,
                refreshes: true,
            };
            (client, own.secret_sha256)
        });
        let limits = RowLimits::new(store.clone());
        Self { configured: configured.collect(), policy, documents, store, limits }
    }

    pub(crate) fn has_registration(&self) -> bool {
        self.policy != RegistrationPolicy::Off
    }

    /// Finds the client of an authorization request. A metadata document that is not in the cache is fetched.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidClient`] when the client is unknown, [`ErrorCode::InvalidClientMetadata`] when its document is invalid; when the
    /// document cannot be fetched, too many are, or the store fails.
    pub async fn find(
        &self,
        client_id: &str,
        address: Option<IpAddr>,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Client, ClientError> {
        if let Some((client, _)) = self.configured.iter().find(|(own, _)| own.id == client_id) {
            return Ok(client.clone());
        }
        if is_url(client_id) {
            return self.find_document(client_id, address, now, deadline).await;
        }
        let unknown =
            OAuthError::new(ErrorCode::InvalidClient, "the client is not registered, or its registration has expired");
        Ok(self.read(REGISTERED, client_id).await?.map(|(client, _)| client).ok_or(unknown)?)
    }

    async fn find_document(
        &self,
        client_id: &str,
        address: Option<IpAddr>,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Client, ClientError> {
        client_document::check_url(client_id)?;
        match self.read::<CachedDocument>(DOCUMENT, client_id).await? {
            Some((cached, _)) if unix_seconds(now) < cached.fresh_until => Ok(cached.client),
            Some((cached, version)) => self.fetch_again(cached, version, address, now, deadline).await,
            None => {
                self.count(DOCUMENT, address, now).await?;
                let fetched = self.fetch(client_id, now, deadline).await?;
                // Another environment may have stored it meanwhile.
                self.put(DOCUMENT, client_id, &fetched, fetched.kept_for(now)).await?;
                Ok(fetched.client)
            }
        }
    }

    /// Fetches a document whose lifetime has ended. One request does so; the others use the old document, and all do if that fails.
    ///
    /// # Errors
    ///
    /// When the new document is invalid, or there is none any more (404, 410); when the store fails.
    async fn fetch_again(
        &self,
        cached: CachedDocument,
        version: Version,
        address: Option<IpAddr>,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Client, ClientError> {
        let id = StoreId { kind: DOCUMENT, caller: None, id: cached.client.id.as_bytes() };
        if matches!(self.count(REFETCHED, address, now).await, Err(ClientError::Limited)) {
            return Ok(cached.client);
        }
        let attempt = CachedDocument { fresh_until: unix_seconds(now + PAUSE), ..cached.clone() };
        let Some(version) = self.replace(&id, version, &attempt, now).await? else { return Ok(cached.client) };
        match self.fetch(&cached.client.id, now, deadline).await {
            Ok(fetched) => {
                self.replace(&id, version, &fetched, now).await?;
                Ok(fetched.client)
            }
            Err(error) if is_final(&error) => {
                self.store.delete(&id).await?;
                Err(error)
            }
            Err(_) => Ok(cached.client),
        }
    }

    async fn fetch(
        &self,
        client_id: &str,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<CachedDocument, ClientError> {
        let document = self.documents.fetch(client_id, deadline).await?;
        let client = client_document::parse(client_id, &document.body)?;
        let lifetime = client_document::lifetime(document.cache_control.as_deref());
        let (fresh_until, kept_until) = (unix_seconds(now + lifetime), unix_seconds(now + lifetime + KEPT));
        Ok(CachedDocument { client, fresh_until, kept_until })
    }

    /// Registers a client. Returns the response (RFC 7591, section 3.2.1).
    ///
    /// # Errors
    ///
    /// When the metadata are invalid or not allowed, too many clients register, or the store fails.
    pub async fn register(&self, body: &[u8], address: Option<IpAddr>, now: SystemTime) -> Result<Value, ClientError> {
        let invalid = |description| OAuthError::new(ErrorCode::InvalidClientMetadata, description);
        if body.len() > MAX_REGISTRATION_BYTES {
            return Err(invalid("the request has more than 16 KiB").into());
        }
        let mut metadata: ClientMetadata = json::read_bytes(body, Budget::memory(1024 * 1024))
            .map_err(|_| invalid("the request is not a JSON object with client metadata"))?;
        metadata.redirect_uris.retain(|uri| uri != LEFT_OUT);
        let valid = metadata.validate(false)?;
        if !valid.redirect_uris.iter().all(|uri| self.policy.allows(uri)) {
            let description =
                "a redirect URI is neither on loopback nor on an allowed host: ask the operator of this server";
            return Err(OAuthError::new(ErrorCode::InvalidRedirectUri, description).into());
        }
        self.count(REGISTERED, address, now).await?;
        let client = Client {
            id: random::text::<16>().map_err(|_| ClientError::Internal)?,
            kind: ClientKind::Registered,
            name: valid.name,
            redirect_uris: valid.redirect_uris,
            refreshes: valid.refreshes,
        };
        self.put(REGISTERED, &client.id, &client, UNUSED).await?;
        let grant_types = ["authorization_code", "refresh_token"];
        let mut response = json!({
            "client_id": client.id,
            "client_id_issued_at": unix_seconds(now),
            "redirect_uris": client.redirect_uris,
            "grant_types": grant_types[..if client.refreshes { 2 } else { 1 }],
            "response_types": ["code"],
            // Also if the client requested another method: a secret of a public client would protect nothing.
            "token_endpoint_auth_method": "none",
        });
        if let Some(name) = client.name {
            response["client_name"] = name.into();
        }
        Ok(response)
    }

    /// Extends the registration of a client that is used. Other clients have none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn extend(&self, client_id: &str) -> Result<(), StoreError> {
        if is_url(client_id) || self.is_configured(client_id) {
            return Ok(());
        }
        let id = StoreId { kind: REGISTERED, caller: None, id: client_id.as_bytes() };
        if let Some(StoredValue { value, version }) = self.store.get(&id).await? {
            let content = Content { value: &value, expires_in: USED, due_in: None };
            // Another request has extended it, if the version differs.
            self.store.compare_and_set(&id, version, content).await?;
        }
        Ok(())
    }

    /// Authenticates a client. A public client has no secret: its id is trusted only together with a code or token of it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidClient`] when a confidential client has a wrong secret or none, or too many were wrong in the network, or a
    /// public one has a secret. When the store fails.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<(), ClientError> {
        const FAILED: OAuthError = OAuthError::new(ErrorCode::InvalidClient, "the client could not be authenticated");
        let configured = self.configured.iter().find(|(own, _)| own.id == credentials.client_id);
        match (configured.and_then(|(_, digest)| digest.as_deref()), credentials.secret) {
            (None, None) => Ok(()),
            (Some(_), Some(_)) if self.limits.is_exhausted(&WRONG_SECRETS, address, now) => {
                let description = "too many requests of this network had a wrong secret: try again in an hour";
                Err(OAuthError::new(ErrorCode::InvalidClient, description).into())
            }
            (Some(expected), Some(secret)) => {
                let digest = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes()));
                if verify_slices_are_equal(digest.as_bytes(), expected.as_bytes()).is_ok() {
                    return Ok(());
                }
                self.limits.count(&WRONG_SECRETS, address, now).await?;
                Err(FAILED.into())
            }
            (Some(_), None) | (None, Some(_)) => Err(FAILED.into()),
        }
    }

    /// Whether the configuration has a client.
    pub(crate) fn is_configured(&self, client_id: &str) -> bool {
        self.configured.iter().any(|(own, _)| own.id == client_id)
    }

    /// Whether a client has a secret.
    pub(crate) fn is_confidential(&self, client_id: &str) -> bool {
        self.configured.iter().any(|(own, secret)| own.id == client_id && secret.is_some())
    }

    /// Counts a row that an anonymous caller causes.
    async fn count(&self, kind: Kind, address: Option<IpAddr>, now: SystemTime) -> Result<(), ClientError> {
        let limit = RowLimit { kind, per_network: PER_NETWORK, in_all: IN_ALL, window: HOUR };
        if self.limits.count(&limit, address, now).await? { Ok(()) } else { Err(ClientError::Limited) }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        kind: Kind,
        client_id: &str,
    ) -> Result<Option<(T, Version)>, ClientError> {
        let id = StoreId { kind, caller: None, id: client_id.as_bytes() };
        let Some(StoredValue { value, version }) = self.store.get(&id).await? else { return Ok(None) };
        let row = json::read_bytes(&value, Budget::memory(1024 * 1024)).map_err(|_| ClientError::Internal)?;
        Ok(Some((row, version)))
    }

    async fn put(
        &self,
        kind: Kind,
        client_id: &str,
        row: &impl Serialize,
        expires_in: Duration,
    ) -> Result<(), ClientError> {
        let value = serde_json::to_vec(row).map_err(|_| ClientError::Internal)?;
        let id = StoreId { kind, caller: None, id: client_id.as_bytes() };
        self.store.put_if_absent(&id, Content { value: &value, expires_in, due_in: None }).await?;
        Ok(())
    }

    /// Replaces the row of a document that has this version. `None` if it has another version.
    async fn replace(
        &self,
        id: &StoreId<'_>,
        version: Version,
        row: &CachedDocument,
        now: SystemTime,
    ) -> Result<Option<Version>, ClientError> {
        let value = serde_json::to_vec(row).map_err(|_| ClientError::Internal)?;
        let content = Content { value: &value, expires_in: row.kept_for(now), due_in: None };
        Ok(self.store.compare_and_set(id, version, content).await?)
    }
}

impl CachedDocument {
    fn kept_for(&self, now: SystemTime) -> Duration {
        Duration::from_secs(self.kept_until.saturating_sub(unix_seconds(now)).max(1))
    }
}

/// Whether an error says that the old document is no longer valid.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Document(FetchDocumentError::Status(status)) => matches!(status.as_u16(), 404 | 410),
        ClientError::OAuth(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
