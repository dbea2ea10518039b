//! Postgres database for one test.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Empty Postgres database for one test.
///
/// The Postgres server is that of `TEST_DATABASE_URL`, which `make test` starts. If the variable is not set, a server
/// is started for this process and stops with it (`scripts/postgres.py`).
///
/// ```no_run
/// # async fn example() {
/// let database = mcp_testing::TestDatabase::create().await;
/// let variables = [("DATABASE_URL", database.url())];
/// # let _ = variables;
/// # }
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
}

impl TestDatabase {
    /// Creates a database.
    ///
    /// # Panics
    ///
    /// Panics if Postgres is not available and cannot be started.
    pub async fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let server = server_url();
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection =
            PgConnection::connect(server).await.expect("the Postgres server for tests accepts connections");
        for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            connection.execute(AssertSqlSafe(statement)).await.expect("the database can be created");
        }
        let (server, _) = server.rsplit_once('/').expect("a URL with a database");
        Self { url: format!("{server}/{name}") }
    }

    /// Returns the URL, for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens a connection, to check the effects of a function.
    ///
    /// # Panics
    ///
    /// Panics if the connection fails.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the Postgres server for tests accepts connections")
    }
}

fn server_url() -> &'static str {
    /// The child process exits when its standard input is closed, which is when this process exits.
    static SERVER: OnceLock<(String, Option<Child>)> = OnceLock::new();

    let (url, _) = SERVER.get_or_init(|| match env::var("TEST_DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres.py");
            let mut child = Command::new("python3")
                .arg(script)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3 can be started");
            let mut url = String::new();
            let output = child.stdout.take().expect("a pipe");
            BufReader::new(output).read_line(&mut url).expect("the script prints the URL of its Postgres");
            assert!(!url.trim().is_empty(), "scripts/postgres.py could not start a Postgres");
            (url.trim().to_owned(), Some(child))
        }
    });
    url
}
