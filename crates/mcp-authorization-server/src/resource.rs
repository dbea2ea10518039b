//! Resources: the MCP servers that tokens are issued for, their scopes, and who gets which scope.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mcp_server::{
    Principal,
    json::{self, Budget},
    uri::{NormalUri, SecureUrl},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{ErrorCode, LoadFuture, OAuthError, Source};

pub(crate) const MAX_RESOURCES: usize = 100;
/// Maximum size of a resource in a parameter, in bytes: that of Parameter Store.
const MAX_PARAMETER_BYTES: usize = 8 * 1024;
/// Maximum number of scopes of a resource.
const MAX_SCOPES: usize = 50;
/// Maximum number of mappings of a resource.
const MAX_MAPPINGS: usize = 200;
/// Maximum length of a URL, name, scope, text or claim, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Path of an MCP endpoint. The URL without it names the same server.
const ENDPOINT: &str = "/mcp";

/// A registered MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// URL of the MCP endpoint, such as `https://mcp.example.com/mcp`. It is the audience of tokens.
    pub url: String,
    /// Name on the consent page.
    pub name: String,
    /// Scopes of the server, in the order of the consent page.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Scopes that every person may get. All others need a mapping in [`claims`](Self::claims).
    #[serde(default)]
    pub everyone: Vec<String>,
    /// Mapping of claims of the identity provider, such as groups, to scopes.
    #[serde(default)]
    pub claims: Vec<ClaimMapping>,
}

/// A scope of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Name of the scope, such as `events:write`.
    pub name: String,
    /// What a client may do with it, in English, for the consent page.
    pub text: String,
    /// The same in other languages, by their tag: `pt`, `es`.
    #[serde(default)]
    pub translations: BTreeMap<String, String>,
}

/// Scopes of the people who have a claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimMapping {
    /// Name of the claim, such as `groups`. An `email` must be verified.
    pub claim: String,
    /// Value of the claim, or an element of its list.
    pub value: String,
    /// Scopes that these people may get.
    pub scopes: Vec<String>,
}

/// All registered resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(Vec<Resource>);

/// Why resources were rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResourcesError(String);

impl Resources {
    /// Parses a JSON array of resources.
    ///
    /// # Errors
    ///
    /// When the JSON is malformed, and as [`new`](Self::new).
    pub fn parse(text: &str) -> Result<Self, ResourcesError> {
        let list = json::read(text, Budget::of(text));
        Self::new(
            list.map_err(|error| ResourcesError(format!("the resources are not a JSON array of resources: {error}")))?,
        )
    }

    /// Creates a source of resources that each are in a parameter: pairs of a name and JSON. See
    /// [`from_parameters`](Self::from_parameters).
    ///
    /// The parameters are at most five minutes old. If they cannot be read, the last ones are used.
    pub fn source(read: impl Fn() -> LoadFuture<Vec<(String, String)>> + Send + Sync + 'static) -> Source<Self> {
        Source::new(Duration::MAX, move || {
            let parameters = read();
            Box::pin(async move { Ok(Self::from_parameters(&parameters.await?)?) })
        })
    }

    /// Creates the registry from parameters: pairs of a name and the JSON of one resource. Each MCP server's stack writes its own, so
    /// that a parameter that is not valid is left out and logged, and the others are used. Parameters with the same URL are all left
    /// out, because only one can be meant.
    ///
    /// # Errors
    ///
    /// When there are more than 100.
    pub fn from_parameters(parameters: &[(String, String)]) -> Result<Self, ResourcesError> {
        if parameters.len() > MAX_RESOURCES {
            return Err(ResourcesError(format!("there are more than {MAX_RESOURCES} resources")));
        }
        let parse = |(name, text): &(String, String)| match Resource::parse(text) {
            Ok(resource) => Some((name.clone(), resource)),
            Err(ResourcesError(reason)) => {
                tracing::error!(parameter = name, reason, "a resource in a parameter is not valid: it is left out");
                None
            }
        };
        let parsed: Vec<_> = parameters.iter().filter_map(parse).collect();
        let has_own_url = |(name, own): &&(String, Resource)| {
            let other = parsed.iter().find(|(other, resource)| other != name && own.shares_a_server_with(resource));
            if let Some((other, _)) = other {
                let reason = format!("the parameter {other} has the same URL");
                tracing::error!(parameter = name, reason, "a resource in a parameter is not valid: it is left out");
            }
            other.is_none()
        };
        Ok(Self(parsed.iter().filter(has_own_url).map(|(_, resource)| resource.clone()).collect()))
    }

