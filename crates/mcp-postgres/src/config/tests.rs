#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use mcp_testing::TEST_AWS_CREDENTIALS as KEYS;

use super::*;

fn read(pairs: &[(&str, &'static str)]) -> Result<DatabaseConfig, String> {
    let get = |name: &str| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
    DatabaseConfig::from_env(get).map_err(|error| error.to_string())
}

#[test]
fn an_rds_host_is_verified_with_the_roots_of_its_region() {
    let count = |host: &str| rds_roots(host).map(|roots| roots.matches("BEGIN CERTIFICATE").count());

    for host in ["x.abc.eu-west-1.rds.amazonaws.com", "x.proxy-abc.us-east-1.rds.amazonaws.com."] {
        assert_eq!(count(host), Some(3), "{host}");
    }
    assert_eq!(
        count("x.abc.xx-north-9.rds.amazonaws.com"),
        Some(0),
        "roots of newer regions are configured by {SSLROOTCERT}"
    );
    assert_eq!(count("x.rds.amazonaws.com.example.com"), None);
    assert_eq!(RDS_ROOTS.matches("BEGIN CERTIFICATE").count(), RDS_ROOTS.matches("# ").count());
}

#[test]
fn a_url_with_weak_or_repeated_parameters_is_rejected() {
    for (query, named) in [
        ("sslmode=prefer", "verify-full"),
        ("sslmode=allow", "verify-full"),
        ("sslmode=require&sslmode=disable", "twice"),
        ("options=-csearch_path%3Dx", "`options`"),
    ] {
        let url: &'static str = format!("postgres://app:x@db.example.com/events?{query}").leak();
        let error = read(&[("DATABASE_URL", url)]).unwrap_err();

        assert!(error.contains(named), "{query}: {error}");
    }
    let both = [("DATABASE_URL", "postgres://a:x@h.example/e?sslmode=require"), ("DB_SSLMODE", "verify-full")];
    assert!(read(&both).unwrap_err().contains("DB_SSLMODE"));
}

const PARTS: [(&str, &str); 4] =
    [("DB_HOST", "db.example.com"), ("DB_USER", "app"), ("DB_PASS", "hunter2"), ("DB_NAME", "events")];

#[test]
fn a_url_and_single_variables_are_equivalent() {
    let url = read(&[("DATABASE_URL", "postgres://app:hunter2@db.example.com/events")]).unwrap();
    let parts = read(&PARTS).unwrap();

    assert_eq!(format!("{url:?}"), format!("{parts:?}"));
    assert_eq!(parts.options.get_port(), 5432);
}

#[test]
fn passwords_are_redacted() {
    for config in [read(&PARTS), read(&[("DATABASE_URL", "postgres://app:hunter2@db.example.com/events")])] {
        assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
    }
    for url in [
        "postgres://app:hunter2@db.example.com:port/events",
        "postgres://app@db.example.com/events?password=hunter2",
        "postgres://app:hunter2@db.example.com",
        "postgres://:hunter2@db.example.com/events",
        "postgres:///hunter2",
        "https://app:hunter2@db.example.com/events",
        "app:hunter2@db.example.com/events",
    ] {
        let broken = read(&[("DATABASE_URL", url)]).unwrap_err();

        assert!(broken.contains("DATABASE_URL") && !broken.contains("hunter2"), "{broken}");
    }
}

#[test]
fn remote_hosts_are_verified_and_loopback_is_not() {
    for (host, expected) in [
        ("db.example.com", PgSslMode::VerifyFull),
        ("10.0.0.5", PgSslMode::VerifyFull),
        ("localhost.example.com", PgSslMode::VerifyFull),
        ("localhost", PgSslMode::Disable),
        ("127.0.0.1", PgSslMode::Disable),
    ] {
        let config = read(&[("DB_HOST", host), ("DB_USER", "app"), ("DB_PASS", "x"), ("DB_NAME", "events")]);

        assert!(
            matches!(
                (config.unwrap().options.get_ssl_mode(), expected),
                (PgSslMode::VerifyFull, PgSslMode::VerifyFull) | (PgSslMode::Disable, PgSslMode::Disable)
            ),
            "{host}"
        );
    }
    for (query, expected) in [
        ("sslmode=require", "Require"),
        ("ssl-mode=verify-ca", "VerifyCa"),
        ("application_name=sslmode%3Ddisable", "VerifyFull"),
        ("", "VerifyFull"),
    ] {
        let url: &'static str = format!("postgres://app:x@db.example.com/events?{query}").leak();
        let chosen = read(&[("DATABASE_URL", url)]).unwrap();
        assert_eq!(format!("{:?}", chosen.options.get_ssl_mode()), expected, "{query}");
    }
    let set = read(&[&PARTS[..], &[("DB_SSLMODE", "verify-ca")]].concat()).unwrap();
    assert!(matches!(set.options.get_ssl_mode(), PgSslMode::VerifyCa));
}

#[test]
fn missing_and_contradicting_variables_are_named() {
    let url = ("DATABASE_URL", "postgres://app:x@localhost/events");
    let iam = ("DB_AUTH", "iam");
    let secret = ("DB_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:1:secret:x");
    for (pairs, named) in [
        (&[][..], &["DATABASE_URL", "DB_SECRET_ARN", "DB_HOST"][..]),
        (&[url, PARTS[0]], &["DATABASE_URL", "DB_HOST"]),
        (&[url, secret], &["DATABASE_URL", "DB_SECRET_ARN"]),
        (&[url, iam], &["DB_AUTH=iam", "DATABASE_URL"]),
        (&[secret, PARTS[2]], &["DB_SECRET_ARN", "DB_PASS"]),
        (&[secret, iam], &["DB_SECRET_ARN", "DB_AUTH=iam"]),
        (&[PARTS[0], PARTS[1]], &["DB_NAME"]),
        (&[PARTS[0], PARTS[1], PARTS[3]], &["DB_PASS", "DB_AUTH=iam"]),
        (&[PARTS[0], PARTS[1], PARTS[2], PARTS[3], iam], &["DB_AUTH=iam", "DB_PASS"]),
        (&[PARTS[0], PARTS[1], PARTS[3], iam], &["AWS_REGION"]),
        (&[PARTS[0], PARTS[1], PARTS[3], iam, ("AWS_REGION", "eu-west-1")], &["DB_AUTH=iam", "AWS_ACCESS_KEY_ID"]),
        (&[secret], &["DB_SECRET_ARN", "AWS_ACCESS_KEY_ID"]),
        (&[("DB_SECRET_ARN", "hunter2"), KEYS[0], KEYS[1]], &["DB_SECRET_ARN", "ARN of a secret"]),
        (&[url, ("DB_AUTH", "dsql")], &["DB_AUTH=dsql", "DATABASE_URL"]),
        (&[PARTS[0], ("DB_AUTH", "dsql")], &["DB_USER"]),
        (&[PARTS[0], PARTS[1], ("DB_AUTH", "dsql")], &["AWS_REGION"]),
        (&[PARTS[0], PARTS[1], ("DB_AUTH", "dsql"), ("DB_SSLMODE", "require")], &["DB_SSLMODE=verify-full"]),
        (&[PARTS[0], PARTS[1], ("DB_AUTH", "dsql"), ("DB_MIGRATE", "on")], &["DB_MIGRATE=on", "DB_AUTH=dsql"]),
        (&[url, ("DB_PORT", "x")], &["DB_PORT"]),
        (&[url, ("DB_SSLMODE", "prefer")], &["DB_SSLMODE"]),
        (&[url, ("DB_MIGRATE", "yes")], &["DB_MIGRATE"]),
        (&[url, ("DB_WARM", "yes")], &["DB_WARM"]),
        (&[url, ("DB_AUTH", "kerberos")], &["DB_AUTH"]),
    ] {
        let error = read(pairs).unwrap_err();

        assert!(named.iter().all(|name| error.contains(name)), "{pairs:?}: {error}");
    }
}

#[test]
fn a_cluster_of_dsql_needs_a_host_and_a_user_and_is_verified_on_loopback_too() {
    let pairs = [("DB_HOST", "localhost"), ("DB_USER", "app"), ("DB_AUTH", "dsql"), ("AWS_REGION", "us-east-1")];

    let config = read(&[&pairs[..], &KEYS].concat()).unwrap();

    assert!(matches!(config.options.get_ssl_mode(), PgSslMode::VerifyFull));
    assert_eq!((config.options.get_database(), config.migrate), (Some("postgres"), false));
    assert_eq!(config.max_connection_age, Some(Duration::from_secs(3000)));
}

#[test]
fn a_secret_supplies_unset_variables() {
    let managed = r#"{ "username": "admin", "password": "hunter2" }"#;
    let whole = r#"{ "username": "app", "password": "hunter2", "engine": "postgres", "host": "db.example.com",
        "port": 5433, "dbname": "events", "dbInstanceIdentifier": "x" }"#;
    let with = |pairs: &[(&str, &'static str)], secret: &str| {
        let arn = ("DB_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:1:secret:x");
        let config = read(&[&[arn][..], &KEYS, pairs].concat()).unwrap();
        let Password::Secret { overrides, .. } = &config.password else { panic!("{config:?}") };
        config.with_secret(&serde_json::from_str(secret).unwrap(), overrides)
    };

    let whole = with(&[], whole).unwrap();
    let managed_options = with(&[("DB_HOST", "x.abc.eu-west-1.rds.amazonaws.com"), ("DB_NAME", "events")], managed);
    let without_host = with(&[], managed).unwrap_err();

    assert_eq!((whole.get_host(), whole.get_port(), whole.get_database()), ("db.example.com", 5433, Some("events")));
    assert_eq!(managed_options.unwrap().get_username(), "admin");
    assert!(without_host.contains("DB_HOST and DB_NAME"), "{without_host}");
}
