//! Tokens for a server: kept, refreshed, or got by signing somebody in.
//!
//! The protocol itself is `rmcp`'s (`transport::auth`): discovery, registration, PKCE, `resource`, `iss`, refresh. Here is
//! what it leaves open: where tokens are kept, the listener, the browser, and which scopes to ask for a second time.

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    process::Stdio,
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use oauth2::TokenResponse as _;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, AuthorizationRequest, AuthorizationSession,
    ClientCredentialsConfig, JwtSigningAlgorithm, OAuthClientConfig, StoredCredentials, WWWAuthenticateParams,
};
use tokio::sync::Mutex;
use url::Url;

use crate::{
    callback::CallbackListener,
    challenge::Challenge,
    store::{Registration, Store},
};

/// The time that somebody has to sign in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(300);
/// A token is renewed this long before its end.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The issuer whose access tokens no other server can verify.
const GOOGLE: &str = "https://accounts.google.com";
/// Sign-ins, or grants to the client itself, without a request that succeeds: a first one and two for more scopes.
const MAX_FRUITLESS_SIGN_INS: u32 = 3;
/// For finding the issuer: a few documents, each of which may take 30 s (`rmcp`).
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How tokens are got.
#[derive(Debug, Clone, Default)]
pub(crate) struct OAuthOptions {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
    /// In place of a secret, where the client is the caller.
    pub(crate) private_key: Option<PrivateKey>,
    /// The URL of a client id metadata document.
    pub(crate) client_metadata_url: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The client is the caller: nobody signs in.
    pub(crate) client_credentials: bool,
    /// What is sent; if it is not said, what the issuer's tokens are good for.
    pub(crate) token_type: Option<TokenType>,
    pub(crate) callback_port: u16,
    pub(crate) browser: Browser,
    pub(crate) state_dir: Option<PathBuf>,
}

/// Which of an issuer's tokens a server can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TokenType {
    /// The one that is meant for servers.
    AccessToken,
    /// The one that says who has signed in: Google's access tokens mean something to Google alone.
    IdToken,
}

/// What a client proves itself with instead of a secret (RFC 7523).
#[derive(Clone)]
pub(crate) struct PrivateKey {
    /// PKCS #8.
    pub(crate) pem: String,
    pub(crate) algorithm: SigningAlgorithm,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// An algorithm of RFC 7518, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum SigningAlgorithm {
    Es256,
    Es384,
    Rs256,
    Rs384,
    Rs512,
}

impl From<SigningAlgorithm> for JwtSigningAlgorithm {
    fn from(own: SigningAlgorithm) -> Self {
        match own {
            SigningAlgorithm::Es256 => Self::ES256,
            SigningAlgorithm::Es384 => Self::ES384,
            SigningAlgorithm::Rs256 => Self::RS256,
            SigningAlgorithm::Rs384 => Self::RS384,
            SigningAlgorithm::Rs512 => Self::RS512,
        }
    }
}

/// How the sign-in page is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Browser {
    /// The one that the platform opens.
    #[default]
    Usual,
    /// A command, to which the URL is added.
    Command(String),
    /// By whoever reads the URL.
    Nobody,
}

/// Tokens of the issuer that a server names.
pub(crate) struct OAuth {
    server: String,
    options: OAuthOptions,
    store: Store,
    state: Mutex<State>,
    /// A token that was signed in for and not accepted yet. If that one is refused, another will be too.
    untried: std::sync::Mutex<Option<String>>,
    /// Sign-ins since the last request that succeeded.
    fruitless_sign_ins: AtomicU32,
}

#[derive(Default)]
struct State {
    /// The refused token that a refresh was tried for.
    refreshed_for: Option<String>,
    /// Why the last try failed, for those who waited for it.
    failure: Option<(Instant, String)>,
}

impl OAuth {
    pub(crate) fn new(server: &str, options: OAuthOptions) -> anyhow::Result<Self> {
        let store = Store::of(server, options.state_dir.as_deref()).context("could not open the store of tokens")?;
        Ok(Self {
            server: server.to_owned(),
            options,
            store,
            state: Mutex::default(),
            untried: std::sync::Mutex::default(),
            fruitless_sign_ins: AtomicU32::new(0),
        })
    }

