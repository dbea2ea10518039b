//! Tasks (extension `io.modelcontextprotocol/tasks`): calls of tools that the server goes on with after its response. `mcpl call` waits
//! for their results; `mcpl task` shows, continues and cancels them by their ids.

use std::{
    collections::HashSet,
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use mcp_protocol::{
    json::{self, shortened},
    jsonrpc, method,
    tasks::TaskStatus,
};
use serde_json::{json, value::RawValue};

use crate::{
    ServerArgs, call,
    command_line::{self, UsageError},
    json_text::{self, member},
    output::{self, note, print, printable_line},
    received,
    server_error::ServerError,
    session::{Reply, Session, answer_to, progress_line},
};

/// Maximum length of an id: it is sent in a header.
const MAX_ID_CHARS: usize = 1024;
/// Maximum length of a status message that is shown.
const MAX_MESSAGE_CHARS: usize = 200;
/// Maximum number of questions that a task asks in all.
const MAX_QUESTIONS: usize = 100;
/// Bounds of the time between two requests, for any suggestion of the server.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(250);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Time between two requests if the server suggests none.
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of consecutive requests for the state that fail for now.
const MAX_FAILED_POLLS: u32 = 5;
/// Minimum time before a failed request for the state is repeated.
const FAILED_POLL_PAUSE: Duration = Duration::from_secs(5);
/// How long after its lifetime a task that has not ended is still asked for: clocks and requests take time.
const LIFETIME_GRACE: Duration = Duration::from_secs(60);

/// The commands of `mcpl task`.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Print the status of a task; with --json all of its state, also its result.
    Get {
        #[command(flatten)]
        server: ServerArgs,
        /// The task's id.
        #[arg(help_heading = None)]
        id: String,
    },
    /// Wait for the result of a task and print it, as `mcpl call` does.
    ///
    /// The server's questions are asked at the terminal. Ctrl-C leaves the task running.
    Wait {
        #[command(flatten)]
        server: ServerArgs,
        /// The task's id.
        #[arg(help_heading = None)]
        id: String,
        /// The folder in which images and other files are saved. It must exist.
        #[arg(long, value_name = "FOLDER", default_value = ".", help_heading = None)]
        save_to: PathBuf,
    },
    /// Cancel a task. A server may still end it otherwise: `mcpl task get` shows how.
    Cancel {
        #[command(flatten)]
        server: ServerArgs,
        /// The task's id.
        #[arg(help_heading = None)]
        id: String,
    },
}

/// Runs a command. Returns whether the tool succeeded, of a task whose result is printed.
pub(crate) async fn run(command: &TaskCommand, as_json: bool) -> anyhow::Result<bool> {
    match command {
        TaskCommand::Get { server, id } => {
            check_id(id).map_err(UsageError::new)?;
            let task = server.with_session(async |own| get(own, id).await).await?;
            match as_json {
                true => print(&output::json_as_written(task.reply.text.get())),
                false => print(&task.shown_status()),
            }
            Ok(true)
        }
        TaskCommand::Wait { server, id, save_to } => {
            check_id(id).map_err(UsageError::new)?;
            call::check(&[], Some(save_to))?;
            let waiting = async |own: &mut Session| {
                let task = get(own, id).await?;
                wait(own, task, &server.url).await
            };
            let result = server.with_session(waiting).await?;
            call::show_result(&result, "task", save_to, as_json)
        }
        TaskCommand::Cancel { server, id } => {
            check_id(id).map_err(UsageError::new)?;
            let reply = server.with_session(async |own| request(own, method::TASKS_CANCEL, id, "").await).await?;
            match as_json {
                true => print(&output::json_as_written(reply.text.get())),
                false => note("the server has accepted the cancellation"),
            }
            Ok(true)
        }
    }
}

/// A task, as a response of the server has it.
pub(crate) struct Task {
    id: String,
    status: TaskStatus,
    reply: Reply,
}

impl Task {
    /// Parses the result of a call, or of `tasks/get` for an id.
    ///
    /// # Errors
    ///
    /// If it is no task, or another one.
    pub(crate) fn of(reply: Reply, asked: Option<&str>) -> anyhow::Result<Self> {
        let id = reply.value["taskId"].as_str().unwrap_or_default().to_owned();
        check_id(&id).map_err(|error| anyhow!("the server's task cannot be used: {error}"))?;
        if asked.is_some_and(|asked| asked != id) {
            bail!("the server answered with another task than `{}`", asked.unwrap_or_default());
        }
        let status = &reply.value["status"];
        let known = member(&reply.text, "status").and_then(|own| json::borrow(own.get()).ok());
        let status =
            known.with_context(|| format!("the server's task has the unknown status {}", shortened(status)))?;
        Ok(Self { id, status, reply })
    }

