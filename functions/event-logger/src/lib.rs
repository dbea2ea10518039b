//! An MCP server with state: it logs events in Postgres, and lists them. Read [`service`] to see what it offers.

mod events;
mod get_latest_events;
mod log_event;
mod resources;

use mcp_lambda::{
    HttpConfig, InitError, McpService, Server,
    postgres::{Database, DatabaseConfig},
};
use sqlx::migrate::Migrator;

/// Settings: how the function is reached, and where events are kept.
pub type Config = (HttpConfig, DatabaseConfig);

/// The schema. `DB_MIGRATE=off` leaves it to `sqlx migrate run --source functions/event-logger/migrations`.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// The scope that logging an event takes.
pub(crate) const WRITE: &str = "events:write";
/// The scope that reading events as resources takes, and seeing who logged one.
pub(crate) const READ: &str = "events:read";

/// What all calls share: the database, opened once for each execution environment.
#[derive(Debug)]
pub struct State {
    database: Database,
}

/// The server, ready to be called. A database that does not answer is no error: what needs none is served meanwhile.
///
/// # Errors
///
/// When nothing is configured by which callers are known.
pub async fn service((http, database): Config) -> Result<McpService, InitError> {
    let database = Database::open(database, &MIGRATOR).await;
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
    McpService::new(server, http)
}
