//! A store that is away or does not reply: polls go on, and the call ends when the store is back.

use tokio::time::Instant;

use super::{
    store::Health::{self, Away, Hanging, Well},
    *,
};

impl World {
    fn set_health(&self, health: Health) {
        *self.store.health.lock().unwrap() = health;
    }
}

#[tokio::test(start_paused = true)]
async fn polls_go_on_while_the_store_is_away() {
    for mut world in worlds() {
        for health in [Away, Hanging] {
            world.effects = Arc::default();
            let logs = capture_logs();
            let client = world.client(Some("ada")).await;
            let asked = world.post(&client, call(1, "greet")).await;
            world.set_health(health);
            let (mut id, mut progress) = (asked.last_id(), 1.0);
            for _ in 0..5 {
                let begin = Instant::now();
                let poll = world.resume(&client, &id).await;
                assert!(begin.elapsed() <= Duration::from_secs(3), "{health:?}: {:?}", begin.elapsed());
                assert_eq!(poll.status, StatusCode::OK);
                let last = poll.events().pop().unwrap();
                assert!(last.data.is_empty() && last.retry.is_some_and(|retry| retry <= 2000));
                assert_ne!(poll.last_id(), id, "a client ignores an id that it has seen");
                id = poll.last_id();
                // Some clients have a time limit that only progress extends.
                let messages = poll.messages();
                assert_eq!(messages.len(), 1);
                let reported = messages[0]["params"]["progress"].as_f64().unwrap();
                assert!(reported > progress, "{reported}");
                progress = reported;
            }
            let warnings = logs.lines().into_iter().filter(|line| line["level"] == "WARN");
            let warnings: Vec<_> = warnings.map(|line| line["message"].clone()).collect();
            assert_eq!(warnings, vec![json!("the store of open questions failed"); 5]);
            world.set_health(Well);

            world.answer(&client, &asked.questions()[0], "Ada").await;
            assert_eq!(world.resume(&client, &id).await.text().as_deref(), Some(" Ada 1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_and_cancellations_wait_for_the_store_for_ten_seconds() {
    for health in [Away, Hanging] {
        let world = World::default();
        let client = world.client(Some("ada")).await;
        let asked = world.post(&client, call(1, "greet")).await;
        world.set_health(health);
        let begin = Instant::now();
        let answered = world.answer(&client, &asked.questions()[0], "Ada").await;
        let params = json!({ "requestId": 1 });
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        let cancelled = world.post(&client, cancel).await;
        let refused = world.post(&client, call(2, "greet")).await;

        assert!(begin.elapsed() <= Duration::from_secs(30), "{:?}", begin.elapsed());
        for reply in [answered, cancelled] {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{health:?}");
            assert_eq!(reply.headers["retry-after"], "2");
        }
        assert!(refused.text().unwrap().contains("try again later"), "{}", refused.body);
        world.set_health(Well);
        world.answer(&client, &asked.questions()[0], "Ada").await;
        assert_eq!(world.resume(&client, &asked.last_id()).await.text().as_deref(), Some(" Ada 1"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_answers_before_the_deadline_of_the_platform() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    world.set_health(Hanging);
    let client = Client { time: Some(Duration::from_secs(1)), ..client };
    for what in ["poll", "answer", "call"] {
        let begin = Instant::now();
        match what {
            "poll" => world.resume(&client, &asked.last_id()).await,
            "answer" => world.answer(&client, &asked.questions()[0], "Ada").await,
            _ => world.post(&client, call(2, "greet")).await,
        };
        assert!(begin.elapsed() < Duration::from_secs(1), "{what}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_lost_the_questions_gets_them_when_the_store_is_back() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let first = asked.events()[0].id.clone().unwrap();
    world.set_health(Away);
    let poll = world.resume(&client, &first).await;
    assert!(poll.questions().is_empty());
    world.set_health(Well);

    assert_eq!(world.resume(&client, &poll.last_id()).await.questions().len(), 1);
}

/// Without the store nothing tells whether an expired call has ended.
#[tokio::test]
async fn a_poll_of_an_expired_call_is_503_while_the_store_is_away() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let late = Client { later: Duration::from_secs(600), ..client };
    world.set_health(Away);

    let reply = world.resume(&late, &asked.last_id()).await;

    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers["retry-after"], "2");
}

/// What a client must not see twice, if the handler runs again.
#[tokio::test]
async fn nothing_of_a_handler_is_sent_if_its_outcome_cannot_be_stored() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "breaks")).await;
    world.answer(&client, &asked.questions()[0], "Ada").await;

    let poll = world.resume(&client, &asked.last_id()).await;

    assert_eq!((poll.status, world.effects()), (StatusCode::OK, 1));
    let methods: Vec<_> = poll.messages().iter().map(|message| message["method"].clone()).collect();
    assert_eq!(methods, ["notifications/progress"], "that of the poll");
    assert_eq!(poll.messages()[0]["params"]["message"], "waiting for an answer");
    world.set_health(Well);
    assert!(world.resume(&client, &poll.last_id()).await.text().is_none(), "the claim is held");
}

/// In stream mode a response may be large. These notifications are kept in memory until the handler ends or asks.
#[tokio::test]
async fn notifications_before_a_question_are_bounded() {
    for world in worlds() {
        let client = world.client(Some("ada")).await;

        let asked = world.post(&client, call(1, "chats")).await;

        assert_eq!(asked.questions().len(), 1);
        assert!(asked.body.len() < 1024 * 1024 + 64 * 1024, "{}", asked.body.len());
        assert!(asked.body.len() > 900 * 1024, "{}", asked.body.len());
    }
}

/// A buffered response is a JSON string: each quote in it takes two bytes.
#[tokio::test]
async fn a_resumed_response_fits_after_escaping() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let behind_a_load_balancer =
        Client { source: Some(EventSource::LoadBalancer { multi_value: false }), ..client.clone() };
    let asked = world.post(&client, call(1, "quotes")).await;
    world.answer(&client, &asked.questions()[0], "Ada").await;

    let done = world.resume(&behind_a_load_balancer, &asked.last_id()).await;

    assert!(done.text().unwrap().starts_with('"'));
    let encoded = Value::from(done.body.as_str()).to_string();
    assert!(encoded.len() <= 1024 * 1024, "{}", encoded.len());
}
