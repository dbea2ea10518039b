//! The HTTP client for a server, with the proxies and certificates that the environment names.

pub(crate) mod certificates;
pub(crate) mod proxies;

use std::{error::Error, fmt, time::Duration};

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
        let error = if error.is::<Elapsed>() { "operation timed out".into() } else { error };
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
