//! Location of the document, and its download.

use std::{
    env, fmt,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use mcp_lambda::{BoxError, Env};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fetch::{self, FetchError, FetchOutcome, FetchedDocument, Progress};

const EXAMPLE: &str = include_str!("example.yaml");
/// Characters of a key that are percent-encoded: all except unreserved characters (RFC 3986, section 2.3) and slashes.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Attempts in the init phase while S3 returns 403, with a fixed delay: five seconds in total. IAM is eventually
/// consistent, so the policy of a new role may not be effective in the first environments of a stack.
const PERMISSION_ATTEMPTS: u32 = 11;
const PERMISSION_DELAY: Duration = Duration::from_millis(500);

/// Location of the document.
#[derive(Debug, Clone)]
pub enum Source {
    /// Example document that is built into the function.
    Example,
    /// `file:NAME`: file in the function's zip.
    File(PathBuf),
    /// `s3://bucket/key`.
    S3(Box<Object>),
    /// `https://…` (`http` for loopback hosts).
    Https(Uri),
}

/// Object in S3.
#[derive(Debug, Clone)]
pub struct Object {
    bucket: String,
    key: String,
    url: Uri,
    region: String,
    credentials: Credentials,
}

impl Source {
    /// Parses `OPENAPI_SOURCE`.
    ///
    /// # Errors
    ///
    /// Returns the expected format.
    pub(crate) fn parse(text: &str, env: &Env) -> Result<Self, String> {
        let expected = "`file:NAME`, `s3://bucket/key` or an https URL (http on loopback)";
        if let Some(name) = text.strip_prefix("file:") {
            let path = Path::new(name);
            let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
            return match !name.is_empty() && is_below {
                true => Ok(Self::File(path.to_owned())),
                false => Err(format!("{expected}, where NAME is a path inside the function's folder")),
            };
        }
        match text.strip_prefix("s3://") {
            Some(place) => Ok(Self::S3(Box::new(Object::parse(place, env)?))),
            None => fetch::secure_uri(text).map(Self::Https).ok_or_else(|| expected.to_owned()),
        }
    }

    /// Returns whether the document can change.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, Self::S3(_) | Self::Https(_))
    }

    /// Downloads the document, unless it still has this `etag`. Returns an error if it has more than `max_bytes` bytes.
    pub(crate) async fn get(
        &self,
        etag: Option<&HeaderValue>,
        max_bytes: usize,
        progress: &Progress<'_>,
    ) -> Result<FetchOutcome, BoxError> {
        let here = |bytes: Bytes| Ok(FetchOutcome::Document(FetchedDocument { bytes, etag: None }));
        match self {
            Self::Example => here(Bytes::from_static(EXAMPLE.as_bytes())),
            Self::File(name) => {
                let folder = env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
                let path = folder.join(name);
                if std::fs::metadata(&path)?.len() > max_bytes as u64 {
                    return Err(format!("the file has {}", fetch::too_large(max_bytes)).into());
                }
                here(std::fs::read(path)?.into())
            }
            Self::S3(object) => {
                let headers = object.signed_headers(SystemTime::now())?;
                // Only the init phase has no receiver of progress notifications.
                let attempts = if progress.is_none() { PERMISSION_ATTEMPTS } else { 1 };
                let get = || fetch::get(&object.url, headers.clone(), etag, max_bytes, progress);
                retry_while_forbidden(attempts, get).await.map_err(|error| object.explained(error))
            }
            Self::Https(url) => Ok(fetch::get(url, HeaderMap::new(), etag, max_bytes, progress).await?),
        }
    }
}

/// Retries a request while the response is 403.
async fn retry_while_forbidden<F>(attempts: u32, mut request: impl FnMut() -> F) -> Result<FetchOutcome, FetchError>
where
    F: Future<Output = Result<FetchOutcome, FetchError>>,
{
    for _ in 1..attempts {
        match request().await {
            Err(FetchError::Status { status: StatusCode::FORBIDDEN, .. }) => {
                tokio::time::sleep(PERMISSION_DELAY).await;
            }
            outcome => return outcome,
        }
    }
    request().await
}

/// Format for logs, without the query of a URL.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Example => f.write_str("the example"),
            Self::File(name) => write!(f, "file:{}", name.display()),
            Self::S3(object) => write!(f, "s3://{}/{}", object.bucket, object.key),
            Self::Https(url) => write!(f, "{}", fetch::without_query(url)),
        }
    }
}

