//! What a refusal asks for: a Bearer challenge (RFC 6750, section 3), wherever it has arrived.

use mcp_protocol::{json, lookup, meta};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use rmcp::transport::auth::WWWAuthenticateParams;
use serde_json::value::RawValue;
use url::Url;

use crate::received;

/// What a Function URL, or API Gateway, makes of `WWW-Authenticate`.
const REMAPPED: &str = "x-amzn-remapped-www-authenticate";

/// What a refusal asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The challenge as it was written.
    pub(crate) header: Option<String>,
}

impl Challenge {
    /// Reads it where it is: in the header, under the name that it has or the one that AWS gives it, or in the error's data.
    pub(crate) fn of(headers: &HeaderMap, body: &str) -> Self {
        let in_header = [WWW_AUTHENTICATE.as_str(), REMAPPED]
            .into_iter()
            .flat_map(|name| headers.get_all(name))
            .filter_map(|value| value.to_str().ok())
            .find(|value| value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")));
        let in_data = || {
            let body: &RawValue = json::borrow(body).ok()?;
            let path = ["error", "data", meta::WWW_AUTHENTICATE].map(str::to_owned);
            let listed: Vec<String> = received::read(lookup(body, &path).ok()??.get()).ok()?;
            listed.into_iter().next()
        };
        Self { header: in_header.map(str::to_owned).or_else(in_data) }
    }

    pub(crate) fn params(&self, server: &str) -> Option<WWWAuthenticateParams> {
        Some(WWWAuthenticateParams::parse(self.header.as_deref()?, &Url::parse(server).ok()?))
    }

    /// Whether it says that scopes are missing.
    pub(crate) fn is_insufficient_scope(&self, server: &str) -> bool {
        self.params(server).is_some_and(|params| params.is_insufficient_scope())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://mcp.example.com/mcp";

    #[test]
    fn a_challenge_is_found_wherever_it_is() {
        let bearer = r#"Bearer error="insufficient_scope", scope="a""#;
        let header = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.parse().unwrap())])
        };
        let in_data = serde_json::json!({ "error": { "data": { "mcp/www_authenticate": [bearer] } } }).to_string();
        for (headers, body) in [
            (header("www-authenticate", r#"Bearer error="insufficient_scope", scope="a""#), ""),
            (header("x-amzn-remapped-www-authenticate", r#"bearer error="insufficient_scope", scope="a""#), ""),
            (header("www-authenticate", "Basic"), in_data.as_str()),
            (HeaderMap::new(), in_data.as_str()),
        ] {
            let challenge = Challenge::of(&headers, body);

            assert!(challenge.is_insufficient_scope(SERVER), "{headers:?} {body}");
        }
        assert_eq!(Challenge::of(&HeaderMap::new(), "<html>"), Challenge::default());
    }
}
