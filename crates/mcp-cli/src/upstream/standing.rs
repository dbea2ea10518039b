//! The standing GET stream of a legacy server, for messages outside of a request.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

use super::{
    FIRST_PAUSE, LONGEST_PAUSE, Output, SESSION_ID, Upstream,
    answer::{Ended, MAX_RESUMPTIONS, Place, is_event_stream},
    legacy::is_lost_session,
    retry::{is_busy, retry_after},
};
use crate::{challenge::Challenge, received};

/// The outcome of one stream.
enum Heard {
    /// It had events.
    Something,
    /// The server is unavailable or busy, with its `Retry-After`, if any.
    Away(Option<Duration>),
    /// It was not opened, for a temporary reason.
    Refused,
    /// The server has no such stream.
    Never,
}

impl Upstream {
    /// Forwards the standing stream of a legacy server until the receiver is dropped.
    pub(crate) async fn listen(&self, output: &Output) {
        let (mut place, mut failures) = (Place::default(), 0);
        loop {
            let begun = self.begun.notified();
            let listening = async {
                let heard = self.hear(&mut place, output).await;
                match heard {
                    Heard::Never => return false,
                    Heard::Refused if failures >= MAX_RESUMPTIONS => return false,
                    Heard::Something => failures = 0,
                    Heard::Away(_) | Heard::Refused => failures += 1,
                }
                let pause = match heard {
                    Heard::Away(Some(pause)) => pause,
                    _ => place.pause().max(backoff(failures)),
                };
                tokio::time::sleep(pause).await;
                true
            };
            tokio::select! {
                goes_on = listening => if !goes_on { return },
                // The stream of a lost session has ended.
                () = begun => (place, failures) = (Place::default(), 0),
            }
        }
    }

    /// Forwards one stream to its end.
    async fn hear(&self, place: &mut Place, output: &Output) -> Heard {
        let Ok(token) = self.authorizer.token().await else { return Heard::Refused };
        let Ok(response) = self.get(place.last_event_id.as_deref(), token.as_ref()).await else {
            return Heard::Away(None);
        };
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() && is_event_stream(&headers) {
            return match self.deliver_stream(response, None, place, output).await {
                Ok(Ended::Broken { brought_something: true }) => Heard::Something,
                Ok(_) | Err(_) => Heard::Refused,
            };
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return Heard::Never;
        }
        if is_busy(status) || status.is_server_error() {
            return Heard::Away(retry_after(&headers, SystemTime::now()));
        }
        let body = received::body(response).await.unwrap_or_default();
        if self.legacy_headers().contains_key(SESSION_ID) && is_lost_session(status, &body) {
            // The next request begins a new session.
            return std::future::pending().await;
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = Challenge::of(&headers, &body);
            // A server that accepts requests without a token, and sends no challenge, requires none.
            if token.is_some() || challenge != Challenge::default() {
                let renewed = self.authorizer.renew(token.as_ref().map(|token| token.text.as_str()), &challenge).await;
                renewed.unwrap_or_else(|error| tracing::info!("{error:#}"));
            }
        }
        Heard::Refused
    }
}

/// Exponential backoff.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE),
    }
}
