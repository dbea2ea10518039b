//! The store of tokens and client registrations: one file per server, readable by its owner alone,
//! and encrypted if the system has a keychain.

mod folder;
mod forgetting;
mod kept;
mod testing;
mod turn;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use etcetera::BaseStrategy;
use serde_json::json;

pub(crate) use self::{
    folder::UnreadableFile,
    forgetting::{ForgottenError, Generation},
    kept::{Client, Credentials, Registration},
    turn::{PageError, PendingError, Turn},
};
use self::{
    folder::place_of,
    kept::{Kept, Sealed},
};
use crate::{
    endpoint,
    files::{self, Readers},
    keychain::Key,
};

/// Extra bytes of the write check: new tokens may be longer.
const SPARE_BYTES: usize = 16 * 1024;
/// Maximum size of the write check.
const MAX_PROBE_BYTES: u64 = 1024 * 1024;

/// The file of one server.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    server: String,
    file: PathBuf,
    /// The platform's folder, or that of a variable, whose mode is repaired.
    is_usual: bool,
    /// Writers of this process take turns.
    turn: Arc<Mutex<()>>,
    /// The key of the file, once it was loaded.
    key: Arc<OnceLock<Result<Key, String>>>,
    /// See [`Unsaved`].
    unsaved: Arc<Mutex<Option<Unsaved>>>,
    /// Set when the user was warned of a broken file.
    is_reported: Arc<AtomicBool>,
}

/// Credentials that could not be saved, and the access token that the file still has.
type Unsaved = (Option<String>, Credentials);

impl Store {
    /// Opens the store of a server: in the given folder, or encrypted in the platform's folder.
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
        let file = folder.join(format!("{}.json", named(&server)));
        let (turn, unsaved, is_reported) = (Arc::default(), Arc::default(), Arc::default());
        let own = Self { server, file, is_usual, turn, key, unsaved, is_reported };
        // The folder is created by the first write: reading must work in a read-only home.
        if own.folder().exists() {
            own.make_folder()?;
            own.adopt_older_name()?;
        }
        Ok(own)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// Makes the folder, or checks the one that is there.
    fn make_folder(&self) -> io::Result<()> {
        // A given folder may have other uses: its mode is not changed.
        files::secret_folder(self.folder(), self.is_usual).map_err(|error| self.not_opened(&error))
    }

