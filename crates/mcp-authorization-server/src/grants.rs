//! Grants: authorization codes, refresh tokens and their families.
//!
//! A grant is one row of its person: first the promise of a code, then the family of refresh tokens. Codes and refresh tokens are
//! sealed texts that name the row; the row's key is a digest of the grant's random id, which only these texts contain. A dump of the
//! database has neither.
//!
//! Each state change is one `compare_and_set`, so that of concurrent requests in several environments exactly one makes it:
//!
//! - **Code**: valid once, for a minute. A second valid use deletes the grant (OAuth 2.1, section 4.1.3).
//! - **Refresh token**: valid until it is used. Its successor has the next generation. For a grace period after that, the used token
//!   returns the newest generation again, for clients that refresh in parallel. A use after the grace period means that
//!   the token was stolen: the grant is deleted (RFC 9700, section 4.14.2).
//! - **Check of the person**: the request that stores the time of the check asks the identity provider, and stores its next token.
//!
//! | Module | Content |
//! | --- | --- |
//! | `row` | the row of a grant |
//! | `approvals` | the requests that a person has approved |
//! | `check` | [`DueCheck`]: what the identity provider is asked on refresh |
//! | `list` | the grants of a person |
//! | `revocation` | revocation of all grants; deletion of a person's rows |

mod approvals;
mod check;
mod list;
mod revocation;
mod row;

use std::time::{Duration, SystemTime};

use mcp_server::{
    Principal, error_chain,
    json::{self, Budget},
    store::{Content, Kind, SealedStore, StoreError, StoreId, StoredValue, Version},
};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationRequest, ClientSummary, ErrorCode, OAuthError, Resources, Sealer, clock::unix_seconds, random,
    seal::Purpose,
};

pub(crate) use check::DueCheck;
pub(crate) use list::{ListedGrant, Selection};
use row::{Grant, Phase, Rotation, UpstreamToken};

const GRANT: Kind = Kind::new("grant");
/// Lifetime of a code. OAuth 2.1 (section 4.1.2) recommends at most ten minutes.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Maximum number of attempts of a state change. A lost race ends after one more read, because the row has changed.
const ATTEMPTS: usize = 8;
const NO_TIME: Duration = Duration::from_secs(1);
/// Lifetime of a grant whose person the identity provider cannot be asked for.
const UNCHECKED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Lifetimes of refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLifetimes {
    /// How long an unused token is valid: at most 90 days.
    pub idle: Duration,
    /// How long a grant can be refreshed in all: a day if the identity provider issues no refresh token.
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

/// What a person grants to a client.
#[derive(Debug, Clone)]
pub struct NewGrant<'a> {
    /// The person: a subject of this server.
    pub subject: &'a str,
    /// The request.
    pub request: &'a AuthorizationRequest,
    /// Granted scopes.
    pub scopes: Vec<String>,
    /// The client.
    pub client: ClientSummary,
    /// The refresh token of the identity provider. `None` if it issues none.
    pub upstream_token: Option<String>,
}

/// Client and resource of a token request. They are compared with the grant before a code or refresh token is used up, so that the
/// client can repeat the request with other parameters.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// The client, authenticated if it is confidential.
    pub client_id: &'a str,
    /// Whether the client is in the configuration.
    pub is_configured: bool,
    /// The registered resources.
    pub resources: &'a Resources,
    /// The parameter `resource`. Without it, the request is for the resource of the grant.
    pub resource: Option<&'a str>,
}

