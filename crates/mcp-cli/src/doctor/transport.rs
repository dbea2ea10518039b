//! Checks of HTTP: the address, the first response, the certificate, CORS, redirects and media types.

use std::time::Duration;

use mcp_protocol::{ProtocolVersion, meta, method, uri::is_loopback};
use reqwest::{
    Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING,
        CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, ORIGIN,
    },
};
use serde_json::{Value, json};
use url::{Host, Url};

use super::{
    certificate,
    report::Report,
    server::{Access, Answer, EVENT_STREAM, Server, info},
};
use crate::{network, sigv4};

/// Timeout of Claude for discovery and tokens.
pub(super) const CLAUDE_PATIENCE: Duration = Duration::from_secs(10);
/// Maximum size of the header section that Node accepts.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const FOREIGN_ORIGIN: &str = "https://browser.example";
/// The request headers of a client, which a browser's preflight names.
const HEADERS_OF_CLIENTS: [&str; 5] =
    ["authorization", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method"];
const DAY: i64 = 24 * 60 * 60;

/// Examines the scheme and the host.
pub(super) fn address(url: &Url, report: &mut Report) {
    let is_local = url.host_str().is_some_and(is_loopback);
    let is_private = match url.host() {
        Some(Host::Ipv4(address)) => address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        _ => false,
    };
    match (url.scheme(), is_local) {
        ("https" | "http", true) => report.note(
            "address",
            "it is on this machine",
            "hosted clients (Claude, ChatGPT), which cannot reach it",
            "deploy it, or use a tunnel",
        ),
        ("https", false) if is_private => report.note(
            "address",
            format!("{url} is an address of a private network"),
            "hosted clients (Claude, ChatGPT), which cannot reach it",
            "deploy it, or use a tunnel",
        ),
        ("https", false) => report.ok("address", format!("{url} is https")),
        (scheme, _) if scheme != "http" => {
            let found = format!("`{scheme}:` is not the scheme of an MCP endpoint: only https and http work");
            report.problem("address", found, "all clients", "use the server's https URL");
        }
        (scheme, _) => {
            let clients = "all clients that send tokens, and hosted ones";
            report.problem("address", format!("the scheme is {scheme}"), clients, "serve it over https");
        }
    }
    if url.fragment().is_some() {
        report.note("address", "it has a fragment, which is not sent", "", "leave out the part from `#`");
    }
}

/// The URL of a redirect, if a client may follow it.
pub(super) fn redirect(answer: &Answer, url: &Url, report: &mut Report) -> Option<Url> {
    let location = answer.header(LOCATION.as_str());
    let target = url.join(location).ok().filter(|_| !location.is_empty());
    let Some(target) = target else {
        report.problem(
            "front",
            format!("it answers {} without a `Location`", answer.status),
            "all clients",
            "answer at this URL",
        );
        return None;
    };
    let fix = format!("use {target} as the URL, or answer at this one");
    if target.origin() != url.origin() {
        let found = format!("it redirects ({}) to another origin, {target}", answer.status.as_u16());
        let clients = "mcpl and the official SDKs, which do not follow, or lose the token on the way";
        report.problem("front", found, clients, fix);
        return None;
    }
    let found = format!("it redirects ({}) to {target}", answer.status.as_u16());
    if matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        let clients =
            "clients that do not follow redirects (curl, CloudFront, several SDKs); mcpl follows within the origin";
        report.note("front", found, clients, fix);
    } else {
        let clients = "clients that use `fetch` (TypeScript SDK, browsers): they follow with GET and without the message; mcpl sends it again";
        report.problem("front", found, clients, fix);
    }
    Some(target)
}