    /// Adds the path to an error of the system.
    fn not_opened(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("could not open the store of tokens at {}: {error}", self.file.display()))
    }

    /// Checks that the next content can be written, before a refresh token is used.
    ///
    /// # Errors
    ///
    /// When it cannot, such as on a full disk.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        if self.unsaved().is_some() {
            // What the file has is void already.
            return Ok(());
        }
        let size = fs::metadata(&self.file).map_or(0, |metadata| metadata.len().min(MAX_PROBE_BYTES));
        let content = vec![b' '; usize::try_from(size).unwrap_or_default() + SPARE_BYTES];
        self.make_folder()?;
        files::probe(&self.file, &content).map_err(|error| self.not_opened(&error))
    }

    /// The file of this server.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Where the content of the file is broken; `None` if it is valid. Nothing is changed.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or opened.
    pub(crate) fn damage(&self) -> io::Result<Option<String>> {
        let bytes = files::read_secret(&self.file)?;
        // Unbounded JSON: a file that mcpl has written.
        let opened = match serde_json::from_slice(&bytes) {
            Ok(sealed) => self.opened(&sealed)?,
            Err(_) => bytes,
        };
        // Unbounded JSON: a file that mcpl has written.
        Ok(serde_json::from_slice::<Kept>(&opened).err().map(|error| place_of(&error)))
    }

    /// The location of the store, for messages.
    pub(crate) fn place(&self) -> String {
        let how =
            if self.key().is_ok() { "sealed with a key of the system's keychain" } else { "readable by you alone" };
        format!("{}, {how}", self.file.display())
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
        let kept = self.read()?;
        Ok(self.unsaved_of(&kept).or(kept.credentials))
    }

    /// Saves tokens. Those that cannot be saved are used until the process ends: the issuer has given them, and may give no
    /// others.
    ///
    /// # Errors
    ///
    /// When the server was forgotten since the generation in which they were requested.
    pub(crate) fn keep_granted(&self, credentials: Credentials, began: &Generation) -> Result<(), ForgottenError> {
        let saved = self.change_since(Some(began), |kept| {
            kept.credentials = Some(credentials.clone());
            (kept.refresh_failure, kept.sign_in_failure, kept.page) = (None, None, None);
        });
        let Err(error) = saved else { return Ok(()) };
        if error.get_ref().is_some_and(|own| own.is::<ForgottenError>()) {
            return Err(ForgottenError);
        }
        tracing::warn!(
            "new tokens could not be saved, and hold until this process ends: {error}: make {} writable",
            self.folder().display()
        );
        let replaced = self.read().ok().and_then(|kept| Some(kept.credentials?.token_response.access_token));
        *self.unsaved() = Some((replaced, credentials));
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn keep_credentials(&self, credentials: Credentials) {
        self.keep_granted(credentials, &self.generation()).unwrap();
    }

    /// The tokens that could not be saved, unless the file has others by now.
    fn unsaved_of(&self, kept: &Kept) -> Option<Credentials> {
        let in_file = kept.credentials.as_ref().map(|own| own.token_response.access_token.as_str());
        let unsaved = self.unsaved();
        unsaved.as_ref().filter(|(replaced, _)| replaced.as_deref() == in_file).map(|(_, own)| own.clone())
    }

    fn unsaved(&self) -> MutexGuard<'_, Option<Unsaved>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn drop_refresh_token(&self) -> io::Result<()> {
        self.change(|kept| {
            if let Some(credentials) = &mut kept.credentials {
                credentials.token_response.refresh_token = None;
            }
        })
    }

    fn read(&self) -> io::Result<Kept> {
        match files::read_secret(&self.file) {
            Ok(bytes) => {
                // Unbounded JSON: a file that mcpl has written.
                let opened = match serde_json::from_slice(&bytes) {
                    Ok(sealed) => Some(self.opened(&sealed)?),
                    Err(_) => None,
                };
                // Unbounded JSON: a file that mcpl has written.
                let kept = serde_json::from_slice(opened.as_ref().unwrap_or(&bytes));
                Ok(kept.unwrap_or_else(|error| self.set_aside(&bytes, &error)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(self.not_opened(&error)),
        }
    }

    /// Copies a broken file, once: it is overwritten when the user has signed in again.
    fn set_aside(&self, content: &[u8], error: &serde_json::Error) -> Kept {
        if !self.is_reported.swap(true, Ordering::Relaxed) {
            let copy = self.file.with_extension("broken");
            let outcome = match files::replace(&copy, content, &Readers::Owner) {
                Ok(()) => format!("a copy is kept as {}", copy.display()),
                Err(error) => format!("a copy could not be kept as {}: {error}", copy.display()),
            };
            tracing::warn!(
                "the store of tokens at {} is broken at {}, and is not used: {outcome}",
                self.file.display(),
                place_of(error)
            );
        }
        Kept::default()
    }

    /// Asked for at the first use, because the system may ask the user to unlock it.
    fn key(&self) -> Result<&Key, &str> {
        let key = self.key.get_or_init(|| {
            let key = Key::of_keychain(self.folder());
            key.map_err(|error| format!("{error:#}"))
                .inspect_err(|reason| tracing::info!(reason, "what is kept is not sealed"))
        });
        key.as_ref().map_err(String::as_str)
    }

    fn opened(&self, sealed: &Sealed) -> io::Result<Vec<u8>> {
        // In a folder that was given, it was sealed by a command for which that was the usual one.
        let given = (!self.is_usual).then(|| Key::of_keychain(self.folder()).map_err(|error| format!("{error:#}")));
        let key = given.as_ref().map_or_else(|| self.key(), |key| key.as_ref().map_err(String::as_str));
        // An older version has sealed it for the URL as it was given.
        let is_own = endpoint::canonical(&sealed.server) == self.server;
        let opened = key.map(|key| key.open(&sealed.server, &sealed.sealed).filter(|_| is_own));
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
        self.change_since(None, change)
    }

    /// The same, unless the server was forgotten since a generation: that is a [`ForgottenError`].
    fn change_since(&self, began: Option<&Generation>, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_folder()?;
        // Other proxies of the same server change it too. Not the lock of a refresh, under which tokens are saved.
        let _lock = files::lock(&self.file.with_extension("writing")).map_err(|error| self.not_opened(&error))?;
        if began.is_some_and(|own| *own != self.generation()) {
            return Err(io::Error::other(ForgottenError));
        }
        let mut kept = self.read()?;
        self.server.clone_into(&mut kept.server);
        if let Some(unsaved) = self.unsaved_of(&kept) {
            kept.credentials = Some(unsaved);
        }
        change(&mut kept);
        let content = match self.key() {
            Ok(key) => {
                let sealed = key.seal(&self.server, serde_json::to_vec(&kept)?)?;
                serde_json::to_vec_pretty(&json!({ "server": self.server, "sealed": sealed }))?
            }
            Err(_) => serde_json::to_vec_pretty(&kept)?,
        };
        files::replace(&self.file, &content, &Readers::Owner).map_err(|error| self.not_opened(&error))?;
        *self.unsaved() = None;
        Ok(())
    }
}

/// The name of a server's file, without its extension.
fn named(server: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, server.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the platform keeps an application's state.
pub(crate) fn usual_folder() -> io::Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    Ok(strategy.state_dir().unwrap_or_else(|| strategy.data_dir()).join("mcpl"))
}

/// The usual folder, if a variable of this shell changes it: a program that is started from a menu has no such
/// variable.
pub(crate) fn folder_of_variable() -> Option<PathBuf> {
    let usual = usual_folder().ok()?;
    let platforms = etcetera::home_dir().ok()?.join(".local").join("state").join("mcpl");
    let is_set = std::env::var_os("XDG_STATE_HOME").is_some_and(|folder| !folder.is_empty());
    (is_set && !cfg!(windows) && usual != platforms).then_some(usual)
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{SERVER, credentials, store},
        *,
    };

    fn token(store: &Store) -> String {
        store.credentials().unwrap().unwrap().token_response.access_token
    }

    #[test]
    fn a_broken_file_is_kept_aside() {
        for content in ["", "{\"server\": \"x", r#"{"credentials":{"client_id":3}}"#] {
            let (_folder, store) = store();
            store.keep_credentials(credentials("t"));
            fs::write(&store.file, content).unwrap();

            assert!(store.credentials().unwrap().is_none());
            store.keep_credentials(credentials("new"));

            assert_eq!(fs::read_to_string(store.file.with_extension("broken")).unwrap(), content);
            assert_eq!(token(&store), "new");
        }
    }

    #[test]
    fn tokens_that_cannot_be_saved_are_used() {
        let (_folder, store) = store();
        store.keep_credentials(credentials("old"));
        // In the place of its lock nothing can be written.
        let lock = store.file.with_extension("writing");
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();

        store.keep_credentials(credentials("new"));

        assert_eq!(token(&store), "new");
        let other = Store::of(SERVER, store.file.parent()).unwrap();
        assert_eq!(token(&other), "old");
        fs::remove_dir(&lock).unwrap();
        store.note_page("https://id.example/authorize");
        assert_eq!(token(&other), "new", "saved with the next change");
        other.keep_credentials(credentials("newer"));
        assert_eq!(token(&store), "newer");
    }

    #[test]
    fn an_error_of_the_store_names_its_file() {
        let (_folder, store) = store();
        store.keep_credentials(credentials("t"));
        fs::remove_file(&store.file).unwrap();
        fs::create_dir(&store.file).unwrap();

        let error = store.credentials().err().unwrap().to_string();

        let expected = format!("could not open the store of tokens at {}: ", store.file.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
