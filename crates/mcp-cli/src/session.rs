//! One request after the other, for commands that use a server themselves.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mcp_protocol::{ProtocolVersion, meta, method};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    message::Envelope,
    output::printable_line,
    received::{self, Pages},
    upstream::Upstream,
};

/// A server that has said what it speaks.
pub(crate) struct Session {
    upstream: Upstream,
    is_modern: bool,
    next_id: u64,
}

impl Session {
    /// Finds out which era the server is of: the modern one if it answers `server/discover`.
    pub(crate) async fn start(upstream: Upstream) -> anyhow::Result<Self> {
        let mut own = Self { upstream, is_modern: true, next_id: 0 };
        let error = match own.exchange(method::SERVER_DISCOVER, json!({}), &mut Pages::default()).await? {
            Answer::Result(_) => return Ok(own),
            Answer::Error(message) => message,
        };
        // The errors of others do not begin so: there is no server to try again at.
        if let Some(failure) = error.strip_prefix("mcpl: ") {
            bail!("{failure}");
        }
        own.is_modern = false;
        let params = json!({
            "protocolVersion": ProtocolVersion::LATEST_LEGACY.as_str(),
            "capabilities": {},
            "clientInfo": client_info(),
        });
        own.request(method::INITIALIZE, params).await.context("could not start a session")?;
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        let (output, _) = mpsc::unbounded_channel();
        own.upstream.pass(&initialized, &output).await;
        Ok(own)
    }

    /// The result of a request. Progress is shown on the way.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.request_page(method, params, &mut Pages::default()).await
    }

    /// The same for one page of several.
    async fn request_page(&mut self, method: &str, params: Value, pages: &mut Pages) -> anyhow::Result<Value> {
        match self.exchange(method, params, pages).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error(message) => bail!("{message}"),
        }
    }

    /// All tools, of all pages.
    ///
    /// # Errors
    ///
    /// When the pages have no end, or are too large altogether.
    pub(crate) async fn tools(&mut self) -> anyhow::Result<Vec<Value>> {
        let (mut tools, mut pages) = (Vec::new(), Pages::default());
        let mut params = json!({});
        loop {
            let page = self.request_page(method::TOOLS_LIST, params, &mut pages).await?;
            let page: ToolsPage = serde_json::from_value(page).context("the server's answer is no list of tools")?;
            tools.extend(page.tools);
            let Some(cursor) = page.next_cursor else { return Ok(tools) };
            pages.next(&cursor)?;
            params = json!({ "cursor": cursor });
        }
    }

    pub(crate) async fn close(&self) {
        self.upstream.close().await;
    }

    async fn exchange(&mut self, method: &str, mut params: Value, pages: &mut Pages) -> anyhow::Result<Answer> {
        self.next_id += 1;
        let mut own_meta = json!({ "progressToken": self.next_id });
        if self.is_modern {
            own_meta[meta::PROTOCOL_VERSION] = json!(ProtocolVersion::LATEST.as_str());
            own_meta[meta::CLIENT_CAPABILITIES] = json!({});
            own_meta[meta::CLIENT_INFO] = client_info();
        }
        params["_meta"] = own_meta;
        let message = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
        let envelope = Envelope::parse(&message.to_string())?;
        let (output, mut others) = mpsc::unbounded_channel();
        let asking = async {
            let response = self.upstream.request(&envelope, &output).await;
            drop(output);
            response
        };
        let telling = async {
            let line = progress_line(method);
            while let Some(message) = others.recv().await {
                tell_progress(&received::read(&message.text).unwrap_or_default(), &line);
            }
            line.finish_and_clear();
        };
        let (response, ()) = tokio::join!(asking, telling);
        let response = pages.read(&response).context("the server's answer cannot be read")?;
        Answer::of(response)
    }
}

/// A response.
#[derive(Debug)]
pub(crate) enum Answer {
    /// An object, as every result is.
    Result(Value),
    /// What it says.
    Error(String),
}

impl Answer {
    pub(crate) fn of(mut response: Value) -> anyhow::Result<Self> {
        if let Some(error) = response.get("error") {
            let message = error["message"].as_str().unwrap_or("the server answered with an error");
            return Ok(Self::Error(message.to_owned()));
        }
        match response.get_mut("result").map(Value::take) {
            Some(result @ Value::Object(_)) => Ok(Self::Result(result)),
            _ => bail!("the server's answer has neither an error nor a result that is an object"),
        }
    }
}

/// `ListToolsResult`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolsPage {
    tools: Vec<Value>,
    next_cursor: Option<String>,
}

fn client_info() -> Value {
    json!({ "name": "mcpl", "version": env!("CARGO_PKG_VERSION") })
}

/// A line on standard error that says how long it takes, if that is a terminal.
fn progress_line(method: &str) -> ProgressBar {
    let line = ProgressBar::new_spinner().with_message(method.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        line.set_style(style);
    }
    line.enable_steady_tick(Duration::from_millis(100));
    line
}

fn tell_progress(message: &Value, line: &ProgressBar) {
    if message["method"] == method::NOTIFICATIONS_PROGRESS {
        let params = &message["params"];
        let number = |name: &str| params[name].as_f64();
        let total = number("total").map(|total| format!(" of {total}")).unwrap_or_default();
        let text = params["message"].as_str().unwrap_or_default();
        let told = printable_line(&format!("{}{total} {text}", number("progress").unwrap_or_default()));
        match std::io::stderr().is_terminal() {
            true => line.set_message(told),
            false => tracing::warn!("{told}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.7: an array in place of a result has crashed `mcpl tools`.
    #[test]
    fn a_result_is_an_object() {
        for result in ["[]", "null", "1", "\"x\"", "[[{}],\"c\"]"] {
            let response = received::read(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
            assert!(Answer::of(response).is_err(), "{result}");
        }
        for response in [json!([]), json!(null), json!([{ "result": {} }]), json!({ "id": 1 })] {
            assert!(Answer::of(response).is_err());
        }
        for error in [json!([]), json!("x"), json!({ "message": 1 })] {
            let answer = Answer::of(json!({ "error": error })).unwrap();
            assert!(matches!(answer, Answer::Error(text) if text == "the server answered with an error"));
        }
    }
}