/// Examines whether the response is that of the function.
pub(super) fn front(first: &Answer, report: &mut Report) -> bool {
    let is_forbidden = first.status == StatusCode::FORBIDDEN
        && (first.header("x-amzn-errortype").contains("AccessDenied")
            || sigv4::is_rejection(first.status.as_u16(), &first.body));
    if is_forbidden {
        let fix = "a public Function URL needs two statements since October 2025: lambda:InvokeFunctionUrl, and \
                   lambda:InvokeFunction with InvokedViaFunctionUrl; a URL with AuthType AWS_IAM wants signed requests (`--sigv4`)";
        report.problem("front", "AWS rejects the request before the function runs (403)", "all clients", fix);
        return false;
    }
    if first.error_code().is_some() || first.result().is_some() {
        return true;
    }
    let fix = match first.status {
        StatusCode::BAD_GATEWAY | StatusCode::INTERNAL_SERVER_ERROR => {
            "the function failed: its log says why (a missing setting stops it at start)"
        }
        StatusCode::GATEWAY_TIMEOUT => "the function, or what it waits for, took too long: its log says why",
        StatusCode::SERVICE_UNAVAILABLE => "it is overloaded, or being deployed: try again, and look at its log",
        StatusCode::TOO_MANY_REQUESTS => "its reserved concurrency is used up",
        StatusCode::NOT_FOUND => {
            "no MCP endpoint is at this path: compare the URL (functions of this project have theirs at /mcp)"
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            "it takes no POST: is the path right? (An endpoint of 2024, with `sse`, is another transport)"
        }
        _ => return true,
    };
    report.problem("front", format!("it answers {}", first.status), "all clients", fix);
    false
}

/// Examines the duration of the first and the second response.
pub(super) fn time(first: Duration, second: Duration, report: &mut Report) {
    let found = format!("first answer after {} ms, second after {} ms", first.as_millis(), second.as_millis());
    if first.max(second) < CLAUDE_PATIENCE {
        report.ok("reach", found);
    } else {
        let fix = "give the function more memory, or fetch less at start";
        report.problem("reach", found, "Claude, which waits 10 s", fix);
    }
}

/// Examines the expiry of the certificate.
pub(super) fn certificate(der: &[u8], now: i64, report: &mut Report) {
    let Some(end) = certificate::not_after(der) else { return };
    let days = (end - now) / DAY;
    match days {
        ..=7 => report.problem(
            "certificate",
            format!("it ends in {days} days"),
            "all clients from then on",
            "renew it now: automatic renewal has failed",
        ),
        8..=14 => report.note(
            "certificate",
            format!("it ends in {days} days"),
            "all clients from then on",
            "renew it, or look whether automatic renewal works",
        ),
        _ => report.ok("certificate", format!("it is valid for {days} days")),
    }
}

/// Examines streaming, compression and headers of the first response.
pub(super) fn response(first: &Answer, report: &mut Report) {
    let is_chunked = !first.headers.contains_key(CONTENT_LENGTH);
    match is_chunked {
        true => report.ok("invoke mode", "answers are streamed"),
        false => report.ok("invoke mode", "answers are buffered: at most 6 MB, progress comes with the result"),
    }
    if is_compressed(&first.headers) {
        report.problem(
            "http",
            format!(
                "responses are compressed ({}) though the request has `Accept-Encoding: identity`",
                first.header(CONTENT_ENCODING.as_str())
            ),
            "mcpl, and clients that do not decompress",
            "compress only what `Accept-Encoding` allows",
        );
    }
    let bytes: usize = first.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > MAX_HEADER_BYTES {
        let found = format!("the header section of a response has {bytes} bytes");
        report.problem(
            "http",
            found,
            "clients on Node, which read 16 KiB",
            "send fewer and shorter headers, such as cookies",
        );
    }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|own| !own.is_empty() && own != "identity")
}

/// Examines requests in the variants of some clients.
pub(super) async fn variants(server: &Server, message: &Value, report: &mut Report) {
    for (accept, content_type, encoding) in [
        ("application/json", "application/json", "identity"),
        ("application/json, text/event-stream", "application/json; charset=utf-8", "identity"),
        ("application/json, text/event-stream", "application/json", "gzip, br"),
    ] {
        let mut request = server.client.post(server.url.clone()).body(message.to_string());
        for (name, value) in [(ACCEPT, accept), (CONTENT_TYPE, content_type), (ACCEPT_ENCODING, encoding)] {
            request = request.header(name, value);
        }
        for (name, value) in headers_of(server, message) {
            request = request.header(name, value);
        }
        let Ok(answer) = server.send(request, Access::Usual, Some(&message["id"])).await else { continue };
        if accept == "application/json" && answer.media_type == EVENT_STREAM {
            let clients = "clients that read no streams: gateways, health checks, `curl`";
            report.note(
                "http",
                "a stream answers a request that accepts JSON alone",
                clients,
                "answer it with JSON, or 406",
            );
        }
        if content_type.contains("charset") && answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let clients = "clients whose HTTP library adds the parameter";
            report.problem(
                "http",
                "`Content-Type: application/json; charset=utf-8` is answered 415",
                clients,
                "compare the media type without parameters",
            );
        }
        if encoding != "identity" && answer.media_type == EVENT_STREAM && is_compressed(&answer.headers) {
            let clients = "all clients: progress and questions wait in the compressor's buffer";
            report.note("http", "streams are compressed", clients, "leave text/event-stream out of compression");
        }
    }
}