/// Parameters of a token request with a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeRequest<'a> {
    /// Client and resource.
    pub request: TokenRequest<'a>,
    /// The code verifier (RFC 7636).
    pub code_verifier: Option<&'a str>,
    /// The redirect URI, if the client sends it: OAuth 2.1 does not need it.
    pub redirect_uri: Option<&'a str>,
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
    /// The check of the person that must be made first. `None` if the last one was less than an hour ago.
    pub(crate) check: Option<DueCheck>,
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
    pub async fn issue_code(&self, issuer: &str, new: NewGrant<'_>, now: SystemTime) -> Result<String, GrantError> {
        let id = random::text::<16>().map_err(|_| GrantError::Seal)?;
        let created = unix_seconds(now);
        let grant = Grant {
            request: new.request.clone(),
            scopes: new.scopes,
            client: new.client,
            created,
            listed: created,
            upstream: new.upstream_token.map(|refresh_token| UpstreamToken { refresh_token, checked: created }),
            phase: Phase::Code,
        };
        let owner = Principal::new(issuer, new.subject);
        let value = grant.encode()?;
        let content = Content { value: &value, expires_in: CODE_LIFETIME, due_in: None };
        match self.store.put_if_absent(&row(&owner, &id), content).await? {
            Some(_) => {
                self.seal(issuer, Purpose::Code, TokenContent { sub: new.subject.to_owned(), grant: id, generation: 0 })
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
    /// the code verifier does not match; [`ErrorCode::InvalidTarget`] for a resource that is unknown or not that of the grant;
    /// [`ErrorCode::InvalidClient`] when the configuration has the client no more. When the store fails.
    pub async fn redeem_code(
        &self,
        issuer: &str,
        code: &str,
        request: &CodeRequest<'_>,
        now: SystemTime,
    ) -> Result<Granted, GrantError> {
        let content: TokenContent = self.sealer.open(issuer, Purpose::Code, code).await.ok_or(INVALID_CODE)?;
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        let Some((mut grant, version)) = self.read(&id).await? else { return Err(INVALID_CODE.into()) };
        if grant.request.client_id != request.request.client_id {
            return Err(INVALID_CODE.into());
        }
        grant.check_code_request(request)?;
        // A replay with other parameters revokes nothing (OAuth 2.1, section 7.5.2).
        if grant.phase != Phase::Code {
            tracing::warn!(client.id = grant.request.client_id, "a code was used again: its grant is revoked");
            self.end(&owner, &id, &grant).await?;
            return Err(INVALID_CODE.into());
        }
        if self.is_revoked(grant.created).await? {
            return Err(INVALID_CODE.into());
        }
        grant.phase = Phase::Family { generation: 1, superseded: Vec::new() };
        let value = grant.encode()?;
        // Without refresh tokens, the row is kept for as long as its code could be used again.
        let expires_in = if grant.client.refreshes { self.remaining(&grant, now) } else { CODE_LIFETIME };
        let content_of_row = Content { value: &value, expires_in, due_in: None };
        if self.store.compare_and_set(&id, version, content_of_row).await?.is_none() {
            // Another request has used the code meanwhile.
            tracing::warn!(client.id = grant.request.client_id, "a code was used twice at once: its grant is revoked");
            self.end(&owner, &id, &grant).await?;
            return Err(INVALID_CODE.into());
        }
        if grant.client.refreshes
            && let Err(error) = self.enlist(&owner, &content.grant, now).await
        {
            // A grant that the person cannot see must not exist.
            self.store.delete(&id).await?;
            return Err(error);
        }
        let scopes = grant.scopes.clone();
        self.granted(issuer, content, grant, 1, scopes)
    }

    /// Redeems a refresh token. `scope` is the parameter of that name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidGrant`] when the token is unknown, expired, revoked, used before the grace period, or issued to another
    /// client; [`ErrorCode::InvalidTarget`] for a resource that is unknown or not that of the grant; [`ErrorCode::InvalidScope`] for a
    /// scope that was not granted; [`ErrorCode::InvalidClient`] when the configuration has the client no more. When the store fails.
    pub async fn refresh(
        &self,
        issuer: &str,
        token: &str,
        request: &TokenRequest<'_>,
        scope: Option<&str>,
        now: SystemTime,
    ) -> Result<Granted, GrantError> {
        let content: TokenContent =
            self.sealer.open(issuer, Purpose::RefreshToken, token).await.ok_or(INVALID_TOKEN)?;
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        for _ in 0..ATTEMPTS {
            let Some((mut grant, version)) = self.read(&id).await? else { return Err(INVALID_TOKEN.into()) };
            if grant.request.client_id != request.client_id {
                return Err(INVALID_TOKEN.into());
            }
            grant.check_request(request)?;
            let scopes = grant.narrowed_scopes(scope)?;
            if self.is_revoked(grant.created).await? {
                self.store.delete(&id).await?;
                return Err(INVALID_TOKEN.into());
            }
            let rotation = grant.rotate(content.generation, self.lifetimes.grace, now);
            let (generation, is_rotated) = match rotation {
                Rotation::Next(generation) => (generation, true),
                Rotation::Repeat(generation) => (generation, false),
                Rotation::Reused => {
                    tracing::warn!(
                        client.id = request.client_id,
                        "a refresh token was used again: its grant is revoked"
                    );
                    self.end(&owner, &id, &grant).await?;
                    return Err(INVALID_TOKEN.into());
                }
            };
            let check = grant.begin_check(now).map(|token| DueCheck::new(&content.sub, &content.grant, token));
            if !is_rotated && check.is_none() {
                return self.granted(issuer, content, grant, generation, scopes);
            }
            let is_listing = grant.begin_listing(now);
            if self.replace(&id, version, &grant, now).await? {
                if is_listing && let Err(error) = self.enlist(&owner, &content.grant, now).await {
                    tracing::warn!(error = error_chain(&error), "the list of a person's grants could not be extended");
                }
                return Ok(Granted { check, ..self.granted(issuer, content, grant, generation, scopes)? });
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
        let Some(content) = self.sealer.open::<TokenContent>(issuer, Purpose::RefreshToken, token).await else {
            return Ok(());
        };
        let owner = Principal::new(issuer, &content.sub);
        let id = row(&owner, &content.grant);
        match self.read(&id).await? {
            Some((grant, _)) if grant.request.client_id != client_id => Err(INVALID_TOKEN.into()),
            Some((grant, _)) => self.end(&owner, &id, &grant).await,
            None => Ok(()),
        }
    }

    /// Revokes a grant: its client gets another one only with the person.
    async fn end(&self, owner: &Principal, id: &StoreId<'_>, grant: &Grant) -> Result<(), GrantError> {
        self.withdraw(owner, &grant.request.client_id).await?;
        Ok(self.store.delete(id).await?)
    }

    /// Replaces the row of a family that has this version. Returns `false` if it has another version or is absent.
    async fn replace(
        &self,
        id: &StoreId<'_>,
        version: Version,
        grant: &Grant,
        now: SystemTime,
    ) -> Result<bool, GrantError> {
        let value = grant.encode()?;
        let content = Content { value: &value, expires_in: self.remaining(grant, now), due_in: None };
        Ok(self.store.compare_and_set(id, version, content).await?.is_some())
    }

    async fn read(&self, id: &StoreId<'_>) -> Result<Option<(Grant, Version)>, GrantError> {
        let Some(StoredValue { value, version }) = self.store.get(id).await? else { return Ok(None) };
        let grant = json::read_bytes(&value, Budget::memory(1024 * 1024));
        // Only this server writes rows: this one is of an incompatible version.
        let grant = grant.map_err(|_| StoreError::Other("the row of a grant is malformed".into()))?;
        Ok(Some((grant, version)))
    }

    /// Lifetime of a family's row from now.
    fn remaining(&self, grant: &Grant, now: SystemTime) -> Duration {
        let age = Duration::from_secs(unix_seconds(now).saturating_sub(grant.created));
        let total = match grant.upstream {
            Some(_) => self.lifetimes.total,
            None => self.lifetimes.total.min(UNCHECKED_LIFETIME),
        };
        self.lifetimes.idle.min(total.saturating_sub(age)).max(NO_TIME)
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
        let refresh_token = match grant.client.refreshes {
            true => Some(self.seal(issuer, Purpose::RefreshToken, TokenContent { generation, ..content })?),
            false => None,
        };
        Ok(Granted { subject, resource: grant.request.resource, scopes, refresh_token, check: None })
    }

    fn seal(&self, issuer: &str, purpose: Purpose, content: TokenContent) -> Result<String, GrantError> {
        self.sealer.seal(issuer, purpose, &content).map_err(|_| GrantError::Seal)
    }
}

const INVALID_CODE: OAuthError = OAuthError::new(
    ErrorCode::InvalidGrant,
    "the code is invalid, expired or used, or its client, redirect_uri or code_verifier is another one",
);
const INVALID_TOKEN: OAuthError = OAuthError::new(
    ErrorCode::InvalidGrant,
    "the refresh token is invalid, expired, used, revoked, or of another client",
);

fn row<'a>(owner: &'a Principal, grant: &'a str) -> StoreId<'a> {
    StoreId { kind: GRANT, caller: Some(owner), id: grant.as_bytes() }
}

#[cfg(test)]
mod tests;
