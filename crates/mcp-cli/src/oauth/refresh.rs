//! Refreshing tokens (RFC 6749, section 6): when, by one process of several, and what is kept of it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;

use super::{
    OAuth,
    dpop::{ProofKey, Token},
    grants::{self, GrantError},
    http::{IssuerHttp, POST_TIMEOUT},
    now,
};
use crate::store::{Client, Credentials, PendingError, Store, Turn};

/// A token is renewed this long before its end.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// For a refresh that is on its way when the program ends.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

impl OAuth {
    /// The token to send, if there is one already: refreshed, where it is nearly over.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, and when a token that is over cannot be refreshed for a reason that may pass.
    pub(crate) async fn token(&self) -> anyhow::Result<Option<Token>> {
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        let Some(token) = self.token_of(&credentials) else { return Ok(None) };
        let left = credentials.lifetime_left();
        if left.is_none_or(|left| left > margin(&credentials)) {
            return Ok(Some(token));
        }
        match self.refreshed(&token.text).await {
            Ok(refreshed) => Ok(Some(refreshed.unwrap_or(token))),
            Err(error) if left.is_some_and(|left| !left.is_zero()) => {
                tracing::info!("could not refresh the token, which is not over yet: {error:#}");
                Ok(Some(token))
            }
            Err(error) => Err(error.context("could not refresh the token")),
        }
    }

    /// A token in place of an old one; `None` if only signing in again will do. No discovery: what was given is refreshed
    /// where it was given.
    ///
    /// # Errors
    ///
    /// When the refresh failed for any other reason than a refresh token or a client that is void, and when the issuer has
    /// not answered for [`POST_TIMEOUT`].
    pub(super) async fn refreshed(&self, old: &str) -> anyhow::Result<Option<Token>> {
        let turn = self.store.turn(Turn::Refresh).await?;
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        // Another request, or another process, may have done it.
        if let Some(token) = self.token_of(&credentials).filter(|token| token.text != old) {
            return Ok(Some(token));
        }
        let client = Client {
            id: credentials.client_id.clone(),
            secret: self.secret_of(&credentials.client_id).or(credentials.client_secret.clone()),
            auth_method: credentials.auth_method.clone(),
        };
        let (http, store) = (self.http.patient(), self.store.clone());
        let running = Arc::clone(&self.refreshing).lock_owned().await;
        let issuer = credentials.issuer.clone();
        // In a task of its own: a request may be cancelled, and what the issuer gives must be kept. An issuer that hangs has
        // the refresh token, and may end the grant when it gets it twice (RFC 9700, section 4.14.2): the task waits for longer
        // than a request does, and keeps its turn.
        let mut refreshing = tokio::spawn(async move {
            let _until_the_end = (turn, running);
            let mut refreshing = std::pin::pin!(refresh(&http, &store, credentials, &client));
            let refreshed = match tokio::time::timeout(POST_TIMEOUT, &mut refreshing).await {
                Ok(refreshed) => refreshed,
                Err(_) => {
                    store.note_failure(Turn::Refresh, &pending(issuer.as_deref()));
                    refreshing.await
                }
            };
            refreshed.inspect_err(|error| store.note_failure(Turn::Refresh, error))
        });
        let answered = tokio::time::timeout(POST_TIMEOUT, &mut refreshing).await;
        let refreshed = match answered {
            Ok(refreshed) => refreshed.context("the refresh panicked")??,
            Err(_) => return Err(pending(self.credentials()?.and_then(|own| own.issuer).as_deref())),
        };
        Ok(refreshed.and_then(|own| self.token_of(&own)))
    }

    /// Waits for a refresh that is on its way, before the program ends.
    pub(crate) async fn settled(&self) {
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, self.refreshing.lock()).await;
    }
}

