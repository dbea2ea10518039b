//! Connections: TLS, tokens, roles, limits, and hostile clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

mod support;

use std::{sync::Arc, time::Duration};

use dsql_emulator::{Limits, TestCredentials};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use sqlx::{Connection, Executor, PgConnection, postgres::PgSslMode};
use support::{Cluster, error, eventually, statement_error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[tokio::test]
async fn only_a_valid_token_over_verified_tls_connects() {
    let cluster = Cluster::start().await;
    let options = cluster.options("admin");
    PgConnection::connect_with(&options).await.unwrap();

    let token = cluster.emulator.token("app").unwrap();
    for (what, options, code) in [
        ("without TLS", options.clone().ssl_mode(PgSslMode::Disable), "08004"),
        ("no token", options.clone().password("hunter2"), "08006"),
        ("another user's token", options.clone().password(&token), "08006"),
        ("a role without a grant", cluster.options("app"), "08006"),
        ("another database", options.clone().database("events"), "3D000"),
        ("a setting", options.clone().options([("statement_timeout", "15s")]), "0A000"),
        // A name that is an address has no SNI.
        ("no SNI", options.clone().host("127.0.0.1").ssl_mode(PgSslMode::Require), "08006"),
    ] {
        let rejected = PgConnection::connect_with(&options).await.unwrap_err();
        assert_eq!(error(rejected).0, code, "{what}");
    }
    let other = Cluster::start().await;
    let unknown = options.clone().port(other.emulator.address().port());
    assert!(PgConnection::connect_with(&unknown).await.unwrap_err().as_database_error().is_none());
    let wrong = TestCredentials { secret_access_key: "other".to_owned(), ..TestCredentials::default() };
    let strict = Cluster::with(|config| config.credentials = wrong).await;
    let stranger = strict.options("admin").password(&cluster.emulator.token("admin").unwrap());
    assert_eq!(
        error(PgConnection::connect_with(&stranger).await.unwrap_err()).1,
        "unable to accept connection, access denied"
    );
}

#[tokio::test]
async fn a_role_connects_after_its_grant_and_has_its_privileges_alone() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.with_notes().await;
    let role = format!("app_{}", cluster.emulator.address().port());
    let arn = TestCredentials::default().role_arn;
    for sql in [
        format!("CREATE ROLE {role} WITH LOGIN"),
        format!("AWS IAM GRANT {role} TO '{arn}'"),
        format!("GRANT SELECT ON notes TO {role}"),
    ] {
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }

    let mut connection = PgConnection::connect_with(&cluster.options(&role)).await.unwrap();

    // A role has no rights to the schema without a grant.
    assert_eq!(statement_error(&mut connection, "SELECT * FROM public.notes", false).await.0, "42501");
    admin.execute(sqlx::AssertSqlSafe(format!("GRANT USAGE ON SCHEMA public TO {role}"))).await.unwrap();
    let user: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut connection).await.unwrap();
    assert_eq!(user, role);
    connection.fetch_all("SELECT * FROM notes").await.unwrap();
    for sql in [
        "INSERT INTO notes VALUES ('x')",
        "CREATE INDEX ASYNC i ON notes (number)",
        "DROP TABLE notes",
        "AWS IAM GRANT postgres TO 'x'",
    ] {
        assert_eq!(statement_error(&mut connection, sql, false).await.0, "42501", "{sql}");
    }
    drop(connection);
    admin.execute(sqlx::AssertSqlSafe(format!("AWS IAM REVOKE {role} FROM '{arn}'"))).await.unwrap();
    assert!(PgConnection::connect_with(&cluster.options(&role)).await.is_err());
    for sql in [
        format!("REVOKE SELECT ON notes FROM {role}"),
        format!("REVOKE USAGE ON SCHEMA public FROM {role}"),
        format!("DROP ROLE {role}"),
    ] {
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
}

#[tokio::test]
async fn connections_are_limited_in_number_rate_and_age() {
    let few = Cluster::with_limits(Limits { connections: 1, ..Limits::default() }).await;
    let first = few.connect().await;
    assert_eq!(error(PgConnection::connect_with(&few.options("admin")).await.unwrap_err()).0, "53300");
    drop(first);
    eventually(async || PgConnection::connect_with(&few.options("admin")).await.is_ok()).await;

    let limits = Limits { connection_burst: 2.0, connections_per_second: 0.0, ..Limits::default() };
    let slow = Cluster::with_limits(limits).await;
    let _open = (slow.connect().await, slow.connect().await);
    assert_eq!(error(PgConnection::connect_with(&slow.options("admin")).await.unwrap_err()).0, "53400");
    assert_eq!((slow.emulator.counts().admitted, slow.emulator.counts().rejected), (2, 1));

    let short = Cluster::with_limits(Limits { connection_age: Duration::from_millis(500), ..Limits::default() }).await;
    let (mut idle, mut busy) = (short.connect().await, short.connect().await);
    let mut transaction = busy.begin().await.unwrap();
    eventually(async || idle.ping().await.is_err()).await;
    // A transaction may end after the age of its connection.
    transaction.execute("SELECT 1").await.unwrap();
    transaction.commit().await.unwrap();
    eventually(async || busy.ping().await.is_err()).await;
    assert_eq!(short.emulator.counts().aged, 2);
}

