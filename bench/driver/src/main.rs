//! Benchmark driver: runs built functions through the Runtime API and prints measurements as JSON.
//!
//! Driver and function share one core (unless a candidate needs more), as a function and the service do in a small
//! environment. The functions run in turns, so that other load on the machine affects all of them. Only ratios within
//! one run are meaningful.

mod api;
mod process;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
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
    /// JSON file: an array of candidates, in the order of their turns.
    plan: PathBuf,
    /// Number of turns of each function.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Number of warm calls in a turn.
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// Program to run each function under, such as valgrind. Repeat the option for each of its arguments.
    #[arg(long)]
    under: Vec<String>,
}

/// Function under test and its calls.
#[derive(Debug, Deserialize)]
struct Candidate {
    name: String,
    binary: PathBuf,
    /// Environment variables.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// File of events, one per line, which are sent in a cycle.
    events: PathBuf,
    /// Text that each response must contain.
    answer: String,
    /// Maximum number of concurrent invocations, passed to the function as `AWS_LAMBDA_MAX_CONCURRENCY`.
    #[serde(default = "one")]
    at_once: usize,
    /// Number of cores that driver and function share.
    #[serde(default = "one")]
    cores: usize,
}

fn one() -> usize {
    1
}

/// Measurements of one turn of one function.
#[derive(Debug, Serialize)]
struct Turn {
    name: String,
    /// Time from the start of the process to its first request of an invocation.
    start_us: f64,
    /// CPU time of that phase.
    start_cpu_us: f64,
    first_call_us: f64,
    warm_p50_us: f64,
    warm_p99_us: f64,
    cpu_per_call_us: f64,
    calls_per_second: f64,
    /// Peak memory after one percent of the warm calls.
    early_memory_kib: u64,
    peak_memory_kib: u64,
    process_id: u32,
}

#[expect(clippy::print_stdout, reason = "the result is printed for a script")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let candidates: Vec<Candidate> = serde_json::from_str(&read(&arguments.plan)?)?;
    let events = candidates.iter().map(|candidate| read(&candidate.events)).collect::<anyhow::Result<Vec<_>>>()?;
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut turns = Vec::new();
    for _ in 0..arguments.runs {
        for (candidate, events) in candidates.iter().zip(&events) {
            let events: Vec<&str> = events.lines().collect();
            pin(&allowed, candidate.cores)?;
            let measured = measure(candidate, &events, &arguments);
            turns.push(measured.with_context(|| format!("measuring {} failed", candidate.name))?);
        }
    }
    println!("{}", serde_json::to_string(&turns)?);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

/// Pins this process and its children to the last allowed cores.
fn pin(allowed: &CpuSet, count: usize) -> anyhow::Result<()> {
    let allowed = (0..CpuSet::count()).rev().filter(|core| allowed.is_set(*core).unwrap_or(false));
    let mut chosen = CpuSet::new();
    let mut found = 0;
    for core in allowed.take(count) {
        chosen.set(core)?;
        found += 1;
    }
    ensure!(found == count, "this process may use {found} cores, not {count}");
    Ok(sched_setaffinity(Pid::from_raw(0), &chosen)?)
}

fn measure(candidate: &Candidate, events: &[&str], arguments: &Arguments) -> anyhow::Result<Turn> {
    ensure!(!events.is_empty(), "the file has no events");
    let mut events = events.iter().copied().cycle();
    let mut api = RuntimeApi::bind()?;
    let started = Instant::now();
    let function = Function::start(candidate, &api.address()?, &arguments.under)?;
    api.wait_for_next()?;
    let start = started.elapsed();
    let start_cpu = function.cpu_time()?;
    let answer = candidate.answer.as_str();
    let first = api.call(events.by_ref().take(1), 1, answer)?;
    let (before, began) = (function.cpu_time()?, Instant::now());
    let early = arguments.calls / 100;
    let mut warm = api.call(events.by_ref().take(early), candidate.at_once, answer)?;
    let early_memory_kib = function.peak_memory_kib()?;
    warm.extend(api.call(events.take(arguments.calls - early), candidate.at_once, answer)?);
    let elapsed = began.elapsed();
    let cpu = function.cpu_time()?.saturating_sub(before);
    warm.sort();
    let microseconds = |duration: Duration| duration.as_secs_f64() * 1e6;
    let at = |share: f64| warm.get(percentile(warm.len(), share)).copied().unwrap_or_default();
    Ok(Turn {
        name: candidate.name.clone(),
        start_us: microseconds(start),
        start_cpu_us: microseconds(start_cpu),
        first_call_us: microseconds(first[0]),
        warm_p50_us: microseconds(at(0.5)),
        warm_p99_us: microseconds(at(0.99)),
        cpu_per_call_us: microseconds(cpu) / arguments.calls.max(1) as f64,
        calls_per_second: arguments.calls as f64 / elapsed.as_secs_f64(),
        early_memory_kib,
        peak_memory_kib: function.peak_memory_kib()?,
        process_id: function.id(),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a length is an index")]
fn percentile(length: usize, share: f64) -> usize {
    (length as f64 * share) as usize
}
