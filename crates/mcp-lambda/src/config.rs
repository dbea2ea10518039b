//! Settings from environment variables. `docs/configuration.md` lists them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mcp_server::{BuildError, InitError, StateKey};

#[cfg(feature = "limits")]
use crate::anonymous_limit::AnonymousLimit;
use crate::{Authentication, Origin, PublicUrl, authentication::AUTH, logs};

const PUBLIC_URL: &str = "MCP_PUBLIC_URL";
const INVOKE_MODE: &str = "MCP_INVOKE_MODE";
const ALLOWED_ORIGINS: &str = "MCP_ALLOWED_ORIGINS";
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";
pub(crate) const STATE_KEY: &str = "MCP_STATE_KEY";
pub(crate) const STATE_KEY_FORMAT: &str = "32 random bytes in Base64 (`openssl rand -base64 32`)";
pub(crate) const STATE_KEY_SECRET_ARN: &str = "MCP_STATE_KEY_SECRET_ARN";
const ANONYMOUS: &str = "MCP_ANONYMOUS";
const CHALLENGE: &str = "MCP_CHALLENGE";
const PAGE: &str = "MCP_PAGE";
const LOG_SUBJECT: &str = "MCP_LOG_SUBJECT";
const VARIABLES: &str = "MCP_VARIABLES";

/// Prefixes that other software uses too, so that an unknown variable is not reported as misspelt.
const SHARED_PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "OTEL_", "RUST_"];

/// The environment variables that a configuration is read from: those of the process, or those of a test.
///
/// It records which names are read: [`main`](crate::main) warns about variables that have a known prefix and were not read.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    /// The names that were read.
    read_names: Arc<Mutex<BTreeSet<String>>>,
}

impl Env {
    /// The variables of this process. A variable that is not Unicode is ignored.
    pub fn process() -> Self {
        let pairs =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_pairs(pairs)
    }

    /// The given variables, and those in the `NAME=value` lines of `MCP_VARIABLES`. A variable that is set directly takes precedence.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut variables: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let lines = variables.get(VARIABLES).cloned().unwrap_or_default();
        for (name, value) in lines.lines().filter_map(assignment) {
            let own = variables.entry(name.to_owned()).or_default();
            if own.trim().is_empty() {
                value.clone_into(own);
            }
        }
        Self { variables, read_names: Arc::default() }
    }

    /// The same variables, and `name` with a value.
    #[cfg(feature = "secrets")]
    pub(crate) fn with(mut self, name: &str, value: String) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
    }

    /// Whether each line of `MCP_VARIABLES` assigns a variable.
    fn has_valid_lines(&self) -> bool {
        let lines = self.get(VARIABLES).unwrap_or_default().lines();
        lines.filter(|line| !line.trim().is_empty()).all(|line| assignment(line).is_some())
    }

    /// The value of a variable, without surrounding white space. `None` if it is unset or empty: CloudFormation templates set
    /// variables without a value to the empty string.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.read_names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// `AWS_LAMBDA_MAX_CONCURRENCY`: how many requests one execution environment serves concurrently; 1, except on Managed Instances.
    pub(crate) fn max_concurrency(&self) -> usize {
        self.get(MAX_CONCURRENCY).and_then(|limit| limit.parse().ok()).unwrap_or(1).max(1)
    }

    /// The names of all variables that are set.
    #[cfg(not(feature = "auth"))]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Variables that were not read although others with the same prefix (up to the first `_`) were: most likely they are
    /// misspelt.
    pub(crate) fn unknown(&self) -> Vec<&str> {
        let read_names = self.read_names.lock().unwrap_or_else(PoisonError::into_inner);
        let prefixes: BTreeSet<&str> = read_names.iter().filter_map(|name| prefix(name)).collect();
        let is_unknown =
            |name: &&str| !read_names.contains(*name) && prefix(name).is_some_and(|own| prefixes.contains(own));
        let set = self.variables.iter().filter(|(_, value)| !value.trim().is_empty());
        set.map(|(name, _)| name.as_str()).filter(is_unknown).collect()
    }
}

/// Parses a line `NAME=value`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (!name.is_empty() && name != VARIABLES && is_name(name)).then(|| (name, value.trim()))
}

