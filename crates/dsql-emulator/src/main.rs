//! Command line of the emulator.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use dsql_emulator::{Counts, Emulator, EmulatorConfig, Faults, Limits, TestCredentials};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Emulates Aurora DSQL in front of a local Postgres. Prints its address, and serves until Ctrl-C, SIGTERM, or the end of its
/// standard input.
///
/// Example: dsql-emulator --backend "$DATABASE_URL" --certificate /tmp/dsql.pem --conflict 0.2
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// URL of the Postgres database, whose user is a superuser.
    #[arg(long)]
    backend: String,
    /// Sessions in Postgres at once.
    #[arg(long, default_value_t = 80)]
    backend_sessions: usize,
    /// Port on 127.0.0.1; 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// File for the certificate of the emulator's authority, for DB_SSLROOTCERT.
    #[arg(long)]
    certificate: PathBuf,
    /// Name of the endpoint; can be repeated.
    #[arg(long = "host", default_value = "localhost")]
    hosts: Vec<String>,
    /// Region of the tokens.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// AWS_ACCESS_KEY_ID of the clients.
    #[arg(long, default_value = "AKIDEMULATOR")]
    access_key_id: String,
    /// AWS_SECRET_ACCESS_KEY of the clients.
    #[arg(long, default_value = "emulator-secret")]
    secret_access_key: String,
    /// AWS_SESSION_TOKEN of the clients.
    #[arg(long)]
    session_token: Option<String>,
    /// IAM role of the clients, for AWS IAM GRANT.
    #[arg(long, default_value = "arn:aws:iam::123456789012:role/emulator")]
    role_arn: String,
    /// Probability of a conflict (OC000) at a commit.
    #[arg(long, default_value_t = 0.0)]
    conflict: f64,
    /// Probability of an outdated schema (OC001) at a statement.
    #[arg(long, default_value_t = 0.0)]
    schema_change: f64,
    /// Probability of `server unavailable` at a commit.
    #[arg(long, default_value_t = 0.0)]
    unavailable: f64,
    /// Seed of the injected failures.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Age in seconds at which a connection is closed.
    #[arg(long, default_value_t = 3600.0)]
    connection_age: f64,
    /// Maximum number of connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// New connections per second, after the burst.
    #[arg(long, default_value_t = 100.0)]
    connections_per_second: f64,
    /// New connections at once.
    #[arg(long, default_value_t = 1000.0)]
    connection_burst: f64,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "command line output")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(Counts { admitted, rejected, aged }) => {
            println!("{admitted} connections admitted, {rejected} rejected, {aged} closed because of their age");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "command line output")]
async fn run(arguments: Arguments) -> anyhow::Result<Counts> {
    let certificate = arguments.certificate.clone();
    let emulator = Emulator::start(config(arguments)?).await?;
    std::fs::write(&certificate, emulator.certificate()).context("could not write the certificate")?;
    println!("localhost:{}", emulator.address().port());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // A separate thread, for which the process does not wait.
    let (ended, input) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = input => {}
    }
    Ok(emulator.counts())
}

fn config(arguments: Arguments) -> anyhow::Result<EmulatorConfig> {
    for (name, probability) in [
        ("--conflict", arguments.conflict),
        ("--schema-change", arguments.schema_change),
        ("--unavailable", arguments.unavailable),
    ] {
        anyhow::ensure!((0.0..=1.0).contains(&probability), "{name} must be from 0 to 1, not {probability}");
    }
    let age = Duration::try_from_secs_f64(arguments.connection_age)
        .with_context(|| format!("--connection-age must be a number of seconds, not {}", arguments.connection_age))?;
    Ok(EmulatorConfig {
        backend: arguments.backend,
        backend_sessions: arguments.backend_sessions,
        port: arguments.port,
        hosts: arguments.hosts,
        region: arguments.region,
        credentials: TestCredentials {
            access_key_id: arguments.access_key_id,
            secret_access_key: arguments.secret_access_key,
            session_token: arguments.session_token,
            role_arn: arguments.role_arn,
        },
        limits: Limits {
            connections: arguments.connections,
            connections_per_second: arguments.connections_per_second,
            connection_burst: arguments.connection_burst,
            connection_age: age,
            ..Limits::default()
        },
        faults: Faults {
            conflict: arguments.conflict,
            schema_change: arguments.schema_change,
            unavailable: arguments.unavailable,
            seed: arguments.seed,
            ..Faults::default()
        },
    })
}
