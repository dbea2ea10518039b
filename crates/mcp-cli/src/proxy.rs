//! `mcpl proxy`: a client that speaks stdio, in front of a server that speaks HTTP.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::FutureExt as _;
use mcp_protocol::{ErrorObject, jsonrpc};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
    task::{self, AbortHandle, JoinError, JoinSet},
};

use crate::{
    bridge::Bridge,
    interruption::{Interruption, interrupted},
    message::{Envelope, Kind, error_response},
    upstream::{Line, Upstream},
};

const INITIALIZED: &str = "notifications/initialized";
/// How long messages after `initialized` wait for it.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
const CANCELLED: &str = "notifications/cancelled";
/// Timeout of open requests after the client has closed standard input.
const GRACE: Duration = Duration::from_secs(30);

/// Passes messages between standard input and output and a server, until the input ends.
///
/// # Errors
///
/// Also an [`Interruption`] when a signal came first.
pub(crate) async fn run(upstream: Upstream) -> anyhow::Result<()> {
    let (client, output) = mpsc::unbounded_channel();
    let bridge = Arc::new(Bridge::new(upstream, client));
    let mut writer = tokio::spawn(write(output));
    let mut input = BufReader::new(tokio::io::stdin());
    let mut tasks = Tasks::default();
    let in_flight = InFlight::default();
    let mut line = Vec::new();
    let mut interrupted = std::pin::pin!(interrupted());
    let end = loop {
        line.clear();
        // A line may be megabytes long.
        let read = tokio::select! {
            read = input.read_until(b'\n', &mut line) => read.context("could not read from the client")?,
            written = &mut writer => break End::Reader(written?),
            interruption = &mut interrupted => break End::Signal(interruption),
        };
        if read == 0 {
            break End::Input;
        }
        while tasks.waited_for.try_join_next().is_some() {}
        let text = String::from_utf8_lossy(&line);
        // Some programs on Windows begin with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            continue;
        }
        match Envelope::parse(text) {
            Ok(envelope) => take(&bridge, envelope, &in_flight, &mut tasks).await,
            Err(error) => {
                let error = ErrorObject::new(jsonrpc::PARSE_ERROR, format!("mcpl: this line is no message: {error}"));
                bridge.say(error_response(None, &error));
            }
        }
    };
    if matches!(end, End::Input) {
        let answering = async { while tasks.waited_for.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, answering).await;
    }
    tasks.waited_for.abort_all();
    let mut unanswered = Vec::new();
    while let Some(ended) = tasks.waited_for.join_next_with_id().await {
        unanswered.extend(ended.err().filter(JoinError::is_cancelled).map(|own| own.id()));
    }
    if matches!(end, End::Input) {
        in_flight.answer(&unanswered, &bridge);
    }
    tasks.background.shutdown().await;
    bridge.close().await;
    drop(bridge);
    match end {
        End::Reader(written) => written,
        End::Input => writer.await?,
        End::Signal(interruption) => {
            writer.await??;
            Err(interruption.into())
        }
    }
}

/// The reason for which the proxy ends.
enum End {
    /// The client has closed standard input.
    Input,
    /// The client has closed standard output.
    Reader(anyhow::Result<()>),
    Signal(Interruption),
}

async fn take(bridge: &Arc<Bridge>, envelope: Envelope, in_flight: &InFlight, tasks: &mut Tasks) {
    let own = Arc::clone(bridge);
    match &envelope.kind {
        Kind::Request { id, .. } => {
            let (key, is_modern) = (id.get().to_owned(), envelope.modern_version().is_some());
            let (ended, done) = (key.clone(), in_flight.clone());
            let handle = tasks.waited_for.spawn(async move {
                if let Some(id) = envelope.id() {
                    answered(&own, id, Box::pin(own.pass(&envelope))).await;
                }
                done.remove(&ended);
            });
            in_flight.insert(key, Request { handle, is_modern });
        }
        // A modern server is notified by the end of the connection.
        Kind::Notification { method, .. } if method == CANCELLED && in_flight.cancel(&envelope, bridge) => {}
        // A server with sessions must have received it before the next message.
        Kind::Notification { method, .. } if method == INITIALIZED => {
            let (sent, is_sent) = oneshot::channel();
            tasks.background.spawn(async move {
                own.pass(&envelope).await;
                let _ = sent.send(());
                own.listen().await;
            });
            // With a timeout, since it may take a sign-in.
            let _ = tokio::time::timeout(ORDER_TIMEOUT, is_sent).await;
        }
        Kind::Notification { .. } | Kind::Other => {
            tasks.waited_for.spawn(async move { own.pass(&envelope).await });
        }
    }
}

