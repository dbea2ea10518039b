//! Requests for documents and tokens: bounded, retried with backoff, and checked for forbidden addresses.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use reqwest::{
    Client, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::{
    addresses::Addresses,
    dpop::{DPOP, Nonce, ProofKey},
};
use crate::{received, user_agent};

/// Timeout of one document, its body included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of the response to a form, with its retries.
pub(super) const POST_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of a form that must not be sent again: an issuer, or a proxy in between, may hang that long and recover.
const PATIENT_POST_TIMEOUT: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of an issuer's document.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
const MAX_REDIRECTS: u32 = 10;
/// Attempts of a request that fails for a temporary reason.
const MAX_TRIES: u32 = 4;
/// Backoff before the second attempt; doubled for each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Maximum wait for `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Maximum length of an issuer's text in an error.
const MAX_REASON_CHARS: usize = 500;
/// Maximum length of a content type in an error.
const MAX_KIND_CHARS: usize = 60;

/// An HTTP client for one server's issuers.
#[derive(Debug, Clone)]
pub(super) struct IssuerHttp {
    client: Client,
    server: Url,
    /// The configured headers, for requests to the server's own origin.
    headers: HeaderMap,
    addresses: Addresses,
    first_pause: Duration,
    post_timeout: Duration,
    nonce: Arc<Nonce>,
}

/// A response, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it came from, without a query.
    url: Url,
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// The content type, for an error: it shows the page of a gateway in place of JSON.
    pub(super) fn description(&self) -> String {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = content_type.map_or("no content type", |own| own.split(';').next().unwrap_or_default().trim());
        let kind: String = kind.chars().take(MAX_KIND_CHARS).collect();
        format!("{} answered HTTP {} with {kind}", self.url, self.status)
    }

    /// The error of the response: that of OAuth if the body has one, else the HTTP status.
    pub(super) fn reason(&self) -> String {
        let body: Value = received::read(&self.body).unwrap_or_default();
        let reason = match (body["error"].as_str(), body["error_description"].as_str()) {
            (Some(error), Some(description)) => format!("{error}: {description}"),
            (Some(error), None) => error.to_owned(),
            (None, _) => format!("{}: {}", self.description(), self.body.trim()),
        };
        reason.trim_end_matches([' ', ':']).chars().take(MAX_REASON_CHARS).collect()
    }

    /// The `error` of an OAuth error response (RFC 6749, section 5.2).
    pub(super) fn error_code(&self) -> Option<String> {
        Some(received::read::<Value>(&self.body).ok()?["error"].as_str()?.to_owned())
    }

    /// Whether the same request may succeed later.
    fn is_transient(&self) -> bool {
        let is_busy = self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            );
        is_busy || self.error_code().as_deref() == Some("temporarily_unavailable")
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?))
    }
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same request may succeed later.
    pub(super) is_transient: bool,
    pub(super) error: anyhow::Error,
}

impl Failure {
    fn lasting(error: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { is_transient: false, error: anyhow!(error) }
    }
}

