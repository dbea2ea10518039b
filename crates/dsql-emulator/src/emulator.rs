//! [`Emulator`]: the listener, and the state that its connections share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    EmulatorConfig, Faults, Limits, TestCredentials, admission::Admission, authority, backend::Backend,
    faults::FaultInjector, jobs::Jobs, startup, token,
};

/// Time for TLS, the startup message and the token.
const STARTUP_TIME: Duration = Duration::from_secs(10);
/// Maximum number of connections that start at once. Others wait in the backlog of the listener, so that the rate of admission is
/// limited by the speed of the machine.
const STARTING: usize = 64;

/// State that the connections of an emulator share.
pub(crate) struct Shared {
    pub(crate) backend: Backend,
    pub(crate) hosts: Vec<String>,
    pub(crate) region: String,
    pub(crate) credentials: TestCredentials,
    pub(crate) limits: Limits,
    pub(crate) injector: FaultInjector,
    pub(crate) admission: Admission,
    /// Sessions in Postgres.
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) jobs: Jobs,
    pub(crate) tls: Arc<ServerConfig>,
    /// Connections that were closed because of their age.
    pub(crate) aged: AtomicU64,
}

/// A running emulator. It closes all connections when it is dropped.
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    certificate: String,
    listener: JoinHandle<()>,
}

/// Counts of connections since the start of an emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were admitted.
    pub admitted: u64,
    /// Connections that were rejected by the limit of their number or rate.
    pub rejected: u64,
    /// Connections that were closed because of their age.
    pub aged: u64,
}

impl Emulator {
    /// Starts an emulator, and creates the schema `sys` in its database.
    ///
    /// # Errors
    ///
    /// When Postgres is not available, or the port is taken.
    pub async fn start(config: EmulatorConfig) -> anyhow::Result<Self> {
        let EmulatorConfig { backend, backend_sessions, port, hosts, region, credentials, limits, faults } = config;
        let backend = Backend::parse(&backend, limits.transaction_time)?;
        let (tls, certificate) = authority::create(&hosts)?;
        let jobs = Jobs::prepare(backend.clone()).await.context("could not prepare the database")?;
        let (injector, admission) = (FaultInjector::new(faults), Admission::new(&limits));
        let (sessions, aged) = (Arc::new(Semaphore::new(backend_sessions)), AtomicU64::new(0));
        let shared =
            Shared { backend, hosts, region, credentials, limits, injector, admission, sessions, jobs, tls, aged };
        let shared = Arc::new(shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("could not listen")?;
        let address = listener.local_addr()?;
        let listener = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, certificate, listener })
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate of the emulator's own authority in PEM, for `DB_SSLROOTCERT`.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a token for a user of the first host, for clients that are not configured with the credentials.
    ///
    /// # Errors
    ///
    /// When the emulator has no host.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        let Shared { hosts, region, credentials, .. } = &*self.shared;
        token::sign_token(hosts.first().context("no host")?, user, region, credentials, SystemTime::now())
    }

    /// Replaces the failures that are injected.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.injector.set(faults);
    }

    /// Returns the counts since the start.
    pub fn counts(&self) -> Counts {
        let Shared { admission, aged, .. } = &*self.shared;
        Counts {
            admitted: admission.admitted.load(Ordering::Relaxed),
            rejected: admission.rejected.load(Ordering::Relaxed),
            aged: aged.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let starting = Arc::new(Semaphore::new(STARTING));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&starting).acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { serve(stream, &shared, permit.ok()).await });
                }
                // Out of file descriptors: retry, because connections are closed soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. An error of the protocol closes it without a message, as DSQL does.
async fn serve(stream: TcpStream, shared: &Arc<Shared>, starting: Option<OwnedSemaphorePermit>) {
    let started = timeout(STARTUP_TIME, startup::start(stream, shared)).await;
    drop(starting);
    if let Ok(Ok(Some(started))) = started {
        let _permits = started.permits;
        let _ = Box::pin(started.session.run()).await;
    }
}
