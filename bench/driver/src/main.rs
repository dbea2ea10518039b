//! Drives built functions through the Runtime API and prints what they took, as JSON.
//!
//! Driver and function share one core, as a function and the service's own parts do in a small environment, and the
//! functions take turns, so that whatever else the machine does meets all of them. Only ratios within one run mean
//! anything.

mod api;
mod process;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::Serialize;

use crate::{api::RuntimeApi, process::Function};

/// Measures functions, each given as NAME=BINARY.
#[derive(Debug, Parser)]
struct Arguments {
    /// The functions, in the order of their turns.
    #[arg(required = true, value_name = "NAME=BINARY")]
    functions: Vec<String>,
    /// The event of each call, a file of JSON.
    #[arg(long)]
    event: PathBuf,
    /// Turns of each function.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Warm calls in a turn.
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// Variables of the functions' environment.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Runs each function under this program, such as `valgrind --tool=callgrind`.
    #[arg(long)]
    under: Option<String>,
}

/// One turn of one function.
#[derive(Debug, Serialize)]
struct Turn {
    name: String,
    /// From starting the process to its first request for an invocation.
    start_us: f64,
    /// Processor time that this took.
    start_cpu_us: f64,
    first_call_us: f64,
    warm_p50_us: f64,
    warm_p99_us: f64,
    cpu_per_call_us: f64,
    peak_memory_kib: u64,
    process_id: u32,
}

#[expect(clippy::print_stdout, reason = "the result is printed for a script to read")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let event = std::fs::read_to_string(&arguments.event)
        .with_context(|| format!("could not read {}", arguments.event.display()))?;
    pin_to_one_core()?;
    let mut turns = Vec::new();
    for _ in 0..arguments.runs {
        for function in &arguments.functions {
            let (name, binary) =
                function.split_once('=').with_context(|| format!("{function}: expected NAME=BINARY"))?;
            turns.push(
                measure(name, binary, &event, &arguments).with_context(|| format!("{name} could not be measured"))?,
            );
        }
    }
    println!("{}", serde_json::to_string(&turns)?);
    Ok(())
}

/// The last core that this process may use; what it starts inherits that.
fn pin_to_one_core() -> anyhow::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("this process may use no core")?)?;
    Ok(sched_setaffinity(this, &one)?)
}

fn measure(name: &str, binary: &str, event: &str, arguments: &Arguments) -> anyhow::Result<Turn> {
    let mut api = RuntimeApi::bind()?;
    let started = Instant::now();
    let function = Function::start(binary, &api.address()?, &arguments.variables, arguments.under.as_deref())?;
    api.wait_for_question()?;
    let start = started.elapsed();
    let start_cpu = function.cpu_time()?;
    let (first, answer) = api.call(event)?;
    // A function that refuses quickly would look fast.
    ensure!(answer.contains("Hello, Ada!") && answer.contains(r#""statusCode":200"#), "it does not greet: {answer}");
    let before = function.cpu_time()?;
    let mut warm = Vec::with_capacity(arguments.calls);
    for _ in 0..arguments.calls {
        warm.push(api.call(event)?.0);
    }
    let cpu = function.cpu_time()?.saturating_sub(before);
    warm.sort();
    let microseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let at = |share: f64| warm.get(percentile(warm.len(), share)).copied().unwrap_or_default();
    Ok(Turn {
        name: name.to_owned(),
        start_us: microseconds(start),
        start_cpu_us: microseconds(start_cpu),
        first_call_us: microseconds(first),
        warm_p50_us: microseconds(at(0.5)),
        warm_p99_us: microseconds(at(0.99)),
        cpu_per_call_us: microseconds(cpu) / arguments.calls.max(1) as f64,
        peak_memory_kib: function.peak_memory_kib()?,
        process_id: function.id(),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length is an index")]
fn percentile(length: usize, share: f64) -> usize {
    (length as f64 * share) as usize
}