/// The headers by which a message repeats itself, or belongs to a session.
fn headers_of(server: &Server, message: &Value) -> Vec<(&'static str, String)> {
    let version = message["params"]["_meta"][meta::PROTOCOL_VERSION].as_str();
    let method = message["method"].as_str().unwrap_or_default();
    let pair = |version: &str| vec![("mcp-protocol-version", version.to_owned()), ("mcp-method", method.to_owned())];
    version.map(pair).unwrap_or_else(|| server.session.clone())
}

/// Examines the response to the GET by which legacy clients open a stream.
pub(super) async fn get(server: &Server, report: &mut Report) {
    let mut request = server.request(Method::GET, server.url.clone()).header(ACCEPT, EVENT_STREAM);
    for (name, value) in &server.session {
        request = request.header(*name, value);
    }
    let fix = "answer 405, or with text/event-stream";
    let answer = match server.send(request, Access::Usual, None).await {
        Ok(answer) => answer,
        Err(error) => {
            let clients = "clients that wait for it before they go on";
            return report.problem(
                "get",
                format!("GET for a stream is not answered: {}", network::cause(&error)),
                clients,
                fix,
            );
        }
    };
    let found = format!("GET for a stream is answered with {}", answer.status);
    match answer.status {
        StatusCode::METHOD_NOT_ALLOWED => report.ok("get", "405: there is no stream to open"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
        StatusCode::OK if answer.media_type == EVENT_STREAM => report.ok("get", "it opens a stream"),
        StatusCode::OK => {
            let found = format!(
                "GET for a stream is answered with {}",
                if answer.media_type.is_empty() { "no media type" } else { &answer.media_type }
            );
            report.problem("get", found, "clients of the official SDKs: an error at each start", fix);
        }
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::NOT_ACCEPTABLE => {
            report.note(
                "get",
                found,
                "clients that take 405 alone for \"no stream\": an error in the log, or a lost session",
                fix,
            );
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            report.problem("get", found, "clients that retry it for as long as they run, mcpl too", fix);
        }
        status if status.is_redirection() => report.note("get", found, "clients that follow it to a page", fix),
        _ => {}
    }
}

/// Examines the endpoint with, or without, a final slash.
pub(super) async fn slash(server: &Server, message: &Value, report: &mut Report) {
    let mut url = server.url.clone();
    let path = url.path().to_owned();
    if path == "/" {
        return;
    }
    url.set_path(&match path.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    });
    let mut request = server.post(message);
    for (name, value) in headers_of(server, message) {
        request = request.header(name, value);
    }
    let Ok(built) = request.build() else { return };
    let mut other = server.client.post(url.clone());
    other = other.headers(built.headers().clone()).body(message.to_string());
    let Ok(answer) = server.send(other, Access::Usual, Some(&message["id"])).await else { return };
    if answer.status == StatusCode::NOT_FOUND || answer.status.is_redirection() {
        let found = format!("{url} answers {}", answer.status);
        let fix = "serve both, without a redirect";
        report.note("slash", found, "people who type the URL with the slash, or without", fix);
    }
}

