//! What leads a client to the issuer: protected-resource metadata (RFC 9728) and challenges (RFC 6750, section 3).

use serde::Serialize;

/// The path of the metadata of a server's base; that of an endpoint has the endpoint's path behind it.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A protected resource's metadata. Schema: RFC 9728, section 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectedResourceMetadata<'a> {
    /// The resource: what a client asks a token for, byte by byte.
    pub resource: String,
    /// The issuers of tokens for it.
    pub authorization_servers: Vec<&'a str>,
    /// What a client may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// How a token is sent: in the `Authorization` header, and in no other way.
    pub bearer_methods_supported: [&'static str; 1],
    /// The server's name, for people.
    pub resource_name: String,
}

/// Why a request is challenged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeError {
    /// The token is not valid here.
    InvalidToken,
    /// The token is valid and lacks scopes.
    InsufficientScope,
    /// The header is no bearer token.
    InvalidRequest,
}

/// The value of `WWW-Authenticate`.
///
/// Without a token there is no error (RFC 6750, section 3.1). Scopes have no quotes or backslashes, and neither has a URL.
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
    fn a_challenge_says_what_is_needed_and_no_more() {
        let url = "https://a.example/.well-known/oauth-protected-resource/mcp";
        let scopes = ["a".to_owned(), "b".to_owned()];

        assert_eq!(challenge(url, None, &[]), format!("Bearer resource_metadata=\"{url}\""));
        assert_eq!(challenge(url, None, &scopes), format!("Bearer resource_metadata=\"{url}\", scope=\"a b\""));
        let insufficient = challenge(url, Some(ChallengeError::InsufficientScope), &scopes);
        assert!(insufficient.contains(", error=\"insufficient_scope\",") && insufficient.ends_with("scope=\"a b\""));
    }
}
