//! A session of a command with a server: one request after the other.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mcp_protocol::{
    ErrorObject, ProtocolVersion,
    json::{self, shortened},
    jsonrpc, meta, method, tasks,
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::mpsc;

use crate::{
    interruption::interrupted,
    json_text::{self, member},
    message::{Envelope, Kind, Shape, error_response, with_members},
    output::{self, printable_line},
    question,
    received::{self, Pages},
    server_error::{NO_MESSAGE, OWN_PREFIX, ServerError},
    upstream::Upstream,
};

const ELICITATION_CREATE: &str = "elicitation/create";
/// Maximum number of rounds of questions for one request.
const MAX_ROUNDS: usize = 20;
/// Timeout of the cancellation of a request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the cancellation of a task, which may take a cold start.
const CANCEL_TASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection with a negotiated revision.
pub(crate) struct Session {
    upstream: Upstream,
    is_modern: bool,
    /// The result of `server/discover` or `initialize`.
    introduction: Value,
    /// Whether the server has rejected the revision of the last request.
    is_refused: bool,
    next_id: u64,
    /// The pending request.
    in_flight: Option<u64>,
    /// Id of the task that an interruption cancels.
    pub(crate) own_task: Option<String>,
    /// What the progress line shows in place of the method, and since when.
    pub(crate) waiting: Option<(String, Instant)>,
}

/// A result, parsed and as text.
pub(crate) struct Reply {
    pub(crate) value: Value,
    pub(crate) text: Box<RawValue>,
}

impl Session {
    /// Detects the server's era: modern if it responds to `server/discover`.
    pub(crate) async fn start(upstream: Upstream) -> anyhow::Result<Self> {
        let mut own = Self {
            upstream,
            is_modern: true,
            introduction: Value::Null,
            is_refused: false,
            next_id: 0,
            in_flight: None,
            own_task: None,
            waiting: None,
        };
        let (answer, response) = own.exchange(method::SERVER_DISCOVER, "{}", &mut Pages::default()).await?;
        match answer {
            Answer::Result(discovered) if speaks_modern(&discovered) => {
                tracing::info!("the server speaks revision {}", ProtocolVersion::LATEST.as_str());
                own.introduction = discovered;
                return Ok(own);
            }
            // The errors of others do not begin so: there is no server to try again at.
            Answer::Error(error) if error.starts_with(OWN_PREFIX) => return Err(ServerError::of(&response).into()),
            Answer::Result(_) | Answer::Error(_) => {}
        }
        own.shake_hands().await?;
        Ok(own)
    }

    /// Begins a session with a legacy server.
    async fn shake_hands(&mut self) -> anyhow::Result<()> {
        self.is_modern = false;
        let params = json!({
            "protocolVersion": ProtocolVersion::LATEST_LEGACY.as_str(),
            "capabilities": question::capabilities(),
            "clientInfo": client_info(),
        });
        let (answer, response) = self.exchange(method::INITIALIZE, &params.to_string(), &mut Pages::default()).await?;
        let welcome = match answer {
            Answer::Result(welcome) => welcome,
            Answer::Error(_) => return Err(ServerError::of(&response)).context("could not start a session"),
        };
        let version = welcome["protocolVersion"].as_str().unwrap_or_default();
        if ProtocolVersion::parse(version).is_none_or(ProtocolVersion::is_modern) {
            self.close().await;
            bail!(
                "the server answers `initialize` with the unknown revision `{version}`: update mcpl if there is a newer one"
            );
        }
        tracing::info!("the server speaks revision {version}: a session begins");
        self.introduction = welcome.clone();
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        let (output, _) = mpsc::unbounded_channel();
        Box::pin(self.upstream.pass(&initialized, &output)).await;
        Ok(())
    }

