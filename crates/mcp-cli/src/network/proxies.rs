//! Proxies: those of variables, and otherwise those of the system's settings (macOS, Windows).

use std::{env, fmt};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use mcp_protocol::uri::is_loopback;

use super::SettingFault;

/// In the order in which the HTTP client looks for them, each first in upper case.
const VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// The proxy that requests to one server go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// The variable that names it; none for the system's settings.
    pub(crate) variable: Option<String>,
    /// Without credentials.
    uri: Uri,
}

impl Proxy {
    /// The proxy for a URL; `None` where the connection is direct.
    pub(crate) fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let intercept = Matcher::from_system().intercept(&uri)?;
        let own = if uri.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        let variable = [own, "ALL_PROXY"].into_iter().filter_map(variable).find(|(_, value)| address(value).is_some());
        let own = Self { variable: variable.map(|(name, _)| name), uri: intercept.uri().clone() };
        (!own.is_of_system_alone_for(&uri)).then_some(own)
    }

    /// Whether the system's settings would apply to a server on this machine: there they are for other hosts alone, and their
    /// exceptions are not read on every system.
    fn is_of_system_alone_for(&self, uri: &Uri) -> bool {
        self.variable.is_none() && uri.host().is_some_and(is_loopback)
    }

    /// The name of the setting, for a message.
    pub(crate) fn setting(&self) -> &str {
        self.variable.as_deref().unwrap_or("the system's settings")
    }

    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default()
    }

    pub(crate) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    pub(crate) fn port(&self) -> u16 {
        let usual = match self.uri.scheme_str() {
            Some("https") => 443,
            Some("http") | None => 80,
            Some(_) => 1080,
        };
        self.uri.port_u16().unwrap_or(usual)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or("http");
        write!(f, "through the proxy of {}, {scheme}://{}", self.setting(), self.authority())
    }
}

/// The variables that name a proxy.
pub(crate) fn named() -> Vec<String> {
    let set = VARIABLES.into_iter().filter_map(variable);
    set.filter(|(_, value)| address(value).is_some()).map(|(name, _)| name).collect()
}

/// The variables that the HTTP client ignores, since they name no proxy.
pub(crate) fn faults() -> Vec<SettingFault> {
    let set = VARIABLES.into_iter().filter_map(variable);
    set.filter(|(_, value)| address(value).is_none())
        .map(|(name, value)| SettingFault {
            found: format!("{name} names no proxy (`{}`), and is ignored", without_password(&value)),
            fix: format!("write {name}=http://HOST:PORT or socks5://HOST:PORT, or unset it"),
        })
        .collect()
}

/// The name and the value of a proxy variable: in upper case, or else in lower case, as the HTTP client takes it.
fn variable(name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_ascii_lowercase()]
        .into_iter()
        .find_map(|name| env::var(&name).ok().map(|value| (name, value)))
        .filter(|(_, value)| !value.trim().is_empty())
}

/// The address of a proxy, if the HTTP client takes the value for one.
fn address(value: &str) -> Option<String> {
    let uri: Uri = value.parse().ok()?;
    uri.scheme_str().is_none_or(|scheme| SCHEMES.contains(&scheme)).then_some(())?;
    let authority = uri.authority()?.as_str();
    Some(authority.rsplit_once('@').map_or(authority, |(_, address)| address).to_owned())
}

/// Redacts a value that may have a password.
fn without_password(value: &str) -> &str {
    value.rsplit_once('@').map_or(value, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_an_address() {
        for (value, expected) in [
            ("http://proxy.example:3128", Some("proxy.example:3128")),
            ("proxy.example:3128", Some("proxy.example:3128")),
            ("http://me:secret@proxy.example:3128/", Some("proxy.example:3128")),
            ("socks5://me:secret@proxy.example", Some("proxy.example")),
            ("socks5h://proxy.example:1080", Some("proxy.example:1080")),
            ("http//proxy:3128", None),
            ("http://", None),
            ("ftp://proxy.example", None),
            ("a b", None),
        ] {
            assert_eq!(address(value).as_deref(), expected, "{value}");
            // The HTTP client takes the same values.
            let intercept = Matcher::builder().all(value).build().intercept(&Uri::from_static("https://mcp.example"));
            assert_eq!(intercept.map(|own| own.uri().authority().unwrap().to_string()).as_deref(), expected, "{value}");
        }
        assert_eq!(without_password("http//me:secret@proxy"), "proxy");
    }

    #[test]
    fn a_proxy_is_shown_with_its_setting() {
        let proxy =
            |variable: Option<&str>, uri| Proxy { variable: variable.map(str::to_owned), uri: Uri::from_static(uri) };

        let socks = proxy(Some("ALL_PROXY"), "socks5://[::1]/");
        assert_eq!(socks.to_string(), "through the proxy of ALL_PROXY, socks5://[::1]");
        assert_eq!((socks.host(), socks.port()), ("::1", 1080));
        let of_system = proxy(None, "http://proxy.example:3128/");
        assert_eq!(of_system.to_string(), "through the proxy of the system's settings, http://proxy.example:3128");
        assert_eq!((of_system.host(), of_system.port()), ("proxy.example", 3128));
    }
}
