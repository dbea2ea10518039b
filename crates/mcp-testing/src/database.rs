//! A database for one test, on a real Postgres.

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

/// An empty database of its own.
///
/// The server is the one at `TEST_DATABASE_URL`, which `make test` starts; without it one is started for this process and
/// ends with it (`scripts/postgres.py`).
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
    /// Makes a database.
    ///
    /// # Panics
    ///
    /// When there is no Postgres and none can be started.
    pub async fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let server = server_url();
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(server).await.expect("the Postgres for tests answers");
        for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            connection.execute(AssertSqlSafe(statement)).await.expect("a database can be made");
        }
        let (server, _) = server.rsplit_once('/').expect("a URL with a database");
        Self { url: format!("{server}/{name}") }
    }

    /// Its URL, for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it, to look at what a function did.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the Postgres for tests answers")
    }
}

fn server_url() -> &'static str {
    /// The child ends when its standard input does, and so with this process, which never drops it.
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
            BufReader::new(output).read_line(&mut url).expect("the script says where its Postgres is");
            assert!(!url.trim().is_empty(), "scripts/postgres.py could not start a Postgres");
            (url.trim().to_owned(), Some(child))
        }
    });
    url
}
