//! Responses, and the events of a stream as a client reads them.

use http::StatusCode;
use serde_json::Value;

/// A response with its body.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

/// An event of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) retry: Option<u64>,
    pub(super) data: String,
}

impl Reply {
    pub(super) fn events(&self) -> Vec<Event> {
        events(&self.body)
    }

    /// The messages of the stream or body.
    pub(super) fn messages(&self) -> Vec<Value> {
        match self.body.starts_with('{') {
            true => vec![serde_json::from_str(&self.body).unwrap()],
            false => {
                let events = self.events().into_iter().filter(|event| !event.data.is_empty());
                events.map(|event| serde_json::from_str(&event.data).unwrap()).collect()
            }
        }
    }

    /// The id from which the client resumes.
    pub(super) fn last_id(&self) -> String {
        self.events().into_iter().filter_map(|event| event.id).next_back().unwrap()
    }

    /// The ids of the questions.
    pub(super) fn questions(&self) -> Vec<String> {
        let questions = self.messages().into_iter().filter(|message| message["method"].is_string());
        questions.filter_map(|message| message["id"].as_str().map(str::to_owned)).collect()
    }

    /// The text of the tool's result.
    pub(super) fn text(&self) -> Option<String> {
        let message = self.messages().pop()?;
        Some(message["result"]["content"][0]["text"].as_str()?.to_owned())
    }
}

pub(super) fn events(body: &str) -> Vec<Event> {
    // A client ignores an event that is cut.
    let whole = body.rfind("\n\n").map_or("", |end| &body[..end]);
    let events = whole.split("\n\n").filter(|event| !event.is_empty()).map(|event| {
        let mut own = Event::default();
        for line in event.lines() {
            match line.split_once(": ").unwrap() {
                ("id", id) => own.id = Some(id.to_owned()),
                ("retry", retry) => own.retry = retry.parse().ok(),
                ("data", data) => own.data = data.to_owned(),
                other => panic!("{other:?}"),
            }
        }
        own
    });
    events.collect()
}
