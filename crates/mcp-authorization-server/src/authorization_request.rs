//! Authorization requests (OAuth 2.1, section 4.1.1) and their errors.
//!
//! A request is validated in two steps, because no error may be sent to a redirect URI that is not validated (OAuth 2.1, section
//! 4.1.2.1): [`client_id`] first, then [`AuthorizationRequest::validate`] with the client.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Client, ErrorCode, OAuthError, Parameters, RedirectUri, Resources, parameters::append};

/// Maximum length of a client id, in bytes.
pub(crate) const MAX_CLIENT_ID_BYTES: usize = 512;
/// Maximum length of `state` as a JSON string, in bytes: a sealed form contains it, and a control character takes six bytes.
const MAX_STATE_BYTES: usize = 2048;
/// Length of a code challenge: a SHA-256 digest in Base64url (RFC 7636, section 4.2).
const CHALLENGE_LENGTH: usize = 43;

/// A validated authorization request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// The client.
    pub client_id: String,
    /// The redirect URI, as requested.
    pub redirect_uri: RedirectUri,
    /// The registered URL of the resource.
    pub resource: String,
    /// Requested scopes that the resource declares.
    pub scopes: Vec<String>,
    /// Code challenge of the method `S256`.
    pub code_challenge: String,
    /// The client's `state`, returned unchanged.
    pub state: Option<String>,
}

/// Why an authorization request was rejected, and who gets the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// Shown to the person, because client or redirect URI are not valid: never redirected.
    Page(OAuthError),
    /// For the client.
    Client {
        /// The error.
        error: OAuthError,
        /// The redirect URI with the error.
        url: String,
    },
}

/// Returns the client id of a request.
///
/// # Errors
///
/// When it is missing, repeated or too long. The error is shown to the person.
pub(crate) fn client_id(parameters: &Parameters) -> Result<&str, OAuthError> {
    let invalid = |description| Err(OAuthError::new(ErrorCode::InvalidRequest, description));
    match parameters.get("client_id") {
        // A repeated name may be that of the client or of the redirect URI, whose values are ambiguous then.
        _ if parameters.is_repeated("client_id") || parameters.is_repeated("redirect_uri") => {
            invalid("client_id or redirect_uri occurs twice")
        }
        None => invalid("the parameter client_id is missing"),
        Some(id) if id.len() > MAX_CLIENT_ID_BYTES => invalid("the parameter client_id is too long"),
        Some(id) => Ok(id),
    }
}

impl AuthorizationRequest {
    /// Validates a request of a client.
    ///
    /// # Errors
    ///
    /// [`Rejection::Page`] when the redirect URI is missing, malformed or not registered; [`Rejection::Client`] for every other
    /// error. `issuer` is the parameter `iss` of its URL (RFC 9207).
    pub fn validate(
        parameters: &Parameters,
        client: &Client,
        resources: &Resources,
        issuer: &str,
    ) -> Result<Self, Rejection> {
        let page = |description| Rejection::Page(OAuthError::new(ErrorCode::InvalidRequest, description));
        // Repeated: the parser keeps the last value, which another program may not do.
        client_id(parameters).map_err(Rejection::Page)?;
        let redirect_uri = parameters.get("redirect_uri").ok_or(page("the parameter redirect_uri is missing"))?;
        let redirect_uri =
            RedirectUri::parse(redirect_uri).map_err(|_| page("the parameter redirect_uri is not allowed"))?;
        if !client.allows(&redirect_uri) {
            return Err(page("the parameter redirect_uri is not a redirect URI of this client"));
        }
        // From here on, errors are for the client.
        let state = parameters.get("state").filter(|state| is_state(state));
        let validated = validate_others(parameters, resources);
        let (resource, scopes, code_challenge) = validated.map_err(|error| {
            let url = error_redirect(&redirect_uri, &error, state, issuer);
            Rejection::Client { error, url }
        })?;
        Ok(Self {
            client_id: client.id.clone(),
            redirect_uri,
            resource,
            scopes,
            code_challenge,
            state: state.map(str::to_owned),
        })
    }

    /// Returns the redirect to the client with a code.
    pub fn code_redirect(&self, code: &str, issuer: &str) -> String {
        let parameters = [("code", Some(code)), ("state", self.state.as_deref()), ("iss", Some(issuer))];
        append(self.redirect_uri.as_str(), &parameters)
    }

    /// Returns the redirect to the client with an error.
    pub fn error_redirect(&self, error: &OAuthError, issuer: &str) -> String {
        error_redirect(&self.redirect_uri, error, self.state.as_deref(), issuer)
    }
}

/// Validates the parameters whose errors are sent to the client. Returns resource, scopes and code challenge.
fn validate_others(
    parameters: &Parameters,
    resources: &Resources,
) -> Result<(String, Vec<String>, String), OAuthError> {
    let invalid = |description| Err(OAuthError::new(ErrorCode::InvalidRequest, description));
    match parameters.repeated() {
        None => {}
        Some("resource") => {
            return Err(OAuthError::new(ErrorCode::InvalidTarget, "a token is issued for one resource: request one"));
        }
        Some(_) => return invalid("a parameter occurs twice"),
    }
    if parameters.get("state").is_some_and(|state| !is_state(state)) {
        return invalid("the parameter state has more than 2048 bytes as a JSON string");
    }
    if parameters.get("request").is_some() || parameters.get("request_uri").is_some() {
        return invalid("the parameters request and request_uri are not supported");
    }
    match parameters.get("response_type") {
        Some("code") => {}
        None => return invalid("the parameter response_type is missing"),
        Some(_) => {
            let description = "the only supported response_type is code";
            return Err(OAuthError::new(ErrorCode::UnsupportedResponseType, description));
        }
    }
    if !matches!(parameters.get("response_mode"), None | Some("query")) {
        return invalid("the only supported response_mode is query");
    }
    // Without a method, the challenge would be plain (RFC 7636, section 4.3).
    if parameters.get("code_challenge_method") != Some("S256") {
        return invalid("PKCE with code_challenge_method S256 is required");
    }
    let is_challenge = |text: &&str| {
        text.len() == CHALLENGE_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let Some(challenge) = parameters.get("code_challenge").filter(is_challenge) else {
        return invalid("the parameter code_challenge is not a SHA-256 digest in Base64url");
    };
    let resource = resources.find(parameters.get("resource"))?;
    let scopes = resource.requested_scopes(parameters.get("scope"))?;
    Ok((resource.url.clone(), scopes, challenge.to_owned()))
}

fn is_state(state: &str) -> bool {
    // Each character takes at least one byte.
    state.len() <= MAX_STATE_BYTES && Value::from(state).to_string().len() <= MAX_STATE_BYTES + "\"\"".len()
}

fn error_redirect(uri: &RedirectUri, error: &OAuthError, state: Option<&str>, issuer: &str) -> String {
    let parameters = [
        ("error", Some(error.code.as_str())),
        ("error_description", Some(error.description)),
        ("state", state),
        ("iss", Some(issuer)),
    ];
    append(uri.as_str(), &parameters)
}

#[cfg(test)]
mod tests;
