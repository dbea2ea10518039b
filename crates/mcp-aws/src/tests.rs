//! Tests against scripted endpoints of Secrets Manager and of credentials, on loopback.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::time::{Duration, Instant, SystemTime};

use mcp_testing::{ScriptedServer, TEST_AWS_CREDENTIALS as KEYS, TEST_SECRET_ARN as ARN};
use serde_json::json;

use crate::{AsyncFunction, AwsError, CredentialSource, StoredSecret};

pub(crate) fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
    |name| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
}

fn secret(text: &str) -> (u16, String) {
    (200, json!({ "ARN": ARN, "SecretString": text }).to_string())
}

fn failure(status: u16, code: &str) -> (u16, String) {
    (status, json!({ "__type": code, "message": "s3cret" }).to_string())
}

fn stored(endpoint: &str, credentials: &[(&str, &str)]) -> StoredSecret {
    let mut variables = vec![("AWS_ENDPOINT_URL", endpoint)];
    variables.extend_from_slice(credentials);
    StoredSecret::from_env("X_ARN", ARN, lookup(&variables)).unwrap()
}

#[tokio::test]
async fn a_request_is_signed_for_the_region_of_the_secret() {
    let peer = ScriptedServer::start(|_, _| secret(" text\n")).await;

    let text = stored(&peer.url(""), &KEYS).current(None).await.unwrap();

    assert_eq!(text.as_str(), "text");
    let requests = peer.requests();
    assert_eq!(requests.len(), 1);
    for part in [
        "POST / HTTP/1.1\r\n",
        "content-type: application/x-amz-json-1.1\r\n",
        "x-amz-target: secretsmanager.GetSecretValue\r\n",
        "x-amz-security-token: session\r\n",
        "Credential=AKIDEXAMPLE/",
        "/eu-west-1/secretsmanager/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
        &json!({ "SecretId": ARN, "VersionStage": "AWSCURRENT" }).to_string(),
    ] {
        assert!(requests[0].contains(part), "{part}: {}", requests[0]);
    }
}

#[tokio::test]
async fn the_time_of_a_version_is_read_if_it_is_one() {
    for (created, expected) in [
        (json!(1_700_000_000.5), Some(Duration::from_millis(1_700_000_000_500))),
        (json!(null), None),
        (json!("2023-11-14"), None),
        (json!(-1), None),
        (json!(1e300), None),
    ] {
        let body = json!({ "SecretString": "text", "CreatedDate": created }).to_string();
        let peer = ScriptedServer::start(move |_, _| (200, body.clone())).await;

        let versions = stored(&peer.url(""), &KEYS).versions(None).await.unwrap();

        let since = versions.current_created.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        assert_eq!(since, expected, "{created}");
    }
}

#[tokio::test]
async fn the_previous_version_is_optional() {
    for (previous, expected) in
        [(secret("old"), Some("old")), (failure(400, "com.amazonaws.secretsmanager#ResourceNotFoundException"), None)]
    {
        let peer = ScriptedServer::start(move |_, request| match request.contains("AWSPREVIOUS") {
            true => previous.clone(),
            false => secret("new"),
        })
        .await;

        let versions = stored(&peer.url(""), &KEYS).versions(None).await.unwrap();

        assert_eq!(versions.current.as_str(), "new");
        assert_eq!(versions.previous.as_ref().map(|text| text.as_str()), expected);
        assert_eq!(peer.requests().len(), 2);
    }
    // Only `ResourceNotFoundException` means that there is no previous version.
    let peer = ScriptedServer::start(|_, request| match request.contains("AWSPREVIOUS") {
        true => failure(400, "AccessDeniedException"),
        false => secret("new"),
    })
    .await;
    let versions = stored(&peer.url(""), &KEYS).versions(None).await;
    assert!(matches!(versions, Err(AwsError::Secret(reason)) if reason.contains("GetSecretValue")), "{versions:?}");
}

