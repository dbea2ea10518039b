//! `mcpl login`, `mcpl logins` and `mcpl forget`: signing in ahead of time, listing stored sign-ins, and removing them.

use std::{fmt, io, path::Path};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    endpoint,
    oauth::{NoIssuer, Revocation, now, revoke},
    output::{self, note, print, printable_line},
    session::Session,
    store::{Credentials, Store, UnreadableFile},
};

/// Signs in to a server, unless a valid token is kept for it.
///
/// # Errors
///
/// If the sign-in fails, or if the server has none.
pub(crate) async fn login(session: &Session, url: &str, state_dir: Option<&Path>, is_json: bool) -> anyhow::Result<()> {
    session.sign_in_ahead().await.map_err(|error| match error.is::<NoIssuer>() {
        true => anyhow::anyhow!(
            "the server has not asked for a sign-in and names no issuer of tokens: if a tool needs a sign-in, run `mcpl call URL \
             TOOL` with it, which signs in"
        ),
        false => error.context("could not get a token"),
    })?;
    let login = Login::of(&Store::of(url, state_dir)?).context("the sign-in could not be kept")?;
    match is_json {
        true => print(&output::json(&login)?),
        false => print(&printable_line(&login.to_string())),
    }
    Ok(())
}

/// Prints the servers for which something is kept.
///
/// # Errors
///
/// When the folder cannot be read. A file that cannot be read is listed with its error.
pub(crate) fn logins(state_dir: Option<&Path>, is_json: bool) -> anyhow::Result<()> {
    let logins = listed(state_dir)?;
    if is_json {
        print(&output::json(&logins)?);
    } else if logins.is_empty() {
        note("no sign-ins are kept: `mcpl login URL` signs in");
    }
    for login in logins.iter().filter(|_| !is_json) {
        print(&printable_line(&login.to_string()));
    }
    Ok(())
}

/// The servers for which tokens or a client are kept, and the files that cannot be read. A sign-in that failed has left neither
/// tokens nor a client that was given.
fn listed(state_dir: Option<&Path>) -> io::Result<Vec<Login>> {
    let (stores, unreadable) = Store::all(state_dir)?;
    let readable = stores.iter().filter_map(Login::of);
    Ok(readable.chain(unreadable.into_iter().map(Login::unreadable)).collect())
}

/// Removes everything that is kept for a server, and revokes its grant at the issuer. A revocation that fails is reported. A
/// process that refreshes the token or signs in meanwhile does not keep what it gets.
///
/// # Errors
///
/// When the URL is none, when nothing is kept for the server, and when its files cannot be removed.
pub(crate) async fn forget(url: &str, state_dir: Option<&Path>) -> anyhow::Result<()> {
    let url = &endpoint::parse(url)?;
    let store = Store::of(url, state_dir)?;
    let _no_refresh = store.refresh_ended().await;
    let Some(forgotten) = store.forget()? else {
        let others: Vec<String> = listed(state_dir)?.into_iter().filter_map(|own| own.server).collect();
        match others.is_empty() {
            true => bail!("nothing is kept for {url}, nor for another server"),
            false => bail!("nothing is kept for {url}; sign-ins are kept for {}", others.join(", ")),
        }
    };
    print(&format!("forgot {}, for {url}", printable_line(&forgotten.description)));
    let Some((credentials, client)) = forgotten.grant else { return Ok(()) };
    match revoke(store.server(), &credentials, &client).await {
        Ok(Revocation::Revoked) => print("the issuer has revoked the tokens"),
        Ok(Revocation::Unsupported) => {
            note("the issuer has no revocation endpoint: the tokens stay valid until they expire");
        }
        Err(error) => tracing::warn!(
            "could not revoke the tokens at the issuer: {error:#}: they stay valid until they expire, or revoke them there"
        ),
    }
    Ok(())
}

/// The stored sign-in of one server, as it is printed.
#[derive(Debug, Serialize)]
struct Login {
    /// Absent if the file that cannot be read does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    /// In seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    has_refresh_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    file: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// There is a token that is valid or can be refreshed.
    SignedIn,
    /// The token has expired, and there is no refresh token.
    Expired,
    /// Only a client is kept, which was given with its secret.
    SignedOut,
    /// The file is sealed or broken.
    Unreadable,
}

impl Login {
    /// `None` if neither tokens nor a client that was given are kept.
    fn of(store: &Store) -> Option<Self> {
        let empty = || Self::empty(store.server().to_owned(), store.file().display().to_string());
        let unreadable = |error| Some(Self { state: State::Unreadable, error: Some(error), ..empty() });
        match store.damage() {
            Ok(None) => {}
            Ok(Some(place)) => return unreadable(format!("it is broken at {place}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return unreadable(error.to_string()),
        }
        match store.credentials().and_then(|own| Ok((own, store.registration()?))) {
            Ok((Some(credentials), _)) => Some(empty().with(credentials)),
            Ok((None, Some(client))) if !client.is_dynamic() && client.client_secret.is_some() => {
                Some(Self { issuer: client.issuer, client_id: Some(client.client_id), ..empty() })
            }
            Ok((None, _)) => None,
            Err(error) => unreadable(error.to_string()),
        }
    }

    fn unreadable(UnreadableFile { file, reason }: UnreadableFile) -> Self {
        let empty = Self::empty(String::new(), file.display().to_string());
        Self { server: None, state: State::Unreadable, error: Some(reason), ..empty }
    }

    fn with(self, own: Credentials) -> Self {
        let has_refresh_token = own.token_response.refresh_token.is_some();
        Self {
            state: if own.has_expired() && !has_refresh_token { State::Expired } else { State::SignedIn },
            expires_at: own.expires_at(),
            issuer: own.issuer,
            client_id: Some(own.client_id),
            scopes: own.granted_scopes,
            has_refresh_token,
            ..self
        }
    }

    fn empty(server: String, file: String) -> Self {
        Self {
            server: Some(server),
            state: State::SignedOut,
            issuer: None,
            client_id: None,
            scopes: Vec::new(),
            expires_at: None,
            has_refresh_token: false,
            error: None,
            file,
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::SignedIn => "signed in",
            State::Expired => "the sign-in has expired",
            State::SignedOut => "signed out",
            State::Unreadable => "unreadable",
        };
        match &self.server {
            Some(server) => write!(f, "{server}: {state}")?,
            None => write!(f, "{}: {state}", self.file)?,
        }
        if let Some(issuer) = &self.issuer {
            write!(f, ", issuer {issuer}")?;
        }
        if let Some(client_id) = self.client_id.as_ref().filter(|own| !own.is_empty()) {
            write!(f, ", client {client_id}")?;
        }
        if !self.scopes.is_empty() {
            write!(f, ", scopes {}", self.scopes.join(" "))?;
        }
        if self.state == State::SignedIn {
            match (self.expires_at.map(|at| at.saturating_sub(now())), self.has_refresh_token) {
                (Some(0), _) => f.write_str(", the token is refreshed at the next request")?,
                (Some(left), true) => write!(f, ", the token expires in {} min and is refreshed", left / 60)?,
                (Some(left), false) => write!(f, ", the token expires in {} min", left / 60)?,
                (None, _) => {}
            }
        }
        let Some(error) = &self.error else { return Ok(()) };
        if self.server.is_some() {
            write!(f, ", {}", self.file)?;
        }
        write!(f, ": {error}")
    }
}
