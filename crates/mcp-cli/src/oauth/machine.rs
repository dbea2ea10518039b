//! Tokens without a sign-in: client credentials, and assertions of a workload or of an identity provider.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context as _, bail};
use reqwest::header::HeaderMap;
use url::Url;

use super::{
    DISCOVERY_TIMEOUT, OAuth,
    assertion::{Assertion, AssertionSource},
    discovery::{self, Discovered, IssuerMetadata},
    grants,
    http::{self, IssuerHttp},
    wanted_scopes,
};
use crate::{challenge::Challenge, store::Client};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// An assertion in place of a sign-in.
#[derive(Debug, Clone)]
pub(crate) struct AssertionOptions {
    pub(crate) source: AssertionSource,
    /// The identity provider that exchanges the assertion, its ID token, for one for the server's issuer.
    pub(crate) identity_provider: Option<IdentityProvider>,
}

impl AssertionOptions {
    /// The principal of the tokens, as stored with them.
    pub(super) fn identity(&self) -> String {
        match &self.identity_provider {
            Some(provider) => format!("{}, by {}", self.source, provider.issuer),
            None => self.source.to_string(),
        }
    }
}

/// The identity provider of a company, and this client there.
#[derive(Clone)]
pub(crate) struct IdentityProvider {
    pub(crate) issuer: String,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
}

impl fmt::Debug for IdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityProvider").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The scopes and the resource of a token request.
struct Wanted<'a> {
    issuer: &'a str,
    token_endpoint: &'a str,
    client_id: &'a str,
    scope: &'a str,
    resource: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// The form of a request: `own`, then scopes and resource.
    fn form(&self, own: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let scope = Some(self.scope).filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope));
        own.iter().copied().chain(scope).chain(self.resource.map(|resource| ("resource", resource))).collect()
    }
}

impl OAuth {
    /// Requests a token by the client credentials grant (OAuth 2.1, section 4.2).
    pub(super) async fn present_credentials(
        &self,
        challenge: &Challenge,
        scopes: BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let id = self.options.client_id.clone().context("`--client-credentials` needs `--client-id`")?;
        let found = self.discover(challenge).await.context("could not find out where tokens are to be had")?;
        let scope = wanted_scopes(&found, challenge, scopes).join(" ");
        let resource = self.resource(&found);
        let key = self.proof_key(challenge, &found)?;
        let mut form = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        form.extend(resource.as_deref().map(|resource| ("resource", resource)));
        let (issuer, client) = (&found.issuer, self.client(&id, &found.issuer));
        let given = match (&self.options.private_key, &client.secret) {
            (Some(own), _) => grants::token_by_assertion(&self.http, issuer, &id, own, &form, key.as_ref()).await,
            (None, Some(_)) => grants::token(&self.http, &issuer.token_endpoint, &client, &form, key.as_ref()).await,
            (None, None) => bail!(
                "`--client-credentials` needs the client's secret or private key: set MCPL_CLIENT_SECRET, or give \
                 `--client-secret-file`, `--ask-client-secret` or `--private-key`"
            ),
        };
        let response = given.map_err(anyhow::Error::from).context("the issuer gave no token")?;
        self.keep(&found, client, response, &scope, resource, key).await
    }

    /// Exchanges an assertion for a token (RFC 7523, section 2.1), without another grant as a fallback.
    pub(super) async fn present_assertion(
        &self,
        options: &AssertionOptions,
        challenge: &Challenge,
        scopes: BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let found = self.discover(challenge).await.context("could not find out where tokens are to be had")?;
        let scope = wanted_scopes(&found, challenge, scopes).join(" ");
        let resource = self.resource(&found);
        let key = self.proof_key(challenge, &found)?;
        // A client without an id is identified by its assertion.
        let unnamed = || Client { id: String::new(), secret: None, auth_method: None };
        let client = self.options.client_id.as_ref().map_or_else(unnamed, |id| self.client(id, &found.issuer));
        let wanted = Wanted {
            issuer: issuer_name(&found)?,
            token_endpoint: &found.issuer.token_endpoint,
            client_id: &client.id,
            scope: &scope,
            resource: resource.as_deref(),
        };
        let own = options.source.read().await?;
        let assertion = match &options.identity_provider {
            Some(provider) => {
                exchanged(provider, &own, &wanted).await.map_err(|error| of_source(error, options, &own))?
            }
            None => {
                let checked = own.check_audience(wanted.issuer, wanted.token_endpoint);
                checked.with_context(|| format!("the assertion of {} is not sent", options.source))?;
                own.clone()
            }
        };
        let form = wanted.form(&[("grant_type", JWT_BEARER), ("assertion", &assertion.text)]);
        let given = grants::token(&self.http, &found.issuer.token_endpoint, &client, &form, key.as_ref()).await;
        let response = given.map_err(|error| {
            let error = anyhow::Error::from(error);
            of_source(error.context(format!("the issuer {} gave no token", wanted.issuer)), options, &own)
        })?;
        self.keep(&found, client, response, &scope, resource, key).await
    }
}

/// An error with the usual reason for it.
fn of_source(error: anyhow::Error, options: &AssertionOptions, own: &Assertion) -> anyhow::Error {
    match own.has_expired() {
        true => error.context(format!("{} has an assertion that has expired: put a new one there", options.source)),
        false => error,
    }
}

fn issuer_name(found: &Discovered) -> anyhow::Result<&str> {
    found.issuer.issuer.as_deref().context("the server's issuer has no name in its metadata")
}

/// Exchanges an ID token for an assertion for the server's issuer (RFC 8693). The identity provider decides whether the
/// user may use the server.
async fn exchanged(
    provider: &IdentityProvider,
    id_token: &Assertion,
    wanted: &Wanted<'_>,
) -> anyhow::Result<Assertion> {
    let name = &provider.issuer;
    let url = Url::parse(name).with_context(|| format!("`--idp {name}` is no URL"))?;
    // The user has configured it: it may have any address, and does not get the server's headers.
    let http = IssuerHttp::of(&url, HeaderMap::new(), http::FIRST_PAUSE)?;
    let found = tokio::time::timeout(DISCOVERY_TIMEOUT, discovery::identity_provider(&http, name)).await;
    let found = found.with_context(|| format!("its metadata took longer than {DISCOVERY_TIMEOUT:?}"));
    let found: IssuerMetadata =
        found.flatten().with_context(|| format!("could not find the identity provider {name}: check `--idp`"))?;
    let client = Client {
        id: provider.client_id.clone().unwrap_or_default(),
        secret: provider.client_secret.clone(),
        auth_method: grants::auth_method(&found),
    };
    let form = wanted.form(&[
        ("grant_type", TOKEN_EXCHANGE),
        ("requested_token_type", ID_JAG),
        ("audience", wanted.issuer),
        ("subject_token", &id_token.text),
        ("subject_token_type", ID_TOKEN),
    ]);
    let given = grants::token(&http, &found.token_endpoint, &client, &form, None).await;
    let why = || format!("the identity provider {name} gave no assertion for the issuer {}", wanted.issuer);
    let response = given.map_err(anyhow::Error::from).with_context(why)?;
    if let Some(other) = response.issued_token_type.filter(|own| own != ID_JAG) {
        bail!("{}, but a token of the type {other}", why());
    }
    let assertion = Assertion::parse(&response.access_token).with_context(why)?;
    assertion.check_id_jag(wanted.issuer, wanted.token_endpoint, wanted.client_id).with_context(why)?;
    Ok(assertion)
}
