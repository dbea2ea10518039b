//! An MCP server with state: logs events in Postgres and lists them. Tools and resources are registered in
//! [`service`].

mod events;
#[cfg(feature = "tasks")]
mod export_events;
mod get_latest_events;
mod log_event;
mod resources;

#[cfg(feature = "tasks")]
use mcp_lambda::postgres::PostgresStore;
use mcp_lambda::{
    Env, FromEnv, HttpConfig, InitError, McpService, Server,
    postgres::{Database, DatabaseConfig, Schema},
};

/// Settings of the HTTP endpoint, of the database and of tasks.
#[derive(Debug)]
pub struct Config {
    /// Settings of the endpoint.
    pub http: HttpConfig,
    /// The database of events, and of the server's state.
    pub database: DatabaseConfig,
    /// Whether events can be exported: with the feature `tasks`, if `MCP_TASKS_FUNCTION` is set.
    pub has_exports: bool,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Ok(Self {
            http: HttpConfig::from_env(env)?,
            database: <DatabaseConfig as FromEnv>::from_env(env)?,
            has_exports: cfg!(feature = "tasks") && env.get("MCP_TASKS_FUNCTION").is_some(),
        })
    }
}

/// The schema. `MCP_ROLE=migrate` applies it, and on Postgres the init phase unless `DB_MIGRATE` is `off`. Both sets of migrations
/// have the same result, except that Postgres keeps the index of `idempotency_key` for the previous version.
pub static SCHEMA: Schema = Schema {
    postgres: sqlx::migrate!(),
    dsql: sqlx::migrate!("./migrations-dsql"),
    // `UPDATE` releases the keys of old events.
    grants: &[("events", "SELECT, INSERT, UPDATE")],
};

/// Scope that `log_event` requires.
pub(crate) const WRITE: &str = "events:write";
/// Scope that resources require. Its callers also see the caller who logged an event.
pub(crate) const READ: &str = "events:read";

/// Shared state of all calls: the database, opened once for each execution environment.
#[derive(Debug)]
pub struct State {
    database: Database,
}

/// Builds the server. A database that does not respond is not an error: requests that do not need the database are served.
///
/// # Errors
///
/// When no way to authenticate callers is configured, or events can be exported and there is no state key.
pub async fn service(config: Config) -> Result<McpService, InitError> {
    let database = Database::open(config.database.clone(), &SCHEMA.postgres).await;
    let server = Server::new("event-logger", env!("CARGO_PKG_VERSION"), State { database: database.clone() })
        .title("Event logger")
        .instructions(
            "Keeps a log of events in a database. `log_event` stores one with the current time and returns its number; \
             `get_latest_events` lists the latest. An event cannot be changed or deleted.",
        )
        .tool(log_event::tool())
        .tool(get_latest_events::tool())
        .resource(resources::latest())
        .resource_template(resources::by_id())
        .manages(database);
    #[cfg(feature = "tasks")]
    let server = match config.has_exports {
        true => server.tool(export_events::tool()).store(PostgresStore::new(config.database)),
        false => server,
    };
    McpService::new(server, config.http)
}
