//! `mcpl login`, `mcpl logins` and `mcpl forget`: signing in ahead of time, listing stored sign-ins, and removing them.

use std::{fmt, path::Path};

use anyhow::bail;
use serde::Serialize;

use crate::{
    endpoint,
    oauth::{NoIssuer, Revocation, now, revoke},
    output::{self, note, print, printable_line},
    session::Session,
    store::{Credentials, Registration, Store},
};

/// Signs in to a server, unless a valid token is kept for it.
///
/// # Errors
///
/// If the sign-in fails, or if the server has none.
pub(crate) async fn login(session: &Session, url: &str, state_dir: Option<&Path>, is_json: bool) -> anyhow::Result<()> {
    session.sign_in_ahead().await.map_err(|error| match error.is::<NoIssuer>() {
        true => anyhow::anyhow!(
            "the server accepts requests without a token and names no issuer of tokens: there is nothing to sign in to"
        ),
        false => error.context("could not get a token"),
    })?;
    let login = Login::of(&Store::of(url, state_dir)?);
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
    let logins: Vec<Login> = Store::all(state_dir)?.iter().map(Login::of).collect();
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
        let others: Vec<String> = store.servers()?.into_iter().collect();
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
    server: String,
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
    /// Only a client is kept.
    SignedOut,
    /// The file is sealed or broken.
    Unreadable,
}

impl Login {
    fn of(store: &Store) -> Self {
        let read = store.credentials().and_then(|own| Ok((own, store.registration()?)));
        let (server, file) = (store.server().to_owned(), store.file().display().to_string());
        match read {
            Ok((credentials, registration)) => Self::of_kept(server, file, credentials, registration),
            Err(error) => {
                Self { state: State::Unreadable, error: Some(error.to_string()), ..Self::empty(server, file) }
            }
        }
    }

    fn of_kept(
        server: String,
        file: String,
        credentials: Option<Credentials>,
        registration: Option<Registration>,
    ) -> Self {
        let empty = Self::empty(server, file);
        let Some(own) = credentials else {
            let (issuer, client_id) = registration.map_or((None, None), |own| (own.issuer, Some(own.client_id)));
            return Self { issuer, client_id, ..empty };
        };
        let has_refresh_token = own.token_response.refresh_token.is_some();
        Self {
            state: if own.has_expired() && !has_refresh_token { State::Expired } else { State::SignedIn },
            expires_at: own.expires_at(),
            issuer: own.issuer,
            client_id: Some(own.client_id),
            scopes: own.granted_scopes,
            has_refresh_token,
            ..empty
        }
    }

    fn empty(server: String, file: String) -> Self {
        Self {
            server,
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
            State::Unreadable => "cannot be read",
        };
        write!(f, "{}: {state}", self.server)?;
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
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        Ok(())
    }
}