    /// Whether the server speaks 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.is_modern
    }

    /// The result of `server/discover` or `initialize`.
    pub(crate) fn introduction(&self) -> &Value {
        &self.introduction
    }

    /// Sends a request, whose parameters are an object, and returns its result. Progress is shown.
    async fn request(&mut self, method: &str, params: &str) -> anyhow::Result<Reply> {
        self.request_page(method, params, &mut Pages::default()).await
    }

    /// Sends a request for one page of a list.
    async fn request_page(&mut self, method: &str, params: &str, pages: &mut Pages) -> anyhow::Result<Reply> {
        let (mut answer, mut response) = self.exchange(method, params, pages).await?;
        if self.is_modern && self.is_refused {
            // It may speak an older one (2026-07-28, "Protocol Version Negotiation").
            self.shake_hands().await?;
            (answer, response) = self.exchange(method, params, pages).await?;
        }
        match answer {
            Answer::Result(value) => {
                let result =
                    json::borrow::<Shape<'_>>(&response)?.result.context("the server's answer is no result")?;
                Ok(Reply { value, text: result.to_owned() })
            }
            Answer::Error(_) => Err(ServerError::of(&response).into()),
        }
    }

    /// Sends a request and returns its result; questions of the server are asked at the terminal. The result of `tools/call` may be
    /// a task.
    pub(crate) async fn ask(&mut self, method: &str, params: &str) -> anyhow::Result<Reply> {
        let mut answers = String::new();
        for _ in 0..MAX_ROUNDS {
            let reply = self.request(method, &with_members(params, &answers)).await?;
            match reply.value["resultType"].as_str() {
                None | Some("complete") => return Ok(reply),
                Some("input_required") => answers = answers_to(&reply.text).await?,
                Some("task") if method == method::TOOLS_CALL && self.is_modern => return Ok(reply),
                Some(other) => bail!("the server's answer is of a type that is not known: `{other}`"),
            }
        }
        bail!("the server still has questions after {MAX_ROUNDS} rounds")
    }

    /// Reads all items of a list, of all pages, unchanged. `name` is the member that has them.
    ///
    /// # Errors
    ///
    /// When the pages have no end, or are too large altogether.
    pub(crate) async fn list(&mut self, method: &str, name: &str) -> anyhow::Result<Vec<Box<RawValue>>> {
        let (mut items, mut pages) = (Vec::new(), Pages::default());
        let mut params = "{}".to_owned();
        loop {
            let page = self.request_page(method, &params, &mut pages).await?;
            let listed = member(&page.text, name).and_then(|listed| json_text::items(listed.get()));
            let listed = listed.with_context(|| format!("the server's answer is no list of {name}"))?;
            items.extend(listed.into_iter().map(ToOwned::to_owned));
            let cursor = match &page.value["nextCursor"] {
                Value::Null => return Ok(items),
                Value::String(cursor) => cursor,
                _ => bail!("the server's answer is no list of {name}: its `nextCursor` is no string"),
            };
            pages.next(cursor)?;
            params = json!({ "cursor": cursor }).to_string();
        }
    }

    /// Signs in before a request requires it.
    pub(crate) async fn sign_in_ahead(&self) -> anyhow::Result<()> {
        self.upstream.sign_in_ahead().await
    }

    /// Cancels the pending request and the task of the command, if there are any.
    pub(crate) async fn cancel(&mut self) {
        if let Some(id) = self.own_task.take() {
            self.cancel_task(&id).await;
        }
        // A modern server notices that the connection has ended.
        let Some(id) = self.in_flight.take().filter(|_| !self.is_modern) else { return };
        let params = json!({ "requestId": id, "reason": "interrupted" });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        if let Ok(message) = Envelope::parse(&message.to_string()) {
            let (output, _) = mpsc::unbounded_channel();
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, Box::pin(self.upstream.pass(&message, &output))).await;
        }
    }

    /// Cancels a task after an interruption, and reports the outcome on standard error. A further interruption ends the attempt.
    async fn cancel_task(&mut self, id: &str) {
        let params = json!({ "taskId": id }).to_string();
        let cancelling = tokio::time::timeout(CANCEL_TASK_TIMEOUT, Box::pin(self.ask(method::TASKS_CANCEL, &params)));
        let outcome = tokio::select! {
            cancelled = cancelling => cancelled,
            _ = interrupted() => return output::note("the task is not cancelled"),
        };
        output::note(&match outcome {
            Ok(Ok(_)) => "the task is cancelled".to_owned(),
            Ok(Err(error)) => printable_line(&format!("the task is not cancelled: {error:#}")),
            Err(_) => {
                format!("the task may go on: no answer to its cancellation in {} s", CANCEL_TASK_TIMEOUT.as_secs())
            }
        });
    }

    pub(crate) async fn close(&self) {
        self.upstream.close().await;
    }

    /// Sends a request; the answer, and the response as it was written.
    async fn exchange(&mut self, method: &str, params: &str, pages: &mut Pages) -> anyhow::Result<(Answer, String)> {
        self.next_id += 1;
        let id = self.next_id;
        let mut own_meta = json!({ "progressToken": id });
        if self.is_modern {
            own_meta[meta::PROTOCOL_VERSION] = json!(ProtocolVersion::LATEST.as_str());
            own_meta[meta::CLIENT_CAPABILITIES] = capabilities(method);
            own_meta[meta::CLIENT_INFO] = client_info();
        }
        let params = with_members(params, &format!(r#""_meta":{own_meta}"#));
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, json!(method));
        let envelope = Envelope::parse(&message)?;
        let (output, mut others) = mpsc::unbounded_channel();
        // It stays so when the caller gives up.
        self.in_flight = (method != method::INITIALIZE).then_some(id);
        let waiting = self.waiting.clone();
        let asking = async {
            let response = self.upstream.request(&envelope, &output).await;
            drop(output);
            response
        };
        let reporting = async {
            let line = match &waiting {
                Some((text, since)) => progress_line(text, since.elapsed()),
                None => progress_line(method, Duration::ZERO),
            };
            loop {
                let message = tokio::select! {
                    message = others.recv() => message,
                    () = output::terminal_released() => {
                        line.finish_and_clear();
                        continue;
                    }
                };
                let Some(message) = message else { break };
                let Ok(envelope) = Envelope::parse(&message.text) else { continue };
                if let (Kind::Request { id, method, params }, false) = (&envelope.kind, self.is_modern) {
                    self.answer(id, method, params.as_deref(), &line).await;
                } else {
                    report_progress(&received::read(&message.text).unwrap_or_default(), &line);
                }
            }
            line.finish_and_clear();
        };
        let (response, ()) = tokio::join!(Box::pin(asking), Box::pin(reporting));
        self.in_flight = None;
        let value: Value = pages.read(&response).context("the server's answer cannot be read")?;
        self.is_refused = value["error"]["code"] == jsonrpc::UNSUPPORTED_PROTOCOL_VERSION;
        Ok((Answer::of(value)?, response))
    }

    /// Responds to a request of the server during one of `mcpl`.
    async fn answer(&self, id: &RawValue, method: &str, params: Option<&RawValue>, line: &ProgressBar) {
        let result = match method {
            method::PING => Ok(json!({})),
            ELICITATION_CREATE if question::is_possible() => {
                // It would write over the question.
                line.finish_and_clear();
                question::ask(params)
                    .await
                    .map_err(|error| ErrorObject::new(jsonrpc::INVALID_PARAMS, error.to_string()))
            }
            _ => Err(ErrorObject::new(jsonrpc::METHOD_NOT_FOUND, "mcpl: this client does not answer such requests")),
        };
        let response = match result {
            Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get()),
            Err(error) => error_response(Some(id), &error),
        };
        if let Ok(response) = Envelope::parse(&response) {
            let (output, _) = mpsc::unbounded_channel();
            Box::pin(self.upstream.pass(&response, &output)).await;
        }
    }
}

