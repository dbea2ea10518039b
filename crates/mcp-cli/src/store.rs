//! What is kept between runs: tokens, and the registration of the client, one file a server, readable by its owner alone,
//! and sealed where the system has a keychain.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    endpoint,
    files::{self, Readers},
    keychain::Key,
    oauth::{TokenResponse, now, random},
};

/// Between two looks at a lock that another process has.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const POLLS_A_MINUTE: u32 = 600;
const POLLS_A_SECOND: u32 = 10;

/// The file of one server.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    server: String,
    file: PathBuf,
    /// The platform's folder, or that of a variable, whose mode is repaired.
    is_usual: bool,
    /// Writers of this process take turns.
    turn: Arc<Mutex<()>>,
    /// What the file is sealed with, once it was asked for.
    key: Arc<OnceLock<Result<Key, String>>>,
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// For people who look.
    server: String,
    credentials: Option<Credentials>,
    registration: Option<Registration>,
    /// Why the last refresh and the last sign-in failed, for processes that have waited for them.
    refresh_failure: Option<Failure>,
    sign_in_failure: Option<Failure>,
}

impl Kept {
    fn failure(&mut self, turn: Turn) -> &mut Option<Failure> {
        match turn {
            Turn::Refresh => &mut self.refresh_failure,
            Turn::SignIn => &mut self.sign_in_failure,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    /// Of this failure alone: a clock that jumps would not say which is the later one.
    id: String,
    reason: String,
    /// When the page ended that was opened, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page_ended_at: Option<u64>,
    /// Whether the turn goes on all the same: the issuer may still answer.
    #[serde(default)]
    is_pending: bool,
}

/// What the file holds if it is sealed.
#[derive(Deserialize)]
struct Sealed {
    sealed: String,
}

/// Tokens, with what refreshing them takes: the client that they were given to, as it was then, and where.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    /// Of a client that was registered by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_method: Option<String>,
    pub(crate) token_response: TokenResponse,
    pub(crate) granted_scopes: Vec<String>,
    /// In seconds since the epoch.
    pub(crate) token_received_at: Option<u64>,
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    #[serde(default)]
    pub(crate) token_endpoint: Option<String>,
    /// The parameter `resource` of requests for these tokens.
    #[serde(default)]
    pub(crate) resource: Option<String>,
    /// Whose tokens these are, if no person has signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// The key that tokens are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proof_key: Option<String>,
}

/// How a client authenticates at a token endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
    /// `client_secret_basic` unless it says otherwise.
    pub(crate) auth_method: Option<String>,
}

impl From<Registration> for Client {
    fn from(own: Registration) -> Self {
        Self { id: own.client_id, secret: own.client_secret, auth_method: own.auth_method }
    }
}

/// What one process of several does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Refresh,
    /// A page may be open for minutes, while tokens are refreshed.
    SignIn,
}

/// A sign-in page was opened, and brought no tokens.
#[derive(Debug)]
pub(crate) struct PageError(pub(crate) String);

/// A request to an issuer has no answer yet, and is still waited for.
#[derive(Debug)]
pub(crate) struct PendingError(pub(crate) String);

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PendingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PageError {}

impl std::error::Error for PendingError {}

impl Turn {
    /// More than one process can need, awake: four tries of 30 s with pauses of 30 s, or two pages of five minutes.
    fn minutes(self) -> u32 {
        match self {
            Self::Refresh => 5,
            Self::SignIn => 20,
        }
    }
}

/// A client that an issuer knows by this id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    #[serde(default)]
    pub(crate) auth_method: Option<String>,
    pub(crate) redirect_uri: String,
}

impl Registration {
    /// That of a client which was registered by hand; with which issuer shows when it is used.
    pub(crate) fn given(client_id: String, client_secret: Option<String>) -> Self {
        Self { issuer: None, client_id, client_secret, auth_method: None, redirect_uri: String::new() }
    }

    /// Whether the client was registered by itself, and can be again.
    pub(crate) fn is_dynamic(&self) -> bool {
        !self.redirect_uri.is_empty()
    }
}

