//! `WWW-Authenticate` challenges of the schemes `Bearer` (RFC 6750, section 3) and `DPoP` (RFC 9449, section 7.1), in headers or
//! bodies.

use mcp_protocol::{json, lookup, meta};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde_json::value::RawValue;
use url::Url;

use crate::received;

/// The name that a Function URL, or API Gateway, gives `WWW-Authenticate`.
const REMAPPED: &str = "x-amzn-remapped-www-authenticate";

/// Maximum length of a challenge's text in an error.
const MAX_REASON_CHARS: usize = 500;

/// A challenge of the schemes `Bearer` and `DPoP`; empty if there is none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    is_bearer: bool,
    scope: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// The URL of the resource metadata (RFC 9728, section 5.1).
    resource_metadata: Option<String>,
    is_dpop: bool,
    /// Whether proofs need another nonce (RFC 9449, section 9).
    wants_nonce: bool,
}

impl Challenge {
    /// Parses a challenge from the header, under its own name or that of AWS, or from the error's data.
    /// Of several, the one with `resource_metadata`.
    pub(crate) fn of(headers: &HeaderMap, body: &str) -> Self {
        let fields = [WWW_AUTHENTICATE.as_str(), REMAPPED]
            .into_iter()
            .flat_map(|name| headers.get_all(name))
            .filter_map(|value| value.to_str().ok());
        let in_headers: Vec<Self> = fields.flat_map(challenges).collect();
        let in_data = || -> Option<Vec<String>> {
            let body: &RawValue = json::borrow(body).ok()?;
            let path = ["error", "data", meta::WWW_AUTHENTICATE].map(str::to_owned);
            received::read(lookup(body, &path).ok()??.get()).ok()
        };
        let found = if in_headers.is_empty() {
            in_data().unwrap_or_default().iter().flat_map(|field| challenges(field)).collect()
        } else {
            in_headers
        };
        let best = found.iter().find(|own| own.resource_metadata.is_some()).or(found.first());
        let is_dpop = found.iter().any(|own| own.is_dpop);
        let wants_nonce = found.iter().any(|own| own.is_dpop && own.error.as_deref() == Some("use_dpop_nonce"));
        Self { is_dpop, wants_nonce, ..best.cloned().unwrap_or_default() }
    }

    /// The challenge of a request for which a token lacks scopes.
    pub(crate) fn insufficient_scope(scopes: &[&str]) -> Self {
        let error = Some("insufficient_scope".to_owned());
        Self { is_bearer: true, error, scope: Some(scopes.join(" ")), ..Self::default() }
    }

    /// The URL of the resource's metadata, which may be relative to the server's.
    pub(crate) fn resource_metadata(&self, server: &str) -> Option<Url> {
        Url::parse(server).ok()?.join(self.resource_metadata.as_deref()?.trim()).ok()
    }

    /// Whether there is a challenge.
    pub(crate) fn is_bearer(&self) -> bool {
        self.is_bearer
    }

    /// The scopes that the request needs.
    pub(crate) fn scopes(&self) -> Vec<String> {
        self.scope.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Whether the server accepts DPoP-bound tokens.
    pub(crate) fn is_dpop(&self) -> bool {
        self.is_dpop
    }

    /// Whether proofs need another nonce.
    pub(crate) fn wants_nonce(&self) -> bool {
        self.wants_nonce
    }

    /// The error code and description of a rejected token (RFC 6750, section 3).
    pub(crate) fn reason(&self) -> Option<String> {
        let error = self.error.as_deref()?;
        let reason =
            self.error_description.as_ref().map_or_else(|| error.to_owned(), |text| format!("{error}: {text}"));
        Some(reason.chars().take(MAX_REASON_CHARS).collect())
    }

    /// Whether scopes are missing.
    pub(crate) fn is_insufficient_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }
}

