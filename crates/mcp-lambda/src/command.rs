//! Commands: events of direct invocations, each for a function of its own. An event of an HTTP request never is one, with any content that
//! its caller sends: it has other members.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use mcp_server::{
    BoxError, Invocation,
    json::{self, Budget},
};
use serde_json::Value;

use crate::McpService;

/// Maximum size of an event.
const MAX_EVENT_BYTES: usize = 8 * 1024;
const EVENT_BUDGET: Budget = Budget::memory(64 * 1024);

/// The run of an event that is no HTTP request. Its output is the JSON of the response.
pub(crate) type Job = Pin<Box<dyn Future<Output = Result<Vec<u8>, BoxError>> + Send>>;
type Run = dyn Fn(Value, Invocation) -> Job + Send + Sync;

/// A command of a service.
#[derive(Clone)]
pub(crate) struct Command {
    name: &'static str,
    run: Arc<Run>,
}

impl McpService {
    /// Runs `command` for each event `{"NAME": …}` of a direct invocation of the function, with the value of that member: at most 8 KiB. Its
    /// JSON is the response of the invocation, its error the error of the invocation. A principal with the
    /// permission `lambda:InvokeFunction` may send commands; requests of the Function URL are none.
    ///
    /// A later call with the same name replaces the command. A server with a store has the command `mcpDeleteSubject`, which deletes the
    /// rows of a person.
    #[must_use]
    pub fn command<F, Fut>(mut self, name: &'static str, command: F) -> Self
    where
        F: Fn(Value, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, BoxError>> + Send + 'static,
    {
        let run = move |value, invocation| -> Job {
            let result = command(value, invocation);
            Box::pin(async { Ok(serde_json::to_vec(&result.await?)?) })
        };
        let commands = Arc::make_mut(&mut self.commands);
        commands.retain(|own| own.name != name);
        commands.push(Command { name, run: Arc::new(run) });
        self
    }

    /// The run of the command that an event is; `None` for another event, of which only the name of the first member is read.
    pub(crate) fn command_of(&self, event: &[u8], invocation: &Invocation) -> Option<Job> {
        let Command { name, run } = self.commands.iter().find(|own| begins_with(event, own.name))?;
        if event.len() > MAX_EVENT_BYTES {
            return None;
        }
        let mut members: BTreeMap<String, Value> = json::read_bytes(event, EVENT_BUDGET).ok()?;
        let value = members.remove(*name)?;
        members.is_empty().then(|| run(value, invocation.clone()))
    }
}

/// Whether an event is an object whose first member has this name, written without escapes.
fn begins_with(event: &[u8], name: &str) -> bool {
    let name_begins = || event.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"");
    let rest = name_begins().and_then(|rest| rest.strip_prefix(name.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"\""))
}

#[cfg(test)]
mod tests {
    use mcp_server::Server;
    use serde_json::json;

    use super::*;
    use crate::HttpConfig;

    fn service() -> McpService {
        let service = McpService::new(Server::new("keys", "0.1.0", ()), HttpConfig::default()).unwrap();
        let service = service.command("key", async |_, _| Ok(json!("another")));
        let service = service.command("keys", async |_, _| Ok(json!("replaced")));
        service.command("keys", async |value, invocation: Invocation| {
            if value == "fail" { Err("no keys".into()) } else { Ok(json!([value, invocation.request_id])) }
        })
    }

    #[tokio::test]
    async fn an_event_with_the_name_alone_is_a_command() {
        let invocation = Invocation { request_id: "a-1".to_owned(), ..Invocation::default() };

        let done = service().command_of(br#"{"keys":{"rotate":true}}"#, &invocation).unwrap().await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&done).unwrap(), json!([{ "rotate": true }, "a-1"]));

        let other = service().command_of(b" {\n\t\"key\" : {}}\n", &invocation).unwrap().await.unwrap();
        assert_eq!(other, br#""another""#);

        let failed = service().command_of(br#"{"keys":"fail"}"#, &invocation).unwrap().await.unwrap_err();
        assert_eq!(failed.to_string(), "no keys");
    }

    #[test]
    fn no_other_event_is_a_command() {
        let long = format!(r#"{{"keys":"{}"}}"#, "a".repeat(MAX_EVENT_BYTES));
        for event in [
            r#"{"version":"2.0","rawPath":"/mcp","keys":{}}"#,
            r#"{"keys":{},"mcpDueTasks":{}}"#,
            r#"{"KEYS":{}}"#,
            r#"{"\u006beys":{}}"#,
            r#"{"version":"2.0","keys":{}}"#,
            r#"{"keys":{"a":1,}}"#,
            r#""keys""#,
            r#"[{"keys":{}}]"#,
            "{",
            "",
            &long,
            &"[".repeat(5000),
        ] {
            assert!(service().command_of(event.as_bytes(), &Invocation::default()).is_none(), "{event:.60}");
        }
        let without = McpService::new(Server::new("keys", "0.1.0", ()), HttpConfig::default()).unwrap();
        assert!(without.command_of(br#"{"keys":{}}"#, &Invocation::default()).is_none());
    }
}
