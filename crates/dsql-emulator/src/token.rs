//! Verification of the IAM token that a client sends as its password ([authentication
//! tokens](https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html)): a presigned URL without
//! its scheme, whose signature is recomputed with the test credentials and compared.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
use url::Url;

use crate::{TestCredentials, error_response::ErrorResponse};

/// The user whose tokens have the action `DbConnectAdmin`.
pub(crate) const ADMIN: &str = "admin";
/// Maximum lifetime of a presigned URL (Signature Version 4): one week.
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const TOKEN_LIFETIME: Duration = Duration::from_secs(900);
/// Tolerated clock skew.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Checks a token for a user of an endpoint.
pub(crate) fn verify(
    token: &str,
    host: &str,
    user: &str,
    region: &str,
    credentials: &TestCredentials,
    now: SystemTime,
) -> Result<(), ErrorResponse> {
    let denied = |hint: &str| ErrorResponse::access_denied(hint);
    let url = Url::parse(&format!("https://{token}")).map_err(|_| denied("The token is no presigned URL"))?;
    if url.host_str() != Some(host) || url.port().is_some() || url.path() != "/" || url.fragment().is_some() {
        return Err(denied("The token is for another endpoint"));
    }
    let mut parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let one = |name: &str| -> Result<String, ErrorResponse> {
        let mut values = parameters.iter().filter(|(own, _)| own == name).map(|(_, value)| value.clone());
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(denied(&format!("The token needs {name}, once"))),
        }
    };
    let action = one("Action")?;
    let expected = if user == ADMIN { "DbConnectAdmin" } else { "DbConnect" };
    if action != expected {
        return Err(denied(&format!("Wrong user to action mapping. user: {user}, action: {action}")));
    }
    let signed_at = signing_time(&one("X-Amz-Date")?).ok_or_else(|| denied("X-Amz-Date is no time"))?;
    let lifetime = one("X-Amz-Expires")?.parse().map(Duration::from_secs).ok();
    let lifetime =
        lifetime.filter(|lifetime| *lifetime <= MAX_LIFETIME).ok_or_else(|| denied("X-Amz-Expires is invalid"))?;
    if signed_at > now + CLOCK_SKEW {
        return Err(denied("Signature not yet current"));
    }
    if signed_at + lifetime < now {
        return Err(denied("Signature expired: the token is stale"));
    }
    let mut signed = recompute_signature(host, &action, region, credentials, signed_at, lifetime)
        .map_err(|error| denied(&format!("The token cannot be signed: {error}")))?;
    // Algorithm, credential, signed headers, session token and signature: all of them, and no others.
    signed.sort();
    parameters.sort();
    if signed != parameters {
        return Err(denied("The request signature does not match the credentials, the region or the service"));
    }
    Ok(())
}

/// Signs a token for a user of an endpoint, valid for a quarter of an hour.
pub(crate) fn sign_token(
    host: &str,
    user: &str,
    region: &str,
    credentials: &TestCredentials,
    now: SystemTime,
) -> anyhow::Result<String> {
    let action = if user == ADMIN { "DbConnectAdmin" } else { "DbConnect" };
    let parameters = recompute_signature(host, action, region, credentials, now, TOKEN_LIFETIME)?;
    let mut url = Url::parse(&format!("https://{host}/"))?;
    url.query_pairs_mut().extend_pairs(parameters);
    Ok(url.as_str().trim_start_matches("https://").to_owned())
}

fn signing_time(date: &str) -> Option<SystemTime> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time: OffsetDateTime = PrimitiveDateTime::parse(date, &format).ok()?.assume_utc();
    u64::try_from(time.unix_timestamp()).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns the query parameters of a token that is signed with the credentials.
fn recompute_signature(
    host: &str,
    action: &str,
    region: &str,
    credentials: &TestCredentials,
    signed_at: SystemTime,
    lifetime: Duration,
) -> anyhow::Result<Vec<(String, String)>> {
    let TestCredentials { access_key_id, secret_access_key, session_token, .. } = credentials;
    let identity = Credentials::new(access_key_id, secret_access_key, session_token.clone(), None, "emulator").into();
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(lifetime);
    settings.signature_location = SignatureLocation::QueryParams;
    let signing = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("dsql")
        .time(signed_at)
        .settings(settings)
        .build()?
        .into();
    let url = format!("https://{host}/?Action={action}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &signing)?.into_parts();
    let own = instructions.params().iter().map(|(name, value)| ((*name).to_owned(), value.to_string()));
    Ok(own.chain([("Action".to_owned(), action.to_owned())]).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;

    const HOST: &str = "peccy.dsql.us-east-1.on.aws";
    /// The test vectors of `auth_token.rs` in `aws-sdk-dsql` 1.79.0.
    const COMMON: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240827%2Fus-east-1%2Fdsql%2Faws4_request\
        &X-Amz-Date=20240827T000000Z&X-Amz-Expires=450&X-Amz-SignedHeaders=host&X-Amz-Signature=";
    const CONNECT: &str = "f5f2ad764ca5df44045d4ab6ccecba0eef941b0007e5765885a0b6ed3702a3f8";
    const CONNECT_ADMIN: &str = "267cf8d04d84444f7a62d5bdb40c44bfc6cb13dd6c64fa7f772df6bbaa90fff1";

    fn token(action: &str, signature: &str) -> String {
        format!("{HOST}/?Action={action}&{COMMON}{signature}")
    }

    fn check(token: &str, host: &str, user: &str, seconds: u64) -> Result<(), ErrorResponse> {
        let credentials = TestCredentials {
            access_key_id: "akid".to_owned(),
            secret_access_key: "secret".to_owned(),
            ..TestCredentials::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_724_716_800 + seconds);
        verify(token, host, user, "us-east-1", &credentials, now)
    }

    #[test]
    fn tokens_of_the_sdk_are_accepted_and_altered_ones_are_not() {
        let (app, admin) = (token("DbConnect", CONNECT), token("DbConnectAdmin", CONNECT_ADMIN));
        assert_eq!(check(&app, HOST, "app", 450), Ok(()));
        assert_eq!(check(&admin, HOST, "admin", 0), Ok(()));

        for (what, token, host, user, seconds) in [
            ("expired", app.clone(), HOST, "app", 451),
            ("another user's action", app.clone(), HOST, "admin", 0),
            ("the administrator's action", admin.clone(), HOST, "app", 0),
            ("another host", app.clone(), "other.dsql.us-east-1.on.aws", "app", 0),
            ("another signature", token("DbConnect", CONNECT_ADMIN), HOST, "app", 0),
            ("another lifetime", app.replace("=450", "=451"), HOST, "app", 0),
            ("too long a lifetime", app.replace("=450", "=604801"), HOST, "app", 0),
            ("another service", app.replace("dsql%2F", "rds-db%2F"), HOST, "app", 0),
            ("a port", app.replace("on.aws/", "on.aws:5432/"), HOST, "app", 0),
            ("a parameter twice", format!("{app}&Action=DbConnect"), HOST, "app", 0),
            ("a parameter more", format!("{app}&DBUser=app"), HOST, "app", 0),
            ("no token", "hunter2".to_owned(), HOST, "app", 0),
            ("nothing", String::new(), HOST, "app", 0),
        ] {
            assert!(check(&token, host, user, seconds).is_err(), "{what}");
        }
        let early = verify(&app, HOST, "app", "us-east-1", &TestCredentials::default(), SystemTime::UNIX_EPOCH);
        assert!(early.is_err());
    }
}