    /// Waits for the result of a call. An interruption cancels the task.
    pub(crate) async fn finish(self, session: &mut Session, url: &str) -> anyhow::Result<Reply> {
        let id = self.id.clone();
        note(&format!("the call goes on as task {id}: Ctrl-C cancels it"));
        session.own_task = Some(id);
        let waited = wait(session, self, url).await;
        session.own_task = None;
        waited
    }

    /// Prints the id for a later `mcpl task wait`.
    pub(crate) fn show_id(&self, url: &str, as_json: bool) {
        match as_json {
            true => print(&output::json_as_written(self.reply.text.get())),
            false => print(&self.id),
        }
        note_going_on(url, &self.id);
    }

    /// The status with its message, on one line.
    fn shown_status(&self) -> String {
        let status = self.reply.value["status"].as_str().unwrap_or_default();
        match self.reply.value["statusMessage"].as_str().filter(|message| !message.is_empty()) {
            Some(message) => format!("{status}: {}", output::excerpt(message, MAX_MESSAGE_CHARS)),
            None => status.to_owned(),
        }
    }

    /// The time until the next request.
    fn poll_interval(&self) -> Duration {
        self.milliseconds("pollIntervalMs").unwrap_or(DEFAULT_POLL_INTERVAL).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
    }

    /// The lifetime; `None` if it has no end.
    fn lifetime(&self) -> Option<Duration> {
        self.milliseconds("ttlMs")
    }