/// New credentials in place of others; `None` if the refresh token or the client is void.
async fn refresh(
    http: &IssuerHttp,
    store: &Store,
    credentials: Credentials,
    client: &Client,
) -> anyhow::Result<Option<Credentials>> {
    let (Some(refresh_token), Some(endpoint)) =
        (credentials.token_response.refresh_token.as_deref(), credentials.token_endpoint.as_deref())
    else {
        return Ok(None);
    };
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    form.extend(credentials.resource.as_deref().map(|resource| ("resource", resource)));
    let key = credentials.proof_key.as_deref().and_then(|kept| ProofKey::of(kept).ok());
    match grants::token(http, endpoint, client, &form, key.as_ref()).await {
        Ok(mut response) => {
            // RFC 6749, section 6: without a new one the old one holds.
            response.refresh_token.get_or_insert(refresh_token.to_owned());
            let refreshed = Credentials { token_response: response, token_received_at: Some(now()), ..credentials };
            store.keep_credentials(refreshed.clone())?;
            Ok(Some(refreshed))
        }
        Err(GrantError::InvalidGrant(reason)) => {
            tracing::info!(reason, "the refresh token is void");
            store.drop_refresh_token()?;
            Ok(None)
        }
        Err(GrantError::InvalidClient(reason)) => {
            tracing::info!(reason, "the issuer does not know the client");
            store.drop_refresh_token()?;
            store.drop_registration(&client.id)?;
            Ok(None)
        }
        Err(GrantError::Other(error)) => Err(error),
    }
}

/// The error of requests for which a refresh takes too long.
fn pending(issuer: Option<&str>) -> anyhow::Error {
    PendingError(format!(
        "the issuer {} has not answered for {} s: mcpl waits for its answer and does not send the refresh token twice, try \
         again later",
        issuer.unwrap_or("without a name"),
        POST_TIMEOUT.as_secs()
    ))
    .into()
}

/// How long before its end a token is renewed.
fn margin(credentials: &Credentials) -> Duration {
    let lifetime = Duration::from_secs(credentials.token_response.expires_in.unwrap_or(u64::MAX));
    EXPIRY_MARGIN.min(lifetime / 2)
}

