//! Errors of OAuth endpoints.

use std::fmt;

/// Error of an OAuth endpoint: a code for programs, and a description for developers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OAuthError {
    /// The error code.
    pub code: ErrorCode,
    /// What to change, in the characters that RFC 6749 allows: ASCII without `"` and `\`.
    pub description: &'static str,
}

impl OAuthError {
    /// Creates an error.
    pub const fn new(code: ErrorCode, description: &'static str) -> Self {
        debug_assert!(is_description(description), "a description has a character that RFC 6749 excludes");
        Self { code, description }
    }
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Registered OAuth error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$meta])* $name,)*
        }

        impl ErrorCode {
            /// Returns the code as it is sent.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// A parameter is missing, malformed or repeated (RFC 6749).
    InvalidRequest = "invalid_request",
    /// The client is unknown, or its authentication failed (RFC 6749, section 5.2).
    InvalidClient = "invalid_client",
    /// The code or refresh token is invalid, expired, revoked, or belongs to another client (RFC 6749, section 5.2).
    InvalidGrant = "invalid_grant",
    /// No requested scope exists, or a refresh requests more than was granted (RFC 6749).
    InvalidScope = "invalid_scope",
    /// The resource is missing or unknown, or several were requested (RFC 8707, section 2).
    InvalidTarget = "invalid_target",
    /// The person or the identity provider denied the request (RFC 6749, section 4.1.2.1).
    AccessDenied = "access_denied",
    /// The response type is not `code` (RFC 6749, section 4.1.2.1).
    UnsupportedResponseType = "unsupported_response_type",
    /// The grant type is neither `authorization_code` nor `refresh_token` (RFC 6749, section 5.2).
    UnsupportedGrantType = "unsupported_grant_type",
    /// The client may not use the grant type (RFC 6749, section 5.2).
    UnauthorizedClient = "unauthorized_client",
    /// A fault of the server (RFC 6749, section 4.1.2.1).
    ServerError = "server_error",
    /// The store or the identity provider is not available (RFC 6749, section 4.1.2.1).
    TemporarilyUnavailable = "temporarily_unavailable",
    /// A redirect URI is invalid or not allowed (RFC 7591, section 3.2.2).
    InvalidRedirectUri = "invalid_redirect_uri",
    /// Another member of the client metadata is invalid (RFC 7591, section 3.2.2).
    InvalidClientMetadata = "invalid_client_metadata",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a text has the characters of an `error_description` (RFC 6749, section 5.2).
const fn is_description(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        if !matches!(first, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e) {
            return false;
        }
        rest = others;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_have_the_characters_of_rfc_6749() {
        assert!(is_description("the parameter resource is missing: set it!"));
        for text in ["\"quoted\"", "a\\b", "two\nlines", "caf\u{e9}", "\u{7f}"] {
            assert!(!is_description(text), "{text}");
        }
    }

    // Tests of the endpoints create each error, so that its description is checked.
    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "RFC 6749")]
    fn another_description_fails_a_test() {
        let _ = OAuthError::new(ErrorCode::ServerError, "the \"server\" failed");
    }
}
