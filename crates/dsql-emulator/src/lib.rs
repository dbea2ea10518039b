//! Aurora DSQL on loopback, for tests and development: a wire proxy in front of a local Postgres.
//!
//! It terminates TLS with a private authority, checks the IAM token, rejects what Aurora DSQL rejects with its SQLSTATE, and
//! injects the failures of a distributed database. Postgres stores the data. Where the documentation of Aurora DSQL is silent, the
//! emulator rejects: the tables in the modules `policy`, `policy::schema` and `transaction` name the source of each rule.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use dsql_emulator::{Emulator, EmulatorConfig, Faults};
//!
//! let mut config = EmulatorConfig::new("postgres://postgres:secret@127.0.0.1:5432/postgres");
//! config.faults = Faults { conflict: 0.2, seed: 1, ..Faults::default() };
//! let emulator = Emulator::start(config).await?;
//! println!("localhost:{}", emulator.address().port());
//! # Ok(())
//! # }
//! ```
//!
//! | Differs from Aurora DSQL | |
//! | --- | --- |
//! | conflicts | Postgres detects them at the statement, and waits for locks. Injected conflicts occur at the commit |
//! | `CREATE INDEX ASYNC`, `ALTER TABLE ASYNC` | not within `BEGIN`; `sys.wait_for_job` waits for all jobs |
//! | administrator | a superuser of Postgres |
//! | size of a transaction | counted by messages; rejected at the statement rather than at the commit |
//! | sizes of keys, columns and rows | by the text of values, in a trigger of Postgres |
//! | numbers of tables and indexes | not checked |
//! | a change of the schema by another session | without an effect on open connections; OC001 occurs only as an injected failure |
//! | order of texts | that of the database in Postgres; Aurora DSQL has the collation C |
//! | dropping the primary key, or a column of it | accepted; Aurora DSQL rejects it |
//! | maximum length of `varchar` (65,535 bytes) and `char` (4,096) without a length | not checked |
//! | messages with several statements, `FOR KEY SHARE`, `ANALYZE`, `ALTER SEQUENCE`, `SET STORAGE`, `SET SCHEMA` | rejected; Aurora DSQL has them |
//! | `COPY … FROM STDIN` | rejected; Aurora DSQL has it for [loading data](https://docs.aws.amazon.com/aurora-dsql/latest/userguide/loading-data.html) |
//!
//! | Module | Content |
//! | --- | --- |
//! | `config` | [`EmulatorConfig`], [`Limits`], [`Faults`] |
//! | `emulator` | [`Emulator`]: the listener |
//! | `cluster` | [`TestCluster`]: variables for tests |
//! | `startup` | TLS, startup message, admission, token |
//! | `admission` | number and rate of connections |
//! | `authority` | certificates |
//! | `token` | IAM tokens |
//! | `session` | messages of a client |
//! | `transaction` | rules of a transaction |
//! | `policy` | allow-list of statements |
//! | `faults` | injected failures |
//! | `jobs` | asynchronous jobs, the schema `sys` |
//! | `backend` | connections to Postgres |
//! | `error_response` | error responses |
//! | `wire` | frames and messages of the protocol |

mod admission;
mod authority;
mod backend;
mod cluster;
mod config;
mod emulator;
mod error_response;
mod faults;
mod jobs;
mod policy;
mod session;
mod startup;
mod token;
mod transaction;
mod wire;

pub use cluster::TestCluster;
pub use config::{EmulatorConfig, Faults, Limits, TestCredentials};
pub use emulator::{Counts, Emulator};
