//! Passwords from Secrets Manager, and authentication tokens of RDS.

use std::time::{Duration, SystemTime};

use aws_config::{
    BehaviorVersion, SdkConfig,
    default_provider::{
        endpoint_url::endpoint_url_provider, use_dual_stack::use_dual_stack_provider, use_fips::use_fips_provider,
    },
    ecs::EcsCredentialsProvider,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    meta::{credentials::CredentialsProviderChain, region::ProvideRegion},
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use mcp_server::BoxError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::OnceCell;

use crate::{
    aws_http,
    config::{ConnectionParts, DatabaseConfig, Secret},
};

/// All characters but the unreserved ones (RFC 3986, section 2.3), as Signature Version 4 requires.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Validity of an RDS token after it was signed.
const TOKEN_LIFETIME: Duration = Duration::from_secs(900);

/// The AWS SDK's configuration, loaded on first use.
#[derive(Debug, Default)]
pub(crate) struct Aws {
    config: OnceCell<SdkConfig>,
}

impl Aws {
    async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(sdk_config).await
    }

    /// Returns the options with the current secret.
    pub(crate) async fn with_secret(
        &self,
        config: &DatabaseConfig,
        arn: &str,
        overrides: &ConnectionParts,
    ) -> Result<PgConnectOptions, BoxError> {
        let client = aws_sdk_secretsmanager::Client::new(self.config().await);
        let fetched = client.get_secret_value().secret_id(arn).send().await?;
        let text = fetched.secret_string().ok_or("the secret is binary: expected JSON in the form of RDS")?;
        // The parser's message could repeat a part of the secret.
        // Unbounded JSON: written by AWS or the operator.
        let secret: Secret = serde_json::from_str(text)
            .map_err(|_| "the secret is not JSON in the form of RDS: `username` and `password` are required")?;
        Ok(config.with_secret(&secret, overrides)?)
    }

    /// Returns the options with a token that is signed now, without a request to AWS.
    pub(crate) async fn with_token(
        &self,
        options: &PgConnectOptions,
        region: &str,
    ) -> Result<PgConnectOptions, BoxError> {
        let provider = self.config().await.credentials_provider().ok_or("the function has no AWS credentials")?;
        let credentials = provider.provide_credentials().await?;
        let token = token(options, region, credentials, SystemTime::now())?;
        Ok(options.clone().password(&token))
    }
}

/// Configuration with the credentials that a function has on Lambda: from the environment, or from a local service
/// after a snapshot was restored. The SDK's defaults would link and try all other providers.
async fn sdk_config() -> SdkConfig {
    let http_client = aws_http::client();
    let environment = ProviderConfig::default().with_http_client(http_client.clone());
    let local_service = EcsCredentialsProvider::builder().configure(&environment).build();
    let credentials = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("EcsContainer", local_service);
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client)
        .region(EnvironmentVariableRegionProvider::new().region().await);
    config
        .set_endpoint_url(endpoint_url_provider(&environment).await)
        .set_use_dual_stack(use_dual_stack_provider(&environment).await)
        .set_use_fips(use_fips_provider(&environment).await);
    config.build()
}

/// Signs an RDS token: a presigned URL without its scheme ([IAM database
/// authentication](https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html)).
fn token(
    options: &PgConnectOptions,
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<String, BoxError> {
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(TOKEN_LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()?
        .into();
    let user = utf8_percent_encode(options.get_username(), RESERVED);
    let url = format!("https://{}:{}/?Action=connect&DBUser={user}", options.get_host(), options.get_port());
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &parameters)?.into_parts();
    let mut token = url.trim_start_matches("https://").to_owned();
    for (name, value) in instructions.params() {
        token.push_str(&format!("&{name}={}", utf8_percent_encode(value, RESERVED)));
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
