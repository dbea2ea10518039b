//! AWS client of a Lambda function: credentials, Signature Version 4, secrets in Secrets Manager, and parameters in Parameter Store.
//!
//! Requests are sent by [`mcp_https`] and signed by [`aws_sigv4`], the signer of the AWS SDK. The SDK itself would make the
//! zip of a function a third larger.
//!
//! [`StoredSecret`], [`ParameterPath`] and [`CredentialSource`] read the variables that Lambda sets through a lookup function, not from the
//! process environment. They send no request before the first use.
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
//! | `credentials` | [`CredentialSource`]: the credentials of the function's execution role |
//! | `signature` | [`sign_headers`] and [`presign`]: Signature Version 4 |
//! | `endpoint` | the endpoint URL of a service in a region |
//! | `invoke` | [`AsyncFunction`]: a function that is invoked asynchronously |
//! | `secret` | [`StoredSecret`]: the current and the previous version of a secret |
//! | `parameters` | [`ParameterPath`]: the parameters below a path |
//! | `json_service` | calls of Secrets Manager and Parameter Store, with retries |
//! | `error` | [`AwsError`] |

mod credentials;
mod endpoint;
mod error;
mod invoke;
mod json_service;
mod parameters;
mod secret;
mod signature;
#[cfg(test)]
mod tests;

pub use aws_credential_types::Credentials;
pub use credentials::CredentialSource;
pub use error::AwsError;
pub use invoke::AsyncFunction;
pub use parameters::{Parameter, ParameterPath};
pub use secret::{SecretText, SecretVersions, StoredSecret};
pub use signature::{SigningScope, presign, sign_headers};
