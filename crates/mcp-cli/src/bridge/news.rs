//! What a legacy server says by itself, for the subscriptions of a client that knows no sessions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_protocol::{ErrorObject, json, jsonrpc, method};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::sync::{mpsc, oneshot};

use super::{ACKNOWLEDGED, Link, announces, member, params_text};
use crate::{
    message::{Envelope, Kind, Shape, with_members},
    received,
    upstream::{Line, Output, send},
};

/// Notifications and requests of the server outside of calls, and the subscriptions to them.
pub(super) struct News {
    link: Arc<Link>,
    /// The server's.
    capabilities: Box<RawValue>,
    /// By the ids of their `subscriptions/listen`.
    listeners: Mutex<HashMap<String, Listener>>,
    /// What takes the messages of calls that may be asked something.
    calls: Mutex<Vec<mpsc::WeakUnboundedSender<Line>>>,
}

struct Listener {
    filter: Filter,
    /// Dropped at the end.
    _open: oneshot::Sender<()>,
}

/// `SubscriptionFilter`.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tools_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prompts_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resources_list_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource_subscriptions: Vec<String>,
}

impl Filter {
    fn lets_through(&self, notification: &Envelope) -> bool {
        match notification.method() {
            Some("notifications/tools/list_changed") => self.tools_list_changed,
            Some("notifications/prompts/list_changed") => self.prompts_list_changed,
            Some("notifications/resources/list_changed") => self.resources_list_changed,
            Some("notifications/resources/updated") => {
                notification.param(&["uri"]).is_some_and(|uri| self.resource_subscriptions.contains(&uri))
            }
            _ => false,
        }
    }
}

impl News {
    pub(super) fn of(link: &Arc<Link>, capabilities: &RawValue) -> Self {
        Self {
            link: Arc::clone(link),
            capabilities: capabilities.to_owned(),
            listeners: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Answers `subscriptions/listen` until it is cancelled.
    pub(super) async fn tell(&self, envelope: &Envelope, id: &RawValue) {
        let filter = envelope.params().and_then(|params| member(params, "notifications"));
        let wanted: Filter = filter.and_then(|own| received::read(own.get()).ok()).unwrap_or_default();
        let filter = self.supported(wanted).await;
        let (open, closed) = oneshot::channel();
        let acknowledged = json!({ "notifications": filter }).to_string();
        send(&self.link.client, for_listener(id, ACKNOWLEDGED, &acknowledged));
        self.listeners().insert(id.get().to_owned(), Listener { filter, _open: open });
        let _ = closed.await;
    }

    /// The part of a filter that the server supports.
    async fn supported(&self, wanted: Filter) -> Filter {
        let has = |kind: &str, news: &str| announces(&self.capabilities, kind, news);
        let mut resource_subscriptions = Vec::new();
        if has("resources", "subscribe") {
            for uri in wanted.resource_subscriptions {
                let subscribe = json!({ "uri": uri }).to_string();
                let subscribed = self.link.request(method::RESOURCES_SUBSCRIBE, &subscribe).await;
                if json::borrow::<Shape<'_>>(&subscribed).is_ok_and(|shape| shape.result.is_some()) {
                    resource_subscriptions.push(uri);
                }
            }
        }
        Filter {
            tools_list_changed: wanted.tools_list_changed && has("tools", "listChanged"),
            prompts_list_changed: wanted.prompts_list_changed && has("prompts", "listChanged"),
            resources_list_changed: wanted.resources_list_changed && has("resources", "listChanged"),
            resource_subscriptions,
        }
    }

    /// Records a call, for requests of the server outside of its stream.
    pub(super) fn note_call(&self, output: &Output) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| call.upgrade().is_some());
        calls.push(output.downgrade());
    }

    /// The only call that is open, if it is the only one.
    fn only_call(&self) -> Option<Output> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = calls.iter().filter_map(mpsc::WeakUnboundedSender::upgrade);
        open.next().filter(|_| open.next().is_none())
    }

    /// Handles a request of the server outside of a call: it belongs to the only open call.
    async fn take_request(&self, line: Line, id: &RawValue, method: &str) {
        if method == method::PING {
            self.link.reply(id, r#""result":{}"#).await;
        } else if let Some(call) = self.only_call() {
            send(&call, line);
        } else {
            tracing::info!(method, "the server asks something outside of any call");
            let error = ErrorObject::new(jsonrpc::METHOD_NOT_FOUND, "no call is open that such a request could be of");
            self.link.reply(id, &format!(r#""error":{}"#, json!(error))).await;
        }
    }

    pub(super) async fn listen(self: Arc<Self>) {
        let (output, mut lines) = mpsc::unbounded_channel::<Line>();
        let listening = async {
            self.link.upstream.listen(&output).await;
            drop(output);
        };
        let forwarding = async {
            while let Some(line) = lines.recv().await {
                let Ok(message) = Envelope::parse(&line.text) else { continue };
                match &message.kind {
                    Kind::Request { id, method, .. } => self.take_request(line, id, method).await,
                    Kind::Notification { .. } => _ = self.take(&line, &message),
                    Kind::Other => tracing::info!("the server sent a response outside of any call"),
                }
            }
        };
        tokio::join!(listening, forwarding);
    }

    /// Forwards a change notification to the subscriptions. Returns whether it is one.
    pub(super) fn take(&self, line: &Line, notification: &Envelope) -> bool {
        const NEWS: [&str; 2] = ["/list_changed", "notifications/resources/updated"];
        let method = notification.method().unwrap_or_default();
        if !NEWS.iter().any(|end| method.ends_with(end)) {
            return false;
        }
        for (id, listener) in self.listeners().iter() {
            if let (true, Ok(id)) = (listener.filter.lets_through(notification), json::borrow(id)) {
                let text = for_listener(id, method, params_text(&notification.kind));
                send(&self.link.client, line.followed_by(text));
            }
        }
        true
    }

    /// Ends the subscription with that id. Returns whether there was one.
    pub(super) fn end(&self, id: &RawValue) -> bool {
        self.listeners().remove(id.get()).is_some()
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<String, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A notification with the id of the `subscriptions/listen` that it belongs to.
fn for_listener(id: &RawValue, method: &str, params: &str) -> String {
    let params = with_members(params, &format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#));
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}
