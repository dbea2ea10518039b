//! Finding the issuer: the server's metadata (RFC 9728), then the issuer's (RFC 8414, OpenID Connect Discovery).
//!
//! Documents are requested at several URLs in turn. A URL that does not respond, or redirects to another origin, is skipped,
//! and requested once more if no other URL has the document. The endpoint itself is not requested: its GET is a stream of events.

use std::fmt;

use anyhow::{Context as _, bail};
use mcp_protocol::{json::shortened, uri::SecureUrl};
use serde::Deserialize;
use url::Url;

use super::{
    http::{Failure, IssuerHttp},
    resource,
};
use crate::{challenge::Challenge, received};

/// RFC 8414, section 3.
const RFC_8414: &str = "/.well-known/oauth-authorization-server";
/// OpenID Connect Discovery, section 4.
const OPENID: &str = "/.well-known/openid-configuration";

/// Authorization server metadata (RFC 8414, section 2): the members that are used.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct IssuerMetadata {
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: String,
    pub(super) registration_endpoint: Option<String>,
    /// RFC 7009.
    pub(super) revocation_endpoint: Option<String>,
    pub(super) scopes_supported: Option<Vec<String>>,
    pub(super) code_challenge_methods_supported: Option<Vec<String>>,
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) client_id_metadata_document_supported: Option<bool>,
    /// RFC 9207, section 3.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: Option<bool>,
    /// RFC 9449, section 5.1.
    pub(super) dpop_signing_alg_values_supported: Option<Vec<String>>,
}

/// Protected resource metadata (RFC 9728, section 2): the members that are used.
#[derive(Debug, Deserialize)]
struct ResourceMetadata {
    resource: Option<String>,
    authorization_servers: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    dpop_bound_access_tokens_required: Option<bool>,
}

/// Neither the server's metadata nor its origin names an issuer.
#[derive(Debug)]
pub(crate) struct NoIssuer;

impl fmt::Display for NoIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the server rejects the request and names no issuer of tokens: if it wants an API key or a token of its own, \
             give it by `--header \"NAME: VALUE\"`",
        )
    }
}

impl std::error::Error for NoIssuer {}

/// The result of discovery: issuer, resource and scopes.
#[derive(Debug)]
pub(super) struct Discovered {
    pub(super) issuer: IssuerMetadata,
    /// The resource identifier: that of the metadata, or the server's URL.
    pub(super) resource: String,
    /// The scopes that the server's metadata lists.
    pub(super) scopes: Vec<String>,
    /// Whether the server's metadata requires DPoP-bound tokens.
    pub(super) requires_dpop: bool,
}

/// Finds the issuer of a server's tokens.
///
/// # Errors
///
/// When there is none, when the server's metadata is another server's, and when the issuer's metadata is another issuer's or
/// leads where no token may go.
pub(super) async fn discover(http: &IssuerHttp, server: &Url, challenge: &Challenge) -> anyhow::Result<Discovered> {
    let metadata = resource_metadata(http, server, challenge).await?;
    let requires_dpop = metadata.as_ref().is_some_and(|own| own.dpop_bound_access_tokens_required == Some(true));
    let (named, issuers, scopes) = match metadata {
        Some(own) => (own.resource, own.authorization_servers.unwrap_or_default(), own.scopes_supported),
        None => (None, Vec::new(), None),
    };
    let found = match issuers.is_empty() {
        false => Some(issuer_of(http, &issuers).await?),
        // As servers of 2025-03-26 have it.
        true => issuer_at(http, server, None).await?,
    };
    let issuer = found.ok_or(NoIssuer)?;
    check(http, &issuer)?;
    let resource = named.unwrap_or_else(|| resource::of_server(server));
    Ok(Discovered { issuer, resource, scopes: scopes.unwrap_or_default(), requires_dpop })
}

/// The metadata of an identity provider that the user has named.
///
/// # Errors
///
/// When there is none, and as [`discover`].
pub(super) async fn identity_provider(http: &IssuerHttp, name: &str) -> anyhow::Result<IssuerMetadata> {
    let metadata = issuer_of(http, &[name.to_owned()]).await?;
    check(http, &metadata)?;
    Ok(metadata)
}

