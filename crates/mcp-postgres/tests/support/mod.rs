//! Shared test fixtures: a database, the context of a call, and a proxy that counts round trips.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dsql_emulator::{EmulatorConfig, Faults, Limits, TestCluster};
use mcp_postgres::{Database, DatabaseConfig, DatabaseError, Retry};
use mcp_protocol::{ProtocolVersion, RequestId, RequestMeta};
use mcp_server::{
    Authorization, Call, CallResponse, HandlerError, Invocation, NoArguments, Server, Settings, Tool, ToolContext,
};
use mcp_testing::{BackendKind, TestBackend, TestDatabase};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, migrate::Migrator};

pub(crate) static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");

/// Longer than each test needs, so that no test hangs.
pub(crate) const LIMIT: Option<Duration> = Some(Duration::from_secs(9));

pub(crate) const NOTE: &str = "INSERT INTO notes (text) VALUES ('note')";

/// A database for one test. On Aurora DSQL, the table of [`MIGRATOR`] exists.
pub(crate) async fn create(kind: BackendKind) -> TestBackend {
    match kind {
        BackendKind::Postgres => TestBackend::create(kind).await,
        BackendKind::Dsql => cluster(Limits::default(), Faults::default()).await,
    }
}

pub(crate) async fn cluster(limits: Limits, faults: Faults) -> TestBackend {
    let test = TestDatabase::create().await;
    MIGRATOR.run(&mut test.connect().await).await.unwrap();
    let config = EmulatorConfig { limits, faults, ..EmulatorConfig::new(test.url()) };
    let cluster = TestCluster::start(config).await.unwrap();
    TestBackend::from_cluster(test, cluster)
}

/// An emulator in a separate thread.
pub(crate) async fn cluster_in_a_thread(limits: Limits) -> TestBackend {
    let test = TestDatabase::create().await;
    MIGRATOR.run(&mut test.connect().await).await.unwrap();
    // Other tests use the same Postgres.
    let config = EmulatorConfig { limits, backend_sessions: 30, ..EmulatorConfig::new(test.url()) };
    let (started, start) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            started.send(TestCluster::start(config).await.unwrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    TestBackend::from_cluster(test, start.recv().unwrap())
}

pub(crate) fn config(backend: &TestBackend, variables: &[(&str, &str)]) -> DatabaseConfig {
    let own = backend.variables();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let get =
        |name: &str| variables.iter().copied().chain(own.clone()).find(|(own, _)| *own == name).map(|(_, value)| value);
    DatabaseConfig::from_env(get).unwrap()
}

pub(crate) async fn open(test: &TestBackend, concurrency: usize) -> Database {
    open_with(test, concurrency, &[]).await
}

pub(crate) async fn open_with(test: &TestBackend, concurrency: usize, variables: &[(&str, &str)]) -> Database {
    let mut config = config(test, variables);
    config.connections = concurrency;
    Database::open(config, &MIGRATOR).await
}

/// The state of a server whose only tool keeps its context.
#[derive(Default)]
pub(crate) struct ContextSlot(Arc<Mutex<Option<ToolContext<ContextSlot>>>>);

/// The context of a call whose handler has this time limit.
pub(crate) async fn context(limit: Option<Duration>) -> ToolContext<ContextSlot> {
    async fn keep(context: ToolContext<ContextSlot>, _: NoArguments) -> Result<&'static str, HandlerError> {
        *context.state().0.lock().unwrap() = Some(context.clone());
        Ok("kept")
    }
    let kept = ContextSlot::default();
    let slot = Arc::clone(&kept.0);
    let settings = Settings { authorization: Authorization::DangerouslyOff, ..Settings::default() };
    let server = Server::new("test", "0.0.0", kept).tool(Tool::new("keep", keep)).build(settings).unwrap();
    // The server responds half a second before the platform ends the invocation.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit + Duration::from_millis(500)));
    let invocation = Arc::new(Invocation { deadline, ..Invocation::default() });
    let params = serde_json::from_str(r#"{ "name": "keep" }"#).unwrap();
    let resolved = server.resolve(ProtocolVersion::LATEST, "tools/call", params, &invocation);
    let call = Call { id: RequestId::from(1), meta: RequestMeta::default(), notifications: None };
    if let CallResponse::Pending(handler) = resolved.run(call) {
        handler.await;
    }
    slot.lock().unwrap().take().unwrap()
}

/// Executes one statement as a write in a separate call.
pub(crate) async fn execute(
    database: &Database,
    limit: Option<Duration>,
    retry: Retry,
    sql: &str,
) -> Result<u64, DatabaseError> {
    let context = context(limit).await;
    let done = database.write(&context, retry, async |mut connection| {
        Ok(connection.execute(AssertSqlSafe(sql)).await?.rows_affected())
    });
    done.await
}

/// Counts the other connections to the database.
pub(crate) async fn sessions(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    connection.fetch_one(sql).await.unwrap().get(0)
}

/// Waits until there are `count` of them.
pub(crate) async fn wait_for_sessions(connection: &mut PgConnection, count: i64) {
    for _ in 0..500 {
        if sessions(connection).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sessions(connection).await, count);
}

/// Waits until a session waits for a lock.
pub(crate) async fn wait_for_a_lock(connection: &mut PgConnection) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while connection.fetch_one(sql).await.unwrap().get::<i64, _>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn end_sessions(connection: &mut PgConnection) {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    connection.execute(sql).await.unwrap();
}

pub(crate) async fn notes(test: &TestDatabase) -> i64 {
    test.connect().await.fetch_one("SELECT count(*) FROM notes").await.unwrap().get(0)
}

/// A proxy between client and database that counts round trips.
pub(crate) struct Proxy {
    pub(crate) url: String,
    counter: Arc<Counter>,
}

#[derive(Default)]
struct Counter {
    round_trips: AtomicU32,
    server_has_spoken: AtomicBool,
}

impl Proxy {
    /// `is_pooler`: it ignores settings of a session, as poolers do. Its clients share one session at a time at most.
    pub(crate) fn start(test: &TestDatabase, is_pooler: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (credentials, rest) = test.url().split_once('@').unwrap();
        let (address, name) = rest.split_once('/').unwrap();
        let url = format!("{credentials}@{}/{name}", listener.local_addr().unwrap());
        let counter = Arc::new(Counter::default());
        let (address, own) = (address.to_owned(), Arc::clone(&counter));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (asked, answered) = (Arc::clone(&own), Arc::clone(&own));
                thread::spawn(move || {
                    pump(from_server, to_client, || answered.server_has_spoken.store(true, Ordering::SeqCst))
                });
                thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    server.write_all(&startup(&mut client, is_pooler)).unwrap();
                    pump(client, server, || {
                        if asked.server_has_spoken.swap(false, Ordering::SeqCst) {
                            asked.round_trips.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                });
            }
        });
        Self { url, counter }
    }

    /// Returns the round trips since the last call.
    pub(crate) fn round_trips(&self) -> u32 {
        self.counter.round_trips.swap(0, Ordering::SeqCst)
    }
}

