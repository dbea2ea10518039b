//! Configuration of the emulator.

use std::time::Duration;

/// Configuration of an emulator.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// URL of the Postgres database that stores the data: `postgres://user:password@host:port/name`. Its user is a superuser.
    pub backend: String,
    /// Sessions in Postgres at once: 80, since Postgres accepts 100 connections by default. Further connections wait for one.
    pub backend_sessions: usize,
    /// Port on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// Names of the endpoint, for the certificate, SNI and tokens.
    pub hosts: Vec<String>,
    /// Region of the tokens.
    pub region: String,
    /// Credentials whose tokens are accepted.
    pub credentials: TestCredentials,
    /// Limits of the cluster.
    pub limits: Limits,
    /// Failures that are injected.
    pub faults: Faults,
}

impl EmulatorConfig {
    /// The defaults: a free port, the name `localhost`, `us-east-1`, and no failures.
    pub fn new(backend: impl Into<String>) -> Self {
        Self {
            backend: backend.into(),
            backend_sessions: 80,
            port: 0,
            hosts: vec!["localhost".to_owned()],
            region: "us-east-1".to_owned(),
            credentials: TestCredentials::default(),
            limits: Limits::default(),
            faults: Faults::default(),
        }
    }
}

/// Test credentials whose tokens the emulator accepts. Do not use credentials of an AWS account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCredentials {
    /// `AWS_ACCESS_KEY_ID` of the client.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY` of the client.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN` of the client.
    pub session_token: Option<String>,
    /// The IAM role for `AWS IAM GRANT`.
    pub role_arn: String,
}

impl Default for TestCredentials {
    fn default() -> Self {
        Self {
            access_key_id: "AKIDEMULATOR".to_owned(),
            secret_access_key: "emulator-secret".to_owned(),
            session_token: None,
            role_arn: "arn:aws:iam::123456789012:role/emulator".to_owned(),
        }
    }
}

/// Limits of a cluster. The defaults are those of [Aurora
/// DSQL](https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Maximum number of open connections.
    pub connections: usize,
    /// New connections per second, after the burst.
    pub connections_per_second: f64,
    /// New connections at once.
    pub connection_burst: f64,
    /// Age at which a connection is closed, once its transaction has ended.
    pub connection_age: Duration,
    /// Maximum duration of a transaction.
    pub transaction_time: Duration,
    /// Maximum number of rows that a transaction changes.
    pub transaction_rows: u64,
    /// Maximum number of bytes that a transaction writes, counted by its messages.
    pub transaction_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_second: 100.0,
            connection_burst: 1000.0,
            connection_age: Duration::from_secs(3600),
            transaction_time: Duration::from_secs(300),
            transaction_rows: 3000,
            transaction_bytes: 10 << 20,
        }
    }
}

/// Probabilities of injected failures, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Probability of a conflict (`40001`, OC000) when a transaction with writes commits.
    pub conflict: f64,
    /// Probability of an outdated schema (`40001`, OC001) at a statement that reads or writes.
    pub schema_change: f64,
    /// Probability of `XX000 server unavailable` when a transaction with writes commits. Half of these transactions are rolled
    /// back, half are committed.
    pub unavailable: f64,
    /// The statement after whose execution the connection is closed in place of the response, counted over all connections since
    /// the failures were set: 1 is the first.
    pub disconnect_at: Option<u64>,
    /// Number of connections that are denied access, since the failures were set: a new permission does not apply at once.
    pub denied: u32,
    /// Send OC000 and OC001 as the code in place of `40001`.
    pub marker_as_code: bool,
    /// Seed of the random numbers.
    pub seed: u64,
}
