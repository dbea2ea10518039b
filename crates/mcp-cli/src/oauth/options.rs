//! How tokens are requested: the options of the command line, parsed.

use std::{fmt, path::PathBuf, time::Duration};

use reqwest::header::HeaderMap;

use super::{AssertionOptions, Browser};
use crate::callback::CallbackHost;

/// Options of OAuth.
#[derive(Debug, Clone, Default)]
pub(crate) struct OAuthOptions {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
    /// Signs client assertions in place of a secret, for client credentials.
    pub(crate) private_key: Option<PrivateKey>,
    /// The URL of a client id metadata document.
    pub(crate) client_metadata_url: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// Whether to use the client credentials grant.
    pub(crate) client_credentials: bool,
    /// An assertion in place of a sign-in.
    pub(crate) assertion: Option<AssertionOptions>,
    /// The token to send; by default the one that servers of the issuer can verify.
    pub(crate) token_type: Option<TokenType>,
    pub(crate) resource: ResourceParameter,
    /// Whether to use PKCE with an issuer whose metadata does not list it.
    pub(crate) assume_pkce: bool,
    pub(crate) callback_host: CallbackHost,
    pub(crate) callback_port: u16,
    pub(crate) browser: Browser,
    pub(crate) state_dir: Option<PathBuf>,
    /// The configured headers, for the server's own origin.
    pub(crate) headers: HeaderMap,
    /// Timeout of a response; none unless given.
    pub(crate) timeout: Option<Duration>,
}

impl OAuthOptions {
    /// How long a request waits for a token that needs no sign-in.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(Duration::MAX)
    }
}

/// The parameter `resource` of requests to the issuer (RFC 8707).
#[derive(Debug, Clone, Default)]
pub(crate) enum ResourceParameter {
    /// The one in the server's metadata.
    #[default]
    OfServer,
    Other(String),
    LeftOut,
}

/// The type of the token that is sent to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TokenType {
    /// The access token.
    AccessToken,
    /// The ID token: only Google can verify its access tokens.
    IdToken,
}

/// A private key that authenticates a client in place of a secret (RFC 7523).
#[derive(Clone)]
pub(crate) struct PrivateKey {
    /// PKCS #8.
    pub(crate) pem: String,
    pub(crate) algorithm: SigningAlgorithm,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// An algorithm of RFC 7518, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum SigningAlgorithm {
    Es256,
    Es384,
    Rs256,
    Rs384,
    Rs512,
}
