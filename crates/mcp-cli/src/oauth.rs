//! Tokens for a server: kept, refreshed, or got by signing a person in.
//!
//! The protocol is in the modules below: [`discovery`] finds the issuer, [`grants`] asks it, [`http`] is how, [`sign_in`] needs a
//! person, [`machine`] does not, and [`dpop`] binds tokens to a key. Here is when a token is refreshed and when a page is opened,
//! by one process of several at a time. `rmcp`'s client of OAuth is not used: it waits for the body of the endpoint's GET, gives
//! up at the first place of a document that is away, discovers again before each refresh, reports no error code, and takes
//! headers and addresses for all origins or for none.

mod addresses;
mod assertion;
mod browser;
mod discovery;
mod dpop;
mod grants;
mod http;
mod machine;
mod options;
mod sign_in;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        PoisonError,
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
    dpop::{DPOP, Nonce, Token},
    grants::{TokenResponse, random},
    machine::{AssertionOptions, IdentityProvider},
    options::{OAuthOptions, PrivateKey, ResourceParameter, SigningAlgorithm, TokenType},
};
use self::{
    discovery::{Discovered, IssuerMetadata},
    dpop::ProofKey,
    grants::GrantError,
    http::IssuerHttp,
};
use crate::{
    challenge::Challenge,
    store::{Client, Credentials, Registration, Store, Turn},
};

/// A token is renewed this long before its end.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The issuer whose access tokens no other server can verify.
const GOOGLE: &str = "https://accounts.google.com";
/// Sign-ins, or grants to the client itself, without a request that succeeds: a first one and two for more scopes.
const MAX_FRUITLESS_SIGN_INS: u32 = 3;
/// For finding the issuer: a few documents.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Tokens of the issuer that a server names.
pub(crate) struct OAuth {
    server: Url,
    options: OAuthOptions,
    store: Store,
    http: IssuerHttp,
    state: Mutex<State>,
    untried: std::sync::Mutex<Option<Untried>>,
    /// Sign-ins since the last request that succeeded.
    fruitless_sign_ins: AtomicU32,
}

#[derive(Default)]
struct State {
    /// Why the last try failed, for those who waited for it.
    failure: Option<(Instant, String)>,
}

/// A new token that the server has not accepted yet. If it is rejected, one that is got in the same way will be too.
struct Untried {
    token: String,
    is_refreshed: bool,
}

impl OAuth {
    pub(crate) fn new(server: &str, options: OAuthOptions) -> anyhow::Result<Self> {
        let store = Store::of(server, options.state_dir.as_deref()).context("could not open the store of tokens")?;
        let server = Url::parse(server).with_context(|| format!("`{server}` is no URL"))?;
        Ok(Self {
            http: IssuerHttp::of(&server, options.headers.clone(), http::FIRST_PAUSE)?,
            server,
            options,
            store,
            state: Mutex::default(),
            untried: std::sync::Mutex::default(),
            fruitless_sign_ins: AtomicU32::new(0),
        })
    }

