//! Checks of the sign-in: the challenge, the server's metadata (RFC 9728), the issuer's metadata (RFC 8414).

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, WWW_AUTHENTICATE},
};
use serde_json::Value;
use url::Url;

use super::{
    issuer::{self, Issuer},
    report::Report,
    server::{Access, Answer, Server},
    transport,
};
use crate::network;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const REMAPPED: &str = "x-amzn-remapped-www-authenticate";
/// Maximum number of examined issuers.
const MAX_ISSUERS: usize = 10;

/// A fetched document, or the reason for its absence.
pub(super) enum Document {
    Json(Value),
    /// There is none (404 and the like).
    None,
    /// Another body in its place.
    Other(String),
}

/// Examines everything that a sign-in needs. `first` is the response to a request without a token. `None` without
/// authorization.
pub(super) async fn examine(
    server: &Server,
    first: &Answer,
    tools: &[Value],
    report: &mut Report,
) -> Option<Vec<Issuer>> {
    let is_closed = first.status == StatusCode::UNAUTHORIZED;
    let closed: Vec<&str> =
        tools.iter().filter(|tool| takes_token(tool)).filter_map(|tool| tool["name"].as_str()).collect();
    if is_closed {
        challenge(first, report);
    }
    if first.status == StatusCode::FORBIDDEN {
        let clients = "all clients: they sign in at 401 alone";
        report.problem(
            "challenge",
            "a request without a token is answered 403",
            clients,
            "answer 401 with a challenge",
        );
    }
    let documents = metadata(server, first, is_closed, &closed, report).await?;
    invalid_token(server, first, is_closed, report).await;
    if !is_closed && closed.is_empty() && first.status.is_success() && !tools.is_empty() && tools.iter().all(says_open)
    {
        let clients = "Claude Code, which then insists on a sign-in";
        report.note(
            "metadata",
            "there is metadata, and all tools are open",
            clients,
            "answer 404 there, unless something takes a token",
        );
    }
    let mut issuers = Vec::new();
    let named: Vec<&str> =
        documents["authorization_servers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if named.is_empty() {
        report.problem(
            "issuer",
            "the metadata names none",
            "all clients that sign in",
            "set OIDC_ISSUER or its like on the function",
        );
    }
    if named.len() > MAX_ISSUERS {
        let found = format!("the metadata names {} issuers: the first {MAX_ISSUERS} are looked at", named.len());
        report.note("issuer", found, "clients try one, or a few", "name those that clients use first");
    }
    let scopes: Vec<&str> =
        documents["scopes_supported"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for issuer in named.into_iter().take(MAX_ISSUERS) {
        issuers.extend(issuer::examine(server, issuer, &scopes, report).await);
    }
    Some(issuers)
}

/// Whether a tool declares that it accepts a token.
fn takes_token(tool: &Value) -> bool {
    let schemes = tool["_meta"]["securitySchemes"].as_array();
    schemes.is_some_and(|schemes| !schemes.is_empty() && schemes.iter().all(|own| own["type"] != "noauth"))
}

/// Whether a tool declares that it requires no token.
fn says_open(tool: &Value) -> bool {
    tool["_meta"]["securitySchemes"].as_array().is_some_and(|schemes| schemes.iter().any(|own| own["type"] == "noauth"))
}

/// Examines the challenge of a 401.
fn challenge(first: &Answer, report: &mut Report) {
    let fix = "send `WWW-Authenticate: Bearer resource_metadata=\"…\", scope=\"…\"` with each 401";
    let own: Vec<&str> =
        [WWW_AUTHENTICATE.as_str(), REMAPPED].into_iter().filter(|name| first.headers.contains_key(*name)).collect();
    let is_bearer = first.challenge.is_bearer();
    match (own.first(), is_bearer) {
        (None, false) => {
            let clients = "clients that sign in only after a challenge, or find the metadata by it";
            report.problem("challenge", "401 without `WWW-Authenticate`", clients, fix);
        }
        (Some(_), false) => {
            let found = format!("401 with a challenge that is not Bearer: {}", first.header(own[0]));
            report.problem("challenge", found, "all clients that sign in: OAuth is Bearer", fix);
        }
        (Some(&REMAPPED), true) => {
            let found = format!("the challenge is renamed to `{REMAPPED}`, as Function URLs and API Gateway do");
            let clients = "clients that read the challenge: they look for the metadata at its well-known places, and ask \
                           for all of its scopes at once";
            report.note(
                "challenge",
                found,
                clients,
                "nothing to do, or put CloudFront with Lambda@Edge in front (docs/authorization.md)",
            );
        }
        (None, true) => {
            let clients = "all clients but mcpl and ChatGPT, which read the data of the error";
            report.note("challenge", "the challenge is in the error's data alone", clients, fix);
        }
        (Some(_), true) => {}
    }
    if !is_bearer {
        return;
    }
    if first.challenge.resource_metadata("https://x.invalid").is_none() {
        let clients = "clients that look nowhere else for the metadata";
        report.note("challenge", "it has no `resource_metadata`", clients, fix);
    }
    if first.challenge.scopes().is_empty() {
        let clients =
            "clients that ask for what the challenge names: they ask for all scopes, or for none, and are rejected";
        report.note("challenge", "it has no `scope`", clients, "name the scopes that the request needs");
    }
}

/// Examines whether the server verifies tokens, and how it rejects one.
async fn invalid_token(server: &Server, first: &Answer, is_closed: bool, report: &mut Report) {
    let version = mcp_protocol::ProtocolVersion::LATEST.as_str();
    let message = transport::message(true);
    let request = server.post(&message).header("mcp-protocol-version", version).header("mcp-method", "server/discover");
    let Ok(answer) = server.send(request, Access::Invalid("mcpl-doctor.of.no-issuer"), Some(&message["id"])).await
    else {
        return;
    };
    let found = format!("a token that no issuer has issued is answered with {}", answer.status);
    match answer.status {
        StatusCode::UNAUTHORIZED => {}
        status if status.is_success() && is_closed => report.problem(
            "token",
            "a token that no issuer has issued is accepted",
            "",
            "verify signature, issuer, audience and expiry of each token: as it is, anyone can use the server",
        ),
        status if status.is_success() => report.note(
            "token",
            "a token that no issuer has issued is ignored where none is needed",
            "clients whose token has expired: they do not notice, and are anonymous",
            "answer 401 `invalid_token`",
        ),
        _ if first.status == answer.status => {}
        _ => report.problem("token", found, "all clients: only 401 leads to a new token", "answer 401 `invalid_token`"),
    }
}

/// Examines the server's metadata, at both well-known URLs or at that of the challenge.
async fn metadata(
    server: &Server,
    first: &Answer,
    is_closed: bool,
    closed: &[&str],
    report: &mut Report,
) -> Option<Value> {
    let path = server.url.path().trim_end_matches('/').to_owned();
    let places = [format!("{WELL_KNOWN}{path}"), WELL_KNOWN.to_owned()];
    let mut found = Vec::new();
    for place in if path.is_empty() { &places[1..] } else { &places[..] } {
        let Ok(url) = server.url.join(place) else { continue };
        found.push(match document(server, &url, "metadata", report).await {
            (Document::Json(document), _) => Some(document),
            (Document::Other(what), _) => {
                let clients =
                    "clients that stop at a document that they cannot read (TypeScript SDK), and do not look elsewhere";
                let fix = "answer with JSON, without a token, or with 404";
                report.problem("metadata", format!("{place} {what}"), clients, fix);
                None
            }
            (Document::None, _) => None,
        });
    }
    let named = first.challenge.resource_metadata(server.url.as_str());
    let of_challenge = match &named {
        Some(url) if found.iter().all(Option::is_none) => match document(server, url, "metadata", report).await.0 {
            Document::Json(document) => Some(document),
            Document::None | Document::Other(_) => {
                let clients = "clients that read the challenge";
                report.problem(
                    "metadata",
                    format!("there is none at {url}, where the challenge says"),
                    clients,
                    "serve it there",
                );
                None
            }
        },
        _ => None,
    };
    let Some(own) = found.iter().flatten().next().or(of_challenge.as_ref()).cloned() else {
        no_metadata(server, is_closed, closed, &places[0], report).await;
        return None;
    };
    if let (Some(url), true) = (&named, of_challenge.is_some()) {
        let clients = "clients that do not see the challenge (behind a Function URL, in browsers)";
        let fix = format!("serve it at {WELL_KNOWN}{path}, at the root of the host, too");
        report.note("metadata", format!("it is only at {url}, where the challenge says"), clients, fix);
    } else if let Some(missing) = found.iter().position(Option::is_none) {
        let found = format!("there is none at {}", places[missing]);
        report.note("metadata", found, "clients that look at one of the two places alone", "serve it at both");
    }
    if let [Some(one), Some(other)] = &found[..]
        && one["authorization_servers"] != other["authorization_servers"]
    {
        let clients = "clients that read the other one";
        report.problem(
            "metadata",
            "the documents at both places name different issuers",
            clients,
            "serve the same at both",
        );
    }
    let resource = own["resource"].as_str().unwrap_or_default();
    let origin = server.url.origin().ascii_serialization();
    let given = server.given.trim_end_matches('/');
    if resource.trim_end_matches('/') == given || resource.trim_end_matches('/') == origin {
        report.ok("metadata", format!("it names {resource}"));
    } else {
        let fix = "set MCP_PUBLIC_URL to the URL that clients use";
        let clients = "all clients that sign in: they reject metadata of another resource";
        report.problem("metadata", format!("it names {resource}, and not {}", server.given), clients, fix);
    }
    let scopes = own["scopes_supported"].as_array();
    match scopes {
        None => {
            let clients = "clients that do not see the challenge: they ask for no scope, or for all of the issuer's";
            report.note("metadata", "it has no `scopes_supported`", clients, "list the scopes that requests may need");
        }
        Some(scopes) if scopes.iter().any(|own| own == "offline_access") => {
            let clients = "clients whose issuer does not grant it: `invalid_scope`";
            report.note(
                "metadata",
                "it asks for offline_access",
                clients,
                "leave it out: it is between a client and the issuer",
            );
        }
        Some(_) => {}
    }
    if found.first().is_some_and(Option::is_some) && !path.is_empty() {
        spellings(server, &places[0], report).await;
    }
    Some(own)
}

/// Examines the first URL with a final slash, and by HEAD.
async fn spellings(server: &Server, place: &str, report: &mut Report) {
    let Ok(slash) = server.url.join(&format!("{place}/")) else { return };
    if let (Document::None, _) = document(server, &slash, "metadata", report).await {
        let clients = "people who type the URL of the server with a slash at its end";
        report.note("metadata", format!("there is none at {place}/"), clients, "serve it there too");
    }
    let Ok(url) = server.url.join(place) else { return };
    let head = server.send(server.request(Method::HEAD, url), Access::Anonymous, None).await;
    if let Ok(answer) = head
        && !answer.status.is_success()
    {
        let found = format!("HEAD of {place} is answered with {}", answer.status);
        report.note("metadata", found, "monitors and link checkers", "answer HEAD as GET, without the body");
    }
}

async fn no_metadata(server: &Server, is_closed: bool, closed: &[&str], place: &str, report: &mut Report) {
    let own = legacy_issuer(server, report).await;
    if let Some(place) = own {
        let clients = "clients since 2025-06-18, which look for the metadata of the resource first; most fall back";
        report.note(
            "metadata",
            format!("there is none, and the server is its own issuer ({place})"),
            clients,
            "serve the metadata of RFC 9728",
        );
    } else if is_closed {
        let clients =
            "all clients that sign in: a Function URL renames the challenge, and they find the issuer at this place";
        report.problem(
            "metadata",
            format!("a token is needed, and there is nothing at {place}"),
            clients,
            "serve it without a token; with an API key: `--header` in mcpl, `headers` in other clients",
        );
    } else if !closed.is_empty() {
        let clients = "clients that call one of them, unless they see the challenge of its refusal";
        report.note(
            "metadata",
            format!("{} takes a token, and there is nothing at {place}", closed.join(", ")),
            clients,
            "serve it at the root of the host",
        );
    } else if server.token.is_none() && server.headers.is_empty() {
        report.ok("authorization", "none: anyone may use it");
    }
}

/// Examines the URL at which a server of 2025-03-26 has the metadata of its issuer.
async fn legacy_issuer(server: &Server, report: &mut Report) -> Option<&'static str> {
    let place = "/.well-known/oauth-authorization-server";
    let url = server.url.join(place).ok()?;
    let (found, _) = document(server, &url, "issuer", report).await;
    matches!(found, Document::Json(own) if own["token_endpoint"].is_string()).then_some(place)
}

