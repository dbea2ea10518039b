//! A Postgres for functions on Lambda: one connection for each execution environment, opened in the init phase if the
//! database is there, replaced without the caller seeing it when it was lost, and closed before the process ends.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use mcp_postgres::{Database, DatabaseConfig, Effect};
//! # use sqlx::migrate::Migrator;
//! # static MIGRATOR: Migrator = Migrator::DEFAULT;
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let config = DatabaseConfig::from_env(|name| (name == "DATABASE_URL").then_some("postgres://localhost/events"))?;
//! let database = Database::open(config, &MIGRATOR).await;
//!
//! let count: i64 = database
//!     .run(Some(Duration::from_secs(3)), Effect::None, |mut connection| async {
//!         let count = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await;
//!         (connection, count)
//!     })
//!     .await?;
//! # let _ = count;
//! # Ok(())
//! # }
//! ```
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `config` | [`DatabaseConfig`]: where the database is and how to get in |
//! | `aws_http` | how the AWS SDK reaches Secrets Manager |
//! | `credentials` | passwords from Secrets Manager, tokens for RDS |
//! | `database` | [`Database`]: connections, deadlines, second tries |
//! | `migrate` | the schema |
//! | `error` | [`DatabaseError`]: what a failure means for the caller |

mod aws_http;
mod config;
mod credentials;
mod database;
mod error;
mod migrate;

pub use config::DatabaseConfig;
pub use database::{Database, Effect};
pub use error::DatabaseError;
