//! Requests that are signed with AWS credentials, for a URL with `AuthType: AWS_IAM`.

mod credentials;

use std::time::SystemTime;

use anyhow::bail;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use reqwest::{
    Request,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;
use url::Url;

use self::credentials::Sources;

/// The fix for a request that AWS rejects before the function runs.
const HINT: &str = "AWS rejected the request before the function ran: give `--sigv4` if the Function URL has AuthType AWS_IAM; \
                    its caller needs lambda:InvokeFunctionUrl and lambda:InvokeFunction";

/// Signs requests to one server.
#[derive(Debug)]
pub(crate) struct Signer {
    region: String,
    sources: Sources,
}

impl Signer {
    /// For the region that is given, or that a Function URL's name has.
    pub(crate) fn of(url: &str, region: Option<String>) -> anyhow::Result<Self> {
        let Some(region) = region_of(url).or(region) else {
            bail!("the URL has no region: give `--region`, or set AWS_REGION");
        };
        Ok(Self { sources: Sources::of(&region), region })
    }

    /// Checks that there are credentials.
    ///
    /// # Errors
    ///
    /// When there are none, or when they cannot be loaded.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        self.sources.credentials().await.map(drop)
    }

    pub(crate) async fn sign(&self, request: &mut Request) -> anyhow::Result<()> {
        let credentials = self.sources.credentials().await?;
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

/// Whether AWS rejected a request before the function ran, as with a Function URL of AuthType AWS_IAM: its body has `Message`.
pub(crate) fn is_rejection(status: u16, body: &str) -> bool {
    let body = || crate::received::read::<Value>(body).unwrap_or_default();
    status == 403 && body()["Message"].is_string()
}

/// The fix for a response with that status and body, if it is from AWS.
pub(crate) fn hint(status: u16, body: &str) -> Option<&'static str> {
    is_rejection(status, body).then_some(HINT)
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
    fn a_function_url_has_its_region() {
        assert_eq!(region_of("https://abc.lambda-url.eu-west-1.on.aws/mcp").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("https://mcp.example.com/mcp"), None);
        assert!(Signer::of("https://mcp.example.com/mcp", None).is_err());
    }

    #[test]
    fn a_rejection_by_aws_has_a_hint() {
        assert!(hint(403, r#"{"Message":"Forbidden"}"#).is_some_and(|hint| hint.contains("`--sigv4`")));
        for (status, body) in [
            (403, r#"{"message":"Forbidden"}"#),
            (403, r#"{"Message":1}"#),
            (403, "<html>\"Message\""),
            (401, r#"{"Message":"Forbidden"}"#),
        ] {
            assert_eq!(hint(status, body), None, "{status} {body}");
        }
    }
}
