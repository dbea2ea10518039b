//! A task of five steps, each of which inserts a row once: `scripts/chaos_tasks.py` runs it while everything breaks. The header
//! `x-example-caller` takes the place of authentication, and `DATABASE_URL` is the URL of the database, with this table:
//!
//! ```sql
//! CREATE TABLE steps (key text PRIMARY KEY, task text NOT NULL, step integer NOT NULL, value uuid NOT NULL)
//! ```

use std::{process::ExitCode, sync::Arc, time::Duration};

use garde::Validate;
use http::Request;
use mcp_lambda::{
    Elicited, HandlerError, HttpConfig, InitError, InteractiveContext, Json, McpService, Principal, Server, Task, Tool,
    postgres::{Database, DatabaseConfig, DatabaseError, PostgresStore, Retry},
    transport::{Body, Invocation},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use tower::util::MapRequestLayer;

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const INSERT: &str = "INSERT INTO steps VALUES ($1, $2, $3, gen_random_uuid()) ON CONFLICT DO NOTHING";
const VALUE: &str = "SELECT value::text FROM steps WHERE key = $1";
/// Time between two attempts at a step while the database is away.
const BACKOFF: Duration = Duration::from_millis(500);

type Context = InteractiveContext<Database>;

#[derive(Deserialize, JsonSchema, Validate)]
struct StepsArgs {
    /// Name of the task in the table.
    #[garde(length(chars, max = 100))]
    name: String,
    /// Time of a sleep after the second step, in seconds: at most 60, and 0 for none.
    #[garde(range(max = 60))]
    sleep_seconds: u64,
    /// Whether to ask a question after the second step.
    #[garde(skip)]
    asks: bool,
}

#[derive(Deserialize, JsonSchema, Validate)]
struct Confirmation {
    /// Continue?
    #[garde(skip)]
    confirm: bool,
}

#[derive(Serialize, JsonSchema)]
struct Steps {
    /// The values of the rows, by step.
    values: Vec<String>,
    /// Whether the client answered the question with "yes".
    is_confirmed: bool,
}

async fn run_steps(context: Context, args: StepsArgs) -> Result<Json<Steps>, HandlerError> {
    let (mut values, mut is_confirmed) = (Vec::new(), false);
    for step in 1..=5 {
        let name = format!("step {step}");
        let key = context.idempotency_key(&name).ok_or_else(|| HandlerError::failed("the call is no task"))?;
        values.push(context.once(&name, insert(&context, &key, &args.name, step)).await?);
        if step == 2 && args.sleep_seconds > 0 {
            context.sleep("pause", Duration::from_secs(args.sleep_seconds)).await;
        }
        if step == 2 && args.asks {
            let answer = context.elicit::<Confirmation>("question", "Continue?").await;
            is_confirmed = matches!(answer, Elicited::Accepted(Confirmation { confirm: true }));
        }
    }
    Ok(Json(Steps { values, is_confirmed }))
}

/// Inserts the row of a step, unless an earlier run has done so, and returns its value. Waits while the database is away.
async fn insert(context: &Context, key: &str, task: &str, step: i32) -> Result<String, HandlerError> {
    loop {
        let written = context.state().write(context, Retry::Idempotent, async |mut connection| {
            sqlx::query(INSERT).bind(key).bind(task).bind(step).execute(&mut *connection).await?;
            Ok(sqlx::query_scalar(VALUE).bind(key).fetch_one(&mut *connection).await?)
        });
        match written.await {
            Err(DatabaseError::Unavailable(_) | DatabaseError::TimedOut | DatabaseError::OutcomeUnknown(_)) => {
                tokio::time::sleep(BACKOFF).await;
            }
            written => return Ok(written?),
        }
    }
}

async fn service((http, database): (HttpConfig, DatabaseConfig)) -> Result<McpService, InitError> {
    let store = PostgresStore::new(database.clone());
    let database = Database::open(database, &NO_MIGRATIONS).await;
    let task = Task::ttl(Duration::from_secs(3600)).poll_interval(Duration::from_secs(1)).requires_extension();
    let tool = Tool::new("run_steps", run_steps).description("Runs five steps.").task(task);
    let server = Server::new("steps", "1.0.0", database.clone()).manages(database).store(store).tool(tool);
    Ok(McpService::new(server, http)?.layer(MapRequestLayer::new(with_caller)))
}

fn with_caller(mut request: Request<Body>) -> Request<Body> {
    let subject = request.headers().get("x-example-caller").and_then(|own| own.to_str().ok()).map(str::to_owned);
    if let (Some(subject), Some(invocation)) = (subject, request.extensions_mut().get_mut::<Invocation>()) {
        invocation.principal = Some(Arc::new(Principal::new("https://issuer.example", subject)));
    }
    request
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}
