//! The content of a server's file.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Turn;
use crate::oauth::TokenResponse;

/// The decrypted content of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The server's URL, for information.
    pub(super) server: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) registration: Option<Registration>,
    /// Why the last refresh and the last sign-in failed, for processes that have waited for them.
    pub(super) refresh_failure: Option<Failure>,
    pub(super) sign_in_failure: Option<Failure>,
    /// The sign-in page that was opened last: it is open as long as its turn lasts.
    pub(super) page: Option<OpenPage>,
}

impl Kept {
    pub(super) fn failure(&mut self, turn: Turn) -> &mut Option<Failure> {
        match turn {
            Turn::Refresh => &mut self.refresh_failure,
            Turn::SignIn => &mut self.sign_in_failure,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Of this failure alone: a clock that jumps would not say which is the later one.
    pub(super) id: String,
    pub(super) reason: String,
    /// When the page ended that was opened, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) page_ended_at: Option<u64>,
    /// Whether the turn goes on all the same: the issuer may still answer.
    #[serde(default)]
    pub(super) is_pending: bool,
}

/// A sign-in page, for people who have lost it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct OpenPage {
    pub(super) process: u32,
    pub(super) address: String,
}

/// The encrypted content of the file.
#[derive(Deserialize)]
pub(super) struct Sealed {
    /// The URL that it was encrypted for.
    #[serde(default)]
    pub(super) server: String,
    pub(super) sealed: String,
}

/// The member that every file has, sealed or not.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) server: String,
}

/// Tokens with the data for their refresh: the client and the endpoint.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    /// Of a client that was registered by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_method: Option<String>,
    pub(crate) token_response: TokenResponse,
    pub(crate) granted_scopes: Vec<String>,
    /// In seconds since the epoch.
    pub(crate) token_received_at: Option<u64>,
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    #[serde(default)]
    pub(crate) token_endpoint: Option<String>,
    /// RFC 7009.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revocation_endpoint: Option<String>,
    /// The parameter `resource` of requests for these tokens.
    #[serde(default)]
    pub(crate) resource: Option<String>,
    /// The principal of tokens without a sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// The DPoP key of the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proof_key: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// How a client authenticates at a token endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
    /// `client_secret_basic` unless it says otherwise.
    pub(crate) auth_method: Option<String>,
}

impl From<Registration> for Client {
    fn from(own: Registration) -> Self {
        Self { id: own.client_id, secret: own.client_secret, auth_method: own.auth_method }
    }
}

/// A client that an issuer knows by this id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    #[serde(default)]
    pub(crate) auth_method: Option<String>,
    pub(crate) redirect_uri: String,
}

impl Registration {
    /// That of a client which was registered by hand; with which issuer shows when it is used.
    pub(crate) fn given(client_id: String, client_secret: Option<String>) -> Self {
        Self { issuer: None, client_id, client_secret, auth_method: None, redirect_uri: String::new() }
    }

    /// Whether the client was registered by itself, and can be again.
    pub(crate) fn is_dynamic(&self) -> bool {
        !self.redirect_uri.is_empty()
    }
}
