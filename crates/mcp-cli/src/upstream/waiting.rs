//! Requests that wait for a token: the server has not received them, or has rejected them.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
};

use serde_json::value::RawValue;

use super::Upstream;
use crate::message::Envelope;

impl Upstream {
    /// Whether the request with this client id waits for a token.
    pub(crate) fn waits_for_token(&self, id: &RawValue) -> bool {
        self.waiting().contains(id.get())
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits a token for a request and marks the request as waiting until then.
    pub(super) async fn while_waiting<T>(&self, sent: &Envelope, token: impl Future<Output = T>) -> T {
        let _waiting = sent.client_id().map(|id| Waiting::of(self, id.get()));
        token.await
    }
}

/// Marks a request as waiting, also if its task is aborted.
struct Waiting<'a> {
    upstream: &'a Upstream,
    id: &'a str,
}

impl<'a> Waiting<'a> {
    fn of(upstream: &'a Upstream, id: &'a str) -> Self {
        upstream.waiting().insert(id.to_owned());
        Self { upstream, id }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.upstream.waiting().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::authorizer::Authorizer;
    #[cfg(unix)]
    use crate::authorizer::TokenCommand;

    fn upstream(url: String, authorizer: Authorizer) -> Upstream {
        Upstream::new(reqwest::Client::new(), Duration::from_secs(60), url, authorizer)
    }

    #[tokio::test]
    async fn a_list_has_a_timeout_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp?key=secret", listener.local_addr().unwrap());
        let own = upstream(url, Authorizer::Headers).with_list_patience(Duration::from_millis(300));
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            // Until the client closes it.
            let _ = connection.read_to_end(&mut Vec::new());
            let (mut connection, _) = listener.accept().unwrap();
            let mut next = Vec::new();
            while !next.windows(8).any(|part| part == br#""params""#) {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                next.extend(byte);
            }
            String::from_utf8(next).unwrap()
        });
        let (output, _lines) = mpsc::unbounded_channel();
        let list = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).unwrap();

        let response = own.request(&list, &output).await;

        assert!(response.contains("the answer took longer than 300ms"), "{response}");
        let next = server.join().unwrap();
        assert!(next.contains("notifications/cancelled") && !next.contains("tools/list"), "{next}");
    }

    #[tokio::test]
    async fn an_error_shows_no_query() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let own = upstream(format!("http://{address}/mcp?key=secret"), Authorizer::Headers);
        let (output, _lines) = mpsc::unbounded_channel();
        let call = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#).unwrap();

        let response = own.request(&call, &output).await;

        assert!(response.contains(&format!("could not reach http://{address}/mcp: ")), "{response}");
        assert!(!response.contains("secret"), "{response}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_request_waits_until_there_is_a_token() {
        let command = TokenCommand::new("sleep 60".to_owned(), Duration::MAX);
        let own = std::sync::Arc::new(upstream("http://127.0.0.1:9/mcp".to_owned(), Authorizer::Command(command)));
        let (output, _lines) = mpsc::unbounded_channel();
        let id = RawValue::from_string("7".to_owned()).unwrap();
        assert!(!own.waits_for_token(&id));
        let sending = std::sync::Arc::clone(&own);
        let task = tokio::spawn(async move {
            let list = Envelope::parse(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#).unwrap();
            sending.pass(&list, &output).await;
        });

        while !own.waits_for_token(&id) {
            tokio::task::yield_now().await;
        }
        task.abort();
        _ = task.await;

        assert!(!own.waits_for_token(&id));
    }
}
