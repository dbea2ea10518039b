//! Parameters in AWS Systems Manager Parameter Store.

use std::fmt;

use mcp_server::InitError;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    AwsError, CredentialSource, endpoint,
    json_service::{JsonService, RejectionCode, deadline},
};

const TARGET: &str = "AmazonSSM.GetParametersByPath";
const MAX_PATH_BYTES: usize = 1000;
/// Parameters of one response: the most that the service allows.
const PER_RESPONSE: usize = 10;
/// Maximum number of responses of a read.
const MAX_RESPONSES: usize = 12;

/// All parameters below a path, such as `/mcp/resources`, and the credentials to read them. Each read sends requests; nothing is cached.
/// `Debug` redacts credentials.
#[derive(Clone)]
pub struct ParameterPath {
    path: String,
    service: JsonService,
}

/// A parameter with plain text. Parameters of the type `SecureString` are not decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The whole name, with the path.
    pub name: String,
    /// The value: at most 8 KiB.
    pub value: String,
}

impl ParameterPath {
    /// Reads region, credentials and endpoint from environment variables, through the lookup function `get`: `AWS_REGION`, those of
    /// [`CredentialSource::from_env`], and `AWS_ENDPOINT_URL_SSM`, `AWS_ENDPOINT_URL`, `AWS_USE_DUALSTACK_ENDPOINT` and
    /// `AWS_USE_FIPS_ENDPOINT` with the meaning that they have for the AWS SDKs. `variable` is the name of the setting that contains
    /// the path.
    ///
    /// # Errors
    ///
    /// When the path or an endpoint variable is invalid, or no region or credentials are configured.
    pub fn from_env<'a>(variable: &str, path: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let is_segment = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let own = path.strip_suffix('/').unwrap_or(path);
        let is_path = own.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
        if !is_path || own.len() > MAX_PATH_BYTES {
            return Err(InitError::setting(variable, "a path in Parameter Store, such as `/mcp/resources`", path));
        }
        let is_label =
            |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let region = get("AWS_REGION").filter(is_label);
        let region = region.ok_or_else(|| InitError::new(format!("AWS_REGION must be set: {variable} needs it")))?;
        let url = endpoint::parameter_store(region, &get)?;
        let credentials = CredentialSource::from_env(variable, get)?;
        let service = JsonService::new(("Parameter Store", "ssm"), region, url, credentials, AwsError::Parameters);
        Ok(Self { path: own.to_owned(), service })
    }

    /// Returns the path, without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Fetches all parameters below the path, at any depth: at most 120. The read has a timeout of five seconds, and ends at `answer_by`.
    /// A transient failure is retried with backoff, three attempts for each response.
    ///
    /// # Errors
    ///
    /// - [`AwsError::Unavailable`]: Parameter Store or the credentials endpoint cannot be reached in time.
    /// - [`AwsError::Parameters`]: the path may not be read, has more than 120 parameters, or the response is malformed.
    /// - [`AwsError::Credentials`]: there are no valid credentials.
    /// - [`AwsError::Signature`]: the request cannot be signed.
    pub async fn read(&self, answer_by: Option<std::time::Instant>) -> Result<Vec<Parameter>, AwsError> {
        let deadline = deadline(answer_by);
        let (mut parameters, mut next) = (Vec::new(), Value::Null);
        for _ in 0..MAX_RESPONSES {
            let mut body = json!({ "Path": self.path, "Recursive": true, "MaxResults": PER_RESPONSE });
            if !next.is_null() {
                body["NextToken"] = next;
            }
            let response = self.service.call(TARGET, &Zeroizing::new(body.to_string()), deadline).await?;
            let mut members = response.map_err(rejected)?;
            let Some(Value::Array(list)) = members.remove("Parameters") else { return Err(MALFORMED) };
            for own in list {
                parameters.push(parameter(own)?);
            }
            next = members.remove("NextToken").unwrap_or_default();
            match &next {
                Value::Null => return Ok(parameters),
                Value::String(_) => {}
                _ => return Err(MALFORMED),
            }
        }
        Err(AwsError::Parameters("the path has more than 120 parameters"))
    }
}

impl fmt::Debug for ParameterPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParameterPath")
            .field("path", &self.path)
            .field("credentials", &self.service.credentials)
            .finish_non_exhaustive()
    }
}

const MALFORMED: AwsError = AwsError::Parameters("the response has no list of parameters");

fn parameter(value: Value) -> Result<Parameter, AwsError> {
    let Value::Object(mut members) = value else { return Err(MALFORMED) };
    match (take(&mut members, "Name"), take(&mut members, "Value")) {
        (Some(name), Some(value)) => Ok(Parameter { name, value }),
        _ => Err(MALFORMED),
    }
}

