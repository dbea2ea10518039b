//! Ids that were forged, stolen, swapped or kept: none is accepted, and none that was not issued to its caller reaches the store.

use super::*;

/// A call with an open question.
struct Open {
    client: Client,
    event: String,
    question: String,
}

async fn open(world: &World, id: u32, tool: &str) -> Open {
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(id, tool)).await;
    Open { event: asked.last_id(), question: asked.questions().remove(0), client }
}

/// Each row: how an id was made, the environment, and the client that sends it.
async fn table(world: &World, own: &Open) -> Vec<(&'static str, McpService, Client, String, String)> {
    let changed = |id: &str| {
        let flip = |byte: char| if byte == 'A' { 'B' } else { 'A' };
        let (head, tail) = id.split_at(id.len() / 2);
        format!("{head}{}{}", flip(tail.chars().next().unwrap()), &tail[1..])
    };
    let other_key = StateKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let eve = world.client(Some("eve")).await;
    let anonymous = Client { subject: None, ..own.client.clone() };
    let late = Client { later: Duration::from_secs(3600), ..own.client.clone() };
    let own_client = || own.client.clone();
    let here = || world.environment();
    vec![
        ("forged", here(), own_client(), changed(&own.event), changed(&own.question)),
        ("empty", here(), own_client(), "x".to_owned(), "x".to_owned()),
        ("other key", world.environment_of("asking", other_key), own_client(), own.event.clone(), own.question.clone()),
        (
            "other server",
            world.environment_of("other", mcp_testing::state_key()),
            own_client(),
            own.event.clone(),
            own.question.clone(),
        ),
        ("other caller", here(), eve, own.event.clone(), own.question.clone()),
        ("no caller", here(), anonymous, own.event.clone(), own.question.clone()),
        ("swapped", here(), own_client(), own.question.clone(), own.event.clone()),
        ("session", here(), own_client(), own.client.session.clone().unwrap(), own.client.session.clone().unwrap()),
        ("oversized", here(), own_client(), "A".repeat(10_000), "A".repeat(10_000)),
        ("late", here(), late, "x".to_owned(), own.question.clone()),
    ]
}

#[tokio::test]
async fn no_foreign_id_is_accepted_and_none_reaches_the_store() {
    for world in worlds() {
        let own = open(&world, 1, "greet").await;
        for (what, service, client, event, question) in table(&world, &own).await {
            let before = world.operations();
            let request = client.request("GET").header("last-event-id", &event);
            let polled = send(&service, &client, request, String::new()).await;
            assert_eq!(polled.status, StatusCode::BAD_REQUEST, "{what}: poll");
            let result = json!({ "action": "accept", "content": { "name": "Eve" } });
            let body = json!({ "jsonrpc": "2.0", "id": question, "result": result }).to_string();
            let answered = send(&service, &client, client.request("POST"), body).await;
            // The parser of messages takes ids of at most 4 KiB.
            assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{what}: answer");
            assert_eq!(world.operations(), before, "{what}");
        }
        // The answer of the right caller still counts.
        world.answer(&own.client, &own.question, "Ada").await;
        assert_eq!(world.resume(&own.client, &own.event).await.text().as_deref(), Some(" Ada 1"));
    }
}

#[tokio::test]
async fn no_foreign_cancellation_ends_a_call() {
    let world = World::default();
    let own = open(&world, 1, "greet").await;
    let eve = world.client(Some("eve")).await;
    let second_session = world.client(Some("ada")).await;
    let forged = Client { session: Some("x".repeat(100)), ..own.client.clone() };
    let stolen = Client { session: own.client.session.clone(), ..eve.clone() };
    let anonymous = Client { subject: None, ..own.client.clone() };
    let none = Client { session: None, ..own.client.clone() };
    let oversized = Client { session: Some("A".repeat(2000)), ..own.client.clone() };
    for client in [eve, second_session, forged, stolen, anonymous, none, oversized] {
        for id in [json!(1), json!("1"), json!({}), json!(null), json!("x".repeat(5000))] {
            let params = json!({ "requestId": id });
            let message = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
            assert_eq!(world.post(&client, message).await.status, StatusCode::ACCEPTED);
        }
    }
    world.answer(&own.client, &own.question, "Ada").await;

    assert_eq!(world.resume(&own.client, &own.event).await.text().as_deref(), Some(" Ada 1"));
}

#[tokio::test]
async fn an_answer_belongs_to_its_call_and_round() {
    let world = World::default();
    let (one, other) = (open(&world, 1, "greet").await, open(&world, 2, "greet").await);
    world.answer(&one.client, &one.question, "Ada").await;
    assert!(world.resume(&other.client, &other.event).await.text().is_none(), "another call");
    assert_eq!(world.resume(&one.client, &one.event).await.text().as_deref(), Some(" Ada 1"));

    let first = open(&world, 3, "twice").await;
    world.answer(&first.client, &first.question, "Ada").await;
    let second = world.resume(&first.client, &first.event).await;
    // The first round's question, answered again, is no answer to the second round.
    world.answer(&first.client, &first.question, "Eve").await;
    assert!(world.resume(&first.client, &second.last_id()).await.text().is_none(), "another round");
}

#[tokio::test]
async fn answers_are_bounded_and_malformed_ones_end_the_call() {
    let world = World::default();
    let own = open(&world, 1, "greet").await;
    let before = world.operations();
    assert_eq!(
        world.answer(&own.client, &own.question, &"x".repeat(65_536)).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(world.operations(), before);
    assert_eq!(world.answer(&own.client, &own.question, &"x".repeat(4000)).await.status, StatusCode::ACCEPTED);
    assert!(world.resume(&own.client, &own.event).await.text().unwrap().contains("xxx"));

    for result in [json!([1]), json!(7), json!({ "action": "accept", "content": 7 }), json!({ "action": "x" })] {
        let own = open(&world, 1, "greet").await;
        world.post(&own.client, json!({ "jsonrpc": "2.0", "id": own.question, "result": result })).await;
        let text = world.resume(&own.client, &own.event).await.body;
        assert!(text.contains("malformed"), "{text}");
    }
    assert_eq!(world.effects(), 1);
}

/// A client of 2025-11-25 has no multi round-trip requests.
#[tokio::test]
async fn state_and_answers_in_the_parameters_of_a_call_are_ignored() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let mut message = call(1, "greet");
    message["params"]["inputResponses"] = json!({ "name": { "action": "accept", "content": { "name": "Eve" } } });
    message["params"]["requestState"] = json!("x");

    let asked = world.post(&client, message).await;

    assert_eq!(asked.questions().len(), 1);
    assert!(world.resume(&client, &asked.last_id()).await.text().is_none());
}
