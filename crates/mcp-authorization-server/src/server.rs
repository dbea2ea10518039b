//! The server: endpoints for programs, and dispatch by path.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use mcp_server::{
    InitError, KeyLoader, StateKey, error_chain,
    store::{SealedStore, Store},
};
use serde_json::json;

use crate::{
    ClientError, Clients, ConfiguredClient, DocumentSource, ErrorCode, GrantError, Grants, KeyRing, OAuthError,
    Parameters, RefreshLifetimes, RegistrationPolicy, Resource, Resources, Sealer, Source, Upstream, UpstreamError,
    access_token::AccessToken,
    assertions::{Assertions, GRANT_TYPE},
    clients::{Credentials, MAX_REGISTRATION_BYTES},
    grants::{CodeRequest, DueCheck, TokenRequest},
    limits::RowLimits,
    metadata::{metadata, paths},
    parameters::MAX_BYTES,
    responses::{
        HttpResponse, allow_any_origin, error_response, json_response, method_not_allowed, preflight, response, set,
        too_many_requests,
    },
    seal::SERVER,
    sign_in::SignIns,
    upstream::subject,
};

/// Maximum size of a request body, in bytes.
pub const MAX_BODY_BYTES: usize = if MAX_BYTES > MAX_REGISTRATION_BYTES { MAX_BYTES } else { MAX_REGISTRATION_BYTES };
/// How long browsers and verifiers may cache metadata and keys. Less than the lead of a new key.
const CACHE_CONTROL: &str = "public, max-age=300";

/// Settings of a server.
#[derive(Debug)]
pub struct Settings {
    /// The registered MCP servers.
    pub resources: Source<Resources>,
    /// The signing keys.
    pub keys: Source<KeyRing>,
    /// The identity provider.
    pub upstream: Upstream,
    /// Clients in the configuration.
    pub clients: Vec<ConfiguredClient>,
    /// Which clients may register themselves.
    pub registration: RegistrationPolicy,
    /// Where metadata documents of clients come from.
    pub documents: DocumentSource,
    /// Lifetime of access tokens.
    pub token_lifetime: Duration,
    /// Lifetimes of refresh tokens.
    pub refresh: RefreshLifetimes,
}

/// An authorization server. It keeps no state in memory but caches: all environments share the store and the state key.
#[derive(Debug)]
pub struct AuthorizationServer {
    pub(crate) resources: Source<Resources>,
    keys: Source<KeyRing>,
    token_lifetime: Duration,
    pub(crate) clients: Clients,
    pub(crate) grants: Grants,
    pub(crate) sign_ins: SignIns,
    pub(crate) assertions: Option<Assertions>,
}

/// The server has no usable keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not derive keys from the state key")]
pub struct UnusableStateKey;

/// Properties of a request that are not in it.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The issuer: the server's own URL, without a path.
    pub issuer: &'a str,
    /// Address of the caller, as the platform has seen it.
    pub address: Option<IpAddr>,
    /// The time of the request.
    pub now: SystemTime,
    /// The time at which the response must be ready.
    pub deadline: Option<Instant>,
}

