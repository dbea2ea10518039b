//! Polls, answers and cancellations have a count of their own, which an open question does not reach.

use mcp_lambda::RateLimit;

use super::*;

const METHODS: [&str; 3] = ["poll", "answer", "cancel"];
const WINDOW: Duration = Duration::from_secs(300);
/// Ten, and two for each second of the window.
const CONTINUATIONS: usize = 610;

fn limited(world: &World, requests: u32) -> McpService {
    let server = world.server("asking").store(world.store.clone());
    let server = server.limit(RateLimit::per_caller(requests, WINDOW));
    let config = HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
    McpService::new(server, config).unwrap()
}

/// Sends a poll, an answer or a cancellation of call 1.
async fn go_on(service: &McpService, client: &Client, asked: &Reply, what: &str) -> Reply {
    let body = match what {
        "poll" => {
            let request = client.request("GET").header("last-event-id", asked.last_id());
            return send(service, client, request, String::new()).await;
        }
        "answer" => {
            let result = json!({ "action": "accept", "content": { "name": "Ada" } });
            json!({ "jsonrpc": "2.0", "id": asked.questions()[0], "result": result })
        }
        _ => json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
    };
    send(service, client, client.request("POST"), body.to_string()).await
}

fn status(what: &str) -> u16 {
    if what == "poll" { 200 } else { 202 }
}

#[tokio::test]
async fn each_poll_answer_and_cancellation_counts() {
    for subject in [Some("ada"), None] {
        for what in METHODS {
            let world = World::default();
            let mut client = Client { address: Some([192, 0, 2, 7].into()), ..world.client(subject).await };
            // The call alone.
            let service = limited(&world, 1);
            let asked = send(&service, &client, client.request("POST"), call(1, "greet").to_string()).await;
            assert_eq!(asked.questions().len(), 1);
            for _ in 0..CONTINUATIONS {
                assert_eq!(go_on(&service, &client, &asked, what).await.status, status(what), "{what} of {subject:?}");
            }

            let before = world.operations();
            let refused = go_on(&service, &client, &asked, what).await;

            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{what} of {subject:?}");
            let seconds: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=300).contains(&seconds), "{seconds}");
            let error: Value = serde_json::from_str(&refused.body).unwrap();
            // An anonymous caller is counted before its event id is opened.
            let id = if what == "poll" && subject.is_some() { json!(1) } else { Value::Null };
            assert_eq!((&error["error"]["code"], &error["id"]), (&json!(429), &id), "{error}");
            // A caller over the limit asks the store for more once, at the most. An anonymous caller never does.
            let most = if subject.is_some() { 1 } else { 0 };
            assert!(world.operations() - before <= most, "{what} of {subject:?}");
            // All kinds share the count. Another caller has its own.
            for other in METHODS {
                assert_eq!(go_on(&service, &client, &asked, other).await.status, StatusCode::TOO_MANY_REQUESTS);
            }
            client.address = Some([192, 0, 2, 8].into());
            let expected = if subject.is_some() { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
            assert_eq!(go_on(&service, &client, &asked, "poll").await.status, expected, "another address");
        }
    }
}

#[tokio::test]
async fn polls_of_many_environments_share_the_count_of_their_caller() {
    let world = World::default();
    let client = world.client(Some("ada")).await;
    let asked = world.post(&client, call(1, "greet")).await;
    let environments: Vec<_> = (0..5).map(|_| limited(&world, 1)).collect();
    let mut served = 0;
    for environment in &environments {
        while go_on(environment, &client, &asked, "poll").await.status == StatusCode::OK {
            served += 1;
        }
    }

    assert_eq!(served, CONTINUATIONS);
}

#[tokio::test]
async fn a_foreign_id_counts_against_an_address_and_costs_no_operation() {
    let world = World::default();
    let client = Client { address: Some([192, 0, 2, 7].into()), ..world.client(None).await };
    let service = limited(&world, 2);
    let (before, mut statuses) = (world.operations(), Vec::new());
    for id in 0..=CONTINUATIONS {
        let request = client.request("GET").header("last-event-id", id.to_string());
        statuses.push(send(&service, &client, request, String::new()).await.status.as_u16());
    }

    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    assert_eq!(world.operations(), before);
}

#[cfg(feature = "tasks")]
#[tokio::test]
async fn requests_for_tasks_count() {
    use mcp_lambda::Task;
    use mcp_testing::{McpRequest, Via, as_caller, exchange_via};

    async fn job(context: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
        context.once("step", async { Ok::<_, HandlerError>(()) }).await?;
        Ok("done")
    }

    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let tool = Tool::new("job", job).task(Task::ttl(Duration::from_secs(3600)));
        let server = Server::new("tasks", "1.0.0", ()).tool(tool).store(MemoryStore::new());
        let server = server.limit(RateLimit::per_caller(2, WINDOW));
        let config = HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
        let service = McpService::new(server, config).unwrap();
        let mut codes = Vec::new();
        for _ in 0..=CONTINUATIONS {
            let params = json!({ "taskId": "unknown", "inputResponses": {} });
            let capabilities = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
            let request = McpRequest::new(method, params).capabilities(capabilities).header("mcp-name", "unknown");
            let caller = as_caller(Principal::new("https://issuer.example", "ada"));
            codes.push(exchange_via(Via::FunctionUrl, &service, request, caller).await.status_and_code());
        }

        assert_eq!(codes.pop(), Some((429, 429)), "{method}");
        assert!(codes.iter().all(|code| *code == (200, -32602)), "{method}: {codes:?}");
    }
}
