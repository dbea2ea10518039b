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

/// Ids that their sender should not have, or that are not those of the open round.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Attack {
    Forged,
    Malformed,
    OtherKey,
    OtherServer,
    OtherCaller,
    NoCaller,
    OtherCall,
    OtherRound,
    Replayed,
    Late,
    Oversized,
    Swapped,
    Session,
}

const ATTACKS: [Attack; 13] = {
    use Attack::*;
    [
        Forged,
        Malformed,
        OtherKey,
        OtherServer,
        OtherCaller,
        NoCaller,
        OtherCall,
        OtherRound,
        Replayed,
        Late,
        Oversized,
        Swapped,
        Session,
    ]
};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Action {
    Answer,
    Poll,
    Cancel,
}

const ACTIONS: [Action; 3] = [Action::Answer, Action::Poll, Action::Cancel];

impl Attack {
    /// The status of an action, and whether it may use the store.
    fn expected(self, action: Action) -> (u16, bool) {
        use Action::*;
        use Attack::*;
        match (self, action) {
            // Ids of this caller and server, for another call or round, or once more: they do nothing there.
            (OtherCall | OtherRound | Replayed, Answer) => (202, true),
            (OtherCall | OtherRound | Replayed | Late, Poll) => (200, true),
            (_, Answer | Poll) => (400, false),
            // A session belongs to no caller: the calls of the sender are looked up.
            (OtherCaller | NoCaller | OtherCall | OtherRound | Replayed | Late, Cancel) => (202, true),
            (_, Cancel) => (202, false),
        }
    }
}

/// A call of Ada's, and what the attack sends.
struct Attacked {
    own: Open,
    service: McpService,
    client: Client,
    event: String,
    question: String,
    request_id: u32,
}

async fn attacked(world: &World, attack: Attack) -> Attacked {
    let tool = if attack == Attack::OtherRound { "twice" } else { "greet" };
    let own = open(world, 1, tool).await;
    let changed = |id: &str| {
        let flip = |byte: char| if byte == 'A' { 'B' } else { 'A' };
        let (head, tail) = id.split_at(id.len() / 2);
        format!("{head}{}{}", flip(tail.chars().next().unwrap()), &tail[1..])
    };
    let mut sent = Attacked {
        service: world.environment(),
        client: own.client.clone(),
        event: own.event.clone(),
        question: own.question.clone(),
        request_id: 1,
        own,
    };
    let session = sent.client.session.clone().unwrap();
    let mut with_session = |id: String| sent.client.session = Some(id);
    match attack {
        Attack::Forged => {
            with_session(changed(&session));
            (sent.event, sent.question) = (changed(&sent.event), changed(&sent.question));
        }
        Attack::Malformed => {
            with_session("x".to_owned());
            (sent.event, sent.question) = ("x".to_owned(), "x".to_owned());
        }
        Attack::OtherKey => {
            let key = StateKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
            sent.service = world.environment_of("asking", key);
        }
        Attack::OtherServer => sent.service = world.environment_of("other", mcp_testing::state_key()),
        Attack::OtherCaller => sent.client.subject = Some("eve".to_owned()),
        Attack::NoCaller => sent.client.subject = None,
        Attack::OtherCall => {
            let asked = world.post(&sent.client, call(2, "greet")).await;
            (sent.event, sent.question) = (asked.last_id(), asked.questions().remove(0));
            sent.request_id = 2;
        }
        Attack::OtherRound => {
            world.answer(&sent.own.client, &sent.question, "Ada").await;
            let second = world.resume(&sent.own.client, &sent.event).await;
            (sent.own.event, sent.own.question) = (second.last_id(), second.questions().remove(0));
            // A cancellation names no round: that of another session.
            sent.client.session = world.client(Some("ada")).await.session;
        }
        Attack::Replayed => {
            world.answer(&sent.own.client, &sent.question, "Ada").await;
            assert_eq!(world.resume(&sent.own.client, &sent.event).await.text().as_deref(), Some(" Ada 1"));
        }
        Attack::Late => sent.client.later = Duration::from_secs(3600),
        Attack::Oversized => {
            with_session("A".repeat(10_000));
            (sent.event, sent.question) = ("A".repeat(10_000), "A".repeat(10_000));
        }
        Attack::Swapped => {
            with_session(sent.event.clone());
            (sent.event, sent.question) = (sent.question.clone(), sent.event.clone());
        }
        Attack::Session => {
            with_session(sent.question.clone());
            (sent.event, sent.question) = (session.clone(), session);
        }
    }
    sent
}

/// Every combination, in both invoke modes: none reaches the open call, and none that was not issued to its sender the store.
#[tokio::test]
async fn no_foreign_id_is_accepted_and_none_reaches_the_store() {
    for mode in MODES {
        for (attack, action) in ATTACKS.into_iter().flat_map(|attack| ACTIONS.map(|action| (attack, action))) {
            let world = World { mode, ..World::default() };
            let Attacked { own, service, client, event, question, request_id } = attacked(&world, attack).await;
            let (before, effects) = (world.operations(), world.effects());
            let reply = match action {
                Action::Poll => {
                    let request = client.request("GET").header("last-event-id", &event);
                    send(&service, &client, request, String::new()).await
                }
                Action::Answer => {
                    let result = json!({ "action": "accept", "content": { "name": "Mallory" } });
                    let body = json!({ "jsonrpc": "2.0", "id": question, "result": result });
                    send(&service, &client, client.request("POST"), body.to_string()).await
                }
                Action::Cancel => {
                    let params = json!({ "requestId": request_id });
                    let body = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
                    send(&service, &client, client.request("POST"), body.to_string()).await
                }
            };

            let (status, may_use_store) = attack.expected(action);
            assert_eq!(reply.status.as_u16(), status, "{attack:?} {action:?}: {}", reply.body);
            assert!(may_use_store || world.operations() == before, "{attack:?} {action:?}");
            assert_eq!(world.effects(), effects, "{attack:?} {action:?}");
            assert!(!reply.body.contains("Mallory"), "{attack:?} {action:?}");
            // The call goes on as if nothing had been sent.
            let expected = if attack == Attack::OtherRound { "Ada Lovelace" } else { " Ada 1" };
            world
                .answer(&own.client, &own.question, if attack == Attack::OtherRound { "Lovelace" } else { "Ada" })
                .await;
            let done = world.resume(&own.client, &own.event).await;
            assert_eq!(done.text().as_deref(), Some(expected), "{attack:?} {action:?}");
        }
    }
}

/// What an id that is accepted elsewhere gets.
#[tokio::test]
async fn a_late_poll_ends_and_a_replayed_one_gets_the_stored_outcome() {
    let world = World::default();
    for (attack, expected) in [(Attack::Late, "the question expired"), (Attack::Replayed, " Ada 1")] {
        let sent = attacked(&world, attack).await;

        let reply = world.resume(&sent.client, &sent.event).await;

        assert!(reply.body.contains(expected), "{attack:?}: {}", reply.body);
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