impl AuthorizationServer {
    /// Creates a server whose state is in `store`. `loader` loads the state key again for a value of a newer key.
    ///
    /// # Errors
    ///
    /// When no keys can be derived from the state key.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        state_key: &StateKey,
        loader: &Arc<KeyLoader>,
    ) -> Result<Self, UnusableStateKey> {
        let sealed = SealedStore::of_server(store, SERVER, state_key, Arc::clone(loader)).ok_or(UnusableStateKey)?;
        let sealer = || Sealer::new(state_key, Arc::clone(loader)).ok_or(UnusableStateKey);
        let Settings { resources, keys, upstream, clients, registration, documents, token_lifetime, refresh } =
            settings;
        Ok(Self {
            resources,
            keys,
            token_lifetime,
            clients: Clients::new(clients, registration, documents, sealed.clone()),
            grants: Grants::new(sealed.clone(), sealer()?, refresh),
            assertions: None,
            sign_ins: SignIns { limits: RowLimits::new(sealed.clone()), store: sealed, sealer: sealer()?, upstream },
        })
    }

    /// Accepts identity assertions (ID-JAG) of these issuers, from clients with a secret.
    ///
    /// # Errors
    ///
    /// When an issuer is not an `https` URL (`http` on loopback).
    pub fn trust_assertions_of(mut self, issuers: &[String]) -> Result<Self, InitError> {
        self.assertions = Some(Assertions::new(issuers, self.sign_ins.store.clone())?);
        Ok(self)
    }

    /// Revokes all grants. Access tokens stay valid until they expire.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn revoke_all(&self, now: SystemTime) -> Result<(), GrantError> {
        self.grants.revoke_all(now).await
    }

    /// Deletes all rows of a person: grants and approvals. Returns their number. Access tokens stay valid until they expire. `issuer` is
    /// that of this server; the person is named by issuer and subject of the identity provider.
    ///
    /// # Errors
    ///
    /// When the store fails, or rows are left because the person has more than 10,000: repeat it then.
    pub async fn delete_person(
        &self,
        issuer: &str,
        (upstream_issuer, upstream_subject): (&str, &str),
    ) -> Result<u64, GrantError> {
        self.grants.delete_person(issuer, &subject(upstream_issuer, upstream_subject)).await
    }

    /// Handles a request. Each response is complete; none has a status of its own for an internal error of another layer. The
    /// [`OAuthError`] of a rejected request is also an extension of the response, for the log.
    pub async fn handle(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> HttpResponse {
        match request.uri().path() {
            paths::METADATA => public(request, self.metadata(context)),
            paths::JWKS => public(request, self.jwks(context).await),
            paths::TOKEN => self.program(request, self.token(request, context)).await,
            paths::REVOKE => self.program(request, self.revoke(request, context)).await,
            paths::REGISTER if self.clients.has_registration() => {
                self.program(request, self.register(request, context)).await
            }
            paths::AUTHORIZE => self.authorize(request, context).await,
            paths::CALLBACK => self.callback(request, context).await,
            paths::GRANTS => self.grants_endpoint(request, context).await,
            _ => response(StatusCode::NOT_FOUND, String::new()),
        }
    }

    fn metadata(&self, context: &RequestContext<'_>) -> HttpResponse {
        let mut response = json_response(
            StatusCode::OK,
            &metadata(context.issuer, self.clients.has_registration(), self.assertions.is_some()),
        );
        set(&mut response, header::CACHE_CONTROL, CACHE_CONTROL);
        response
    }

    async fn jwks(&self, context: &RequestContext<'_>) -> HttpResponse {
        match self.keys.get(context.now).await {
            Ok(keys) => {
                let mut response = json_response(StatusCode::OK, &keys.jwks(self.token_lifetime, context.now));
                set(&mut response, header::CACHE_CONTROL, CACHE_CONTROL);
                response
            }
            Err(error) => error_response(&unavailable("the signing keys could not be read", error.as_ref())),
        }
    }

    /// Serves an endpoint that programs call by POST.
    async fn program(
        &self,
        request: &Request<Bytes>,
        work: impl Future<Output = Result<HttpResponse, OAuthError>>,
    ) -> HttpResponse {
        let mut response = match *request.method() {
            Method::POST => work.await.unwrap_or_else(|error| error_response(&error)),
            Method::OPTIONS => preflight("POST"),
            _ => method_not_allowed("POST, OPTIONS"),
        };
        allow_any_origin(&mut response);
        response
    }

    async fn token(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> Result<HttpResponse, OAuthError> {
        let parameters = form(request)?;
        let basic = basic_credentials(request.headers())?;
        let client_id = self.authenticate(&parameters, basic.as_ref(), context).await?;
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| unavailable("the resources could not be read", error.as_ref()))?;
        // Read before a code or refresh token is used up.
        let keys = self.keys.get(context.now).await;
        let keys = keys.map_err(|error| unavailable("the signing keys could not be read", error.as_ref()))?;
        let missing = |description| OAuthError::new(ErrorCode::InvalidRequest, description);
        let (issuer, now) = (context.issuer, context.now);
        let of_client = TokenRequest {
            client_id: &client_id,
            is_configured: self.clients.is_configured(&client_id),
            resources: &resources,
            resource: parameters.get("resource"),
        };
        let mut granted = match parameters.get("grant_type") {
            Some("authorization_code") => {
                let code = parameters.get("code").ok_or(missing("the parameter code is missing"))?;
                let of_code = CodeRequest {
                    request: of_client,
                    code_verifier: parameters.get("code_verifier"),
                    redirect_uri: parameters.get("redirect_uri"),
                };
                let granted = self.grants.redeem_code(issuer, code, &of_code, now).await.map_err(grant_error)?;
                if let Err(error) = self.clients.extend(&client_id).await {
                    tracing::warn!(error = error_chain(&error), "the registration of a client could not be extended");
                }
                granted
            }
            Some("refresh_token") => {
                let token = parameters.get("refresh_token").ok_or(missing("the parameter refresh_token is missing"))?;
                let scope = parameters.get("scope");
                let refreshed = self.grants.refresh(issuer, token, &of_client, scope, now).await;
                let mut granted = refreshed.map_err(grant_error)?;
                if let Some(check) = &granted.check {
                    let resource = resources.find(Some(&granted.resource))?;
                    let permitted =
                        self.check_person(check, resource, &client_id, context).await.map_err(grant_error)?;
                    if let Some(permitted) = permitted {
                        granted.scopes.retain(|scope| permitted.contains(scope));
                    }
                }
                granted
            }
            Some(GRANT_TYPE) if self.assertions.is_some() => {
                self.redeem_assertion(&parameters, &client_id, &resources, context).await?
            }
            None => return Err(missing("the parameter grant_type is missing")),
            Some(_) => {
                let description = "grant_type must be authorization_code or refresh_token";
                return Err(OAuthError::new(ErrorCode::UnsupportedGrantType, description));
            }
        };
        // Scopes of the resource may have been removed since the grant.
        let resource = resources.find(Some(&granted.resource))?;
        granted.scopes.retain(|scope| resource.scopes.iter().any(|own| own.name == *scope));
        let token = AccessToken {
            issuer,
            subject: &granted.subject,
            resource: &granted.resource,
            client_id: &client_id,
            scopes: &granted.scopes,
        };
        let access_token = token.sign(&keys, self.token_lifetime, now);
        let access_token = access_token.map_err(|error| internal("a token could not be signed", &error))?;
        let mut body = json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.token_lifetime.as_secs(),
            "scope": granted.scopes.join(" "),
        });
        if let Some(refresh_token) = granted.refresh_token {
            body["refresh_token"] = refresh_token.into();
        }
        // An assertion can be for several resources (draft-ietf-oauth-identity-assertion-authz-grant, section 4.4.1).
        if parameters.get("grant_type") == Some(GRANT_TYPE) {
            body["resource"] = granted.resource.into();
        }
        Ok(json_response(StatusCode::OK, &body))
    }

    /// Asks the identity provider whether a person may still sign in, and revokes the grant if not. Returns the scopes that the person may
    /// have now; `None` if the provider returns no valid ID token.
    async fn check_person(
        &self,
        check: &DueCheck,
        resource: &Resource,
        client_id: &str,
        context: &RequestContext<'_>,
    ) -> Result<Option<Vec<String>>, GrantError> {
        let (issuer, now, upstream) = (context.issuer, context.now, &self.sign_ins.upstream);
        let kept = |error: &UpstreamError| {
            let error = error_chain(error);
            tracing::warn!(error, "the identity provider could not be asked for a person: the grant is kept");
        };
        let refreshed = match upstream.refresh(check.refresh_token(), now, context.deadline).await {
            Ok(refreshed) => refreshed,
            Err(UpstreamError::Rejected) => {
                tracing::info!(
                    client.id = client_id,
                    "the identity provider has ended a sign-in: its grant is revoked"
                );
                return Err(self.grants.fail_check(issuer, check).await);
            }
            Err(error) => {
                kept(&error);
                return Ok(None);
            }
        };
        let permitted = match refreshed.principal {
            Some(Ok(person)) if subject(upstream.issuer(), &person.subject) != check.subject() => {
                return Err(self.grants.fail_check(issuer, check).await);
            }
            Some(Ok(person)) => Some(resource.permitted_scopes(&resource.requested_scopes(None)?, &person)),
            Some(Err(error)) => {
                kept(&error);
                None
            }
            None => None,
        };
        let next = refreshed.refresh_token.as_ref().map(|own| own.0.as_str());
        if next.is_some() || permitted.is_some() {
            self.grants.pass_check(issuer, check, next, permitted.as_deref(), now).await?;
        }
        Ok(permitted)
    }

    async fn revoke(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> Result<HttpResponse, OAuthError> {
        let parameters = form(request)?;
        let basic = basic_credentials(request.headers())?;
        let client_id = self.authenticate(&parameters, basic.as_ref(), context).await?;
        let token = parameters.get("token");
        let token = token.ok_or(OAuthError::new(ErrorCode::InvalidRequest, "the parameter token is missing"))?;
        // A token that is not valid is revoked already (RFC 7009, section 2.2). Access tokens are valid until they expire.
        self.grants.revoke(context.issuer, token, &client_id).await.map_err(grant_error)?;
        Ok(response(StatusCode::OK, String::new()))
    }

    async fn register(
        &self,
        request: &Request<Bytes>,
        context: &RequestContext<'_>,
    ) -> Result<HttpResponse, OAuthError> {
        if !has_content_type(request.headers(), "application/json") {
            return Err(OAuthError::new(ErrorCode::InvalidClientMetadata, "the content type must be application/json"));
        }
        match self.clients.register(request.body(), context.address, context.now).await {
            Ok(registered) => Ok(json_response(StatusCode::CREATED, &registered)),
            Err(error @ ClientError::Limited) => Ok(too_many_requests(&client_error(error))),
            Err(error) => Err(client_error(error)),
        }
    }

    /// Authenticates the client of a request by one method. Returns its id.
    async fn authenticate(
        &self,
        parameters: &Parameters,
        basic: Option<&(String, String)>,
        context: &RequestContext<'_>,
    ) -> Result<String, OAuthError> {
        let (own, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
        let invalid = |description| Err(OAuthError::new(ErrorCode::InvalidRequest, description));
        let credentials = match (basic, own, secret) {
            (Some(_), _, Some(_)) => return invalid("the client uses two methods of authentication"),
            (Some((id, _)), Some(own), None) if own != id => return invalid("the client has two ids"),
            (Some((id, secret)), _, None) => Credentials { client_id: id, secret: Some(secret) },
            (None, Some(client_id), secret) => Credentials { client_id, secret },
            (None, None, _) => {
                return Err(OAuthError::new(ErrorCode::InvalidClient, "the parameter client_id is missing"));
            }
        };
        let authenticated = self.clients.authenticate(&credentials, context.address, context.now).await;
        authenticated.map_err(client_error)?;
        Ok(credentials.client_id.to_owned())
    }
}

/// Serves a document to GET and HEAD, for any web page.
fn public(request: &Request<Bytes>, document: HttpResponse) -> HttpResponse {
    const METHODS: &str = "GET, HEAD";
    let mut response = match *request.method() {
        Method::GET => document,
        Method::HEAD => document.map(|_| Bytes::new()),
        Method::OPTIONS => preflight(METHODS),
        _ => method_not_allowed(METHODS),
    };
    allow_any_origin(&mut response);
    response
}

/// Parses the form in the body of a request.
fn form(request: &Request<Bytes>) -> Result<Parameters, OAuthError> {
    let invalid = |description| OAuthError::new(ErrorCode::InvalidRequest, description);
    if !has_content_type(request.headers(), "application/x-www-form-urlencoded") {
        return Err(invalid("the content type must be application/x-www-form-urlencoded"));
    }
    let parameters = Parameters::parse(request.body());
    let parameters = parameters.map_err(|_| invalid("the body is not a form, or is too large"))?;
    match parameters.repeated() {
        None => Ok(parameters),
        Some("resource") => {
            Err(OAuthError::new(ErrorCode::InvalidTarget, "a token is issued for one resource: request one"))
        }
        Some(_) => Err(invalid("a parameter occurs twice")),
    }
}

fn has_content_type(headers: &HeaderMap, expected: &str) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.split(';').next()).is_some_and(|own| own.trim().eq_ignore_ascii_case(expected))
}

