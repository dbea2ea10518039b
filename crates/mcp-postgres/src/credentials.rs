//! Passwords from Secrets Manager, and authentication tokens of RDS.

use std::time::{Duration, SystemTime};

use mcp_aws::{CredentialSource, Credentials, SigningScope, StoredSecret, presign};
use mcp_server::BoxError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;

use crate::config::{ConnectionParts, DatabaseConfig, Secret};

/// All characters but the unreserved ones (RFC 3986, section 2.3), as Signature Version 4 requires.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Validity of an RDS token after it was signed.
const TOKEN_LIFETIME: Duration = Duration::from_secs(900);

/// Returns the options with the current secret.
pub(crate) async fn with_secret(
    config: &DatabaseConfig,
    stored: &StoredSecret,
    overrides: &ConnectionParts,
) -> Result<PgConnectOptions, BoxError> {
    let text = stored.current(None).await?;
    // The parser's message could repeat a part of the secret.
    // Unbounded JSON: written by AWS or the operator, in at most 64 KiB.
    let secret: Secret = serde_json::from_str(text.as_str())
        .map_err(|_| "the secret is not JSON in the form of RDS: `username` and `password` are required")?;
    Ok(config.with_secret(&secret, overrides)?)
}

/// Returns the options with a token that is signed now, without a request to AWS.
pub(crate) async fn with_token(
    options: &PgConnectOptions,
    region: &str,
    credentials: &CredentialSource,
) -> Result<PgConnectOptions, BoxError> {
    let token = token(options, region, credentials.load(None).await?, SystemTime::now())?;
    Ok(options.clone().password(&token))
}

/// Signs an RDS token: a presigned URL without its scheme ([IAM database
/// authentication](https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html)).
fn token(
    options: &PgConnectOptions,
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<String, BoxError> {
    let user = utf8_percent_encode(options.get_username(), RESERVED);
    let url = format!("https://{}:{}/?Action=connect&DBUser={user}", options.get_host(), options.get_port());
    let scope = SigningScope { region, service: "rds-db" };
    let mut token = url.trim_start_matches("https://").to_owned();
    for (name, value) in presign(credentials, scope, &url, TOKEN_LIFETIME, now)? {
        token.push_str(&format!("&{name}={}", utf8_percent_encode(&value, RESERVED)));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;

    #[test]
    fn a_token_is_a_presigned_url_of_the_endpoint() {
        let options = PgConnectOptions::new_without_pgpass().host("db.example.com").port(5433).username("app@x");
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session+token".to_owned()), None, "test");

        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let token = token(&options, "eu-west-1", credentials, now).unwrap();

        assert!(token.starts_with("db.example.com:5433/?Action=connect&DBUser=app%40x&"), "{token}");
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Feu-west-1%2Frds-db%2Faws4_request",
            "X-Amz-Date=20270115T080000Z",
            "X-Amz-Expires=900",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Security-Token=session%2Btoken",
            "X-Amz-Signature=",
        ] {
            assert!(token.contains(part), "{part}: {token}");
        }
    }
}
