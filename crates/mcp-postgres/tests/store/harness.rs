//! The implementations under test.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use dsql_emulator::{Emulator, EmulatorConfig, Faults, TestCredentials};
use mcp_postgres::{DatabaseConfig, PostgresStore};
use mcp_server::store::{
    Content, Kind, MAX_VALUE_BYTES, MemoryStore, RowKey, RowTag, SealedStore, Store, StoreClock, StoreKeys,
};
use mcp_testing::TestDatabase;
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
    _cluster: Option<Cluster>,
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
        let cluster = Cluster::start(Faults { conflict: 0.2, seed: 1, ..Faults::default() }).await;
        cluster.store(1).migrate().await.unwrap();
        let store = |_| cluster.store(2).with_clock(clock.store_clock());
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
pub(crate) struct Cluster {
    pub(crate) emulator: Emulator,
    certificate: PathBuf,
    _test: TestDatabase,
}

impl Cluster {
    pub(crate) async fn start(faults: Faults) -> Self {
        let test = TestDatabase::create().await;
        let mut config = EmulatorConfig::new(test.url());
        config.faults = faults;
        let emulator = Emulator::start(config).await.unwrap();
        let name = format!("dsql-store-{}-{}.pem", std::process::id(), emulator.address().port());
        let certificate = std::env::temp_dir().join(name);
        std::fs::write(&certificate, emulator.certificate()).unwrap();
        Self { emulator, certificate, _test: test }
    }

    pub(crate) fn store(&self, connections: usize) -> PostgresStore {
        let port = self.emulator.address().port().to_string();
        let credentials = TestCredentials::default();
        let get = |name: &str| match name {
            "DB_AUTH" => Some("dsql"),
            "DB_HOST" => Some("localhost"),
            "DB_PORT" => Some(port.as_str()),
            "DB_USER" => Some("admin"),
            "DB_SSLROOTCERT" => self.certificate.to_str(),
            "AWS_REGION" => Some("us-east-1"),
            "AWS_ACCESS_KEY_ID" => Some(credentials.access_key_id.as_str()),
            "AWS_SECRET_ACCESS_KEY" => Some(credentials.secret_access_key.as_str()),
            _ => None,
        };
        let mut config = DatabaseConfig::from_env(get).unwrap();
        config.connections = connections;
        PostgresStore::new(config)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
    }
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
