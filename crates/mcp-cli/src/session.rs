//! One request after the other, for commands that use a server themselves.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mcp_protocol::{ProtocolVersion, meta, method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{message::Envelope, output::printable, upstream::Upstream};

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
        let discovered = own.exchange(method::SERVER_DISCOVER, json!({})).await?;
        if discovered.get("result").is_some() {
            return Ok(own);
        }
        // Nobody else's errors begin so: there is no server to try again at.
        if let Some(failure) = discovered["error"]["message"].as_str().and_then(|text| text.strip_prefix("mcpl: ")) {
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

    /// The result of a request. Progress is told on the way.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let mut answer = self.exchange(method, params).await?;
        if let Some(error) = answer.get("error") {
            bail!("{}", error["message"].as_str().unwrap_or("the server answered with an error"));
        }
        Ok(answer["result"].take())
    }

    /// All tools, of all pages.
    pub(crate) async fn tools(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let mut page = self.request(method::TOOLS_LIST, params.clone()).await?;
            if let Value::Array(listed) = page["tools"].take() {
                tools.extend(listed);
            }
            match page["nextCursor"].take() {
                Value::String(cursor) if params["cursor"] != cursor => params = json!({ "cursor": cursor }),
                _ => return Ok(tools),
            }
        }
    }

    pub(crate) async fn close(&self) {
        self.upstream.close().await;
    }

    async fn exchange(&mut self, method: &str, mut params: Value) -> anyhow::Result<Value> {
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
                tell_progress(&serde_json::from_str(&message).unwrap_or_default(), &line);
            }
            line.finish_and_clear();
        };
        let (response, ()) = tokio::join!(asking, telling);
        serde_json::from_str(&response).context("the server's answer is no JSON")
    }
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
        let total = params["total"].as_f64().map(|total| format!(" of {total}")).unwrap_or_default();
        let text = printable(params["message"].as_str().unwrap_or_default());
        let told = format!("{}{total} {text}", params["progress"]);
        match std::io::stderr().is_terminal() {
            true => line.set_message(told),
            false => tracing::warn!("{told}"),
        }
    }
}
