//! Command line of the emulator.

use std::{num::NonZeroU64, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use function_url_emulator::{AsynchronousConfig, AsynchronousReport, Emulator, Front, FunctionConfig, InvokeMode};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a built function behind a Function URL on loopback, as Lambda does: several frozen environments with one
/// request each. Ctrl-C shuts them down and prints statistics.
///
/// Example: function-url-emulator target/release/greeter --warm 3
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Executable of the function.
    binary: PathBuf,
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// Invoke mode of the URL. Set MCP_INVOKE_MODE with --env to the same mode.
    #[arg(long, value_enum, default_value_t = InvokeModeOption::Buffered)]
    invoke_mode: InvokeModeOption,
    /// Service that converts requests to events.
    #[arg(long, value_enum, default_value_t = FrontOption::FunctionUrl)]
    front: FrontOption,
    /// Number of environments to start before the first request.
    #[arg(long, default_value_t = 1)]
    warm: usize,
    /// Maximum number of environments; further requests are throttled with 429.
    #[arg(long, default_value_t = 10)]
    reserved: usize,
    /// Maximum number of concurrent invocations of one environment, as on Managed Instances.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Memory of the function in MB, passed in its environment; not enforced.
    #[arg(long, default_value_t = 128)]
    memory: u32,
    /// Timeout of an invocation in seconds.
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Seconds without an invocation after which an environment is shut down.
    #[arg(long, default_value_t = 300.0)]
    idle_timeout: f64,
    /// Do not freeze environments between invocations.
    #[arg(long)]
    no_freeze: bool,
    /// Serve asynchronous invocations on the same port: POST /2015-03-31/functions/NAME/invocations.
    #[arg(long)]
    asynchronous: bool,
    /// Seconds before the first retry of an asynchronous invocation.
    #[arg(long, default_value_t = 60.0)]
    retry_after: f64,
    /// Seconds after which an asynchronous event is dropped.
    #[arg(long, default_value_t = 21600.0)]
    maximum_event_age: f64,
    /// Deliver each asynchronous event with a number divisible by this one twice.
    #[arg(long)]
    duplicate_every: Option<NonZeroU64>,
    /// Name of the function. By default that of the binary.
    #[arg(long)]
    name: Option<String>,
    /// Environment variable of the function; can be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InvokeModeOption {
    Buffered,
    ResponseStream,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FrontOption {
    FunctionUrl,
    RestApi,
    LoadBalancer,
    LoadBalancerMultiValue,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "command line output")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "command line output")]
async fn run(arguments: Arguments) -> anyhow::Result<String> {
    let name = arguments
        .binary
        .file_name()
        .and_then(|name| name.to_str())
        .context("the path of the binary has no file name")?;
    let name = arguments.name.as_deref().unwrap_or(name);
    let mut config = FunctionConfig::new(name, arguments.binary.clone());
    if arguments.asynchronous {
        config.asynchronous = Some(AsynchronousConfig {
            retry_after: seconds("--retry-after", arguments.retry_after)?,
            maximum_event_age: seconds("--maximum-event-age", arguments.maximum_event_age)?,
            duplicate_every: arguments.duplicate_every,
        });
    }
    config.port = arguments.port;
    config.invoke_mode = match arguments.invoke_mode {
        InvokeModeOption::Buffered => InvokeMode::Buffered,
        InvokeModeOption::ResponseStream => InvokeMode::ResponseStream,
    };
    config.front = match arguments.front {
        FrontOption::FunctionUrl => Front::FunctionUrl,
        FrontOption::RestApi => Front::RestApi,
        FrontOption::LoadBalancer => Front::LoadBalancer { multi_value: false },
        FrontOption::LoadBalancerMultiValue => Front::LoadBalancer { multi_value: true },
    };
    config.warm_environments = arguments.warm;
    config.reserved_environments = arguments.reserved.max(arguments.warm);
    config.concurrency = arguments.concurrency.max(1);
    config.memory_mb = arguments.memory;
    config.timeout = seconds("--timeout", arguments.timeout)?;
    config.idle_timeout = seconds("--idle-timeout", arguments.idle_timeout)?;
    config.freeze = !arguments.no_freeze;
    for variable in &arguments.variables {
        let (name, value) =
            variable.split_once('=').with_context(|| format!("--env {variable}: expected NAME=VALUE"))?;
        config.variables.insert(name.to_owned(), value.to_owned());
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let emulator = tokio::select! {
        // Dropping the future stops the environments that were started.
        _ = interrupt.recv() => return Ok("interrupted during startup".to_owned()),
        _ = terminate.recv() => return Ok("terminated during startup".to_owned()),
        emulator = Emulator::start_with_log(config, |environment, line| eprintln!("[{environment}] {line}")) => emulator?,
    };
    println!("{}/mcp", emulator.url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let report = report(&emulator);
    emulator.stop().await;
    Ok(report)
}

fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{name} must be a number of seconds, not {value}"))
}

fn report(emulator: &Emulator) -> String {
    let invocations = emulator.invocations();
    let mut text = format!("{} invocations", invocations.len());
    let cold = invocations.iter().filter(|invocation| invocation.is_cold).map(|invocation| invocation.duration).max();
    let mut warm: Vec<Duration> =
        invocations.iter().filter(|invocation| !invocation.is_cold).map(|invocation| invocation.duration).collect();
    warm.sort();
    if let Some(cold) = cold {
        text.push_str(&format!(", maximum cold start {cold:.1?}"));
    }
    if let Some(median) = warm.get(warm.len() / 2) {
        text.push_str(&format!(", median warm invocation {median:.1?}"));
    }
    if let Some(AsynchronousReport { events, duplicates, retries, dropped }) = emulator.asynchronous() {
        text.push_str(&format!(
            "\n  asynchronous: {events} events, {duplicates} delivered twice, {retries} retries, {dropped} dropped"
        ));
    }
    for environment in emulator.environments() {
        text.push_str(&format!(
            "\n  environment {}: {} invocations, ready after {:.1?}, peak {:.1} MiB",
            environment.id,
            environment.invocations,
            environment.ready_after.unwrap_or_default(),
            environment.peak_memory_kib as f64 / 1024.0,
        ));
    }
    text
}
