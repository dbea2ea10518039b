//! The server's public URL, and the web origins that may call it (CORS).
//!
//! `Host` and `X-Forwarded-*` headers are never used, because the verdict can choose them behind a load balancer. The URL is that of
//! the configuration, or of `requestContext.domainName`, which the platform sets.

use std::fmt;

use http::{
    HeaderMap, HeaderValue,
    header::{self, HeaderName},
    uri::Authority,
};
use mcp_protocol::uri::{SecureUrl, is_loopback};

/// The public URL of the server, which clients use and which is the audience of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: Origin,
    url: String,
    /// Where the path begins in `url`.
    path_start: usize,
}

impl PublicUrl {
    /// Parses an `https` URL; `http` is allowed on loopback ([`SecureUrl`]). `None` if it is invalid, or has a query or a fragment.
    pub fn parse(url: &str) -> Option<Self> {
        let url = SecureUrl::parse(url).filter(|url| url.query.is_none() && url.fragment.is_none())?;
        let scheme = if url.is_https { "https" } else { "http" };
        let port = url.port.or_else(|| default_port(scheme));
        let origin = Origin { scheme: scheme.to_owned(), host: url.host.to_ascii_lowercase(), port };
        Some(Self::new(origin, url.path.trim_end_matches('/')))
    }

    /// The URL of the domain name in an event of payload version 2.0. `None` unless only the platform can have set the name: that of a
    /// Function URL or an API's default endpoint, or loopback in development.
    pub(crate) fn from_domain_name(domain_name: &str) -> Option<Self> {
        let is_platforms = domain_name.ends_with(".on.aws") || domain_name.ends_with(".amazonaws.com");
        let authority: Authority = domain_name.parse().ok()?;
        let scheme = if is_loopback(authority.host()) { "http" } else { "https" };
        let origin = Origin::new(scheme, &authority)?;
        (is_platforms || origin.is_loopback()).then(|| Self::new(origin, ""))
    }

    fn new(origin: Origin, path: &str) -> Self {
        let mut url = origin.to_string();
        let path_start = url.len();
        url.push_str(path);
        Self { origin, url, path_start }
    }

    /// The URL with scheme and host in lower case, without a default port and without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The path of the URL; empty if it has none.
    pub fn path(&self) -> &str {
        &self.url[self.path_start..]
    }

    /// Removes the path of this URL from a request path.
    pub(crate) fn strip_prefix<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.path()) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => path,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if Some(port) != default_port(&self.scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// A web origin: scheme, host and port, as in the header `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Parses `scheme://host[:port]`; `None` for anything else, such as `null`.
    pub fn parse(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        Self::new(scheme, &authority.parse().ok()?)
    }

    fn new(scheme: &str, authority: &Authority) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        // `*` would match nothing. An invalid port, such as one above 65535, would be ignored.
        let is_plain = !authority.as_str().contains(['@', '*']) && !authority.host().is_empty();
        let has_odd_port = authority.port_u16().is_none() && authority.as_str().len() > authority.host().len();
        let is_plain = is_plain && !has_odd_port;
        let port = authority.port_u16().or_else(|| default_port(&scheme));
        is_plain.then(|| Self { scheme, host: authority.host().to_ascii_lowercase(), port })
    }

    fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        // Custom schemes of desktop clients have no ports.
        _ => None,
    }
}

/// The longest `Origin` that may be allowed, because the response repeats it. A host has at most 253 bytes.
const MAX_ORIGIN_BYTES: usize = 512;

/// The result of the origin check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OriginVerdict {
    /// There is no `Origin` header: not a cross-origin request of a browser.
    NoOrigin,
    /// The origin is allowed. The response repeats this value.
    Allowed(HeaderValue),
    /// The origin is not allowed.
    Foreign,
}

impl OriginVerdict {
    /// Checks the `Origin` header. Several headers, `null` and a value that is too long are foreign.
    pub(crate) fn of(headers: &HeaderMap, own: Option<&PublicUrl>, allowed: &[Origin]) -> Self {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else {
            return Self::NoOrigin;
        };
        let is_usual = values.next().is_none() && value.len() <= MAX_ORIGIN_BYTES;
        let origin = value.to_str().ok().filter(|_| is_usual).and_then(Origin::parse);
        let may_call = origin.is_some_and(|origin| {
            allowed.contains(&origin)
                || own.is_some_and(|own| own.origin == origin || (own.origin.is_loopback() && origin.is_loopback()))
        });
        if may_call { Self::Allowed(value.clone()) } else { Self::Foreign }
    }

    /// Adds the CORS headers with which an allowed page can read the response. Credentials are never allowed: a page sets the header
    /// `Authorization` itself.
    ///
    /// A server that asks clients of 2025-11-25 has session ids, which a page must read.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap, has_sessions: bool) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Self::Allowed(origin) = self {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = match has_sessions {
                false => "WWW-Authenticate, X-Amzn-Remapped-WWW-Authenticate, Retry-After",
                true => "WWW-Authenticate, X-Amzn-Remapped-WWW-Authenticate, Retry-After, Mcp-Session-Id",
            };
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
        }
    }
}

