"""`mcpl doctor`: each fault of a server that clients trip over, put into a server that has no other."""

import json
import subprocess

import pytest
from faulty import ISSUER, JSON, METADATA, TOOL, Faulty, Raw, as_json, error

HANG_SECONDS = 120


@pytest.fixture(scope="module")
def doctor(mcpl, tmp_path_factory):
    """Runs the command: its code, and its findings but for those that each server on loopback has."""
    state = tmp_path_factory.mktemp("state")
    state.chmod(0o700)

    def run(url, *words):
        command = [mcpl, "doctor", url, "--json", "--state-dir", state, *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
        findings = json.loads(ran.stdout)
        assert ran.returncode == any(own["level"] == "problem" for own in findings), ran.stderr
        return [own for own in findings if own["level"] != "ok" and own["check"] not in ("address", "client")]

    return run


def expect(findings, *expected):
    """Compares all findings with those that are expected: check, level, and words of what was found, of the clients and the fix."""
    assert len(findings) == len(expected), findings
    for finding, (check, level, found, clients, fix) in zip(findings, expected, strict=True):
        assert (finding["check"], finding["level"]) == (check, level), finding
        assert found in finding["found"] and clients in finding["clients"] and fix in finding["fix"], finding


@pytest.mark.parametrize("options", [{}, {"closed": True}, {"has_metadata": True}])
def test_a_server_without_a_fault_has_none(doctor, options):
    with Faulty(**options) as server:
        findings = doctor(server.url)

    assert [own["check"] for own in findings] == (["protocol"] if options.get("closed") else [])


def other_id(message, _):
    return as_json({"jsonrpc": "2.0", "id": 0, "result": {"tools": [TOOL]}})


def page(message, _):
    # 3.2, 8.7: each page leads to the one before.
    return {"tools": [TOOL], "nextCursor": "again"}


def structured_with_version(_, headers):
    tool = {**TOOL, "outputSchema": {"type": "object", "properties": {}}}
    return {"tools": [tool if headers.get("mcp-protocol-version") else TOOL]}


def of_version(agreed):
    return lambda _, __: {"protocolVersion": agreed, "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}


def only_newest(message, _):
    asked = message["params"]["protocolVersion"]
    return of_version(asked)(message, _) if asked == "2025-11-25" else error(message, -32602)


PROTOCOL = {
    "a 5xx for an unknown first request": (
        {"server/discover": Raw(502, "Internal Server Error", {})},
        [("protocol", "note", "legacy alone", "2026-07-28", ""), ("protocol", "problem", "HTTP 502", "Claude Code", "-32601")],
    ),
    "no initialize": ({"initialize": None}, [("protocol", "note", "2026-07-28 alone", "Codex", "2025-11-25")]),
    "a revision that does not exist": (
        {"initialize": of_version("1999-12-31")},
        [
            ("protocol", "problem", "`1999-12-31`", "official SDKs", "speaks"),
            ("protocol", "problem", "agrees on the revision 1999-12-31", "later ones", "newest"),
        ],
    ),
    "one revision of initialize": (
        {"initialize": only_newest},
        [
            ("protocol", "problem", "`initialize` with 2025-06-18 is answered with error -32602", "Codex", "newest"),
            ("protocol", "problem", "`initialize` with 1999-12-31", "later ones", "newest"),
        ],
    ),
    "no capabilities": (
        {"initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "x"}}},
        [("protocol", "problem", "lacks capabilities, serverInfo.version", "official SDKs", "send")],
    ),
    "no instructions, 2.6": (
        {"server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}},
        [("protocol", "note", "no `instructions`", "Codex", "two sentences")],
    ),
    "no ping": ({"ping": None}, [("protocol", "problem", "`ping` is answered with error -32601", "", "empty result")]),
    "notifications are errors": (
        {"notifications/initialized": Raw(400)},
        [("protocol", "problem", "`notifications/initialized` is answered with HTTP 400", "TypeScript SDK", "202")],
    ),
    "notifications have a body": (
        {"notifications/initialized": Raw(200, "{}")}, [("protocol", "note", "200 OK", "body", "202")],
    ),
    "unknown methods end in 500": (
        {"mcpl/unknown": Raw(500, "oops", {})}, [("protocol", "note", "unknown method is answered with HTTP 500", "extension", "-32601")],
    ),
    "another id": (
        {"tools/list": other_id}, [("protocol", "problem", "gets a response with the id 0", "wait", "repeat the id")],
    ),
    "lists that are not offered, 3.2": (
        {"prompts/list": None, "resources/templates/list": lambda message, _: error(message, -32601, 404)},
        [
            ("lists", "note", "`prompts/list` is answered with error -32601", "fastmcp list --prompts", "empty list"),
            ("lists", "note", "`resources/templates/list`", "CrewAI", "empty list"),
        ],
    ),
    "a list that is declared and missing": (
        {"tools/list": None}, [("lists", "problem", "`tools/list` is answered with error -32601", "all", "declare")],
    ),
    "a list without an end, 8.7": ({"tools/list": page}, [("lists", "problem", "leads back to a page", "all", "ends")]),
    "a list of another kind": (
        {"prompts/list": {"tools": []}}, [("lists", "problem", "no list `prompts`", "all", "")],
    ),
    "a resource twice": (
        {"resources/list": {"resources": [{"uri": "x://a", "name": "a"}, {"uri": "x://a", "name": "b"}]}},
        [("lists", "problem", "`resources` lists x://a twice", "all", "once")],
    ),
    "titles and output schemas that need a header, 2.7": (
        {"tools/list": structured_with_version},
        [("lists", "note", "tools have no outputSchema", "pmcp, chuk-mcp", "leave them in")],
    ),
    "a header that is required, 2.7": (
        {"tools/list": lambda message, headers: {"tools": [TOOL]} if headers.get("mcp-protocol-version") else Raw(400)},
        [("lists", "problem", "without the header `MCP-Protocol-Version` is answered with HTTP 400", "pmcp", "2025-03-26")],
    ),
    "tools of many bytes": (
        {"tools/list": {"tools": [{**TOOL, "name": f"t{index}"} for index in range(600)]}},
        [("tools", "note", "the list of 600 tools has", "all models", "fewer"), ("tools", "note", "there are 600", "OpenAI", "fewer")],
    ),
    "two tools of one name": (
        {"tools/list": {"tools": [TOOL, TOOL]}}, [("tools", "problem", "listed twice: greet", "all", "name of its own")],
    ),
}


@pytest.mark.parametrize("fault", PROTOCOL)
def test_faults_of_the_protocol_are_found(doctor, fault):
    rpc, expected = PROTOCOL[fault]
    with Faulty(rpc) as server:
        expect(doctor(server.url), *expected)


def property_of(schema):
    return {"inputSchema": {"type": "object", "properties": {"p": schema}}}


RECURSIVE = {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}
# The rules have unit tests; these are the cases of the field, sections 1.1 to 1.10.
SCHEMAS = {
    "1.1": (property_of({"type": "integer", "format": "uint32"}), "note", "greet.p (uint32)", "TypeScript SDK"),
    "1.2": (property_of({"type": ["string", "null"]}), "problem", "a list of types", "semantic-kernel"),
    "1.3": (property_of({"type": "string", "enum": ["red", None]}), "problem", "`null` in an `enum`", "Gemini"),
    "1.4": (property_of({"type": "object", "properties": {"deep": True}}), "problem", "greet.p.deep", "OpenAI"),
    "1.5": (
        {"inputSchema": {"type": "object", "properties": {}, "anyOf": [{"type": "object"}]}}, "problem", "a union", "all model APIs",
    ),
    "1.6": ({"inputSchema": {"type": "object"}}, "problem", "without `properties`", "OpenAI"),
    "1.7": (property_of({"type": "array", "prefixItems": [{"type": "number"}]}), "problem", "without `items`", "VS Code"),
    "1.8": (property_of({"oneOf": [{"const": "a"}, {"const": "b"}]}), "note", "with `oneOf`", "Gemini"),
    "1.9 name": ({"inputSchema": {"type": "object", "properties": {"a b": {"type": "string"}}}}, "problem", "greet.a b", "Claude"),
    "1.9 pattern": (property_of({"type": "string", "pattern": "(?i)a"}), "problem", "ECMAScript", "TypeScript SDK"),
    "1.10": (
        {"inputSchema": {"type": "object", "properties": {"p": {"$ref": "#/$defs/T"}}, "$defs": {"T": RECURSIVE}}},
        "note", "refers to itself", "crash",
    ),
    "a long name": ({"name": "n" * 65}, "problem", "more than 64 characters", "OpenAI"),
    "an odd name": ({"name": "greet.person"}, "problem", "outside of A-Z", "OpenAI and Gemini"),
    "anyOf without type": (property_of({"anyOf": [{"minLength": 1}, {"type": "null"}]}), "note", "no type", "Genkit"),
    "a reference to nothing": (property_of({"$ref": "https://x.example/s.json"}), "problem", "leads to nothing", "all"),
    "an output that is no object": ({"outputSchema": {"type": "array", "items": {}}}, "problem", "an output schema", "2025-11-25"),
    "headers that are forbidden": (property_of({"type": "number", "x-mcp-header": "P"}), "problem", "x-mcp-header", "leave the tool out"),
}


@pytest.mark.parametrize("case", SCHEMAS)
def test_tools_that_clients_reject_are_found(doctor, case):
    change, level, found, clients = SCHEMAS[case]
    with Faulty({"tools/list": {"tools": [{**TOOL, **change}]}}) as server:
        expect(doctor(server.url), ("tools", level, found, clients, ""))


PREFLIGHT = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*, Authorization"}
HTTP = {
    "HTML in place of JSON": (
        {"headers": {"Content-Type": "text/plain"}}, [("http", "problem", "`Content-Type` text/plain", "official SDKs", "application/json")],
    ),
    "responses that are compressed unasked": (
        {"headers": {"Content-Encoding": "identity, br"}}, [("http", "problem", "compressed (identity, br)", "mcpl", "Accept-Encoding")],
    ),
    "large headers": (
        {"headers": {"Set-Cookie": [f"c{index}={'x' * 4000}" for index in range(5)]}}, [("http", "problem", "header section", "Node", "cookies")],
    ),
    "a slash is another endpoint, 3.1": (
        {"paths": {("POST", "/mcp/"): Raw(404)}}, [("slash", "note", "/mcp/ answers 404", "type the URL", "serve both")],
    ),
    "GET is answered with a page": (
        {"paths": {("GET", "/mcp"): Raw(200, "<html>", {"Content-Type": "text/html"})}},
        [("get", "problem", "text/html", "official SDKs", "405")],
    ),
    "GET is 404": ({"paths": {("GET", "/mcp"): Raw(404)}}, [("get", "note", "404", "405", "405")]),
    "GET is 503": ({"paths": {("GET", "/mcp"): Raw(503)}}, [("get", "problem", "503", "retry", "405")]),
    "CORS twice": (
        {"paths": {("OPTIONS", "/mcp"): Raw(204, "", {"Access-Control-Allow-Origin": ["*", "*"]})}},
        [("browsers", "problem", "twice", "browsers", "leave the Function URL's own CORS")],
    ),
    "a preflight that is 401": (
        {"paths": {("OPTIONS", "/mcp"): Raw(401)}}, [("browsers", "note", "(OPTIONS) is answered 401", "never has a token", "without a token")],
    ),
    "a preflight that allows what is then rejected": (
        {"paths": {("OPTIONS", "/mcp"): Raw(204, "", PREFLIGHT)}},
        [("browsers", "note", "any origin", "", "MCP_ALLOWED_ORIGINS"), ("browsers", "problem", "the request is 403", "browsers", "same origins")],
    ),
}


@pytest.mark.parametrize("fault", HTTP)
def test_faults_of_http_are_found(doctor, fault):
    options, expected = HTTP[fault]
    with Faulty(**options) as server:
        findings = doctor(server.url)
    # A finding that affects no client has no such member.
    expect([{"clients": "", **own} for own in findings], *expected)


class Origins(Faulty):
    """One that does not look at `Origin`."""

    def post(self, headers, body):
        del headers["origin"]
        return super().post(headers, body)


def test_origins_that_are_not_looked_at_are_found(doctor):
    with Origins() as server:
        alone = doctor(server.url)
        server.paths["OPTIONS", "/mcp"] = Raw(204, "", {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "Content-Type"})
        allowed = doctor(server.url)

    expect(alone, ("browsers", "note", "`Origin` of a foreign page is carried out", "DNS rebinding", "403"))
    expect(
        [{"clients": "", **own} for own in allowed],
        ("browsers", "note", "any origin", "", "MCP_ALLOWED_ORIGINS"),
        ("browsers", "problem", "lacks authorization, mcp-protocol-version, mcp-session-id, mcp-method", "Inspector", "allow"),
        ("browsers", "problem", "responses have no `Access-Control-Allow-Origin`", "browsers", "errors included"),
    )


class Streaming(Faulty):
    """One that answers each request by a stream, compressed if it may be."""

    def answer(self, verb, path, headers, body):
        raw = super().answer(verb, path, headers, body)
        if verb == "POST" and raw.headers is JSON and raw.status == 200:
            raw.headers = {"Content-Type": "text/event-stream"}
            raw.body = f"event: message\ndata: {raw.body}\n\n"
        if "charset" in headers.get("content-type", ""):
            return Raw(415)
        return raw


def test_requests_are_tried_as_some_clients_write_them(doctor):
    with Streaming() as server:
        findings = doctor(server.url)

    expect(
        findings,
        ("http", "note", "a stream answers a request that accepts JSON alone", "gateways", "406"),
        ("http", "problem", "charset=utf-8` is answered 415", "HTTP library", "without parameters"),
    )


@pytest.mark.parametrize(("status", "level"), [(307, "note"), (308, "note"), (301, "problem"), (302, "problem")])
def test_redirects_within_the_origin_are_followed_and_reported(doctor, status, level):
    with Faulty() as server:
        server.paths["POST", "/old"] = Raw(status, "", {"Location": "/mcp"})
        findings = doctor(f"{server.origin}/old")

    clients = "mcpl follows within the origin" if level == "note" else "fetch"
    expect(findings, ("front", level, f"redirects ({status}) to {server.url}", clients, server.url))


def test_redirects_to_another_origin_stop_the_examination(doctor):
    with Faulty() as server:
        server.paths["POST", "/old"] = Raw(307, "", {"Location": "https://other.example/mcp"})
        server.paths["POST", "/loop"] = Raw(308, "", {"Location": "/loop"})
        away, loop = doctor(f"{server.origin}/old"), doctor(f"{server.origin}/loop")

    expect(away, ("front", "problem", "another origin, https://other.example/mcp", "do not follow", "https://other.example/mcp"))
    assert loop[-1]["found"] == "it redirects more than 5 times" and loop[-1]["level"] == "problem"


def bearer(rest):
    return lambda headers: None if "authorization" in headers else Raw(401, "{}", {**JSON, "WWW-Authenticate": rest})


RENAMED = 'Bearer resource_metadata="/x", scope="a"'
CLOSED = {
    "no challenge": (
        {"paths": {("POST", "/mcp"): lambda _: Raw(401)}},
        [("challenge", "problem", "401 without `WWW-Authenticate`", "challenge", "resource_metadata")],
    ),
    "another scheme": (
        {"paths": {("POST", "/mcp"): bearer("Basic realm=x")}}, [("challenge", "problem", "not Bearer: Basic realm=x", "OAuth", "Bearer")],
    ),
    "a challenge without metadata and scope": (
        {"paths": {("POST", "/mcp"): bearer("Bearer")}},
        [("challenge", "note", "no `resource_metadata`", "nowhere else", ""), ("challenge", "note", "no `scope`", "", "name the scopes")],
    ),
    "a challenge that a Function URL has renamed": (
        {"paths": {("POST", "/mcp"): lambda _: Raw(401, "{}", {**JSON, "x-amzn-remapped-www-authenticate": RENAMED})}},
        [("challenge", "note", "renamed", "well-known places", "Lambda@Edge")],
    ),
    "metadata at one place": (
        {"paths": {("GET", METADATA): Raw(404)}}, [("metadata", "note", f"none at {METADATA}", "one of the two", "both")],
    ),
    "metadata at the other place": (
        {"paths": {("GET", f"{METADATA}/mcp"): Raw(404), ("HEAD", f"{METADATA}/mcp"): Raw(404)}},
        [("metadata", "note", f"none at {METADATA}/mcp", "one of the two", "both")],
    ),
    "metadata that takes a token": (
        {"paths": {("GET", f"{METADATA}/mcp"): Raw(401)}},
        [("metadata", "problem", "takes a token", "TypeScript SDK", "404"), ("metadata", "note", "there is none", "", "both")],
    ),
    "a page in place of metadata": (
        {"paths": {("GET", METADATA): Raw(200, "<html>", {"Content-Type": "text/html"})}},
        [("metadata", "problem", "no JSON object (text/html)", "TypeScript SDK", "404"), ("metadata", "note", "there is none", "", "both")],
    ),
    "metadata of another resource": (
        {"member": {"resource": "https://other.example/mcp"}},
        [("metadata", "problem", "it names https://other.example/mcp", "another resource", "MCP_PUBLIC_URL")],
    ),
    "metadata without scopes": (
        {"member": {"scopes_supported": None}}, [("metadata", "note", "no `scopes_supported`", "challenge", "list")],
    ),
    "offline_access": (
        {"member": {"scopes_supported": ["read", "offline_access"]}, "issuer_member": {"scopes_supported": None}},
        [("metadata", "note", "offline_access", "invalid_scope", "leave it out")],
    ),
    "metadata without the slash, 3.1": (
        {"paths": {("GET", f"{METADATA}/mcp/"): Raw(404)}}, [("metadata", "note", "/mcp/", "slash", "there too")],
    ),
    "metadata without HEAD": (
        {"paths": {("HEAD", f"{METADATA}/mcp"): Raw(405)}}, [("metadata", "note", "HEAD of", "monitors", "GET")],
    ),
    "no issuer": ({"member": {"authorization_servers": []}}, [("issuer", "problem", "names none", "sign in", "OIDC_ISSUER")]),
    "an issuer over http": (
        {"member": {"authorization_servers": ["http://id.example"]}}, [("issuer", "problem", "no https URL", "sign in", "URL")],
    ),
    "an issuer without metadata": (
        {"paths": {("GET", ISSUER): Raw(404)}}, [("issuer", "problem", "has no metadata", "sign in", "exactly as")],
    ),
    "an issuer that is down": (
        {"paths": {("GET", ISSUER): Raw(503)}}, [("issuer", "problem", "answers 503", "sign in", "is it up")],
    ),
    "an issuer with another name": (
        {"issuer_member": {"issuer": "https://id.example"}}, [("issuer", "problem", "says that it is https://id.example", "sign in", "as it says")],
    ),
    "no PKCE": (
        {"issuer_member": {"code_challenge_methods_supported": None}}, [("issuer", "note", "PKCE", "mcpl", "S256")],
    ),
    "no S256": (
        {"issuer_member": {"code_challenge_methods_supported": ["plain"]}}, [("issuer", "problem", "PKCE", "Claude", "S256")],
    ),
    "no registration and no metadata documents": (
        {"issuer_member": {"registration_endpoint": None}}, [("issuer", "note", "neither registers", "client id", "--client-id")],
    ),
    "no public clients": (
        {"issuer_member": {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}}, [("issuer", "note", "`none`", "Claude", "public")],
    ),
    "no refresh tokens": (
        {"issuer_member": {"grant_types_supported": ["authorization_code"]}}, [("issuer", "note", "`refresh_token`", "again", "refresh")],
    ),
    "no codes": (
        {"issuer_member": {"grant_types_supported": ["refresh_token"]}}, [("issuer", "problem", "`authorization_code`", "person", "")],
    ),
    "an issuer's document that clients reject": (
        {"issuer_member": {"response_types_supported": None, "token_endpoint": None}},
        [("issuer", "problem", "lacks token_endpoint, response_types_supported", "TypeScript SDK", "")],
    ),
    "an endpoint over http": (
        {"issuer_member": {"token_endpoint": "http://id.example/token"}}, [("issuer", "problem", "`token_endpoint`", "in the clear", "https")],
    ),
    "an endpoint that sets the client's parameters": (
        {"issuer_member": {"authorization_endpoint": "https://id.example/authorize?state=x"}},
        [("issuer", "problem", "sets `state`", "mcpl", "endpoint")],
    ),
    "scopes that the issuer does not have": (
        {"issuer_member": {"scopes_supported": ["openid"]}}, [("issuer", "note", "does not list the scopes read", "invalid_scope", "")],
    ),
}


@pytest.mark.parametrize("fault", CLOSED)
def test_faults_of_signing_in_are_found(doctor, fault):
    options, expected = CLOSED[fault]
    with Faulty(closed=True, **options) as server:
        findings = doctor(server.url)

    others = [own for own in findings if own["found"] != "unknown: every request takes a token"]
    # The challenge replaces the whole POST, in which any token is good.
    expect([own for own in others if own["check"] != "token"], *expected)


@pytest.mark.parametrize(("registers", "how"), [
    (True, "clients introduce themselves by a metadata document, or register themselves"),
    (False, "clients introduce themselves by a metadata document"),
])
def test_the_authorization_server_of_this_project_has_no_fault(mcpl, doctor, registers, how):
    with Faulty(closed=True) as server:
        server.issuer_member = authorization_server(server.origin, registers)
        findings = doctor(server.url)
        shown = subprocess.run([mcpl, "doctor", server.url], capture_output=True, text=True, timeout=HANG_SECONDS).stdout

    assert [own["check"] for own in findings] == ["protocol"]
    assert f"{server.origin} (mcp-authorization-server): {how}\n" in shown


def authorization_server(origin, registers):
    """The members that `crates/mcp-authorization-server/src/metadata.rs` adds to those of `Faulty`, or replaces."""
    methods = ["none", "client_secret_basic", "client_secret_post"]
    return {
        "jwks_uri": f"{origin}/jwks", "revocation_endpoint": f"{origin}/revoke", "scopes_supported": None,
        "registration_endpoint": f"{origin}/register" if registers else None, "response_modes_supported": ["query"],
        "token_endpoint_auth_methods_supported": methods, "revocation_endpoint_auth_methods_supported": methods,
        "client_id_metadata_document_supported": True, "authorization_response_iss_parameter_supported": True,
        "software_id": "mcp-authorization-server",
    }


def test_a_server_that_takes_any_token_or_rejects_it_by_403_is_found(doctor):
    with Faulty(closed=True) as server:
        server.tokens.add("mcpl-doctor.of.no-issuer")
        accepting = doctor(server.url)
        server.tokens.clear()
        server.paths["POST", "/mcp"] = lambda headers: Raw(403) if "authorization" in headers else None
        forbidding = doctor(server.url)
    with Faulty(has_metadata=True) as server:
        server.tokens.add("mcpl-doctor.of.no-issuer")
        ignoring = doctor(server.url)

    (finding,) = [own for own in accepting if own["check"] == "token"]
    assert finding["level"] == "problem" and "accepted" in finding["found"] and "anyone can use" in finding["fix"]
    (finding,) = [own for own in forbidding if own["check"] == "token"]
    assert finding["level"] == "problem" and "403" in finding["found"] and "only 401" in finding["clients"]
    expect(ignoring, ("token", "note", "ignored where none is needed", "expired", "401"))


def test_an_anonymous_request_that_is_forbidden_is_a_problem(doctor):
    refused = error({"id": None}, 1, 403)
    with Faulty(has_metadata=True) as server:
        server.paths["POST", "/mcp"] = lambda headers: None if "authorization" in headers else refused
        findings = doctor(server.url)

    assert ("challenge", "problem") in [(own["check"], own["level"]) for own in findings], findings


def test_metadata_of_an_open_server_is_reported(doctor):
    open_tool = {**TOOL, "_meta": {"securitySchemes": [{"type": "noauth"}]}}
    with Faulty({"tools/list": {"tools": [open_tool]}}, has_metadata=True) as server:
        expect(doctor(server.url), ("metadata", "note", "all tools are open", "Claude Code", "404"))


def test_a_token_that_is_given_opens_what_is_closed(doctor):
    with Faulty({"ping": None}, closed=True) as server:
        without = doctor(server.url)
        given = doctor(server.url, "--header", "Authorization: Bearer good")
        printed = doctor(server.url, "--token-command", "echo good")
        wrong = doctor(server.url, "--token-command", "echo bad")

    assert [own["check"] for own in without] == ["protocol"] and "every request takes a token" in without[0]["found"]
    for findings in (given, printed):
        expect(findings, ("protocol", "problem", "`ping`", "", "empty result"))
    expect(wrong, ("token", "problem", "rejects what identifies you", "this machine", "valid"))
