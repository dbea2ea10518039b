//! Settings of this function.

use mcp_lambda::{Env, FromEnv, HttpConfig};
use mcp_postgres::DatabaseConfig;
use mcp_server::InitError;

const AUTH: &str = "MCP_AUTH";

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
        // Whoever reaches the function can write.
        match env.get(AUTH) {
            Some("dangerously-off") => {}
            Some(other) => return Err(InitError::setting(AUTH, "`dangerously-off`", other)),
            None => {
                return Err(InitError::new(
                    "MCP_AUTH must be set: no issuer of tokens can be configured yet, so that the function serves \
                     everyone who knows its URL; say MCP_AUTH=dangerously-off if that is what you want",
                ));
            }
        }
        DatabaseConfig::warn_about_unknown(env.names());
        Ok(Self {
            http: HttpConfig::from_env(env)?,
            database: DatabaseConfig::from_env(|name| env.get(name))?,
            concurrency: env.max_concurrency(),
        })
    }
}
