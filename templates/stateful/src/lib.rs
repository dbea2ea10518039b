//! An MCP server that keeps notes in Aurora DSQL or Postgres. [`service`] registers its tools.

mod latest_notes;
mod save_note;

use mcp_lambda::{
    HttpConfig, InitError, McpService, Server,
    postgres::{Database, DatabaseConfig, Schema},
};

/// Settings of the HTTP endpoint and of the database.
pub type Config = (HttpConfig, DatabaseConfig);

/// The schema. `MCP_ROLE=migrate` applies it, and on Postgres the init phase. Both sets of migrations have the same result.
pub static SCHEMA: Schema = Schema {
    postgres: sqlx::migrate!(),
    dsql: sqlx::migrate!("./migrations-dsql"),
    // What the role that serves requests may do.
    grants: &[("notes", "SELECT, INSERT, UPDATE")],
};

/// Scope that `save_note` requires.
const WRITE: &str = "notes:write";
/// Scope that `latest_notes` requires.
const READ: &str = "notes:read";

/// State that all calls share: the database, opened once for each execution environment.
#[derive(Debug)]
pub struct State {
    database: Database,
}

/// Builds the server. A database that does not respond is not an error: requests that need no database are served
/// meanwhile.
///
/// # Errors
///
/// Returns an error if no way to authenticate callers is configured.
pub async fn service((http, database): Config) -> Result<McpService, InitError> {
    let database = Database::open(database, &SCHEMA.postgres).await;
    let server = Server::new("{{ project_name }}", env!("CARGO_PKG_VERSION"), State { database: database.clone() })
        // Purpose of the server and when to use it. Clients show this text to the model.
        .instructions("Keeps notes. `save_note` stores a note under its title; `latest_notes` lists the latest.")
        .tool(save_note::tool())
        .tool(latest_notes::tool())
        .manages(database);
    McpService::new(server, http)
}
