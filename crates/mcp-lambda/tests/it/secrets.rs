//! The state key in Secrets Manager: a stand-in on loopback, with the versions that a rotation leaves.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use garde::Validate;
use mcp_lambda::{Env, FromEnv, HttpConfig, InitError, InteractiveContext, McpService};
use mcp_server::{HandlerError, NoArguments, Server, Tool};
use mcp_testing::{
    McpRequest, Reply, ScriptedServer, TEST_AWS_CREDENTIALS, TEST_SECRET_ARN as ARN, exchange, tools_call,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::process::RuntimeApi;

/// 32 bytes in Base64.
const OLD: &str = "dGVzdHMgYW5kIG5vdGhpbmcgYnV0IHRlc3RzIDEyMzQ=";
const NEW: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";
/// What `GenerateSecretString` makes.
const GENERATED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP";

/// Secrets Manager with one secret.
pub(super) struct Secrets {
    server: ScriptedServer,
    url: String,
    versions: Arc<Mutex<Versions>>,
}

/// The texts by staging label.
#[derive(Clone, Copy, Default)]
struct Versions {
    current: Option<&'static str>,
    previous: Option<&'static str>,
    /// The age of the current version, in seconds; `None` if the response does not have it.
    age: Option<u64>,
}

impl Secrets {
    pub(super) async fn start(current: &'static str) -> Self {
        let versions = Arc::new(Mutex::new(Versions { current: Some(current), ..Versions::default() }));
        let shared = Arc::clone(&versions);
        let server = ScriptedServer::start(move |_, request| {
            assert!(request.contains(ARN), "{request}");
            let Versions { current, previous, age } = *shared.lock().unwrap();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
            let created = age.map(|age| now - age as f64);
            match if request.contains("AWSPREVIOUS") { previous } else { current } {
                Some(text) => (200, json!({ "SecretString": text, "CreatedDate": created }).to_string()),
                None => (400, json!({ "__type": "ResourceNotFoundException" }).to_string()),
            }
        })
        .await;
        Self { url: server.url(""), versions, server }
    }

    /// Makes the current version the previous one, as `PutSecretValue` does.
    pub(super) fn rotate(&self, current: &'static str) {
        let mut versions = self.versions.lock().unwrap();
        *versions = Versions { current: Some(current), previous: versions.current, age: None };
    }

    fn set_age(&self, seconds: u64) {
        self.versions.lock().unwrap().age = Some(seconds);
    }

    /// Makes an environment load the key again.
    pub(super) fn connect(&self, service: &McpService) {
        service.connect_secrets(&Env::from_pairs(self.variables())).unwrap();
    }

    /// The number of reads so far.
    pub(super) fn reads(&self) -> usize {
        self.server.requests().len()
    }

    fn variables(&self) -> Vec<(&'static str, &str)> {
        let secret = [("MCP_STATE_KEY_SECRET_ARN", ARN), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.url.as_str())];
        [secret.as_slice(), &TEST_AWS_CREDENTIALS].concat()
    }

    /// The value of `MCP_STATE_KEY` in a new execution environment.
    async fn state_key(&self) -> String {
        let env = Env::from_pairs(self.variables()).with_secrets().await.unwrap();
        env.get("MCP_STATE_KEY").unwrap().to_owned()
    }

    /// A new execution environment of a server that asks.
    async fn environment(&self) -> Result<McpService, InitError> {
        environment(&self.variables()).await
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
    let secrets = Secrets::start(OLD).await;
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
async fn a_version_seals_after_it_was_current_for_15_minutes() {
    let secrets = Secrets::start(OLD).await;
    secrets.set_age(0);
    let before = secrets.environment().await.unwrap();
    secrets.rotate(NEW);
    secrets.set_age(14 * 60);
    let during = secrets.environment().await.unwrap();
    secrets.set_age(15 * 60);
    let after = secrets.environment().await.unwrap();

    let [asked_before, asked_during, asked_after] =
        [exchange(&before, call()).await, exchange(&during, call()).await, exchange(&after, call()).await];

    assert!(opens(&before, &asked_during).await && opens(&after, &asked_during).await);
    assert!(opens(&during, &asked_before).await && opens(&during, &asked_after).await);
    assert!(!opens(&before, &asked_after).await);
}

#[tokio::test]
async fn a_version_with_an_older_key_opens_what_was_sealed_two_rotations_ago() {
    let newest = "YSB0aGlyZCBrZXkgb2YgdGhpcnR5LXR3byBieXRlcy4=";
    let secrets = Secrets::start(GENERATED).await;
    let first = exchange(&secrets.environment().await.unwrap(), call()).await;
    let versions = [format!("{OLD},{GENERATED};{GENERATED}"), format!("{NEW},{OLD};{GENERATED}")];
    let [second, third] = versions.map(|text| &*text.leak());

    secrets.rotate(second);
    secrets.rotate(third);
    secrets.set_age(14 * 60);
    let during = secrets.environment().await.unwrap();
    let asked_during = exchange(&during, call()).await;
    secrets.set_age(15 * 60);
    let after = secrets.environment().await.unwrap();
    let asked_after = exchange(&after, call()).await;

    for environment in [&during, &after] {
        assert!(opens(environment, &first).await && opens(environment, &asked_after).await);
    }
    let by_second = environment(&[("MCP_STATE_KEY", OLD)]).await.unwrap();
    assert!(opens(&by_second, &asked_during).await && !opens(&by_second, &asked_after).await);
    secrets.rotate(format!("{newest},{NEW};{GENERATED}").leak());
    let last = secrets.environment().await.unwrap();
    assert!(opens(&last, &asked_during).await && !opens(&last, &first).await, "an index key opens nothing");
}

#[tokio::test]
async fn the_index_key_is_that_of_the_newest_version_that_has_one() {
    let index = "aW5kZXgga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMuLi4=";
    let secrets = Secrets::start(GENERATED).await;
    let generated = format!("{GENERATED}A=");
    assert_eq!(secrets.state_key().await, generated);
    for (version, expected) in [
        (OLD.to_owned(), format!("{OLD},{generated};{generated}")),
        (format!("{NEW},{OLD};{index}"), format!("{NEW},{OLD};{index}")),
        // Written without the command.
        (GENERATED.to_owned(), format!("{generated},{NEW},{OLD};{index}")),
        (NEW.to_owned(), format!("{NEW},{generated};{generated}")),
    ] {
        secrets.rotate(version.leak());
        assert_eq!(secrets.state_key().await, expected);
    }
}

#[tokio::test]
async fn a_running_environment_loads_the_key_for_a_state_of_a_newer_one_once_a_minute() {
    let secrets = Secrets::start(OLD).await;
    let running = secrets.environment().await.unwrap();
    secrets.connect(&running);
    secrets.rotate(NEW);
    let asked = exchange(&secrets.environment().await.unwrap(), call()).await;
    let before = secrets.reads();

    for state in ["", "A", "Aw", &"x".repeat(9000)] {
        let forged = call().param("requestState", json!(state));
        assert_eq!(exchange(&running, forged).await.status_and_code(), (200, -32602));
    }
    assert_eq!(secrets.reads(), before, "a text without a key id loads nothing");
    assert!(opens(&running, &asked).await);
    let asked_by_running = exchange(&running, call()).await;
    assert!(opens(&secrets.environment().await.unwrap(), &asked_by_running).await);

    secrets.rotate(GENERATED);
    let newest = exchange(&secrets.environment().await.unwrap(), call()).await;
    let before = secrets.reads();
    assert!(!opens(&running, &newest).await && !opens(&running, &newest).await);
    assert_eq!(secrets.reads(), before, "once a minute");
}

#[tokio::test]
async fn a_generated_password_is_the_key_of_the_same_text_and_an_end() {
    let asked = exchange(&Secrets::start(GENERATED).await.environment().await.unwrap(), call()).await;

    let key = format!("{GENERATED}A=");
    let by_variable = environment(&[("MCP_STATE_KEY", &key)]).await.unwrap();

    assert!(opens(&by_variable, &asked).await);
}

#[tokio::test]
async fn a_version_that_is_no_key_stops_the_function_only_while_it_is_the_current_one() {
    for text in ["s3cret", "abcdefghijklmnopqrstuvwxyz-=[]'ABCDEFGHIJKLM", &format!("{OLD};{NEW};{NEW}")] {
        let secrets = Secrets::start(text.to_owned().leak()).await;

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
    let secrets = Secrets::start(OLD).await;
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

// With a second thread: the test blocks until the function has responded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn main_reads_the_secret_before_the_configuration() {
    let secrets = Secrets::start(OLD).await;
    let api = RuntimeApi::start();

    let function = api.function("asks", &secrets.variables());
    let asked = api.answer(call());
    let output = function.kill();

    assert!(asked.body.contains("input_required"), "{asked:?}");
    assert!(!output.contains(OLD) && !output.contains("MCP_STATE_KEY_SECRET_ARN"), "{output}");
}
