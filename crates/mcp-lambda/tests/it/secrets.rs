//! The state key in Secrets Manager: a stand-in on loopback, with the versions that a rotation leaves.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use garde::Validate;
use mcp_lambda::{Env, FromEnv, HttpConfig, InitError, InteractiveContext, McpService};
use mcp_server::{HandlerError, NoArguments, Server, Tool};
use mcp_testing::{McpRequest, Reply, exchange, tools_call};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::RuntimeApi;

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:notes/state-key-AbCdEf";
/// 32 bytes in Base64.
const OLD: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";
const NEW: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";
/// What `GenerateSecretString` makes.
const GENERATED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP";

/// Secrets Manager with one secret.
struct Secrets {
    url: String,
    versions: Arc<Mutex<Versions>>,
}

/// The texts by staging label.
#[derive(Clone, Copy, Default)]
struct Versions {
    current: Option<&'static str>,
    previous: Option<&'static str>,
}

impl Secrets {
    fn start(current: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let versions = Arc::new(Mutex::new(Versions { current: Some(current), previous: None }));
        let shared = Arc::clone(&versions);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(socket.unwrap(), &shared));
            }
        });
        Self { url, versions }
    }

    /// Makes the current version the previous one, as `PutSecretValue` does.
    fn rotate(&self, current: &'static str) {
        let mut versions = self.versions.lock().unwrap();
        *versions = Versions { current: Some(current), previous: versions.current };
    }

    fn variables(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("MCP_STATE_KEY_SECRET_ARN", ARN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.url),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ]
    }

    /// A new execution environment of a server that asks.
    async fn environment(&self) -> Result<McpService, InitError> {
        environment(&self.variables()).await
    }
}

fn answer(socket: TcpStream, versions: &Mutex<Versions>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut writer = socket;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(asked["SecretId"], ARN);
        let Versions { current, previous } = *versions.lock().unwrap();
        let text = if asked["VersionStage"] == "AWSPREVIOUS" { previous } else { current };
        let (status, body) = match text {
            Some(text) => (200, json!({ "SecretString": text })),
            None => (400, json!({ "__type": "ResourceNotFoundException" })),
        };
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

async fn environment(variables: &[(&str, &str)]) -> Result<McpService, InitError> {
    let env = Env::from_pairs(variables.iter().copied()).with_secrets().await?;
    service(HttpConfig::from_env(&env)?)
}

/// A server that does not start without a state key.
pub(super) fn service(config: HttpConfig) -> Result<McpService, InitError> {
    McpService::new(Server::new("notes", "1.0.0", ()).tool(Tool::new("greet", greet)), config)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Name {
    #[garde(skip)]
    name: String,
}

async fn greet(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    let name = context.elicit::<Name>("name", "Who are you?").await.accepted();
    Ok(name.map_or_else(String::new, |Name { name }| format!("Hello, {name}!")))
}

fn call() -> McpRequest {
    tools_call("greet", json!({})).capabilities(json!({ "elicitation": { "form": {} } }))
}

fn answered(asked: &Reply) -> McpRequest {
    call().input_responses(asked, json!({ "name": { "action": "accept", "content": { "name": "Ada" } } }))
}

/// Whether an environment opens what another one sealed.
async fn opens(environment: &McpService, asked: &Reply) -> bool {
    let reply = exchange(environment, answered(asked)).await;
    if reply.response().get("error").is_some() {
        assert_eq!(reply.status_and_code(), (200, -32602));
        return false;
    }
    assert_eq!(reply.tool_result().text(), "Hello, Ada!");
    true
}

#[tokio::test]
async fn what_was_sealed_before_a_rotation_is_opened_after_it_until_the_next_one() {
    let secrets = Secrets::start(OLD);
    let before = secrets.environment().await.unwrap();
    let asked = exchange(&before, call()).await;

    secrets.rotate(NEW);
    let after = secrets.environment().await.unwrap();
    let asked_after = exchange(&after, call()).await;

    assert!(opens(&after, &asked).await && opens(&after, &asked_after).await);
    // The first environment runs with the key that it read. The new key is the one that seals.
    assert!(!opens(&before, &asked_after).await);
    secrets.rotate(GENERATED);
    let last = secrets.environment().await.unwrap();
    assert!(opens(&last, &asked_after).await && !opens(&last, &asked).await);
}

#[tokio::test]
async fn a_generated_password_is_the_key_of_the_same_text_and_an_end() {
    let asked = exchange(&Secrets::start(GENERATED).environment().await.unwrap(), call()).await;

    let key = format!("{GENERATED}A=");
    let by_variable = environment(&[("MCP_STATE_KEY", &key)]).await.unwrap();

    assert!(opens(&by_variable, &asked).await);
}

#[tokio::test]
async fn a_version_that_is_no_key_stops_the_function_only_while_it_is_the_current_one() {
    for text in ["s3cret", "abcdefghijklmnopqrstuvwxyz-=[]'ABCDEFGHIJKLM", &format!("{OLD},{NEW}")] {
        let secrets = Secrets::start(text.to_owned().leak());

        let error = secrets.environment().await.unwrap_err();
        let message = mcp_lambda::error_chain(&error);
        assert!(message.contains("MCP_STATE_KEY_SECRET_ARN"), "{message}");
        assert!(!message.contains("s3cret") && !message.contains(OLD), "{message}");

        secrets.rotate(NEW);
        let asked = exchange(&secrets.environment().await.unwrap(), call()).await;
        let by_variable = environment(&[("MCP_STATE_KEY", NEW)]).await.unwrap();
        assert!(opens(&by_variable, &asked).await, "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_by_its_variable_and_shown_nowhere() {
    let secrets = Secrets::start(OLD);
    let with = |name: &'static str, value: &'static str| {
        let mut variables = secrets.variables();
        variables.retain(|(own, _)| *own != name);
        variables.push((name, value));
        variables
    };
    for (variables, expected) in [
        (with("MCP_STATE_KEY_SECRET_ARN", "s3cret"), "MCP_STATE_KEY_SECRET_ARN must be the ARN of a secret"),
        (with("AWS_ACCESS_KEY_ID", ""), "MCP_STATE_KEY_SECRET_ARN needs AWS credentials"),
        (with("MCP_STATE_KEY", OLD), "MCP_STATE_KEY and MCP_STATE_KEY_SECRET_ARN are both set"),
        (
            with("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1"),
            "could not read the secret of MCP_STATE_KEY_SECRET_ARN: Secrets Manager is not available",
        ),
    ] {
        let error = mcp_lambda::error_chain(&environment(&variables).await.unwrap_err());

        assert!(error.contains(expected) && !error.contains("s3cret") && !error.contains(OLD), "{error}");
    }
    secrets.versions.lock().unwrap().current = None;
    let error = mcp_lambda::error_chain(&secrets.environment().await.unwrap_err());
    assert!(error.contains("no secret has this ARN"), "{error}");
}

#[test]
fn main_reads_the_secret_before_the_configuration() {
    let secrets = Secrets::start(OLD);
    let api = RuntimeApi::start();

    let function = api.function("asks", &secrets.variables());
    let asked = api.answer(call());
    let output = function.kill();

    assert!(asked.body.contains("input_required"), "{asked:?}");
    assert!(!output.contains(OLD) && !output.contains("MCP_STATE_KEY_SECRET_ARN"), "{output}");
}
