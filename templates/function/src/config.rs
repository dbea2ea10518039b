//! Settings of this function.

use mcp_lambda::{Env, FromEnv, HttpConfig};
use mcp_server::InitError;

/// Settings, read from the environment once per cold start.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// How the function speaks HTTP.
    pub http: HttpConfig,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Ok(Self { http: HttpConfig::from_env(env)? })
    }
}
