//! The authorization code grant (OAuth 2.1, section 4.1): sign-in page, redirect to loopback, code, tokens.

use std::{collections::BTreeSet, io, time::Duration};

use anyhow::{Context, bail};
use mcp_protocol::uri::SecureUrl;
use url::Url;

use super::{
    OAuth, TokenType, browser,
    discovery::{Discovered, IssuerMetadata},
    dpop::ProofKey,
    grants::{self, GrantError},
    now, wanted_scopes,
};
use crate::{
    callback::{CallbackListener, ExpectedRedirect, Redirect, WaitingPage, can_paste, pasted},
    challenge::Challenge,
    output,
    store::{Client, PageError, Registration},
};

/// Timeout of a sign-in, and of waiting for a port that another sign-in uses.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(300);
/// Cooldown after a failed sign-in, during which no further page is opened.
const SIGN_IN_COOLDOWN: Duration = Duration::from_secs(30);
/// Timeout of the request that checks whether the issuer knows a client.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of the reason for which a sign-in page ended.
const MAX_FAILURE_CHARS: usize = 500;
/// Scope that is requested to get a refresh token (2026-07-28, Authorization, "Refresh Tokens").
const OFFLINE_ACCESS: &str = "offline_access";

impl OAuth {
    /// Whether a page may be opened.
    ///
    /// # Errors
    ///
    /// The error of the last page, if it ended without tokens a short time ago.
    pub(super) fn check_cooldown(&self) -> anyhow::Result<()> {
        let Some((reason, ended_at)) = self.store.page_failure()? else { return Ok(()) };
        // Not one of the future, by a clock that was set back since.
        match now().checked_sub(ended_at).is_some_and(|seconds| seconds < SIGN_IN_COOLDOWN.as_secs()) {
            true => bail!("{reason}"),
            false => Ok(()),
        }
    }

    pub(super) async fn sign_in(&self, challenge: &Challenge, scopes: BTreeSet<String>) -> anyhow::Result<()> {
        let found = self.discover(challenge).await.context("could not find out where to sign in")?;
        check_pkce(&found.issuer, self.options.assume_pkce)?;
        let mut scopes = scopes;
        if self.token_type(found.issuer.issuer.as_deref()) == TokenType::IdToken {
            scopes.extend(["openid".to_owned(), "email".to_owned()]);
        }
        let mut scopes = wanted_scopes(&found, challenge, scopes);
        let has_offline = |own: &[String]| own.iter().any(|scope| scope == OFFLINE_ACCESS);
        if !scopes.is_empty()
            && !has_offline(&scopes)
            && has_offline(found.issuer.scopes_supported.as_deref().unwrap_or_default())
        {
            scopes.push(OFFLINE_ACCESS.to_owned());
        }
        let scope = scopes.join(" ");
        let key = self.proof_key(challenge, &found)?;
        let Some(reason) = self.sign_in_at(&found, &scope, key.as_ref()).await? else { return Ok(()) };
        tracing::info!(reason, "the issuer has dropped the registration: a new one is made");
        match self.sign_in_at(&found, &scope, key.as_ref()).await? {
            Some(reason) => bail!("the issuer does not know the client: {reason}"),
            None => Ok(()),
        }
    }

