//! What is kept between runs: tokens, and the registration of the client, one file a server, readable by its owner alone,
//! and sealed where the system has a keychain.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use etcetera::BaseStrategy;
use rmcp::transport::auth::{AuthError, CredentialRefreshGuard, CredentialStore, StoredCredentials};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    files::{self, Readers},
    keychain::Key,
};

/// The file of one server.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    server: String,
    file: PathBuf,
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
    credentials: Option<StoredCredentials>,
    registration: Option<Registration>,
}

/// What the file holds if it is sealed.
#[derive(Deserialize)]
struct Sealed {
    sealed: String,
}

/// A client that an issuer knows by this id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    pub(crate) redirect_uri: String,
}

impl Registration {
    /// That of a client which was registered by hand; with which issuer shows when it is used.
    pub(crate) fn given(client_id: String, client_secret: Option<String>) -> Self {
        Self { issuer: None, client_id, client_secret, redirect_uri: String::new() }
    }
}

impl Store {
    /// The store of a server: in a folder of one's choice, or sealed where the platform keeps an application's state.
    pub(crate) fn of(server: &str, folder: Option<&Path>) -> io::Result<Self> {
        let key = Arc::new(OnceLock::new());
        let is_usual = folder.is_none();
        let folder = match folder {
            Some(folder) => {
                let _ = key.set(Err("files are wanted".to_owned()));
                folder.to_owned()
            }
            None => {
                let strategy = etcetera::choose_base_strategy().map_err(io::Error::other)?;
                strategy.state_dir().unwrap_or_else(|| strategy.data_dir()).join("mcpl")
            }
        };
        // One that was given may be for other things too: its mode is the user's business.
        files::secret_folder(&folder, is_usual)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, server.as_bytes());
        let name: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { server: server.to_owned(), file: folder.join(format!("{name}.json")), turn: Arc::default(), key })
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        let how =
            if self.key().is_ok() { "sealed with a key of the system's keychain" } else { "readable by you alone" };
        format!("{}, {how}", self.file.display())
    }

    /// Forgets everything about the server.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn registration(&self) -> io::Result<Option<Registration>> {
        Ok(self.read()?.registration)
    }

    pub(crate) fn keep_registration(&self, registration: Registration) -> io::Result<()> {
        self.change(|kept| kept.registration = Some(registration))
    }

    pub(crate) fn credentials(&self) -> io::Result<Option<StoredCredentials>> {
        Ok(self.read()?.credentials)
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
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let key = self.key.get_or_init(|| {
            let key = Key::of_keychain(folder);
            key.map_err(|error| format!("{error:#}"))
                .inspect_err(|reason| tracing::info!(reason, "what is kept is not sealed"))
        });
        key.as_ref().map_err(String::as_str)
    }

    fn opened(&self, sealed: &str) -> io::Result<Vec<u8>> {
        let key = self.key();
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

#[async_trait]
impl CredentialStore for Store {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        self.credentials().map_err(failed)
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        self.change(|kept| kept.credentials = Some(credentials)).map_err(failed)
    }

    async fn clear(&self) -> Result<(), AuthError> {
        self.change(|kept| kept.credentials = None).map_err(failed)
    }

    /// One proxy of several refreshes at a time; the next one finds what the first has got.
    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        let path = self.file.with_extension("lock");
        let locked = tokio::task::spawn_blocking(move || files::lock(&path));
        let file = locked.await.map_err(io::Error::other).and_then(|locked| locked).map_err(failed)?;
        Ok(Some(CredentialRefreshGuard::new(file)))
    }
}

fn failed(error: io::Error) -> AuthError {
    AuthError::CredentialStoreError(error.to_string())
}
