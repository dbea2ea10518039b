//! The HTML page for a browser that opens the server's URL.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use mcp_lambda::{HttpConfig, McpService, transport::PublicUrl};
use mcp_protocol::JsonObject;
use mcp_server::{HandlerError, InteractiveContext, NoArguments, Server, Tool, ToolContext};
use mcp_testing::{McpRequest, Reply, Via, exchange, exchange_via, tools_list};
use serde_json::{Value, json};

use crate::common::{config, fixture, server};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const HOSTILE: &str = "\"'><img src=x onerror=alert(1)></script></style>&lt;{title}";

pub(crate) fn opened() -> McpRequest {
    tools_list()
        .http_method(Method::GET)
        .header("accept", BROWSER)
        .without_header("content-type")
        .without_header("mcp-method")
        .without_header("mcp-protocol-version")
        .body("")
}

async fn page_of(server: Server<()>) -> Reply {
    let config = HttpConfig { state_key: Some(mcp_testing::state_key()), ..HttpConfig::default() };
    exchange(&McpService::new(server, config).unwrap(), opened()).await
}

/// The text between the first `from` and the next `to`.
#[track_caller]
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).unwrap_or_else(|| panic!("no {from}…{to}")).0
}

#[tokio::test]
async fn the_page_shows_the_server_and_how_to_connect() {
    for path in ["/", "/mcp"] {
        let reply = exchange(&fixture(), opened().path(path)).await;

        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["content-type"], "text/html; charset=utf-8");
        for part in [
            "<h1>Fixture</h1>",
            "version 1.2.3",
            "Use it in tests.",
            "No sign-in needed",
            "claude mcp add --transport http fixture https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp<",
            "codex mcp add fixture --url https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp<",
            "<h3 id=\"tool0\">Simple</h3><p><code>simple</code> <span class=\"tag\">read-only</span></p>",
        ] {
            assert!(reply.body.contains(part), "{part}: {}", reply.body);
        }
    }
}

#[tokio::test]
async fn the_page_has_install_links_for_clients() {
    let page = exchange(&fixture(), opened()).await.body;
    let url = "https://abcdefghij.lambda-url.eu-west-1.on.aws/mcp";

    let cursor = between(&page, "cursor://anysphere.cursor-deeplink/mcp/install?name=fixture&amp;config=", "\"");
    let cursor = percent_encoding::percent_decode_str(cursor).decode_utf8().unwrap();
    let cursor: Value = serde_json::from_slice(&BASE64_STANDARD.decode(cursor.as_ref()).unwrap()).unwrap();
    assert_eq!(cursor, json!({ "url": url }));

    let vscode = between(&page, "vscode:mcp/install?", "\"");
    let vscode = percent_encoding::percent_decode_str(vscode).decode_utf8().unwrap();
    let vscode: Value = serde_json::from_str(&vscode).unwrap();
    assert_eq!(vscode, json!({ "name": "fixture", "type": "http", "url": url }));
}

#[tokio::test]
async fn the_content_security_policy_allows_only_the_pages_own_script() {
    let reply = exchange(&fixture(), opened()).await;

    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let (script, style) =
        (hash(between(&reply.body, "<script>", "</script>")), hash(between(&reply.body, "<style>", "</style>")));
    let expected = format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    assert_eq!(reply.headers["content-security-policy"], expected, "HEADERS in page.rs has the hashes");
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    assert_eq!(reply.headers["referrer-policy"], "no-referrer");
    for outside in ["src=\"http", "url(", "@import", " style=", "onclick", "javascript:"] {
        assert!(!reply.body.contains(outside), "{outside}");
    }
}

async fn nothing(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("")
}

async fn raw(_: ToolContext<()>, _: JsonObject) -> Result<&'static str, HandlerError> {
    Ok("")
}

async fn asking(_: InteractiveContext<()>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("")
}

#[tokio::test]
async fn text_is_escaped_in_the_page() {
    let schema = json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "description": HOSTILE },
            "choice": { "enum": [HOSTILE] },
            "kind": { "type": [HOSTILE] },
        },
    });
    let tool = |name: &str| Tool::raw(name, schema.clone(), raw).unvalidated().title(HOSTILE).description(HOSTILE);
    let server = Server::new(HOSTILE, HOSTILE, ())
        .title(HOSTILE)
        .instructions(HOSTILE)
        .tool(tool("form").read_only())
        .tool(tool("listed"));

    let page = page_of(server).await.body;

    assert!(!page.contains("<img") && !page.contains("'>"), "{page}");
    assert_eq!((page.matches("</script>").count(), page.matches("</style>").count()), (1, 1));
    let escaped = "&quot;&#39;&gt;&lt;img src=x onerror=alert(1)&gt;&lt;/script&gt;&lt;/style&gt;&amp;lt;{title}";
    // The title twice, name, version, instructions; title and description of each tool; description and type of its parameters.
    assert!(page.matches(escaped).count() >= 5 + 2 * 4, "{page}");
    assert!(
        page.contains("claude mcp add --transport http img-src-x-onerror-alert-1----script---style--lt--title https")
    );
}