/// Fetches a document as clients do: without a token.
pub(super) async fn document(
    server: &Server,
    url: &Url,
    check: &'static str,
    report: &mut Report,
) -> (Document, Option<Answer>) {
    let request = server.request(Method::GET, url.clone()).header(ACCEPT, "application/json");
    let answer = match server.send(request, Access::Anonymous, None).await {
        Ok(answer) => answer,
        Err(error) => return (Document::Other(format!("cannot be reached: {}", network::cause(&error))), None),
    };
    let found = match answer.status {
        StatusCode::OK if answer.message.is_object() => {
            if !answer.media_type.ends_with("json") {
                let found = format!(
                    "{url} is JSON with the `Content-Type` {}",
                    if answer.media_type.is_empty() { "missing" } else { &answer.media_type }
                );
                report.note(
                    check,
                    found,
                    "clients that read JSON by its type alone",
                    "send `Content-Type: application/json`",
                );
            }
            Document::Json(answer.message.clone())
        }
        StatusCode::OK => Document::Other(format!("answers 200 with what is no JSON object ({})", answer.media_type)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Document::Other(format!("takes a token ({})", answer.status))
        }
        status if status.is_redirection() => Document::Other(format!("redirects ({status})")),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Document::Other(format!("answers {status}"))
        }
        _ => Document::None,
    };
    (found, Some(answer))
}

/// Examines which kinds of client registration work.
pub(super) fn clients(url: &Url, issuers: Option<&[Issuer]>, report: &mut Report) {
    let is_public = url.scheme() == "https" && url.port_or_known_default() == Some(443);
    for (name, is_hosted) in [("Claude", true), ("ChatGPT", true), ("Cursor", false)] {
        let mut missing = Vec::new();
        if is_hosted && !is_public {
            missing.push("https on port 443");
        }
        let mut needs_id = false;
        if let Some(issuers) = issuers {
            if issuers.iter().all(|issuer| !issuer.has_pkce) {
                missing.push("an issuer that says that it has PKCE");
            }
            needs_id = issuers.iter().all(|issuer| !issuer.registers && !issuer.takes_metadata_documents);
        }
        match (missing.is_empty(), needs_id) {
            (true, false) => report.ok("client", format!("{name} can connect")),
            (true, true) => {
                let found = format!("{name} can connect with a client id that is registered by hand");
                report.note("client", found, name, "type it into the client");
            }
            (false, _) => {
                report.note(
                    "client",
                    format!("{name} cannot connect: it wants {}", missing.join(" and ")),
                    name,
                    "see above",
                );
            }
        }
    }
}
