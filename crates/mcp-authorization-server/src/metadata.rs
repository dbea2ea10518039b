//! Metadata of the authorization server (RFC 8414).

use serde_json::{Value, json};

use crate::assertions::{GRANT_PROFILE, GRANT_TYPE};

/// Paths of the endpoints, below the issuer.
pub(crate) mod paths {
    /// Metadata (RFC 8414, section 3).
    pub(crate) const METADATA: &str = "/.well-known/oauth-authorization-server";
    /// Authorization endpoint.
    pub(crate) const AUTHORIZE: &str = "/authorize";
    /// Redirect URI of the sign-in at the identity provider.
    pub(crate) const CALLBACK: &str = "/callback";
    /// Token endpoint.
    pub(crate) const TOKEN: &str = "/token";
    /// Revocation endpoint (RFC 7009).
    pub(crate) const REVOKE: &str = "/revoke";
    /// Dynamic client registration (RFC 7591).
    pub(crate) const REGISTER: &str = "/register";
    /// The page of a person's grants.
    pub(crate) const GRANTS: &str = "/grants";
    /// Public signing keys.
    pub(crate) const JWKS: &str = "/jwks";
}

/// Name of this software in the metadata, by which `mcpl doctor` recognizes it. RFC 8414 permits members of one's own.
const SOFTWARE_ID: &str = "mcp-authorization-server";
/// Methods of client authentication. Registered clients and those with a metadata document use `none`.
const AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];

/// Returns the metadata. `scopes_supported` is left out, because scopes belong to a resource, whose own metadata lists them.
pub(crate) fn metadata(issuer: &str, has_registration: bool, has_assertions: bool) -> Value {
    let url = |path: &str| format!("{issuer}{path}");
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": url(paths::AUTHORIZE),
        "token_endpoint": url(paths::TOKEN),
        "jwks_uri": url(paths::JWKS),
        "revocation_endpoint": url(paths::REVOKE),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "code_challenge_methods_supported": ["S256"],
        "client_id_metadata_document_supported": true,
        "authorization_response_iss_parameter_supported": true,
        "software_id": SOFTWARE_ID,
    });
    if has_assertions {
        metadata["grant_types_supported"] = json!(["authorization_code", "refresh_token", GRANT_TYPE]);
        metadata["authorization_grant_profiles_supported"] = json!([GRANT_PROFILE]);
    }
    if has_registration {
        metadata["registration_endpoint"] = url(paths::REGISTER).into();
    }
    metadata
}
