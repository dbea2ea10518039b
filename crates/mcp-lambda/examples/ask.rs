//! A tool that asks the user. The server has a store, here in Postgres, so that it can also ask clients of 2025-11-25: they post the
//! answer in a request of its own, which may reach another environment. Needs `DATABASE_URL` and `MCP_STATE_KEY`.

use std::process::ExitCode;

use garde::Validate;
use mcp_lambda::{
    HandlerError, HttpConfig, InitError, InteractiveContext, McpService, NoArguments, Server, Tool,
    postgres::{DatabaseConfig, PostgresStore},
};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema, Validate)]
struct Size {
    /// Number of people; 1 to 20.
    #[garde(range(min = 1, max = 20))]
    people: u8,
}

async fn book_table(context: InteractiveContext<()>, _: NoArguments) -> Result<String, HandlerError> {
    // The question ends the request. With the answer, the handler runs again from its start, and gets past this line.
    let answer = context.elicit::<Size>("size", "A table for how many people?").await;
    let Some(Size { people }) = answer.accepted() else {
        return Err(HandlerError::failed("No table was booked: the user did not say for how many people."));
    };
    Ok(format!("Booked a table for {people}."))
}

fn tool() -> Tool<()> {
    Tool::new("book_table", book_table).description("Books a table. Asks the user for how many people.")
}

async fn service((http, database): (HttpConfig, DatabaseConfig)) -> Result<McpService, InitError> {
    let server = Server::new("tables", "1.0.0", ()).store(PostgresStore::new(database)).tool(tool());
    McpService::new(server, http)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Request};
    use http_body_util::BodyExt;
    use mcp_lambda::store::MemoryStore;
    use mcp_testing::TestCall;
    use serde_json::{Value, json};

    use super::*;

    /// Sends a request of a client of 2025-11-25 to a new environment.
    async fn send(store: &MemoryStore, method: &str, headers: &[(&str, &str)], body: &str) -> (HeaderMap, String) {
        let config = HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
        let server = Server::new("tables", "1.0.0", ()).store(store.clone()).tool(tool());
        let service = McpService::new(server, config).unwrap();
        let mut request = Request::builder().method(method).uri("/mcp").header("content-type", "application/json");
        request = request.header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = service.handle(request.body(body.to_owned().into()).unwrap()).await;
        let (head, body) = response.into_parts();
        assert!(head.status.is_success(), "{}", head.status);
        let Ok(body) = body.collect().await;
        (head.headers, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    /// Returns the messages of an event stream, and the id from which the client resumes it.
    fn events(body: &str) -> (Vec<Value>, &str) {
        let fields = |name| body.lines().filter_map(move |line| line.strip_prefix(name));
        // Events without data have an id alone.
        let messages = fields("data: ").filter(|data| !data.is_empty());
        let messages = messages.map(|data| serde_json::from_str(data).unwrap());
        (messages.collect(), fields("id: ").next_back().unwrap_or_default())
    }

    #[tokio::test]
    async fn a_client_of_2025_11_25_answers() {
        let store = MemoryStore::new();
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "elicitation": {} },
            "clientInfo": { "name": "test", "version": "1.0.0" },
        });
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let (headers, _) = send(&store, "POST", &[], &initialize.to_string()).await;
        let session = headers["mcp-session-id"].to_str().unwrap();
        let session = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", session)];

        let params = json!({ "name": "book_table", "arguments": {} });
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let (_, stream) = send(&store, "POST", &session, &call.to_string()).await;
        let (messages, resume_from) = events(&stream);
        assert_eq!(messages[0]["params"]["message"], "A table for how many people?");

        let result = json!({ "action": "accept", "content": { "people": 4 } });
        let answer = json!({ "jsonrpc": "2.0", "id": messages[0]["id"], "result": result });
        send(&store, "POST", &session, &answer.to_string()).await;
        let resume = [session[0], session[1], ("last-event-id", resume_from)];
        let (_, stream) = send(&store, "GET", &resume, "").await;

        let response = &events(&stream).0[0];
        assert_eq!(
            (&response["id"], &response["result"]["content"][0]["text"]),
            (&json!(1), &json!("Booked a table for 4."))
        );
    }

    #[tokio::test]
    async fn a_declined_question_books_nothing() {
        let decline = |_: &str, _: &_| json!({ "action": "decline" });

        let reply = TestCall::new(tool()).on_input_request(decline).await;

        assert_eq!(reply.result().is_error, Some(true));
    }
}