    /// Creates the registry.
    ///
    /// # Errors
    ///
    /// When a URL is not an `https` URL (`http` on loopback) without query and fragment or occurs twice, a scope is malformed,
    /// occurs twice or is mapped but not declared, or a limit is exceeded.
    pub fn new(list: Vec<Resource>) -> Result<Self, ResourcesError> {
        if list.len() > MAX_RESOURCES {
            return Err(ResourcesError(format!("there are more than {MAX_RESOURCES} resources")));
        }
        for (index, resource) in list.iter().enumerate() {
            let invalid =
                |reason: &str| ResourcesError(format!("resource {}: {reason}", json::shortened(&resource.url)));
            resource.fault().map_or(Ok(()), |fault| Err(invalid(&fault)))?;
            if list[..index].iter().any(|other| other.shares_a_server_with(resource)) {
                return Err(invalid("another resource has the same URL"));
            }
        }
        Ok(Self(list))
    }

    /// Finds the resource of a request. Without a `resource` parameter it is the only one that is registered.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidTarget`] when no registered resource has this URL, or when the parameter is missing and several are
    /// registered (RFC 8707, section 2).
    pub fn find(&self, requested: Option<&str>) -> Result<&Resource, OAuthError> {
        match (requested, &self.0[..]) {
            (Some(url), list) => list.iter().find(|own| own.is_named(url)).ok_or(OAuthError::new(
                ErrorCode::InvalidTarget,
                "the resource is not registered at this authorization server",
            )),
            (None, [only]) => Ok(only),
            (None, _) => Err(OAuthError::new(
                ErrorCode::InvalidTarget,
                "the parameter resource is missing: set it to the URL of the MCP server",
            )),
        }
    }

    /// Returns all resources.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter()
    }
}

impl Resource {
    /// Parses the JSON of one resource.
    fn parse(text: &str) -> Result<Self, ResourcesError> {
        if text.len() > MAX_PARAMETER_BYTES {
            return Err(ResourcesError("it has more than 8 KiB".to_owned()));
        }
        let own: Self = json::read(text, Budget::of(text))
            .map_err(|error| ResourcesError(format!("it is not the JSON of a resource: {error}")))?;
        own.fault().map_or(Ok(own), |fault| Err(ResourcesError(fault)))
    }

    /// Whether a server could accept the tokens of both: it accepts its base URL and its endpoint as audience, with or without a slash at
    /// the end.
    fn shares_a_server_with(&self, other: &Self) -> bool {
        self.base_url() == other.base_url()
    }

    fn base_url(&self) -> NormalUri {
        let url = NormalUri::new(&self.url);
        let url = url.as_str().trim_end_matches('/');
        NormalUri::new(url.strip_suffix(ENDPOINT).unwrap_or(url))
    }

    /// Whether a URL names this server: its own URL, or the URL without `/mcp` at its end. Scheme and host are compared
    /// without case (MCP authorization specification, "Canonical Server URI").
    pub fn is_named(&self, url: &str) -> bool {
        // A fragment is not allowed (RFC 8707, section 2).
        let is_equal = |own: &str| NormalUri::new(own) == NormalUri::new(url);
        url.len() <= MAX_TEXT_BYTES && (is_equal(&self.url) || self.url.strip_suffix(ENDPOINT).is_some_and(is_equal))
    }

    /// Returns the scopes of a request: those that the resource declares, or all of them if the request has none. Scopes that
    /// are not declared are ignored (RFC 6749, section 3.3), because clients request `openid` or `offline_access` everywhere.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidScope`] when none of the requested scopes is declared, although the resource has scopes.
    pub fn requested_scopes(&self, scope: Option<&str>) -> Result<Vec<String>, OAuthError> {
        let names = self.scopes.iter().map(|own| &own.name);
        let Some(scope) = scope else { return Ok(names.cloned().collect()) };
        let requested: BTreeSet<&str> = scope.split(' ').filter(|name| !name.is_empty()).collect();
        let known: Vec<_> = names.filter(|name| requested.contains(name.as_str())).cloned().collect();
        match known.is_empty() && !self.scopes.is_empty() {
            true => Err(OAuthError::new(
                ErrorCode::InvalidScope,
                "the MCP server has none of the requested scopes: request those of scopes_supported in its metadata",
            )),
            false => Ok(known),
        }
    }

