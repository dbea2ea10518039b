//! Client metadata (RFC 7591, section 2), of metadata documents and of registration requests.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::Value;

use crate::{ErrorCode, OAuthError, RedirectUri};

/// Maximum number of redirect URIs of a client.
const MAX_REDIRECT_URIS: usize = 20;
/// Maximum length of a name, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Characters that are invisible or change the order of others: `Default_Ignorable_Code_Point` of Unicode 17, separators of lines, format
/// characters of annotations, and the empty Braille pattern.
const INVISIBLE: [RangeInclusive<char>; 18] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Client metadata as received. Other members are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct ClientMetadata {
    pub(crate) client_id: Option<String>,
    client_name: Option<String>,
    #[serde(default)]
    pub(crate) redirect_uris: Vec<String>,
    token_endpoint_auth_method: Option<String>,
    /// Not in RFC 7591, but in documents of clients that can use several methods: the methods in any order.
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    pub(crate) client_secret: Option<Value>,
}

/// Members of client metadata that are valid for every client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ValidMetadata {
    pub(crate) name: Option<String>,
    /// At least one.
    pub(crate) redirect_uris: Vec<RedirectUri>,
    pub(crate) refreshes: bool,
}

impl ClientMetadata {
    /// Whether the client can use the token endpoint without authentication.
    pub(crate) fn can_be_public(&self) -> bool {
        self.token_endpoint_auth_method.as_deref().is_none_or(|own| own == "none")
            || self.token_endpoint_auth_methods_supported.iter().any(|own| own == "none")
    }

    /// Validates the metadata. With `skips`, redirect URIs that are not allowed are left out; otherwise they are an error.
    ///
    /// # Errors
    ///
    /// When no redirect URI is allowed or there are more than 20, or the client does not use codes.
    pub(crate) fn validate(&self, skips: bool) -> Result<ValidMetadata, OAuthError> {
        let invalid = |description| OAuthError::new(ErrorCode::InvalidClientMetadata, description);
        let invalid_uri = |description| OAuthError::new(ErrorCode::InvalidRedirectUri, description);
        if self.redirect_uris.len() > MAX_REDIRECT_URIS {
            return Err(invalid_uri("redirect_uris has more than 20 URIs"));
        }
        let uris = self.redirect_uris.iter().map(|uri| RedirectUri::parse(uri));
        let redirect_uris = match skips {
            true => uris.flatten().collect(),
            false => uris.collect::<Result<Vec<_>, _>>().map_err(|_| {
                invalid_uri("a redirect URI must be an https URL, or an http URL on loopback, without a fragment")
            })?,
        };
        if redirect_uris.is_empty() {
            return Err(invalid_uri("redirect_uris has no https URL and no http URL on loopback"));
        }
        let has = |list: &Option<Vec<String>>, name: &str| list.as_ref().map(|list| list.iter().any(|own| own == name));
        if has(&self.response_types, "code") == Some(false) {
            return Err(invalid("response_types must contain code"));
        }
        if has(&self.grant_types, "authorization_code") == Some(false) {
            return Err(invalid("grant_types must contain authorization_code"));
        }
        // RFC 7591 has authorization_code as the default of grant_types. Many clients that refresh leave it out.
        let refreshes = has(&self.grant_types, "refresh_token").unwrap_or(true);
        Ok(ValidMetadata { name: self.client_name.as_deref().and_then(display_name), redirect_uris, refreshes })
    }
}

/// Returns a name for people: without control characters and characters that change the order of others or are invisible, at most 100
/// characters. `None` if nothing is left.
fn display_name(text: &str) -> Option<String> {
    let is_visible = |own: &char| !own.is_control() && !INVISIBLE.iter().any(|range| range.contains(own));
    let text: String = text.chars().filter(is_visible).take(MAX_NAME_CHARS).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn validate(value: Value, skips: bool) -> Result<ValidMetadata, OAuthError> {
        serde_json::from_value::<ClientMetadata>(value).unwrap().validate(skips)
    }

    #[test]
    fn the_name_has_no_characters_that_deceive() {
        let named = |name: &str| {
            let value = json!({ "client_name": name, "redirect_uris": ["http://localhost/"] });
            validate(value, false).unwrap().name
        };

        assert_eq!(named(" Claude\u{202e}\u{0}\u{200b}\n Code ").as_deref(), Some("Claude Code"));
        assert_eq!(named("\u{feff}\r\n\u{2066}"), None);
        for invisible in "\u{17b4}\u{180b}\u{180f}\u{2800}\u{fe0f}\u{ffa0}\u{fff0}\u{1bca0}\u{1d173}\u{e0001}".chars() {
            assert_eq!(named(&invisible.to_string()), None, "{invisible:?}");
        }
        assert_eq!(named(&"é".repeat(200)).unwrap().chars().count(), 100);
    }

    #[test]
    fn redirect_uris_that_are_not_allowed_are_an_error_or_left_out() {
        let metadata = json!({ "redirect_uris": ["cursor://callback", "https://app.example/callback"] });

        assert_eq!(validate(metadata.clone(), true).unwrap().redirect_uris.len(), 1);
        for (metadata, skips) in [
            (metadata, false),
            (json!({ "redirect_uris": ["cursor://callback"] }), true),
            (json!({ "redirect_uris": [] }), true),
            (json!({}), false),
            (json!({ "redirect_uris": vec!["https://app.example/"; 21] }), true),
        ] {
            let error = validate(metadata.clone(), skips).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRedirectUri, "{metadata}");
        }
    }

    #[test]
    fn a_client_uses_codes_and_gets_refresh_tokens_unless_it_says_otherwise() {
        let with = |name: &str, value: Value| {
            let mut metadata = json!({ "redirect_uris": ["https://app.example/"] });
            metadata[name] = value;
            validate(metadata, false)
        };
        assert!(with("grant_types", Value::Null).unwrap().refreshes);
        assert!(with("grant_types", json!(["authorization_code", "refresh_token"])).unwrap().refreshes);
        assert!(!with("grant_types", json!(["authorization_code"])).unwrap().refreshes);
        for (name, value) in [
            ("grant_types", json!(["client_credentials"])),
            ("grant_types", json!([])),
            ("response_types", json!(["token"])),
        ] {
            assert_eq!(with(name, value).unwrap_err().code, ErrorCode::InvalidClientMetadata);
        }
    }
}
