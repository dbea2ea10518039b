//! Identity assertions (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant): a company's identity provider vouches for a person, so that
//! a client gets a token without a sign-in here (RFC 7523).

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, Instant, SystemTime},
};

use mcp_auth::{OidcConfig, Verifier, VerifyError};
use mcp_server::{
    InitError, Principal,
    store::{Content, Kind, SealedStore, StoreId},
};
use serde_json::{Value, json};

use crate::{
    AuthorizationServer, ErrorCode, GrantError, Granted, OAuthError, Parameters, RequestContext, Resources,
    clock::unix_seconds,
    server::{grant_error, unavailable},
    upstream::subject,
};

/// Grant type of assertions (RFC 7523, section 2.1).
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Profile of the grant type, in the metadata.
pub(crate) const GRANT_PROFILE: &str = "urn:ietf:params:oauth:grant-profile:id-jag";
const USED: Kind = Kind::new("assertion");
/// Maximum time until an assertion expires.
const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long the id of an assertion is stored after it has expired: the clock of another environment may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const MAX_ID_BYTES: usize = 256;

/// The issuers whose assertions are accepted.
pub(crate) struct Assertions {
    verifier: Verifier,
    store: SealedStore,
}

/// A token request with an assertion.
#[derive(Debug, Clone, Copy)]
struct AssertionRequest<'a> {
    assertion: &'a str,
    /// The client, authenticated by its secret.
    client_id: &'a str,
    resource: Option<&'a str>,
    scope: Option<&'a str>,
}

impl Assertions {
    /// # Errors
    ///
    /// When an issuer is not an `https` URL (`http` on loopback).
    pub(crate) fn new(issuers: &[String], store: SealedStore) -> Result<Self, InitError> {
        // Without an audience: it is this server's own issuer identifier.
        let entries: Vec<_> = issuers.iter().map(|issuer| json!({ "issuer": issuer })).collect();
        let entries = Value::from(entries).to_string();
        let oidc = OidcConfig::from_env(|name| (name == "OIDC_ISSUERS").then_some(entries.as_str()))?;
        let oidc = oidc.ok_or_else(|| InitError::new("no issuer of identity assertions is configured"))?;
        Ok(Self { verifier: Verifier::new(oidc.for_identity_assertions()), store })
    }

    /// Redeems an assertion once. There is no refresh token: the client gets another assertion.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the assertion is invalid, expired, used, or for another client, server or resource. When keys or
    /// the store are not available.
    async fn redeem(
        &self,
        issuer: &str,
        request: &AssertionRequest<'_>,
        resources: &Resources,
        now: SystemTime,
        deadline: Option<Instant>,
    ) -> Result<Granted, OAuthError> {
        let person = match self.verifier.verify(request.assertion, issuer, now, deadline).await {
            Ok(person) => person,
            Err(error @ VerifyError::KeysUnavailable { .. }) => {
                return Err(unavailable("the keys of an issuer of identity assertions could not be read", &error));
            }
            Err(VerifyError::Invalid(_) | VerifyError::NotAllowed) => return Err(INVALID),
        };
        let text = |name: &str| person.claims.get(name).and_then(Value::as_str);
        let is_audience = match person.claims.get("aud") {
            Some(Value::String(own)) => own == issuer,
            Some(Value::Array(list)) => list.len() == 1 && list[0] == issuer,
            _ => false,
        };
        // A list is valid JSON, too: ignored, it would limit nothing.
        let is_text = |name: &str| person.claims.get(name).is_none_or(Value::is_string);
        if !is_audience || text("client_id") != Some(request.client_id) || !is_text("resource") || !is_text("scope") {
            return Err(INVALID);
        }
        let url = match (text("resource"), request.resource) {
            (Some(own), Some(requested)) if resources.find(Some(own))?.url != resources.find(Some(requested))?.url => {
                return Err(OAuthError::new(ErrorCode::InvalidTarget, "the assertion is for another resource"));
            }
            (own, requested) => own.or(requested),
        };
        let resource = resources.find(url)?;
        // Scopes of the request and of the assertion, if they have any, and of the person's claims.
        let mut scopes = resource.requested_scopes(request.scope)?;
        if let Some(own) = text("scope") {
            let own: HashSet<&str> = own.split(' ').collect();
            scopes.retain(|scope| own.contains(scope.as_str()));
        }
        let is_empty_request = scopes.is_empty() && !resource.scopes.is_empty();
        let permitted = resource.permitted_scopes(&scopes, &person);
        if is_empty_request || permitted.is_empty() && !scopes.is_empty() {
            return Err(OAuthError::new(ErrorCode::InvalidScope, "the person has none of the requested scopes"));
        }
        self.use_once(&person, now).await?;
        let subject = subject(&person.issuer, &person.subject);
        Ok(Granted { subject, resource: resource.url.clone(), scopes: permitted, refresh_token: None, check: None })
    }

    /// Marks an assertion as used.
    async fn use_once(&self, person: &Principal, now: SystemTime) -> Result<(), OAuthError> {
        let id = person.claims.get("jti").and_then(Value::as_str).filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
        let id = id.ok_or(INVALID)?;
        let expires = person.claims.get("exp").and_then(Value::as_f64).ok_or(INVALID)?;
        let expires_in = Duration::try_from_secs_f64(expires.ceil() - unix_seconds(now) as f64).map_err(|_| INVALID)?;
        if expires_in > MAX_LIFETIME {
            return Err(INVALID);
        }
        let id = format!("{} {id}", person.issuer);
        let row = StoreId { kind: USED, caller: None, id: id.as_bytes() };
        let content = Content { value: b"", expires_in: expires_in + CLOCK_SKEW, due_in: None };
        let used = self.store.put_if_absent(&row, content).await;
        match used.map_err(|error| grant_error(GrantError::Store(error)))? {
            Some(_) => Ok(()),
            None => Err(INVALID),
        }
    }
}

impl AuthorizationServer {
    /// Serves a token request with an assertion.
    pub(crate) async fn redeem_assertion(
        &self,
        parameters: &Parameters,
        client_id: &str,
        resources: &Resources,
        context: &RequestContext<'_>,
    ) -> Result<Granted, OAuthError> {
        let unsupported = OAuthError::new(ErrorCode::UnsupportedGrantType, "identity assertions are not accepted");
        let assertions = self.assertions.as_ref().ok_or(unsupported)?;
        if !self.clients.is_confidential(client_id) {
            return Err(OAuthError::new(
                ErrorCode::UnauthorizedClient,
                "only a client with a secret may use assertions",
            ));
        }
        let missing = OAuthError::new(ErrorCode::InvalidRequest, "the parameter assertion is missing");
        let assertion = parameters.get("assertion").ok_or(missing)?;
        let (resource, scope) = (parameters.get("resource"), parameters.get("scope"));
        let request = AssertionRequest { assertion, client_id, resource, scope };
        assertions.redeem(context.issuer, &request, resources, context.now, context.deadline).await
    }
}

const INVALID: OAuthError = OAuthError::new(
    ErrorCode::InvalidGrant,
    "the assertion is invalid, expired, used, or for another client or server",
);

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertions(..)")
    }
}