    /// Returns those of `scopes` that a person may get. A claim without a mapping gives no scope.
    pub fn permitted_scopes(&self, scopes: &[String], person: &Principal) -> Vec<String> {
        let mapped = self.claims.iter().filter(|mapping| mapping.applies_to(person)).flat_map(|own| &own.scopes);
        let permitted: BTreeSet<&String> = self.everyone.iter().chain(mapped).collect();
        scopes.iter().filter(|scope| permitted.contains(scope)).cloned().collect()
    }

    /// Returns the names of mapped claims that the ID token of a person does not have. `email` counts as absent if it is not verified.
    pub(crate) fn absent_claims(&self, person: &Principal) -> Vec<&str> {
        let names: BTreeSet<&str> = self.claims.iter().map(|mapping| mapping.claim.as_str()).collect();
        let is_absent = |name: &&str| match *name {
            "email" => person.verified_email().is_none(),
            name => !person.claims.contains_key(name),
        };
        names.into_iter().filter(is_absent).collect()
    }

    fn fault(&self) -> Option<String> {
        let is_text = |text: &str| !text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES;
        let url = SecureUrl::parse(&self.url).filter(|url| url.query.is_none() && url.fragment.is_none());
        if url.is_none() || !is_text(&self.url) {
            return Some("its URL is not an https URL (http on loopback) without query and fragment".to_owned());
        }
        // The endpoint has no slash at the end, and the audience of tokens is the URL.
        if url.is_some_and(|url| url.path.len() > 1 && url.path.ends_with('/')) {
            return Some("its URL has a slash at the end".to_owned());
        }
        if !is_text(&self.name) {
            return Some(format!("its name is empty or has more than {MAX_TEXT_BYTES} bytes"));
        }
        if self.scopes.len() > MAX_SCOPES || self.claims.len() > MAX_MAPPINGS {
            return Some(format!("it has more than {MAX_SCOPES} scopes or {MAX_MAPPINGS} mappings"));
        }
        for (index, scope) in self.scopes.iter().enumerate() {
            let texts = scope.translations.values().chain([&scope.text]);
            if !is_scope_token(&scope.name) || !is_text(&scope.name) || !texts.into_iter().all(|text| is_text(text)) {
                return Some(format!("the scope {} or its text is malformed", json::shortened(&scope.name)));
            }
            if self.scopes[..index].iter().any(|other| other.name == scope.name) {
                return Some(format!("the scope {} occurs twice", scope.name));
            }
        }
        if self.claims.iter().any(|mapping| !is_text(&mapping.claim) || !is_text(&mapping.value)) {
            return Some("a mapping has no claim or no value".to_owned());
        }
        let mapped = self.claims.iter().flat_map(|mapping| &mapping.scopes).chain(&self.everyone);
        let undeclared = mapped.into_iter().find(|name| self.scopes.iter().all(|own| own.name != **name));
        undeclared.map(|name| format!("the mapped scope {} is not in its scopes", json::shortened(name)))
    }
}

impl Scope {
    /// Returns the text in a language, by its tag; the English one if there is no other.
    pub(crate) fn text_in(&self, tag: &str) -> &str {
        self.translations.get(tag).unwrap_or(&self.text)
    }
}

impl ClaimMapping {
    fn applies_to(&self, person: &Principal) -> bool {
        if self.claim == "email" {
            return person.has_verified_email(&self.value);
        }
        match person.claims.get(&self.claim) {
            Some(Value::String(own)) => *own == self.value,
            Some(Value::Array(list)) => list.iter().any(|own| own.as_str() == Some(&self.value)),
            Some(Value::Bool(own)) => own.to_string() == self.value,
            _ => false,
        }
    }
}

/// Whether a text is a scope token (RFC 6749, section 3.3).
fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests;
