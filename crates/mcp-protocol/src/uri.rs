//! URI normalization and comparison, and validation of secure URLs.
//!
//! Equivalent URIs ([RFC 3986], section 6.2.2) have the same [`NormalUri`], which is compared wherever a URI from a
//! peer is looked up. [`SecureUrl`] is for URLs that are fetched, or that a user is redirected to.
//!
//! [RFC 3986]: https://www.rfc-editor.org/rfc/rfc3986

use std::{net::Ipv4Addr, ops::Range};

/// Normal form of a URI. Equivalent URIs have equal normal forms.
///
/// Normalization (section 6.2.2) lower-cases scheme and host, decodes percent-encoded unreserved characters,
/// upper-cases other percent-encoding, and removes the segments `.` and `..` from a path that begins with a slash. It
/// also removes (section 6.2.3) an empty port, the default port of `http` and `https`, and a path after an authority
/// that is only a slash. All else is unchanged: the order of a query, a fragment, further slashes, characters that are
/// not allowed in URIs.
///
/// ```
/// # use mcp_protocol as mcp_lambda;
/// use mcp_lambda::uri::NormalUri;
///
/// assert_eq!(NormalUri::new("docs://%73ecret/"), NormalUri::new("DOCS://Secret"));
/// assert_ne!(NormalUri::new("docs://a/b%2Fc"), NormalUri::new("docs://a/b/c"));
/// ```
#[derive(Debug, Clone)]
pub struct NormalUri {
    /// The normal form, except that the case of the host is unchanged.
    text: String,
    host: Range<usize>,
}

impl NormalUri {
    /// Normalizes a URI. A text without a scheme, or with a `%` that is not followed by two hexadecimal digits, is not
    /// a URI and stays unchanged.
    pub fn new(uri: &str) -> Self {
        let Some(parts) = Components::of(uri).filter(|_| has_whole_triplets(uri)) else {
            return Self { text: uri.to_owned(), host: 0..0 };
        };
        let scheme = parts.scheme.to_ascii_lowercase();
        let mut text = format!("{scheme}:");
        let mut host = 0..0;
        if let Some(authority) = parts.authority {
            text.push_str("//");
            let host_start = authority.rfind('@').map_or(0, |at| at + 1);
            let (own_host, port) = split_port(&authority[host_start..]);
            push_normal(&mut text, &authority[..host_start]);
            let start = text.len();
            push_normal(&mut text, own_host);
            host = start..text.len();
            let is_default = matches!((scheme.as_str(), port), ("http", Some("80")) | ("https", Some("443")));
            if let Some(port) = port.filter(|port| !port.is_empty() && !is_default) {
                text.push(':');
                text.push_str(port);
            }
        }
        push_path(&mut text, parts.path, parts.authority.is_some());
        for (delimiter, part) in [('?', parts.query), ('#', parts.fragment)] {
            if let Some(part) = part {
                text.push(delimiter);
                push_normal(&mut text, part);
            }
        }
        Self { text, host }
    }

    /// Returns the normal form, except that the case of the host is unchanged: resource templates can have variables
    /// there, whose values keep their case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the byte range of the host in [`as_str`](Self::as_str). The host is case-insensitive.
    pub fn host(&self) -> Range<usize> {
        self.host.clone()
    }
}

impl PartialEq for NormalUri {
    fn eq(&self, other: &Self) -> bool {
        let (Range { start, end }, own, others) = (self.host(), &self.text, &other.text);
        self.host == other.host
            && own[..start] == others[..start]
            && own[start..end].eq_ignore_ascii_case(&others[start..end])
            && own[end..] == others[end..]
    }
}

impl Eq for NormalUri {}

/// Returns whether a byte is allowed in a URI without percent-encoding (RFC 3986, section 2).
pub fn is_uri_byte(byte: u8) -> bool {
    is_unreserved(byte) || byte == b'%' || RESERVED.contains(&byte)
}

/// Returns whether a text has only characters that are allowed in URIs, and two hexadecimal digits after each `%`.
pub fn is_uri_text(text: &str) -> bool {
    text.bytes().all(is_uri_byte) && has_whole_triplets(text)
}