/// Returns client id and secret in the header `Authorization` (RFC 6749, section 2.3.1).
fn basic_credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let malformed = || OAuthError::new(ErrorCode::InvalidClient, "the header Authorization is malformed");
    let mut values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::to_str);
    let (Some(text), None) = (values.next(), values.next()) else {
        return if headers.contains_key(header::AUTHORIZATION) { Err(malformed()) } else { Ok(None) };
    };
    let text = text.map_err(|_| malformed())?;
    let (scheme, encoded) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).map_err(|_| malformed())?;
    let at = decoded.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
    // Both parts are form-encoded. Their decoder is that of parameters.
    let pair = [b"id=", &decoded[..at], b"&secret=", &decoded[at + 1..]].concat();
    let pair = Parameters::parse(&pair).map_err(|_| malformed())?;
    let id = pair.get("id").filter(|_| pair.repeated().is_none()).ok_or_else(malformed)?;
    match pair.get("secret") {
        Some(secret) => Ok(Some((id.to_owned(), secret.to_owned()))),
        None => Err(malformed()),
    }
}

pub(crate) fn grant_error(error: GrantError) -> OAuthError {
    match error {
        GrantError::OAuth(error) => error,
        GrantError::Store(_) => unavailable("the store of grants failed", &error),
        GrantError::Seal => internal("a code or token could not be created", &error),
    }
}

pub(crate) fn client_error(error: ClientError) -> OAuthError {
    match error {
        ClientError::OAuth(error) => error,
        ClientError::Limited => {
            OAuthError::new(ErrorCode::TemporarilyUnavailable, "too many clients register: try again in an hour")
        }
        ClientError::Document(_) => {
            OAuthError::new(ErrorCode::InvalidClient, "the metadata document of the client could not be fetched")
        }
        ClientError::Store(_) => unavailable("the store of clients failed", &error),
        ClientError::Internal => internal("a client could not be created", &error),
    }
}

/// Logs a failure that ends by itself, and returns the error for the client, without details.
pub(crate) fn unavailable(what: &'static str, error: &(dyn std::error::Error + 'static)) -> OAuthError {
    tracing::error!(what, error = error_chain(error), "the authorization server is not available");
    OAuthError::new(ErrorCode::TemporarilyUnavailable, "the authorization server is not available: try again later")
}

pub(crate) fn internal(what: &'static str, error: &(dyn std::error::Error + 'static)) -> OAuthError {
    tracing::error!(what, error = error_chain(error), "the authorization server failed");
    OAuthError::new(ErrorCode::ServerError, "the authorization server failed")
}