/// Forwards a request, and responds with an error if that panics.
async fn answered(bridge: &Bridge, id: &RawValue, passing: impl Future<Output = ()>) {
    if AssertUnwindSafe(passing).catch_unwind().await.is_err() {
        let error = ErrorObject::new(
            jsonrpc::INTERNAL_ERROR,
            "mcpl: could not pass the request on: its task panicked, as standard error says",
        );
        bridge.say(error_response(Some(id), &error));
    }
}

#[derive(Default)]
struct Tasks {
    /// Tasks of pending requests.
    waited_for: JoinSet<()>,
    /// Tasks that forward other messages of the server.
    background: JoinSet<()>,
}

/// Pending requests, by their ids as they were sent.
#[derive(Debug, Clone, Default)]
struct InFlight(Arc<Mutex<HashMap<String, Request>>>);

#[derive(Debug)]
struct Request {
    handle: AbortHandle,
    is_modern: bool,
}

impl InFlight {
    fn insert(&self, id: String, request: Request) {
        // It may have ended before it was noted.
        if !request.handle.is_finished() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, request);
        }
    }

    fn remove(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Responds to requests whose tasks were aborted after the client closed standard input.
    fn answer(&self, broken_off: &[task::Id], bridge: &Bridge) {
        let error = ErrorObject::new(
            jsonrpc::INTERNAL_ERROR,
            format!("mcpl: standard input has ended, and there was no answer within {} s", GRACE.as_secs()),
        );
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, _) in requests.iter().filter(|(_, request)| broken_off.contains(&request.handle.id())) {
            bridge.say(error_response(RawValue::from_string(id.clone()).ok().as_deref(), &error));
        }
    }

    /// Aborts the request that a notification names, if the end of its connection cancels it.
    fn cancel(&self, cancelled: &Envelope, bridge: &Bridge) -> bool {
        let Some(params) = cancelled.params() else { return false };
        let Ok(Some(id)) = mcp_protocol::lookup(params, &["requestId".to_owned()]) else { return false };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let breaks_off = requests.get(id.get()).is_some_and(|request| bridge.cancels_by_closing(id, request.is_modern));
        if breaks_off && let Some(request) = requests.remove(id.get()) {
            request.handle.abort();
        }
        breaks_off
    }
}

/// One message a line, whole, in the order in which they come.
async fn write(mut output: mpsc::UnboundedReceiver<Line>) -> anyhow::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(mut line) = output.recv().await {
        line.text.push('\n');
        stdout.write_all(line.text.as_bytes()).await.context("could not write to the client")?;
        stdout.flush().await.context("could not write to the client")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorizer::Authorizer;

    /// 8.7
    #[tokio::test]
    async fn a_request_whose_task_panics_is_answered() {
        let upstream = Upstream::new(reqwest::Client::new(), Duration::MAX, String::new(), Authorizer::Headers);
        let (client, mut output) = mpsc::unbounded_channel();
        let bridge = Bridge::new(upstream, client);
        let id = RawValue::from_string("1e2".to_owned()).unwrap();

        answered(&bridge, &id, async { panic!("an arithmetic overflow") }).await;
        answered(&bridge, &id, async {}).await;
        drop(bridge);

        let answer = output.recv().await.unwrap().text;
        assert!(
            answer.starts_with(r#"{"jsonrpc":"2.0","id":1e2,"error":{"code":-32603,"message":"mcpl: "#),
            "{answer}"
        );
        assert!(output.recv().await.is_none(), "one answer, and none to what has not panicked");
    }
}