impl Store {
    /// The store of a server: in a folder of one's choice, or sealed where the platform keeps an application's state.
    pub(crate) fn of(server: &str, folder: Option<&Path>) -> io::Result<Self> {
        let server = endpoint::canonical(server);
        let key = Arc::new(OnceLock::new());
        let is_usual = folder.is_none();
        let folder = match folder {
            Some(folder) => {
                let _ = key.set(Err("files are wanted".to_owned()));
                folder.to_owned()
            }
            None => usual_folder()?,
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, server.as_bytes());
        let name: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let file = folder.join(format!("{name}.json"));
        let own = Self { server, file, is_usual, turn: Arc::default(), key };
        // It is made when there is something to keep: a home that cannot be written is none of a reader's business.
        if own.folder().exists() {
            own.make_folder()?;
        }
        Ok(own)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// Makes the folder, or checks the one that is there.
    fn make_folder(&self) -> io::Result<()> {
        // One that was given may be for other things too: its mode is the user's business.
        files::secret_folder(self.folder(), self.is_usual)
    }

    /// The file of this server.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file has what was kept in it, or is broken.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or opened.
    pub(crate) fn is_sound(&self) -> io::Result<bool> {
        let bytes = files::read(&self.file)?;
        // Unbounded JSON: a file that mcpl has written.
        let opened = match serde_json::from_slice(&bytes) {
            Ok(Sealed { sealed }) => self.opened(&sealed)?,
            Err(_) => bytes,
        };
        // Unbounded JSON: a file that mcpl has written.
        Ok(serde_json::from_slice::<Kept>(&opened).is_ok())
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        let how =
            if self.key().is_ok() { "sealed with a key of the system's keychain" } else { "readable by you alone" };
        format!("{}, {how}", self.file.display())
    }

    /// Forgets everything about the server. Returns what that was, or `None` if there was nothing.
    pub(crate) fn forget(&self) -> io::Result<Option<String>> {
        let content = files::read(&self.file);
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            removed => removed?,
        }
        // Unbounded JSON: a file that mcpl has written. What is sealed stays so: the keychain may be why it is forgotten.
        let kept: Kept = content.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let tokens =
            kept.credentials.map(|own| format!("the tokens of {}", own.issuer.as_deref().unwrap_or("its issuer")));
        let registration = kept.registration.map(|own| format!("the client {}", own.client_id));
        let parts: Vec<String> = tokens.into_iter().chain(registration).collect();
        if parts.is_empty() && (kept.refresh_failure.is_some() || kept.sign_in_failure.is_some()) {
            return Ok(None);
        }
        Ok(Some(if parts.is_empty() { "everything that was kept".to_owned() } else { parts.join(" and ") }))
    }

    pub(crate) fn registration(&self) -> io::Result<Option<Registration>> {
        Ok(self.read()?.registration)
    }

    pub(crate) fn keep_registration(&self, registration: Registration) -> io::Result<()> {
        self.change(|kept| kept.registration = Some(registration))
    }

    /// Drops the registration of a client that can be registered again. Returns whether it was that of this client.
    pub(crate) fn drop_registration(&self, client_id: &str) -> io::Result<bool> {
        let mut is_dropped = false;
        self.change(|kept| {
            let dropped = kept.registration.take_if(|own| own.client_id == client_id && own.is_dynamic());
            is_dropped = dropped.is_some();
        })?;
        Ok(is_dropped)
    }

    pub(crate) fn credentials(&self) -> io::Result<Option<Credentials>> {
        Ok(self.read()?.credentials)
    }

    pub(crate) fn keep_credentials(&self, credentials: Credentials) -> io::Result<()> {
        self.change(|kept| {
            kept.credentials = Some(credentials);
            (kept.refresh_failure, kept.sign_in_failure) = (None, None);
        })
    }

    pub(crate) fn drop_refresh_token(&self) -> io::Result<()> {
        self.change(|kept| {
            if let Some(credentials) = &mut kept.credentials {
                credentials.token_response.refresh_token = None;
            }
        })
    }

    /// Waits until no other process, and no other request, does the same with this server's tokens. The turn ends when the
    /// file is dropped.
    ///
    /// # Errors
    ///
    /// When another has failed meanwhile, which would be the same again; when another waits for an issuer that hangs; and when
    /// another does not end.
    pub(crate) async fn turn(&self, turn: Turn) -> io::Result<fs::File> {
        self.make_folder()?;
        let path = self.file.with_extension(match turn {
            Turn::Refresh => "lock",
            Turn::SignIn => "page",
        });
        if let Some(file) = files::try_lock(&path)? {
            // Its process has ended.
            if self.read()?.failure(turn).as_ref().is_some_and(|own| own.is_pending) {
                self.change(|kept| *kept.failure(turn) = None)?;
            }
            return Ok(file);
        }
        let before = self.read()?.failure(turn).take();
        if let Some(failure) = before.as_ref().filter(|own| own.is_pending) {
            return Err(io::Error::other(failure.reason.clone()));
        }
        if turn == Turn::SignIn {
            tracing::warn!("another mcpl has a sign-in page of this server open: waiting for it");
        }
        // Counted, since a clock goes on while all of them sleep.
        for poll in 1..=turn.minutes() * POLLS_A_MINUTE {
            tokio::time::sleep(POLL_INTERVAL).await;
            let file = files::try_lock(&path)?;
            if file.is_none() && !poll.is_multiple_of(POLLS_A_SECOND) {
                continue;
            }
            let failure = self.read()?.failure(turn).take().filter(|own| before.as_ref() != Some(own));
            match (failure, file) {
                (Some(failure), file) if file.is_some() || failure.is_pending => {
                    return Err(io::Error::other(failure.reason));
                }
                (None, Some(file)) => return Ok(file),
                _ => {}
            }
        }
        Err(io::Error::other(format!(
            "another mcpl has had {} locked for {} minutes: end that process and try again",
            path.display(),
            turn.minutes()
        )))
    }