/// The prefix of a name, such as `MCP_` of `MCP_PUBLIC_URL`; `None` for a shared prefix.
fn prefix(name: &str) -> Option<&str> {
    let (prefix, _) = name.split_at(name.find('_')? + 1);
    (!SHARED_PREFIXES.contains(&prefix)).then_some(prefix)
}

impl fmt::Debug for Env {
    /// Prints names only, because some values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// A configuration that [`main`](crate::main) reads from environment variables, once, in the init phase.
///
/// Implement it for a function with settings of its own. [`HttpConfig`] implements it, and so does a pair of configurations.
///
/// ```
/// use mcp_lambda::{Env, FromEnv, HttpConfig, InitError};
///
/// struct Config {
///     http: HttpConfig,
///     greeting: String,
/// }
///
/// impl FromEnv for Config {
///     fn from_env(env: &Env) -> Result<Self, InitError> {
///         let greeting = env.get("GREETING").unwrap_or("Hello").to_owned();
///         Ok(Self { http: HttpConfig::from_env(env)?, greeting })
///     }
/// }
///
/// // A test sets the variables explicitly.
/// let config = Config::from_env(&Env::from_pairs([("GREETING", "Olá")]))?;
/// assert_eq!(config.greeting, "Olá");
/// # let _ = config.http;
/// # Ok::<(), InitError>(())
/// ```
pub trait FromEnv: Sized {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// When a variable is missing or invalid. The error should name the variable and the expected value ([`InitError::setting`]; for
    /// secrets [`InitError::secret`]).
    fn from_env(env: &Env) -> Result<Self, InitError>;
}

/// Two configurations, for a function that needs both: `async fn service((http, database): (HttpConfig, DatabaseConfig))`.
impl<A: FromEnv, B: FromEnv> FromEnv for (A, B) {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Ok((A::from_env(env)?, B::from_env(env)?))
    }
}

#[cfg(feature = "postgres")]
impl FromEnv for mcp_postgres::DatabaseConfig {
    /// Reads `DATABASE_URL` or the variables that begin with `DB_`.
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Self::from_env(|name| env.get(name))
    }
}

#[cfg(feature = "postgres")]
impl FromEnv for mcp_postgres::MigrationConfig {
    /// Reads the variables of the database, `DB_APP_ROLE_ARN` and `DB_APP_USER`.
    fn from_env(env: &Env) -> Result<Self, InitError> {
        Self::from_env(|name| env.get(name))
    }
}

/// Settings of the HTTP endpoint: public URL, invoke mode, CORS, authentication and the state key.
///
/// [`from_env`](FromEnv::from_env) reads them from the variables named at each field. The default is a buffered endpoint without
/// authentication, which suits tests. A function without settings of its own takes it as its configuration.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// `MCP_PUBLIC_URL`: the URL that clients use, if it is not the Function URL (a custom domain, a CDN). It is the audience of tokens.
    pub public_url: Option<PublicUrl>,
    /// `MCP_INVOKE_MODE`, `buffered` or `stream`: must equal the invoke mode of the Function URL.
    pub invoke_mode: InvokeMode,
    /// `MCP_ALLOWED_ORIGINS`: the web origins that may call the function from a browser (CORS), besides the server's own.
    pub allowed_origins: Vec<Origin>,
    /// `MCP_STATE_KEY`, or the secret of `MCP_STATE_KEY_SECRET_ARN`: encrypts `requestState`, and keys the pseudonyms of callers
    /// in the log. A server with handlers that send requests to the client does not start without it.
    pub state_key: Option<StateKey>,
    /// `MCP_AUTH`, and the variables that name token issuers.
    pub authentication: Authentication,
    /// `MCP_ANONYMOUS=deny`: anonymous callers are rejected, even for public items.
    pub denies_anonymous: bool,
    /// `MCP_ANONYMOUS_LIMIT`: the rate limit of anonymous callers and of failed authentication.
    #[cfg(feature = "limits")]
    pub anonymous_limit: AnonymousLimit,
    /// `MCP_CHALLENGE=result`: a `tools/call` without the required token or scope gets a tool result that carries the challenge
    /// in `_meta`, instead of status 401 or 403. For clients that expect it there.
    pub challenges_in_result: bool,
    /// `MCP_PAGE=off`: disables the HTML page for browsers.
    pub hides_page: bool,
    /// `MCP_LOG_SUBJECT=plain`: the log contains the subject of tokens instead of a pseudonym.
    pub logs_subjects: bool,
}