impl Credentials {
    /// The rest of the token's lifetime; `None` if the issuer did not say it: the server will reject the token.
    fn lifetime_left(&self) -> Option<Duration> {
        // The issuer's number may be any.
        let end = self.token_received_at?.saturating_add(self.token_response.expires_in?);
        Some(Duration::from_secs(end.saturating_sub(now())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::{
        super::{http::tests::answering, tests::sharing},
        *,
    };

    const AWAY: &str = "HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    const GIVEN: &str = r#"{"access_token":"new","token_type":"Bearer","refresh_token":"s"}"#;

    fn keep_expired_token(oauth: &OAuth, origin: &str) {
        let expired = serde_json::json!({
            "client_id": "c", "token_response": { "access_token": "t", "expires_in": 1, "refresh_token": "r" },
            "granted_scopes": [], "token_received_at": 0, "token_endpoint": format!("{origin}/token"),
        });
        oauth.store.keep_credentials(serde_json::from_value(expired).unwrap()).unwrap();
    }

    /// An issuer that has read a request.
    async fn asked(listener: &TcpListener) -> TcpStream {
        let (mut issuer, _) = listener.accept().await.unwrap();
        assert!(issuer.read(&mut [0; 4096]).await.unwrap() > 0);
        issuer
    }

    async fn answer(issuer: &mut TcpStream) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{GIVEN}", GIVEN.len());
        issuer.write_all(answer.as_bytes()).await.unwrap();
    }

    /// As when a client sends several requests at once: they do not try one after the other.
    #[tokio::test]
    async fn requests_share_a_refresh_that_fails_o02() {
        let (origin, tries) = answering(AWAY).await;
        let state = tempfile::tempdir().unwrap();
        let oauth = sharing(&origin, &state);
        keep_expired_token(&oauth, &origin);

        let (one, two, three) = tokio::join!(oauth.token(), oauth.token(), oauth.token());

        for failed in [one, two, three] {
            assert!(format!("{:#}", failed.unwrap_err()).contains("no answer after 4 tries"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        assert!(oauth.token().await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
    }

    /// o02, o11: each of twenty would wait for those before it, for two minutes each.
    #[tokio::test]
    async fn processes_share_a_refresh_that_fails() {
        let (origin, tries) = answering(AWAY).await;
        let state = tempfile::tempdir().unwrap();
        let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
        keep_expired_token(&one, &origin);

        let failed = tokio::join!(one.token(), two.token(), three.token());

        for failed in [failed.0, failed.1, failed.2] {
            assert!(format!("{:#}", failed.unwrap_err()).contains("no answer after 4 tries"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        assert!(two.token().await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 8, "a later request tries again");
    }

    /// o12: a client cancels a call, and the refresh token has been used.
    #[tokio::test]
    async fn a_refresh_outlives_the_request_that_began_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = tempfile::tempdir().unwrap();
        let oauth = sharing(&origin, &state);
        keep_expired_token(&oauth, &origin);

        let mut issuer = tokio::select! {
            issuer = asked(&listener) => issuer,
            _ = oauth.token() => unreachable!("the issuer has not answered"),
        };
        answer(&mut issuer).await;
        oauth.settled().await;

        let kept = oauth.credentials().unwrap().unwrap().token_response;
        assert_eq!((kept.access_token.as_str(), kept.refresh_token.as_deref()), ("new", Some("s")));
    }

    /// o12: the issuer wakes, has rotated the refresh token, and would end the grant if it got the old one again.
    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_hangs_gets_the_refresh_token_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = tempfile::tempdir().unwrap();
        let [one, two] = [(); 2].map(|()| sharing(&origin, &state));
        keep_expired_token(&one, &origin);

        let (mut issuer, late) = tokio::join!(asked(&listener), one.token());
        let began = tokio::time::Instant::now();
        let (again, of_another) = tokio::join!(one.token(), two.token());

        for late in [late, again, of_another] {
            let error = format!("{:#}", late.unwrap_err());
            assert!(error.contains("has not answered for 120 s: mcpl waits for its answer"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let sent_again = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        assert!(sent_again.is_err(), "the refresh token was sent again");
        tokio::time::resume();
        answer(&mut issuer).await;
        one.settled().await;
        assert_eq!(two.token().await.unwrap().unwrap().text, "new");
    }

    /// The process that waited was killed: its lock is free, and what it noted no longer holds.
    #[tokio::test]
    async fn a_refresh_whose_process_has_ended_is_not_waited_for() {
        let (origin, tries) = answering(AWAY).await;
        let state = tempfile::tempdir().unwrap();
        let [one, two, three] = [(); 3].map(|()| sharing(&origin, &state));
        keep_expired_token(&one, &origin);
        one.store.note_failure(Turn::Refresh, &pending(None));

        let (two, three) = tokio::join!(two.token(), three.token());

        for failed in [two, three] {
            assert!(format!("{:#}", failed.unwrap_err()).contains("no answer after 4 tries"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }

    /// 8.7: as it is read from the file, where `received` is no less odd.
    #[test]
    fn a_lifetime_is_any_number() {
        let kept = |lifetime: u64, received: u64| -> Credentials {
            let token = serde_json::json!({ "access_token": "t", "token_type": "Bearer", "expires_in": lifetime });
            let kept = serde_json::json!({
                "client_id": "c", "token_response": token, "granted_scopes": [], "token_received_at": received,
            });
            serde_json::from_value(kept).unwrap()
        };
        let is_expiring = |own: &Credentials| own.lifetime_left().is_some_and(|left| left <= margin(own));

        for received in [0, now(), u64::MAX] {
            assert!(!is_expiring(&kept(u64::MAX, received)), "{received}");
        }
        assert!(!is_expiring(&kept(3600, now())) && is_expiring(&kept(0, now())) && is_expiring(&kept(3600, 0)));
    }
}
