//! The implementations under test.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use dsql_emulator::{EmulatorConfig, Faults, TestCluster};
use mcp_postgres::{DatabaseConfig, PostgresStore};
use mcp_server::store::{
    Content, Kind, MAX_VALUE_BYTES, MemoryStore, RowKey, RowTag, SealedStore, Store, StoreClock, StoreKeys,
};
use mcp_testing::{TestBackend, TestDatabase};
use sqlx::PgConnection;

pub(crate) const KIND: Kind = Kind::new("test");
pub(crate) const TAG: RowTag = RowTag { kind: KIND, subject: None };
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Stores that share a database, as environments do.
const ENVIRONMENTS: usize = 5;
/// The emulator may count the text of a value, which is twice its bytes.
const EMULATED_BYTES: usize = 500_000;

/// An implementation with the stores of several environments.
pub(crate) struct Harness {
    pub(crate) stores: Vec<Arc<dyn Store>>,
    /// The first store, sealed.
    pub(crate) sealed: SealedStore,
    pub(crate) clock: TestClock,
    /// Size of the largest value that is stored.
    pub(crate) largest: usize,
    database: Option<TestDatabase>,
    _cluster: Option<TestBackend>,
}

/// A clock that only tests advance.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<SystemTime>>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))))
    }

    pub(crate) fn advance(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }

    fn store_clock(&self) -> StoreClock {
        let own = Arc::clone(&self.0);
        Arc::new(move || *own.lock().unwrap())
    }
}

impl Harness {
    pub(crate) fn memory() -> Self {
        let clock = TestClock::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(clock.store_clock()));
        Self::new(vec![store; ENVIRONMENTS], clock)
    }

    pub(crate) async fn postgres() -> Self {
        let (clock, test) = (TestClock::new(), TestDatabase::create().await);
        let store = |_| PostgresStore::new(config(&test, "on", 2)).with_clock(clock.store_clock());
        let stores = (0..ENVIRONMENTS).map(store).map(|store| Arc::new(store) as Arc<dyn Store>).collect();
        Self { database: Some(test), ..Self::new(stores, clock) }
    }

    pub(crate) async fn dsql() -> Self {
        let clock = TestClock::new();
        let cluster = cluster(Faults { conflict: 0.2, seed: 1, ..Faults::default() }).await;
        store(&cluster, 1).migrate().await.unwrap();
        let store = |_| store(&cluster, 2).with_clock(clock.store_clock());
        let stores = (0..ENVIRONMENTS).map(store).map(|store| Arc::new(store) as Arc<dyn Store>).collect();
        Self { largest: EMULATED_BYTES, _cluster: Some(cluster), ..Self::new(stores, clock) }
    }

    fn new(stores: Vec<Arc<dyn Store>>, clock: TestClock) -> Self {
        let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).unwrap();
        let sealed = SealedStore::new(Arc::clone(&stores[0]), keys);
        Self { stores, sealed, clock, largest: MAX_VALUE_BYTES, database: None, _cluster: None }
    }

    /// Returns the store of an environment; `number` may exceed their number.
    pub(crate) fn store(&self, number: usize) -> &dyn Store {
        &*self.stores[number % self.stores.len()]
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        self.database.as_ref().expect("a harness on Postgres").connect().await
    }
}

/// Aurora DSQL by its emulator.
pub(crate) async fn cluster(faults: Faults) -> TestBackend {
    let test = TestDatabase::create().await;
    let config = EmulatorConfig { faults, ..EmulatorConfig::new(test.url()) };
    let cluster = TestCluster::start(config).await.unwrap();
    TestBackend::from_cluster(test, cluster)
}

pub(crate) fn store(backend: &TestBackend, connections: usize) -> PostgresStore {
    let variables = backend.variables();
    let get = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let mut config = DatabaseConfig::from_env(get).unwrap();
    config.connections = connections;
    PostgresStore::new(config)
}

/// The configuration of a store on Postgres; `migrate` is `on` or `off`.
pub(crate) fn config(test: &TestDatabase, migrate: &str, connections: usize) -> DatabaseConfig {
    let get = |name: &str| match name {
        "DATABASE_URL" => Some(test.url()),
        "DB_MIGRATE" => Some(migrate),
        _ => None,
    };
    let mut config = DatabaseConfig::from_env(get).unwrap();
    config.connections = connections;
    config
}

pub(crate) fn row(byte: u8) -> RowKey {
    RowKey::from_bytes([byte; 32])
}

/// A value that lives for an hour.
pub(crate) fn content(value: &[u8]) -> Content<'_> {
    Content { value, expires_in: HOUR, due_in: None }
}