#[tokio::test]
async fn a_transient_failure_is_retried_up_to_three_attempts() {
    for (status, code) in [
        (500, "InternalServiceError"),
        (503, ""),
        (429, ""),
        (400, "ThrottlingException"),
        (400, "InternalServiceError"),
    ] {
        let peer =
            ScriptedServer::start(move |number, _| if number < 3 { failure(status, code) } else { secret("text") })
                .await;
        assert_eq!(stored(&peer.url(""), &KEYS).current(None).await.unwrap().as_str(), "text", "{status} {code}");

        let peer = ScriptedServer::start(move |_, _| failure(status, code)).await;
        let error = stored(&peer.url(""), &KEYS).current(None).await.unwrap_err();
        assert!(error.is_transient() && !format!("{error:?}").contains("s3cret"), "{error:?}");
        assert_eq!(peer.requests().len(), 3, "{status} {code}");
    }
}

#[tokio::test]
async fn a_rejection_or_hostile_response_is_neither_retried_nor_quoted() {
    let deep = format!("{{\"SecretString\":{}", "[".repeat(100_000));
    for ((status, body), expected) in [
        (failure(400, "ResourceNotFoundException"), "no secret has this ARN"),
        (failure(400, "AccessDeniedException"), "secretsmanager:GetSecretValue"),
        (failure(400, "DecryptionFailure"), "key cannot decrypt"),
        (failure(400, "InvalidRequestException"), "marked for deletion"),
        (failure(400, "ExpiredTokenException"), "credentials"),
        (failure(400, "s3cret"), "rejected the request"),
        (failure(302, "s3cret"), "rejected the request"),
        ((403, "s3cret".to_owned()), "rejected the request"),
        ((400, deep.clone()), "rejected the request"),
        ((200, deep), "not a JSON object"),
        ((200, String::new()), "not a JSON object"),
        ((200, "[\"s3cret\"]".to_owned()), "not a JSON object"),
        ((200, r#"{"SecretString":"s3cret","SecretString":"b"}"#.to_owned()), "not a JSON object"),
        ((200, json!({ "SecretBinary": "s3cret" }).to_string()), "binary"),
        ((200, json!({ "SecretString": ["s3cret"] }).to_string()), "binary"),
        ((200, json!({ "SecretString": " \n" }).to_string()), "empty"),
        ((200, format!("{{\"SecretString\":\"{}\"}}", "s3cret".repeat(100_000))), "too large"),
    ] {
        let peer = ScriptedServer::start(move |_, _| (status, body.clone())).await;

        let error = stored(&peer.url(""), &KEYS).current(None).await.unwrap_err();

        let text = format!("{error} {error:?}");
        assert!(!error.is_transient() && text.contains(expected) && !text.contains("s3cret"), "{expected}: {text}");
        assert_eq!(peer.requests().len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_read_from_a_silent_endpoint_ends_at_the_deadline() {
    let peer = ScriptedServer::start(|_, _| (0, String::new())).await;
    let started = Instant::now();

    let error = stored(&peer.url(""), &KEYS).versions(Some(started + Duration::from_millis(200))).await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_read_times_out_after_five_seconds() {
    let peer = ScriptedServer::start(|_, _| (0, String::new())).await;
    let secret = stored(&peer.url(""), &KEYS);
    let started = tokio::time::Instant::now();

    assert!(secret.current(None).await.unwrap_err().is_transient());

    assert!(started.elapsed() <= Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn credentials_of_the_local_endpoint_are_fetched_for_each_read() {
    let endpoint = ScriptedServer::start(|number, _| {
        let credentials = json!({
            "AccessKeyId": format!("AKID{number}"), "SecretAccessKey": "aws s3cret", "Token": format!("session{number}"),
            "Expiration": "2026-01-01T00:00:00Z",
        });
        (200, credentials.to_string())
    })
    .await;
    let peer = ScriptedServer::start(|_, _| secret("text")).await;
    let full_uri = endpoint.url("/credentials");
    let variables =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*full_uri), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the function")];
    let own = stored(&peer.url(""), &variables);

    for number in 1..=2 {
        own.current(None).await.unwrap();

        let request = peer.requests().pop().unwrap();
        assert!(request.contains(&format!("Credential=AKID{number}/")), "{request}");
        assert!(request.contains(&format!("x-amz-security-token: session{number}\r\n")), "{request}");
    }
    let request = endpoint.requests().remove(0);
    assert!(request.starts_with("GET /credentials HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: the function\r\n"), "{request}");
}

#[tokio::test]
async fn the_token_file_of_the_endpoint_is_read_for_each_request() {
    let path = std::env::temp_dir().join(format!("mcp-aws-token-{}", std::process::id()));
    let endpoint =
        ScriptedServer::start(|_, _| (200, json!({ "AccessKeyId": "a", "SecretAccessKey": "b" }).to_string())).await;
    let url = endpoint.url("");
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.to_str().unwrap()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this one"),
    ];
    let source = CredentialSource::from_env("X", lookup(&variables)).unwrap();

    for token in ["first", "second"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        source.load(None).await.unwrap();
        let request = endpoint.requests().pop().unwrap();
        assert!(request.contains(&format!("authorization: {token}\r\n")), "{request}");
    }
    std::fs::write(&path, "a\r\nX: y").unwrap();
    let invalid = source.load(None).await;
    std::fs::remove_file(&path).unwrap();
    let missing = source.load(None).await;

    assert!(matches!(invalid, Err(AwsError::Credentials(reason)) if reason.contains("header value")), "{invalid:?}");
    assert!(matches!(missing, Err(AwsError::Credentials(reason)) if reason.contains("file")), "{missing:?}");
    assert_eq!(endpoint.requests().len(), 2);
}

#[tokio::test]
async fn an_error_of_the_credentials_endpoint_quotes_nothing_of_its_response() {
    for (status, body, is_transient) in [
        (500, "s3cret".to_owned(), true),
        (429, "s3cret".to_owned(), true),
        (403, "s3cret".to_owned(), false),
        (302, "s3cret".to_owned(), false),
        (200, "s3cret".to_owned(), false),
        (200, json!({ "code": "s3cret" }).to_string(), false),
        (200, json!({ "AccessKeyId": "s3cret" }).to_string(), false),
        (200, json!({ "AccessKeyId": "s3cret", "SecretAccessKey": "" }).to_string(), false),
        (200, json!({ "AccessKeyId": 1, "SecretAccessKey": "s3cret" }).to_string(), false),
        (200, "[".repeat(10_000), false),
        (200, "s3cret".repeat(10_000), false),
    ] {
        let endpoint = ScriptedServer::start(move |_, _| (status, body.clone())).await;
        let url = endpoint.url("");
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url)];

        let error = CredentialSource::from_env("X", lookup(&variables)).unwrap().load(None).await.unwrap_err();

        let text = format!("{error} {error:?}");
        assert!(error.is_transient() == is_transient && !text.contains("s3cret"), "{status}: {text}");
    }
}

#[test]
fn credentials_come_from_the_environment_or_a_trusted_endpoint() {
    let full = |url| [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)];
    let kind = |variables: &[(&str, &str)]| {
        CredentialSource::from_env("X_ARN", lookup(variables))
            .map(|source| format!("{source:?}"))
            .map_err(|error| error.to_string())
    };
    assert_eq!(kind(&KEYS).unwrap(), "CredentialSource(environment)");
    assert_eq!(kind(&[&KEYS[..], &full("http://127.0.0.1:1/")].concat()).unwrap(), "CredentialSource(environment)");
    for url in [
        "http://127.0.0.1:9001/x",
        "http://localhost/x",
        "http://[::1]:1/x",
        "http://169.254.170.2/x",
        "http://169.254.170.23:80/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "https://credentials.example/x",
    ] {
        assert_eq!(kind(&full(url)).unwrap(), "CredentialSource(endpoint)", "{url}");
    }
    for url in [
        "http://169.254.169.254/x",
        "http://169.254.170.2.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://169.254.170.2:x@evil.example/",
        "http://evil.example/?s3cret",
        "file:///s3cret",
    ] {
        let error = kind(&full(url)).unwrap_err();
        assert!(error.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI") && !error.contains("s3cret"), "{url}: {error}");
    }
    assert!(kind(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")]).is_ok());
    assert!(kind(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/")]).is_err());
    let missing = kind(&[KEYS[0]]).unwrap_err();
    assert!(missing.contains("X_ARN") && missing.contains("AWS_SECRET_ACCESS_KEY"), "{missing}");
}

#[test]
fn an_invalid_secret_arn_is_rejected_without_quoting_it() {
    for arn in [
        "",
        "s3cret",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
        "arn:aws:secretsmanager::123456789012:secret:s3cret",
        "arn:aws:secretsmanager:EU:1:secret:s3cret",
        "arn:aws:secretsmanager:eu-west-1.evil.example/:1:secret:s3cret",
        "arn:aws:ssm:eu-west-1:1:secret:s3cret",
        "arn:aws:secretsmanager:eu-west-1:1:parameter:s3cret",
        "arn:aws:secretsmanager:eu-west-1:1:secret:s3cret\n",
    ] {
        let error = StoredSecret::from_env("X_ARN", arn, lookup(&KEYS)).unwrap_err().to_string();
        assert!(error.contains("X_ARN") && !error.contains("s3cret"), "{arn}: {error}");
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let peer = ScriptedServer::start(|_, _| secret("text s3cret")).await;
    let stored = stored(&peer.url(""), &KEYS);

    let versions = stored.versions(None).await.unwrap();

    let shown = format!("{stored:?} {versions:?}");
    assert!(!shown.contains("s3cret") && shown.contains(ARN), "{shown}");
}

#[tokio::test]
async fn a_secret_is_written_by_a_request_that_may_be_repeated() {
    let token = "0123456789abcdef0123456789abcdef";
    let peer =
        ScriptedServer::start(|number, _| if number == 1 { failure(500, "") } else { (200, "{}".to_owned()) }).await;

    stored(&peer.url(""), &KEYS).put("a new s3cret", token, None).await.unwrap();

    let expected = json!({ "SecretId": ARN, "SecretString": "a new s3cret", "ClientRequestToken": token }).to_string();
    let requests = peer.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.contains("x-amz-target: secretsmanager.PutSecretValue\r\n") && request.ends_with(&expected));
    }
    for (code, expected) in [
        ("AccessDeniedException", "secretsmanager:PutSecretValue"),
        ("ResourceNotFoundException", "no secret"),
        ("ResourceExistsException", "rejected"),
    ] {
        let peer = ScriptedServer::start(move |_, _| failure(400, code)).await;
        let error = stored(&peer.url(""), &KEYS).put("s3cret", token, None).await.unwrap_err();
        assert!(error.to_string().contains(expected) && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

fn function(endpoint: &str, name: &str) -> Result<AsyncFunction, mcp_server::InitError> {
    let mut variables = vec![("AWS_ENDPOINT_URL_LAMBDA", endpoint), ("AWS_REGION", "eu-west-1")];
    variables.extend_from_slice(&KEYS);
    AsyncFunction::from_env("X_FUNCTION", name, lookup(&variables))
}

#[tokio::test]
async fn an_asynchronous_invocation_is_signed_and_retried() {
    let peer = ScriptedServer::start(|number, _| (if number == 1 { 500 } else { 202 }, String::new())).await;

    function(&peer.url(""), "export-tasks:live").unwrap().invoke("{\"a\":1}").await.unwrap();

    let requests = peer.requests();
    assert_eq!(requests.len(), 2);
    for part in [
        "POST /2015-03-31/functions/export-tasks/invocations?Qualifier=live HTTP/1.1\r\n",
        "x-amz-invocation-type: Event\r\n",
        "/eu-west-1/lambda/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-invocation-type;x-amz-security-token",
        "\r\n\r\n{\"a\":1}",
    ] {
        assert!(requests[1].contains(part), "{part}: {}", requests[1]);
    }
}

#[tokio::test]
async fn a_rejected_invocation_names_its_cause_and_is_not_retried() {
    for (status, expected) in
        [(403, "lambda:InvokeFunction"), (404, "does not exist"), (400, "rejected"), (200, "rejected")]
    {
        let peer = ScriptedServer::start(move |_, _| (status, "s3cret".to_owned())).await;

        let error = function(&peer.url(""), "export-tasks").unwrap().invoke("{}").await.unwrap_err();

        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?}").contains("s3cret"));
        assert_eq!(peer.requests().len(), 1, "{status}");
    }
}

#[test]
fn the_name_of_a_function_is_checked() {
    for name in ["", "a/b", "a b", "a?b", "a:", ":a", "a:b:c", "arn:aws:lambda:x:1:function:a", &"x".repeat(201)] {
        assert!(function("http://127.0.0.1:1", name).is_err(), "{name}");
    }
    assert_eq!(function("http://127.0.0.1:1", "a-b_1:$LATEST").unwrap().name(), "a-b_1:$LATEST");
}
