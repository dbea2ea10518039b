//! Validation of URLs.

use std::net::IpAddr;

use http::Uri;
use mcp_protocol::uri::SecureUrl;

use crate::address::is_public;

/// The longest foreign URL.
const MAX_FOREIGN_BYTES: usize = 8 * 1024;

/// The URLs and addresses that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Untrusted URLs: `https` to public addresses.
    Foreign,
    /// Configured URLs: `https` to any address, `http` to loopback.
    Trusted,
    /// URLs of AWS endpoints: any scheme and address.
    Unrestricted,
}

/// Parses a URL, or returns the reason for its rejection.
pub(crate) fn parse(url: &str, reach: Reach) -> Result<Uri, &'static str> {
    if reach != Reach::Unrestricted {
        let secure = SecureUrl::parse(url).ok_or("it is not an https URL, nor an http URL on loopback")?;
        if secure.fragment.is_some() {
            return Err("it has a fragment");
        }
        if reach == Reach::Foreign {
            check_foreign(url, &secure)?;
        }
    }
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(_)) => Ok(uri),
        _ => Err("it is not an https or http URL"),
    }
}

fn check_foreign(url: &str, secure: &SecureUrl<'_>) -> Result<(), &'static str> {
    if url.len() > MAX_FOREIGN_BYTES {
        return Err("it is too long");
    }
    if !secure.is_https {
        return Err("it is not an https URL");
    }
    if secure.port == Some(0) {
        return Err("port 0 is not valid");
    }
    if let Some(address) = literal(secure.host) {
        return if is_public(address) { Ok(()) } else { Err("its address is not public") };
    }
    // Browsers and resolvers take a name whose last label is a number for an IPv4 address (WHATWG URL, "ends in a number").
    let last = secure.host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    if is_number { Err("its host is an IPv4 address in a non-standard notation") } else { Ok(()) }
}

/// The address of a host that is an IP literal; `None` for a name.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse().ok()
}

/// A URL for messages, without user info and query, which may hold secrets.
pub(crate) fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    // Only unrestricted URLs may have user info.
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{authority}{}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_urls_are_https_to_public_hosts() {
        for url in [
            "https://www.example.com",
            "https://www.example.com:8443/a?b=c",
            "HTTPS://WWW.EXAMPLE.COM/",
            "https://8.8.8.8/",
            "https://[2001:4860:4860::8888]:443/x",
            "https://xn--bcher-kva.example/",
            "https://1.1.1.1.example/",
        ] {
            assert!(parse(url, Reach::Foreign).is_ok(), "{url}");
        }
        for url in [
            "",
            "/keys",
            "//example.com/",
            "file:///etc/passwd",
            "ftp://example.com/",
            "gopher://example.com/_x",
            "unix:///var/run/docker.sock",
            "data:text/plain,x",
            "http://example.com/",
            "http://localhost/",
            "http://127.0.0.1/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0x7F.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.01/",
            "https://0/",
            "https://0.0.0.0/",
            "https://10.0.0.1/",
            "https://10.1/",
            "https://172.16.0.1/",
            "https://192.168.1.1:8080/",
            "https://192.168.257/",
            "https://100.64.0.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://2852039166/latest/meta-data/",
            "https://0xa9fea9fe/",
            "https://169.254.43518/",
            "https://169.254.169.254.:443/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[0:0:0:0:0:ffff:7f00:1]/",
            "https://[::127.0.0.1]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:a9fe:a9fe::1]/",
            "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
            "https://[fd00:ec2::254]/",
            "https://[fe80::1]/",
            "https://[fe80::1%25eth0]/",
            "https://[ff02::1]/",
            "https://[::1",
            "https://::1/",
            "https://example.com./",
            "https://localhost./",
            "https://example..com/",
            "https://user:pass@example.com/",
            "https://example.com@169.254.169.254/",
            "https://169.254.169.254#@example.com/",
            "https://169.254.169.254\\@example.com/",
            "https://example.com\\.evil.example/",
            "https://example%2ecom/",
            "https://ex%61mple.com/",
            "https://bücher.example/",
            "https://\u{2460}\u{2461}\u{2466}.0.0.1/",
            "https://\u{ff11}27.0.0.1/",
            "https://127。0。0。1/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:-1/",
            "https://example.com:/\u{0}",
            "https://example.com/\r\nHost: internal",
            "https://example.com /",
            " https://example.com/",
            "https:///example.com/",
            "https:example.com",
            "https://example.com/#fragment",
        ] {
            assert!(parse(url, Reach::Foreign).is_err(), "{url}");
        }
        assert!(parse(&format!("https://example.com/{}", "x".repeat(8192)), Reach::Foreign).is_err());
    }

    #[test]
    fn trusted_urls_may_be_internal() {
        for url in ["https://issuer.internal/keys", "https://10.0.0.1/", "http://127.0.0.1:8080/x", "http://[::1]:1/x"]
        {
            assert!(parse(url, Reach::Trusted).is_ok(), "{url}");
        }
        for url in
            ["http://issuer.internal/", "http://169.254.169.254/", "https://user@issuer.internal/", "https://a/#x"]
        {
            assert!(parse(url, Reach::Trusted).is_err(), "{url}");
        }
    }

    #[test]
    fn the_place_of_a_url_has_no_query_and_no_password() {
        let uri = parse("http://user:secret@proxy.internal:8080/a/b?token=secret", Reach::Unrestricted).unwrap();

        assert_eq!(place(&uri), "http://proxy.internal:8080/a/b");
    }
}
