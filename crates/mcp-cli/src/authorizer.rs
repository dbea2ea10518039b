//! What a request proves its sender with: nothing, the output of a command, a token of OAuth, or a signature.

use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::{process::Command, sync::Mutex};

use crate::{challenge::Challenge, command_line, oauth::OAuth, sigv4::Signer};

/// Has tokens for one server.
#[derive(Debug)]
pub(crate) enum Authorizer {
    /// None: other headers, if any, are the client's business.
    Nobody,
    /// A command prints them.
    Command {
        command: String,
        token: Mutex<Option<String>>,
    },
    OAuth(Box<OAuth>),
    /// None either: requests are signed.
    SigV4(Box<Signer>),
}

impl Authorizer {
    /// The token to send, if there is one already.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Nobody | Self::SigV4(_) => Ok(None),
            Self::Command { command, token } => {
                let mut token = token.lock().await;
                if token.is_none() {
                    *token = Some(output_of(command).await?);
                }
                Ok(token.clone())
            }
            Self::OAuth(oauth) => oauth.token().await,
        }
    }

    /// Notes that the server has taken a token for good.
    pub(crate) fn accepted(&self, token: &str) {
        if let Self::OAuth(oauth) = self {
            oauth.accepted(token);
        }
    }

    /// Notes that a request has succeeded.
    pub(crate) fn succeeded(&self) {
        if let Self::OAuth(oauth) = self {
            oauth.succeeded();
        }
    }

    /// Gets a token in place of one that was refused.
    pub(crate) async fn renew(&self, refused: Option<&str>, challenge: &Challenge) -> anyhow::Result<()> {
        match self {
            Self::Nobody => bail!("the server wants a token, and `--header` gives another or none"),
            Self::SigV4(_) => bail!("the server wants a token, though requests are signed: leave `--sigv4` out"),
            Self::Command { command, token } => {
                let mut token = token.lock().await;
                if token.as_deref() == refused {
                    *token = Some(output_of(command).await?);
                }
                Ok(())
            }
            Self::OAuth(oauth) => oauth.renew(refused, challenge).await,
        }
    }
}

async fn output_of(command: &str) -> anyhow::Result<String> {
    let (program, words) = command_line::split(command).context("could not read `--token-command`")?;
    let output = Command::new(&program).args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output().await;
    let output = output.with_context(|| format!("could not run `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}`, which prints tokens, ended with {}", output.status);
    }
    let token = String::from_utf8(output.stdout).context("the token is no text")?.trim().to_owned();
    if token.is_empty() {
        bail!("`{program}` printed no token");
    }
    Ok(token)
}
