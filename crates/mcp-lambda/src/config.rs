//! Settings from the environment. `docs/configuration.md` has the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mcp_server::{BuildError, InitError, StateKey};

use crate::{Authentication, Origin, PublicUrl, authentication::AUTH, logs};

const PUBLIC_URL: &str = "MCP_PUBLIC_URL";
const INVOKE_MODE: &str = "MCP_INVOKE_MODE";
const ALLOWED_ORIGINS: &str = "MCP_ALLOWED_ORIGINS";
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";
const STATE_KEY: &str = "MCP_STATE_KEY";
const ANONYMOUS: &str = "MCP_ANONYMOUS";
const CHALLENGE: &str = "MCP_CHALLENGE";
const PAGE: &str = "MCP_PAGE";
const LOG_SUBJECT: &str = "MCP_LOG_SUBJECT";
const VARIABLES: &str = "MCP_VARIABLES";

/// Prefixes under which others have variables, too.
const SHARED: [&str; 4] = ["AWS_", "GOOGLE_", "OTEL_", "RUST_"];

/// The environment variables that a configuration is read from: the process's own, or a test's.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    /// The names that were read.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Env {
    /// The variables of this process. One that is not Unicode is as good as absent.
    pub fn process() -> Self {
        let pairs =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_pairs(pairs)
    }

    /// These variables and no others, and those in the lines of `MCP_VARIABLES`. A variable that is set by itself wins.
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
        Self { variables, asked: Arc::default() }
    }

    /// Whether each line of `MCP_VARIABLES` assigns a variable.
    fn has_valid_lines(&self) -> bool {
        let lines = self.get(VARIABLES).unwrap_or_default().lines();
        lines.filter(|line| !line.trim().is_empty()).all(|line| assignment(line).is_some())
    }

    /// A variable's value without surrounding spaces; `None` when it is unset or empty, which templates write for
    /// "not set".
    pub fn get(&self, name: &str) -> Option<&str> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// `AWS_LAMBDA_MAX_CONCURRENCY`: the requests that one environment serves at once; one, except on Managed Instances.
    pub(crate) fn max_concurrency(&self) -> usize {
        self.get(MAX_CONCURRENCY).and_then(|limit| limit.parse().ok()).unwrap_or(1).max(1)
    }

    /// The names of all variables that are set.
    #[cfg(not(feature = "auth"))]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Variables that were not read, though others were with the same prefix, up to the first `_`: most likely they are
    /// misspelt.
    pub(crate) fn unknown(&self) -> Vec<&str> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let prefixes: BTreeSet<&str> = asked.iter().filter_map(|name| prefix(name)).collect();
        let is_unknown = |name: &&str| !asked.contains(*name) && prefix(name).is_some_and(|own| prefixes.contains(own));
        let set = self.variables.iter().filter(|(_, value)| !value.trim().is_empty());
        set.map(|(name, _)| name.as_str()).filter(is_unknown).collect()
    }
}

/// The name and the value of a line `NAME=value`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (!name.is_empty() && name != VARIABLES && is_name(name)).then(|| (name, value.trim()))
}

/// `MCP_` of `MCP_PUBLIC_URL`, unless others have variables that begin so.
fn prefix(name: &str) -> Option<&str> {
    let (prefix, _) = name.split_at(name.find('_')? + 1);
    (!SHARED.contains(&prefix)).then_some(prefix)
}

