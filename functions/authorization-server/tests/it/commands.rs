//! Commands of the operator: the binary, invoked with their events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use function_url_emulator::{Emulator, FunctionConfig};
use mcp_testing::{ScriptedServer, TEST_AWS_CREDENTIALS, TEST_SECRET_ARN, TestBackend};
use serde_json::{Value, json};

use crate::support::{signing_keys, variables};

mcp_testing::on_both_databases!(crate::support::database:
    a_rotation_adds_a_key_once_and_a_replacement_leaves_one,
    a_command_that_is_unknown_or_cannot_be_run_is_an_error_with_its_reason,
    all_grants_are_revoked_and_the_rows_of_a_person_deleted,
);

const SECRET_KEYS: [(&str, &str); 2] =
    [("AUTHORIZATION_SIGNING_KEYS", ""), ("AUTHORIZATION_SIGNING_KEYS_SECRET_ARN", TEST_SECRET_ARN)];

/// Secrets Manager with the secret of the signing keys.
struct Secrets {
    server: ScriptedServer,
    text: Arc<Mutex<String>>,
}

impl Secrets {
    async fn start() -> Self {
        let text = Arc::new(Mutex::new(signing_keys().to_owned()));
        let shared = Arc::clone(&text);
        let server = ScriptedServer::start(move |_, request| {
            let mut text = shared.lock().unwrap();
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["SecretId"], TEST_SECRET_ARN);
            if request.contains("secretsmanager.PutSecretValue") {
                // The length of a token that Secrets Manager accepts.
                assert!((32..=64).contains(&body["ClientRequestToken"].as_str().unwrap().len()), "{request}");
                body["SecretString"].as_str().unwrap().clone_into(&mut text);
                return (200, "{}".to_owned());
            }
            (200, json!({ "SecretString": *text }).to_string())
        })
        .await;
        Self { server, text }
    }

    /// The private keys, and the times from which they sign.
    fn keys(&self) -> Vec<(String, u64)> {
        let ring: Value = serde_json::from_str(&self.text.lock().unwrap()).unwrap();
        let keys = ring["keys"].as_array().unwrap().iter();
        keys.map(|key| (key["private_key"].to_string(), key["signs_from"].as_u64().unwrap())).collect()
    }

    fn writes(&self) -> usize {
        self.server.requests().iter().filter(|request| request.contains("PutSecretValue")).count()
    }
}

/// The function with a database, and with other variables. An empty value removes one.
async fn function(backend: &TestBackend, others: &[(&str, &str)]) -> Emulator {
    let others = others.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut own: BTreeMap<String, String> = variables().into_iter().chain(others).collect();
    own.remove("DATABASE_URL");
    // Last: Aurora DSQL accepts tokens of its own credentials and region alone.
    own.extend(backend.variables());
    own.retain(|_, value| !value.is_empty());
    let binary = env!("CARGO_BIN_EXE_authorization-server");
    let config = FunctionConfig { variables: own, ..FunctionConfig::new("authorization-server", binary) };
    Emulator::start(config).await.unwrap()
}

/// The result of a command, or the text of the error.
async fn run(function: &Emulator, command: Value) -> Result<Value, String> {
    let event = json!({ "mcpAuthorizationServer": command }).to_string();
    match function.invoke(event).await {
        Ok(result) => Ok(serde_json::from_slice(&result).unwrap()),
        Err(error) => Err(format!("{error:?}")),
    }
}

async fn a_rotation_adds_a_key_once_and_a_replacement_leaves_one(backend: TestBackend) {
    let secrets = Secrets::start().await;
    let url = secrets.server.url("");
    let others =
        [&SECRET_KEYS[..], &TEST_AWS_CREDENTIALS, &[("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str())]].concat();
    let function = function(&backend, &others).await;
    let first = secrets.keys();

    let rotated = run(&function, json!({ "command": "rotate-keys" })).await;
    let two = secrets.keys();
    let again = run(&function, json!({ "command": "rotate-keys" })).await;

    assert_eq!((rotated, again), (Ok(json!({ "rotated": true })), Ok(json!({ "rotated": false }))));
    assert_eq!((two.len(), &two[0], secrets.writes()), (2, &first[0], 1));
    assert!(two[1].1 > first[0].1, "the new key signs later");

    let replaced = run(&function, json!({ "command": "replace-keys" })).await;

    assert_eq!(replaced, Ok(json!({ "rotated": true })));
    assert_eq!((secrets.keys().len(), secrets.writes()), (1, 2));
    assert!(two.iter().all(|(key, _)| *key != secrets.keys()[0].0));
    function.stop().await;
}

async fn a_command_that_is_unknown_or_cannot_be_run_is_an_error_with_its_reason(backend: TestBackend) {
    let function = function(&backend, &[]).await;

    for (command, expected) in [
        (json!({ "command": "rotate-keys" }), "the signing keys are in a variable, not in a secret"),
        (json!({ "command": "replace-keys" }), "the signing keys are in a variable, not in a secret"),
        (json!({ "command": "delete-all" }), "unknown variant `delete-all`"),
        (json!({ "command": "revoke-all", "subject": "ada" }), "unknown field `subject`"),
        (json!({ "command": "delete-person", "issuer": "https://accounts.example" }), "missing field"),
        (json!("revoke-all"), "invalid type"),
    ] {
        let error = run(&function, command.clone()).await.unwrap_err();
        assert!(error.contains(expected), "{command}: {error}");
    }
    function.stop().await;
}

async fn all_grants_are_revoked_and_the_rows_of_a_person_deleted(backend: TestBackend) {
    let function = function(&backend, &[]).await;
    let person = json!({
        "command": "delete-person", "server": function.url(), "issuer": "https://accounts.example", "subject": "ada",
    });

    // The second time replaces the row of the first.
    for _ in 0..2 {
        assert_eq!(run(&function, json!({ "command": "revoke-all" })).await, Ok(json!({ "revoked": true })));
    }
    assert_eq!(run(&function, person).await, Ok(json!({ "deleted": 0, "left": 0 })));
    function.stop().await;
}
