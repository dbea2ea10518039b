//! What a handler sends before its result or its questions, and the events of a stream.

use std::borrow::Cow;

use mcp_protocol::{RequestId, RequestMeta, method};
use mcp_server::{
    Call, CallOutcome, CallResponse, Resolved,
    legacy::{Replay, StreamEvent},
};
use serde::Deserialize;

use super::{Exchange, REVISION};
use crate::sse::PendingEvents;

/// Maximum size of the notifications that wait for the result or the questions of a handler, also where the URL streams. Later ones are
/// dropped.
const MAX_PENDING_BYTES: usize = 1024 * 1024;

/// The notifications of a handler, without those that an earlier round sent.
pub(super) struct Notifications {
    pub(super) events: PendingEvents,
    /// Log messages of this run.
    seen: u32,
    /// Log messages of all rounds.
    pub(super) logs: u32,
    /// The last progress of all rounds.
    pub(super) progress: Option<f64>,
}

impl Notifications {
    pub(super) fn new(exchange: &Exchange<'_>, replay: Option<&Replay>) -> Self {
        Self {
            events: PendingEvents::bounded(exchange.limits.max_bytes, MAX_PENDING_BYTES),
            seen: 0,
            logs: replay.map_or(0, Replay::logs),
            progress: replay.and_then(Replay::progress),
        }
    }

    pub(super) async fn run(
        &mut self,
        exchange: &Exchange<'_>,
        resolved: Resolved<'_>,
        id: RequestId,
        meta: RequestMeta,
    ) -> CallOutcome {
        let (sender, mut receiver) = exchange.notifications(&meta, REVISION);
        let mut work = match resolved.run(Call { id, meta, notifications: sender }) {
            CallResponse::Ready(outcome) => return *outcome,
            CallResponse::Pending(work) => work,
        };
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut work => break outcome,
                Some(notification) = receiver.recv() => self.push(&notification),
            }
        };
        while let Ok(notification) = receiver.try_recv() {
            self.push(&notification);
        }
        outcome
    }

    fn push(&mut self, notification: &str) {
        #[derive(Deserialize)]
        struct Own<'a> {
            #[serde(borrow)]
            method: Cow<'a, str>,
            params: Params,
        }
        #[derive(Deserialize)]
        struct Params {
            #[serde(default)]
            progress: Option<f64>,
        }
        // Unbounded JSON: a notification of this server.
        let Ok(own) = serde_json::from_str::<Own<'_>>(notification) else { return };
        match own.params.progress.filter(|_| own.method == method::NOTIFICATIONS_PROGRESS) {
            Some(progress) if self.progress.is_some_and(|last| progress <= last) => return,
            Some(progress) => self.progress = Some(progress),
            None => {
                self.seen += 1;
                if self.seen <= self.logs {
                    return;
                }
                self.logs = self.seen;
            }
        }
        self.events.push(notification);
    }
}

/// Formats events of a stream. An event without data has an empty `data` line: parsers ignore events without one.
pub(super) fn rendered(events: &[StreamEvent]) -> String {
    let mut text = String::new();
    for StreamEvent { id, retry, data } in events {
        if let Some(id) = id {
            text.push_str(&format!("id: {id}\n"));
        }
        if let Some(retry) = retry {
            text.push_str(&format!("retry: {}\n", retry.as_millis()));
        }
        text.push_str(&format!("data: {data}\n\n"));
    }
    text
}
