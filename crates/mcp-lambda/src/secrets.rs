//! Variables whose values are in Secrets Manager, with the feature `secrets`: the state key.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use mcp_aws::{SecretText, StoredSecret};
#[cfg(any(feature = "interactive", feature = "store"))]
use mcp_server::{BoxError, LoadStateKey};
use mcp_server::{InitError, StateKey};

#[cfg(any(feature = "interactive", feature = "store"))]
use crate::McpService;
use crate::{
    Env,
    config::{STATE_KEY, STATE_KEY_FORMAT, STATE_KEY_SECRET_ARN},
};

/// How long a version is current before it seals.
const SEALS_AFTER: Duration = Duration::from_secs(15 * 60);
/// Length of the password that a CloudFormation template generates for a key: letters and digits, which are Base64.
const GENERATED_LENGTH: usize = 42;
/// Maximum number of keys that are accepted.
const MAX_KEYS: usize = 3;
/// Makes 32 bytes in Base64 of any such password.
const GENERATED_END: &str = "A=";

impl Env {
    /// Reads the secret of `MCP_STATE_KEY_SECRET_ARN`, if that variable is set, and returns the variables with the value
    /// of `MCP_STATE_KEY`. [`main`](crate::main) does so before it reads the configuration; a `main` of your own calls this.
    ///
    /// A version of the secret is `KEY`, `KEY,OLDER` or `KEY,OLDER;INDEX`. Each part is 32 bytes in Base64, or 42 letters and digits,
    /// as `GenerateSecretString` of CloudFormation can generate them.
    ///
    /// The first key is that of the current version (`AWSCURRENT`). The others, which are only accepted, are the older one of that
    /// version and those of the previous version (`AWSPREVIOUS`), if there is one: three in all. In the first 15 minutes of a version,
    /// the key of the previous one comes first. The index key is that of the current version, or of the previous one if it has none, or
    /// the oldest key. A previous version in another format is ignored, with a warning in the log.
    ///
    /// Takes at most five seconds. The secret is read once: an environment that runs keeps its keys, unless
    /// `McpService::connect_secrets` replaces them.
    ///
    /// # Errors
    ///
    /// - `MCP_STATE_KEY` is set, too.
    /// - The value is not the ARN of a secret, or there are no AWS credentials.
    /// - The secret cannot be read, or its current version is not a key.
    pub async fn with_secrets(self) -> Result<Self, InitError> {
        let Some(arn) = self.get(STATE_KEY_SECRET_ARN) else { return Ok(self) };
        if self.get(STATE_KEY).is_some() {
            return Err(InitError::new(format!(
                "{STATE_KEY} and {STATE_KEY_SECRET_ARN} are both set: remove one of them"
            )));
        }
        let secret = StoredSecret::from_env(STATE_KEY_SECRET_ARN, arn, |name| self.get(name))?;
        let keys = read(&secret).await?;
        Ok(self.with(STATE_KEY, keys))
    }
}

#[cfg(any(feature = "interactive", feature = "store"))]
impl McpService {
    /// Loads the state key again from the secret of `MCP_STATE_KEY_SECRET_ARN`, if that variable is set, when a `requestState`, another
    /// value that a client sends back, or a row of the store was sealed by an environment with a newer version: at most once a minute.
    /// [`main`](crate::main) does so. Call it in a `main` of your own.
    ///
    /// # Errors
    ///
    /// When the value is not the ARN of a secret, or there are no AWS credentials.
    pub fn connect_secrets(&self, env: &Env) -> Result<(), InitError> {
        if let Some(arn) = env.get(STATE_KEY_SECRET_ARN) {
            let secret = StoredSecret::from_env(STATE_KEY_SECRET_ARN, arn, |name| env.get(name))?;
            self.server().key_loader().set_source(std::sync::Arc::new(Loader(secret)));
        }
        Ok(())
    }
}

#[cfg(any(feature = "interactive", feature = "store"))]
struct Loader(StoredSecret);

#[cfg(any(feature = "interactive", feature = "store"))]
impl LoadStateKey for Loader {
    fn load(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<StateKey, BoxError>> + Send + '_>> {
        Box::pin(async {
            let text = read(&self.0).await?;
            Ok(StateKey::parse(&text).ok_or("the secret is not a state key")?)
        })
    }
}

/// Returns the value of `MCP_STATE_KEY`.
async fn read(secret: &StoredSecret) -> Result<String, InitError> {
    let versions = secret.versions(None).await.map_err(|error| {
        InitError::new(format!("could not read the secret of {STATE_KEY_SECRET_ARN}")).with_source(error)
    })?;
    let expected = || InitError::new(format!("the secret of {STATE_KEY_SECRET_ARN} must be {STATE_KEY_FORMAT}"));
    let current = StateKeyVersion::parse(&versions.current).ok_or_else(expected)?;
    let Some(previous) = versions.previous.filter(|previous| *previous != versions.current) else {
        return Ok(current.to_string());
    };
    let Some(previous) = StateKeyVersion::parse(&previous) else {
        tracing::warn!("the previous version of the state key is not a key, and is ignored");
        return Ok(current.to_string());
    };
    let seals = versions
        .current_created
        .is_none_or(|created| SystemTime::now().duration_since(created).is_ok_and(|age| age >= SEALS_AFTER));
    Ok(current.after(&previous, seals).to_string())
}

/// The keys of a version in Base64.
struct StateKeyVersion {
    /// The newest one first.
    keys: Vec<String>,
    index: Option<String>,
}

impl StateKeyVersion {
    fn parse(text: &SecretText) -> Option<Self> {
        let (keys, index) = match text.as_str().split_once(';') {
            Some((keys, index)) => (keys, Some(with_generated_end(index))),
            None => (text.as_str(), None),
        };
        // With one key too many, the text is not that of a state key.
        let keys = keys.split(',').take(MAX_KEYS + 1).map(with_generated_end).collect();
        let version = Self { keys, index };
        StateKey::parse(&version.to_string()).is_some().then_some(version)
    }

    /// Returns the keys of this version and of the one before.
    fn after(self, previous: &Self, seals: bool) -> Self {
        let oldest = previous.keys.last().or(self.keys.last());
        let index = self.index.as_ref().or(previous.index.as_ref()).or(oldest).cloned();
        let first = if seals { None } else { previous.keys.first() };
        let mut keys: Vec<String> = Vec::new();
        for key in first.into_iter().chain(&self.keys).chain(&previous.keys) {
            if keys.len() < MAX_KEYS && !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        Self { keys, index }
    }
}

/// Writes the value of `MCP_STATE_KEY`.
impl fmt::Display for StateKeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keys.join(","))?;
        match &self.index {
            Some(index) => write!(f, ";{index}"),
            None => Ok(()),
        }
    }
}

fn with_generated_end(key: &str) -> String {
    let key = key.trim();
    let is_generated = key.len() == GENERATED_LENGTH && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_generated { format!("{key}{GENERATED_END}") } else { key.to_owned() }
}