/// Starts a proxy that replaces the response to a statement with [`NOTE`] by an error that ends the session. Returns its URL.
pub(crate) fn start_failing_proxy(test: &TestDatabase, severity: &str, code: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (credentials, rest) = test.url().split_once('@').unwrap();
    let (address, name) = rest.split_once('/').unwrap();
    let url = format!("{credentials}@{}/{name}", listener.local_addr().unwrap());
    let fields = format!("S{severity}\0V{severity}\0C{code}\0Mthe session has ended\0\0");
    let error = [&b"E"[..], &u32::try_from(fields.len() + 4).unwrap().to_be_bytes(), fields.as_bytes()].concat();
    let address = address.to_owned();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (fails, error) = (Arc::new(AtomicBool::new(false)), error.clone());
            let is_sent = Arc::clone(&fails);
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from_client.read(&mut bytes) {
                    let has_note = bytes[..length].windows(NOTE.len()).any(|own| own == NOTE.as_bytes());
                    is_sent.fetch_or(has_note, Ordering::SeqCst);
                    to_server.write_all(&bytes[..length]).unwrap();
                }
            });
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = server.read(&mut bytes) {
                    if fails.load(Ordering::SeqCst) {
                        let _ = client.write_all(&error);
                        let _ = client.shutdown(std::net::Shutdown::Both);
                        break;
                    }
                    client.write_all(&bytes[..length]).unwrap();
                }
            });
        }
    });
    url
}

/// The startup message of a client; without `options` if it is sent to a pooler.
fn startup(client: &mut TcpStream, is_pooler: bool) -> Vec<u8> {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut body).unwrap();
    let (version, parameters) = body.split_at(4);
    let parameters: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let mut kept = version.to_vec();
    for pair in parameters.chunks_exact(2).filter(|pair| !(pair[0].is_empty() || is_pooler && pair[0] == b"options")) {
        kept.extend([pair[0], b"\0", pair[1], b"\0"].concat());
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &kept].concat()
}

fn pump(mut source: TcpStream, mut sink: TcpStream, mut passed: impl FnMut()) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = source.read(&mut bytes) {
        passed();
        if sink.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = sink.shutdown(std::net::Shutdown::Both);
    let _ = source.shutdown(std::net::Shutdown::Both);
}
