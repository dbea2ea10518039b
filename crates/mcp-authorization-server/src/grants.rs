//! Grants: authorization codes, refresh tokens and their families.
//!
//! A grant is one row of its person: first the promise of a code, then the family of refresh tokens. Codes and refresh tokens are
//! sealed texts that name the row; the row's key is a digest of the grant's random id, which only these texts contain. A dump of the
//! database has neither.
//!
//! Each state change is one `compare_and_set`, so that of concurrent requests in several environments exactly one makes it:
//!
//! - **Code**: valid once, for a minute. A second use deletes the grant (OAuth 2.1, section 4.1.3).
//! - **Refresh token**: valid until it is used. Its successor has the next generation. For a grace period after that, the used token
//!   returns the newest generation again, for clients that refresh in parallel. A use after the grace period means that
//!   the token was stolen: the grant is deleted (RFC 9700, section 4.14.2).

use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_server::{
    Principal,
    json::{self, Budget},
    store::{Content, Kind, SealedStore, StoreError, StoreId, StoredValue, Version},
};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationRequest, ErrorCode, OAuthError, RedirectUri, Resource, Sealer, clock::unix_seconds, random,
    seal::Purpose,
};

const GRANT: Kind = Kind::new("grant");
const REVOCATION: Kind = Kind::new("grant-revocation");
/// Id of the only row of the kind [`REVOCATION`].
const ALL: StoreId<'static> = StoreId { kind: REVOCATION, caller: None, id: b"all" };

/// Lifetime of a code. OAuth 2.1 (section 4.1.2) recommends at most ten minutes.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Maximum number of rotations within a grace period. Beyond it, a refresh does not rotate.
const MAX_SUPERSEDED: usize = 32;
/// Maximum number of attempts of a state change. A lost race ends after one more read, because the row has changed.
const ATTEMPTS: usize = 8;
const NO_TIME: Duration = Duration::from_secs(1);

/// Lifetimes of refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLifetimes {
    /// How long an unused token is valid: at most 90 days.
    pub idle: Duration,
    /// How long a grant can be refreshed in all.
    pub total: Duration,
    /// How long a used token returns its successor.
    pub grace: Duration,
}

impl Default for RefreshLifetimes {
    /// 30 days without use, 180 days in all, one minute of grace.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { idle: 30 * DAY, total: 180 * DAY, grace: Duration::from_secs(60) }
    }
}

/// The grants in a store.
#[derive(Debug)]
pub struct Grants {
    store: SealedStore,
    sealer: Sealer,
    lifetimes: RefreshLifetimes,
}

/// Parameters of a token request with a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeRequest<'a> {
    /// The client, authenticated if it is confidential.
    pub client_id: &'a str,
    /// The code verifier (RFC 7636).
    pub code_verifier: Option<&'a str>,
    /// The redirect URI, if the client sends it: OAuth 2.1 does not need it.
    pub redirect_uri: Option<&'a str>,
    /// The requested resource, already found; `None` without the parameter.
    pub resource: Option<&'a Resource>,
}

/// What a valid code or refresh token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The person.
    pub subject: String,
    /// URL of the resource.
    pub resource: String,
    /// Scopes of the access token.
    pub scopes: Vec<String>,
    /// The next refresh token; `None` if the client gets none.
    pub refresh_token: Option<String>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The request is invalid, or the grant is: the error for the client.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// The store failed.
    #[error("the store of grants failed")]
    Store(#[from] StoreError),
    /// A text could not be sealed, or there are no random numbers.
    #[error("could not create a code or token")]
    Seal,
}

/// What a code or refresh token contains.
#[derive(Debug, Serialize, Deserialize)]
struct TokenContent {
    /// The person.
    sub: String,
    /// Random id of the grant.
    grant: String,
    /// Generation of a refresh token; 0 for a code.
    generation: u64,
}

