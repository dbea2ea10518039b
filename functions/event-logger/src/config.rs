//! Settings of this function.

use mcp_lambda::{Env, FromEnv, HttpConfig};
use mcp_postgres::DatabaseConfig;
use mcp_server::InitError;

/// Settings, read from the environment once per cold start.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the function is reached.
    pub http: HttpConfig,
    /// Where events are kept.
    pub database: DatabaseConfig,
    /// Requests that one environment serves at once, and so connections that it may have.
    pub concurrency: usize,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        DatabaseConfig::warn_about_unknown(env.names());
        Ok(Self {
            http: HttpConfig::from_env(env)?,
            database: DatabaseConfig::from_env(|name| env.get(name))?,
            concurrency: env.max_concurrency(),
        })
    }
}