/// The challenges of a header field, which may also have other schemes (RFC 9110, section
/// 11.6.1). The parser accepts spaces around `=` and missing commas.
fn challenges(field: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    // The challenge that parameters belong to, if its scheme is one of ours.
    let mut current: Option<Challenge> = None;
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches(|own: char| own.is_whitespace() || own == ',');
        let Some(first) = rest.chars().next() else { break };
        let end = rest.find(|own: char| own.is_whitespace() || matches!(own, ',' | '=' | '"')).unwrap_or(rest.len());
        if end == 0 {
            // No name begins so.
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let name = &rest[..end];
        rest = rest[end..].trim_start();
        let Some(value) = rest.strip_prefix('=') else {
            found.extend(current.take());
            let is_bearer = name.eq_ignore_ascii_case("bearer");
            let is_dpop = name.eq_ignore_ascii_case("dpop");
            current = (is_bearer || is_dpop).then(|| Challenge { is_bearer, is_dpop, ..Challenge::default() });
            continue;
        };
        let (value, after) = parameter_value(value.trim_start());
        rest = after;
        let Some(challenge) = &mut current else { continue };
        let parameter = match name.to_ascii_lowercase().as_str() {
            "scope" => &mut challenge.scope,
            "error" => &mut challenge.error,
            "error_description" => &mut challenge.error_description,
            "resource_metadata" => &mut challenge.resource_metadata,
            _ => continue,
        };
        parameter.get_or_insert(value);
    }
    found.extend(current);
    found
}

/// The value of a parameter, quoted or not, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|own: char| own.is_whitespace() || own == ',').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, own)) = characters.next() {
        match own {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(own),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://mcp.example.com/mcp";

    fn of_fields(fields: &[&str]) -> Challenge {
        let fields = fields.iter().map(|field| (WWW_AUTHENTICATE, field.parse().unwrap()));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| _ = headers.append(name, value));
        Challenge::of(&headers, "")
    }

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

            assert!(challenge.is_insufficient_scope(), "{headers:?} {body}");
        }
        assert_eq!(Challenge::of(&HeaderMap::new(), "<html>"), Challenge::default());
    }

    #[test]
    fn a_challenge_behind_another_scheme_is_found_c14_o16() {
        for field in [
            r#"Basic realm="x", Bearer scope="a b", resource_metadata="https://x.example/m""#,
            r#"Basic realm="Bearer scope=no, x", Bearer scope="a b" , resource_metadata="https://x.example/m""#,
            r#"Negotiate YWJj==, Bearer scope="a b", resource_metadata="https://x.example/m", Digest scope="no""#,
            r#"Bearer scope = "a b" , resource_metadata= "https://x.example/m""#,
            r#", , BEARER Scope="a b" RESOURCE_METADATA=https://x.example/m,"#,
            r#"Bearer error="a \"quoted\", scope=no", scope="a b", resource_metadata="https://x.example/m""#,
        ] {
            let challenge = of_fields(&[field]);

            assert_eq!(challenge.scope.as_deref(), Some("a b"), "{field}");
            assert_eq!(challenge.resource_metadata(SERVER).unwrap().as_str(), "https://x.example/m", "{field}");
        }
        for field in ["", "Basic", "Basic scope=a", "Basic realm=\"Bearer", "=", "\"", "Bearers scope=a", "é=é"] {
            assert_eq!(challenges(field), [], "{field}");
        }
    }

    #[test]
    fn a_challenge_may_want_tokens_that_are_bound_to_a_key() {
        let dpop = of_fields(&[r#"DPoP algs="ES256", error="use_dpop_nonce", resource_metadata="/m""#]);
        assert!(dpop.is_dpop() && dpop.wants_nonce() && dpop.resource_metadata(SERVER).is_some());
        let both = of_fields(&[r#"Bearer resource_metadata="/m", dpop scope=a"#]);
        assert!(both.is_dpop() && !both.wants_nonce() && both.resource_metadata(SERVER).is_some());
        let bearer = of_fields(&[r#"Bearer error="use_dpop_nonce""#]);
        assert!(!bearer.is_dpop() && !bearer.wants_nonce());
    }

    #[test]
    fn of_several_challenges_the_one_with_metadata_counts_o16() {
        let challenge = of_fields(&["Bearer", r#"Bearer scope=a"#, r#"Basic, Bearer resource_metadata="/m""#]);

        assert_eq!(challenge.resource_metadata(SERVER).unwrap().as_str(), "https://mcp.example.com/m");
        assert_eq!(of_fields(&["Basic x", "Bearer scope=a", "Bearer scope=b"]).scope.as_deref(), Some("a"));
    }
}