/// The row of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    request: AuthorizationRequest,
    /// Granted scopes.
    scopes: Vec<String>,
    /// Whether the client gets refresh tokens.
    refreshes: bool,
    /// In seconds since 1970.
    created: u64,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// The code was not used yet.
    Code,
    /// The code was used.
    Family {
        /// The newest generation.
        generation: u64,
        /// Older generations within the grace period.
        superseded: Vec<Superseded>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Superseded {
    generation: u64,
    /// In seconds since 1970.
    at: u64,
}

impl Grants {
    /// Creates the grants of a store.
    pub fn new(store: SealedStore, sealer: Sealer, lifetimes: RefreshLifetimes) -> Self {
        Self { store, sealer, lifetimes }
    }

    /// Stores a grant of a person, and returns its code.
    ///
    /// # Errors
    ///
    /// When the store fails, or there are no random numbers.
    pub async fn issue_code(
        &self,
        issuer: &str,
        subject: &str,
        request: &AuthorizationRequest,
        scopes: Vec<String>,
        refreshes: bool,
        now: SystemTime,
    ) -> Result<String, GrantError> {
        let id = random::text::<16>().map_err(|_| GrantError::Seal)?;
        let grant =
            Grant { request: request.clone(), scopes, refreshes, created: unix_seconds(now), phase: Phase::Code };
        let owner = Principal::new(issuer, subject);
        let value = encode(&grant)?;
        let content = Content { value: &value, expires_in: CODE_LIFETIME, due_in: None };
        match self.store.put_if_absent(&row(&owner, &id), content).await? {
            Some(_) => {
                self.seal(issuer, Purpose::Code, TokenContent { sub: subject.to_owned(), grant: id, generation: 0 })
            }
            // Random ids of 128 bits do not collide.
            None => Err(GrantError::Seal),
        }
    }

    /// Redeems a code.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the code is unknown, expired, used, revoked, or issued to another client or redirect URI, or
    /// the code verifier does not match; [`ErrorCode::InvalidTarget`] for another resource. When the store fails.
    pub async fn redeem_code(
        &self,
        issuer: &str,
        code: &str,
        request: &CodeRequest<'_>,
        now: SystemTime,
    ) -> Result<Granted, GrantError> {
        let content: TokenContent = self.sealer.open(issuer, Purpose::Code, code).ok_or(INVALID_CODE)?;
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        let Some((mut grant, version)) = self.read(&id).await? else { return Err(INVALID_CODE.into()) };
        if grant.request.client_id != request.client_id {
            return Err(INVALID_CODE.into());
        }
        if grant.phase != Phase::Code {
            tracing::warn!(client.id = grant.request.client_id, "a code was used again: its grant is revoked");
            self.store.delete(&id).await?;
            return Err(INVALID_CODE.into());
        }
        grant.check_code_request(request)?;
        if self.is_revoked(&grant).await? {
            return Err(INVALID_CODE.into());
        }
        grant.phase = Phase::Family { generation: 1, superseded: Vec::new() };
        let value = encode(&grant)?;
        // Without refresh tokens, the row is kept for as long as its code could be used again.
        let expires_in = if grant.refreshes { self.remaining(&grant, now) } else { CODE_LIFETIME };
        let content_of_row = Content { value: &value, expires_in, due_in: None };
        if self.store.compare_and_set(&id, version, content_of_row).await?.is_none() {
            // Another request has used the code meanwhile.
            tracing::warn!(client.id = grant.request.client_id, "a code was used twice at once: its grant is revoked");
            self.store.delete(&id).await?;
            return Err(INVALID_CODE.into());
        }
        let scopes = grant.scopes.clone();
        self.granted(issuer, content, grant, 1, scopes)
    }

    /// Redeems a refresh token. `resource` is the requested resource, already found, and `scope` the parameter of that name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the token is unknown, expired, revoked, used before the grace period, or issued to another
    /// client; [`ErrorCode::InvalidTarget`] for another resource; [`ErrorCode::InvalidScope`] for a scope that was not granted.
    /// When the store fails.
    pub async fn refresh(
        &self,
        issuer: &str,
        token: &str,
        client_id: &str,
        resource: Option<&Resource>,
        scope: Option<&str>,
        now: SystemTime,
    ) -> Result<Granted, GrantError> {
        let content: TokenContent = self.sealer.open(issuer, Purpose::RefreshToken, token).ok_or(INVALID_TOKEN)?;
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        for _ in 0..ATTEMPTS {
            let Some((mut grant, version)) = self.read(&id).await? else { return Err(INVALID_TOKEN.into()) };
            if grant.request.client_id != client_id {
                return Err(INVALID_TOKEN.into());
            }
            grant.check_resource(resource)?;
            let scopes = grant.narrowed_scopes(scope)?;
            if self.is_revoked(&grant).await? {
                self.store.delete(&id).await?;
                return Err(INVALID_TOKEN.into());
            }
            match grant.rotate(content.generation, self.lifetimes.grace, now) {
                Rotation::Repeat(generation) => return self.granted(issuer, content, grant, generation, scopes),
                Rotation::Next(generation) => {
                    let value = encode(&grant)?;
                    let content_of_row =
                        Content { value: &value, expires_in: self.remaining(&grant, now), due_in: None };
                    if self.store.compare_and_set(&id, version, content_of_row).await?.is_some() {
                        return self.granted(issuer, content, grant, generation, scopes);
                    }
                }
                Rotation::Reused => {
                    tracing::warn!(client.id = client_id, "a refresh token was used again: its grant is revoked");
                    self.store.delete(&id).await?;
                    return Err(INVALID_TOKEN.into());
                }
            }
        }
        Err(StoreError::Unavailable("the grant changes too often".into()).into())
    }

    /// Revokes the grant of a refresh token (RFC 7009). A token that is not valid is not an error.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the token was issued to another client. When the store fails.
    pub async fn revoke(&self, issuer: &str, token: &str, client_id: &str) -> Result<(), GrantError> {
        let Some(content) = self.sealer.open::<TokenContent>(issuer, Purpose::RefreshToken, token) else {
            return Ok(());
        };
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        match self.read(&id).await? {
            Some((grant, _)) if grant.request.client_id != client_id => Err(INVALID_TOKEN.into()),
            Some(_) => Ok(self.store.delete(&id).await?),
            None => Ok(()),
        }
    }

    /// Revokes all grants that exist at the time `now`. Access tokens stay valid until they expire.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn revoke_all(&self, now: SystemTime) -> Result<(), GrantError> {
        let value = unix_seconds(now).to_be_bytes();
        // No row of a grant lives longer than this without being written, and a revoked grant is not written.
        let content = Content { value: &value, expires_in: mcp_server::store::MAX_LIFETIME, due_in: None };
        for _ in 0..ATTEMPTS {
            if self.store.put_if_absent(&ALL, content).await?.is_some() {
                return Ok(());
            }
            if let Some(StoredValue { version, .. }) = self.store.get(&ALL).await?
                && self.store.compare_and_set(&ALL, version, content).await?.is_some()
            {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the time of revocation changes too often".into()).into())
    }

    async fn read(&self, id: &StoreId<'_>) -> Result<Option<(Grant, Version)>, GrantError> {
        let Some(StoredValue { value, version }) = self.store.get(id).await? else { return Ok(None) };
        let grant = json::read_bytes(&value, Budget::memory(1024 * 1024));
        // Only this server writes rows: this one is of an incompatible version.
        let grant = grant.map_err(|_| StoreError::Other("the row of a grant is malformed".into()))?;
        Ok(Some((grant, version)))
    }

    /// Whether the grant was created before all grants were revoked.
    async fn is_revoked(&self, grant: &Grant) -> Result<bool, GrantError> {
        let revoked = self.store.get(&ALL).await?;
        let revoked = revoked.and_then(|row| Some(u64::from_be_bytes(row.value.try_into().ok()?)));
        Ok(revoked.is_some_and(|revoked| grant.created <= revoked))
    }

    /// Lifetime of a family's row from now.
    fn remaining(&self, grant: &Grant, now: SystemTime) -> Duration {
        let age = Duration::from_secs(unix_seconds(now).saturating_sub(grant.created));
        self.lifetimes.idle.min(self.lifetimes.total.saturating_sub(age)).max(NO_TIME)
    }

    fn granted(
        &self,
        issuer: &str,
        content: TokenContent,
        grant: Grant,
        generation: u64,
        scopes: Vec<String>,
    ) -> Result<Granted, GrantError> {
        let subject = content.sub.clone();
        let refresh_token = match grant.refreshes {
            true => Some(self.seal(issuer, Purpose::RefreshToken, TokenContent { generation, ..content })?),
            false => None,
        };
        Ok(Granted { subject, resource: grant.request.resource, scopes, refresh_token })
    }

    fn seal(&self, issuer: &str, purpose: Purpose, content: TokenContent) -> Result<String, GrantError> {
        self.sealer.seal(issuer, purpose, &content).map_err(|_| GrantError::Seal)
    }
}

const INVALID_CODE: OAuthError =
    OAuthError::new(ErrorCode::InvalidGrant, "the code is invalid, expired, used, or issued for another request");
const INVALID_TOKEN: OAuthError = OAuthError::new(
    ErrorCode::InvalidGrant,
    "the refresh token is invalid, expired, used, revoked, or of another client",
);

/// What happens to a refresh token.
enum Rotation {
    /// The token was current: its successor has this generation, which must be stored.
    Next(u64),
    /// The token is within its grace period, or may not be rotated again yet: the newest token has this generation.
    Repeat(u64),
    /// The token was used before, or never existed.
    Reused,
}

impl Grant {
    fn check_code_request(&self, request: &CodeRequest<'_>) -> Result<(), OAuthError> {
        let verifier = request.code_verifier.filter(|verifier| is_verifier(verifier)).ok_or(INVALID_CODE)?;
        let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        verify_slices_are_equal(challenge.as_bytes(), self.request.code_challenge.as_bytes())
            .map_err(|_| INVALID_CODE)?;
        if request.redirect_uri.is_some_and(|uri| uri != RedirectUri::as_str(&self.request.redirect_uri)) {
            return Err(INVALID_CODE);
        }
        self.check_resource(request.resource)
    }

    fn check_resource(&self, resource: Option<&Resource>) -> Result<(), OAuthError> {
        match resource {
            Some(resource) if resource.url != self.request.resource => {
                Err(OAuthError::new(ErrorCode::InvalidTarget, "the grant is for another resource"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the scopes of a refreshed token: those of the grant, or fewer (OAuth 2.1, section 4.3.1).
    fn narrowed_scopes(&self, scope: Option<&str>) -> Result<Vec<String>, OAuthError> {
        let Some(scope) = scope else { return Ok(self.scopes.clone()) };
        let requested: Vec<_> = scope.split(' ').filter(|name| !name.is_empty()).collect();
        if requested.iter().all(|name| self.scopes.iter().any(|own| own == name)) {
            return Ok(self.scopes.iter().filter(|own| requested.contains(&own.as_str())).cloned().collect());
        }
        Err(OAuthError::new(ErrorCode::InvalidScope, "a requested scope was not granted"))
    }

    fn rotate(&mut self, used: u64, grace: Duration, now: SystemTime) -> Rotation {
        let Phase::Family { generation, superseded } = &mut self.phase else { return Rotation::Reused };
        let now = unix_seconds(now);
        superseded.retain(|own| own.at.saturating_add(grace.as_secs()) >= now);
        if used == *generation {
            if superseded.len() >= MAX_SUPERSEDED {
                return Rotation::Repeat(*generation);
            }
            superseded.push(Superseded { generation: used, at: now });
            *generation += 1;
            return Rotation::Next(*generation);
        }
        match superseded.iter().any(|own| own.generation == used) {
            true => Rotation::Repeat(*generation),
            false => Rotation::Reused,
        }
    }
}

fn row<'a>(owner: &'a Principal, grant: &'a str) -> StoreId<'a> {
    StoreId { kind: GRANT, caller: Some(owner), id: grant.as_bytes() }
}

fn encode(grant: &Grant) -> Result<Vec<u8>, GrantError> {
    serde_json::to_vec(grant).map_err(|_| GrantError::Seal)
}

/// Whether a text is a code verifier (RFC 7636, section 4.1).
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests;