/// The request headers that clients use. Requested `Mcp-Param-*` headers are added.
const REQUEST_HEADERS: &str =
    "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id";

/// The longest `Access-Control-Request-Headers` that is parsed.
const MAX_ASKED_BYTES: usize = 16 * 1024;

/// Adds the CORS headers of a preflight response: the allowed methods and headers. A stream is resumed by GET.
pub(crate) fn add_preflight_headers(asked: &HeaderMap, headers: &mut HeaderMap, resumes: bool) {
    let asked = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|value| value.len() <= MAX_ASKED_BYTES);
    let asked = asked.and_then(|value| value.to_str().ok());
    let params = asked.unwrap_or_default().split(',').map(str::trim);
    let params = params.filter(|name| {
        name.to_ascii_lowercase().starts_with("mcp-param-") && HeaderName::from_bytes(name.as_bytes()).is_ok()
    });
    let names: Vec<&str> = std::iter::once(REQUEST_HEADERS).chain(params).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    let methods = if resumes { "GET, POST, OPTIONS" } else { "POST, OPTIONS" };
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(origins: &[&'static str], own: Option<&str>, allowed: &[&str]) -> OriginVerdict {
        let headers = origins.iter().map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))).collect();
        let own = own.map(|name| PublicUrl::from_domain_name(name).or_else(|| PublicUrl::parse(name)).unwrap());
        let allowed: Vec<Origin> = allowed.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        OriginVerdict::of(&headers, own.as_ref(), &allowed)
    }

    #[test]
    fn same_origin_and_listed_origins_are_allowed() {
        for (origin, own, allowed) in [
            ("https://abc.lambda-url.eu-west-1.on.aws", Some("abc.lambda-url.eu-west-1.on.aws"), &[][..]),
            ("https://MCP.example.com:443", Some("https://mcp.example.com/tools"), &[]),
            ("http://localhost:6274", Some("localhost"), &[]),
            ("http://127.0.0.1:6274", Some("localhost"), &[]),
            ("http://[::1]:6274", Some("127.0.0.1:9000"), &[]),
            ("https://app.example.com", Some("abc.on.aws"), &["https://app.example.com"]),
            ("vscode-webview://panel", None, &["vscode-webview://panel"]),
        ] {
            assert!(matches!(verdict(&[origin], own, allowed), OriginVerdict::Allowed(_)), "{origin}");
        }
    }

    #[test]
    fn other_origins_are_foreign() {
        for (origins, own, allowed) in [
            (&["null"][..], Some("localhost"), &[][..]),
            (&["https://evil.example"], Some("abc.on.aws"), &["https://app.example.com"]),
            (&["http://localhost:6274"], Some("abc.on.aws"), &[]),
            (&["http://abc.on.aws"], Some("abc.on.aws"), &[]),
            (&["https://abc.on.aws.evil.example"], Some("abc.on.aws"), &[]),
            (&["https://abc.on.aws@evil.example"], Some("abc.on.aws"), &[]),
            (&["https://app.example.com:8443"], None, &["https://app.example.com"]),
            (&["http://localhost.evil.example"], Some("localhost"), &[]),
            (&["http://localhost", "https://evil.example"], Some("localhost"), &[]),
            (&["http://localhost:6274"], None, &[]),
            (&[""], Some("localhost"), &[]),
        ] {
            assert_eq!(verdict(origins, own, allowed), OriginVerdict::Foreign, "{origins:?}");
        }
    }

    #[test]
    fn a_domain_name_that_a_caller_can_choose_is_ignored() {
        for name in ["evil.example", "on.aws.evil.example", "abc.on.aws:8443@evil.example", "", "a b"] {
            assert_eq!(PublicUrl::from_domain_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_public_url_is_a_secure_url() {
        for url in [
            "http://localhost.evil.example",
            "https://user@mcp.example.com",
            "https://mcp.example.com:/",
            "https://mcp..example.com",
            "https://mcp%2eexample.com",
            "https://mcp.example.com\\.evil.example",
            "https://mcp.example.com?a",
            "https://mcp.example.com#a",
        ] {
            assert_eq!(PublicUrl::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_public_url_may_have_a_path() {
        let url = PublicUrl::parse("https://example.com/tools/").unwrap();

        assert_eq!(url.as_str(), "https://example.com/tools");
        assert_eq!(PublicUrl::parse("HTTPS://Example.com:443/").unwrap().as_str(), "https://example.com");
        assert_eq!(PublicUrl::parse("http://localhost:9000").unwrap().as_str(), "http://localhost:9000");
        assert_eq!(url.strip_prefix("/tools/mcp"), "/mcp");
        assert_eq!(url.strip_prefix("/tools"), "");
        assert_eq!(url.strip_prefix("/toolshed/mcp"), "/toolshed/mcp");
        assert_eq!(url.strip_prefix("/mcp"), "/mcp");
    }
}