fn has_whole_triplets(text: &str) -> bool {
    let is_triplet = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_triplet)
}

/// Reserved characters: delimiters of URI components (RFC 3986, section 2.2).
pub const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";

/// Returns whether a byte is unreserved: its percent-encoding is equivalent (RFC 3986, section 2.3).
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Parsed `https` URL, or `http` URL with a loopback host.
///
/// All URLs that must be secure are validated by this type: pages that a user is redirected to, issuers and their
/// documents, the public URL of a server, and URLs that `mcpl` connects to or opens. It does not apply to addresses
/// that an operator or AWS configures within a private network (the Runtime API, an OpenTelemetry collector, a database
/// host), nor to an author's links and icons, which only the client follows.
///
/// The URL is parsed ([RFC 3986]). URLs that two parsers could parse differently are rejected: with a user name or
/// password, white space, control characters, a backslash, percent-encoding or an empty label in the host, or a port
/// that is not a number. Loopback hosts are `localhost`, `127.0.0.0/8` and `[::1]`. Subdomains of `localhost` are
/// rejected, since a resolver may map them to other hosts. The caller decides whether a query or a fragment is allowed.
///
/// ```
/// # use mcp_protocol as mcp_lambda;
/// use mcp_lambda::uri::SecureUrl;
///
/// assert_eq!(SecureUrl::parse("https://id.example/realms/a").unwrap().host, "id.example");
/// assert!(SecureUrl::parse("http://127.0.0.1:8080/a#b").is_some_and(|url| !url.is_https && url.fragment.is_some()));
/// assert!(SecureUrl::parse("http://localhost.evil.example").is_none());
/// assert!(SecureUrl::parse("https://id.example@evil.example").is_none());
/// ```
///
/// [RFC 3986]: https://www.rfc-editor.org/rfc/rfc3986
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecureUrl<'a> {
    /// Whether the scheme is `https`; otherwise it is `http` and the host is loopback.
    pub is_https: bool,
    /// Host as written; an IPv6 address has brackets.
    pub host: &'a str,
    /// Explicit port.
    pub port: Option<u16>,
    /// Path, possibly empty.
    pub path: &'a str,
    /// Text after `?`.
    pub query: Option<&'a str>,
    /// Text after `#`.
    pub fragment: Option<&'a str>,
}

impl<'a> SecureUrl<'a> {
    /// Parses a URL; `None` if it is not secure.
    pub fn parse(url: &'a str) -> Option<Self> {
        let parts = Components::of(url).filter(|_| is_uri_text(url))?;
        let (host, port) = split_port(parts.authority?);
        let port = match port {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        let is_https = parts.scheme.eq_ignore_ascii_case("https");
        let is_secure = is_https || (parts.scheme.eq_ignore_ascii_case("http") && is_loopback(host));
        let Components { path, query, fragment, .. } = parts;
        (is_secure && is_host(host)).then_some(Self { is_https, host, port, path, query, fragment })
    }

    /// Returns whether the host is loopback.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host)
    }
}

/// Returns whether a URL's host is loopback: `localhost`, `127.0.0.0/8` or `[::1]` (also without brackets).
pub fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address == "::1"
        || host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

/// Returns whether a text is an ASCII host name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.split('.').all(is_label)
}

/// Components of a URI (RFC 3986, section 3), as written.
struct Components<'a> {
    scheme: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Components<'a> {
    /// Splits a URI (RFC 3986, appendix B); `None` for a text without a scheme.
    fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':').filter(|(scheme, _)| is_scheme(scheme))?;
        let (rest, fragment) = split(rest, '#');
        let (rest, query) = split(rest, '?');
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Some(Self { scheme, authority, path, query, fragment })
    }
}