    /// Notes why a turn has failed, before it ends. Where that is impossible, others find out by themselves.
    pub(crate) fn note_failure(&self, turn: Turn, error: &anyhow::Error) {
        let noted = random().map_err(io::Error::other).and_then(|id| {
            let failure = Failure {
                id,
                reason: format!("{error:#}"),
                page_ended_at: error.is::<PageError>().then(now),
                is_pending: error.is::<PendingError>(),
            };
            self.change(|kept| *kept.failure(turn) = Some(failure))
        });
        if let Err(error) = noted {
            tracing::info!(%error, "could not note a failure for other processes");
        }
    }

    /// Why the last sign-in brought no tokens, and when its page ended, if it had opened one.
    pub(crate) fn page_failure(&self) -> io::Result<Option<(String, u64)>> {
        let failure = self.read()?.sign_in_failure;
        Ok(failure.and_then(|own| Some((own.reason, own.page_ended_at?))))
    }

    fn read(&self) -> io::Result<Kept> {
        match files::read(&self.file) {
            Ok(bytes) => {
                // Unbounded JSON: a file that mcpl has written.
                let opened = match serde_json::from_slice(&bytes) {
                    Ok(Sealed { sealed }) => self.opened(&sealed)?,
                    Err(_) => bytes,
                };
                // What is broken is as good as lost: the user signs in again.
                // Unbounded JSON: a file that mcpl has written.
                Ok(serde_json::from_slice(&opened).unwrap_or_default())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error),
        }
    }

    /// Asked for at the first use, because the system may ask whoever is there to unlock it.
    fn key(&self) -> Result<&Key, &str> {
        let key = self.key.get_or_init(|| {
            let key = Key::of_keychain(self.folder());
            key.map_err(|error| format!("{error:#}"))
                .inspect_err(|reason| tracing::info!(reason, "what is kept is not sealed"))
        });
        key.as_ref().map_err(String::as_str)
    }

    fn opened(&self, sealed: &str) -> io::Result<Vec<u8>> {
        // In a folder that was given, it was sealed by a command for which that was the usual one.
        let given = (!self.is_usual).then(|| Key::of_keychain(self.folder()).map_err(|error| format!("{error:#}")));
        let key = given.as_ref().map_or_else(|| self.key(), |key| key.as_ref().map_err(String::as_str));
        let opened = key.map(|key| key.open(&self.server, sealed));
        let reason = match opened {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => "it has another one now",
            Err(reason) => reason,
        };
        // Not to be overwritten: the keychain may just be locked.
        Err(io::Error::other(format!(
            "{} is sealed with a key of the system's keychain ({reason}): unlock that, or run `mcpl forget {}` and sign \
             in again",
            self.file.display(),
            self.server
        )))
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_folder()?;
        // Other proxies of the same server change it too. Not the lock of a refresh, under which tokens are saved.
        let _lock = files::lock(&self.file.with_extension("writing"))?;
        let mut kept = self.read()?;
        self.server.clone_into(&mut kept.server);
        change(&mut kept);
        let content = match self.key() {
            Ok(key) => {
                let sealed = key.seal(&self.server, serde_json::to_vec(&kept)?)?;
                serde_json::to_vec_pretty(&json!({ "server": self.server, "sealed": sealed }))?
            }
            Err(_) => serde_json::to_vec_pretty(&kept)?,
        };
        files::replace(&self.file, &content, &Readers::Owner)
    }
}

/// Where the platform keeps an application's state.
pub(crate) fn usual_folder() -> io::Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    Ok(strategy.state_dir().unwrap_or_else(|| strategy.data_dir()).join("mcpl"))
}

/// The usual folder, if a variable of this shell makes it another one: a program that is started from a menu has no such
/// variable.
pub(crate) fn folder_of_variable() -> Option<PathBuf> {
    let usual = usual_folder().ok()?;
    let platforms = etcetera::home_dir().ok()?.join(".local").join("state").join("mcpl");
    let is_set = std::env::var_os("XDG_STATE_HOME").is_some_and(|folder| !folder.is_empty());
    (is_set && !cfg!(windows) && usual != platforms).then_some(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// o11: of a process that is stopped, as under a debugger.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::of("https://mcp.example.com/mcp", Some(&folder.path().join("mcpl"))).unwrap();
        let held = store.turn(Turn::Refresh).await.unwrap();

        let error = store.turn(Turn::Refresh).await.unwrap_err().to_string();

        assert!(error.ends_with(" locked for 5 minutes: end that process and try again"), "{error}");
        assert!(store.turn(Turn::SignIn).await.is_ok(), "the turns are of two kinds");
        drop(held);
        assert!(store.turn(Turn::Refresh).await.is_ok());
    }
}