impl FromEnv for HttpConfig {
    /// Reads the variables of the MCP endpoint (`MCP_…`), and those that name token issuers.
    fn from_env(env: &Env) -> Result<Self, InitError> {
        if !env.has_valid_lines() {
            return Err(InitError::secret(VARIABLES, "lines of the form `NAME=value`"));
        }
        let public_url = env.get(PUBLIC_URL).map(|url| {
            PublicUrl::parse(url)
                .ok_or_else(|| InitError::setting(PUBLIC_URL, "an https URL (http on loopback) without query", url))
        });
        let invoke_mode = match env.get(INVOKE_MODE) {
            None => InvokeMode::Buffered,
            Some(mode) if mode.eq_ignore_ascii_case("buffered") => InvokeMode::Buffered,
            Some(mode) if ["stream", "response_stream"].iter().any(|own| mode.eq_ignore_ascii_case(own)) => {
                InvokeMode::Stream
            }
            Some(other) => return Err(InitError::setting(INVOKE_MODE, "`buffered` or `stream`", other)),
        };
        let origins = env.get(ALLOWED_ORIGINS).unwrap_or_default().split(',').map(str::trim);
        let allowed_origins = origins.filter(|origin| !origin.is_empty()).map(|origin| {
            let expected = "a comma-separated list of origins such as https://app.example.com";
            Origin::parse(origin).ok_or_else(|| InitError::setting(ALLOWED_ORIGINS, expected, origin))
        });
        if env.get(STATE_KEY).is_none() && env.get(STATE_KEY_SECRET_ARN).is_some() {
            return Err(unread_secret());
        }
        let state_key = env.get(STATE_KEY).map(|key| {
            let expected =
                format!("{STATE_KEY_FORMAT}, or up to three of them, and an index key: `current,previous;index`");
            StateKey::parse(key).ok_or_else(|| InitError::secret(STATE_KEY, &expected))
        });
        let choice = |name: &'static str, usual: &str, other: &str| match env.get(name) {
            None => Ok(false),
            Some(value) if value == usual => Ok(false),
            Some(value) if value == other => Ok(true),
            Some(value) => Err(InitError::setting(name, &format!("`{usual}` or `{other}`"), value)),
        };
        logs::check(env)?;
        let authentication = Authentication::from_env(env)?;
        let denies_anonymous = choice(ANONYMOUS, "allow", "deny")?;
        if denies_anonymous && matches!(authentication, Authentication::Unconfigured | Authentication::DangerouslyOff) {
            return Err(InitError::new(format!(
                "{ANONYMOUS}=deny needs authentication: set OIDC_ISSUER (or GOOGLE_CLIENT_ID, COGNITO_USER_POOL_ID, \
                 OIDC_ISSUERS), or {AUTH}=iam"
            )));
        }
        Ok(Self {
            authentication,
            denies_anonymous,
            #[cfg(feature = "limits")]
            anonymous_limit: AnonymousLimit::from_env(env)?,
            challenges_in_result: choice(CHALLENGE, "header", "result")?,
            hides_page: choice(PAGE, "on", "off")?,
            logs_subjects: choice(LOG_SUBJECT, "pseudonym", "plain")?,
            public_url: public_url.transpose()?,
            invoke_mode,
            allowed_origins: allowed_origins.collect::<Result<_, _>>()?,
            state_key: state_key.transpose()?,
        })
    }
}

/// The secret of the state key is named, and was not read.
fn unread_secret() -> InitError {
    let fix = if cfg!(feature = "secrets") {
        "`Env::with_secrets` was not called before the configuration was read"
    } else {
        "the function was built without the feature `secrets` of mcp-lambda: add it to Cargo.toml"
    };
    InitError::new(format!("the secret of {STATE_KEY_SECRET_ARN} was not read: {fix}, or set {STATE_KEY}"))
}

