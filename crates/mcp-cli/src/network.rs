//! The HTTP client for a server, with the proxies and certificates that the environment names.

pub(crate) mod certificates;
pub(crate) mod proxies;

use std::{error::Error, fmt, io, time::Duration};

use anyhow::Context as _;
use mcp_protocol::uri::is_loopback;
use reqwest::{Client, ClientBuilder, header::HeaderMap, redirect::Policy};
use tower::{
    BoxError,
    timeout::{TimeoutLayer, error::Elapsed},
    util::MapErrLayer,
};
use url::Url;

use self::proxies::Proxy;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As the HTTP client has it.
const OUT_OF_TIME: &str = "operation timed out";

/// A faulty environment variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SettingFault {
    pub(crate) found: String,
    pub(crate) fix: String,
}

/// The client for requests to one server. Variables with a fault are logged.
///
/// # Errors
///
/// If there are no trusted certificates.
pub(crate) fn client(url: &str, headers: HeaderMap, timeout: Duration) -> anyhow::Result<Client> {
    for SettingFault { found, fix } in proxies::faults().into_iter().chain(certificates::faults()) {
        tracing::warn!("{found}: {fix}");
    }
    client_builder(url, headers, timeout).build().context("could not set up HTTP")
}

/// The builder of such a client. A connection that fails names the proxy that it was to go through, and the variable of
/// certificates that were not enough.
pub(crate) fn client_builder(url: &str, headers: HeaderMap, timeout: Duration) -> ClientBuilder {
    let (proxy, is_tls) = (Proxy::of(url), url.starts_with("https:"));
    let explain = move |error: BoxError| -> BoxError {
        let error = if error.is::<Elapsed>() { OUT_OF_TIME.into() } else { error };
        let reasons = [proxy.as_ref().map(ToString::to_string), untrusted(&error).filter(|_| is_tls)];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        if reasons.is_empty() { error } else { Box::new(ConnectError { reason: reasons.join(": "), source: error }) }
    };
    let builder = Client::builder();
    // The system's proxy settings do not apply to servers on this machine.
    let builder = if proxies::named().is_empty() && is_local(url) { builder.no_proxy() } else { builder };
    builder
        .default_headers(headers)
        // In place of the client's own timeout, which would be around the layer that explains errors.
        .connector_layer(TimeoutLayer::new(CONNECT_TIMEOUT))
        .connector_layer(MapErrLayer::new(explain))
        .timeout(timeout)
        // A redirect to another origin would get the token.
        .redirect(Policy::none())
        .user_agent(user_agent())
}

/// The `User-Agent` of every request, those to issuers included.
pub(crate) fn user_agent() -> &'static str {
    concat!("mcpl/", env!("CARGO_PKG_VERSION"))
}

/// The beginnings of errors in which libraries say that there is another one.
const LAYERS: [&str; 3] = ["error sending request", "client error (", "tcp connect error"];
pub(crate) const REFUSED: &str = "the connection is refused";
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// The cause of a failed request: its kind, and the errors of the system or of TLS.
pub(crate) fn cause(error: &anyhow::Error) -> String {
    let reasons: Vec<String> = error.chain().map(ToString::to_string).collect();
    let own = reasons.iter().filter(|reason| !LAYERS.iter().any(|layer| reason.starts_with(layer)));
    let own: Vec<&str> = kind(error).into_iter().chain(own.map(String::as_str)).collect();
    if own.is_empty() { error.root_cause().to_string() } else { own.join(": ") }
}

fn kind(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|own| {
        if let Some(own) = own.downcast_ref::<io::Error>() {
            return match own.kind() {
                io::ErrorKind::ConnectionRefused => Some(REFUSED),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Some("the connection broke off"),
                io::ErrorKind::TimedOut => Some(NO_ANSWER),
                _ => None,
            };
        }
        if own.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
            return Some(NO_ANSWER);
        }
        match own.to_string().as_str() {
            "dns error" => Some("the host name is not found"),
            OUT_OF_TIME => Some(NO_ANSWER),
            _ => None,
        }
    })
}

fn is_local(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

/// The variables whose certificates do not include the server's authority.
fn untrusted(error: &BoxError) -> Option<String> {
    if !format!("{error:?}").contains("UnknownIssuer") {
        return None;
    }
    let faults = certificates::faults().into_iter().map(|fault| fault.found);
    let faults: Vec<String> = faults.collect();
    match faults.is_empty() {
        false => Some(faults.join("; ")),
        true => certificates::in_words().map(|names| format!("with the certificates of {names}")),
    }
}

/// A failed connection, with the settings that it used.
#[derive(Debug)]
struct ConnectError {
    reason: String,
    source: BoxError,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failed(url: &str, timeout: Duration) -> String {
        let client = client_builder(url, HeaderMap::new(), timeout).no_proxy().build().unwrap();
        cause(&client.get(url).send().await.unwrap_err().into())
    }

    #[tokio::test]
    async fn a_failed_request_has_a_cause_in_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}/mcp?key=hunter2", listener.local_addr().unwrap());
        let closed = {
            let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}/mcp?key=hunter2", unused.local_addr().unwrap())
        };

        let [refused, late, unknown] = [
            failed(&closed, Duration::from_secs(9)).await,
            failed(&silent, Duration::from_millis(50)).await,
            failed("http://mcp.invalid/mcp?key=hunter2", Duration::from_secs(9)).await,
        ];

        assert!(refused.starts_with("the connection is refused: "), "{refused}");
        assert_eq!(late, "no answer in time: operation timed out");
        assert!(unknown.starts_with("the host name is not found: dns error"), "{unknown}");
        for cause in [refused, late, unknown] {
            assert!(!cause.contains("error sending request") && !cause.contains("hunter2"), "{cause}");
        }
        assert_eq!(cause(&anyhow::anyhow!("error sending request")), "error sending request");
    }
}
