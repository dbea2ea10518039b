//! Process of a function, and its statistics in `/proc`.

use std::{
    ffi::OsStr,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::Candidate;

/// Time between SIGTERM and SIGKILL, sufficient for valgrind.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Function(Child);

impl Function {
    pub(crate) fn start(candidate: &Candidate, runtime_api: &str, under: &[String]) -> anyhow::Result<Self> {
        let mut words: Vec<&OsStr> = under.iter().map(OsStr::new).collect();
        words.push(candidate.binary.as_os_str());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&candidate.variables)
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .envs((candidate.at_once > 1).then(|| ("AWS_LAMBDA_MAX_CONCURRENCY", candidate.at_once.to_string())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("could not start {}", words[0].display()))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the CPU time of all threads (`/proc/<pid>/task/*/schedstat`, nanoseconds).
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    pub(crate) fn peak_memory_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).context("no VmHWM in /proc")
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // SIGTERM first: valgrind then writes its counts.
        let pid = i32::try_from(self.id()).unwrap_or_default();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        let end = Instant::now() + SHUTDOWN_TIMEOUT;
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > end {
                let _ = self.0.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
