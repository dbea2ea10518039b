//! Who calls an MCP server: tokens of OpenID Connect issuers, verified by the server itself.
//!
//! A [`Verifier`] turns a token into a [`Principal`](mcp_server::Principal), or says why not. It is strict: what it does
//! not understand it refuses. It needs the issuer only for its keys, which it fetches when a token comes and keeps while
//! they are good, so that a function that is frozen and thawed needs no background work.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use mcp_auth::{OidcConfig, Reason, Verifier, VerifyError};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let get = |name: &str| (name == "OIDC_ISSUER").then_some("https://issuer.example");
//! let config = OidcConfig::from_env(get).unwrap().expect("an issuer is named");
//! let verifier = Verifier::new(config);
//!
//! let refused = verifier.verify("not a token", "https://mcp.example.com", SystemTime::now(), None).await;
//!
//! assert!(matches!(refused, Err(VerifyError::Invalid(Reason::NotAJwt))));
//! # });
//! ```
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `config` | [`OidcConfig`], which issuers are believed, and the presets |
//! | `verifier` | [`Verifier`], the rules |
//! | `token` | a token taken apart, strictly |
//! | `claims` | what issuers call what they say about a caller |
//! | `keys` | an issuer's keys over time: when they are fetched, how long they are good |
//! | `jwks`, `discovery`, `fetch` | a set of keys; where it is; fetching with limits |
//! | `exchange` | tokens of other services in exchange for the caller's, with the feature of that name |
//! | `metadata` | what leads a client to the issuer: [`ProtectedResourceMetadata`], [`challenge`] |
//! | `error` | [`VerifyError`], and the [`Reason`] that the log gets |

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
