//! Protected-resource metadata (RFC 9728) and `WWW-Authenticate` challenges (RFC 6750, section 3).

use serde::Serialize;

/// Well-known path of the protected-resource metadata (RFC 9728, section 3). The path of an endpoint is appended to it, such
/// as `/.well-known/oauth-protected-resource/mcp`.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Metadata of a protected resource (RFC 9728, section 2). Serialize it as the response at [`WELL_KNOWN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectedResourceMetadata<'a> {
    /// Resource identifier. Clients send exactly this string as the parameter `resource` of a token request.
    pub resource: String,
    /// Issuers of tokens for the resource.
    pub authorization_servers: Vec<&'a str>,
    /// Scopes that clients may request. Omitted if it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// How clients send a token: `header`, the `Authorization` header.
    pub bearer_methods_supported: [&'static str; 1],
    /// Human-readable name of the server.
    pub resource_name: String,
}

/// Error code of a challenge (RFC 6750, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeError {
    /// `invalid_token` (401): the token is not valid for this server.
    InvalidToken,
    /// `insufficient_scope` (403): the token is valid, but lacks scopes.
    InsufficientScope,
    /// `invalid_request` (400): the `Authorization` header is malformed, or is sent twice.
    InvalidRequest,
}

/// Builds the value of `WWW-Authenticate`, with the URL of the metadata and the scopes that the request needs.
///
/// Give no `error` for a request without a token (RFC 6750, section 3.1). The values are not escaped: `metadata_url` and
/// `scopes` must not contain quotes or backslashes, as neither a URL nor a scope does.
pub fn challenge(metadata_url: &str, error: Option<ChallengeError>, scopes: &[String]) -> String {
    let mut challenge = format!("Bearer resource_metadata=\"{metadata_url}\"");
    if let Some(error) = error {
        let (code, description) = match error {
            ChallengeError::InvalidToken => {
                ("invalid_token", "The access token is expired, malformed, or not meant for this server")
            }
            ChallengeError::InsufficientScope => ("insufficient_scope", "The access token lacks a scope"),
            ChallengeError::InvalidRequest => {
                ("invalid_request", "Send one Authorization header: Bearer, space, token")
            }
        };
        challenge.push_str(&format!(", error=\"{code}\", error_description=\"{description}\""));
    }
    if !scopes.is_empty() {
        challenge.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
    }
    challenge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_has_the_error_and_the_scopes_that_are_given() {
        let url = "https://a.example/.well-known/oauth-protected-resource/mcp";
        let scopes = ["a".to_owned(), "b".to_owned()];

        assert_eq!(challenge(url, None, &[]), format!("Bearer resource_metadata=\"{url}\""));
        assert_eq!(challenge(url, None, &scopes), format!("Bearer resource_metadata=\"{url}\", scope=\"a b\""));
        let insufficient = challenge(url, Some(ChallengeError::InsufficientScope), &scopes);
        assert!(insufficient.contains(", error=\"insufficient_scope\",") && insufficient.ends_with("scope=\"a b\""));
    }
}
