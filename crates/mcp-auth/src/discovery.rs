//! Discovery of an issuer's keys and token endpoint by its metadata document (OpenID Connect Discovery 1.0, RFC 8414).

use mcp_server::uri::SecureUrl;
use serde::Deserialize;

use crate::fetch::{self, FetchError};

/// Why discovery failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("the issuer has no metadata document")]
    Unusable,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("`{url}` is not a metadata document")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{url}` has no `{name}`")]
    Missing { url: String, name: &'static str },
    #[error("`{url}` has the {name} `{found}`, which is not an https URL")]
    Insecure { url: String, name: &'static str, found: String },
    #[error(
        "`{url}` is the document of an issuer other than `{issuer}`: configure the issuer exactly as the document has it"
    )]
    OtherIssuer { url: String, issuer: String },
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
    #[cfg(feature = "exchange")]
    token_endpoint: Option<String>,
}

/// The member of the metadata that is looked up.
#[derive(Debug, Clone, Copy)]
enum Member {
    JwksUri,
    #[cfg(feature = "exchange")]
    TokenEndpoint,
}

/// Looks up the URL of an issuer's keys.
///
/// # Errors
///
/// When no well-known URL has a valid document with the member. The error is that of the first URL.
pub(crate) async fn jwks_uri(issuer: &str) -> Result<String, DiscoveryError> {
    find(issuer, Member::JwksUri).await
}

/// Looks up the URL of an issuer's token endpoint.
///
/// # Errors
///
/// Those of [`jwks_uri`].
#[cfg(feature = "exchange")]
pub(crate) async fn token_endpoint(issuer: &str) -> Result<String, DiscoveryError> {
    find(issuer, Member::TokenEndpoint).await
}

async fn find(issuer: &str, member: Member) -> Result<String, DiscoveryError> {
    let mut first = None;
    for url in metadata_urls(issuer) {
        match read(issuer, &url, member).await {
            Ok(found) => return Ok(found),
            // The server is unreachable or slow: do not try its other URLs.
            Err(DiscoveryError::Fetch(error)) if !error.has_response() => return Err(first.unwrap_or(error.into())),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or(DiscoveryError::Unusable))
}

async fn read(issuer: &str, url: &str, member: Member) -> Result<String, DiscoveryError> {
    let document = fetch::get(url).await?;
    // Unbounded JSON: at most 256 KiB, and only three strings are deserialized.
    let metadata: Metadata = serde_json::from_slice(&document.body)
        .map_err(|source| DiscoveryError::Malformed { url: url.to_owned(), source })?;
    if metadata.issuer != issuer {
        return Err(DiscoveryError::OtherIssuer { url: url.to_owned(), issuer: issuer.to_owned() });
    }
    let (name, found) = match member {
        Member::JwksUri => ("jwks_uri", metadata.jwks_uri),
        #[cfg(feature = "exchange")]
        Member::TokenEndpoint => ("token_endpoint", metadata.token_endpoint),
    };
    let found = found.ok_or_else(|| DiscoveryError::Missing { url: url.to_owned(), name })?;
    // An `http` URL is on loopback, where Lambda's Runtime API listens: allowed only if the issuer is on loopback too.
    let may_be_http = SecureUrl::parse(issuer).is_some_and(|issuer| !issuer.is_https);
    if SecureUrl::parse(&found).is_none_or(|own| !own.is_https && !may_be_http) {
        return Err(DiscoveryError::Insecure { url: url.to_owned(), name, found });
    }
    Ok(found)
}

/// Returns the URLs to try, in this order: the well-known path of OpenID Connect; that of RFC 8414, section 3.1, inserted
/// between host and path; the latter appended to the path, which some servers use.
fn metadata_urls(issuer: &str) -> Vec<String> {
    let issuer = issuer.trim_end_matches('/');
    let path_start = issuer.find("://").and_then(|scheme| issuer[scheme + 3..].find('/').map(|at| scheme + 3 + at));
    let (origin, path) = issuer.split_at(path_start.unwrap_or(issuer.len()));
    let mut urls = vec![
        format!("{issuer}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{issuer}/.well-known/oauth-authorization-server"));
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_with_a_path_has_three_metadata_urls() {
        assert_eq!(
            metadata_urls("https://id.example/realms/main"),
            [
                "https://id.example/realms/main/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/main",
                "https://id.example/realms/main/.well-known/oauth-authorization-server",
            ]
        );
        assert_eq!(
            metadata_urls("https://tenant.auth0.com/"),
            [
                "https://tenant.auth0.com/.well-known/openid-configuration",
                "https://tenant.auth0.com/.well-known/oauth-authorization-server",
            ]
        );
    }
}
