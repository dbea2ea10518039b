//! URLs of servers as they are typed or pasted.

use anyhow::bail;
use url::Url;

use crate::{command_line::UsageError, oauth::is_secure};

/// The URL without the spaces around it.
///
/// # Errors
///
/// If it is not an `https` URL (or `http` on this machine). The error for a missing scheme shows the URL with it.
pub(crate) fn parse(given: &str) -> anyhow::Result<String> {
    let url = given.trim();
    if is_secure(url) {
        return Ok(url.to_owned());
    }
    let with_scheme = ["http", "https"].map(|scheme| format!("{scheme}://{url}"));
    if let Some(meant) = with_scheme.iter().find(|meant| !url.contains("://") && is_secure(meant)) {
        bail!(UsageError::new(format!("`{url}` has no scheme: write {meant}")));
    }
    bail!(UsageError::new(format!(
        "`{url}` must be an https URL (http on this machine), without a user name or spaces"
    )));
}

/// The canonical URL, the key of a server in the store: host in lower case, without default port, fragment and
/// final slash.
pub(crate) fn canonical(given: &str) -> String {
    let Ok(mut url) = Url::parse(given.trim()) else { return given.to_owned() };
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url.into()
}

/// The URL for logs and errors, without a query, user name, password and fragment: each may be secret.
pub(crate) fn without_query(given: &str) -> String {
    let Ok(mut url) = Url::parse(given) else { return given.split(['?', '#']).next().unwrap_or_default().to_owned() };
    url.set_query(None);
    url.set_fragment(None);
    // A URL that cannot have a user has none.
    _ = url.set_username("");
    _ = url.set_password(None);
    url.into()
}

/// A text whose URLs have neither a query, user name, password nor fragment. A URL ends at a space or a quote; punctuation after
/// it stays.
pub(crate) fn without_queries(text: &str) -> String {
    let (mut redacted, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("://") {
        let (before, own) = rest.split_at(start + 3);
        redacted.push_str(before);
        let end = own.find(|own: char| own.is_whitespace() || "`\"<>".contains(own)).unwrap_or(own.len());
        let (url, after) = own.split_at(end);
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        let url = &url[authority.rfind('@').map_or(0, |at| at + 1)..];
        match url.find(['?', '#']) {
            Some(query) => {
                let punctuation = url.trim_end_matches(['.', ',', ':', ';', ')']).len();
                redacted.extend([&url[..query], &url[punctuation..]]);
            }
            None => redacted.push_str(url),
        }
        rest = after;
    }
    redacted + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_url_are_one_server() {
        let kept = canonical("https://mcp.example.com/mcp?a=B");
        for same in ["HTTPS://MCP.example.com:443/mcp/?a=B", " https://mcp.example.com/mcp?a=B#x", &kept] {
            assert_eq!(canonical(same), kept, "{same}");
        }
        for other in [
            "https://mcp.example.com/MCP?a=B",
            "https://mcp.example.com/mcp?a=b",
            "https://mcp.example.com/mcp",
            "https://mcp.example.com:8443/mcp?a=B",
            "http://mcp.example.com/mcp?a=B",
            "https://example.com/mcp?a=B",
        ] {
            assert_ne!(canonical(other), kept, "{other}");
        }
        assert_eq!(canonical("https://mcp.example.com"), canonical("https://mcp.example.com//"));
        assert_eq!(canonical("no URL"), "no URL");
    }

    #[test]
    fn a_url_in_a_message_has_no_secret() {
        for (given, shown) in [
            ("https://mcp.example.com/mcp?key=s#s", "https://mcp.example.com/mcp"),
            ("https://s:s@mcp.example.com/mcp", "https://mcp.example.com/mcp"),
            ("mcp.example.com/mcp?key=s", "mcp.example.com/mcp"),
        ] {
            assert_eq!(without_query(given), shown);
        }
    }

    #[test]
    fn urls_within_a_text_have_no_secret() {
        for (text, shown) in [
            ("no URL: x?y#z", "no URL: x?y#z"),
            ("https://mcp.example.com/mcp?key=s is https", "https://mcp.example.com/mcp is https"),
            (
                "at https://s:s@mcp.example.com:1/mcp#s, and `http://a?s`",
                "at https://mcp.example.com:1/mcp, and `http://a`",
            ),
            ("for url (https://a.example/?a=s,s): refused", "for url (https://a.example/): refused"),
            ("https://a/@b?s=https://c/?d", "https://a/@b"),
            ("https://s@s@a/ https://", "https://a/ https://"),
            ("https://a/?é=ü.", "https://a/."),
        ] {
            assert_eq!(without_queries(text), shown);
        }
    }

    /// c12, i07
    #[test]
    fn a_url_is_trimmed_and_a_missing_scheme_is_named() {
        for (given, expected) in [
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
            (" \thttps://mcp.example.com/mcp\r\n", "https://mcp.example.com/mcp"),
            ("http://127.0.0.1:9000/mcp ", "http://127.0.0.1:9000/mcp"),
        ] {
            assert_eq!(parse(given).unwrap(), expected);
        }
        for (given, expected) in [
            ("127.0.0.1:9000/mcp", "no scheme: write http://127.0.0.1:9000/mcp"),
            ("localhost:9000/mcp", "no scheme: write http://localhost:9000/mcp"),
            ("mcp.example.com/mcp", "no scheme: write https://mcp.example.com/mcp"),
            ("https://mcp.example.com/a b", "must be an https URL"),
            ("http://mcp.example.com/mcp", "must be an https URL"),
            ("https://a@mcp.example.com/mcp", "must be an https URL"),
            ("file:///etc/passwd", "must be an https URL"),
            ("", "must be an https URL"),
        ] {
            let error = parse(given).unwrap_err().to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }
}
