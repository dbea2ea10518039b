use super::*;

#[test]
fn the_path_of_a_route_is_not_reserved_and_not_normalized_by_clients() {
    for path in [
        "",
        "export",
        "/",
        "//",
        "/mcp",
        "/MCP",
        "/mcp/",
        "/mcp/export",
        "/Mcp/export",
        "/.well-known",
        "/.WELL-KNOWN/x",
        "/.well-known/oauth-protected-resource",
        "/export/",
        "/a//b",
        "/../mcp",
        "/a/./b",
        "/%6dcp",
        "/a b",
        "/a?b",
        "/a#b",
        "/ä",
        "/{id}",
        "https://example.com/x",
        "/x/../mcp",
        "/\n",
    ] {
        assert!(path_fault(path).is_some(), "{path}");
    }
    for path in ["/export", "/mcp-export", "/mcpx", "/a/b.json", "/v1:batch", "/.well", "/oauth/callback", "/a/mcp"] {
        assert_eq!(path_fault(path), None, "{path}");
    }
}
