//! One request over HTTP: its token or signature, and the redirects of its origin.

use std::time::Instant;

use anyhow::{Context, bail};
use reqwest::{
    Request, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, LOCATION},
};

use super::{LAST_EVENT_ID, Upstream};
use crate::{
    authorizer::Authorizer,
    challenge::Challenge,
    message::Envelope,
    oauth::{DPOP, Token},
};

/// Redirects that one request follows.
const MAX_REDIRECTS: usize = 5;

/// The log event of a request: method and size of its body, no headers and no parameters.
struct Sent(Option<String>);

impl Sent {
    fn of(request: &Request) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self(None);
        }
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let envelope = std::str::from_utf8(body).ok().and_then(|body| Envelope::parse(body).ok());
        let method = envelope.as_ref().and_then(|own| own.method()).map(|method| format!(" ({method})"));
        let mut url = request.url().clone();
        url.set_query(None);
        Self(Some(format!("{} {url}{}, {} bytes", request.method(), method.unwrap_or_default(), body.len())))
    }

    fn log(&self, began: Instant, response: Option<&Response>) {
        let Some(sent) = &self.0 else { return };
        let status = response.map_or_else(|| "no answer".to_owned(), |response| response.status().to_string());
        let bytes = response.and_then(Response::content_length).map(|bytes| format!(", {bytes} bytes"));
        tracing::debug!("{sent}: {status} after {} ms{}", began.elapsed().as_millis(), bytes.unwrap_or_default());
    }
}

impl Upstream {
    /// Sends a request and follows redirects within the server's origin.
    pub(super) async fn execute(&self, request: RequestBuilder, token: Option<&Token>) -> anyhow::Result<Response> {
        let key = token.and_then(|token| token.key.as_ref());
        let request = request.header(ACCEPT_ENCODING, "identity");
        let request = match token {
            Some(Token { text, .. }) => {
                request.header(AUTHORIZATION, format!("{} {text}", if key.is_some() { "DPoP" } else { "Bearer" }))
            }
            None => request,
        };
        let mut request = request.build()?;
        let mut has_nonce = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut own = request.try_clone().context("the request cannot be sent twice")?;
            let nonce = self.nonce.current();
            if let (Some(key), Some(token)) = (key, token) {
                let proof = key.proof(own.method().as_str(), own.url(), Some(&token.text), nonce.as_deref())?;
                own.headers_mut().insert(DPOP, proof);
            }
            if let Authorizer::SigV4(signer) = &self.authorizer {
                signer.sign(&mut own).await?;
            }
            let began = Instant::now();
            let sent = Sent::of(&own);
            let response = self.client.execute(own).await;
            sent.log(began, response.as_ref().ok());
            // The error would show the query, which may hold a key.
            let response = response.map_err(reqwest::Error::without_url)?;
            if key.is_some() {
                self.nonce.learn(response.headers());
                let wants_nonce = response.status() == StatusCode::UNAUTHORIZED
                    && Challenge::of(response.headers(), "").wants_nonce();
                // Rejected unread: it may be sent again, once.
                if wants_nonce && self.nonce.current() != nonce && !std::mem::replace(&mut has_nonce, true) {
                    continue;
                }
            }
            let encoding = response.headers().get(CONTENT_ENCODING).filter(|own| !own.is_empty());
            if let Some(encoding) = encoding.filter(|own| *own != "identity") {
                bail!("the answer is compressed ({encoding:?}), though the request has `Accept-Encoding: identity`");
            }
            match redirected(&response) {
                Some(url) => *request.url_mut() = url,
                None => return Ok(response),
            }
        }
        bail!("the server redirects more than {MAX_REDIRECTS} times")
    }

    pub(super) async fn get(&self, last_event_id: Option<&str>, token: Option<&Token>) -> anyhow::Result<Response> {
        let mut request = self.client.get(&self.url).headers(self.legacy_headers()).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        self.execute(request, token).await
    }
}

/// The target of a redirect within the same origin; another origin must not get the token. The method stays: `POST` is the
/// only one that an endpoint has for messages.
pub(super) fn redirected(response: &Response) -> Option<reqwest::Url> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?.to_str().ok()?;
    let url = response.url().join(location).ok()?;
    (url.origin() == response.url().origin()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// h01
    #[test]
    fn a_redirect_stays_within_its_origin() {
        let redirect = |status: u16, location: &str| {
            let response = http::Response::builder().status(status).header(LOCATION, location).body("").unwrap();
            // A response that is made by hand has this URL.
            let response = Response::from(response);
            assert_eq!(response.url().as_str(), "http://no.url.provided.local/");
            redirected(&response).map(String::from)
        };
        for status in [301, 302, 307, 308] {
            assert_eq!(redirect(status, "/mcp/").as_deref(), Some("http://no.url.provided.local/mcp/"), "{status}");
        }
        assert!(redirect(307, "http://no.url.provided.local:80/x").is_some());
        for location in [
            "https://no.url.provided.local/",
            "http://evil.example/mcp",
            "//evil.example",
            "http://no.url.provided.local:81/",
            "http://",
        ] {
            assert_eq!(redirect(307, location), None, "{location}");
        }
        assert_eq!((redirect(303, "/x"), redirect(200, "/x")), (None, None));
    }
}
