//! Redirect URIs: validation and comparison.

use std::fmt;

use mcp_server::uri::SecureUrl;
use serde::{Deserialize, Serialize};

/// Maximum length of a redirect URI, in bytes.
const MAX_BYTES: usize = 2048;

/// A redirect URI of a client: an `https` URL, or an `http` URL on loopback, without user information and fragment.
///
/// The MCP authorization specification (2026-07-28, security considerations) allows no other scheme.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedirectUri(String);

/// The text is not a redirect URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a redirect URI must be an https URL, or an http URL on loopback, without a fragment, of at most 2048 bytes")]
pub struct InvalidRedirectUri;

impl RedirectUri {
    /// Parses a redirect URI.
    ///
    /// # Errors
    ///
    /// When it is too long, has a fragment, or is neither an `https` URL nor an `http` URL on loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidRedirectUri> {
        let url = SecureUrl::parse(text).filter(|_| text.len() <= MAX_BYTES).ok_or(InvalidRedirectUri)?;
        // Port 0 cannot be reached. `https` on loopback is an ordinary host name with a certificate.
        if url.fragment.is_some() || url.port == Some(0) {
            return Err(InvalidRedirectUri);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the URI as it was registered or requested.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns host and port as people see them: the host in lower case. An internationalized domain is in its ASCII form.
    pub fn authority(&self) -> String {
        let (_, _, host, port) = self.split();
        format!("{host}{port}").to_ascii_lowercase()
    }

    /// Returns the host in lower case, without the port.
    pub fn host(&self) -> String {
        self.split().2.to_ascii_lowercase()
    }

    /// Whether the URI leads to the person's own machine: an `http` URL on loopback.
    pub fn is_loopback(&self) -> bool {
        SecureUrl::parse(&self.0).is_some_and(|url| !url.is_https)
    }

    /// Reports whether a client that registered this URI may use `requested`.
    ///
    /// The texts must be equal, byte by byte (RFC 9700, section 2.1). Only the port of an `http` URL on loopback may differ,
    /// because a native application gets a free port from the operating system (RFC 8252, section 7.3).
    pub fn allows(&self, requested: &Self) -> bool {
        if self.is_loopback() && requested.is_loopback() {
            let (scheme, rest, host, _) = self.split();
            let (own_scheme, own_rest, own_host, _) = requested.split();
            return (scheme, rest, host) == (own_scheme, own_rest, own_host);
        }
        self == requested
    }

    /// Splits the URI into scheme, path with query, host and port with its colon.
    fn split(&self) -> (&str, &str, &str, &str) {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // The colons of an IPv6 address are within its brackets.
        let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']')).unwrap_or(authority.len());
        let (host, port) = authority.split_at(port);
        (scheme, rest, host, port)
    }
}

impl TryFrom<String> for RedirectUri {
    type Error = InvalidRedirectUri;

    fn try_from(text: String) -> Result<Self, InvalidRedirectUri> {
        Self::parse(&text)
    }
}

impl From<RedirectUri> for String {
    fn from(uri: RedirectUri) -> Self {
        uri.0
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedirectUri({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> RedirectUri {
        RedirectUri::parse(text).unwrap()
    }

    #[test]
    fn only_https_and_http_on_loopback_are_redirect_uris() {
        for text in [
            "https://claude.ai/api/mcp/auth_callback",
            "https://app.example:8443/callback?tenant=1",
            "https://app.example",
            "http://localhost:3118/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:8080/callback",
            "https://xn--bcher-kva.example/callback",
        ] {
            assert!(RedirectUri::parse(text).is_ok(), "{text}");
        }
        let long = format!("https://app.example/{}", "x".repeat(MAX_BYTES));
        for text in [
            "",
            "/callback",
            "//app.example/callback",
            "app.example/callback",
            "http://app.example/callback",
            "http://localhost.evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://127.0.0.1@evil.example/callback",
            "https://user@app.example/callback",
            "https://app.example/callback#fragment",
            "https://app.example/callback#",
            "https://app.example\\@evil.example/",
            "https://app.example/ callback",
            "https://app.example/\r\nLocation: https://evil.example",
            "https://app.example:0/",
            "https://app.example:99999/",
            "https://b\u{fc}cher.example/callback",
            "https://app%2eexample/callback",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "intent://scan/#Intent;scheme=x;end",
            "com.example.app:/callback",
            "urn:ietf:wg:oauth:2.0:oob",
            &long,
        ] {
            assert!(RedirectUri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirect_uris_are_equal_byte_by_byte() {
        let registered = uri("https://app.example/callback");
        assert!(registered.allows(&registered.clone()));
        for text in [
            "https://app.example/callback/",
            "https://app.example/callback?",
            "https://app.example/callback?x=1",
            "https://app.example/Callback",
            "https://app.example/%63allback",
            "https://app.example//callback",
            "https://app.example/../callback",
            "https://app.example:443/callback",
            "https://APP.example/callback",
            "https://app.example.evil.example/callback",
            "https://evil.example/callback",
            "http://localhost/callback",
        ] {
            assert!(!registered.allows(&uri(text)), "{text}");
        }
    }

    #[test]
    fn only_the_port_of_a_loopback_uri_may_differ() {
        for (registered, requested, expected) in [
            ("http://127.0.0.1/callback", "http://127.0.0.1:51004/callback", true),
            ("http://127.0.0.1:3000/callback", "http://127.0.0.1:51004/callback", true),
            ("http://[::1]/callback", "http://[::1]:51004/callback", true),
            ("http://localhost:3000/callback", "http://localhost/callback", true),
            ("http://localhost?x=1", "http://localhost:1?x=1", true),
            ("http://localhost/callback", "http://127.0.0.1/callback", false),
            ("http://127.0.0.1/callback", "http://127.0.0.2/callback", false),
            ("http://127.0.0.1/callback", "http://[::1]/callback", false),
            ("http://127.0.0.1/callback", "http://127.0.0.1:51004/callback/", false),
            ("http://127.0.0.1/callback", "http://127.0.0.1:51004/other", false),
            ("http://127.0.0.1/callback", "http://127.0.0.1:51004/callback?x=1", false),
            ("http://127.0.0.1/callback", "https://127.0.0.1/callback", false),
            ("https://localhost/callback", "https://localhost:8443/callback", false),
        ] {
            assert_eq!(uri(registered).allows(&uri(requested)), expected, "{registered} {requested}");
        }
    }

    #[test]
    fn the_authority_is_shown_in_lower_case_with_its_port() {
        assert_eq!(uri("https://APP.Example:8443/x?y=@evil.example").authority(), "app.example:8443");
        assert_eq!(uri("http://[::1]:80/").authority(), "[::1]:80");
        assert_eq!(uri("http://[::1]").host(), "[::1]");
        assert!(uri("http://[::1]").is_loopback() && !uri("https://localhost").is_loopback());
    }
}