/// The invoke mode of the Function URL. The function cannot query it, so that it must be configured to the same value, by
/// `MCP_INVOKE_MODE`. The variable takes the spelling of the URL, too, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvokeMode {
    /// `MCP_INVOKE_MODE=buffered`, and `BUFFERED` at the URL: a response is sent when it is complete; at most 6 MB. Notifications
    /// arrive with the result, and a disconnect of the client is not detected.
    #[default]
    Buffered,
    /// `MCP_INVOKE_MODE=stream`, and `RESPONSE_STREAM` at the URL: a response is streamed; at most 200 MB.
    Stream,
}

/// Translates a build error: the message names the environment variable to set.
pub(crate) fn to_init_error(error: BuildError) -> InitError {
    match error {
        BuildError::NoStateKey { item } => no_state_key(&format!("the {item} sends requests to the client")),
        BuildError::NoStoreKey => no_state_key("the server has a store"),
        BuildError::UnusableStateKey => InitError::new(format!("could not derive a key from {STATE_KEY}")),
        BuildError::NoAuthentication { item } => InitError::new(format!(
            "the {item} has access rules, which need authentication: set OIDC_ISSUER (or GOOGLE_CLIENT_ID, \
             COGNITO_USER_POOL_ID, OIDC_ISSUERS), or {AUTH}=iam for a URL with AuthType AWS_IAM; \
             {AUTH}=dangerously-off disables access rules"
        )),
        other => other.into(),
    }
}

