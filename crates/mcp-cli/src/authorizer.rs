//! What a request proves its sender with: nothing, the output of a command, a token of OAuth, or a signature.

use anyhow::bail;
use tokio::sync::Mutex;

use crate::{
    challenge::Challenge,
    command_line,
    oauth::{OAuth, Token},
    sigv4::Signer,
};

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
    pub(crate) async fn token(&self) -> anyhow::Result<Option<Token>> {
        match self {
            Self::Nobody | Self::SigV4(_) => Ok(None),
            Self::Command { command, token } => {
                let mut token = token.lock().await;
                if token.is_none() {
                    *token = Some(command_line::output("--token-command", command).await?);
                }
                Ok(token.clone().map(Token::from))
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

    /// Waits for what must not be broken off, before the program ends.
    pub(crate) async fn settled(&self) {
        if let Self::OAuth(oauth) = self {
            oauth.settled().await;
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
                    *token = Some(command_line::output("--token-command", command).await?);
                }
                Ok(())
            }
            Self::OAuth(oauth) => oauth.renew(refused, challenge).await,
        }
    }
}
