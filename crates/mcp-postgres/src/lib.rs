//! Postgres for functions on Lambda: one connection for each execution environment. It is opened in the init phase if
//! the database is reachable, replaced transparently when it is lost, and closed before the process ends.
//!
//! Statements are [sqlx](https://docs.rs/sqlx)'s. [`Database`] has the operations; [`DatabaseError`] classifies
//! failures.
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
//! | Module | Content |
//! | --- | --- |
//! | `config` | [`DatabaseConfig`]: host, credentials, TLS; [`MigrationConfig`] |
//! | `credentials` | passwords from Secrets Manager, authentication tokens of RDS |
//! | `sessions` | connections: open, reuse, replace, close |
//! | `migrate` | migrations of the schema on Postgres |
//! | `schema`, `schema_dsql` | [`migrate`]: migrations in a separate invocation, also on Aurora DSQL |
//! | `pooler` | transactions that leave no state in a pooler's session |
//! | `error` | [`DatabaseError`], and the classification of errors for retries |
//! | `retry` | deadlines, backoff, jitter |
//! | `hold` | at most one connection for each call |
//! | `bounded` | streams of results with a deadline |
//! | `transaction`, `acquired`, `attempt` | the guards |
//! | `database` | [`Database`]: the operations |
//! | `store` | with the feature `store`: state of the server that outlives a request |

mod acquired;
mod attempt;
mod bounded;
mod config;
mod credentials;
mod database;
mod error;
mod hold;
mod migrate;
mod pooler;
mod retry;
mod schema;
mod schema_dsql;
mod sessions;
#[cfg(feature = "store")]
mod store;
mod transaction;

pub use acquired::{Acquired, AutocommitConnection};
pub use attempt::Attempt;
pub use config::{AppRole, DatabaseConfig, MigrationConfig};
pub use database::Database;
pub use error::DatabaseError;
pub use retry::Retry;
pub use schema::{MigrationError, MigrationReport, RoleReport, Schema, migrate};
#[cfg(feature = "store")]
pub use store::PostgresStore;
pub use transaction::{Transaction, TransactionConnection};
