//! Clients and their redirect URIs.

use serde::{Deserialize, Serialize};

use crate::RedirectUri;

/// A client whose metadata was validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// How the client is known.
    pub kind: ClientKind,
    /// The name that the client gives itself, not verified. `None` if it has none.
    pub name: Option<String>,
    /// Redirect URIs, at least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// Whether the client gets refresh tokens.
    pub refreshes: bool,
}

/// How a client is known to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// By the metadata document at its client id, an `https` URL: the domain is verified.
    Document,
    /// By dynamic registration: nothing is verified.
    Registered,
    /// By the operator's configuration.
    Configured,
}

/// Properties of a client that count after its authorization request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSummary {
    /// How the client is known.
    pub kind: ClientKind,
    /// The name that the client gives itself.
    pub name: Option<String>,
    /// Whether the client gets refresh tokens.
    pub refreshes: bool,
}

impl Client {
    pub(crate) fn summary(&self) -> ClientSummary {
        ClientSummary { kind: self.kind, name: self.name.clone(), refreshes: self.refreshes }
    }

    /// Finds the registered redirect URI that allows `requested`.
    pub fn allows(&self, requested: &RedirectUri) -> bool {
        self.redirect_uris.iter().any(|own| own.allows(requested))
    }
}
