//! What a function needs of AWS: its own credentials, signatures (Signature Version 4), and secrets of Secrets Manager.
//!
//! The AWS SDK does the same and more. For a few requests it would add a third to the zip of a function, so requests are
//! sent by [`mcp_https`] and signed by [`aws_sigv4`], the SDK's own signer.
//!
//! Nothing is read from the process environment and nothing is sent before the first use: [`StoredSecret`] and
//! [`CredentialSource`] are built from the variables that Lambda sets, which a lookup function supplies.
//!
//! ```no_run
//! use mcp_aws::StoredSecret;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf";
//! let variables: Vec<(String, String)> = std::env::vars().collect();
//! let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
//! let secret = StoredSecret::from_env("MCP_STATE_KEY_SECRET_ARN", arn, get)?;
//!
//! let versions = secret.versions(None).await?;
//!
//! println!("a previous version exists: {}", versions.previous.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! | Module | Content |
//! | --- | --- |
//! | `credentials` | [`CredentialSource`]: the function's own credentials |
//! | `signature` | [`sign_headers`] and [`presign`]: Signature Version 4 |
//! | `endpoint` | the URL of a service in a region |
//! | `secret` | [`StoredSecret`]: the current and the previous version of a secret |
//! | `error` | [`AwsError`] |

mod credentials;
mod endpoint;
mod error;
mod secret;
mod signature;
#[cfg(test)]
mod tests;

pub use aws_credential_types::Credentials;
pub use credentials::CredentialSource;
pub use error::AwsError;
pub use secret::{SecretText, SecretVersions, StoredSecret};
pub use signature::{SigningScope, presign, sign_headers};
