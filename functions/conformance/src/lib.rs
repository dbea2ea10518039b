//! Test server for the official conformance suite, with the names that the suite expects. It uses each feature of a
//! server once, as an author would. Not for deployment: it has no authorization and no useful tools.

mod input_requests;
mod prompts;
mod resources;
mod tasks;
mod tools;

use mcp_lambda::{
    Env, FromEnv, HttpConfig, InitError, McpService, Server,
    postgres::{DatabaseConfig, PostgresStore},
    store::MemoryStore,
};

/// State of all calls: empty.
#[derive(Debug)]
pub struct State;

/// Settings: those of the endpoint, and the database of tasks. Without one, tasks stay in their environment.
#[derive(Debug, Default)]
pub struct Config {
    /// Settings of the endpoint.
    pub http: HttpConfig,
    /// The database of tasks.
    pub database: Option<DatabaseConfig>,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let database = env.get("DATABASE_URL").map(|_| <DatabaseConfig as FromEnv>::from_env(env));
        Ok(Self { http: HttpConfig::from_env(env)?, database: database.transpose()? })
    }
}

/// Builds the server.
///
/// # Errors
///
/// Returns an error if there is no state key, which tools with input requests need.
pub async fn service(Config { http, database }: Config) -> Result<McpService, InitError> {
    let mut server = Server::new("conformance", env!("CARGO_PKG_VERSION"), State)
        .instructions("Serves the official conformance suite: a tool, prompt or resource for each of its cases.");
    for tool in tools::all().into_iter().chain(input_requests::tools()).chain(tasks::tools()) {
        server = server.tool(tool);
    }
    for prompt in prompts::all() {
        server = server.prompt(prompt);
    }
    for resource in resources::all() {
        server = server.resource(resource);
    }
    let server = match database {
        Some(database) => server.store(PostgresStore::new(database)),
        None => server.store(MemoryStore::new()),
    };
    McpService::new(server.resource_template(resources::template()), http)
}

/// PNG image of one red pixel.
const PNG: &[u8] = include_bytes!("pixel.png");
/// WAV audio of 0.1 s of silence.
const WAV: &[u8] = include_bytes!("silence.wav");
