//! The session of a legacy server: replaced if the server has lost it, and ended.

use std::sync::{MutexGuard, PoisonError};

use anyhow::bail;
use mcp_protocol::json;
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use tokio::sync::mpsc;

use super::{FAREWELL_TIMEOUT, SESSION_ID, Upstream};
use crate::{
    headers,
    message::{Envelope, Shape},
};

#[derive(Debug, Clone, Default)]
pub(super) struct Legacy {
    /// The `initialize` request of the session, to start another one if the server loses it.
    pub(super) initialize: Option<String>,
    pub(super) session_id: Option<HeaderValue>,
    pub(super) version: Option<String>,
}

impl Upstream {
    /// Ends the session of a legacy server, and waits for a pending refresh.
    pub(crate) async fn close(&self) {
        let headers = self.legacy_headers();
        if self.legacy().session_id.take().is_some() {
            let request = self.client.delete(&self.url).headers(headers).timeout(FAREWELL_TIMEOUT);
            // An issuer may hang.
            if let Ok(token) = tokio::time::timeout(FAREWELL_TIMEOUT, self.authorizer.token()).await {
                let _ = self.execute(request, token.ok().flatten().as_ref()).await;
            }
        }
        self.authorizer.settled().await;
    }

    /// Starts a new session in place of one that the server has lost
    /// (2025-11-25, Streamable HTTP, "Session Management").
    pub(super) async fn begin_again(&self, forgotten: Option<&HeaderValue>) -> anyhow::Result<()> {
        let _turn = self.beginning.lock().await;
        let legacy = self.legacy().clone();
        let Some(initialize) = legacy.initialize.filter(|_| legacy.session_id.as_ref() == forgotten) else {
            // Another request has started one.
            return Ok(());
        };
        tracing::info!("the server has lost the session: starting a new one");
        self.legacy().session_id = None;
        let initialize = Envelope::parse(&initialize)?.with_fresh_id()?;
        let (output, _) = mpsc::unbounded_channel();
        let response = Box::pin(self.request(&initialize, &output)).await;
        if !json::borrow::<Shape<'_>>(&response).is_ok_and(|shape| shape.result.is_some()) {
            bail!("the server has lost the session and rejects a new one");
        }
        let initialized = Envelope::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        Box::pin(self.pass(&initialized, &output)).await;
        self.begun.notify_waiters();
        Ok(())
    }

    pub(super) fn legacy_headers(&self) -> HeaderMap {
        let legacy = self.legacy().clone();
        let mut headers = HeaderMap::new();
        if let Some(version) = legacy.version.and_then(|version| HeaderValue::from_str(&version).ok()) {
            headers.insert(headers::PROTOCOL_VERSION, version);
        }
        if let Some(session_id) = legacy.session_id {
            headers.insert(SESSION_ID, session_id);
        }
        headers
    }

    pub(super) fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a session is no longer known: by 404, or, with some servers, by 400 and a text about it.
pub(super) fn is_lost_session(status: StatusCode, body: &str) -> bool {
    status == StatusCode::NOT_FOUND
        || (status == StatusCode::BAD_REQUEST && body.to_ascii_lowercase().contains("session"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_session_has_either_status() {
        for (status, body, is_lost) in [
            (404, "", true),
            (400, r#"{"error":{"message":"Bad Request: No valid Session ID provided"}}"#, true),
            (400, r#"{"error":{"message":"Invalid params"}}"#, false),
            (403, "session", false),
        ] {
            assert_eq!(is_lost_session(StatusCode::from_u16(status).unwrap(), body), is_lost, "{status} {body}");
        }
    }
}