async fn resource_metadata(
    http: &IssuerHttp,
    server: &Url,
    challenge: &Challenge,
) -> anyhow::Result<Option<ResourceMetadata>> {
    let named = challenge.resource_metadata(server.as_str()).filter(|url| {
        let is_secure = SecureUrl::parse(url.as_str()).is_some();
        if !is_secure {
            tracing::warn!("the server's metadata at {url} is not read: it is no https URL");
        }
        is_secure
    });
    let mut places: Vec<Url> = named.iter().cloned().collect();
    for place in well_known(server, "oauth-protected-resource") {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    first(http, &places, false, |place, document| {
        let Ok(metadata) = received::read::<ResourceMetadata>(document) else { return Ok(None) };
        let reason = match metadata.resource.as_deref() {
            Some(given) => match resource::identifier(given, server) {
                Ok(normal) => return Ok(Some(ResourceMetadata { resource: Some(normal), ..metadata })),
                Err(reason) => format!("is that of `{}`, {reason}", shortened(given)),
            },
            None => "has no `resource`".to_owned(),
        };
        // A document at the URL from the challenge must be valid; an invalid one at a well-known URL is skipped.
        if named.as_ref() == Some(place) {
            bail!("the server's metadata at {place} {reason}");
        }
        tracing::info!("the server's metadata at {place} {reason}: it is not used");
        Ok(None)
    })
    .await
}

/// The metadata of the first issuer that publishes some.
async fn issuer_of(http: &IssuerHttp, issuers: &[String]) -> anyhow::Result<IssuerMetadata> {
    let mut failure = None;
    for issuer in issuers {
        let Some(url) = SecureUrl::parse(issuer).and_then(|_| Url::parse(issuer).ok()) else {
            failure = Some(anyhow::anyhow!("the issuer `{issuer}` is no https URL"));
            continue;
        };
        match issuer_at(http, &url, Some(issuer)).await {
            Ok(Some(metadata)) => return Ok(metadata),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    let names = issuers.join(", ");
    match failure {
        Some(failure) => Err(failure.context(format!("no metadata of the issuer {names}"))),
        None => bail!("the issuer {names} publishes no metadata"),
    }
}

async fn issuer_at(http: &IssuerHttp, url: &Url, issuer: Option<&str>) -> anyhow::Result<Option<IssuerMetadata>> {
    let path = url.path().trim_matches('/');
    let mut places = issuer_places(url);
    if !path.is_empty() {
        // Some issuers publish it for the origin alone.
        places.push(at(url, RFC_8414));
    }
    first(http, &places, issuer.is_some(), |place, document| {
        let Ok(metadata) = received::read::<IssuerMetadata>(document) else { return Ok(None) };
        let expected = match issuer {
            Some(issuer) => issuer.to_owned(),
            // A server that names no issuer is the issuer itself, for its origin or its path.
            None if path.is_empty() || place.path() == RFC_8414 => at(url, "").into(),
            None => at(url, &format!("/{path}")).into(),
        };
        let own = metadata.issuer.as_deref();
        if !own.is_some_and(|own| is_same_issuer(own, &expected)) {
            let own = own.unwrap_or("without a name");
            bail!("the metadata at {place} is that of the issuer {own}, not of {expected}");
        }
        Ok(Some(metadata))
    })
    .await
}

/// The URLs of an issuer's metadata, in the order in which clients request them (2026-07-28, Authorization, "Authorization
/// Server Metadata Discovery").
pub(crate) fn issuer_places(issuer: &Url) -> Vec<Url> {
    match issuer.path().trim_matches('/') {
        "" => vec![at(issuer, RFC_8414), at(issuer, OPENID)],
        path => vec![
            at(issuer, &format!("{RFC_8414}/{path}")),
            at(issuer, &format!("{OPENID}/{path}")),
            at(issuer, &format!("/{path}{OPENID}")),
        ],
    }
}

/// RFC 8414, section 3.3: character by character; but a URL without a path may be written with its slash.
pub(super) fn is_same_issuer(one: &str, other: &str) -> bool {
    let without_slash = |own: &str| own.strip_suffix('/').unwrap_or(own).to_owned();
    let has_no_path = Url::parse(one).is_ok_and(|url| url.path() == "/");
    one == other || (has_no_path && without_slash(one) == without_slash(other))
}

/// Fetches the first document that parses. An unavailable URL is requested once more if no other has the document.
///
/// # Errors
///
/// If a URL stays unavailable; with `is_needed` also if no URL has a valid document.
async fn first<T>(
    http: &IssuerHttp,
    places: &[Url],
    is_needed: bool,
    mut read: impl FnMut(&Url, &str) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let mut places: Vec<&Url> = places.iter().collect();
    let (mut lasting, mut unread) = (None, None);
    for is_last in [false, true] {
        let mut away = Vec::new();
        for place in std::mem::take(&mut places) {
            match http.get(place).await {
                Ok(Some(document)) => {
                    if let Some(found) = read(place, &document.body)? {
                        return Ok(Some(found));
                    }
                    // Such as the page of a gateway, or of an application that has one for every path.
                    tracing::info!("no metadata is read: {}", document.description());
                    unread.get_or_insert_with(|| document.description());
                }
                Ok(None) => {}
                Err(Failure { is_transient: true, error }) => away.push((place, error)),
                Err(Failure { error, .. }) => lasting = Some(error),
            }
        }
        if away.is_empty() {
            break;
        }
        for (place, error) in away {
            tracing::info!("{error:#}");
            places.push(place);
            if is_last {
                return Err(error);
            }
        }
        http.pause().await;
    }
    match (lasting, unread) {
        (Some(error), _) => Err(error),
        (None, Some(_)) if !is_needed => Ok(None),
        (None, Some(description)) => bail!("no metadata can be read: {description}"),
        (None, None) => Ok(None),
    }
}

/// The URLs of a server's metadata (RFC 9728, section 3.1), and a non-standard one that some servers use.
fn well_known(server: &Url, name: &str) -> Vec<Url> {
    let root = at(server, &format!("/.well-known/{name}"));
    match server.path().trim_matches('/') {
        "" => vec![root],
        path => vec![
            at(server, &format!("/.well-known/{name}/{path}")),
            at(server, &format!("/{path}/.well-known/{name}")),
            root,
        ],
    }
}

fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.set_path(path);
    url
}

/// A server names its issuer, and the issuer its pages: neither may start programs, or listen in.
fn check(http: &IssuerHttp, issuer: &IssuerMetadata) -> anyhow::Result<()> {
    let endpoints =
        [issuer.authorization_endpoint.as_ref(), Some(&issuer.token_endpoint), issuer.registration_endpoint.as_ref()];
    for endpoint in endpoints.into_iter().flatten() {
        if SecureUrl::parse(endpoint).is_none() {
            bail!("the issuer's endpoint `{endpoint}` is no https URL");
        }
        http.check_address(endpoint).with_context(|| format!("the issuer's endpoint `{endpoint}` is not used"))?;
    }
    if let Some(name) = issuer.authorization_endpoint.as_deref().and_then(reserved_parameter) {
        bail!("the issuer's `authorization_endpoint` sets `{name}`, which is the client's to set");
    }
    Ok(())
}

/// A parameter of authorization requests that the endpoint's URL sets already. A duplicate parameter is ambiguous.
pub(crate) fn reserved_parameter(endpoint: &str) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn no_endpoint_of_a_remote_server_is_on_this_machine() {
        let http = |server: &str| {
            let server = Url::parse(server).unwrap();
            IssuerHttp::of(&server, reqwest::header::HeaderMap::new(), std::time::Duration::ZERO).unwrap()
        };
        let issuer = |authorization: &str, token: &str| IssuerMetadata {
            authorization_endpoint: Some(authorization.to_owned()),
            token_endpoint: token.to_owned(),
            ..IssuerMetadata::default()
        };
        let public = "https://id.example/x";
        for local in ["https://127.0.0.1/x", "http://localhost:1/x", "https://127.1/x", "https://169.254.169.254/x"] {
            for metadata in [issuer(local, public), issuer(public, local)] {
                let error = format!("{:#}", check(&http("https://mcp.example.com/mcp"), &metadata).unwrap_err());
                assert!(
                    error.contains("server elsewhere cannot lead") || error.contains("no server can lead"),
                    "{error}"
                );
            }
        }
        assert!(check(&http("https://mcp.example.com/mcp"), &issuer(public, public)).is_ok());
        let local = issuer("http://127.0.0.1:1/x", "http://localhost:1/x");
        assert!(check(&http("http://127.0.0.1:9000/mcp"), &local).is_ok());
    }

    /// A gateway answers every path with its page.
    #[tokio::test]
    async fn a_page_in_place_of_metadata_is_named() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
        let (origin, _) = super::super::http::tests::answering(answer).await;
        let url = Url::parse(&origin).unwrap();
        let http = IssuerHttp::of(&url, reqwest::header::HeaderMap::new(), std::time::Duration::ZERO).unwrap();

        let error = format!("{:#}", identity_provider(&http, &origin).await.unwrap_err());

        let place = "/.well-known/oauth-authorization-server answered HTTP 200 OK with text/html";
        assert!(error.contains(&format!("no metadata can be read: {origin}{place}")), "{error}");
        let challenge = Challenge::default();
        let error = format!("{:#}", discover(&http, &url, &challenge).await.unwrap_err());
        assert!(error.contains("names no issuer of tokens"), "{error}");
    }

    #[test]
    fn an_issuer_with_a_path_has_three_places() {
        let places = |issuer: &str| -> Vec<String> {
            issuer_places(&Url::parse(issuer).unwrap()).into_iter().map(String::from).collect()
        };
        let origin = "https://id.example";
        assert_eq!(
            places("https://id.example/a/b/"),
            [
                format!("{origin}/.well-known/oauth-authorization-server/a/b"),
                format!("{origin}/.well-known/openid-configuration/a/b"),
                format!("{origin}/a/b/.well-known/openid-configuration"),
            ]
        );
        assert_eq!(
            places(origin),
            [
                format!("{origin}/.well-known/oauth-authorization-server"),
                format!("{origin}/.well-known/openid-configuration")
            ]
        );
    }
}