    /// The token to send, if there is one already: refreshed, where it is nearly over.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(credentials) = self.store.credentials()? else {
            return Ok(None);
        };
        if !self.is_own(&credentials) {
            return Ok(None);
        }
        let token = self.token_of(&credentials);
        if token.is_none() || !is_expiring(&credentials) {
            return Ok(token);
        }
        let _turn = self.state.lock().await;
        // Another request, or another proxy, may have done it.
        match self.store.credentials()? {
            Some(credentials) if !is_expiring(&credentials) => Ok(self.token_of(&credentials)),
            _ => Ok(self.refreshed().await.or(token)),
        }
    }

    /// Whether what is kept was got as the client that is meant now.
    fn is_own(&self, credentials: &StoredCredentials) -> bool {
        self.options.client_id.as_ref().is_none_or(|client_id| *client_id == credentials.client_id)
    }

    /// A token that was refreshed; `None` if that cannot be done.
    async fn refreshed(&self) -> Option<String> {
        let credentials = self.store.credentials().ok()??;
        credentials.token_response.as_ref()?.refresh_token()?;
        // Made anew: registration and issuer may be others than at the last time.
        let manager = self.restored(&credentials).await.inspect_err(log_refresh).ok()?;
        manager.refresh_token().await.inspect_err(log_refresh).ok()?;
        self.token_of(&self.store.credentials().ok()??)
    }

    /// A manager that can refresh what an earlier run has got.
    async fn restored(&self, credentials: &StoredCredentials) -> Result<AuthorizationManager, AuthError> {
        let (mut manager, metadata) = self.discovered(None).await?;
        if credentials.issuer.is_some() && credentials.issuer != metadata.issuer {
            // What one issuer gave is shown to no other.
            return Err(AuthError::AuthorizationRequired);
        }
        let mut config = OAuthClientConfig::new(&credentials.client_id, "http://127.0.0.1/callback");
        if let Some(secret) = self.secret_of(&credentials.client_id) {
            config = config.with_client_secret(secret);
        }
        manager.configure_client(config)?;
        Ok(manager)
    }

    /// The secret of a client: the one that was given with its id, or what is kept since it was installed or registered.
    fn secret_of(&self, client_id: &str) -> Option<String> {
        let given = self.options.client_secret.clone().filter(|_| self.options.client_id.as_deref() == Some(client_id));
        given.or_else(|| {
            self.store.registration().ok().flatten().filter(|own| own.client_id == client_id)?.client_secret
        })
    }

    /// A manager that has found the issuer, and what it found.
    async fn discovered(
        &self,
        challenge: Option<&str>,
    ) -> Result<(AuthorizationManager, AuthorizationMetadata), AuthError> {
        let mut manager = AuthorizationManager::new(&self.server).await?;
        manager.set_credential_store(self.store.clone());
        let found = tokio::time::timeout(DISCOVERY_TIMEOUT, manager.resolve_metadata_from_challenge(challenge)).await;
        let late = |_| AuthError::AuthorizationFailed(format!("its metadata took longer than {DISCOVERY_TIMEOUT:?}"));
        let metadata = found.map_err(late)??.metadata;
        // A server names its issuer, and the issuer its pages: neither may start programs, or listen in.
        let endpoints = [Some(&metadata.authorization_endpoint), Some(&metadata.token_endpoint)];
        for endpoint in endpoints.into_iter().chain([metadata.registration_endpoint.as_ref()]).flatten() {
            if !is_secure(endpoint) {
                let refusal = format!("the issuer's endpoint `{endpoint}` is no https URL");
                return Err(AuthError::AuthorizationFailed(refusal));
            }
        }
        if let Some(name) = reserved_parameter(&metadata.authorization_endpoint) {
            let refusal = format!("the issuer's `authorization_endpoint` sets `{name}`, which is the client's to set");
            return Err(AuthError::AuthorizationFailed(refusal));
        }
        manager.set_metadata(metadata.clone());
        Ok((manager, metadata))
    }

    /// Notes that the server has taken a token for good.
    pub(crate) fn accepted(&self, token: &str) {
        self.untried().take_if(|untried| untried == token);
    }

    /// Notes that a request has succeeded, which proves the sign-ins before it worth their while.
    pub(crate) fn succeeded(&self) {
        self.fruitless_sign_ins.store(0, Ordering::Relaxed);
    }

    /// Gets a token in place of one that was refused. One at a time: whoever waited finds what another has got, or why there
    /// is nothing.
    pub(crate) async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((_, failure)) = state.failure.as_ref().filter(|(at, _)| *at > asked) {
            bail!("{failure}");
        }
        let renewed = self.renew_in_turn(&mut state, refused, challenge).await;
        state.failure = renewed.as_ref().err().map(|error| (Instant::now(), format!("{error:#}")));
        renewed
    }

    async fn renew_in_turn(
        &self,
        state: &mut State,
        refused: Option<&str>,
        challenge: &Challenge,
    ) -> anyhow::Result<()> {
        let credentials = self.store.credentials()?.filter(|own| self.is_own(own));
        let current = credentials.as_ref().and_then(|own| self.token_of(own));
        if current.is_some() && current.as_deref() != refused {
            return Ok(());
        }
        let params = challenge.params(&self.server);
        let is_step_up = params.as_ref().is_some_and(WWWAuthenticateParams::is_insufficient_scope);
        let mut scopes: BTreeSet<String> = self.options.scopes.iter().cloned().collect();
        if is_step_up {
            let asked = params.and_then(|params| params.scope).unwrap_or_default();
            // What was granted before is asked for again: a token has the scopes of its own request alone.
            scopes.extend(credentials.into_iter().flat_map(|own| own.granted_scopes));
            scopes.extend(asked.split_whitespace().map(str::to_owned));
        } else if let Some(refused) = refused {
            if self.untried().as_deref() == Some(refused) {
                bail!(
                    "the server refuses the token that the issuer has just given: it may be meant for another server"
                );
            }
            if state.refreshed_for.as_deref() != Some(refused) {
                state.refreshed_for = Some(refused.to_owned());
                if self.refreshed().await.is_some_and(|token| token != refused) {
                    return Ok(());
                }
            }
        }
        if self.fruitless_sign_ins.load(Ordering::Relaxed) == MAX_FRUITLESS_SIGN_INS {
            bail!(
                "the server wants another sign-in after {MAX_FRUITLESS_SIGN_INS} since the last request that succeeded: \
                 start again if that is meant"
            );
        }
        match self.options.client_credentials {
            true => self.present_credentials(challenge, scopes).await?,
            false => self.sign_in(challenge, scopes).await?,
        }
        self.fruitless_sign_ins.fetch_add(1, Ordering::Relaxed);
        *self.untried() = self.store.credentials()?.and_then(|own| self.token_of(&own));
        Ok(())
    }

    fn untried(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.untried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client's id is one issuer's, and its secret is shown to no other
    /// (2026-07-28, Client Registration, "Authorization Server Binding").
    fn bind(&self, metadata: &AuthorizationMetadata) -> anyhow::Result<()> {
        let Some(client_id) = &self.options.client_id else { return Ok(()) };
        let kept = self.store.registration()?.filter(|own| own.client_id == *client_id);
        match kept {
            Some(own) if own.issuer == metadata.issuer => Ok(()),
            Some(Registration { issuer: Some(issuer), .. }) => bail!(
                "the server names the issuer {}, and the client id was used with {issuer}: if that is meant, run \
                 `mcpl forget {}`",
                metadata.issuer.as_deref().unwrap_or("without a name"),
                self.server
            ),
            own => {
                let own = own.unwrap_or_else(|| Registration::given(client_id.clone(), None));
                Ok(self.store.keep_registration(Registration { issuer: metadata.issuer.clone(), ..own })?)
            }
        }
    }

    /// The token to send of what the issuer gave.
    fn token_of(&self, credentials: &StoredCredentials) -> Option<String> {
        let response = credentials.token_response.as_ref()?;
        match self.token_type(credentials.issuer.as_deref()) {
            TokenType::AccessToken => Some(response.access_token().secret().to_owned()),
            TokenType::IdToken => response.extra_fields().0.get("id_token")?.as_str().map(str::to_owned),
        }
    }

    fn token_type(&self, issuer: Option<&str>) -> TokenType {
        let usual = if issuer == Some(GOOGLE) { TokenType::IdToken } else { TokenType::AccessToken };
        self.options.token_type.unwrap_or(usual)
    }

    /// The client's own grant (OAuth 2.1, section 4.2): for machines.
    async fn present_credentials(&self, challenge: &Challenge, scopes: BTreeSet<String>) -> anyhow::Result<()> {
        let client_id = self.options.client_id.clone().context("`--client-credentials` needs `--client-id`")?;
        let found = self.discovered(challenge.header.as_deref()).await;
        let (mut manager, metadata) = found.context("could not find out where tokens are to be had")?;
        self.bind(&metadata)?;
        let scopes = match scopes.is_empty() {
            true => manager.select_initial_scopes(&[]).await,
            false => scopes.into_iter().collect(),
        };
        manager.configure_client(OAuthClientConfig::new(&client_id, "http://127.0.0.1/callback"))?;
        // What the metadata calls the server is to be read there alone.
        let url = Url::parse(&manager.get_authorization_url(&[]).await?)?;
        let resource =
            url.query_pairs().find(|(name, _)| name == "resource").map(|(_, resource)| resource.into_owned());
        let config = match &self.options.private_key {
            Some(key) => ClientCredentialsConfig::PrivateKeyJwt {
                client_id,
                signing_key: key.pem.clone().into_bytes(),
                signing_algorithm: key.algorithm.into(),
                token_endpoint_audience: None,
                scopes,
                resource,
            },
            None => {
                let client_secret = self.secret_of(&client_id).context(
                    "`--client-credentials` needs the client's secret or private key: set MCPL_CLIENT_SECRET, or give \
                     `--client-secret-file`, `--ask-client-secret` or `--private-key`",
                )?;
                ClientCredentialsConfig::ClientSecret { client_id, client_secret, scopes, resource }
            }
        };
        manager.validate_client_credentials_metadata(&config)?;
        manager.configure_client_credentials(&config)?;
        // On a thread of its own: the library's future stays on the thread that began it (rmcp 3.11, `!Send`).
        let runtime = tokio::runtime::Handle::current();
        let exchange = move || runtime.block_on(manager.exchange_client_credentials(&config)).map(drop);
        tokio::task::spawn_blocking(exchange).await?.context("the issuer gave no token")
    }

    async fn sign_in(&self, challenge: &Challenge, scopes: BTreeSet<String>) -> anyhow::Result<()> {
        let found = self.discovered(challenge.header.as_deref()).await;
        let (mut manager, metadata) = found.context("could not find out where to sign in")?;
        self.bind(&metadata)?;
        let mut scopes = scopes;
        if self.token_type(metadata.issuer.as_deref()) == TokenType::IdToken {
            scopes.extend(["openid".to_owned(), "email".to_owned()]);
        }
        // A registration holds for the issuer that made it, and for its redirect URI.
        let kept = self.store.registration()?.filter(|own| own.issuer == metadata.issuer);
        let kept_port = kept.as_ref().and_then(|own| Url::parse(&own.redirect_uri).ok()?.port());
        let port = if self.options.callback_port == 0 { kept_port.unwrap_or(0) } else { self.options.callback_port };
        let listener = match CallbackListener::bind(port).await {
            Err(_) if self.options.callback_port == 0 => CallbackListener::bind(0).await,
            bound => bound,
        };
        let listener = listener.with_context(|| format!("could not listen on 127.0.0.1:{port} for the browser"))?;
        let redirect_uri = listener.redirect_uri();

        let mut request = AuthorizationRequest::new(&redirect_uri).with_scopes(scopes).with_initial_scope_selection();
        let kept = kept.filter(|own| own.redirect_uri == redirect_uri);
        let client = match &self.options.client_id {
            Some(client_id) => Some((client_id.clone(), self.secret_of(client_id))),
            None => kept.map(|own| (own.client_id, own.client_secret)),
        };
        match (client, &self.options.client_metadata_url) {
            (Some(client), _) => request = of_client(request, client),
            (None, Some(url)) if has_client_metadata(&metadata) => request = request.with_client_metadata_url(url),
            (None, _) => {
                // Without scopes: some issuers never grant a client others than it has registered.
                let registered = manager.register_client("mcpl", &redirect_uri, &[]).await;
                let registered = registered.context(
                    "could not register with the issuer; where clients are registered by hand, give `--client-id`",
                )?;
                let client = (registered.client_id, registered.client_secret);
                let registration = Registration {
                    issuer: metadata.issuer.clone(),
                    client_id: client.0.clone(),
                    client_secret: client.1.clone(),
                    redirect_uri,
                };
                self.store.keep_registration(registration)?;
                request = of_client(request, client);
            }
        }
        let session = AuthorizationSession::new(manager, request).await;
        let session = session.map_err(|(_, error)| error).context("could not start to sign in")?;
        let url = session.get_authorization_url().to_owned();
        let state =
            Url::parse(&url)?.query_pairs().find(|(name, _)| name == "state").map(|(_, state)| state.into_owned());
        open(&self.options.browser, &url);
        let waiting = listener.wait(state.unwrap_or_default(), metadata.issuer);
        let redirect = tokio::time::timeout(SIGN_IN_TIMEOUT, waiting).await;
        let redirect = redirect.context("nobody signed in within five minutes")??;
        if let Some(error) = redirect.error {
            bail!("signing in failed: {error}");
        }
        session.handle_callback_url(&redirect.url).await.context("the issuer gave no token")?;
        Ok(())
    }
}

