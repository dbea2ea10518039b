//! Asynchronous jobs, and the schema `sys`, which is created in the database behind the emulator.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    backend::{Backend, BackendError, execute},
    policy::{Job, JobKind, literal},
    token::ADMIN,
};

/// The tables and procedures of `sys`, some of which clients use.
const SYS: &str = include_str!("sys.sql");

/// Maximum time to wait for the error of an invalid statement. A job that takes longer is asynchronous for its client.
const ERROR_WAIT: Duration = Duration::from_millis(200);
/// Interval of the checks whether a statement is known to be valid.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The jobs that are running.
#[derive(Debug)]
pub(crate) struct Jobs {
    backend: Backend,
    number: AtomicU64,
    building: Arc<watch::Sender<usize>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Jobs {
    /// Creates the schema `sys`, if it does not exist.
    pub(crate) async fn prepare(backend: Backend) -> Result<Self, BackendError> {
        let (mut connection, _) = backend.connect(&[]).await?;
        execute(&mut connection, "SET default_transaction_isolation = 'read committed'").await?;
        execute(&mut connection, SYS).await?;
        connection.close().await;
        let (building, _) = watch::channel(0);
        Ok(Self { backend, number: AtomicU64::new(0), building: Arc::new(building), tasks: Mutex::default() })
    }

    /// Starts a job as a role, and returns its id.
    ///
    /// # Errors
    ///
    /// When the statement is invalid. Rows that violate a unique index or a constraint fail the job, and the index or the constraint stays
    /// invalid.
    pub(crate) async fn start(&self, role: &str, job: &Job) -> Result<String, BackendError> {
        let Job { sql, table, keys, kind } = job;
        let (mut connection, _) = self.backend.connect(&[]).await?;
        if role != ADMIN {
            execute(&mut connection, &format!("SET SESSION AUTHORIZATION {}", quoted(role))).await?;
        }
        let keys = keys.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let checked =
            format!("SELECT pg_backend_pid(), sys.check_keys({}::regclass, ARRAY[{keys}]::name[])", literal(table));
        let pid = execute(&mut connection, &checked).await?.concat();
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = format!("job{nanos:x}{:x}", self.number.fetch_add(1, Ordering::Relaxed));
        let (mut log, _) = self.backend.connect(&[]).await?;
        let job = literal(&id);
        let (table, job_type) = (literal(table), kind.job_type());
        let row = format!("INSERT INTO sys.jobs VALUES ({job}, 'processing', NULL, '{job_type}', {table})");
        execute(&mut log, &row).await?;
        let log = Arc::new(AsyncMutex::new(log));
        self.building.send_modify(|count| *count += 1);
        let (building, sql, job_log) = (Arc::clone(&self.building), sql.clone(), Arc::clone(&log));
        let (sent, received) = oneshot::channel();
        let task = async move {
            let built = execute(&mut connection, &sql).await;
            let (status, details) = match &built {
                Ok(_) => ("completed", "NULL".to_owned()),
                Err(BackendError::Rejected(error, _)) => ("failed", literal(&error.message)),
                Err(error) => ("failed", literal(&error.to_string())),
            };
            let update = format!(
                "UPDATE sys.jobs SET status = '{status}', details = {details}, update_time = now() WHERE job_id = {job}"
            );
            // If the database is not available, the row of the job cannot be updated.
            let _ = execute(&mut *job_log.lock().await, &update).await;
            building.send_modify(|count| *count -= 1);
            let _ = sent.send(built);
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
        // Postgres has checked an index, and has built it, when it waits for the client's transaction to end.
        let is_valid = format!("SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'");
        let end = Instant::now() + ERROR_WAIT;
        let valid = async {
            while Instant::now() < end
                && execute(&mut *log.lock().await, &is_valid).await.is_ok_and(|rows| rows.is_empty())
            {
                sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            built = received => match built {
                Ok(Err(BackendError::Rejected(error, frame))) if !kind.is_violation(&error.code) => {
                    Err(BackendError::Rejected(error, frame))
                }
                _ => Ok(id),
            },
            () = valid => Ok(id),
        }
    }

    /// Waits until no job is running.
    pub(crate) async fn wait(&self) {
        let _ = self.building.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl JobKind {
    /// LIVE: `sys.jobs.job_type`.
    fn job_type(self) -> &'static str {
        match self {
            Self::IndexBuild => "INDEX_BUILD",
            Self::ConstraintValidation => "VALIDATE_CONSTRAINT",
        }
    }

    /// Reports whether an error of Postgres is caused by rows that violate the index or the constraint.
    fn is_violation(self, code: &str) -> bool {
        match self {
            Self::IndexBuild => code == "23505",
            Self::ConstraintValidation => matches!(code, "23503" | "23514"),
        }
    }
}

/// Quotes a name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
