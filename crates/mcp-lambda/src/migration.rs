//! A function's `main` with `MCP_ROLE=migrate`: the binary changes the schema of its database, and serves no requests.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use mcp_postgres::{MigrationConfig, Schema, migrate};
use mcp_server::{BoxError, InitError, Invocation, error_chain};
use tokio::time::timeout_at;

use crate::{
    Env, FromEnv, McpService, invocations,
    run::{init_logs, serve, warn_unknown_variables},
    runtime_api,
};

const ROLE: &str = "MCP_ROLE";
/// Time that remains for the response after a migration has timed out.
const RESPONSE_RESERVE: Duration = Duration::from_secs(1);

/// [`main`](crate::main) of a function whose schema can be changed by another invocation of the same binary.
///
/// With `MCP_ROLE=migrate` each invocation applies the pending migrations ([`mcp_postgres::migrate`]), and returns its
/// [report](mcp_postgres::MigrationReport) as JSON. The event has no content, and no request is served. Outside of Lambda the report
/// is printed. The function that serves requests has `DB_MIGRATE=off`, and a role that cannot change the schema.
///
/// ```no_run
/// # mod notes {
/// #     use mcp_lambda::{HttpConfig, InitError, McpService, Server, postgres::Schema};
/// #     use sqlx::migrate::Migrator;
/// #     pub static SCHEMA: Schema = Schema { postgres: Migrator::DEFAULT, dsql: Migrator::DEFAULT, grants: &[] };
/// #     pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
/// #         McpService::new(Server::new("notes", "0.1.0", ()), config)
/// #     }
/// # }
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     mcp_lambda::main_with_schema(notes::service, &notes::SCHEMA)
/// }
/// ```
pub fn main_with_schema<C, F, Fut>(service: F, schema: &'static Schema) -> ExitCode
where
    C: FromEnv,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<McpService, InitError>>,
{
    let env = Env::process();
    match env.get(ROLE) {
        None | Some("serve") => serve(&env, service),
        #[cfg(feature = "tasks")]
        Some(crate::tasks::WORKER) => serve(&env, service),
        role => migrate_main(&env, role.unwrap_or_default(), schema),
    }
}

fn migrate_main(env: &Env, role: &str, schema: &'static Schema) -> ExitCode {
    init_logs(env);
    let config = match role {
        "migrate" => <MigrationConfig as FromEnv>::from_env(env),
        other => Err(InitError::setting(ROLE, "`serve` or `migrate`", other)),
    };
    warn_unknown_variables(env);
    let is_lambda = env.get(runtime_api::ENDPOINT).is_some();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "could not start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config, schema, is_lambda)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the function has stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run(
    config: Result<MigrationConfig, InitError>,
    schema: &'static Schema,
    is_lambda: bool,
) -> Result<(), BoxError> {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            if is_lambda {
                invocations::report_init_error(error_chain(&error)).await?;
            }
            return Err(error.into());
        }
    };
    if !is_lambda {
        print(&report(config, schema, None).await?);
        return Ok(());
    }
    // The event has no content.
    let job = async |_, invocation: Invocation| report(config.clone(), schema, invocation.deadline).await;
    invocations::run_job(job).await.map(|never| match never {})
}

/// Migrates, and returns the report as JSON.
async fn report(
    config: MigrationConfig,
    schema: &'static Schema,
    deadline: Option<Instant>,
) -> Result<Vec<u8>, BoxError> {
    let migrated = migrate(config, schema);
    let migrated = match deadline.and_then(|deadline| deadline.checked_sub(RESPONSE_RESERVE)) {
        Some(end) => {
            timeout_at(end.into(), migrated).await.unwrap_or_else(|_| Err(mcp_postgres::MigrationError::TimedOut))
        }
        None => migrated.await,
    };
    match migrated {
        Ok(report) => Ok(serde_json::to_vec(&report)?),
        Err(error) => {
            tracing::error!(error = error_chain(&error), "could not migrate the database");
            Err(error.into())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command line")]
fn print(json: &[u8]) {
    println!("{}", String::from_utf8_lossy(json));
}