#[tokio::test]
async fn a_url_in_a_shell_command_is_quoted() {
    let config =
        HttpConfig { public_url: PublicUrl::parse("https://mcp.example.com/a'$(b)&c"), ..HttpConfig::default() };
    let server = Server::new("quoted", "1", ()).tool(Tool::new("nothing", nothing));

    let page = exchange(&McpService::new(server, config).unwrap(), opened()).await;

    assert!(
        page.body.contains("--url &#39;https://mcp.example.com/a&#39;\\&#39;&#39;$(b)&amp;c/mcp&#39;<"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn only_public_read_only_tools_have_a_form() {
    let mirrored = json!({ "type": "object", "properties": { "a": { "type": "string", "x-mcp-header": "A" } } });
    let server = Server::new("forms", "1", ())
        .tool(Tool::new("harmless", nothing).read_only())
        .tool(Tool::new("writes", nothing))
        .tool(Tool::new("asks", asking).read_only())
        .tool(Tool::new("samples", nothing).read_only().requires_client(mcp_protocol::ClientCapabilities::sampling()))
        .tool(Tool::raw("mirrors", mirrored, raw).read_only());

    let page = page_of(server).await.body;

    assert_eq!(page.matches("<article").count(), 5);
    assert_eq!(page.matches("<form").count(), 1);
    assert!(page.contains("data-tool=\"harmless\""));
}

#[tokio::test]
async fn a_form_field_has_the_type_of_its_parameter() {
    let schema = json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "description": "Some text." },
            "count": { "type": ["integer", "null"] },
            "sure": { "type": "boolean" },
            "level": { "enum": ["low", 2] },
            "any": {},
            "size": { "enum": ["small", null] },
        },
        "required": ["text"],
    });
    let page = page_of(Server::new("fields", "1", ()).tool(Tool::raw("all", schema, raw).read_only())).await.body;

    for part in [
        "<label for=\"field0-5\"><code>text</code> <span>string, required</span> <span>Some text.</span></label>\
         <input id=\"field0-5\" data-form=\"form0\" data-name=\"text\" required>",
        "<span>integer, optional</span></label><input id=\"field0-1\" data-form=\"form0\" data-name=\"count\" type=\"number\"",
        "<option></option><option value=\"true\">true</option><option value=\"false\">false</option></select>",
        "<option value=\"&quot;low&quot;\">low</option><option value=\"2\">2</option>",
        "<select id=\"field0-3\" data-form=\"form0\" data-name=\"size\" data-json=\"1\"><option></option>\
         <option value=\"&quot;small&quot;\">small</option></select>",
        "<textarea id=\"field0-0\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn without_a_public_url_the_page_warns() {
    let nameless = McpService::new(server(), config()).unwrap();
    let named = HttpConfig { public_url: PublicUrl::parse("https://mcp.example.com/tools"), ..config() };
    let named = McpService::new(server(), named).unwrap();
    let request = || opened().header("host", "evil.example").header("x-forwarded-host", "evil.example");
    for via in [Via::LoadBalancer, Via::LoadBalancerMultiValue, Via::RestApi, Via::Http] {
        let unknown = exchange_via(via, &nameless, request(), Default::default()).await.body;
        let known = exchange_via(via, &named, request(), Default::default()).await.body;

        assert!(unknown.contains("MCP_PUBLIC_URL") && unknown.contains("<code>simple</code>"), "{unknown}");
        assert!(!unknown.contains("<form") && !unknown.contains("claude mcp add") && !unknown.contains("evil.example"));
        assert!(known.contains("fixture https://mcp.example.com/tools/mcp<") && !known.contains("evil.example"));
    }
}

#[tokio::test]
async fn a_foreign_origin_gets_no_page() {
    let reply = exchange(&fixture(), opened().header("origin", "https://evil.example")).await;

    assert_eq!(reply.status_and_code(), (403, 403));
}

#[tokio::test]
async fn get_without_accepting_html_is_405() {
    let off = McpService::new(server(), HttpConfig { hides_page: true, ..config() }).unwrap();
    for (service, accept) in [
        (fixture(), "text/event-stream"),
        (fixture(), "text/html, text/event-stream"),
        (fixture(), "application/json, text/event-stream"),
        (fixture(), "*/*"),
        (off, BROWSER),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let reply = exchange(&service, opened().http_method(method).header("accept", accept)).await;

            assert_eq!(reply.status, 405, "{accept}");
            assert_eq!(reply.headers["allow"], "POST, OPTIONS");
            assert!(!reply.body.contains("<html"));
        }
    }
    let without_accept = exchange(&fixture(), opened().without_header("accept")).await;
    let elsewhere = exchange(&fixture(), opened().path("/admin")).await;
    let deleted = exchange(&fixture(), opened().http_method(Method::DELETE)).await;
    assert_eq!([without_accept, elsewhere, deleted].map(|reply| reply.status.as_u16()), [405, 404, 405]);
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let get = exchange(&fixture(), opened()).await;
    let head = exchange(&fixture(), opened().http_method(Method::HEAD)).await;

    assert_eq!((head.status, &head.headers), (get.status, &get.headers));
    assert_eq!(head.body, "");
}

#[tokio::test]
async fn the_page_is_small() {
    let tools = (0..10).fold(Server::new("small", "1", ()), |server, number| {
        let tool = Tool::new(format!("tool_{number}"), nothing)
            .description("What it does, in two or three sentences. ".repeat(5));
        server.tool(tool.read_only())
    });

    let bytes = page_of(tools).await.body.len();

    assert!(bytes < 30_000, "{bytes} bytes");
}
