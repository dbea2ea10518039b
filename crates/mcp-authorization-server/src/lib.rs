//! OAuth 2.1 authorization server for MCP servers whose identity provider offers no client registration.
//!
//! [`AuthorizationServer`] is the server, as a function from requests to responses. It verifies nothing of a person itself: an identity
//! provider signs people in, and this server issues tokens for one MCP server each.
//!
//! | Module | Content |
//! | --- | --- |
//! | `server` | [`AuthorizationServer`]: dispatch, and the endpoints for programs |
//! | `sign_in` | the authorization endpoint, consent, and the callback from the identity provider |
//! | `authorization_request` | [`AuthorizationRequest`]: validation of authorization requests |
//! | `parameters` | [`Parameters`] of requests: bounded, each name at most once |
//! | `redirect_uri` | [`RedirectUri`]: validation and comparison |
//! | `resource` | [`Resource`]: the MCP servers that tokens are issued for, and their scopes |
//! | `client`, `clients` | [`Client`]; [`Clients`]: lookup, registration (RFC 7591), authentication |
//! | `client_metadata`, `client_document` | client metadata; metadata documents, fetched by `mcp-https` |
//! | `grants` | [`Grants`]: codes, refresh tokens and their families, in the store |
//! | `grants_page` | the page of a person's grants |
//! | `upstream`, `providers` | [`Upstream`]: sign-in at the identity provider; [`Provider`]: differences of providers |
//! | `signing`, `access_token` | [`KeyRing`]: signing keys and their planned rotation; access tokens (RFC 9068) |
//! | `assertions` | tokens for identity assertions of trusted issuers (ID-JAG) |
//! | `metadata` | metadata of the server (RFC 8414), and the paths of its endpoints |
//! | `cookies`, `pages`, `page_error`, `texts`, `responses` | cookies of a browser; HTML pages, of consent and of errors; their texts in three languages; HTTP responses |
//! | `limits` | limits of the rows that anonymous callers cause |
//! | `seal`, `random`, `clock` | [`Sealer`]: texts that only this server can make and read; random values; times as numbers |
//! | `source` | [`Source`]: settings that are read again while an environment runs |
//! | `error` | [`OAuthError`] and [`ErrorCode`] |

mod access_token;
mod assertions;
mod authorization_request;
mod client;
mod client_document;
mod client_metadata;
mod clients;
mod clock;
mod cookies;
mod error;
mod grants;
mod grants_page;
mod limits;
mod metadata;
mod page_error;
mod pages;
mod parameters;
mod providers;
mod random;
mod redirect_uri;
mod resource;
mod responses;
mod seal;
mod server;
mod sign_in;
mod signing;
mod source;
#[cfg(test)]
mod test_support;
mod texts;
mod upstream;

pub use authorization_request::{AuthorizationRequest, Rejection};
pub use client::{Client, ClientKind, ClientSummary};
pub use client_document::{DocumentSource, FetchDocumentError, FetchFuture, FetchedDocument};
pub use clients::{ClientError, Clients, ConfiguredClient, RegistrationPolicy};
pub use error::{ErrorCode, OAuthError};
pub use grants::{CodeRequest, GrantError, Granted, Grants, NewGrant, RefreshLifetimes, TokenRequest};
pub use parameters::{Parameters, ParametersError};
pub use providers::Provider;
pub use redirect_uri::{InvalidRedirectUri, RedirectUri};
pub use resource::{ClaimMapping, Resource, Resources, ResourcesError, Scope};
pub use seal::{SealError, Sealer};
pub use server::{AuthorizationServer, MAX_BODY_BYTES, RequestContext, Settings, UnusableStateKey};
pub use signing::{KeyRing, KeyRingError};
pub use source::{LoadFuture, Source};
pub use upstream::{Upstream, UpstreamConfig, UpstreamError, subject};
