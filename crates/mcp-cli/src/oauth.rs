//! OAuth tokens for a server: stored, refreshed, or obtained by a sign-in.
//!
//! The protocol is in the modules: [`discovery`] finds the issuer, [`grants`] has its endpoints, [`http`] sends requests, [`sign_in`] has the
//! sign-in page, [`machine`] the grants without one, and [`dpop`] binds tokens to a key. This module decides when a token is
//! refreshed and when a page is opened,
//! by one process of several at a time. The OAuth client of `rmcp` is not used: it waits for the body of the endpoint's GET, gives
//! up at the first place of a document that is away, discovers again before each refresh, reports no error code, and takes
//! headers and addresses for all origins or for none.

mod addresses;
mod assertion;
mod browser;
pub(crate) mod discovery;
mod dpop;
mod grants;
mod http;
mod machine;
mod options;
mod refresh;
mod resource;
mod revocation;
mod sign_in;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use mcp_protocol::uri::SecureUrl;
use tokio::sync::Mutex;
use url::Url;

pub(crate) use self::{
    assertion::AssertionSource,
    browser::Browser,
    discovery::NoIssuer,
    dpop::{DPOP, Nonce, Token},
    grants::{TokenResponse, random},
    machine::{AssertionOptions, IdentityProvider},
    options::{OAuthOptions, PrivateKey, ResourceParameter, SigningAlgorithm, TokenType},
    revocation::{Revocation, revoke},
};
use self::{
    discovery::{Discovered, IssuerMetadata},
    dpop::ProofKey,
    http::IssuerHttp,
    revocation::revoke_unkept,
};
use crate::{
    challenge::Challenge,
    store::{Client, Credentials, ForgottenError, Generation, Registration, Store, Turn},
};

/// The issuer whose access tokens no other server can verify.
const GOOGLE: &str = "https://accounts.google.com";
/// Sign-ins, or grants to the client itself, without a request that succeeds: a first one and two for more scopes.
const MAX_FRUITLESS_SIGN_INS: u32 = 3;
/// Timeout of discovery.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// OAuth client for one server.
pub(crate) struct OAuth {
    server: Url,
    options: OAuthOptions,
    store: Store,
    http: IssuerHttp,
    state: Mutex<State>,
    untried: std::sync::Mutex<Option<Untried>>,
    /// Locked by a pending refresh.
    refreshing: Arc<Mutex<()>>,
    /// Time of the last failed refresh of a token that had not expired.
    failed_refresh: std::sync::Mutex<Option<tokio::time::Instant>>,
    /// Of the store, at the start of the sign-in that is on its way.
    generation: std::sync::Mutex<Generation>,
    /// Sign-ins since the last request that succeeded.
    fruitless_sign_ins: AtomicU32,
}

#[derive(Default)]
struct State {
    /// The error of the last attempt, for the requests that waited for it.
    failure: Option<(Instant, String)>,
    /// The scopes that were requested since the last sign-in because the server required them.
    added_scopes: Option<BTreeSet<String>>,
}

/// A new token that the server has not accepted yet. If it is rejected, another one from the same grant will be too.
struct Untried {
    token: String,
    is_refreshed: bool,
}

impl OAuth {
    pub(crate) fn new(server: &str, options: OAuthOptions) -> anyhow::Result<Self> {
        let store = Store::of(server, options.state_dir.as_deref())?;
        let server = Url::parse(server).with_context(|| format!("`{server}` is no URL"))?;
        Ok(Self {
            http: IssuerHttp::of(&server, options.headers.clone(), http::FIRST_PAUSE)?,
            server,
            options,
            store,
            state: Mutex::default(),
            untried: std::sync::Mutex::default(),
            refreshing: Arc::default(),
            failed_refresh: std::sync::Mutex::default(),
            generation: std::sync::Mutex::default(),
            fruitless_sign_ins: AtomicU32::new(0),
        })
    }

