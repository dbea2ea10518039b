//! The resource identifier of a server: the parameter `resource` of authorization and token requests (RFC 8707).

use url::Url;

/// Validates the `resource` of a server's metadata and returns its normal form, in which it is sent.
///
/// The scheme, the host and the port must be those of the server, and the path that of the server or one above it. Scheme and
/// host are in lower case then, the default port and the segments `.` and `..` are left out, and all else is unchanged.
///
/// # Errors
///
/// Why it is rejected (RFC 8707, section 2; RFC 9728, sections 1.2 and 3.3).
pub(super) fn identifier(resource: &str, server: &Url) -> Result<String, &'static str> {
    // The parser of URLs skips or replaces other characters.
    let is_of_uri = |own: u8| own.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&own);
    let url = Url::parse(resource).ok().filter(|url| {
        let after = resource.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
        resource.bytes().all(is_of_uri) && after.is_some_and(|rest| !rest.starts_with('/'))
    });
    let Some(url) = url else { return Err("which is no absolute URI") };
    if resource.contains('#') {
        return Err("which has a fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("which has a user name");
    }
    let above = url.path().trim_end_matches('/');
    let is_above = server.path().strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if url.origin() != server.origin() || !is_above || (url.query().is_some() && url.query() != server.query()) {
        return Err("which is not the server's URL or one above it");
    }
    Ok(written(&url, resource.ends_with('/')))
}

/// The resource identifier of a server whose metadata names none: its URL.
pub(super) fn of_server(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    written(&url, false)
}

/// The text of a URL; the slash of an empty path only if it is written (2026-07-28, Authorization, "Canonical Server URI").
fn written(url: &Url, has_slash: bool) -> String {
    let text = url.as_str();
    let is_empty = url.path() == "/" && url.query().is_none() && !has_slash;
    text.strip_suffix('/').filter(|_| is_empty).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_of_the_server_or_of_a_path_above() {
        let server = Url::parse("https://mcp.example.com/a/mcp?x=1").unwrap();
        for (resource, normal) in [
            ("https://mcp.example.com/a/mcp", "https://mcp.example.com/a/mcp"),
            ("https://mcp.example.com/a/mcp/", "https://mcp.example.com/a/mcp/"),
            ("https://mcp.example.com/a", "https://mcp.example.com/a"),
            ("https://mcp.example.com", "https://mcp.example.com"),
            ("https://mcp.example.com/", "https://mcp.example.com/"),
            ("HTTPS://MCP.Example.COM:443/a/mcp?x=1", "https://mcp.example.com/a/mcp?x=1"),
            ("https://mcp.example.com/b/../a/./mcp", "https://mcp.example.com/a/mcp"),
        ] {
            assert_eq!(identifier(resource, &server).as_deref(), Ok(normal), "{resource}");
        }
        for resource in [
            "https://evil.example/a/mcp",
            "http://mcp.example.com/a/mcp",
            "https://mcp.example.com:8443/a/mcp",
            "https://mcp.example.com/a/m",
            "https://mcp.example.com/a/mcp/more",
            "https://mcp.example.com/a/mcp/../../b",
            "https://mcp.example.com/a/mcp?y",
        ] {
            assert_eq!(
                identifier(resource, &server),
                Err("which is not the server's URL or one above it"),
                "{resource}"
            );
        }
    }

    #[test]
    fn a_resource_that_is_no_absolute_uri_is_rejected() {
        let server = Url::parse("https://mcp.example.com/mcp").unwrap();
        for resource in [
            "",
            "/mcp",
            "mcp.example.com/mcp",
            "//mcp.example.com/mcp",
            "https:mcp.example.com/mcp",
            "https:/mcp.example.com/mcp",
            "https:///mcp.example.com/mcp",
            "https:\\\\mcp.example.com\\mcp",
            " https://mcp.example.com/mcp",
            "https://mcp.example.com/mcp\n",
            "https://mcp.exam\tple.com/mcp",
            "https://mcp.example.com/mcp\0",
            "https://mcp.example.com/mcp?{x}",
            "https://mcp.example.com/m\u{e9}",
        ] {
            assert_eq!(identifier(resource, &server), Err("which is no absolute URI"), "{resource:?}");
        }
        for (resource, reason) in [
            ("https://mcp.example.com/mcp#x", "which has a fragment"),
            ("https://mcp.example.com/mcp#", "which has a fragment"),
            ("https://a@mcp.example.com/mcp", "which has a user name"),
            ("https://:b@mcp.example.com/mcp", "which has a user name"),
        ] {
            assert_eq!(identifier(resource, &server), Err(reason), "{resource}");
        }
    }

    #[test]
    fn without_metadata_the_url_of_the_server_is_the_resource() {
        for (server, resource) in [
            ("https://MCP.example.com", "https://mcp.example.com"),
            ("https://mcp.example.com/mcp/#x", "https://mcp.example.com/mcp/"),
            ("https://mcp.example.com/?x", "https://mcp.example.com/?x"),
        ] {
            assert_eq!(of_server(&Url::parse(server).unwrap()), resource);
        }
    }
}
