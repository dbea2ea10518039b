//! Settings: what each error says, and secrets of Secrets Manager.

use std::time::SystemTime;

use authorization_server::service;
use mcp_lambda::error_chain;
use mcp_testing::{ScriptedServer, TEST_AWS_CREDENTIALS, TEST_SECRET_ARN};
use serde_json::json;

use crate::support::{config, send, signing_keys};

#[test]
fn a_missing_setting_is_named() {
    for (name, expected) in [
        ("DATABASE_URL", "DATABASE_URL"),
        ("MCP_STATE_KEY", "set MCP_STATE_KEY or MCP_STATE_KEY_SECRET_ARN"),
        ("AUTHORIZATION_UPSTREAM_ISSUER", "AUTHORIZATION_UPSTREAM_ISSUER must be set"),
        ("AUTHORIZATION_UPSTREAM_CLIENT_ID", "AUTHORIZATION_UPSTREAM_CLIENT_ID must be set"),
        (
            "AUTHORIZATION_UPSTREAM_CLIENT_SECRET",
            "set one of AUTHORIZATION_UPSTREAM_CLIENT_SECRET and AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN",
        ),
        (
            "AUTHORIZATION_SIGNING_KEYS",
            "set one of AUTHORIZATION_SIGNING_KEYS and AUTHORIZATION_SIGNING_KEYS_SECRET_ARN",
        ),
        ("AUTHORIZATION_RESOURCES", "set one of AUTHORIZATION_RESOURCES and AUTHORIZATION_RESOURCES_PATH"),
    ] {
        let error = config(&[(name, "")]).unwrap_err();

        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn an_invalid_setting_is_named_with_the_expected_value_and_without_a_secret() {
    for (name, value, expected) in [
        ("AUTHORIZATION_UPSTREAM_ISSUER", "http://accounts.example", "an https URL"),
        ("AUTHORIZATION_UPSTREAM_ISSUER", "https://accounts.example?s3cret", "an https URL"),
        ("AUTHORIZATION_UPSTREAM_PROVIDER", "facebook", "`cognito`, `entra`"),
        ("AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN", TEST_SECRET_ARN, "set one of"),
        ("AUTHORIZATION_SIGNING_KEYS", r#"{"keys":[{"private_key":"s3cret!"}]}"#, "is invalid"),
        ("AUTHORIZATION_RESOURCES", r#"[{"url":"http://mcp.example/mcp","name":"Events"}]"#, "is invalid"),
        ("AUTHORIZATION_RESOURCES_PATH", "/authorization/resources", "set one of"),
        ("AUTHORIZATION_CLIENTS", r#"{"id":"portal"}"#, "a JSON array of clients"),
        ("AUTHORIZATION_CLIENTS", r#"[{"id":"","name":"Portal","redirect_uris":[]}]"#, "without an id"),
        (
            "AUTHORIZATION_CLIENTS",
            r#"[{"id":"a","name":"A","redirect_uris":[]},{"id":"a","name":"B","redirect_uris":[]}]"#,
            "the same id",
        ),
        // The digest in hexadecimal, with padding, and in the other alphabet.
        (
            "AUTHORIZATION_CLIENTS",
            r#"[{"id":"a","name":"A","redirect_uris":[],"secret_sha256":"1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"}]"#,
            "in Base64url",
        ),
        (
            "AUTHORIZATION_CLIENTS",
            r#"[{"id":"a","name":"A","redirect_uris":[],"secret_sha256":"HsHCa1DV08WNlYMYGvgHZlX-AHVr9yhZQLo2cPmfy6A="}]"#,
            "in Base64url",
        ),
        (
            "AUTHORIZATION_CLIENTS",
            r#"[{"id":"a","name":"A","redirect_uris":[],"secret_sha256":"HsHCa1DV08WNlYMYGvgHZlX+AHVr9yhZQLo2cPmfy6A"}]"#,
            "in Base64url",
        ),
        ("AUTHORIZATION_REGISTRATION", "yes", "`known`, `off` or `open`"),
        ("MCP_PUBLIC_URL", "https://login.example.com/oauth", "must have no path"),
        ("MCP_AUTH", "iam", "remove MCP_AUTH"),
    ] {
        let error = config(&[(name, value)]).unwrap_err();

        assert!(error.contains(name) && error.contains(expected) && !error.contains("s3cret"), "{error}");
    }
    let both = [("AUTHORIZATION_REGISTRATION", "off"), ("AUTHORIZATION_REGISTRATION_HOSTS", "app.example")];
    assert!(config(&both).unwrap_err().contains("remove AUTHORIZATION_REGISTRATION_HOSTS"));
    assert!(config(&[("MCP_FOREIGN_HOSTS", "app.example")]).unwrap_err().contains("configured address"));
}

#[test]
fn the_provider_and_the_registration_have_several_values() {
    for (name, value) in [
        ("AUTHORIZATION_UPSTREAM_PROVIDER", "cognito"),
        ("AUTHORIZATION_REGISTRATION", "known"),
        ("AUTHORIZATION_REGISTRATION", "open"),
        ("AUTHORIZATION_REGISTRATION_HOSTS", "app.example, Other.example"),
        (
            "AUTHORIZATION_CLIENTS",
            r#"[{"id":"portal","name":"Portal","redirect_uris":["https://app.example/callback"]}]"#,
        ),
    ] {
        assert!(config(&[(name, value)]).is_ok(), "{name}={value}");
    }
}

#[tokio::test]
async fn without_registration_the_endpoint_does_not_exist() {
    let service = service(config(&[("AUTHORIZATION_REGISTRATION", "off")]).unwrap()).await.unwrap();

    let (_, metadata) = send(&service, "GET", "/.well-known/oauth-authorization-server", None).await;
    let (status, _) = send(&service, "POST", "/register", Some("{}")).await;

    assert_eq!((status, metadata.contains("registration_endpoint")), (404, false));
}

#[tokio::test]
async fn secrets_are_read_from_secrets_manager_when_the_function_starts() {
    for (keys, expected) in [
        (json!({ "SecretString": signing_keys() }), None),
        (
            json!({ "SecretString": "a placeholder" }),
            Some("could not read the signing keys: the signing keys are not usable"),
        ),
        (json!({ "__type": "AccessDeniedException" }), Some("allow secretsmanager:GetSecretValue")),
    ] {
        let status = if keys.get("__type").is_some() { 400 } else { 200 };
        let keys = keys.to_string();
        let answers = [(200, json!({ "SecretString": "s3cret" }).to_string()), (status, keys)];
        let secrets = ScriptedServer::start(move |number, _| answers[usize::from(number > 1)].clone()).await;
        let endpoint = secrets.url("");
        let variables = [
            ("AUTHORIZATION_UPSTREAM_CLIENT_SECRET", ""),
            ("AUTHORIZATION_SIGNING_KEYS", ""),
            ("AUTHORIZATION_UPSTREAM_CLIENT_SECRET_ARN", TEST_SECRET_ARN),
            ("AUTHORIZATION_SIGNING_KEYS_SECRET_ARN", TEST_SECRET_ARN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.as_str()),
        ];
        let all: Vec<_> = variables.into_iter().chain(TEST_AWS_CREDENTIALS).collect();

        let started = service(config(&all).unwrap()).await;

        assert_eq!(secrets.requests().len(), 2);
        match (started, expected) {
            (Ok(service), None) => assert_eq!(send(&service, "GET", "/jwks", None).await.0, 200),
            (Err(error), Some(expected)) => {
                let error = error_chain(&error);
                assert!(error.contains(expected), "{error}");
            }
            (started, expected) => panic!("{started:?} {expected:?}"),
        }
    }
}

#[tokio::test]
async fn resources_are_read_from_parameters_below_a_path() {
    let resource = json!({ "url": "https://mcp.example/mcp", "name": "Event logger" }).to_string();
    let parameters = json!({ "Parameters": [{ "Name": "/authorization/resources/events", "Value": resource }] });
    let store = ScriptedServer::start(move |_, _| (200, parameters.to_string())).await;
    let endpoint = store.url("");
    let variables = [
        ("AUTHORIZATION_RESOURCES", ""),
        ("AUTHORIZATION_RESOURCES_PATH", "/authorization/resources"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_SSM", endpoint.as_str()),
    ];
    let all: Vec<_> = variables.into_iter().chain(TEST_AWS_CREDENTIALS).collect();
    let config = config(&all).unwrap();

    let resources = config.resources.get(SystemTime::now()).await.unwrap();

    assert!(
        resources.find(Some("https://mcp.example/mcp")).is_ok()
            && resources.find(Some("https://other.example")).is_err()
    );
    let [request] = &store.requests()[..] else { panic!("one request") };
    assert!(
        request.contains("AmazonSSM.GetParametersByPath") && request.contains("/authorization/resources"),
        "{request}"
    );
}
