//! Revoking a grant at its issuer (RFC 7009), and signing in ahead of time.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context as _, bail};
use mcp_protocol::{json::shortened, uri::SecureUrl};
use reqwest::header::HeaderMap;
use url::{Url, form_urlencoded};

use super::{
    OAuth, grants,
    http::{self, IssuerHttp},
};
use crate::{
    challenge::Challenge,
    store::{Client, Credentials},
};

/// Timeout of a revocation with its retries. The stored grant is deleted in any case.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The outcome of a revocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    Revoked,
    /// Its metadata has no `revocation_endpoint`.
    Unsupported,
}

/// Revokes a grant of a server's issuer: its refresh token, or the access token if there is none.
///
/// # Errors
///
/// When the issuer cannot be reached in time or rejects the request.
pub(crate) async fn revoke(server: &str, credentials: &Credentials, client: &Client) -> anyhow::Result<Revocation> {
    let server = Url::parse(server).context("the server's URL cannot be read")?;
    let http = IssuerHttp::of(&server, HeaderMap::new(), http::FIRST_PAUSE)?;
    revoke_by(&http, credentials, client).await
}

/// Revokes tokens that are not kept, since the server was forgotten while they were requested.
pub(super) async fn revoke_unkept(http: &IssuerHttp, credentials: &Credentials, client: &Client) {
    match revoke_by(http, credentials, client).await {
        Ok(revocation) => tracing::info!(?revocation, "the server was forgotten: its new tokens are not kept"),
        Err(error) => tracing::warn!(
            "could not revoke the tokens at the issuer: {error:#}: they stay valid until they expire, or revoke them there"
        ),
    }
}

async fn revoke_by(http: &IssuerHttp, credentials: &Credentials, client: &Client) -> anyhow::Result<Revocation> {
    let Some(endpoint) = credentials.revocation_endpoint.as_deref() else { return Ok(Revocation::Unsupported) };
    check_endpoint(http, endpoint).context("its `revocation_endpoint` is unusable")?;
    let (token, hint) = match &credentials.token_response.refresh_token {
        Some(refresh_token) => (refresh_token, "refresh_token"),
        None => (&credentials.token_response.access_token, "access_token"),
    };
    let (own, authorization) = grants::authentication(client);
    let form = [&[("token", token.as_str()), ("token_type_hint", hint)], own.as_slice()].concat();
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let answer = http.post(endpoint, grants::FORM, &body, authorization.as_ref(), None);
    let answer = tokio::time::timeout(REVOCATION_TIMEOUT, answer).await;
    let answer = answer.with_context(|| format!("no answer within {} s", REVOCATION_TIMEOUT.as_secs()))??;
    match answer.status.is_success() {
        true => Ok(Revocation::Revoked),
        false => bail!("{}", answer.reason()),
    }
}

/// Checks a URL to which a token is sent.
fn check_endpoint(http: &IssuerHttp, endpoint: &str) -> anyhow::Result<()> {
    let shown = shortened(endpoint);
    if Url::parse(endpoint).is_err() {
        bail!("`{shown}` is no URL");
    }
    if SecureUrl::parse(endpoint).is_none() {
        bail!("`{shown}` must be an https URL without a user name");
    }
    http.check_address(endpoint)
}

impl OAuth {
    /// Gets a token ahead of the request that requires it: none if a valid one with the configured scopes is kept.
    ///
    /// # Errors
    ///
    /// As [`OAuth::renew`].
    pub(crate) async fn sign_in_ahead(&self) -> anyhow::Result<()> {
        if self.fruitless_sign_ins.load(Ordering::Relaxed) > 0 {
            // The first request has started a sign-in.
            return Ok(());
        }
        let token = self.token().await?;
        let mut challenge = Challenge::default();
        if let Some(kept) = self.credentials()?.filter(|_| token.is_some()) {
            let missing: Vec<&str> = self.options.scopes.iter().map(String::as_str).collect();
            let missing: Vec<&str> =
                missing.into_iter().filter(|scope| !kept.granted_scopes.iter().any(|own| own == scope)).collect();
            match (missing.is_empty(), kept.has_expired()) {
                (true, false) => return Ok(()),
                (true, true) => {}
                (false, _) => challenge = Challenge::insufficient_scope(&missing),
            }
        }
        self.renew(token.as_ref().map(|own| own.text.as_str()), &challenge).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unusable_endpoint_is_named_with_its_reason() {
        let long = format!("https:{}", "/".repeat(10_000));
        for (endpoint, reason) in [
            ("http://id.example/revoke", "`http://id.example/revoke` must be an https URL without a user name"),
            (
                "https://a:b@id.example/revoke",
                "`https://a:b@id.example/revoke` must be an https URL without a user name",
            ),
            ("/revoke", "`/revoke` is no URL"),
            ("", "`` is no URL"),
            (&long, "…` is no URL"),
            ("https://127.0.0.1/revoke", "127.0.0.1 is this machine, to which a server elsewhere cannot lead"),
            ("http://localhost:1/revoke", "localhost is this machine, to which a server elsewhere cannot lead"),
            (
                "https://169.254.169.254/",
                "169.254.169.254 is a link-local or reserved address, to which no server can lead",
            ),
        ] {
            let kept = serde_json::json!({
                "client_id": "c", "token_response": { "access_token": "t" }, "granted_scopes": [],
                "token_received_at": 0, "revocation_endpoint": endpoint,
            });
            let credentials: Credentials = serde_json::from_value(kept).unwrap();
            let client = Client { id: "c".to_owned(), secret: None, auth_method: None };

            let error = revoke("https://mcp.example.com/mcp", &credentials, &client).await.unwrap_err();

            let error = format!("{error:#}");
            assert!(error.starts_with("its `revocation_endpoint` is unusable: "), "{error}");
            assert!(error.ends_with(reason) && error.len() < 500, "{error}");
        }
    }
}