/// Returns whether a text is a valid URI scheme (RFC 3986, section 3.1).
pub fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split(text: &str, delimiter: char) -> (&str, Option<&str>) {
    text.split_once(delimiter).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Splits host and port. The colons of an IPv6 address are within its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Appends a text with unreserved characters decoded and other percent-encoding in upper case.
fn push_normal(out: &mut String, text: &str) {
    let mut pieces = text.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        // Each `%` has its two digits: see `has_whole_triplets`.
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if is_unreserved(byte) => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        out.push_str(rest);
    }
}

/// Appends a path without the segments `.` and `..` (RFC 3986, section 5.2.4). A path without a leading slash keeps
/// them, since their meaning is undefined there.
fn push_path(out: &mut String, path: &str, has_authority: bool) {
    let mut normal = String::with_capacity(path.len());
    push_normal(&mut normal, path);
    let Some(relative) = normal.strip_prefix('/') else {
        out.push_str(&normal);
        return;
    };
    let start = out.len();
    let mut segments = relative.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => {
                let parent = out[start..].rfind('/').unwrap_or_default();
                out.truncate(start + parent);
            }
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    if has_authority {
        // RFC 3986, section 6.2.3: a path that is only a slash equals an empty one.
        if &out[start..] == "/" {
            out.truncate(start);
        }
    } else if out[start..].starts_with("//") {
        // It would be parsed as an authority.
        out.insert_str(start, "/.");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the normal form with the host in lower case.
    fn normal(uri: &str) -> String {
        let uri = NormalUri::new(uri);
        let mut text = uri.as_str().to_owned();
        text[uri.host()].make_ascii_lowercase();
        text
    }

    #[test]
    fn equivalent_uris_are_equal() {
        for (one, other) in [
            // RFC 3986, section 6.2.2 and its subsections.
            ("example://a/b/c/%7Bfoo%7D", "eXAMPLE://a/./b/../b/%63/%7bfoo%7d"),
            ("HTTP://www.EXAMPLE.com/", "http://www.example.com/"),
            ("http://example.com/~smith/", "http://example.com/%7Esmith/"),
            // Section 6.2.3.
            ("http://example.com", "http://example.com/"),
            ("http://example.com", "http://example.com:/"),
            ("http://example.com", "http://example.com:80/"),
            // Section 5.4: targets of the references in its examples.
            ("http://a/b/c/g", "http://a/b/c/d;p/../g"),
            ("http://a/b/c/", "http://a/b/c/d;p/.."),
            ("http://a/b/g", "http://a/b/c/../g"),
            ("http://a/g", "http://a/b/c/../../g"),
            ("http://a/", "http://a/b/c/../.."),
            ("http://a/g", "http://a/b/c/../../../g"),
            ("http://a/g", "http://a/b/c/../../../../g"),
            ("http://a/g", "http://a/./g"),
            ("http://a/g", "http://a/../g"),
            ("http://a/b/c/g/", "http://a/b/c/./g/."),
            ("http://a/b/c/g/h", "http://a/b/c/g/./h"),
            ("http://a/b/c/h", "http://a/b/c/g/../h"),
            ("http://a/b/c/g;x=1/y", "http://a/b/c/g;x=1/./y"),
            ("http://a/b/c/y", "http://a/b/c/g;x=1/../y"),
            // Cases beyond the RFC's examples.
            ("docs://secret", "docs://%73ecret"),
            ("docs://secret", "docs://%53ECRET/"),
            ("docs://secret", "docs://secret:"),
            ("docs://caf%c3%a9", "docs://caf%C3%A9"),
            ("docs://a/b", "docs://a/x/%2e%2E/b"),
            ("docs://a?q=%41", "docs://a/?q=A"),
            ("https://a:443/b", "https://a/b"),
            ("x:/b", "x:/a/../b"),
        ] {
            assert_eq!(NormalUri::new(one), NormalUri::new(other), "{one} {other}");
            assert_eq!(normal(one), normal(other), "{one} {other}");
        }
    }

    #[test]
    fn different_uris_are_not_equal() {
        for (one, other) in [
            // RFC 3986, section 5.4.2: no segments of dots.
            ("http://a/b/c/g.", "http://a/b/c/g"),
            ("http://a/b/c/.g", "http://a/b/c/g"),
            ("http://a/b/c/g..", "http://a/b/c/g"),
            ("http://a/b/c/..g", "http://a/b/c/g"),
            ("http://a/b/c/g?y/./x", "http://a/b/c/g?y/x"),
            ("http://a/b/c/g#s/../x", "http://a/b/c/g#x"),
            ("docs://a/b%2Fc", "docs://a/b/c"),
            ("docs://a/..%2Fb", "docs://b"),
            ("docs://a/%252e%252e/b", "docs://b"),
            ("docs://a/%2573", "docs://a/s"),
            ("docs://a/B", "docs://a/b"),
            ("docs://U@a", "docs://u@a"),
            ("docs://a//b", "docs://a/b"),
            ("docs://a/b/", "docs://a/b"),
            ("docs://a?", "docs://a"),
            ("docs://a#", "docs://a"),
            ("docs://a:80", "docs://a"),
            ("http://a:443", "http://a"),
            ("docs:a", "docs://a"),
            ("x:/.//a", "x://a"),
            ("x:/a/..//b", "x://b"),
            ("x:a/../b", "x:b"),
            ("%64ocs://a", "docs://a"),
            // Not URIs.
            ("docs://%%36%31", "docs://a"),
            ("docs://a%", "docs://a%25"),
            ("docs", "DOCS"),
        ] {
            assert_ne!(NormalUri::new(one), NormalUri::new(other), "{one} {other}");
            assert_ne!(normal(one), normal(other), "{one} {other}");
        }
    }

    /// URI in normal form: no two different models are equivalent. A `%` stands for a percent-encoded slash.
    #[derive(Debug, Clone, PartialEq)]
    struct Model {
        scheme: &'static str,
        host: String,
        port: &'static str,
        segments: Vec<String>,
        query: Option<String>,
    }

    fn models() -> impl Strategy<Value = Model> {
        let segments = prop::collection::vec("[a.%]{0,2}", 0..3).prop_map(|mut segments| {
            segments.retain(|segment| !matches!(segment.as_str(), "." | ".."));
            // A path that is only a slash is normalized to an empty path.
            if segments == [""] { Vec::new() } else { segments }
        });
        let query = prop::option::of("[a%]{0,2}");
        let ends = (prop::sample::select(vec!["x", "y"]), "[a%]{1,2}", prop::sample::select(vec!["", ":8"]));
        (ends, segments, query).prop_map(|((scheme, host, port), segments, query)| Model {
            scheme,
            host,
            port,
            segments,
            query,
        })
    }

    /// Serializes a URI in one of its equivalent forms, selected by `choices`.
    fn spell(model: &Model, mut choices: impl Iterator<Item = u8>) -> String {
        let mut choose = |options: u8| choices.next().unwrap_or_default() % options;
        let mut uri = String::new();
        uri.push_str(&if choose(2) == 0 { model.scheme.to_owned() } else { model.scheme.to_uppercase() });
        uri.push_str("://");
        push_spelled(&mut uri, &model.host, true, &mut choose);
        uri.push_str(model.port);
        let mut path = String::new();
        for segment in &model.segments {
            path.push('/');
            push_spelled(&mut path, segment, false, &mut choose);
        }
        if model.port.is_empty() && choose(4) == 0 {
            uri.push(':');
        }
        let before = ["", "", "/.", "/%2e", "/a/..", "/a/.%2E", "/..", "/a/b/../.%2e"][usize::from(choose(8))];
        // Segments that normalize to nothing must be followed by another segment.
        if !path.is_empty() {
            uri.push_str(before);
        } else if choose(2) == 0 {
            path.push('/');
        }
        uri.push_str(&path);
        if let Some(query) = &model.query {
            uri.push('?');
            push_spelled(&mut uri, query, false, &mut choose);
        }
        uri
    }

    fn push_spelled(uri: &mut String, text: &str, is_host: bool, choose: &mut impl FnMut(u8) -> u8) {
        for letter in text.chars() {
            uri.push_str(match (letter, choose(4)) {
                ('a', 0) => "a",
                ('a', 1) if is_host => "A",
                ('a', 2) if is_host => "%41",
                ('a', _) => "%61",
                ('.', 0 | 1) => ".",
                ('.', 2) => "%2e",
                ('.', _) => "%2E",
                (_, 0 | 1) => "%2f",
                (_, _) => "%2F",
            });
        }
    }

    proptest! {
        #[test]
        fn uris_are_equal_if_and_only_if_they_are_equivalent(
            one in models(),
            other in models(),
            choices in prop::collection::vec(any::<u8>(), 80),
        ) {
            let (first, second) = choices.split_at(40);
            let spelled = spell(&one, first.iter().copied());
            let again = spell(&one, second.iter().copied());
            let others = spell(&other, second.iter().copied());

            prop_assert_eq!(NormalUri::new(&spelled), NormalUri::new(&again), "{} {}", spelled, again);
            prop_assert_eq!(NormalUri::new(&spelled) == NormalUri::new(&others), one == other, "{} {}", spelled, others);
        }

        #[test]
        fn normalization_is_idempotent(
            uri in prop_oneof!["[xX]:/{0,2}[aA%./:@2eE4#?\\[\\]]{0,16}", "[xX]://[a%2eE./]{0,12}", "\\PC{0,12}"],
        ) {
            let once = normal(&uri);

            prop_assert_eq!(NormalUri::new(&once), NormalUri::new(&uri));
            prop_assert_eq!(normal(&once), once);
        }
    }

    #[test]
    fn secure_urls_are_https_or_loopback() {
        for url in [
            "https://id.example",
            "HTTPS://Id.Example:8443/realms/a?b=c#d",
            "https://id.example/a@b:c",
            "https://[2001:db8::1]:443/",
            "https://xn--bcher-kva.example/%C3%A9",
            "http://localhost",
            "http://LOCALHOST:65535/",
            "http://127.0.0.1:8080/a",
            "http://127.255.255.254",
            "http://[::1]:1/x",
        ] {
            assert!(SecureUrl::parse(url).is_some(), "{url}");
        }
        for url in [
            "http://id.example/",
            "http://localhost.evil.example",
            "http://127.evil.example",
            "http://127.0.0.1.evil.example",
            "http://evil.localhost",
            "http://localhost.",
            "http://localhost:80@evil.example",
            "http://localhost@evil.example",
            "http://evil.example#@localhost",
            "http://evil.example\\@localhost",
            "http://evil.example?@localhost",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.0.0.1",
            "http://127.0.0.01",
            "http://0.0.0.0",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://[::1",
            "http://::1",
            "http://[::1%25lo]",
            "http://[127.0.0.1]",
            "http://%6cocalhost",
            "http://169.254.169.254/latest",
            "https://user@id.example",
            "https://user:pass@id.example",
            "https://@id.example",
            "https://id.example\\.evil.example",
            "https://id.example%2eevil.example",
            "https://id.example:",
            "https://id.example:+443",
            "https://id.example:65536",
            "https://id.example:https",
            "https://id..example",
            "https://.example",
            "https://",
            "https:///path",
            "https:id.example",
            "https:/id.example",
            "https://id.example/a b",
            "https://id.example/\t",
            "https://id.example/\u{85}",
            "https://id.example/\"",
            "https://id.example/\u{202e}",
            "https://id.example/%zz",
            "https://b\u{fc}cher.example",
            " https://id.example",
            "ftp://localhost",
            "javascript:alert(1)",
            "//id.example",
            "id.example",
            "",
        ] {
            assert_eq!(SecureUrl::parse(url), None, "{url}");
        }
    }

    #[test]
    fn secure_urls_are_parsed_into_components() {
        let url = SecureUrl::parse("https://[::1]:8443/a?b#c").unwrap();

        let parts = SecureUrl {
            is_https: true,
            host: "[::1]",
            port: Some(8443),
            path: "/a",
            query: Some("b"),
            fragment: Some("c"),
        };
        assert_eq!(url, parts);
        assert!(url.is_loopback() && is_loopback("::1") && !is_loopback("[127.0.0.1]"));
    }
}
