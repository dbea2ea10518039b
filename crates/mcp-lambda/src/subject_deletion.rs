//! Deletion of the rows that the store has of a person: a command of the function that runs tasks, and of that with the URL.
//!
//! Both have the state key, from which the keys of rows are derived. The event has no authentication code: a principal with the permission to
//! invoke the function directly can delete.

use std::time::Instant;

use mcp_server::{BoxError, Invocation, error_chain, store::SealedStore};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::McpService;

const NAME: &str = "mcpDeleteSubject";
/// Rows that one operation of the store deletes, and as many counters.
const BATCH: usize = 500;
/// Maximum number of operations: a person who still calls writes new rows.
const MAX_BATCHES: usize = 100;

/// The person whose rows an event deletes: `{"mcpDeleteSubject":{"issuer":"…","subject":"…"}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    issuer: String,
    subject: String,
}

impl McpService {
    /// Adds the command to a server with a store.
    pub(crate) fn with_subject_deletion(self) -> Self {
        match self.server().store().cloned() {
            Some(store) => self.command(NAME, move |subject, invocation| delete(store.clone(), subject, invocation)),
            None => self,
        }
    }
}

/// Deletes the rows of a person, of all clients. Returns how many were deleted, and how many are left.
///
/// # Errors
///
/// When the value is no person, or the store is away. Some rows may have been deleted.
async fn delete(store: SealedStore, subject: Value, invocation: Invocation) -> Result<Value, BoxError> {
    let Subject { issuer, subject } = serde_json::from_value(subject)?;
    if issuer.is_empty() || subject.is_empty() {
        return Err("issuer and subject must not be empty".into());
    }
    let request_id = &invocation.request_id;
    let (mut deleted, mut left) = (0, 0);
    for _ in 0..MAX_BATCHES {
        let batch = store.delete_subject(&issuer, &subject, BATCH).await.inspect_err(|error| {
            tracing::error!(request_id, deleted, error = error_chain(error), "could not delete the rows of a person");
        })?;
        (deleted, left) = (deleted + batch.deleted, batch.left);
        let is_over = invocation.answer_by().is_some_and(|end| end <= Instant::now());
        if left == 0 || is_over {
            break;
        }
    }
    tracing::info!(request_id, deleted, left, "the rows of a person were deleted");
    Ok(json!({ "deleted": deleted, "left": left }))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use mcp_server::{
        Principal, Server, StateKey,
        store::{Content, Kind, MemoryStore, StoreId, StoreKeys},
    };

    use super::*;
    use crate::HttpConfig;

    const KIND: Kind = Kind::new("task");

    fn event(issuer: &str, subject: &str) -> Vec<u8> {
        json!({ "mcpDeleteSubject": { "issuer": issuer, "subject": subject } }).to_string().into_bytes()
    }

    #[tokio::test]
    async fn a_server_with_a_store_has_the_command_and_needs_a_person() {
        let server = || Server::new("server", "0.1.0", ());
        let state_key = StateKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let config = HttpConfig { state_key, ..HttpConfig::default() };
        let service = McpService::new(server().store(MemoryStore::new()), config.clone()).unwrap();
        let run = |event: &[u8]| service.command_of(event, &Invocation::default());

        let deleted = run(&event("https://issuer.example", "ada")).unwrap().await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&deleted).unwrap(), json!({ "deleted": 0, "left": 0 }));
        for invalid in [
            event("", "ada"),
            event("https://issuer.example", ""),
            br#"{"mcpDeleteSubject":{"issuer":"i","subject":"s","all":true}}"#.to_vec(),
            br#"{"mcpDeleteSubject":{"issuer":"i"}}"#.to_vec(),
            br#"{"mcpDeleteSubject":"s"}"#.to_vec(),
        ] {
            assert!(run(&invalid).unwrap().await.is_err(), "{}", String::from_utf8_lossy(&invalid));
        }
        let request =
            br#"{"version":"2.0","rawPath":"/mcpDeleteSubject","mcpDeleteSubject":{"issuer":"i","subject":"s"}}"#;
        assert!(run(request).is_none());
        let without = McpService::new(server(), config).unwrap();
        assert!(without.command_of(&event("https://issuer.example", "ada"), &Invocation::default()).is_none());
    }

    #[tokio::test]
    async fn all_rows_of_the_person_are_deleted_and_no_others() {
        let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).unwrap();
        let store = SealedStore::new(Arc::new(MemoryStore::new()), keys);
        let (ada, mut other_client) =
            (Principal::new("https://issuer.example", "ada"), Principal::new("https://issuer.example", "ada"));
        other_client.client_id = Some("other".to_owned());
        let bob = Principal::new("https://issuer.example", "bob");
        let foreign = Principal::new("https://other.example", "ada");
        let content = Content { value: b"row", expires_in: Duration::from_secs(60), due_in: None };
        for number in 0..700_u16 {
            let id = StoreId { kind: KIND, caller: Some(&ada), id: &number.to_be_bytes() };
            store.put_if_absent(&id, content).await.unwrap();
        }
        let others = [Some(&other_client), Some(&bob), Some(&foreign), None];
        for caller in others {
            store.put_if_absent(&StoreId { kind: KIND, caller, id: b"x" }, content).await.unwrap();
        }

        let ada = json!({ "issuer": "https://issuer.example", "subject": "ada" });
        let response = delete(store.clone(), ada, Invocation::default()).await.unwrap();

        assert_eq!(response, json!({ "deleted": 701, "left": 0 }));
        let mut kept = Vec::new();
        for caller in others {
            kept.push(store.get(&StoreId { kind: KIND, caller, id: b"x" }).await.unwrap().is_some());
        }
        assert_eq!(kept, [false, true, true, true]);
    }
}