/// Otherwise the locks of a disconnected client would be held until its statement ends.
#[tokio::test]
async fn a_client_that_disconnects_ends_its_session_in_postgres() {
    let cluster = Cluster::start().await;
    let mut connection = cluster.connect().await;
    let mut admin = cluster.database.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let slow = connection.execute("SELECT count(*) FROM generate_series(1, 10000000000)");
    assert!(tokio::time::timeout(Duration::from_millis(300), slow).await.is_err());
    drop(connection);

    eventually(async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut admin).await.unwrap() == 0).await;
}

/// Otherwise the emulator would keep all responses of a client that never synchronizes.
#[tokio::test]
async fn responses_are_sent_before_a_client_synchronizes_if_they_are_large() {
    let cluster = Cluster::start().await;
    let mut stream = raw_session(&cluster).await;
    let columns = (0..1000).map(|number| format!("1 AS column_{number}")).collect::<Vec<_>>().join(", ");
    let mut messages = message(b'P', format!("\0SELECT {columns}\0\0\0").as_bytes());
    messages.extend(message(b'B', &[0; 8]));
    for _ in 0..50 {
        messages.extend(message(b'D', b"P\0"));
    }
    stream.write_all(&messages).await.unwrap();

    let mut received = vec![0; 1_000_000];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut received)).await;

    assert!(read.is_ok(), "the responses are kept");
}

#[tokio::test]
async fn hostile_clients_end_their_own_connection_only() {
    let cluster = Cluster::start().await;
    let mut good = cluster.connect().await;
    let send = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(cluster.emulator.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut received = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut received)).await;
        assert!(read.is_ok(), "the connection is not closed after {bytes:?}");
        received
    };
    let ssl_request = [&8_u32.to_be_bytes()[..], &80_877_103_u32.to_be_bytes()].concat();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 16],
        &[0; 8],
        &[0, 0, 0, 4, 0, 0, 0, 0],
        &i32::MAX.to_be_bytes().repeat(3),
        // Plain text before the handshake could have been injected.
        &[&ssl_request[..], &ssl_request].concat(),
        // A request to cancel a statement.
        &[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[0; 8]].concat(),
    ] {
        assert!(send(bytes).await.len() < 2);
    }
    let no_tls = send(&[&[0, 0, 0, 15, 0, 3, 0, 0][..], b"user\0a\0"].concat()).await;
    assert!(String::from_utf8_lossy(&no_tls).contains("08004"));

    // A message over 10 MiB closes the connection, without an error.
    let large = "x".repeat(11 << 20);
    let sent = sqlx::query("SELECT length($1)").bind(large).execute(&mut cluster.connect().await).await.unwrap_err();
    assert!(sent.as_database_error().is_none(), "{sent:?}");
    let deep = format!("SELECT {}1", "-".repeat(5000).replace('-', "- "));
    assert_eq!(statement_error(&mut good, &deep, true).await.0, "54001");
    good.fetch_one("SELECT 1").await.unwrap();
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

/// A session of the administrator, without a driver.
async fn raw_session(cluster: &Cluster) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cluster.emulator.certificate().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut stream = TcpStream::connect(cluster.emulator.address()).await.unwrap();
    stream.write_all(&[8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let host = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(host, stream).await.unwrap();
    let startup = b"\0\x03\0\0user\0admin\0\0";
    stream.write_all(&u32::try_from(startup.len() + 4).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(startup).await.unwrap();
    let token = format!("{}\0", cluster.emulator.token("admin").unwrap());
    stream.write_all(&message(b'p', token.as_bytes())).await.unwrap();
    loop {
        let (tag, length) = (stream.read_u8().await.unwrap(), stream.read_u32().await.unwrap());
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.unwrap();
        assert_ne!(tag, b'E', "{}", String::from_utf8_lossy(&body));
        if tag == b'Z' {
            return stream;
        }
    }
}