    /// The stored credentials, if they belong to the configured client.
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let kept = self.store.credentials()?;
        let identity = self.options.assertion.as_ref().map(AssertionOptions::identity);
        let is_client = |own: &str| self.options.client_id.as_deref().is_none_or(|client_id| client_id == own);
        Ok(kept.filter(|own| is_client(&own.client_id) && own.identity == identity))
    }

    /// The secret of a client: the configured one, or the one that is stored since its installation or registration.
    fn secret_of(&self, client_id: &str) -> Option<String> {
        let given = self.options.client_secret.clone().filter(|_| self.options.client_id.as_deref() == Some(client_id));
        given.or_else(|| {
            self.store.registration().ok().flatten().filter(|own| own.client_id == client_id)?.client_secret
        })
    }

    /// Notes that the server has accepted a token.
    pub(crate) fn accepted(&self, token: &str) {
        self.untried().take_if(|untried| untried.token == token);
    }

    /// Resets the count of sign-ins without a successful request.
    pub(crate) fn succeeded(&self) {
        self.fruitless_sign_ins.store(0, Ordering::Relaxed);
    }

    /// Replaces a rejected token. Single-flight: a request that waited uses the token of another one, or
    /// its error.
    pub(crate) async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        let asked = Instant::now();
        // Before waiting for a page that another request has opened.
        if self.is_renewed(refused, challenge).await? {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        if let Some((_, failure)) = state.failure.as_ref().filter(|(at, _)| *at > asked) {
            bail!("{failure}");
        }
        let renewed = self.obtain(refused, challenge, &mut state).await;
        state.failure = renewed.as_ref().err().map(|error| (Instant::now(), format!("{error:#}")));
        renewed
    }

    /// Whether another token is stored, or can be got by a refresh.
    async fn is_renewed(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<bool> {
        if self.has_other_than(refused)? {
            return Ok(true);
        }
        let Some(refused) = refused.filter(|_| !challenge.is_insufficient_scope()) else { return Ok(false) };
        match self.untried().as_ref().filter(|own| own.token == refused).map(|own| own.is_refreshed) {
            Some(false) => {
                let reason = challenge.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
                bail!(
                    "the server rejects the token that the issuer has just given: it may be meant for another \
                     server{reason}"
                )
            }
            Some(true) => return Ok(false),
            None => {}
        }
        let refreshed = self.refreshed(refused).await.context("could not refresh the token")?;
        let Some(token) = refreshed.filter(|token| token.text != refused) else { return Ok(false) };
        *self.untried() = Some(Untried { token: token.text, is_refreshed: true });
        Ok(true)
    }

    /// Gets a token by a sign-in, or by a grant without one.
    async fn obtain(&self, refused: Option<&str>, challenge: &Challenge, state: &mut State) -> anyhow::Result<()> {
        if self.has_other_than(refused)? {
            return Ok(());
        }
        let mut scopes: BTreeSet<String> = self.options.scopes.iter().cloned().collect();
        let mut added_scopes = None;
        if challenge.is_insufficient_scope() {
            let granted = self.credentials()?.map(|own| own.granted_scopes).unwrap_or_default();
            let required: BTreeSet<String> = challenge.scopes().into_iter().collect();
            if state.added_scopes.as_ref().is_some_and(|added| required.is_subset(added)) {
                bail!("{}", not_granted(&required, &granted));
            }
            // Scopes that were granted before are requested again: a token has only the scopes of its own request.
            scopes.extend(granted);
            scopes.extend(required.iter().cloned());
            let before = state.added_scopes.clone().unwrap_or_default();
            added_scopes = Some(before.into_iter().chain(required).collect());
        }
        if self.fruitless_sign_ins.load(Ordering::Relaxed) == MAX_FRUITLESS_SIGN_INS {
            bail!(
                "the server requires another sign-in after {MAX_FRUITLESS_SIGN_INS} since the last request that succeeded: \
                 start again if that is meant"
            );
        }
        // Another process may have a page open: its outcome counts for all that wait.
        let _turn = self.store.turn(Turn::SignIn).await?;
        if self.has_other_than(refused)? {
            return Ok(());
        }
        *self.generation() = self.store.generation();
        let signed_in = match &self.options.assertion {
            Some(options) => self.within_timeout(self.present_assertion(options, challenge, scopes)).await,
            None if self.options.client_credentials => {
                self.within_timeout(self.present_credentials(challenge, scopes)).await
            }
            // A sign-in takes longer than the timeout of a response.
            None => {
                self.check_cooldown()?;
                self.sign_in(challenge, scopes).await
            }
        };
        signed_in.inspect_err(|error| {
            if !error.is::<ForgottenError>() {
                self.store.note_failure(Turn::SignIn, error);
            }
        })?;
        self.fruitless_sign_ins.fetch_add(1, Ordering::Relaxed);
        state.added_scopes = added_scopes;
        let token = self.credentials()?.and_then(|own| self.token_of(&own));
        *self.untried() = token.map(|token| Untried { token: token.text, is_refreshed: false });
        Ok(())
    }

    async fn within_timeout(&self, grant: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let granted = tokio::time::timeout(self.options.patience(), grant).await;
        granted.with_context(|| format!("the issuer has not answered within {:?}", self.options.patience()))?
    }

    /// Whether a token is kept that is not the rejected one.
    fn has_other_than(&self, refused: Option<&str>) -> anyhow::Result<bool> {
        let current = self.credentials()?.and_then(|own| self.token_of(&own));
        Ok(current.is_some_and(|own| Some(own.text.as_str()) != refused))
    }

    fn untried(&self) -> std::sync::MutexGuard<'_, Option<Untried>> {
        self.untried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> std::sync::MutexGuard<'_, Generation> {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn discover(&self, challenge: &Challenge) -> anyhow::Result<Discovered> {
        let found = discovery::discover(&self.http, &self.server, challenge);
        let found = tokio::time::timeout(DISCOVERY_TIMEOUT, found).await;
        let found = match found.with_context(|| format!("its metadata took longer than {DISCOVERY_TIMEOUT:?}"))? {
            Err(error) if error.is::<NoIssuer>() => self.kept_issuer().await?.ok_or(error)?,
            found => found?,
        };
        self.bind(&found.issuer)?;
        tracing::info!("the issuer of tokens is {}", found.issuer.issuer.as_deref().unwrap_or("without a name"));
        Ok(found)
    }

    /// The issuer of the stored sign-in or client, for a server that names none now (2026-07-28, Authorization Server Discovery:
    /// "use pre-configured values").
    async fn kept_issuer(&self) -> anyhow::Result<Option<Discovered>> {
        let (credentials, registration) = (self.credentials()?, self.store.registration()?);
        let name = credentials.as_ref().and_then(|own| own.issuer.clone()).or(registration.and_then(|own| own.issuer));
        let Some(name) = name else { return Ok(None) };
        tracing::info!("the server names no issuer: the one of the stored sign-in is used");
        let found = discovery::identity_provider(&self.http, &name);
        let found = tokio::time::timeout(DISCOVERY_TIMEOUT, found).await;
        let issuer = found.with_context(|| format!("its metadata took longer than {DISCOVERY_TIMEOUT:?}"))??;
        let resource = credentials.as_ref().and_then(|own| own.resource.clone());
        Ok(Some(Discovered {
            issuer,
            resource: resource.unwrap_or_else(|| resource::of_server(&self.server)),
            requires_dpop: credentials.as_ref().is_some_and(|own| own.proof_key.is_some()),
            scopes: credentials.map(|own| own.granted_scopes).unwrap_or_default(),
        }))
    }

    /// Checks that a client is used with its own issuer: its id and secret are sent to no other
    /// (2026-07-28, Client Registration, "Authorization Server Binding").
    fn bind(&self, metadata: &IssuerMetadata) -> anyhow::Result<()> {
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

    /// The token of a response that is sent to the server.
    fn token_of(&self, credentials: &Credentials) -> Option<Token> {
        let response = &credentials.token_response;
        if self.token_type(credentials.issuer.as_deref()) == TokenType::IdToken {
            return response.id_token.clone().map(Token::from);
        }
        let key = match response.is_bound() {
            // A DPoP-bound token is unusable without its key.
            true => Some(ProofKey::of(credentials.proof_key.as_deref()?).ok()?),
            false => None,
        };
        Some(Token { text: response.access_token.clone(), key })
    }

    /// The DPoP key, if the server requires it and the issuer supports it.
    fn proof_key(&self, challenge: &Challenge, found: &Discovered) -> anyhow::Result<Option<ProofKey>> {
        let algorithms = found.issuer.dpop_signing_alg_values_supported.as_ref();
        let can = algorithms.is_none_or(|own| own.iter().any(|own| own == dpop::ALGORITHM));
        let is_wanted = (challenge.is_dpop() || found.requires_dpop) && can;
        is_wanted.then(ProofKey::generate).transpose()
    }

    fn token_type(&self, issuer: Option<&str>) -> TokenType {
        let usual = if issuer == Some(GOOGLE) { TokenType::IdToken } else { TokenType::AccessToken };
        self.options.token_type.unwrap_or(usual)
    }

    fn resource(&self, found: &Discovered) -> Option<String> {
        match &self.options.resource {
            ResourceParameter::OfServer => Some(found.resource.clone()),
            ResourceParameter::Other(resource) => Some(resource.clone()),
            ResourceParameter::LeftOut => None,
        }
    }

    /// A client that was registered by hand.
    fn client(&self, id: &str, issuer: &IssuerMetadata) -> Client {
        Client { id: id.to_owned(), secret: self.secret_of(id), auth_method: grants::auth_method(issuer) }
    }

    /// Keeps what the issuer gave.
    ///
    /// # Errors
    ///
    /// When the server was forgotten since the sign-in began: the tokens are revoked.
    async fn keep(
        &self,
        found: &Discovered,
        client: Client,
        response: TokenResponse,
        scope: &str,
        resource: Option<String>,
        key: Option<ProofKey>,
    ) -> anyhow::Result<()> {
        // RFC 6749, section 5.1: without a scope it is what was asked for.
        let granted = response.scope.as_deref().unwrap_or(scope);
        let is_given = self.options.client_id.as_ref() == Some(&client.id);
        let credentials = Credentials {
            granted_scopes: granted.split_whitespace().map(str::to_owned).collect(),
            token_response: response,
            token_received_at: Some(now()),
            issuer: found.issuer.issuer.clone(),
            token_endpoint: Some(found.issuer.token_endpoint.clone()),
            // Checked when it is used: the user is to know why the tokens are not revoked.
            revocation_endpoint: found.issuer.revocation_endpoint.clone(),
            resource,
            client_id: client.id.clone(),
            // One that was given is given again, or kept where it was installed.
            client_secret: client.secret.clone().filter(|_| !is_given),
            auth_method: client.auth_method.clone(),
            identity: self.options.assertion.as_ref().map(AssertionOptions::identity),
            proof_key: key.map(|key| key.kept().to_owned()),
        };
        let generation = self.generation().clone();
        if let Err(forgotten) = self.store.keep_granted(credentials.clone(), &generation) {
            revoke_unkept(&self.http, &credentials, &client).await;
            return Err(forgotten.into());
        }
        Ok(())
    }
}