    /// Opens a sign-in page and waits for its outcome. Returns the reason if the issuer does not know a client that it has
    /// registered itself. Its registration is dropped then.
    async fn sign_in_at(
        &self,
        found: &Discovered,
        scope: &str,
        key: Option<&ProofKey>,
    ) -> anyhow::Result<Option<String>> {
        let issuer = &found.issuer;
        let endpoint = issuer.authorization_endpoint.as_deref();
        let endpoint =
            endpoint.context("the issuer has no page to sign in at: its metadata has no `authorization_endpoint`")?;
        // A registration holds for the issuer that made it, and for its redirect URI.
        let kept = self.store.registration()?.filter(|own| own.issuer == issuer.issuer && own.is_dynamic());
        let listener = self.listen(kept.as_ref()).await?;
        let client = self.client_for(issuer, &listener.redirect_uri(), kept).await?;
        let (verifier, state) = (grants::random()?, grants::random()?);
        let resource = self.resource(found);
        let mut url = Url::parse(endpoint)?;
        url.set_fragment(None);
        url.query_pairs_mut().extend_pairs(
            [
                ("response_type", Some("code")),
                ("client_id", Some(client.id.as_str())),
                ("state", Some(&state)),
                ("code_challenge", Some(&grants::code_challenge(&verifier))),
                ("code_challenge_method", Some("S256")),
                ("redirect_uri", Some(&listener.redirect_uri())),
                ("scope", Some(scope).filter(|scope| !scope.is_empty())),
                ("resource", resource.as_deref()),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
        );
        let redirect_uri = listener.redirect_uri();
        let expected = ExpectedRedirect {
            state,
            issuer: issuer.issuer.clone(),
            requires_issuer: issuer.authorization_response_iss_parameter_supported == Some(true),
        };
        self.store.note_page(url.as_str());
        let (redirect, page) = self.redirect(listener, url.as_str(), expected.clone()).await.map_err(page_error)?;
        let ended: anyhow::Result<Option<String>> = async {
            let code = code_of(redirect, &expected).map_err(page_error)?;
            let mut form = vec![
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", &redirect_uri),
                ("code_verifier", &verifier),
            ];
            form.extend(resource.as_deref().map(|resource| ("resource", resource)));
            match grants::token(&self.http, &issuer.token_endpoint, &client, &form, key).await {
                Ok(response) => {
                    self.keep(found, client, response, scope, resource.clone(), key.cloned()).await?;
                    Ok(None)
                }
                Err(GrantError::InvalidClient(reason)) if self.store.drop_registration(&client.id)? => Ok(Some(reason)),
                Err(error) => Err(anyhow::Error::from(error).context("the issuer gave no token")),
            }
        }
        .await;
        if let Some(page) = page {
            page.show(match &ended {
                Ok(None) => Ok(()),
                Ok(Some(reason)) => Err(format!("The issuer does not know the client ({reason}). Another page opens.")),
                Err(error) => Err(format!("{error:#}").chars().take(MAX_FAILURE_CHARS).collect()),
            })
            .await;
        }
        ended
    }

    /// The client to sign in with: the configured one, its metadata document, or a registered one.
    async fn client_for(
        &self,
        issuer: &IssuerMetadata,
        redirect_uri: &str,
        kept: Option<Registration>,
    ) -> anyhow::Result<Client> {
        if let Some(id) = &self.options.client_id {
            return Ok(self.client(id, issuer));
        }
        if let Some(kept) = kept.filter(|own| own.redirect_uri == redirect_uri) {
            let client: Client = kept.into();
            // A refresh has the same answer.
            let has_refresh_token = self
                .store
                .credentials()?
                .is_some_and(|own| own.client_id == client.id && own.token_response.refresh_token.is_some());
            if has_refresh_token || !self.is_forgotten(issuer, &client).await {
                return Ok(client);
            }
            tracing::info!("the issuer has dropped the registration: a new one is made");
            self.store.drop_registration(&client.id)?;
        }
        if let Some(url) = &self.options.client_metadata_url
            && issuer.client_id_metadata_document_supported == Some(true)
        {
            return Ok(Client { id: url.clone(), secret: None, auth_method: None });
        }
        let registered = grants::register(&self.http, issuer, redirect_uri).await;
        let client = registered
            .context("could not register with the issuer; where clients are registered by hand, give `--client-id`")?;
        self.store.keep_registration(Registration {
            issuer: issuer.issuer.clone(),
            client_id: client.id.clone(),
            client_secret: client.secret.clone(),
            auth_method: client.auth_method.clone(),
            redirect_uri: redirect_uri.to_owned(),
        })?;
        Ok(client)
    }

    /// Whether the issuer no longer knows a client. Its page would show that to the user alone, and redirect nowhere; the token
    /// endpoint reports it in answer to any grant (RFC 6749, section 5.2). Without an answer the client counts as known.
    async fn is_forgotten(&self, issuer: &IssuerMetadata, client: &Client) -> bool {
        let Ok(unknown) = grants::random() else { return false };
        let form = [("grant_type", "refresh_token"), ("refresh_token", unknown.as_str())];
        let answer = grants::token(&self.http, &issuer.token_endpoint, client, &form, None);
        let answer = tokio::time::timeout(PROBE_TIMEOUT, answer).await;
        matches!(answer, Ok(Err(GrantError::InvalidClient(_))))
    }

    /// Listens on the configured port, once it is free; or on that of the registration, if it is free.
    async fn listen(&self, kept: Option<&Registration>) -> anyhow::Result<CallbackListener> {
        let (host, port) = (self.options.callback_host, self.options.callback_port);
        if port == 0 {
            let kept = kept.and_then(|own| Url::parse(&own.redirect_uri).ok()?.port());
            let kept = match kept {
                Some(port) => CallbackListener::bind(host, port).await.ok(),
                None => None,
            };
            return match kept {
                Some(listener) => Ok(listener),
                None => CallbackListener::bind(host, 0).await.context("could not listen on 127.0.0.1 for the browser"),
            };
        }
        let bound = tokio::time::timeout(SIGN_IN_TIMEOUT, CallbackListener::bind_when_free(host, port)).await;
        let bound = bound.unwrap_or_else(|_| Err(io::ErrorKind::AddrInUse.into()));
        bound.with_context(|| format!("could not listen on 127.0.0.1:{port} for the browser"))
    }

    /// Opens the sign-in page. Returns the redirect and the browser's page, which a pasted address has not.
    async fn redirect(
        &self,
        listener: CallbackListener,
        url: &str,
        expected: ExpectedRedirect,
    ) -> anyhow::Result<(Redirect, Option<WaitingPage>)> {
        let port = listener.port();
        output::release_terminal();
        output::note(&format!("sign in at {url}"));
        let is_opened = browser::open(&self.options.browser, url);
        if !is_opened {
            output::note(&format!(
                "the page ends at 127.0.0.1:{port}, on this machine: for a browser on another one, run \
                 `ssh -L {port}:127.0.0.1:{port} HOST` there first{}",
                if can_paste() { ", or paste here the address at which it ends" } else { "" }
            ));
        }
        let typed = expected.clone();
        let redirect = async {
            tokio::select! {
                redirect = listener.wait(expected) => redirect.map(|(redirect, page)| (redirect, Some(page))),
                redirect = pasted(typed), if !is_opened => redirect.map(|redirect| (redirect, None)),
            }
        };
        let redirect = tokio::time::timeout(SIGN_IN_TIMEOUT, redirect).await;
        Ok(redirect.with_context(|| {
            format!(
                "no sign-in within five minutes: if the page reports an unknown client, run `mcpl forget {}`",
                self.server
            )
        })??)
    }
}

/// The error of a sign-in page, truncated.
fn page_error(error: anyhow::Error) -> anyhow::Error {
    let reason: String = format!("{error:#}").chars().take(MAX_FAILURE_CHARS).collect();
    let seconds = SIGN_IN_COOLDOWN.as_secs();
    PageError(format!("{reason}: a new call opens another page after {seconds} s")).into()
}

/// The authorization code of a redirect from the expected issuer.
fn code_of(redirect: Redirect, expected: &ExpectedRedirect) -> anyhow::Result<String> {
    if let Some(error) = redirect.error {
        bail!("signing in failed: {error}");
    }
    let name = expected.issuer.as_deref().unwrap_or("without a name");
    match &redirect.issuer {
        // RFC 9207, section 2.4.
        Some(other) if redirect.issuer != expected.issuer => {
            bail!("signing in failed: the answer is of the issuer {other}, not of {name}")
        }
        None if expected.requires_issuer => {
            bail!("signing in failed: the answer does not name its issuer, as those of {name} do")
        }
        _ => redirect.code.context("signing in failed: the answer has no code"),
    }
}

/// 2026-07-28, Authorization, "Authorization Code Protection": an issuer that does not list PKCE is not used.
fn check_pkce(issuer: &IssuerMetadata, is_assumed: bool) -> anyhow::Result<()> {
    let name = issuer.issuer.as_deref().unwrap_or("without a name");
    match &issuer.code_challenge_methods_supported {
        Some(methods) if methods.iter().any(|method| method == "S256") => Ok(()),
        Some(methods) => bail!("the issuer {name} does not support PKCE with S256, but {}", methods.join(", ")),
        None if is_assumed || lists_no_pkce(name) => Ok(()),
        None => bail!(
            "the metadata of the issuer {name} does not list PKCE in `code_challenge_methods_supported`: if it supports S256, give \
             `--assume-pkce`"
        ),
    }
}

/// Whether an issuer supports PKCE without listing it: user pools of Cognito, and tenants of Entra ID.
fn lists_no_pkce(issuer: &str) -> bool {
    const ENTRA: [&str; 4] = [
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "sts.windows.net",
    ];
    let Some(url) = SecureUrl::parse(issuer).filter(|url| url.is_https && url.port.is_none()) else { return false };
    let labels: Vec<&str> = url.host.split('.').collect();
    let is_cognito =
        matches!(labels[..], ["cognito-idp", _, "amazonaws", "com"] | ["cognito-idp", _, "amazonaws", "com", "cn"]);
    is_cognito || ENTRA.contains(&url.host) || matches!(labels[..], [_, "ciamlogin", "com"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_lists_pkce_or_is_known_to_support_it_c1() {
        let issuer = |name: &str, methods: Option<&[&str]>| IssuerMetadata {
            issuer: Some(name.to_owned()),
            code_challenge_methods_supported: methods.map(|own| own.iter().map(|own| (*own).to_owned()).collect()),
            ..IssuerMetadata::default()
        };
        let any = "https://id.example";
        assert!(check_pkce(&issuer(any, Some(&["plain", "S256"])), false).is_ok());
        let error = check_pkce(&issuer(any, None), false).unwrap_err().to_string();
        assert!(error.contains("--assume-pkce"), "{error}");
        assert!(check_pkce(&issuer(any, None), true).is_ok());
        for is_assumed in [false, true] {
            assert!(check_pkce(&issuer(any, Some(&["plain"])), is_assumed).is_err());
        }
        for known in [
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc",
            "https://login.microsoftonline.com/2d1b/v2.0",
            "https://sts.windows.net/2d1b/",
        ] {
            assert!(check_pkce(&issuer(known, None), false).is_ok(), "{known}");
            assert!(check_pkce(&issuer(known, Some(&[])), false).is_err(), "{known}");
        }
        for other in [
            "https://cognito-idp.evil.example/x",
            "https://cognito-idp.eu-west-1.amazonaws.com.evil.example",
            "https://x.cognito-idp.eu-west-1.amazonaws.com",
            "https://login.microsoftonline.com.evil.example",
            "http://login.microsoftonline.com/x",
        ] {
            assert!(check_pkce(&issuer(other, None), false).is_err(), "{other}");
        }
    }
}
