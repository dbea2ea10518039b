//! OAuth 2.1 authorization server for MCP servers whose identity provider offers no client registration.
//!
//! | Module | Content |
//! | --- | --- |
//! | `parameters` | parameters of requests: bounded, each name at most once |
//! | `redirect_uri` | [`RedirectUri`]: validation and comparison |
//! | `resource` | [`Resource`]: the MCP servers that tokens are issued for, and their scopes |
//! | `client` | [`Client`]: a client and its redirect URIs |
//! | `authorization_request` | [`AuthorizationRequest`]: validation of authorization requests |
//! | `signing` | [`KeyRing`]: signing keys and their planned rotation |
//! | `seal` | [`Sealer`]: texts that only this server can make and read |
//! | `grants` | [`Grants`]: codes, refresh tokens and their families, in the store |
//! | `error` | [`OAuthError`] and [`ErrorCode`] |

mod authorization_request;
mod client;
mod clock;
mod error;
mod grants;
mod parameters;
mod random;
mod redirect_uri;
mod resource;
mod seal;
mod signing;
#[cfg(test)]
mod test_support;

pub use authorization_request::{AuthorizationRequest, Rejection};
pub use client::{Client, ClientKind};
pub use error::{ErrorCode, OAuthError};
pub use grants::{CodeRequest, GrantError, Granted, Grants, RefreshLifetimes};
pub use parameters::{Parameters, ParametersError};
pub use redirect_uri::{InvalidRedirectUri, RedirectUri};
pub use resource::{ClaimMapping, Resource, Resources, ResourcesError, Scope};
pub use seal::{SealError, Sealer};
pub use signing::{KeyRing, KeyRingError, LEAD};
