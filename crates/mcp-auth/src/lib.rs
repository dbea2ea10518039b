//! Authentication of an MCP server's callers by bearer tokens of OpenID Connect issuers.
//!
//! A [`Verifier`] verifies a JWT locally and returns its [`Principal`](mcp_server::Principal), or the [`Reason`] for the
//! rejection. A token with an extension or a type that it does not support is rejected. The issuer is only contacted for its
//! keys. They are fetched on demand and cached, so a function that is frozen and thawed needs no background task.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use mcp_auth::{OidcConfig, Reason, Verifier, VerifyError};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let get = |name: &str| (name == "OIDC_ISSUER").then_some("https://issuer.example");
//! let config = OidcConfig::from_env(get).unwrap().expect("an issuer is configured");
//! let verifier = Verifier::new(config);
//!
//! let verified = verifier.verify("not a token", "https://mcp.example.com", SystemTime::now(), None).await;
//!
//! assert!(matches!(verified, Err(VerifyError::Invalid(Reason::NotAJwt))));
//! # });
//! ```
//!
//! | Module | Content |
//! | --- | --- |
//! | `config` | [`OidcConfig`]: the trusted issuers, and presets for Google and Cognito |
//! | `verifier` | [`Verifier`]: validation of claims, and the cache of verified tokens |
//! | `token` | strict parser of signed JWTs |
//! | `claims` | claims of the common issuers, mapped to a principal |
//! | `keys` | cache of an issuer's keys |
//! | `jwks`, `discovery`, `fetch` | JWK Sets; issuer metadata; HTTP requests with limits |
//! | `exchange` | token exchange (RFC 8693), with the feature of that name |
//! | `metadata` | [`ProtectedResourceMetadata`], and `WWW-Authenticate` challenges ([`challenge`]) |
//! | `error` | [`VerifyError`], and the [`Reason`] for the log |

mod claims;
mod config;
mod discovery;
mod error;
#[cfg(feature = "exchange")]
mod exchange;
mod fetch;
mod jwks;
mod keys;
mod metadata;
mod token;
mod verifier;

pub use config::OidcConfig;
pub use error::{Reason, VerifyError};
#[cfg(feature = "exchange")]
pub use exchange::{ExchangeError, ExchangedToken, SubjectToken, TokenExchange, TokenTarget};
pub use metadata::{ChallengeError, ProtectedResourceMetadata, WELL_KNOWN, challenge};
pub use verifier::Verifier;