/// `https`, or `http` on this machine.
pub(crate) fn is_secure(url: &str) -> bool {
    mcp_protocol::uri::SecureUrl::parse(url).is_some()
}

/// The parameter of an authorization request that an endpoint has already: a second one beside it may be read, or not.
fn reserved_parameter(endpoint: &str) -> Option<&'static str> {
    const RESERVED: [&str; 8] = [
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "redirect_uri",
        "resource",
        "response_type",
        "scope",
        "state",
    ];
    let endpoint = Url::parse(endpoint).ok()?;
    endpoint.query_pairs().find_map(|(name, _)| RESERVED.into_iter().find(|own| *own == name))
}

fn of_client(request: AuthorizationRequest, client: (String, Option<String>)) -> AuthorizationRequest {
    let request = request.with_preregistered_client(client.0);
    match client.1 {
        Some(secret) => request.with_client_secret(secret),
        None => request,
    }
}

/// Whether an issuer takes the URL of a client id metadata document for a client's id.
fn has_client_metadata(metadata: &AuthorizationMetadata) -> bool {
    let supported = metadata.additional_fields.get("client_id_metadata_document_supported");
    supported.and_then(serde_json::Value::as_bool).unwrap_or(false)
}

/// Whether a token is over, or nearly.
fn is_expiring(credentials: &StoredCredentials) -> bool {
    let lifetime = credentials.token_response.as_ref().and_then(|token| token.expires_in());
    let (Some(lifetime), Some(received)) = (lifetime, credentials.token_received_at) else {
        // The server will say so.
        return false;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let margin = EXPIRY_MARGIN.min(lifetime / 2);
    // The issuer's number may be any.
    now.saturating_add(margin) >= Duration::from_secs(received).saturating_add(lifetime)
}

fn log_refresh(error: &AuthError) {
    tracing::info!(%error, "a token could not be refreshed");
}

/// Opens the sign-in page. Its address is printed in any case: no browser may come up.
fn open(browser: &Browser, url: &str) {
    tracing::warn!("sign in at {url}");
    let opened = match browser {
        Browser::Nobody => Ok(()),
        Browser::Usual => webbrowser::open(url),
        Browser::Command(command) => {
            let mut words = command.split_whitespace();
            let mut program = std::process::Command::new(words.next().unwrap_or_default());
            // Standard output is the client's.
            program.args(words).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(drop)
        }
    };
    if let Err(error) = opened {
        tracing::warn!(%error, "no browser could be opened");
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.7: as it is read from the file, where `received` is no less odd.
    #[test]
    fn a_lifetime_is_any_number() {
        let kept = |lifetime: u64, received: u64| -> StoredCredentials {
            let token = serde_json::json!({ "access_token": "t", "token_type": "Bearer", "expires_in": lifetime });
            let kept = serde_json::json!({
                "client_id": "c", "token_response": token, "granted_scopes": [], "token_received_at": received,
            });
            serde_json::from_value(kept).unwrap()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();

        for received in [0, now, u64::MAX] {
            assert!(!is_expiring(&kept(u64::MAX, received)), "{received}");
        }
        assert!(!is_expiring(&kept(3600, now)) && is_expiring(&kept(0, now)) && is_expiring(&kept(3600, 0)));
    }

    #[test]
    fn an_endpoint_leaves_the_request_to_the_client_8_13() {
        for query in ["state=x", "a=b&client_id", "redirect%5Furi=x", "response_type=token", "code_challenge=x"] {
            assert!(reserved_parameter(&format!("https://id.example/authorize?{query}")).is_some(), "{query}");
        }
        for query in ["", "tenant=x", "stat=x", "State=x"] {
            assert_eq!(reserved_parameter(&format!("https://id.example/authorize?{query}")), None, "{query}");
        }
    }

    #[test]
    fn only_secure_urls_are_opened_8_13() {
        for url in ["https://id.example/authorize", "http://127.0.0.1:9/a", "http://localhost/a", "http://[::1]/a"] {
            assert!(is_secure(url), "{url}");
        }
        for url in [
            "http://id.example/a",
            "file:///bin/sh",
            "javascript:alert(1)",
            "vscode://x",
            "http://localhost.evil.example",
            "https://id.example@evil.example",
            "https://evil.example\\@id.example",
            "",
        ] {
            assert!(!is_secure(url), "{url}");
        }
    }
}