    /// A member that is a number of milliseconds.
    fn milliseconds(&self, name: &str) -> Option<Duration> {
        let ms = self.reply.value[name].as_f64()?;
        Some(Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).unwrap_or(Duration::MAX))
    }

    /// The questions that have no answer yet, by their keys.
    fn questions(&self, answered: &HashSet<String>) -> anyhow::Result<Vec<(String, &RawValue)>> {
        let all =
            member(&self.reply.text, "inputRequests").map(|own| json_text::members(own.get())).unwrap_or_default();
        let open: Vec<_> = all.into_iter().filter(|(key, _)| !answered.contains(key)).collect();
        if answered.len() + open.len() > MAX_QUESTIONS {
            bail!("the task asks more than {MAX_QUESTIONS} questions");
        }
        Ok(open)
    }

    /// The result of an ended task; `None` if it goes on.
    ///
    /// # Errors
    ///
    /// If it ended otherwise.
    fn result(&self) -> anyhow::Result<Option<Reply>> {
        match self.status {
            TaskStatus::Working | TaskStatus::InputRequired => Ok(None),
            TaskStatus::Completed => {
                let text = member(&self.reply.text, "result").filter(|own| own.get().starts_with('{'));
                let text = text.context("the task has ended without a result")?.to_owned();
                Ok(Some(Reply { value: received::read(text.get())?, text }))
            }
            TaskStatus::Failed => {
                let error = member(&self.reply.text, "error").map_or("null", RawValue::get);
                let error = ServerError::of(&format!(r#"{{"error":{error}}}"#));
                Err(anyhow::Error::from(error).context("the task failed"))
            }
            TaskStatus::Cancelled => {
                let message = self.reply.value["statusMessage"].as_str().unwrap_or_default();
                let colon = if message.is_empty() { "" } else { ": " };
                bail!("the task was cancelled{colon}{}", output::excerpt(message, MAX_MESSAGE_CHARS))
            }
        }
    }
}

/// Requests the state of a task.
async fn get(session: &mut Session, id: &str) -> anyhow::Result<Task> {
    Task::of(request(session, method::TASKS_GET, id, "").await?, Some(id))
}

/// Requests the state of a task until it has ended, and answers its questions.
///
/// # Errors
///
/// If it has no result: also if its lifetime has passed, or a question cannot be answered.
async fn wait(session: &mut Session, mut task: Task, url: &str) -> anyhow::Result<Reply> {
    let began = Instant::now();
    let (mut answered, mut shown) = (HashSet::new(), String::new());
    loop {
        let status = task.shown_status();
        if status != shown && !std::io::stderr().is_terminal() {
            note(&format!("task: {status}"));
        }
        if let Some(result) = task.result()? {
            return Ok(result);
        }
        if let Some(lifetime) = task.lifetime().filter(|own| began.elapsed() > own.saturating_add(LIFETIME_GRACE)) {
            bail!("the task has not ended within its lifetime of {} s", lifetime.as_secs());
        }
        session.waiting = Some((printable_line(&format!("task: {status}")), began));
        shown = status;
        task = match go_on(session, &task, &mut answered).await {
            Ok(next) => next,
            Err(error) => {
                if !is_gone(&error) {
                    note_going_on(url, &task.id);
                }
                return Err(error);
            }
        };
    }
}

/// Answers the questions of a task, waits, and requests its next state.
async fn go_on(session: &mut Session, task: &Task, answered: &mut HashSet<String>) -> anyhow::Result<Task> {
    let open = task.questions(answered)?;
    if !open.is_empty() {
        let mut answers = Vec::new();
        for (key, question) in open {
            answers.push(format!("{}:{}", json!(key), answer_to(question).await?));
            answered.insert(key);
        }
        let responses = format!(r#","inputResponses":{{{}}}"#, answers.join(","));
        request(session, method::TASKS_UPDATE, &task.id, &responses).await?;
    }
    next(session, task).await
}

/// Requests the state after the poll interval, and again if it is not available for now.
async fn next(session: &mut Session, task: &Task) -> anyhow::Result<Task> {
    let mut pause = task.poll_interval();
    let mut failed = 0;
    loop {
        let line = session.waiting.as_ref().map(|(text, since)| progress_line(text, since.elapsed()));
        tokio::time::sleep(pause).await;
        if let Some(line) = line {
            line.finish_and_clear();
        }
        match get(session, &task.id).await {
            Err(error) if failed < MAX_FAILED_POLLS && is_for_now(&error) => {
                failed += 1;
                note(&printable_line(&format!("could not request the state of the task, trying again: {error:#}")));
                pause = task.poll_interval().max(FAILED_POLL_PAUSE);
            }
            polled => return polled,
        }
    }
}

/// Whether a request may succeed later: the server was not reached, is busy, or limits requests.
fn is_for_now(error: &anyhow::Error) -> bool {
    const BUSY: [i64; 4] = [429, 502, 503, 504];
    error.downcast_ref::<ServerError>().is_some_and(|own| own.is_own() || BUSY.contains(&own.code()))
}

/// Whether the server does not know the task.
fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ServerError>().is_some_and(|own| own.code() == jsonrpc::INVALID_PARAMS)
}

/// Sends a request about a task; `more` are further parameters.
async fn request(session: &mut Session, method: &str, id: &str, more: &str) -> anyhow::Result<Reply> {
    if !session.is_modern() {
        bail!("the server has no tasks: it speaks a revision before 2026-07-28");
    }
    let params = format!(r#"{{"taskId":{}{more}}}"#, json!(id));
    session.ask(method, &params).await.map_err(|error| {
        match error.downcast_ref::<ServerError>().map(ServerError::code) {
            Some(jsonrpc::METHOD_NOT_FOUND) => error.context("the server has no tasks"),
            Some(jsonrpc::INVALID_PARAMS) if method != method::TASKS_UPDATE => {
                error.context("the task has expired, or is of another server, account or client")
            }
            _ => error,
        }
    })
}

/// Says how to continue a task.
fn note_going_on(url: &str, id: &str) {
    note(&format!("the task goes on: `{}` continues it", command_line::join(["mcpl", "task", "wait", url, id])));
}

/// Checks an id of a user or a server.
///
/// # Errors
///
/// What is wrong with it.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.chars().count() > MAX_ID_CHARS || printable_line(id) != id {
        return Err(format!("the id of a task has 1 to {MAX_ID_CHARS} printable characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> anyhow::Result<Task> {
        let text = RawValue::from_string(text.to_owned()).unwrap();
        Task::of(Reply { value: received::read(text.get()).unwrap(), text }, None)
    }

    fn task(members: &str) -> Task {
        parsed(&format!(r#"{{"taskId":"t-1",{members}}}"#)).unwrap()
    }

    #[test]
    fn a_task_has_an_id_and_a_known_status() {
        assert_eq!(task(r#""status":"input_required""#).status, TaskStatus::InputRequired);
        let long = "x".repeat(MAX_ID_CHARS + 1);
        for (id, status) in [
            ("null", r#""working""#),
            ("5", r#""working""#),
            (r#""""#, r#""working""#),
            (r#""a\u001b[2J""#, r#""working""#),
            (r#""a\nb""#, r#""working""#),
            (&format!("{long:?}"), r#""working""#),
            (r#""t-1""#, r#""paused""#),
            (r#""t-1""#, "null"),
            (r#""t-1""#, "[]"),
        ] {
            assert!(parsed(&format!(r#"{{"taskId":{id},"status":{status}}}"#)).is_err(), "{id} {status}");
        }
        let own = task(r#""status":"working""#);
        assert!(Task::of(own.reply, Some("t-2")).is_err(), "the task of another id");
    }

    #[test]
    fn a_server_suggests_when_to_poll_within_bounds() {
        for (written, ms) in [
            ("1000", 1000),
            ("0", 250),
            ("-5", 250),
            ("1e300", 3_600_000),
            ("18446744073709551615", 3_600_000),
            ("null", 2000),
            (r#""1""#, 2000),
        ] {
            let own = task(&format!(r#""status":"working","pollIntervalMs":{written},"ttlMs":{written}"#));
            assert_eq!(own.poll_interval(), Duration::from_millis(ms), "{written}");
            _ = own.lifetime().map(|lifetime| lifetime.saturating_add(LIFETIME_GRACE));
        }
    }

    #[test]
    fn a_status_is_one_line() {
        let own = task(r#""status":"working","statusMessage":"half\ndone\u001b[2J""#);
        assert_eq!(own.shown_status(), r"working: half\ndone\u{1b}[2J");
        assert_eq!(task(r#""status":"working","statusMessage":"""#).shown_status(), "working");
        let long = task(&format!(r#""status":"working","statusMessage":"{}""#, "é".repeat(1000)));
        assert_eq!(long.shown_status().chars().count(), "working: ".len() + MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn a_question_is_asked_once_and_their_number_is_bounded() {
        let mut answered = HashSet::new();
        let own = task(r#""status":"input_required","inputRequests":{"b":{},"a":{}}"#);
        let keys = |answered: &HashSet<String>| -> Vec<String> {
            own.questions(answered).unwrap().into_iter().map(|(key, _)| key).collect()
        };

        assert_eq!(keys(&answered), ["b", "a"]);
        answered.insert("b".to_owned());
        assert_eq!(keys(&answered), ["a"]);
        answered.extend((0..MAX_QUESTIONS).map(|own| own.to_string()));
        assert!(own.questions(&answered).is_err());
        assert!(task(r#""status":"input_required""#).questions(&answered).is_err(), "of all that it has asked");
    }

    #[test]
    fn an_ended_task_has_its_result_or_an_error() {
        assert!(task(r#""status":"working""#).result().unwrap().is_none());
        let completed = r#""status":"completed","result":{"content":[],"n":1.10}"#;
        assert_eq!(task(completed).result().unwrap().unwrap().text.get(), r#"{"content":[],"n":1.10}"#);
        for (ended, expected) in [
            (r#""status":"completed""#, "the task has ended without a result"),
            (r#""status":"completed","result":[]"#, "the task has ended without a result"),
            (
                r#""status":"failed","error":{"code":-32603,"message":"no","data":{"a":1}}"#,
                r#"the task failed: no: {"a":1}"#,
            ),
            (r#""status":"failed""#, "the task failed: the server answered with an error"),
            (r#""status":"cancelled""#, "the task was cancelled"),
            (r#""status":"cancelled","statusMessage":"by\nAda""#, r"the task was cancelled: by\nAda"),
        ] {
            let error = task(ended).result().err().unwrap();
            assert_eq!(format!("{error:#}"), expected);
        }
    }

    #[test]
    fn a_server_that_is_busy_is_asked_again() {
        let failed = |code: i64, message: &str| {
            let error = json!({ "error": { "code": code, "message": message } }).to_string();
            is_for_now(&anyhow::Error::from(ServerError::of(&error)).context("could not do it"))
        };
        assert!(failed(429, "rate limit reached") && failed(503, "away") && failed(-32603, "mcpl: could not reach it"));
        assert!(
            !failed(-32602, "unknown task") && !failed(-32603, "internal error") && !failed(401, "a token is needed")
        );
        assert!(!is_for_now(&anyhow!("something else")));
    }
}
