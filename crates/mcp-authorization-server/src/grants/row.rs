//! The row of a grant: validation of requests against it, and rotation.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{CodeRequest, GrantError, INVALID_CODE, TokenRequest};
use crate::{AuthorizationRequest, ClientKind, ClientSummary, ErrorCode, OAuthError, RedirectUri, clock::unix_seconds};

/// Maximum number of rotations within a grace period. Beyond it, a refresh does not rotate.
pub(super) const MAX_SUPERSEDED: usize = 32;
/// How often the identity provider is asked for a grant, in seconds.
const CHECK_INTERVAL: u64 = 60 * 60;
/// How often a grant that is used is written to its person's list again, in seconds: far less than the lifetime of a row.
const LIST_INTERVAL: u64 = 24 * 60 * 60;

/// The row of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) request: AuthorizationRequest,
    /// Granted scopes.
    pub(super) scopes: Vec<String>,
    pub(super) client: ClientSummary,
    /// In seconds since 1970.
    pub(super) created: u64,
    /// The time at which the grant was written to its person's list, in seconds since 1970.
    pub(super) listed: u64,
    /// `None` if the identity provider issues no refresh tokens.
    pub(super) upstream: Option<UpstreamToken>,
    pub(super) phase: Phase,
}

/// The refresh token of the identity provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UpstreamToken {
    pub(super) refresh_token: String,
    /// The time at which it was used or issued, in seconds since 1970.
    pub(super) checked: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
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
pub(super) struct Superseded {
    generation: u64,
    /// In seconds since 1970.
    at: u64,
}

/// What happens to a refresh token.
pub(super) enum Rotation {
    /// The token was current: its successor has this generation, which must be stored.
    Next(u64),
    /// The token is within its grace period, or may not be rotated again yet: the newest token has this generation.
    Repeat(u64),
    /// The token was used before, or never existed.
    Reused,
}

impl Grant {
    pub(super) fn check_code_request(&self, request: &CodeRequest<'_>) -> Result<(), OAuthError> {
        let verifier = request.code_verifier.filter(|verifier| is_verifier(verifier)).ok_or(INVALID_CODE)?;
        let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        verify_slices_are_equal(challenge.as_bytes(), self.request.code_challenge.as_bytes())
            .map_err(|_| INVALID_CODE)?;
        if request.redirect_uri.is_some_and(|uri| uri != RedirectUri::as_str(&self.request.redirect_uri)) {
            return Err(INVALID_CODE);
        }
        self.check_request(&request.request)
    }

    pub(super) fn check_request(&self, request: &TokenRequest<'_>) -> Result<(), OAuthError> {
        // The client or the resource may have been removed since the grant.
        if self.client.kind == ClientKind::Configured && !request.is_configured {
            return Err(OAuthError::new(ErrorCode::InvalidClient, "the client is not configured any more"));
        }
        let own = request.resources.find(Some(&self.request.resource))?;
        match request.resource.map(|url| request.resources.find(Some(url))).transpose()? {
            Some(requested) if requested.url != own.url => {
                Err(OAuthError::new(ErrorCode::InvalidTarget, "the grant is for another resource"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the scopes of a refreshed token: those of the grant, or fewer (OAuth 2.1, section 4.3.1).
    pub(super) fn narrowed_scopes(&self, scope: Option<&str>) -> Result<Vec<String>, OAuthError> {
        let Some(scope) = scope else { return Ok(self.scopes.clone()) };
        let requested: Vec<_> = scope.split(' ').filter(|name| !name.is_empty()).collect();
        if !requested.is_empty() && requested.iter().all(|name| self.scopes.iter().any(|own| own == name)) {
            return Ok(self.scopes.iter().filter(|own| requested.contains(&own.as_str())).cloned().collect());
        }
        Err(OAuthError::new(ErrorCode::InvalidScope, "a requested scope was not granted"))
    }

    pub(super) fn rotate(&mut self, used: u64, grace: Duration, now: SystemTime) -> Rotation {
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

    /// Whether the identity provider is to be asked now. If so, the time is set, so that the request that stores the row is the only
    /// one that asks. Returns the token to ask with.
    pub(super) fn begin_check(&mut self, now: SystemTime) -> Option<String> {
        let own = self.upstream.as_mut()?;
        let now = unix_seconds(now);
        if now.saturating_sub(own.checked) < CHECK_INTERVAL {
            return None;
        }
        own.checked = now;
        Some(own.refresh_token.clone())
    }

    /// Whether the grant is to be written to its person's list again. If so, the time is set.
    pub(super) fn begin_listing(&mut self, now: SystemTime) -> bool {
        let now = unix_seconds(now);
        let is_due = now.saturating_sub(self.listed) >= LIST_INTERVAL;
        if is_due {
            self.listed = now;
        }
        is_due
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, GrantError> {
        serde_json::to_vec(self).map_err(|_| GrantError::Seal)
    }
}

impl std::fmt::Debug for UpstreamToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamToken").field("checked", &self.checked).finish_non_exhaustive()
    }
}

/// Whether a text is a code verifier (RFC 7636, section 4.1).
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}
