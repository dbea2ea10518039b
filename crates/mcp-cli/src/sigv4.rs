//! Requests that are signed with AWS credentials, for a URL with `AuthType: AWS_IAM`.

use std::time::SystemTime;

use anyhow::{Context, bail};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use reqwest::{
    Request,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::sync::OnceCell;
use url::Url;

/// Signs requests to one server.
#[derive(Debug)]
pub(crate) struct Signer {
    region: String,
    /// Where credentials come from: the environment, a profile, SSO, the machine's role.
    config: OnceCell<SdkConfig>,
}

impl Signer {
    /// For the region that is given, or that a Function URL's name has.
    pub(crate) fn of(url: &str, region: Option<String>) -> anyhow::Result<Self> {
        let Some(region) = region_of(url).or(region) else {
            bail!("the URL does not say its region: give `--region`, or set AWS_REGION");
        };
        Ok(Self { region, config: OnceCell::new() })
    }

    pub(crate) async fn sign(&self, request: &mut Request) -> anyhow::Result<()> {
        let config = self.config.get_or_init(|| aws_config::load_defaults(BehaviorVersion::latest())).await;
        let provider = config.credentials_provider().context("there are no AWS credentials")?;
        let credentials = provider.provide_credentials().await.context("the AWS credentials cannot be had")?;
        self.sign_with(request, credentials, SystemTime::now())
    }

    fn sign_with(&self, request: &mut Request, credentials: Credentials, now: SystemTime) -> anyhow::Result<()> {
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("lambda")
            .time(now)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let headers = content_type.map(|value| (CONTENT_TYPE.as_str(), value)).into_iter();
        let method = request.method().as_str();
        let signable = SignableRequest::new(method, request.url().as_str(), headers, SignableBody::Bytes(body))?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        let signed: Vec<(String, String)> =
            instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in signed {
            let mut value = HeaderValue::from_str(&value)?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(())
    }
}

/// The region in `<id>.lambda-url.<region>.on.aws`.
fn region_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let (_, rest) = url.host_str()?.split_once(".lambda-url.")?;
    rest.strip_suffix(".on.aws").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_url_says_its_region() {
        assert_eq!(region_of("https://abc.lambda-url.eu-west-1.on.aws/mcp").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("https://mcp.example.com/mcp"), None);
        assert!(Signer::of("https://mcp.example.com/mcp", None).is_err());
    }
}
