//! Configuration of the invocation that changes the schema.

use mcp_server::InitError;

use super::{AUTH, DatabaseConfig, USER};

const APP_ROLE_ARN: &str = "DB_APP_ROLE_ARN";
const APP_USER: &str = "DB_APP_USER";
const DEFAULT_APP_USER: &str = "app";
/// The user of Aurora DSQL that owns the schema.
const ADMIN: &str = "admin";

/// Configuration of [`migrate`](crate::migrate).
#[derive(Debug, Clone)]
pub struct MigrationConfig {
    /// The database, with a user that may change its schema.
    pub database: DatabaseConfig,
    /// `DB_APP_ROLE_ARN`: the role that serves requests, created on Aurora DSQL.
    pub app_role: Option<AppRole>,
}

/// A database role, and the IAM role that connects as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRole {
    pub(crate) name: String,
    pub(crate) arn: String,
}

impl MigrationConfig {
    /// Reads the configuration from environment variables, which `get` looks up. An empty value counts as unset.
    ///
    /// # Errors
    ///
    /// As [`DatabaseConfig::from_env`], and when `DB_APP_ROLE_ARN` or `DB_APP_USER` cannot be used.
    pub fn from_env<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let database = DatabaseConfig::from_env(&get)?;
        let get = |name: &str| get(name).map(str::trim).filter(|value| !value.is_empty());
        let (arn, name) = (get(APP_ROLE_ARN), get(APP_USER));
        let is_admin = database.is_dsql() && database.options.get_username() == ADMIN;
        if !is_admin && arn.or(name).is_some() {
            let own = if arn.is_some() { APP_ROLE_ARN } else { APP_USER };
            return Err(InitError::new(format!("{own} needs {AUTH}=dsql and {USER}={ADMIN}")));
        }
        let app_role = arn.map(|arn| AppRole::new(name.unwrap_or(DEFAULT_APP_USER), arn)).transpose()?;
        Ok(Self { database, app_role })
    }
}

impl AppRole {
    fn new(name: &str, arn: &str) -> Result<Self, InitError> {
        // The name is inserted into statements without quotes.
        let is_name = name.len() < 64
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name || name == ADMIN || name.starts_with("pg_") {
            return Err(InitError::setting(APP_USER, "the name of a role: a-z, 0-9 and _, not admin or pg_…", name));
        }
        let is_arn = arn.starts_with("arn:") && arn.contains(":iam::") && !arn.contains(|own: char| own.is_control());
        if !is_arn || arn.len() > 2048 {
            return Err(InitError::setting(APP_ROLE_ARN, "the ARN of an IAM role", arn));
        }
        Ok(Self { name: name.to_owned(), arn: arn.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/function";

    fn config(pairs: &[(&str, &'static str)]) -> Result<MigrationConfig, String> {
        let dsql = [
            ("DB_AUTH", "dsql"),
            ("DB_HOST", "x.dsql.us-east-1.on.aws"),
            ("DB_USER", "admin"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let get = |name: &str| pairs.iter().chain(&dsql).find(|(own, _)| *own == name).map(|(_, value)| *value);
        MigrationConfig::from_env(get).map_err(|error| error.to_string())
    }

    #[test]
    fn the_app_role_is_optional_and_named_app() {
        let role = config(&[("DB_APP_ROLE_ARN", ARN)]).unwrap().app_role;

        assert_eq!(role, Some(AppRole { name: "app".to_owned(), arn: ARN.to_owned() }));
        assert_eq!(config(&[]).unwrap().app_role, None);
    }

    #[test]
    fn settings_that_cannot_be_used_name_their_variable() {
        for (pairs, variable) in [
            (&[("DB_APP_ROLE_ARN", "role")][..], "DB_APP_ROLE_ARN"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_APP_USER", "admin")], "DB_APP_USER"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_APP_USER", "pg_app")], "DB_APP_USER"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_APP_USER", "app WITH SUPERUSER")], "DB_APP_USER"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_APP_USER", "App")], "DB_APP_USER"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_USER", "app")], "DB_USER=admin"),
            (&[("DB_APP_ROLE_ARN", ARN), ("DB_AUTH", "password"), ("DB_PASS", "x"), ("DB_NAME", "x")], "DB_AUTH=dsql"),
        ] {
            let error = config(pairs).unwrap_err();

            assert!(error.contains(variable), "{error}");
        }
    }
}
