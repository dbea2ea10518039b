//! The state key is rotated in the middle of a call: ids and rows of the previous key open.

use super::*;
#[cfg(feature = "secrets")]
use crate::secrets::Secrets;

const OLD: &str = "b2xkIGtleSBmb3IgdGVzdHMsIG5vdGhpbmcgZWxzZSE=";
const NEW: &str = "bmV3IGtleSBmb3IgdGVzdHMsIG5vdGhpbmcgZWxzZSE=";

impl World {
    fn before(&self) -> McpService {
        self.environment_of("asking", StateKey::parse(OLD).unwrap())
    }

    fn after(&self) -> McpService {
        self.environment_of("asking", StateKey::parse(&format!("{NEW},{OLD}")).unwrap())
    }
}

async fn post(service: &McpService, client: &Client, message: Value) -> Reply {
    send(service, client, client.request("POST"), message.to_string()).await
}

async fn resume(service: &McpService, client: &Client, id: &str) -> Reply {
    send(service, client, client.request("GET").header("last-event-id", id), String::new()).await
}

async fn answer(service: &McpService, client: &Client, id: &str, name: &str) -> Reply {
    let result = json!({ "action": "accept", "content": { "name": name } });
    post(service, client, json!({ "jsonrpc": "2.0", "id": id, "result": result })).await
}

async fn initialized(service: &McpService, subject: Option<&str>) -> Client {
    let client = Client { subject: subject.map(str::to_owned), ..Client::default() };
    let reply = post(service, &client, initialize("2025-11-25")).await;
    Client { session: Some(reply.headers["mcp-session-id"].to_str().unwrap().to_owned()), ..client }
}

/// The rotation comes before each of the steps, in turn.
#[tokio::test]
async fn a_call_goes_on_after_a_rotation_at_any_step() {
    for subject in [Some("ada"), None] {
        // A long argument is in the store, a short one in the event id.
        for greeting in ["Hello", &"x".repeat(4000)] {
            for rotated_at in 0..6 {
                let world = World::default();
                let service = |step: u32| if step < rotated_at { world.before() } else { world.after() };
                let client = initialized(&service(0), subject).await;
                let mut message = call(1, "greet");
                message["params"]["arguments"]["greeting"] = json!(greeting);

                let asked = post(&service(1), &client, message).await;
                let waiting = resume(&service(2), &client, &asked.last_id()).await;
                assert!(waiting.text().is_none(), "{rotated_at}");
                let answered = answer(&service(3), &client, &asked.questions()[0], "Ada").await;
                assert_eq!(answered.status, StatusCode::ACCEPTED, "{rotated_at}");
                let done = resume(&service(4), &client, &waiting.last_id()).await;
                let again = resume(&service(5), &client, &asked.last_id()).await;

                let expected = format!("{greeting} Ada 1");
                assert_eq!(done.text(), Some(expected.clone()), "{rotated_at}");
                assert_eq!(again.text(), Some(expected), "the stored outcome");
            }
        }
    }
}

/// An environment from before the rotation gets the ids of one from after it: it loads the key again, once.
#[cfg(feature = "secrets")]
#[tokio::test]
async fn a_call_of_a_newer_environment_goes_on_in_a_running_one() {
    for first in 0..4 {
        let world = World::default();
        let secrets = Secrets::start(OLD).await;
        let running = world.before();
        secrets.connect(&running);
        secrets.rotate(NEW);
        // The running environment has the steps from `first` on.
        let newest = world.after();
        let service = |step: u32| if step < first { &newest } else { &running };
        let client = initialized(&newest, Some("ada")).await;

        let asked = post(service(0), &client, call(1, "greet")).await;
        let waiting = resume(service(1), &client, &asked.last_id()).await;
        let answered = answer(service(2), &client, &asked.questions()[0], "Ada").await;
        assert_eq!(answered.status, StatusCode::ACCEPTED, "{first}");
        let done = resume(service(3), &client, &waiting.last_id()).await;

        assert_eq!(done.text().as_deref(), Some(" Ada 1"), "{first}");
        assert_eq!(secrets.reads(), 2, "both versions, once");
    }
}

#[tokio::test]
async fn rounds_and_cancellations_go_on_after_a_rotation() {
    let world = World::default();
    let client = initialized(&world.before(), Some("ada")).await;
    let first = post(&world.before(), &client, call(1, "twice")).await;
    answer(&world.before(), &client, &first.questions()[0], "Ada").await;
    let second = resume(&world.after(), &client, &first.last_id()).await;
    answer(&world.after(), &client, &second.questions()[0], "Lovelace").await;
    assert_eq!(resume(&world.after(), &client, &second.last_id()).await.text().as_deref(), Some("Ada Lovelace"));

    let client = initialized(&world.before(), Some("eve")).await;
    let asked = post(&world.before(), &client, call(2, "greet")).await;
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } });
    post(&world.after(), &client, cancel).await;
    let ended = resume(&world.after(), &client, &asked.last_id()).await.messages();
    assert_eq!(ended[0]["error"]["message"], "the request was cancelled");
}
