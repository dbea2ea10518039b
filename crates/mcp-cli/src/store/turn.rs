//! Locks between processes: one process at a time refreshes or signs in, and records its outcome for those that wait.

use std::{fmt, fs, io, time::Duration};

use super::{
    Store,
    kept::{Failure, OpenPage},
};
use crate::{
    files,
    oauth::{now, random},
};

/// Poll interval of a lock that another process has.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const POLLS_A_MINUTE: u32 = 600;
const POLLS_A_SECOND: u32 = 10;

/// The operations that one process does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Refresh,
    /// A page may be open for minutes, while tokens are refreshed.
    SignIn,
}

/// A sign-in page ended without tokens.
#[derive(Debug)]
pub(crate) struct PageError(pub(crate) String);

/// A request to an issuer is pending.
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

impl Store {
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
        let try_lock = || files::try_lock(&path).map_err(|error| self.not_opened(&error));
        if let Some(file) = try_lock()? {
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
            tracing::warn!("another mcpl{} open: waiting for it", self.described_page()?);
        }
        // Counted, since a clock goes on while all of them sleep.
        for poll in 1..=turn.minutes() * POLLS_A_MINUTE {
            tokio::time::sleep(POLL_INTERVAL).await;
            let file = try_lock()?;
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

    /// The page that another process has open, in words.
    fn described_page(&self) -> io::Result<String> {
        Ok(match self.read()?.page {
            Some(OpenPage { process, address }) => {
                format!(" (process {process}) has the sign-in page {address}")
            }
            None => " has a sign-in page of this server".to_owned(),
        })
    }

    /// Notes the page that this process opens, for those that wait for it.
    pub(crate) fn note_page(&self, address: &str) {
        let page = OpenPage { process: std::process::id(), address: address.to_owned() };
        if let Err(error) = self.change(|kept| kept.page = Some(page)) {
            tracing::info!(%error, "could not note the sign-in page for other processes");
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::store;

    /// o11: of a process that is stopped, as under a debugger.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_end_is_an_error() {
        let (_folder, store) = store();
        let held = store.turn(Turn::Refresh).await.unwrap();

        let error = store.turn(Turn::Refresh).await.unwrap_err().to_string();

        assert!(error.ends_with(" locked for 5 minutes: end that process and try again"), "{error}");
        assert!(store.turn(Turn::SignIn).await.is_ok(), "the turns are of two kinds");
        drop(held);
        assert!(store.turn(Turn::Refresh).await.is_ok());
    }

    #[test]
    fn the_page_of_another_process_is_named() {
        let (_folder, store) = store();
        assert_eq!(store.described_page().unwrap(), " has a sign-in page of this server");

        store.note_page("https://id.example/authorize?x=1");

        let expected =
            format!(" (process {}) has the sign-in page https://id.example/authorize?x=1", std::process::id());
        assert_eq!(store.described_page().unwrap(), expected);
    }
}
