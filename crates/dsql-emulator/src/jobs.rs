//! Asynchronous indexes and the schema `sys`, which the emulator keeps in the database itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    backend::{Backend, BackendError, execute},
    policy::literal,
    token::ADMIN,
};

/// The tables and the procedure of `sys` that clients use. `wait_for_job` only reads the outcome: the emulator has waited before it
/// passes the call on. The lock is for emulators that start at the same time in front of one database.
const SYS: &str = "SELECT pg_advisory_xact_lock(7234296131);
    CREATE SCHEMA IF NOT EXISTS sys;
    CREATE TABLE IF NOT EXISTS sys.jobs (
        job_id text PRIMARY KEY, status text NOT NULL, details text, job_type text NOT NULL, object_name text,
        start_time timestamptz NOT NULL DEFAULT now(), update_time timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS sys.iam_pg_role_mappings (pg_role_name text, arn text, PRIMARY KEY (pg_role_name, arn));
    CREATE OR REPLACE PROCEDURE sys.wait_for_job(job text, INOUT succeeded boolean DEFAULT NULL) LANGUAGE plpgsql AS $$
        BEGIN
            SELECT status = 'completed' INTO succeeded FROM sys.jobs WHERE job_id = job;
            IF NOT FOUND THEN RAISE 'job % not found', job USING ERRCODE = '42704'; END IF;
        END $$;
    GRANT USAGE ON SCHEMA sys TO PUBLIC;
    GRANT SELECT ON ALL TABLES IN SCHEMA sys TO PUBLIC";

/// Time in which a wrong statement fails. A build that takes longer is asynchronous for its client.
const EARLY: Duration = Duration::from_millis(200);

/// The indexes that are being built.
#[derive(Debug)]
pub(crate) struct Jobs {
    backend: Backend,
    number: AtomicU64,
    building: Arc<watch::Sender<usize>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Jobs {
    /// Creates the schema `sys`, if it is not there.
    pub(crate) async fn prepare(backend: Backend) -> Result<Self, BackendError> {
        let (mut connection, _) = backend.connect(&[]).await?;
        execute(&mut connection, "SET default_transaction_isolation = 'read committed'").await?;
        execute(&mut connection, SYS).await?;
        connection.close().await;
        let (building, _) = watch::channel(0);
        Ok(Self { backend, number: AtomicU64::new(0), building: Arc::new(building), tasks: Mutex::default() })
    }

    /// Starts to build an index as a role, and returns the id of its job.
    ///
    /// # Errors
    ///
    /// When the statement is wrong. Duplicates in a unique index fail the job, and leave an invalid index.
    pub(crate) async fn build(&self, role: &str, build: &str, table: &str) -> Result<String, BackendError> {
        let (mut connection, _) = self.backend.connect(&[]).await?;
        if role != ADMIN {
            execute(&mut connection, &format!("SET SESSION AUTHORIZATION {}", quoted(role))).await?;
        }
        execute(&mut connection, &format!("SELECT {}::regclass", literal(table))).await?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = format!("job{nanos:x}{:x}", self.number.fetch_add(1, Ordering::Relaxed));
        let (mut log, _) = self.backend.connect(&[]).await?;
        let job = literal(&id);
        let table = literal(table);
        let row = format!("INSERT INTO sys.jobs VALUES ({job}, 'processing', NULL, 'INDEX_BUILD', {table})");
        execute(&mut log, &row).await?;
        self.building.send_modify(|count| *count += 1);
        let (building, build) = (Arc::clone(&self.building), build.to_owned());
        let (sent, received) = oneshot::channel();
        let task = async move {
            let built = execute(&mut connection, &build).await;
            let (status, details) = match &built {
                Ok(_) => ("completed", "NULL".to_owned()),
                Err(error) => ("failed", literal(&error.to_string())),
            };
            let update = format!(
                "UPDATE sys.jobs SET status = '{status}', details = {details}, update_time = now() WHERE job_id = {job}"
            );
            // If the database is gone, so is the job.
            let _ = execute(&mut log, &update).await;
            building.send_modify(|count| *count -= 1);
            let _ = sent.send(built);
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
        match timeout(EARLY, received).await {
            Ok(Ok(Err(BackendError::Rejected(error, frame)))) if error.code != "23505" => {
                Err(BackendError::Rejected(error, frame))
            }
            _ => Ok(id),
        }
    }

    /// Waits until no index is being built.
    pub(crate) async fn wait(&self) {
        let _ = self.building.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Quotes a name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
