//! Requests that arrive twice, in parallel, or whose response is lost: the handler's effect exists once.

use super::*;

#[tokio::test]
async fn parallel_polls_run_the_handler_once() {
    for world in worlds() {
        for round in 1..=10 {
            let client = world.client(Some("ada")).await;
            let asked = world.post(&client, call(round, "greet")).await;
            world.answer(&client, &asked.questions()[0], "Ada").await;
            let id = asked.last_id();

            let (one, other) = tokio::join!(world.resume(&client, &id), world.resume(&client, &id));

            let expected = format!(" Ada {round}");
            for reply in [one, other] {
                let text = match reply.text() {
                    Some(text) => text,
                    // It was running in the other environment.
                    None => world.resume(&client, &reply.last_id()).await.text().unwrap(),
                };
                assert_eq!(text, expected);
            }
            assert_eq!(world.effects(), round);
        }
    }
}

#[tokio::test]
async fn a_response_that_is_cut_at_any_byte_can_be_resumed() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let mut resumed_from = std::collections::BTreeSet::new();
    for end in 0..asked.body.len() {
        let received = events(&asked.body[..end]);
        let Some(id) = received.iter().filter_map(|event| event.id.clone()).next_back() else { continue };
        let has_question = received.iter().any(|event| event.data.contains("elicitation/create"));
        if !resumed_from.insert(id.clone()) {
            continue;
        }
        for _ in 0..2 {
            let again = world.resume(&client, &id).await;
            assert_eq!(again.questions().is_empty(), has_question, "{end}");
        }
    }
    assert_eq!(resumed_from.len(), 2, "before and after the question");

    let question = asked.questions().remove(0);
    for _ in 0..2 {
        assert_eq!(world.answer(&client, &question, "Ada").await.status, StatusCode::ACCEPTED);
    }
    // Every id of the stream, those of cut responses too, leads to the same outcome.
    for id in resumed_from.into_iter().chain([asked.last_id()]) {
        for _ in 0..2 {
            assert_eq!(world.resume(&client, &id).await.text().as_deref(), Some(" Ada 1"));
        }
    }
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_client_that_disconnects_while_the_handler_runs_gets_the_outcome_later() {
    for world in worlds() {
        let client = world.client(Some("ada")).await;
        let asked = world.post(&client, call(1, "greet")).await;
        world.answer(&client, &asked.questions()[0], "Ada").await;
        // The body of this response is never read.
        let request = client.request("GET").header("last-event-id", asked.last_id());
        let mut request: Request<bytes::Bytes> = request.body(bytes::Bytes::new()).unwrap();
        let principal = Some(Arc::new(Principal::new("https://issuer.example", "ada")));
        request.extensions_mut().insert(Invocation { principal, ..Invocation::default() });
        drop(world.environment().handle(request).await);

        assert_eq!(world.resume(&client, &asked.last_id()).await.text().as_deref(), Some(" Ada 1"));
        assert_eq!(world.effects(), 1);
    }
}

#[tokio::test]
async fn an_expired_question_ends_its_call_with_an_error() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let late = Client { later: Duration::from_secs(600), ..client };

    let ended = world.resume(&late, &asked.last_id()).await.messages();

    assert_eq!(ended[0]["id"], 1);
    assert!(ended[0]["error"]["message"].as_str().unwrap().contains("expired"), "{ended:?}");
}

#[tokio::test]
async fn a_caller_has_at_most_twenty_open_questions() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let mut asked = Vec::new();
    for id in 0..20 {
        asked.push(world.post(&client, call(id, "greet")).await);
    }
    assert!(asked.iter().all(|reply| reply.questions().len() == 1));
    let refused = world.post(&client, call(20, "greet")).await;
    assert!(refused.text().unwrap().contains("too many questions are open"), "{}", refused.body);
    let eve = world.client(Some("eve")).await;
    assert_eq!(world.post(&eve, call(1, "greet")).await.questions().len(), 1, "another caller");

    world.answer(&client, &asked[0].questions()[0], "Ada").await;
    world.resume(&client, &asked[0].last_id()).await;
    assert_eq!(world.post(&client, call(21, "greet")).await.questions().len(), 1);
}

