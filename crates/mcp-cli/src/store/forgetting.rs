//! Forgetting a server, also while another process refreshes its token or signs in.

use std::{fmt, fs, io, sync::PoisonError, time::Duration};

use super::{
    Store,
    kept::{Client, Credentials, Kept},
};
use crate::{
    files::{self, Readers},
    oauth::random,
};

/// How long `forget` waits for a refresh of another process.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Changes each time a server is forgotten. Tokens that were requested in an earlier generation are not saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Generation(Vec<u8>);

/// The server was forgotten while tokens were requested for it.
#[derive(Debug)]
pub(crate) struct ForgottenError;

impl fmt::Display for ForgottenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`mcpl forget` has removed the sign-in meanwhile, and the new tokens are not kept: try again to sign in",
        )
    }
}

impl std::error::Error for ForgottenError {}

/// What was kept about a server.
pub(crate) struct Forgotten {
    pub(crate) description: String,
    /// The tokens, and the client that they were given to.
    pub(crate) grant: Option<(Credentials, Client)>,
}

impl Store {
    pub(crate) fn generation(&self) -> Generation {
        Generation(files::read_secret(&self.file.with_extension("forgotten")).unwrap_or_default())
    }

    /// Waits a short time for a refresh of another process, and keeps others from beginning one until the file is dropped.
    /// `None` if the refresh goes on: what it gets is revoked by its process.
    pub(crate) async fn refresh_ended(&self) -> Option<fs::File> {
        let path = self.file.with_extension("lock");
        if !path.exists() {
            return None;
        }
        let polled = async {
            loop {
                match files::try_lock(&path) {
                    Ok(None) => tokio::time::sleep(POLL_INTERVAL).await,
                    locked => return locked.ok().flatten(),
                }
            }
        };
        tokio::time::timeout(REFRESH_TIMEOUT, polled).await.ok().flatten()
    }

    /// Removes everything about the server. Returns what that was, or `None` if there was nothing.
    pub(crate) fn forget(&self) -> io::Result<Option<Forgotten>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::symlink_metadata(&self.file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let _lock = files::lock(&self.file.with_extension("writing")).map_err(|error| self.not_opened(&error))?;
        let content = files::read_secret(&self.file);
        let grant = self.read().map(Kept::grant).unwrap_or_else(|error| {
            tracing::warn!("the tokens are not revoked at the issuer, since they cannot be read: {error}");
            None
        });
        let next = random().map_err(io::Error::other)?;
        files::replace(&self.file.with_extension("forgotten"), next.as_bytes(), &Readers::Owner)
            .map_err(|error| self.not_opened(&error))?;
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            removed => removed.map_err(|error| self.not_opened(&error))?,
        }
        self.remove_older_names()?;
        // May hold tokens too.
        let _ = fs::remove_file(self.file.with_extension("broken"));
        // Unbounded JSON: a file that mcpl has written. What is sealed stays so: the keychain may be why it is forgotten.
        let kept: Kept = content.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(Some(Forgotten { description: kept.description(), grant }))
    }
}

impl Kept {
    fn grant(self) -> Option<(Credentials, Client)> {
        let credentials = self.credentials?;
        let registration = self.registration.filter(|own| own.client_id == credentials.client_id);
        let client = Client {
            id: credentials.client_id.clone(),
            secret: credentials.client_secret.clone().or_else(|| registration?.client_secret),
            auth_method: credentials.auth_method.clone(),
        };
        Some((credentials, client))
    }

    fn description(self) -> String {
        let tokens =
            self.credentials.map(|own| format!("the tokens of {}", own.issuer.as_deref().unwrap_or("its issuer")));
        let registration = self.registration.map(|own| {
            // It was given when the entry of a program was installed, and is written nowhere else.
            let secret = own.client_secret.is_some() && !own.is_dynamic();
            let again = " with its secret, which has to be given again (`mcpl install`)";
            format!("the client {}{}", own.client_id, if secret { again } else { "" })
        });
        let parts: Vec<String> = tokens.into_iter().chain(registration).collect();
        if parts.is_empty() && (self.refresh_failure.is_some() || self.sign_in_failure.is_some()) {
            return "the failure of the last sign-in".to_owned();
        }
        if parts.is_empty() {
            "everything that was kept, also the client's secret if there was one".to_owned()
        } else {
            parts.join(" and ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Registration, Turn,
        testing::{credentials, store},
    };

    #[test]
    fn forget_says_that_a_secret_is_gone() {
        let (_folder, store) = store();
        store.keep_registration(Registration::given("c".to_owned(), Some("s".to_owned()))).unwrap();

        let forgotten = store.forget().unwrap().unwrap().description;

        assert_eq!(forgotten, "the client c with its secret, which has to be given again (`mcpl install`)");
    }

    #[test]
    fn tokens_that_were_requested_before_forget_are_not_kept() {
        let (_folder, store) = store();
        store.keep_credentials(credentials("t"));
        let before = store.generation();
        assert!(store.keep_granted(credentials("t"), &before).is_ok());

        for _ in 0..2 {
            assert!(store.forget().unwrap().unwrap().grant.is_some());
            assert!(store.keep_granted(credentials("t"), &before).is_err());
            assert!(store.credentials().unwrap().is_none() && !store.file.exists());
            assert!(store.keep_granted(credentials("t"), &store.generation()).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn forget_waits_for_a_refresh_within_its_timeout() {
        let (_folder, store) = store();
        assert!(store.refresh_ended().await.is_none(), "no refresh was ever begun");
        let held = store.turn(Turn::Refresh).await.unwrap();
        let began = tokio::time::Instant::now();

        assert!(store.refresh_ended().await.is_none());

        assert_eq!(began.elapsed().as_secs(), REFRESH_TIMEOUT.as_secs());
        let ending = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        };
        let (ended, ()) = tokio::join!(store.refresh_ended(), ending);
        assert!(ended.is_some());
    }
}
