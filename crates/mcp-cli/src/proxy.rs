//! `mcpl proxy`: a client that speaks stdio, in front of a server that speaks HTTP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use mcp_protocol::{ErrorObject, jsonrpc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};

use crate::{
    message::{Envelope, Kind, error_response},
    upstream::Upstream,
};

const INITIALIZED: &str = "notifications/initialized";
/// For what comes after `initialized` to wait.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
const CANCELLED: &str = "notifications/cancelled";
/// What is still asked when the client hangs up may be answered for so long.
const GRACE: Duration = Duration::from_secs(30);

/// Passes messages between standard input and output and a server, until the input ends.
pub(crate) async fn run(upstream: Upstream, output: mpsc::UnboundedReceiver<String>) -> anyhow::Result<()> {
    let upstream = Arc::new(upstream);
    let writer = tokio::spawn(write(output));
    let mut input = BufReader::new(tokio::io::stdin());
    let mut tasks = Tasks::default();
    let in_flight = InFlight::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line may be megabytes long.
        if input.read_until(b'\n', &mut line).await.context("could not read from the client")? == 0 {
            break;
        }
        while tasks.waited_for.try_join_next().is_some() {}
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match Envelope::parse(&text) {
            Ok(envelope) => take(&upstream, envelope, &in_flight, &mut tasks).await,
            Err(error) => {
                let error = ErrorObject::new(jsonrpc::PARSE_ERROR, format!("mcpl: this line is no message: {error}"));
                upstream.send(error_response(None, &error));
            }
        }
    }
    let _ = tokio::time::timeout(GRACE, async { while tasks.waited_for.join_next().await.is_some() {} }).await;
    tasks.waited_for.shutdown().await;
    tasks.background.shutdown().await;
    upstream.close().await;
    drop(upstream);
    writer.await?
}

async fn take(upstream: &Arc<Upstream>, envelope: Envelope, in_flight: &InFlight, tasks: &mut Tasks) {
    let own = Arc::clone(upstream);
    match &envelope.kind {
        Kind::Request { id, .. } => {
            let (key, is_modern) = (id.get().to_owned(), envelope.modern_version().is_some());
            let (ended, done) = (key.clone(), in_flight.clone());
            let handle = tasks.waited_for.spawn(async move {
                own.pass(&envelope).await;
                done.remove(&ended);
            });
            in_flight.insert(key, Request { handle, is_modern });
        }
        // A modern server is told by the end of the connection.
        Kind::Notification { method, .. } if method == CANCELLED && in_flight.cancel_modern(&envelope) => {}
        // A server with sessions must have heard it before whatever comes next.
        Kind::Notification { method, .. } if method == INITIALIZED => {
            let (told, is_told) = oneshot::channel();
            tasks.background.spawn(async move {
                own.pass(&envelope).await;
                let _ = told.send(());
                own.listen().await;
            });
            // Not at any price: it may take a sign-in.
            let _ = tokio::time::timeout(ORDER_TIMEOUT, is_told).await;
        }
        Kind::Notification { .. } | Kind::Other => {
            tasks.waited_for.spawn(async move { own.pass(&envelope).await });
        }
    }
}

#[derive(Default)]
struct Tasks {
    /// Answers that the client waits for.
    waited_for: JoinSet<()>,
    /// What a server says by itself.
    background: JoinSet<()>,
}

/// Requests that have no answer yet, by their ids as they were written.
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

    /// Breaks off the request that a notification names, if it is a modern one.
    fn cancel_modern(&self, cancelled: &Envelope) -> bool {
        let Some(params) = cancelled.params() else { return false };
        let Ok(Some(id)) = mcp_protocol::lookup(params, &["requestId".to_owned()]) else { return false };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_modern = requests.get(id.get()).is_some_and(|request| request.is_modern);
        if is_modern && let Some(request) = requests.remove(id.get()) {
            request.handle.abort();
        }
        is_modern
    }
}

/// One message a line, whole, in the order in which they come.
async fn write(mut output: mpsc::UnboundedReceiver<String>) -> anyhow::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(mut line) = output.recv().await {
        line.push('\n');
        stdout.write_all(line.as_bytes()).await.context("could not write to the client")?;
        stdout.flush().await.context("could not write to the client")?;
    }
    Ok(())
}