#[tokio::test]
async fn anonymous_callers_of_one_site_fill_only_their_own_group() {
    let world = World::default();
    let from = async |address: &str| {
        let client = Client { address: Some(address.parse().unwrap()), ..Client::default() };
        let reply = world.post(&client, initialize("2025-11-25")).await;
        Client { session: Some(reply.headers["mcp-session-id"].to_str().unwrap().to_owned()), ..client }
    };
    // A flood: each call has a session and an address of its own.
    for number in 0..20 {
        let client = from(&format!("2001:db8:0:{number:x}::1")).await;
        assert_eq!(world.post(&client, call(1, "greet")).await.questions().len(), 1, "{number}");
    }
    let flooding = from("2001:db8::ffff:ffff:ffff:ffff").await;
    let refused = world.post(&flooding, call(1, "greet")).await;
    assert!(refused.text().unwrap().contains("too many questions are open"), "{}", refused.body);

    for other in ["2001:db8:1::1", "192.0.2.7", "198.51.100.7"] {
        let client = from(other).await;
        let asked = world.post(&client, call(1, "greet")).await;
        assert_eq!(asked.questions().len(), 1, "{other}");
        // The client moves to another network in the middle of the call, and cancels there.
        let moved = Client { address: Some("203.0.113.9".parse().unwrap()), ..client };
        let params = json!({ "requestId": 1 });
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        world.post(&moved, cancel).await;
        let ended = world.resume(&moved, &asked.last_id()).await.messages();
        assert_eq!(ended[0]["error"]["message"], "the request was cancelled", "{other}");
    }
}

/// At each byte, the client resumes twice in parallel: from the last event that it has received as a whole.
#[tokio::test]
async fn a_resumed_stream_that_is_cut_at_any_byte_can_be_resumed_again() {
    for world in worlds() {
        let client = world.client(Some("ada")).await;
        let asked = world.post(&client, call(1, "cut")).await;
        let polled = cut_everywhere(&world, &client, &asked.last_id()).await;
        assert!(polled.iter().all(|reply| reply.text().is_none()));
        assert_eq!(world.answer(&client, &asked.questions()[0], "Ada").await.status, StatusCode::ACCEPTED);
        // The second question.
        let second = cut_everywhere(&world, &client, &asked.last_id()).await;
        let second = second.into_iter().find(|reply| !reply.questions().is_empty()).unwrap();
        assert_eq!(world.effects(), 1, "before the second question");
        for question in second.questions() {
            world.answer(&client, &question, "Lovelace").await;
        }
        let done = cut_everywhere(&world, &client, &second.last_id()).await;

        assert_eq!(done.last().unwrap().text().as_deref(), Some("Ada Lovelace"));
        assert_eq!(world.effects(), 2, "each round ran once");
    }
}

/// Resumes from an id, cuts the response at each byte, and resumes twice in parallel from there. Returns the responses, that to
/// `id` last.
async fn cut_everywhere(world: &World, client: &Client, id: &str) -> Vec<Reply> {
    let mut replies = Vec::from(resume_twice(world, client, id).await);
    let mut resumed_from = std::collections::BTreeSet::new();
    for index in 0..2 {
        let body = replies[index].body.clone();
        for end in 0..=body.len() {
            let last = events(&body[..end]).into_iter().filter_map(|event| event.id).next_back();
            let last = last.unwrap_or_else(|| id.to_owned());
            if resumed_from.insert(last.clone()) {
                let both = resume_twice(world, client, &last).await;
                assert!(both.iter().all(|reply| reply.status == StatusCode::OK), "{end}");
                replies.extend(both);
            }
        }
    }
    replies.push(world.resume(client, id).await);
    replies
}

/// Resumes twice in parallel.
async fn resume_twice(world: &World, client: &Client, id: &str) -> [Reply; 2] {
    // Boxed, because the future of a request is large.
    tokio::join!(Box::pin(world.resume(client, id)), Box::pin(world.resume(client, id))).into()
}
