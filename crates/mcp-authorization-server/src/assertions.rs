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
    AuthorizationServer, ErrorCode, GrantError, Granted, OAuthError, Parameters, RequestContext, Resource, Resources,
    clock::unix_seconds,
    resource::MAX_RESOURCES,
    server::{grant_error, unavailable},
    upstream::subject,
};

/// Grant type of assertions (RFC 7523, section 2.1).
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Profile of the grant type, in the metadata.
pub(crate) const GRANT_PROFILE: &str = "urn:ietf:params:oauth:grant-profile:id-jag";
const USED: Kind = Kind::new("assertion");
/// Maximum lifetime of an assertion.
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
        let claims = AssertionClaims::parse(&person).ok_or(INVALID)?;
        if claims.audience != issuer || claims.client_id != request.client_id {
            return Err(INVALID);
        }
        let resource = claims.resource(request.resource, resources)?;
        // Scopes of the request and of the assertion, if they have any, and of the person's claims.
        let mut scopes = resource.requested_scopes(request.scope)?;
        if let Some(own) = claims.scopes(resource)? {
            scopes.retain(|scope| own.contains(scope.as_str()));
        }
        let is_empty_request = scopes.is_empty() && !resource.scopes.is_empty();
        let permitted = resource.permitted_scopes(&scopes, &person);
        if is_empty_request || permitted.is_empty() && !scopes.is_empty() {
            return Err(OAuthError::new(ErrorCode::InvalidScope, "the person has none of the requested scopes"));
        }
        self.use_once(&person.issuer, &claims, now).await?;
        let subject = subject(&person.issuer, &person.subject);
        Ok(Granted { subject, resource: resource.url.clone(), scopes: permitted, refresh_token: None, check: None })
    }

    /// Marks an assertion as used.
    async fn use_once(&self, issuer: &str, claims: &AssertionClaims<'_>, now: SystemTime) -> Result<(), OAuthError> {
        let expires_in = claims.expires - unix_seconds(now) as f64;
        let expires_in = Duration::try_from_secs_f64(expires_in).map_err(|_| INVALID)?;
        let id = format!("{issuer} {}", claims.id);
        let row = StoreId { kind: USED, caller: None, id: id.as_bytes() };
        let content = Content { value: b"", expires_in: expires_in + CLOCK_SKEW, due_in: None };
        let used = self.store.put_if_absent(&row, content).await;
        match used.map_err(|error| grant_error(GrantError::Store(error)))? {
            Some(_) => Ok(()),
            None => Err(INVALID),
        }
    }
}

/// Claims of a verified assertion (section 3.1 of the draft), beside those of a person.
#[derive(Debug)]
struct AssertionClaims<'a> {
    audience: &'a str,
    client_id: &'a str,
    id: &'a str,
    /// In seconds since 1970, rounded up.
    expires: f64,
    /// URLs of the resources; `None` if the assertion is for any.
    resources: Option<Vec<&'a str>>,
    scope: Option<&'a str>,
}

impl<'a> AssertionClaims<'a> {
    /// Returns the claims; `None` if one that is required is missing, one is malformed, or one has a meaning that this server does not
    /// process and must not ignore.
    fn parse(person: &'a Principal) -> Option<Self> {
        let claims = &person.claims;
        let text = |name: &str| claims.get(name)?.as_str();
        // A list is valid JSON, too: ignored, it would limit nothing.
        let optional_text = |name: &str| match claims.get(name) {
            None => Some(None),
            Some(value) => value.as_str().map(Some),
        };
        // A subject is unique with its tenant only, and authorization details (RFC 9396) limit the access.
        if claims.contains_key("tenant") || claims.contains_key("authorization_details") {
            return None;
        }
        let number = |name: &str| claims.get(name)?.as_f64();
        let (issued_at, expires) = (number("iat")?, number("exp")?.ceil());
        (expires - issued_at <= MAX_LIFETIME.as_secs_f64()).then_some(())?;
        let audience = match claims.get("aud")? {
            Value::String(own) => own,
            Value::Array(list) if list.len() == 1 => list[0].as_str()?,
            _ => return None,
        };
        let resources = match claims.get("resource") {
            None => None,
            Some(Value::String(own)) => Some(vec![own.as_str()]),
            Some(Value::Array(list)) if (1..=MAX_RESOURCES).contains(&list.len()) => {
                Some(list.iter().map(Value::as_str).collect::<Option<_>>()?)
            }
            Some(_) => return None,
        };
        Some(Self {
            audience,
            client_id: text("client_id")?,
            id: text("jti").filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()))?,
            expires,
            resources,
            scope: optional_text("scope")?,
        })
    }

    /// Finds the resource of the token: that of the request, or else the one that the assertion names.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the assertion names no registered resource, [`ErrorCode::InvalidTarget`] when it does not name that
    /// of the request, or names several and the request none.
    fn resource<'r>(&self, requested: Option<&str>, registered: &'r Resources) -> Result<&'r Resource, OAuthError> {
        let Some(urls) = &self.resources else { return registered.find(requested) };
        let named: Vec<_> = urls.iter().filter_map(|url| registered.find(Some(url)).ok()).collect();
        let first = *named.first().ok_or(INVALID)?;
        let is_only = named.iter().all(|own| own.url == first.url);
        match requested {
            Some(url) => {
                let requested = registered.find(Some(url))?;
                let other = OAuthError::new(ErrorCode::InvalidTarget, "the assertion is for another resource");
                named.iter().any(|own| own.url == requested.url).then_some(requested).ok_or(other)
            }
            None if is_only => Ok(first),
            None => Err(OAuthError::new(
                ErrorCode::InvalidTarget,
                "the assertion is for several resources: set the parameter resource to one of them",
            )),
        }
    }

    /// Returns the scopes of the assertion; `None` if it limits none.
    ///
    /// # Errors
    ///
    /// When the resource has none of them.
    fn scopes(&self, resource: &Resource) -> Result<Option<HashSet<&'a str>>, OAuthError> {
        let Some(scope) = self.scope else { return Ok(None) };
        let own: HashSet<&str> = scope.split(' ').collect();
        let is_of_resource = resource.scopes.iter().any(|scope| own.contains(scope.name.as_str()));
        (is_of_resource || resource.scopes.is_empty()).then_some(Some(own)).ok_or(INVALID)
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