    /// The token to send, if there is one already: refreshed, where it is nearly over.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, and when a token that is over cannot be refreshed for a reason that may pass.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<Token>> {
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        let Some(token) = self.token_of(&credentials) else { return Ok(None) };
        let left = credentials.lifetime_left();
        if left.is_none_or(|left| left > margin(&credentials)) {
            return Ok(Some(token));
        }
        match self.refreshed(&token.text).await {
            Ok(refreshed) => Ok(Some(refreshed.unwrap_or(token))),
            Err(error) if left.is_some_and(|left| !left.is_zero()) => {
                tracing::info!("could not refresh the token, which is not over yet: {error:#}");
                Ok(Some(token))
            }
            Err(error) => Err(error.context("could not refresh the token")),
        }
    }

    /// What is kept, if the client that it was given to is the one that is meant now.
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let kept = self.store.credentials()?;
        let identity = self.options.assertion.as_ref().map(AssertionOptions::identity);
        let is_client = |own: &str| self.options.client_id.as_deref().is_none_or(|client_id| client_id == own);
        Ok(kept.filter(|own| is_client(&own.client_id) && own.identity == identity))
    }

    /// A token in place of an old one; `None` if only signing in again will do. No discovery: what was given is refreshed
    /// where it was given.
    ///
    /// # Errors
    ///
    /// When the refresh failed for any other reason than a refresh token or a client that is void.
    async fn refreshed(&self, old: &str) -> anyhow::Result<Option<Token>> {
        let _turn = self.store.turn(Turn::Refresh).await?;
        self.refresh_in_turn(old).await.inspect_err(|error| self.store.note_failure(Turn::Refresh, error))
    }

    async fn refresh_in_turn(&self, old: &str) -> anyhow::Result<Option<Token>> {
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        // Another request, or another process, may have done it.
        if let Some(token) = self.token_of(&credentials).filter(|token| token.text != old) {
            return Ok(Some(token));
        }
        let (Some(refresh_token), Some(endpoint)) =
            (credentials.token_response.refresh_token.as_deref(), credentials.token_endpoint.as_deref())
        else {
            return Ok(None);
        };
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        form.extend(credentials.resource.as_deref().map(|resource| ("resource", resource)));
        let client = Client {
            id: credentials.client_id.clone(),
            secret: self.secret_of(&credentials.client_id).or(credentials.client_secret.clone()),
            auth_method: credentials.auth_method.clone(),
        };
        let key = credentials.proof_key.as_deref().and_then(|kept| ProofKey::of(kept).ok());
        match grants::token(&self.http, endpoint, &client, &form, key.as_ref()).await {
            Ok(mut response) => {
                // RFC 6749, section 6: without a new one the old one holds.
                response.refresh_token.get_or_insert(refresh_token.to_owned());
                let refreshed = Credentials { token_response: response, token_received_at: Some(now()), ..credentials };
                let token = self.token_of(&refreshed);
                self.store.keep_credentials(refreshed)?;
                Ok(token)
            }
            Err(GrantError::InvalidGrant(reason)) => {
                tracing::info!(reason, "the refresh token is void");
                self.store.drop_refresh_token()?;
                Ok(None)
            }
            Err(GrantError::InvalidClient(reason)) => {
                tracing::info!(reason, "the issuer does not know the client");
                self.store.drop_refresh_token()?;
                self.store.drop_registration(&client.id)?;
                Ok(None)
            }
            Err(GrantError::Other(error)) => Err(error),
        }
    }

    /// The secret of a client: the one that was given with its id, or what is kept since it was installed or registered.
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

    /// Notes that a request has succeeded, which proves the sign-ins before it worth their while.
    pub(crate) fn succeeded(&self) {
        self.fruitless_sign_ins.store(0, Ordering::Relaxed);
    }

    /// Gets a token in place of one that was rejected. One at a time: a request that waited finds what another has got, or
    /// why there is nothing.
    pub(crate) async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((_, failure)) = state.failure.as_ref().filter(|(at, _)| *at > asked) {
            bail!("{failure}");
        }
        let renewed = self.renew_in_turn(refused, challenge).await;
        state.failure = renewed.as_ref().err().map(|error| (Instant::now(), format!("{error:#}")));
        renewed
    }

    async fn renew_in_turn(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        if self.has_other_than(refused)? {
            return Ok(());
        }
        let mut scopes: BTreeSet<String> = self.options.scopes.iter().cloned().collect();
        if challenge.is_insufficient_scope() {
            // What was granted before is asked for again: a token has the scopes of its own request alone.
            scopes.extend(self.credentials()?.into_iter().flat_map(|own| own.granted_scopes));
            scopes.extend(challenge.scopes());
        } else if let Some(refused) = refused {
            let is_refreshed = self.untried().as_ref().filter(|own| own.token == refused).map(|own| own.is_refreshed);
            if is_refreshed == Some(false) {
                bail!(
                    "the server rejects the token that the issuer has just given: it may be meant for another server"
                );
            }
            if is_refreshed.is_none() {
                let refreshed = self.refreshed(refused).await.context("could not refresh the token")?;
                if let Some(token) = refreshed.filter(|token| token.text != refused) {
                    *self.untried() = Some(Untried { token: token.text, is_refreshed: true });
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
        // Another process may have a page open: what comes of it, tokens or none, is for all who wait.
        let _turn = self.store.turn(Turn::SignIn).await?;
        if self.has_other_than(refused)? {
            return Ok(());
        }
        let signed_in = match &self.options.assertion {
            Some(options) => self.present_assertion(options, challenge, scopes).await,
            None if self.options.client_credentials => self.present_credentials(challenge, scopes).await,
            None => match self.store.sign_in_failure().filter(|own| own.is_recent()) {
                Some(failure) => Err(anyhow::Error::msg(failure.reason)),
                None => self.sign_in(challenge, scopes).await,
            },
        };
        signed_in.inspect_err(|error| self.store.note_failure(Turn::SignIn, error))?;
        self.store.keep_sign_in_failure(None)?;
        self.fruitless_sign_ins.fetch_add(1, Ordering::Relaxed);
        let token = self.credentials()?.and_then(|own| self.token_of(&own));
        *self.untried() = token.map(|token| Untried { token: token.text, is_refreshed: false });
        Ok(())
    }

    /// Whether a token is kept that is not the rejected one.
    fn has_other_than(&self, refused: Option<&str>) -> anyhow::Result<bool> {
        let current = self.credentials()?.and_then(|own| self.token_of(&own));
        Ok(current.is_some_and(|own| Some(own.text.as_str()) != refused))
    }

    fn untried(&self) -> std::sync::MutexGuard<'_, Option<Untried>> {
        self.untried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn discover(&self, challenge: &Challenge) -> anyhow::Result<Discovered> {
        let found = discovery::discover(&self.http, &self.server, challenge);
        let found = tokio::time::timeout(DISCOVERY_TIMEOUT, found).await;
        let found = found.with_context(|| format!("its metadata took longer than {DISCOVERY_TIMEOUT:?}"))??;
        self.bind(&found.issuer)?;
        Ok(found)
    }

    /// A client's id is one issuer's, and its secret is shown to no other
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

    /// The token to send of what the issuer gave.
    fn token_of(&self, credentials: &Credentials) -> Option<Token> {
        let response = &credentials.token_response;
        if self.token_type(credentials.issuer.as_deref()) == TokenType::IdToken {
            return response.id_token.clone().map(Token::from);
        }
        let key = match response.is_bound() {
            // Without its key a token is worth nothing.
            true => Some(ProofKey::of(credentials.proof_key.as_deref()?).ok()?),
            false => None,
        };
        Some(Token { text: response.access_token.clone(), key })
    }

    /// A key to bind tokens to, where the server wants that and the issuer can.
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

    fn keep(
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
        Ok(self.store.keep_credentials(Credentials {
            granted_scopes: granted.split_whitespace().map(str::to_owned).collect(),
            token_response: response,
            token_received_at: Some(now()),
            issuer: found.issuer.issuer.clone(),
            token_endpoint: Some(found.issuer.token_endpoint.clone()),
            resource,
            client_id: client.id,
            // One that was given is given again, or kept where it was installed.
            client_secret: client.secret.filter(|_| !is_given),
            auth_method: client.auth_method,
            identity: self.options.assertion.as_ref().map(AssertionOptions::identity),
            proof_key: key.map(|key| key.kept().to_owned()),
        })?)
    }
}

/// The scopes to ask for, if none are given: those of the challenge, or else those of the server's metadata.
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

/// `https`, or `http` on this machine.
pub(crate) fn is_secure(url: &str) -> bool {
    SecureUrl::parse(url).is_some()
}

/// How long before its end a token is renewed.
fn margin(credentials: &Credentials) -> Duration {
    let lifetime = Duration::from_secs(credentials.token_response.expires_in.unwrap_or(u64::MAX));
    EXPIRY_MARGIN.min(lifetime / 2)
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Credentials {
    /// The rest of the token's lifetime; `None` if the issuer did not say it: the server will reject the token.
    fn lifetime_left(&self) -> Option<Duration> {
        // The issuer's number may be any.
        let end = self.token_received_at?.saturating_add(self.token_response.expires_in?);
        Some(Duration::from_secs(end.saturating_sub(now())))
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::{http::tests::answering, *};

    const AWAY: &str = "HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    /// As in one process of its own for each: they share the folder.
    fn sharing(origin: &str, state: &tempfile::TempDir) -> OAuth {
        let options = OAuthOptions { state_dir: Some(state.path().join("mcpl")), ..OAuthOptions::default() };
        OAuth::new(&format!("{origin}/mcp"), options).unwrap()
    }

    fn keep_expired_token(oauth: &OAuth, origin: &str) {
        let expired = serde_json::json!({
            "client_id": "c", "token_response": { "access_token": "t", "expires_in": 1, "refresh_token": "r" },
            "granted_scopes": [], "token_received_at": 0, "token_endpoint": format!("{origin}/token"),
        });
        oauth.store.keep_credentials(serde_json::from_value(expired).unwrap()).unwrap();
    }

    /// As when a client sends several requests at once: they do not try one after the other.
    #[tokio::test]
    async fn requests_share_a_refresh_that_fails_o02() {
        let (origin, tries) = answering(AWAY).await;
        let state = tempfile::tempdir().unwrap();
        let oauth = sharing(&origin, &state);
        keep_expired_token(&oauth, &origin);

        let (one, two, three) = tokio::join!(oauth.token(), oauth.token(), oauth.token());

        for failed in [one, two, three] {
            assert!(format!("{:#}", failed.unwrap_err()).contains("no answer after 4 tries"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        assert!(oauth.token().await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
    }

    /// o02, o11: each of twenty would wait for those before it, for two minutes each.
    #[tokio::test]
    async fn processes_share_a_refresh_that_fails() {
        let (origin, tries) = answering(AWAY).await;
        let state = tempfile::tempdir().unwrap();
        let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
        keep_expired_token(&one, &origin);

        let failed = tokio::join!(one.token(), two.token(), three.token());

        for failed in [failed.0, failed.1, failed.2] {
            assert!(format!("{:#}", failed.unwrap_err()).contains("no answer after 4 tries"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        assert!(two.token().await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
    }

    /// o11: one page that is closed would be followed by one of each other process.
    #[tokio::test]
    async fn processes_share_a_sign_in_that_fails() {
        let (origin, requests) = answering("HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        let state = tempfile::tempdir().unwrap();
        let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
        let challenge = Challenge::of(&HeaderMap::new(), "");
        assert!(one.renew(None, &challenge).await.is_err());
        let of_one = requests.load(Ordering::Relaxed);

        let failed =
            tokio::join!(one.renew(None, &challenge), two.renew(None, &challenge), three.renew(None, &challenge));

        let failed = [failed.0, failed.1, failed.2].map(|failed| format!("{:#}", failed.unwrap_err()));
        assert_eq!((&failed[1], &failed[2]), (&failed[0], &failed[0]));
        assert_eq!((of_one > 0, requests.load(Ordering::Relaxed)), (true, 2 * of_one));
    }

    /// 8.7: as it is read from the file, where `received` is no less odd.
    #[test]
    fn a_lifetime_is_any_number() {
        let kept = |lifetime: u64, received: u64| -> Credentials {
            let token = serde_json::json!({ "access_token": "t", "token_type": "Bearer", "expires_in": lifetime });
            let kept = serde_json::json!({
                "client_id": "c", "token_response": token, "granted_scopes": [], "token_received_at": received,
            });
            serde_json::from_value(kept).unwrap()
        };
        let is_expiring = |own: &Credentials| own.lifetime_left().is_some_and(|left| left <= margin(own));

        for received in [0, now(), u64::MAX] {
            assert!(!is_expiring(&kept(u64::MAX, received)), "{received}");
        }
        assert!(!is_expiring(&kept(3600, now())) && is_expiring(&kept(0, now())) && is_expiring(&kept(3600, 0)));
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
