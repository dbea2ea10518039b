//! Passwords from Secrets Manager, and authentication tokens of RDS and Aurora DSQL.

use std::time::{Duration, SystemTime};

use mcp_aws::{CredentialSource, Credentials, SigningScope, StoredSecret, presign};
use mcp_server::BoxError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;

use crate::config::{ConnectionParts, DatabaseConfig, Secret, TokenKind};

/// All characters but the unreserved ones (RFC 3986, section 2.3), as Signature Version 4 requires.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The user of Aurora DSQL whose tokens have the action `DbConnectAdmin`.
const DSQL_ADMIN: &str = "admin";
/// Validity of a token after it was signed.
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
    kind: TokenKind,
    credentials: &CredentialSource,
) -> Result<PgConnectOptions, BoxError> {
    let token = token(options, region, kind, credentials.load(None).await?, SystemTime::now(), TOKEN_LIFETIME)?;
    Ok(options.clone().password(&token))
}

/// Signs a token: a presigned URL without its scheme ([IAM database
/// authentication](https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html), [Aurora
/// DSQL](https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html)).
fn token(
    options: &PgConnectOptions,
    region: &str,
    kind: TokenKind,
    credentials: Credentials,
    now: SystemTime,
    lifetime: Duration,
) -> Result<String, BoxError> {
    let (host, user) = (options.get_host(), options.get_username());
    let url = match kind {
        TokenKind::Rds => {
            let user = utf8_percent_encode(user, RESERVED);
            format!("https://{host}:{}/?Action=connect&DBUser={user}", options.get_port())
        }
        TokenKind::Dsql if user == DSQL_ADMIN => format!("https://{host}/?Action=DbConnectAdmin"),
        TokenKind::Dsql => format!("https://{host}/?Action=DbConnect"),
    };
    let service = match kind {
        TokenKind::Rds => "rds-db",
        TokenKind::Dsql => "dsql",
    };
    let scope = SigningScope { region, service };
    let mut token = url.trim_start_matches("https://").to_owned();
    for (name, value) in presign(credentials, scope, &url, lifetime, now)? {
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
        let token = token(&options, "eu-west-1", TokenKind::Rds, credentials, now, TOKEN_LIFETIME).unwrap();

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

    /// The test vectors of `auth_token.rs` in `aws-sdk-dsql` 1.79.0.
    #[test]
    fn tokens_of_dsql_are_those_of_the_sdk() {
        let (connect, admin) = (
            "f5f2ad764ca5df44045d4ab6ccecba0eef941b0007e5765885a0b6ed3702a3f8",
            "267cf8d04d84444f7a62d5bdb40c44bfc6cb13dd6c64fa7f772df6bbaa90fff1",
        );
        for (user, action, signature) in [("app", "DbConnect", connect), ("admin", "DbConnectAdmin", admin)] {
            let host = "peccy.dsql.us-east-1.on.aws";
            let options = PgConnectOptions::new_without_pgpass().host(host).username(user);
            let credentials = Credentials::new("akid", "secret", None, None, "test");
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_724_716_800);

            let lifetime = Duration::from_secs(450);
            let token = token(&options, "us-east-1", TokenKind::Dsql, credentials, now, lifetime).unwrap();

            let scope = "akid%2F20240827%2Fus-east-1%2Fdsql%2Faws4_request";
            let expected = format!(
                "{host}/?Action={action}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}\
                 &X-Amz-Date=20240827T000000Z&X-Amz-Expires=450&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
            );
            assert_eq!(token, expected);
        }
    }
}
