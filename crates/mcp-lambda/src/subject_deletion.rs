//! Deletion of the rows that the store has of a person: an event of the function that runs tasks, or of that with the URL.
//!
//! Both have the state key, from which the keys of rows are derived. An event of an HTTP request never is one of these, with any content that its
//! caller sends. The event has no authentication code: a principal with the permission to invoke the function directly can delete.

use mcp_server::{
    BoxError, Invocation, error_chain,
    json::{self, Budget},
    store::SealedStore,
};
use serde::Deserialize;
use serde_json::json;

/// The member of an event, near its begin: other events are not parsed.
const NAME: &[u8] = b"mcpDeleteSubject";
const NAME_WITHIN: usize = 64;
/// Maximum size of an event.
const MAX_EVENT_BYTES: usize = 8 * 1024;
const EVENT_BUDGET: Budget = Budget::memory(32 * 1024);
/// Rows that one operation of the store deletes, and as many counters.
const BATCH: usize = 500;
/// Maximum number of operations: a person who still calls writes new rows.
const MAX_BATCHES: usize = 100;

/// `{"mcpDeleteSubject":{"issuer":"…","subject":"…"}}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    #[serde(rename = "mcpDeleteSubject")]
    subject: Subject,
}

/// The person whose rows an event deletes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    issuer: String,
    subject: String,
}

impl Subject {
    /// Parses an event; `None` for another one.
    pub(crate) fn of(event: &[u8]) -> Option<Self> {
        let begin = &event[..event.len().min(NAME_WITHIN)];
        if event.len() > MAX_EVENT_BYTES || !begin.windows(NAME.len()).any(|part| part == NAME) {
            return None;
        }
        let Event { subject } = json::read_bytes(event, EVENT_BUDGET).ok()?;
        (!subject.issuer.is_empty() && !subject.subject.is_empty()).then_some(subject)
    }

    /// Deletes the rows of the person, of all clients. Returns the response of the invocation: how many were deleted, and how many are
    /// left.
    ///
    /// # Errors
    ///
    /// When the store is away. Some rows may have been deleted.
    pub(crate) async fn delete(self, store: &SealedStore, invocation: &Invocation) -> Result<Vec<u8>, BoxError> {
        let request_id = &invocation.request_id;
        let (mut deleted, mut left) = (0, 0);
        for _ in 0..MAX_BATCHES {
            let batch = store.delete_subject(&self.issuer, &self.subject, BATCH).await.inspect_err(|error| {
                tracing::error!(
                    request_id,
                    deleted,
                    error = error_chain(error),
                    "could not delete the rows of a person"
                );
            })?;
            (deleted, left) = (deleted + batch.deleted, batch.left);
            let is_over = invocation.answer_by().is_some_and(|end| end <= std::time::Instant::now());
            if left == 0 || is_over {
                break;
            }
        }
        tracing::info!(request_id, deleted, left, "the rows of a person were deleted");
        Ok(serde_json::to_vec(&json!({ "deleted": deleted, "left": left }))?)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use mcp_server::{
        Principal,
        store::{Content, Kind, MemoryStore, StoreId, StoreKeys},
    };

    use super::*;

    const KIND: Kind = Kind::new("task");

    fn event(issuer: &str, subject: &str) -> Vec<u8> {
        json!({ "mcpDeleteSubject": { "issuer": issuer, "subject": subject } }).to_string().into_bytes()
    }

    #[test]
    fn only_an_event_that_names_a_person_deletes() {
        assert!(Subject::of(&event("https://issuer.example", "ada")).is_some());
        for other in [
            event("", "ada"),
            event("https://issuer.example", ""),
            event("https://issuer.example", &"a".repeat(MAX_EVENT_BYTES)),
            br#"{"mcpDueTasks":{}}"#.to_vec(),
            br#"{"version":"2.0","rawPath":"/mcpDeleteSubject","mcpDeleteSubject":{"issuer":"i","subject":"s"}}"#
                .to_vec(),
            br#"{"mcpDeleteSubject":{"issuer":"i","subject":"s","all":true}}"#.to_vec(),
            br#"{"mcpDeleteSubject":{"issuer":"i","subject":"s"},"mcpDueTasks":{}}"#.to_vec(),
            br#"{"mcpDeleteSubject":{"issuer":"i"}}"#.to_vec(),
            vec![b'['; 5000],
            Vec::new(),
        ] {
            assert!(Subject::of(&other).is_none(), "{:.100}", String::from_utf8_lossy(&other));
        }
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

        let subject = Subject::of(&event("https://issuer.example", "ada")).unwrap();
        let response = subject.delete(&store, &Invocation::default()).await.unwrap();

        assert_eq!(response, br#"{"deleted":701,"left":0}"#);
        let mut kept = Vec::new();
        for caller in others {
            kept.push(store.get(&StoreId { kind: KIND, caller, id: b"x" }).await.unwrap().is_some());
        }
        assert_eq!(kept, [false, true, true, true]);
    }
}
