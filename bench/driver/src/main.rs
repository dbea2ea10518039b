//! Drives built functions through the Runtime API and prints what they took, as JSON.
//!
//! Driver and function share one core, as a function and the service's own parts do in a small environment, and the
//! functions take turns, so that whatever else the machine does meets all of them. Only ratios within one run mean
//! anything.

mod api;
mod process;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, ensure};
use clap::Parser;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{api::RuntimeApi, process::Function};

/// Measures functions.
#[derive(Debug, Parser)]
struct Arguments {
    /// The functions, in the order of their turns: a file of JSON, an array of objects.
    plan: PathBuf,
    /// Turns of each function.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Warm calls in a turn.
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// Runs each function under this program, such as `valgrind --tool=callgrind`.
    #[arg(long)]
    under: Option<String>,
}

/// A function, and how it is called.
#[derive(Debug, Deserialize)]
struct Candidate {
    name: String,
    binary: PathBuf,
    /// Its environment.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// A file of events, one a line, which are sent one after the other and then from the start.
    events: PathBuf,
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
    let candidates: Vec<Candidate> = serde_json::from_str(&read(&arguments.plan)?)?;
    let events = candidates.iter().map(|candidate| read(&candidate.events)).collect::<anyhow::Result<Vec<_>>>()?;
    pin_to_one_core()?;
    let mut turns = Vec::new();
    for _ in 0..arguments.runs {
        for (candidate, events) in candidates.iter().zip(&events) {
            let events: Vec<&str> = events.lines().collect();
            let measured = measure(candidate, &events, &arguments);
            turns.push(measured.with_context(|| format!("{} could not be measured", candidate.name))?);
        }
    }
    println!("{}", serde_json::to_string(&turns)?);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
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

fn measure(candidate: &Candidate, events: &[&str], arguments: &Arguments) -> anyhow::Result<Turn> {
    let mut events = events.iter().cycle();
    let mut next = || events.next().context("there are no events");
    let mut api = RuntimeApi::bind()?;
    let started = Instant::now();
    let function = Function::start(candidate, &api.address()?, arguments.under.as_deref())?;
    api.wait_for_question()?;
    let start = started.elapsed();
    let start_cpu = function.cpu_time()?;
    let (first, answer) = api.call(next()?)?;
    // A function that refuses quickly would look fast.
    ensure!(answer.contains("Hello, Ada!") && answer.contains(r#""statusCode":200"#), "it does not greet: {answer}");
    let before = function.cpu_time()?;
    let mut warm = Vec::with_capacity(arguments.calls);
    for _ in 0..arguments.calls {
        warm.push(api.call(next()?)?);
    }
    // Afterwards, so that it is not measured.
    ensure!(warm.iter().all(|(_, answer)| answer.contains("Hello, Ada!")), "it does not greet every time");
    let mut warm: Vec<_> = warm.into_iter().map(|(elapsed, _)| elapsed).collect();
    let cpu = function.cpu_time()?.saturating_sub(before);
    warm.sort();
    let microseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let at = |share: f64| warm.get(percentile(warm.len(), share)).copied().unwrap_or_default();
    Ok(Turn {
        name: candidate.name.clone(),
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