impl IssuerHttp {
    pub(super) fn of(server: &Url, headers: HeaderMap, first_pause: Duration) -> anyhow::Result<Self> {
        let addresses = Addresses::of(server);
        let client = Client::builder()
            .user_agent(user_agent())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // An idle connection may be dead after the machine slept: its request would time out, where a new one fails at once.
            .pool_max_idle_per_host(0)
            // Each step is checked.
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(addresses.clone()))
            .build()
            .context("could not set up HTTP")?;
        Ok(Self {
            client,
            server: server.clone(),
            headers,
            addresses,
            first_pause,
            post_timeout: POST_TIMEOUT,
            nonce: Arc::default(),
        })
    }

    /// Checks the host of a URL that a browser opens, or that requests are sent to later.
    ///
    /// # Errors
    ///
    /// When a server may not lead there.
    pub(super) fn check_address(&self, url: &str) -> anyhow::Result<()> {
        self.addresses.check(&Url::parse(url).with_context(|| format!("`{url}` is no URL"))?)
    }

    /// The same for a form that must not be sent again.
    pub(super) fn patient(&self) -> Self {
        Self { post_timeout: PATIENT_POST_TIMEOUT, ..self.clone() }
    }

    /// The document at a URL; `None` if there is none. Redirects are followed within their origin. Not retried.
    pub(super) async fn get(&self, url: &Url) -> Result<Option<Answer>, Failure> {
        let mut url = url.clone();
        for _ in 0..MAX_REDIRECTS {
            let mut request = Request::new(reqwest::Method::GET, url.clone());
            request.headers_mut().insert(ACCEPT, reqwest::header::HeaderValue::from_static("application/json"));
            let answer = self.execute(request).await?;
            if answer.is_transient() {
                return Err(Failure { is_transient: true, error: anyhow!("{url} answered HTTP {}", answer.status) });
            }
            let location = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection());
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Ok((answer.status == StatusCode::OK).then_some(answer));
            };
            let next = url.join(location).map_err(Failure::lasting)?;
            if next.origin() != url.origin() {
                tracing::info!("{url} leads to another origin, {next}: not followed");
                return Ok(None);
            }
            url = next;
        }
        Err(Failure::lasting(format!("{url} redirects more than {MAX_REDIRECTS} times")))
    }

    /// Sends a form or JSON, with retries after temporary failures. The response may be a permanent error. Each
    /// attempt has a DPoP proof of its own, if there is a key. A request that timed out is not sent again: its response may still come, and an
    /// issuer that rotates refresh tokens ends the grant when it sees one twice (RFC 9700, section 4.14.2).
    ///
    /// # Errors
    ///
    /// If there was no response, or if all attempts failed temporarily.
    pub(super) async fn post(
        &self,
        url: &str,
        content_type: &'static str,
        body: &str,
        authorization: Option<&reqwest::header::HeaderValue>,
        key: Option<&ProofKey>,
    ) -> anyhow::Result<Answer> {
        let url = Url::parse(url).with_context(|| format!("`{url}` is no URL"))?;
        let end = Instant::now() + self.post_timeout;
        let mut tries = 0;
        let mut has_nonce = false;
        loop {
            tries += 1;
            let mut request = Request::new(reqwest::Method::POST, url.clone());
            *request.timeout_mut() = Some(end.saturating_duration_since(Instant::now()));
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, reqwest::header::HeaderValue::from_static(content_type));
            headers.insert(ACCEPT, reqwest::header::HeaderValue::from_static("application/json"));
            if let Some(authorization) = authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let nonce = self.nonce.current();
            if let Some(key) = key {
                headers.insert(DPOP, key.proof("POST", &url, None, nonce.as_deref())?);
            }
            *request.body_mut() = Some(body.to_owned().into());
            let executed = self.execute(request).await;
            if let (Some(_), Ok(answer)) = (key, &executed) {
                self.nonce.learn(&answer.headers);
                let wants_nonce = answer.error_code().as_deref() == Some("use_dpop_nonce");
                if wants_nonce && self.nonce.current() != nonce && !std::mem::replace(&mut has_nonce, true) {
                    tries -= 1;
                    continue;
                }
            }
            let (error, pause, is_answered) = match executed {
                Ok(answer) if answer.is_transient() => {
                    let reason = answer.reason();
                    let error = match answer.error_code() {
                        Some(_) => anyhow!("{} answered HTTP {}: {reason}", answer.url, answer.status),
                        None => anyhow!("{reason}"),
                    };
                    (error, answer.retry_after(), true)
                }
                Ok(answer) => return Ok(answer),
                Err(Failure { is_transient: true, error }) => (error, None, false),
                Err(Failure { error, .. }) => return Err(error),
            };
            let pause = pause.unwrap_or(self.first_pause * 2_u32.pow(tries - 1)).min(LONGEST_PAUSE);
            if tries == MAX_TRIES || is_late(&error) || Instant::now() + pause >= end {
                let tries = if tries == 1 { "one try".to_owned() } else { format!("{tries} tries") };
                return Err(error.context(match is_answered {
                    true => format!("no success after {tries}"),
                    false => format!("no answer after {tries}"),
                }));
            }
            tracing::info!("{error:#}: trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits before a second round.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(self.first_pause).await;
    }

    async fn execute(&self, mut request: Request) -> Result<Answer, Failure> {
        let url = request.url().clone();
        let checked = self.addresses.check_request(&url).await;
        checked.map_err(|error| Failure { is_transient: false, error })?;
        if url.origin() == self.server.origin() {
            for (name, value) in &self.headers {
                request.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
        }
        let (method, began) = (request.method().clone(), Instant::now());
        let sent = self.client.execute(request).await;
        let status = sent.as_ref().map_or_else(|_| "no answer".to_owned(), |response| response.status().to_string());
        tracing::debug!("{method} {}: {status} after {} ms", shown(&url), began.elapsed().as_millis());
        let response = sent.map_err(|error| Failure {
            is_transient: true,
            error: anyhow::Error::new(error.without_url()).context(format!("could not reach {}", shown(&url))),
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = received::body_within(response, MAX_DOCUMENT_BYTES).await;
        let body = body.map_err(|error| Failure {
            // A body that broke off; one that is too large stays so.
            is_transient: error.is::<reqwest::Error>(),
            error: error.context(format!("could not read {}", shown(&url))),
        })?;
        Ok(Answer { url: shown(&url), status, headers, body })
    }
}

/// Whether a request was sent and timed out.
fn is_late(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<reqwest::Error>());
    causes.any(|cause| cause.is_timeout() && !cause.is_connect())
}

/// Whether the connection failed, so that nothing was sent.
pub(super) fn is_unconnected(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<reqwest::Error>());
    causes.any(reqwest::Error::is_connect)
}

/// A URL without its query, which may be secret.
fn shown(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// An issuer that writes the same to each connection, and how many there were; and a client without pauses.
    async fn issuer(answer: &'static str) -> (Url, Arc<AtomicU32>, IssuerHttp) {
        let (origin, tries) = answering(answer).await;
        let url = Url::parse(&format!("{origin}/token")).unwrap();
        let http = IssuerHttp::of(&url, HeaderMap::new(), Duration::ZERO).unwrap();
        (url, tries, http)
    }

    /// A server that writes the same to each connection, by its origin, and how many there were.
    pub(in crate::oauth) async fn answering(answer: &'static str) -> (String, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let tries = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&tries);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                _ = stream.read(&mut [0; 4096]).await;
                _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (origin, tries)
    }

    #[tokio::test]
    async fn a_request_is_tried_four_times_o02() {
        for (answer, expected) in [
            ("", "could not reach"),
            (
                "HTTP/1.1 503 X\r\nContent-Length: 4\r\nConnection: close\r\n\r\naway",
                "/token answered HTTP 503 Service Unavailable with no content type: away",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\naway", "the answer broke off"),
        ] {
            let (url, tries, http) = issuer(answer).await;

            let error = http.post(url.as_str(), "text/plain", "", None, None).await.unwrap_err();

            let error = format!("{error:#}");
            let outcome = if answer.contains("503") { "no success" } else { "no answer" };
            assert!(error.starts_with(&format!("{outcome} after 4 tries: ")) && error.contains(expected), "{error}");
            assert_eq!(tries.load(Ordering::Relaxed), 4, "{answer}");
        }
    }

    /// o02, o12: an issuer that hangs has the request, and the second of two with one refresh token ends the grant.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_late_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let http = IssuerHttp::of(&Url::parse(&url).unwrap(), HeaderMap::new(), FIRST_PAUSE).unwrap();
        let began = Instant::now();
        let accepting = async {
            let mut open = Vec::new();
            loop {
                open.push(listener.accept().await.unwrap());
                assert_eq!(open.len(), 1, "sent again");
            }
        };

        let error = tokio::select! {
            answer = http.post(&url, "text/plain", "", None, None) => answer.unwrap_err(),
            () = accepting => unreachable!(),
        };

        assert!(format!("{error:#}").contains("no answer after one try"), "{error:#}");
        assert!(began.elapsed() >= POST_TIMEOUT, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_error_that_stays_is_not_tried_again_o02() {
        let answer = "HTTP/1.1 400 X\r\nContent-Length: 25\r\nConnection: close\r\n\r\n{\"error\":\"invalid_grant\"}";
        let (url, tries, http) = issuer(answer).await;

        let answer = http.post(url.as_str(), "text/plain", "", None, None).await.unwrap();

        assert_eq!(
            (answer.error_code().as_deref(), answer.reason().as_str()),
            (Some("invalid_grant"), "invalid_grant")
        );
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }
}
