//! What verified claims say about a caller, in the names that issuers use for it.

use mcp_server::Principal;
use serde_json::{Map, Value};

use crate::{Reason, config::IssuerConfig, verifier::scopes};

/// The caller that verified claims name.
pub(crate) fn principal(claims: Map<String, Value>, config: &IssuerConfig) -> Result<Principal, Reason> {
    let own = |names: &[&str]| names.iter().find_map(|name| text(&claims, name)).map(str::to_owned);
    let listed = |names: &[&str]| names.iter().filter_map(|name| claims.get(*name)).flat_map(strings).collect();
    let mut roles: Vec<String> = listed(&["roles"]);
    // Keycloak.
    roles.extend(claims.get("realm_access").and_then(|access| access.get("roles")).map(strings).unwrap_or_default());
    Ok(Principal {
        issuer: config.issuer.clone(),
        subject: own(&["sub"]).ok_or(Reason::Subject)?,
        email: own(&["email"]),
        // Some issuers write it as text.
        email_verified: matches!(claims.get("email_verified"), Some(Value::Bool(true)))
            || text(&claims, "email_verified") == Some("true"),
        name: own(&["name"]),
        scopes: scopes(&claims, config).into_iter().collect(),
        client_id: client_id(&claims).map(str::to_owned),
        // Microsoft Entra's tenant, Auth0's organisation.
        tenant: own(&["tid", "org_id"]),
        groups: listed(&["groups", "cognito:groups"]),
        roles,
        claims,
    })
}

/// The client that a token was issued to: RFC 9068's name, OpenID's, Okta's.
pub(crate) fn client_id(claims: &Map<String, Value>) -> Option<&str> {
    ["client_id", "azp", "cid"].iter().find_map(|name| text(claims, name))
}

pub(crate) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// The strings of a list; a string alone is a list of one.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