/// Examines CORS.
pub(super) async fn browsers(server: &Server, message: &Value, report: &mut Report) {
    let preflight = server
        .request(Method::OPTIONS, server.url.clone())
        .header(ORIGIN, FOREIGN_ORIGIN)
        .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, HEADERS_OF_CLIENTS.join(","));
    let Ok(preflight) = server.send(preflight, Access::Anonymous, None).await else { return };
    let mut post = server.post(message).header(ORIGIN, FOREIGN_ORIGIN);
    for (name, value) in headers_of(server, message) {
        post = post.header(name, value);
    }
    let Ok(posted) = server.send(post, Access::Usual, Some(&message["id"])).await else { return };
    let is_rejected = posted.status == StatusCode::FORBIDDEN;
    let is_carried_out = posted.status.is_success();
    let allowed: Vec<_> = preflight.headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect();
    let doubled = posted.headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().count() > 1;
    if allowed.len() > 1 || doubled {
        let fix = "the function answers CORS itself: leave the Function URL's own CORS configuration unset";
        return report.problem("browsers", "CORS headers come twice", "clients in browsers, which reject that", fix);
    }
    let Some(allowed) = allowed.first().and_then(|own| own.to_str().ok()).filter(|own| !own.is_empty()) else {
        return no_cors(server, &preflight, is_carried_out, report);
    };
    report.note(
        "browsers",
        format!("a page of any origin may call it ({allowed})"),
        "",
        "if that is not meant, leave MCP_ALLOWED_ORIGINS to the origins that you know",
    );
    if is_rejected {
        let fix = "allow the same origins for preflight and requests";
        report.problem("browsers", "the preflight is allowed, and the request is 403", "clients in browsers", fix);
    }
    let lacks = |answer: &Answer, header: &str, needed: &[&'static str]| -> Vec<&'static str> {
        let list = answer.header(header).to_ascii_lowercase();
        // `*` does not mean `authorization` (Fetch, "CORS-unsafe request-header names").
        let has = |name: &str| {
            list.split(',').any(|own| own.trim() == name || (own.trim() == "*" && name != "authorization"))
        };
        needed.iter().copied().filter(|name| !has(name)).collect()
    };
    let missing = lacks(&preflight, ACCESS_CONTROL_ALLOW_HEADERS.as_str(), &HEADERS_OF_CLIENTS);
    if !missing.is_empty() {
        let found = format!("`Access-Control-Allow-Headers` lacks {}", missing.join(", "));
        report.problem("browsers", found, "clients in browsers (MCP Inspector, web chats)", "allow them");
    }
    let mut needed = vec![];
    if server.has_session() {
        needed.push("mcp-session-id");
    }
    if posted.status == StatusCode::UNAUTHORIZED {
        needed.push("www-authenticate");
    }
    let hidden = lacks(&posted, ACCESS_CONTROL_EXPOSE_HEADERS.as_str(), &needed);
    if !hidden.is_empty() {
        let found = format!("`Access-Control-Expose-Headers` lacks {}", hidden.join(", "));
        report.problem("browsers", found, "clients in browsers, which cannot read them", "expose them");
    }
    if posted.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).is_none() && !is_rejected {
        report.problem(
            "browsers",
            "the preflight is allowed, and responses have no `Access-Control-Allow-Origin`",
            "clients in browsers, which get no response",
            "send the header with each response, errors included",
        );
    }
}

fn no_cors(server: &Server, preflight: &Answer, is_carried_out: bool, report: &mut Report) {
    if is_carried_out && server.url.host_str().is_some_and(is_loopback) {
        return report.note(
            "browsers",
            "a request with the `Origin` of a foreign page is carried out",
            "users whose browser opens that page: by DNS rebinding it reads the responses, too",
            "answer 403 to an `Origin` that is not allowed",
        );
    }
    if preflight.status == StatusCode::UNAUTHORIZED {
        return report.note(
            "browsers",
            "the preflight (OPTIONS) is answered 401",
            "clients in browsers: a preflight never has a token",
            "answer OPTIONS without a token, if pages of other origins may call the server",
        );
    }
    report.ok("browsers", "pages of other origins may not call it");
}

/// A request that every server of the era responds to, in a session for legacy servers.
pub(super) fn message(is_modern: bool) -> Value {
    let (method, params) = match is_modern {
        true => (
            method::SERVER_DISCOVER,
            json!({ "_meta": {
                meta::PROTOCOL_VERSION: ProtocolVersion::LATEST.as_str(),
                meta::CLIENT_CAPABILITIES: {},
                meta::CLIENT_INFO: info(),
            } }),
        ),
        false => (method::PING, json!({})),
    };
    json!({ "jsonrpc": "2.0", "id": "mcpl-doctor", "method": method, "params": params })
}
