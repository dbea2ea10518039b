//! A Postgres for functions on Lambda: one connection for each execution environment, opened in the init phase if the
//! database is there, replaced without the caller seeing it when it was lost, and closed before the process ends.
//!
//! Statements are [sqlx](https://docs.rs/sqlx)'s. [`Database`] has the operations, and [`DatabaseError`] what a failure means.
//!
//! ```no_run
//! use mcp_postgres::{Database, DatabaseConfig, DatabaseError};
//! use mcp_server::{Server, ToolContext};
//! use sqlx::migrate::Migrator;
//!
//! static MIGRATOR: Migrator = Migrator::DEFAULT;
//!
//! struct State {
//!     database: Database,
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let config = DatabaseConfig::from_env(|name| (name == "DATABASE_URL").then_some("postgres://app:x@localhost/events"))?;
//! let database = Database::open(config, &MIGRATOR).await;
//! let server = Server::new("events", "0.1.0", State { database: database.clone() }).manages(database);
//! # let _ = server;
//! # Ok(())
//! # }
//!
//! async fn count(context: &ToolContext<State>) -> Result<i64, DatabaseError> {
//!     let count = context.state().database.read(context, async |mut connection| {
//!         Ok(sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *connection).await?)
//!     });
//!     count.await
//! }
//! ```
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `config` | [`DatabaseConfig`]: where the database is and how to get in |
//! | `aws_http` | how the AWS SDK reaches Secrets Manager |
//! | `credentials` | passwords from Secrets Manager, tokens for RDS |
//! | `sessions` | connections: opened, kept, replaced, closed |
//! | `migrate` | the schema |
//! | `pooler` | transactions that leave nothing in a pooler's session |
//! | `error` | [`DatabaseError`]: what a failure means for the caller, and for a retry |
//! | `retry` | deadlines, backoff |
//! | `hold` | one connection for each call |
//! | `bounded` | results that come in time |
//! | `transaction`, `acquired`, `attempt` | the guards |
//! | `database` | [`Database`]: the operations |

mod acquired;
mod attempt;
mod aws_http;
mod bounded;
mod config;
mod credentials;
mod database;
mod error;
mod hold;
mod migrate;
mod pooler;
mod retry;
mod sessions;
mod transaction;

pub use acquired::{Acquired, AutocommitConnection};
pub use attempt::Attempt;
pub use config::DatabaseConfig;
pub use database::Database;
pub use error::DatabaseError;
pub use retry::Retry;
pub use transaction::{Transaction, TransactionConnection};
