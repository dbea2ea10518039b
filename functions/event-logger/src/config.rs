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
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let database = DatabaseConfig::from_env(|name| env.get(name))?;
        Ok(Self { http: HttpConfig::from_env(env)?, database })
    }
}
