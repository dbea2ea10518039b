//! How tokens are requested: the options of the command line, parsed.

use std::{fmt, path::PathBuf, time::Duration};

use reqwest::header::HeaderMap;

use super::{AssertionOptions, Browser};
use crate::callback::CallbackHost;

/// How tokens are got.
#[derive(Debug, Clone, Default)]
pub(crate) struct OAuthOptions {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
    /// In place of a secret, where the client is the caller.
    pub(crate) private_key: Option<PrivateKey>,
    /// The URL of a client id metadata document.
    pub(crate) client_metadata_url: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The client is the caller: no person signs in.
    pub(crate) client_credentials: bool,
    /// An assertion in place of a sign-in.
    pub(crate) assertion: Option<AssertionOptions>,
    /// Which token is sent; by default the one that the issuer's servers can verify.
    pub(crate) token_type: Option<TokenType>,
    pub(crate) resource: ResourceParameter,
    /// PKCE is used also with an issuer whose metadata does not list it.
    pub(crate) assume_pkce: bool,
    pub(crate) callback_host: CallbackHost,
    pub(crate) callback_port: u16,
    pub(crate) browser: Browser,
    pub(crate) state_dir: Option<PathBuf>,
    /// The configured headers, for the server's own origin.
    pub(crate) headers: HeaderMap,
    /// What an answer may take; any time unless given.
    pub(crate) timeout: Option<Duration>,
}

impl OAuthOptions {
    /// How long a request waits for a token that takes no person.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(Duration::MAX)
    }
}

/// The parameter `resource` of requests to the issuer (RFC 8707).
#[derive(Debug, Clone, Default)]
pub(crate) enum ResourceParameter {
    /// What the server's metadata has.
    #[default]
    OfServer,
    Other(String),
    LeftOut,
}

/// Which of an issuer's tokens a server can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TokenType {
    /// The one that is meant for servers.
    AccessToken,
    /// The one that identifies the user: Google's access tokens mean something to Google alone.
    IdToken,
}

/// What a client proves itself with instead of a secret (RFC 7523).
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