/// The scopes to request by default: those of the challenge, or else those of the server's metadata.
fn wanted_scopes(found: &Discovered, challenge: &Challenge, given: BTreeSet<String>) -> Vec<String> {
    let mut scopes: Vec<String> = given.into_iter().collect();
    if scopes.is_empty() {
        scopes = challenge.scopes();
    }
    if scopes.is_empty() {
        scopes.clone_from(&found.scopes);
    }
    let mut seen = BTreeSet::new();
    scopes.retain(|scope| seen.insert(scope.clone()));
    scopes
}

/// The error of a request whose scopes were requested already.
fn not_granted(required: &BTreeSet<String>, granted: &[String]) -> String {
    let missing: Vec<&str> = required.iter().filter(|own| !granted.contains(own)).map(String::as_str).collect();
    let all: Vec<&str> = required.iter().map(String::as_str).collect();
    match (missing.is_empty(), required.is_empty()) {
        (false, _) => format!(
            "the server requires the scope `{}`, which the issuer did not grant: have it allowed for the user and the \
             client, and start again",
            missing.join("`, `")
        ),
        (true, false) => format!(
            "the server requires the scope `{}`, though the issuer has granted it: compare the token's claims with the \
             server's rules",
            all.join("`, `")
        ),
        (true, true) => "the server requires further scopes and does not name them: give them by `--scope`".to_owned(),
    }
}

/// `https`, or `http` on this machine.
pub(crate) fn is_secure(url: &str) -> bool {
    SecureUrl::parse(url).is_some()
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
