//! Claims of the common issuers, mapped to a [`Principal`].

use mcp_server::Principal;
use serde_json::{Map, Value};

use crate::{Reason, config::IssuerConfig, verifier::scopes};

/// Maps verified claims to the caller's principal.
pub(crate) fn principal(claims: Map<String, Value>, config: &IssuerConfig) -> Result<Principal, Reason> {
    let own = |names: &[&str]| names.iter().find_map(|name| string_claim(&claims, name)).map(str::to_owned);
    let listed = |names: &[&str]| names.iter().filter_map(|name| claims.get(*name)).flat_map(string_list).collect();
    let mut roles: Vec<String> = listed(&["roles"]);
    // Keycloak.
    roles
        .extend(claims.get("realm_access").and_then(|access| access.get("roles")).map(string_list).unwrap_or_default());
    Ok(Principal {
        issuer: config.issuer.clone(),
        subject: own(&["sub"]).ok_or(Reason::Subject)?,
        email: own(&["email"]),
        // A string at some issuers.
        email_verified: matches!(claims.get("email_verified"), Some(Value::Bool(true)))
            || string_claim(&claims, "email_verified") == Some("true"),
        name: own(&["name"]),
        scopes: scopes(&claims, config).into_iter().collect(),
        client_id: client_id(&claims).map(str::to_owned),
        // Microsoft Entra's tenant; Auth0's organization.
        tenant: own(&["tid", "org_id"]),
        groups: listed(&["groups", "cognito:groups"]),
        roles,
        claims,
    })
}

/// Returns the client that the token was issued to: the claim of RFC 9068, of OpenID Connect, or of Okta.
pub(crate) fn client_id(claims: &Map<String, Value>) -> Option<&str> {
    ["client_id", "azp", "cid"].iter().find_map(|name| string_claim(claims, name))
}

/// Returns a claim that is a string.
pub(crate) fn string_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// Returns the strings of an array. A string counts as an array of one string.
pub(crate) fn string_list(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
