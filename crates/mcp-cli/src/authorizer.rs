//! Authentication of requests: configured headers, a token command, OAuth, or SigV4.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::sync::Mutex;

use crate::{
    challenge::Challenge,
    command_line,
    oauth::{OAuth, Token},
    sigv4::Signer,
};

/// Maximum run time of a token command.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// The source of tokens for one server.
#[derive(Debug)]
pub(crate) enum Authorizer {
    /// No tokens: only the configured headers.
    Headers,
    /// Tokens of a command.
    Command(TokenCommand),
    OAuth(Box<OAuth>),
    /// No tokens: requests are signed.
    SigV4(Box<Signer>),
}

impl Authorizer {
    /// The token to send, if there is one already.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<Token>> {
        match self {
            Self::Headers | Self::SigV4(_) => Ok(None),
            Self::Command(command) => Ok(Some(Token::from(command.token().await?))),
            Self::OAuth(oauth) => oauth.token().await,
        }
    }

    /// Whether a token with further scopes can be requested.
    pub(crate) fn can_add_scopes(&self) -> bool {
        matches!(self, Self::OAuth(_))
    }

    /// Records that the server has accepted a token.
    pub(crate) fn accepted(&self, token: &str) {
        match self {
            Self::OAuth(oauth) => oauth.accepted(token),
            Self::Command(command) => command.is_new.store(false, Ordering::Relaxed),
            Self::Headers | Self::SigV4(_) => {}
        }
    }

    /// Notes that a request has succeeded.
    pub(crate) fn succeeded(&self) {
        if let Self::OAuth(oauth) = self {
            oauth.succeeded();
        }
    }

    /// Waits for a pending refresh before the program ends.
    pub(crate) async fn settled(&self) {
        if let Self::OAuth(oauth) = self {
            oauth.settled().await;
        }
    }

    /// Gets a token of OAuth ahead of the request that requires it.
    ///
    /// # Errors
    ///
    /// When the sign-in fails. Requests that are authenticated in another way have no sign-in.
    pub(crate) async fn sign_in_ahead(&self) -> anyhow::Result<()> {
        match self {
            Self::OAuth(oauth) => oauth.sign_in_ahead().await,
            Self::Headers | Self::Command(_) | Self::SigV4(_) => {
                bail!("there is no sign-in: requests are authenticated by the options that are given")
            }
        }
    }

    /// Replaces a rejected token.
    pub(crate) async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        match self {
            Self::Headers => bail!("the server requires a token, and `--header` gives another or none"),
            Self::SigV4(_) => bail!("the server requires a token, though requests are signed: leave `--sigv4` out"),
            Self::Command(command) => command.renew(refused, challenge).await,
            Self::OAuth(oauth) => oauth.renew(refused, challenge).await,
        }
    }
}

/// A command that prints a token, and the last one that it has printed.
#[derive(Debug)]
pub(crate) struct TokenCommand {
    command: String,
    token: Mutex<Option<String>>,
    /// Whether the server has accepted no token since one was rejected.
    is_new: AtomicBool,
    timeout: Duration,
}

impl TokenCommand {
    /// `timeout` is that of an answer of the server: a command has as long, within [`LONGEST_RUN`].
    pub(crate) fn new(command: String, timeout: Duration) -> Self {
        Self { command, token: Mutex::default(), is_new: AtomicBool::new(false), timeout: timeout.min(LONGEST_RUN) }
    }

    /// Runs the command and returns its token. The command is killed after the timeout.
    async fn run(&self) -> anyhow::Result<String> {
        let printed = tokio::time::timeout(self.timeout, command_line::output("--token-command", &self.command)).await;
        let printed = printed
            .with_context(|| format!("`--token-command {}` has not ended within {:?}", self.command, self.timeout))??;
        if printed.contains('\n') {
            bail!(
                "`--token-command {}` prints more than one line: it must print a token and nothing else",
                self.command
            );
        }
        if !printed.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(
                "`--token-command {}` prints other than visible ASCII characters: it must print a token and nothing else",
                self.command
            );
        }
        Ok(printed)
    }

    async fn token(&self) -> anyhow::Result<String> {
        let mut token = self.token.lock().await;
        match &*token {
            Some(token) => Ok(token.clone()),
            None => Ok(token.insert(self.run().await?).clone()),
        }
    }

    /// Runs the command again.
    ///
    /// # Errors
    ///
    /// When it fails, prints the rejected token again, or has printed a second token that was rejected.
    async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        let mut token = self.token.lock().await;
        if token.as_deref() != refused {
            // Another request has run it.
            return Ok(());
        }
        if !self.is_new.swap(true, Ordering::Relaxed) {
            *token = Some(self.run().await?);
        }
        if token.as_deref() == refused {
            let reason = challenge.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
            self.is_new.store(false, Ordering::Relaxed);
            bail!("the server rejects the token that `--token-command {}` prints{reason}", self.command);
        }
        Ok(())
    }
}

// The commands are those of a shell.
#[cfg(unix)]
#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    use super::*;

    #[tokio::test]
    async fn a_rejected_token_names_the_command_that_prints_it() {
        let field = HeaderValue::from_static(r#"Bearer error="invalid_token", error_description="expired""#);
        let challenge = Challenge::of(&HeaderMap::from_iter([(WWW_AUTHENTICATE, field)]), "");
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        // Another token at each run.
        let changing = format!("sh -c 'echo x >> {0}; wc -l < {0}'", count.display());
        for (command, runs) in [("echo same".to_owned(), None), (changing, Some(2))] {
            let authorizer = Authorizer::Command(TokenCommand::new(command.clone(), Duration::MAX));
            let mut renewals = 0;

            let error = loop {
                let token = authorizer.token().await.unwrap().unwrap().text;
                match authorizer.renew(Some(&token), &challenge).await {
                    Ok(()) => renewals += 1,
                    Err(error) => break error.to_string(),
                }
            };

            assert!(error.contains(&format!("`--token-command {command}`")), "{error}");
            assert!(error.ends_with("prints (invalid_token: expired)"), "{error}");
            assert_eq!(renewals, usize::from(runs.is_some()));
            let printed = std::fs::read_to_string(&count).ok().map(|text| text.lines().count());
            assert_eq!(printed, runs, "{command}");
        }
    }

    #[tokio::test]
    async fn what_a_command_prints_must_be_one_token_in_time() {
        for (command, timeout, expected) in [
            ("printf 'a\\nb'", 60, "` prints more than one line: it must print a token"),
            ("printf 'Bearer x'", 60, "` prints other than visible ASCII characters: "),
            ("printf '\\303\\251'", 60, "` prints other than visible ASCII characters: "),
            ("sleep 60", 0, "` has not ended within 0ns"),
        ] {
            let own = TokenCommand::new(command.to_owned(), Duration::from_secs(timeout));

            let error = format!("{:#}", own.token().await.unwrap_err());

            assert!(error.starts_with(&format!("`--token-command {command}{expected}")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_of_a_command_that_was_accepted_may_expire() {
        let authorizer = Authorizer::Command(TokenCommand::new("echo token".to_owned(), Duration::MAX));
        let Authorizer::Command(command) = &authorizer else { unreachable!() };
        *command.token.lock().await = Some("old".to_owned());
        for _ in 0..3 {
            authorizer.renew(Some("old"), &Challenge::default()).await.unwrap();
            authorizer.accepted("token");
            assert_eq!(authorizer.token().await.unwrap().unwrap().text, "token");
            *command.token.lock().await = Some("old".to_owned());
        }
    }
}