/// Whether the result of `server/discover` has the revision that is spoken here.
fn speaks_modern(discovered: &Value) -> bool {
    let supported = discovered["supportedVersions"].as_array();
    supported.is_none_or(|supported| supported.iter().any(|own| *own == ProtocolVersion::LATEST.as_str()))
}

/// The members of the next round, which answer the questions of an `InputRequiredResult`.
async fn answers_to(asked: &RawValue) -> anyhow::Result<String> {
    let mut answers = Vec::new();
    for (key, question) in member(asked, "inputRequests").map(|own| json_text::members(own.get())).unwrap_or_default() {
        answers.push(format!("{}:{}", json!(key), answer_to(question).await?));
    }
    let state = member(asked, "requestState").map(|state| format!(r#","requestState":{state}"#)).unwrap_or_default();
    Ok(format!(r#""inputResponses":{{{}}}{state}"#, answers.join(",")))
}

/// Asks a question of the server at the terminal: a request such as `elicitation/create`. Returns its result.
///
/// # Errors
///
/// If it is another request, or there is no terminal.
pub(crate) async fn answer_to(question: &RawValue) -> anyhow::Result<Value> {
    let method = member(question, "method").and_then(|own| json::borrow::<String>(own.get()).ok());
    let method = method.unwrap_or_default();
    if method != ELICITATION_CREATE {
        bail!("the server asks for `{}`, which this command cannot answer", shortened(&method));
    }
    if !question::is_possible() {
        bail!("the server asks a question, and standard input is no terminal: run the command at one");
    }
    question::ask(member(question, "params")).await
}

/// The capabilities of a request of 2026-07-28: calls of tools may become tasks.
fn capabilities(method: &str) -> Value {
    const OF_TASKS: [&str; 4] = [method::TOOLS_CALL, method::TASKS_GET, method::TASKS_UPDATE, method::TASKS_CANCEL];
    let mut own = question::capabilities();
    if OF_TASKS.contains(&method) {
        own["extensions"] = json!({ tasks::EXTENSION: {} });
    }
    own
}

/// A response.
#[derive(Debug)]
pub(crate) enum Answer {
    /// An object, as every result is.
    Result(Value),
    /// The error of the response.
    Error(String),
}

impl Answer {
    pub(crate) fn of(mut response: Value) -> anyhow::Result<Self> {
        if let Some(error) = response.get("error") {
            let message = error["message"].as_str().unwrap_or(NO_MESSAGE);
            return Ok(Self::Error(message.to_owned()));
        }
        match response.get_mut("result").map(Value::take) {
            Some(result @ Value::Object(_)) => match &result["resultType"] {
                Value::Null => Ok(Self::Result(result)),
                Value::String(known) if matches!(known.as_str(), "complete" | "input_required" | "task") => {
                    Ok(Self::Result(result))
                }
                other => bail!("the server's result is of the unknown type {}", shortened(other)),
            },
            _ => bail!("the server's answer has neither an error nor a result that is an object"),
        }
    }
}

fn client_info() -> Value {
    json!({ "name": "mcpl", "version": env!("CARGO_PKG_VERSION") })
}

/// A progress line with a text and the elapsed time, if standard error is a terminal.
pub(crate) fn progress_line(text: &str, elapsed: Duration) -> ProgressBar {
    let line = ProgressBar::new_spinner().with_message(text.to_owned()).with_elapsed(elapsed);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        line.set_style(style);
    }
    line.enable_steady_tick(Duration::from_millis(100));
    line
}

fn report_progress(message: &Value, line: &ProgressBar) {
    if message["method"] == method::NOTIFICATIONS_PROGRESS {
        let params = &message["params"];
        let number = |name: &str| params[name].as_f64();
        let total = number("total").map(|total| format!(" of {total}")).unwrap_or_default();
        let text = params["message"].as_str().unwrap_or_default();
        let line_text = printable_line(&format!("{}{total} {text}", number("progress").unwrap_or_default()));
        match std::io::stderr().is_terminal() {
            true => line.set_message(line_text),
            false => output::note(&line_text),
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
        // C6
        for (kind, is_known) in [
            ("\"complete\"", true),
            ("\"input_required\"", true),
            ("\"task\"", true),
            ("\"later\"", false),
            ("5", false),
        ] {
            let response = received::read(&format!(r#"{{"id":1,"result":{{"resultType":{kind}}}}}"#)).unwrap();
            assert_eq!(Answer::of(response).is_ok(), is_known, "{kind}");
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