fn take(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn rejected(RejectionCode(code): RejectionCode) -> AwsError {
    AwsError::Parameters(match code.as_str() {
        "AccessDeniedException" => "the function's role may not read them: allow ssm:GetParametersByPath for the path",
        _ => "Parameter Store rejected the request",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use mcp_testing::{ScriptedServer, TEST_AWS_CREDENTIALS as KEYS};

    use super::*;
    use crate::tests::lookup;

    fn path(endpoint: &str, path: &str) -> Result<ParameterPath, InitError> {
        let mut variables = vec![("AWS_ENDPOINT_URL_SSM", endpoint), ("AWS_REGION", "eu-west-1")];
        variables.extend_from_slice(&KEYS);
        ParameterPath::from_env("X_PATH", path, lookup(&variables))
    }

    fn page(names: &[&str], next: Option<&str>) -> (u16, String) {
        let list: Vec<_> = names.iter().map(|name| json!({ "Name": name, "Type": "String", "Value": "v" })).collect();
        (200, json!({ "Parameters": list, "NextToken": next }).to_string())
    }

    #[tokio::test]
    async fn all_pages_of_a_path_are_read_by_signed_requests() {
        let peer = ScriptedServer::start(|number, _| match number {
            1 => page(&["/mcp/a", "/mcp/b"], Some("t-2")),
            2 => (400, json!({ "__type": "ThrottlingException" }).to_string()),
            _ => page(&["/mcp/c"], None),
        })
        .await;

        let parameters = path(&peer.url(""), "/mcp/").unwrap().read(None).await.unwrap();

        let names: Vec<_> = parameters.iter().map(|own| (own.name.as_str(), own.value.as_str())).collect();
        assert_eq!(names, [("/mcp/a", "v"), ("/mcp/b", "v"), ("/mcp/c", "v")]);
        let requests = peer.requests();
        assert_eq!(requests.len(), 3);
        for part in [
            "POST / HTTP/1.1\r\n",
            "x-amz-target: AmazonSSM.GetParametersByPath\r\n",
            "/eu-west-1/ssm/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
            &json!({ "Path": "/mcp", "Recursive": true, "MaxResults": 10, "NextToken": "t-2" }).to_string(),
        ] {
            assert!(requests[2].contains(part), "{part}: {}", requests[2]);
        }
        assert!(!requests[0].contains("NextToken"));
    }

    #[tokio::test]
    async fn a_rejection_or_hostile_response_is_not_quoted() {
        for ((status, body), expected, requests) in [
            ((400, json!({ "__type": "AccessDeniedException", "message": "s3cret" })), "ssm:GetParametersByPath", 1),
            ((400, json!({ "__type": "s3cret" })), "rejected the request", 1),
            ((200, json!({})), "no list", 1),
            ((200, json!({ "Parameters": ["s3cret"] })), "no list", 1),
            ((200, json!({ "Parameters": [{ "Name": "s3cret", "Value": 1 }] })), "no list", 1),
            ((200, json!({ "Parameters": [], "NextToken": 1 })), "no list", 1),
            ((200, json!("s3cret")), "not a JSON object", 1),
            ((200, json!({ "Parameters": [], "NextToken": "again" })), "more than 120", MAX_RESPONSES),
        ] {
            let body = body.to_string();
            let peer = ScriptedServer::start(move |_, _| (status, body.clone())).await;

            let error = path(&peer.url(""), "/mcp").unwrap().read(None).await.unwrap_err();

            let text = format!("{error} {error:?}");
            assert!(!error.is_transient() && text.contains(expected) && !text.contains("s3cret"), "{text}");
            assert_eq!(peer.requests().len(), requests, "{expected}");
        }
    }

    #[test]
    fn the_path_and_the_endpoint_are_checked() {
        for text in ["", "/", "mcp", "//", "/a//b", "/a b", "/a?b", "/a/\u{e9}", "/a/*", &"/a".repeat(501)] {
            assert!(path("http://127.0.0.1:1", text).is_err(), "{text}");
        }
        assert_eq!(path("http://127.0.0.1:1", "/mcp/resources-1/").unwrap().path(), "/mcp/resources-1");
        assert!(path("s3cret", "/mcp").is_err_and(|error| !error.to_string().contains("s3cret")));
        let no_region = ParameterPath::from_env("X_PATH", "/mcp", lookup(&KEYS)).unwrap_err().to_string();
        assert!(no_region.contains("AWS_REGION") && no_region.contains("X_PATH"), "{no_region}");
    }
}