fn no_state_key(reason: &str) -> InitError {
    InitError::new(format!(
        "{STATE_KEY} must be set, because {reason}: 32 random bytes in Base64, the same for all environments, such as \
         `openssl rand -base64 32` prints; or {STATE_KEY_SECRET_ARN}, the ARN of a secret"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: &str =
        if cfg!(feature = "secrets") { "`Env::with_secrets`" } else { "without the feature `secrets`" };

    fn read(pairs: &[(&str, &str)]) -> Result<HttpConfig, InitError> {
        HttpConfig::from_env(&Env::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn every_variable_has_a_default() {
        let config = read(&[("MCP_PUBLIC_URL", ""), ("MCP_ALLOWED_ORIGINS", " , ")]).unwrap();

        assert_eq!(config.invoke_mode, InvokeMode::Buffered);
        assert!(config.public_url.is_none() && config.allowed_origins.is_empty());
    }

    #[test]
    fn the_invoke_mode_has_the_spelling_of_the_url_too() {
        for (mode, expected) in [
            ("buffered", InvokeMode::Buffered),
            ("BUFFERED", InvokeMode::Buffered),
            ("stream", InvokeMode::Stream),
            ("Stream", InvokeMode::Stream),
            ("RESPONSE_STREAM", InvokeMode::Stream),
            ("response_stream", InvokeMode::Stream),
        ] {
            assert_eq!(read(&[("MCP_INVOKE_MODE", mode)]).unwrap().invoke_mode, expected, "{mode}");
        }
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_variable_and_the_expected_value() {
        for (name, value, expected) in [
            ("MCP_INVOKE_MODE", "streaming", "`buffered` or `stream`"),
            ("MCP_PUBLIC_URL", "http://mcp.example.com", "an https URL"),
            ("MCP_PUBLIC_URL", "mcp.example.com", "an https URL"),
            ("MCP_PUBLIC_URL", "https://user:s3cret@mcp.example.com", "not `https://…@mcp.example.com`"),
            ("MCP_PUBLIC_URL", "https://mcp.example.com?token=s3cret", "not `https://mcp.example.com?…`"),
            ("MCP_ALLOWED_ORIGINS", "https://user:s3cret@app.example.com", "not `https://…@app.example.com`"),
            ("MCP_ALLOWED_ORIGINS", "https://a.example,*", "list of origins"),
            ("MCP_ALLOWED_ORIGINS", "https://a.example/path", "list of origins"),
            ("MCP_ALLOWED_ORIGINS", "https://*.a.example", "list of origins"),
            ("MCP_ALLOWED_ORIGINS", "https://a.example:99999", "list of origins"),
            ("MCP_STATE_KEY", "c2hvcnQ=", "32 random bytes"),
            ("MCP_STATE_KEY_SECRET_ARN", "s3cret", "the secret of MCP_STATE_KEY_SECRET_ARN was not read"),
            ("MCP_STATE_KEY_SECRET_ARN", "s3cret", SECRETS),
            ("MCP_AUTH", "off", "`required`, `iam` or `dangerously-off`"),
            ("MCP_AUTH", "required", "OIDC_ISSUER"),
            ("MCP_ANONYMOUS", "no", "`allow` or `deny`"),
            ("MCP_ANONYMOUS", "deny", "needs authentication"),
            ("MCP_PUBLIC_URL", "https://mcp.example.com/a\"b", "an https URL"),
            ("MCP_CHALLENGE", "body", "`header` or `result`"),
            ("MCP_PAGE", "no", "`on` or `off`"),
            ("MCP_LOG_SUBJECT", "yes", "`pseudonym` or `plain`"),
            ("MCP_METRICS", "no", "`on` or `off`"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();

            assert!(error.contains(name) && error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn an_invalid_secret_is_not_repeated() {
        let error = read(&[("MCP_STATE_KEY", "c2hvcnQ=")]).unwrap_err();

        assert!(!error.to_string().contains("c2hvcnQ="), "{error}");
    }

    #[test]
    fn mcp_variables_sets_other_variables() {
        let lines = "OWN_URL= https://a.example/?x=1 \r\n\nMCP_INVOKE_MODE=stream\nOWN_SET=lines\nOWN_EMPTY=lines\nOWN_UNSET=\n";
        let env = Env::from_pairs([("MCP_VARIABLES", lines), ("OWN_SET", "itself"), ("OWN_EMPTY", " ")]);

        let config = HttpConfig::from_env(&env).unwrap();

        assert_eq!(config.invoke_mode, InvokeMode::Stream);
        let values = ["OWN_URL", "OWN_SET", "OWN_EMPTY", "OWN_UNSET"].map(|name| env.get(name));
        assert_eq!(values, [Some("https://a.example/?x=1"), Some("itself"), Some("lines"), None]);
    }

    #[test]
    fn a_line_that_is_not_an_assignment_is_an_error() {
        for lines in
            ["OWN_URL", "=secret", "OWN URL=secret", "{\"OWN_URL\":\"secret=\"}", "A=b\nMCP_VARIABLES=A=secret"]
        {
            let error = read(&[("MCP_VARIABLES", lines)]).unwrap_err().to_string();

            assert!(error.contains("MCP_VARIABLES must be lines") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_reported() {
        let known =
            ["MCP_INVOKE_MODE", "OIDC_AUDIENCE", "OWN_URL", "GOOGLE_CLIENT_ID", "AWS_REGION", "OTEL_SERVICE_NAME"];
        let misspelt = ["MCP_INVOKEMODE", "OIDC_AUDIENCES", "OWN_ULR"];
        let others = ["PATH", "DB_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_EXECUTION_ENV", "OTEL_TRACES_SAMPLER"];
        let set = known.iter().chain(&misspelt).chain(&others).map(|name| (*name, "x"));
        let env = Env::from_pairs(set.chain([("MCP_UNSET", " ")]));

        for name in ["OIDC_ISSUER", "OIDC_WARM"].iter().chain(&known) {
            env.get(name);
        }

        assert_eq!(env.unknown(), misspelt);
    }

    #[test]
    fn a_build_error_names_the_variable_to_set() {
        for (error, variable) in [
            (
                BuildError::NoStateKey { item: "tool `book`".to_owned() },
                "MCP_STATE_KEY must be set, because the tool `book`",
            ),
            (BuildError::NoStateKey { item: "tool `book`".to_owned() }, "or MCP_STATE_KEY_SECRET_ARN"),
            (BuildError::NoStoreKey, "MCP_STATE_KEY must be set, because the server has a store"),
            (BuildError::UnusableStateKey, "MCP_STATE_KEY"),
            (BuildError::NoAuthentication { item: "tool `purge`".to_owned() }, "set OIDC_ISSUER"),
        ] {
            let error = to_init_error(error).to_string();

            assert!(error.contains(variable), "{error}");
        }
    }
}