impl fmt::Debug for Env {
    /// The names alone: some of the values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// A configuration that is read from the environment, once, in the init phase.
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
/// // A test gives the variables itself.
/// let config = Config::from_env(&Env::from_pairs([("GREETING", "Olá")]))?;
/// assert_eq!(config.greeting, "Olá");
/// # let _ = config.http;
/// # Ok::<(), InitError>(())
/// ```
pub trait FromEnv: Sized {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When a variable is missing or cannot be used; the error names it and says what is expected.
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

/// How the function is reached, and what its environments share. A function without settings of its own takes this one.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// `MCP_PUBLIC_URL`: the URL that clients use, when it is not the Function URL's own (a custom domain, a CDN).
    pub public_url: Option<PublicUrl>,
    /// `MCP_INVOKE_MODE`: must equal the invoke mode of the URL.
    pub invoke_mode: InvokeMode,
    /// `MCP_ALLOWED_ORIGINS`: web pages that may call the function from a browser, besides its own.
    pub allowed_origins: Vec<Origin>,
    /// `MCP_STATE_KEY`: what `requestState` is sealed with, and callers' pseudonyms in the log are made with. A server that
    /// asks its clients does not start without it.
    pub state_key: Option<StateKey>,
    /// `MCP_AUTH`, and the variables that name issuers of tokens.
    pub authentication: Authentication,
    /// `MCP_ANONYMOUS=deny`: nothing is served without a token, not even public items.
    pub denies_anonymous: bool,
    /// `MCP_CHALLENGE=result`: a `tools/call` that lacks a token or a scope is answered with a result that carries the
    /// challenge, for clients that look for it there.
    pub challenges_in_result: bool,
    /// `MCP_PAGE=off`: a browser gets no page.
    pub hides_page: bool,
    /// `MCP_LOG_SUBJECT=plain`: the log names callers as their tokens do.
    pub logs_subjects: bool,
}

impl FromEnv for HttpConfig {
    /// Reads all variables that begin with `MCP_`, and those that name issuers of tokens.
    fn from_env(env: &Env) -> Result<Self, InitError> {
        if !env.has_valid_lines() {
            return Err(InitError::secret(VARIABLES, "lines of the form `NAME=value`"));
        }
        let public_url = env.get(PUBLIC_URL).map(|url| {
            PublicUrl::parse(url)
                .ok_or_else(|| InitError::setting(PUBLIC_URL, "an https URL (http on loopback) without query", url))
        });
        let invoke_mode = match env.get(INVOKE_MODE) {
            None | Some("buffered") => InvokeMode::Buffered,
            Some("stream") => InvokeMode::Stream,
            Some(other) => return Err(InitError::setting(INVOKE_MODE, "`buffered` or `stream`", other)),
        };
        let origins = env.get(ALLOWED_ORIGINS).unwrap_or_default().split(',').map(str::trim);
        let allowed_origins = origins.filter(|origin| !origin.is_empty()).map(|origin| {
            let expected = "a comma-separated list of origins such as https://app.example.com";
            Origin::parse(origin).ok_or_else(|| InitError::setting(ALLOWED_ORIGINS, expected, origin))
        });
        let state_key = env.get(STATE_KEY).map(|key| {
            let expected = "32 random bytes in Base64 (`openssl rand -base64 32`), or `current,previous`";
            StateKey::parse(key).ok_or_else(|| InitError::secret(STATE_KEY, expected))
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
                "{ANONYMOUS}=deny needs a way to know callers: set OIDC_ISSUER or its like, or {AUTH}=iam"
            )));
        }
        Ok(Self {
            authentication,
            denies_anonymous,
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

/// How the function's answers travel. A property of the Function URL that the function cannot query, so it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvokeMode {
    /// `BUFFERED`: an answer is sent when it is complete, at most 6 MB.
    #[default]
    Buffered,
    /// `RESPONSE_STREAM`: parts are sent as they come, at most 200 MB.
    Stream,
}

/// Why a server cannot be built, with the variables that a deployment sets.
pub(crate) fn explained(error: BuildError) -> InitError {
    match error {
        BuildError::NoStateKey { item } => InitError::new(format!(
            "{STATE_KEY} must be set, since the {item} asks the client: 32 random bytes in Base64, the same for all \
             environments, such as `openssl rand -base64 32` prints"
        )),
        BuildError::UnusableStateKey => InitError::new(format!("could not derive a key from {STATE_KEY}")),
        BuildError::NoAuthentication { item } => InitError::new(format!(
            "the {item} says who may use it, so that callers must be known: set OIDC_ISSUER (or GOOGLE_CLIENT_ID, \
             COGNITO_USER_POOL_ID, OIDC_ISSUERS), or {AUTH}=iam for a URL with AuthType AWS_IAM; {AUTH}=dangerously-off lets \
             everyone use everything"
        )),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<HttpConfig, InitError> {
        HttpConfig::from_env(&Env::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = read(&[("MCP_PUBLIC_URL", ""), ("MCP_ALLOWED_ORIGINS", " , ")]).unwrap();

        assert_eq!(config.invoke_mode, InvokeMode::Buffered);
        assert!(config.public_url.is_none() && config.allowed_origins.is_empty());
    }

    #[test]
    fn a_bad_setting_is_named_with_what_is_expected() {
        for (name, value, expected) in [
            ("MCP_INVOKE_MODE", "RESPONSE_STREAM", "`buffered` or `stream`"),
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
            ("MCP_AUTH", "off", "`required`, `iam` or `dangerously-off`"),
            ("MCP_AUTH", "required", "OIDC_ISSUER"),
            ("MCP_ANONYMOUS", "no", "`allow` or `deny`"),
            ("MCP_ANONYMOUS", "deny", "a way to know callers"),
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
    fn a_secret_that_cannot_be_used_is_not_repeated() {
        let error = read(&[("MCP_STATE_KEY", "c2hvcnQ=")]).unwrap_err();

        assert!(!error.to_string().contains("c2hvcnQ="), "{error}");
    }

    #[test]
    fn one_variable_may_hold_others() {
        let lines = "OWN_URL= https://a.example/?x=1 \r\n\nMCP_INVOKE_MODE=stream\nOWN_SET=lines\nOWN_EMPTY=lines\nOWN_UNSET=\n";
        let env = Env::from_pairs([("MCP_VARIABLES", lines), ("OWN_SET", "itself"), ("OWN_EMPTY", " ")]);

        let config = HttpConfig::from_env(&env).unwrap();

        assert_eq!(config.invoke_mode, InvokeMode::Stream);
        let values = ["OWN_URL", "OWN_SET", "OWN_EMPTY", "OWN_UNSET"].map(|name| env.get(name));
        assert_eq!(values, [Some("https://a.example/?x=1"), Some("itself"), Some("lines"), None]);
    }

    #[test]
    fn a_line_that_sets_no_variable_is_an_error() {
        for lines in
            ["OWN_URL", "=secret", "OWN URL=secret", "{\"OWN_URL\":\"secret=\"}", "A=b\nMCP_VARIABLES=A=secret"]
        {
            let error = read(&[("MCP_VARIABLES", lines)]).unwrap_err().to_string();

            assert!(error.contains("MCP_VARIABLES must be lines") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_noticed() {
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
    fn what_a_server_lacks_is_named_by_its_variable() {
        for (error, variable) in [
            (
                BuildError::NoStateKey { item: "tool `book`".to_owned() },
                "MCP_STATE_KEY must be set, since the tool `book`",
            ),
            (BuildError::UnusableStateKey, "MCP_STATE_KEY"),
            (BuildError::NoAuthentication { item: "tool `purge`".to_owned() }, "set OIDC_ISSUER"),
        ] {
            let error = explained(error).to_string();

            assert!(error.contains(variable), "{error}");
        }
    }
}
