//! Where the document is, and how it is had from there.

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

use crate::fetch::{self, Answer, FetchError, Fetched, Progress};

const EXAMPLE: &str = include_str!("example.yaml");
/// All but the unreserved characters (RFC 3986, section 2.3) and the slashes of a key.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How often S3 is asked in the init phase while it answers 403, and the pause before the next time: five seconds in all. IAM is
/// eventually consistent, so that the first environments of a stack can be ahead of their role's policy.
const PERMISSION_TRIES: u32 = 11;
const PERMISSION_PAUSE: Duration = Duration::from_millis(500);

/// Where the document is.
#[derive(Debug, Clone)]
pub enum Source {
    /// A small one that the function carries, to try it.
    Example,
    /// `file:NAME`: bundled with the function, beside its program.
    File(PathBuf),
    /// `s3://bucket/key`.
    S3(Box<Object>),
    /// `https://…` (`http` on loopback).
    Https(Uri),
}

/// An object in S3.
#[derive(Debug, Clone)]
pub struct Object {
    bucket: String,
    key: String,
    url: Uri,
    region: String,
    credentials: Credentials,
}

impl Source {
    /// Reads `OPENAPI_SOURCE`.
    ///
    /// # Errors
    ///
    /// What is expected in its place.
    pub(crate) fn parse(text: &str, env: &Env) -> Result<Self, String> {
        let expected = "`file:NAME`, `s3://bucket/key` or an https URL (http on loopback)";
        if let Some(name) = text.strip_prefix("file:") {
            let path = Path::new(name);
            let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
            return match !name.is_empty() && is_below {
                true => Ok(Self::File(path.to_owned())),
                false => Err(format!("{expected}, where NAME is below the function's folder")),
            };
        }
        match text.strip_prefix("s3://") {
            Some(place) => Ok(Self::S3(Box::new(Object::parse(place, env)?))),
            None => fetch::secure_uri(text).map(Self::Https).ok_or_else(|| expected.to_owned()),
        }
    }

    /// Whether there may be another document there later.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, Self::S3(_) | Self::Https(_))
    }

    /// Gets the document, if it has at most so many bytes, unless it is still the one with this `etag`.
    pub(crate) async fn get(
        &self,
        etag: Option<&HeaderValue>,
        most: usize,
        progress: &Progress<'_>,
    ) -> Result<Answer, BoxError> {
        let here = |bytes: Bytes| Ok(Answer::Document(Fetched { bytes, etag: None }));
        match self {
            Self::Example => here(Bytes::from_static(EXAMPLE.as_bytes())),
            Self::File(name) => {
                let folder = env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
                let path = folder.join(name);
                if std::fs::metadata(&path)?.len() > most as u64 {
                    return Err(format!("it has {}", fetch::too_large(most)).into());
                }
                here(std::fs::read(path)?.into())
            }
            Self::S3(object) => {
                let headers = object.signed_headers(SystemTime::now())?;
                // Without a receiver of progress it is the init phase.
                let tries = if progress.is_none() { PERMISSION_TRIES } else { 1 };
                let get = || fetch::get(&object.url, headers.clone(), etag, most, progress);
                until_permitted(tries, get).await.map_err(|error| object.explained(error))
            }
            Self::Https(url) => Ok(fetch::get(url, HeaderMap::new(), etag, most, progress).await?),
        }
    }
}

/// Repeats a request that is answered 403.
async fn until_permitted<F>(tries: u32, mut request: impl FnMut() -> F) -> Result<Answer, FetchError>
where
    F: Future<Output = Result<Answer, FetchError>>,
{
    for _ in 1..tries {
        match request().await {
            Err(FetchError::Status { status: StatusCode::FORBIDDEN, .. }) => {
                tokio::time::sleep(PERMISSION_PAUSE).await;
            }
            answer => return answer,
        }
    }
    request().await
}

/// For logs, without a URL's query.
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
    /// Lambda sets region and credentials in every environment of a function. `AWS_ENDPOINT_URL_S3` is the SDKs' variable
    /// for another S3.
    fn parse(place: &str, env: &Env) -> Result<Self, String> {
        let expected = "`s3://bucket/key`, of an object in S3";
        let (bucket, key) = place.split_once('/').ok_or(expected)?;
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        // A client that normalises a path would sign another than it asks for.
        let is_path = !key.is_empty() && key.split('/').all(|part| !matches!(part, "." | ".."));
        if bucket.is_empty() || !bucket.bytes().all(is_label) || !is_path {
            return Err(expected.to_owned());
        }
        let variable = |name: &str| {
            let missing =
                || format!("{expected}, for which Lambda sets AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
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
        // The bucket in the path: a name with dots has no certificate as a host.
        let url = format!("{endpoint}/{bucket}/{}", utf8_percent_encode(key, RESERVED));
        let url = fetch::secure_uri(&url).ok_or("at an endpoint with https (http on loopback)")?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), url, region, credentials })
    }

    fn signed_headers(&self, now: SystemTime) -> Result<HeaderMap, BoxError> {
        let identity = self.credentials.clone().into();
        // What S3 wants other than everyone else.
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

    /// What S3's statuses mean, which its clients meet in other words.
    fn explained(&self, error: FetchError) -> BoxError {
        let FetchError::Status { status, .. } = &error else { return error.into() };
        match status.as_u16() {
            301 => format!("the bucket `{}` is not in the region {}", self.bucket, self.region).into(),
            403 => format!("the function's role may not read `{}`, or there is no such object", self).into(),
            404 => format!("there is no object `{self}`").into(),
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

    /// B17: the first environments of a stack did not start, where their role's policy was not in force yet.
    #[tokio::test(start_paused = true)]
    async fn a_role_whose_policy_is_not_in_force_yet_is_waited_for() {
        let refused = |status| Err(FetchError::Status { url: Uri::default(), status });
        for (status, refusals, tries, succeeds) in [
            (StatusCode::FORBIDDEN, 10, 11, true),
            (StatusCode::FORBIDDEN, 11, 11, false),
            (StatusCode::NOT_FOUND, 1, 1, false),
        ] {
            let mut tried = 0;
            let started = tokio::time::Instant::now();

            let answer = until_permitted(PERMISSION_TRIES, || {
                tried += 1;
                std::future::ready(if tried <= refusals { refused(status) } else { Ok(Answer::Unchanged) })
            });
            let succeeded = answer.await.is_ok();

            assert_eq!((succeeded, tried), (succeeds, tries), "{status} {refusals}");
            assert!(started.elapsed() <= Duration::from_secs(5));
        }
    }

    #[test]
    fn an_object_is_asked_for_with_a_signature_of_its_region() {
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