impl Object {
    /// Parses `bucket/key`. Lambda sets region and credentials in the environment of a function. `AWS_ENDPOINT_URL_S3`
    /// is the SDKs' variable for a custom endpoint.
    fn parse(place: &str, env: &Env) -> Result<Self, String> {
        let expected = "`s3://bucket/key` of an object in S3";
        let (bucket, key) = place.split_once('/').ok_or(expected)?;
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        // HTTP clients normalize such paths, so the signature would not match.
        let is_path = !key.is_empty() && key.split('/').all(|part| !matches!(part, "." | ".."));
        if bucket.is_empty() || !bucket.bytes().all(is_label) || !is_path {
            return Err(expected.to_owned());
        }
        let variable = |name: &str| {
            let missing = || {
                format!("{expected}, with AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which Lambda sets")
            };
            env.get(name).map(str::to_owned).ok_or_else(missing)
        };
        let region = variable("AWS_REGION")?;
        let credentials = Credentials::new(
            variable("AWS_ACCESS_KEY_ID")?,
            variable("AWS_SECRET_ACCESS_KEY")?,
            env.get("AWS_SESSION_TOKEN").map(str::to_owned),
            None,
            "environment",
        );
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = match env.get("AWS_ENDPOINT_URL_S3").or(env.get("AWS_ENDPOINT_URL")) {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{region}.{domain}"),
        };
        // Path-style URL, since certificates do not cover host names of buckets with dots.
        let url = format!("{endpoint}/{bucket}/{}", utf8_percent_encode(key, RESERVED));
        let url = fetch::secure_uri(&url).ok_or("an endpoint with https (http on loopback)")?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), url, region, credentials })
    }

    fn signed_headers(&self, now: SystemTime) -> Result<HeaderMap, BoxError> {
        let identity = self.credentials.clone().into();
        // S3-specific signature settings.
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let url = self.url.to_string();
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(headers)
    }

    /// Explains the status codes of S3.
    fn explained(&self, error: FetchError) -> BoxError {
        let FetchError::Status { status, .. } = &error else { return error.into() };
        match status.as_u16() {
            301 => format!("the bucket `{}` is not in the region {}", self.bucket, self.region).into(),
            403 => {
                format!("access to `{}` denied: the function's role may not read it, or it does not exist", self).into()
            }
            404 => format!("object `{self}` not found").into(),
            _ => error.into(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first environments of a stack failed, since the policy of their role was not yet effective.
    #[tokio::test(start_paused = true)]
    async fn forbidden_is_retried_until_the_role_policy_is_effective() {
        let failure = |status| Err(FetchError::Status { url: Uri::default(), status });
        for (status, failures, attempts, succeeds) in [
            (StatusCode::FORBIDDEN, 10, 11, true),
            (StatusCode::FORBIDDEN, 11, 11, false),
            (StatusCode::NOT_FOUND, 1, 1, false),
        ] {
            let mut attempt = 0;
            let started = tokio::time::Instant::now();

            let outcome = retry_while_forbidden(PERMISSION_ATTEMPTS, || {
                attempt += 1;
                std::future::ready(if attempt <= failures { failure(status) } else { Ok(FetchOutcome::Unchanged) })
            });
            let succeeded = outcome.await.is_ok();

            assert_eq!((succeeded, attempt), (succeeds, attempts), "{status} {failures}");
            assert!(started.elapsed() <= Duration::from_secs(5));
        }
    }

    #[test]
    fn requests_are_signed_for_the_region() {
        let env = Env::from_pairs([
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "session"),
        ]);
        let object = Object::parse("my.bucket/a b/openapi+1.json", &env).unwrap();

        let headers = object.signed_headers(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();

        assert_eq!(object.url, "https://s3.eu-west-1.amazonaws.com/my.bucket/a%20b/openapi%2B1.json");
        let authorization = headers["authorization"].to_str().unwrap();
        for part in ["AKIDEXAMPLE/20270115/eu-west-1/s3/aws4_request", "x-amz-security-token", "x-amz-content-sha256"] {
            assert!(authorization.contains(part), "{part}: {authorization}");
        }
        assert_eq!(headers["x-amz-security-token"], "session");
    }
}
