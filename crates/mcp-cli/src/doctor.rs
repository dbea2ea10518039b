//! `mcpl doctor`: walks the way that clients walk, without signing in and without calling a tool, and says what would stop
//! them.

use std::time::{Duration, Instant};

use mcp_protocol::{ProtocolVersion, meta, method};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, ORIGIN},
};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use crate::{
    challenge::Challenge,
    output::{self, GOOD, NOTE, PROBLEM, print, printable_line},
    received,
};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// What Claude grants discovery and tokens.
const CLAUDE_PATIENCE: Duration = Duration::from_secs(10);

/// Issuers that are looked at.
const MAX_ISSUERS: usize = 10;

/// What was found about one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    check: &'static str,
    level: Level,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Good,
    /// Worth knowing; stops nobody, or only some.
    Note,
    /// Stops clients.
    Problem,
}

/// Examines a server; whether nothing would stop a client.
pub(crate) async fn run(client: Client, url: &str, as_json: bool) -> anyhow::Result<bool> {
    let mut doctor = Doctor { client, url: Url::parse(url)?, given: url.to_owned(), findings: Vec::new() };
    doctor.examine().await;
    let findings = doctor.findings;
    if as_json {
        print(&output::json(&findings)?);
    } else {
        for finding in &findings {
            let (style, word) = match finding.level {
                Level::Good => (GOOD, "ok"),
                Level::Note => (NOTE, "note"),
                Level::Problem => (PROBLEM, "PROBLEM"),
            };
            print(&format!("{style}{word:<8}{style:#}{:<14}{}", finding.check, printable_line(&finding.found)));
            if let Some(fix) = &finding.fix {
                print(&format!("{:22}-> {}", "", printable_line(fix)));
            }
        }
    }
    Ok(findings.iter().all(|finding| finding.level != Level::Problem))
}

struct Doctor {
    client: Client,
    url: Url,
    given: String,
    findings: Vec<Finding>,
}

/// An answer, read.
struct Answer {
    status: StatusCode,
    is_chunked: bool,
    error_type: String,
    challenge: Challenge,
    body: String,
    took: Duration,
}

/// An issuer, as clients see it.
struct Issuer {
    has_pkce: bool,
    registers: bool,
    takes_metadata_documents: bool,
}

impl Doctor {
    async fn examine(&mut self) {
        self.address();
        let Some(first) = self.reach().await else { return };
        if !self.front(&first) {
            return;
        }
        let is_modern = self.eras(&first).await;
        self.invoke_mode(&first);
        self.browsers().await;
        let issuers = self.metadata(&first).await;
        self.clients(is_modern, issuers.as_deref());
    }

    fn address(&mut self) {
        let is_loopback = self.url.host_str().is_some_and(mcp_protocol::uri::is_loopback);
        match (self.url.scheme(), is_loopback) {
            ("https", false) => self.good("address", format!("{} is https", self.url)),
            ("https" | "http", true) => {
                self.note(
                    "address",
                    "it is on this machine: hosted clients cannot reach it",
                    "deploy it, or use a tunnel",
                );
            }
            (scheme, _) => self.problem("address", format!("the scheme is {scheme}"), "clients take https alone"),
        }
    }

    /// Two requests, of which the first may start the function.
    async fn reach(&mut self) -> Option<Answer> {
        let first = match self.ask(method::SERVER_DISCOVER, json!({}), true).await {
            Ok(first) => first,
            Err(error) => {
                let fix = "check the name, the network, and that the certificate is one that browsers trust";
                self.problem("reach", format!("{error:#}"), fix);
                return None;
            }
        };
        match self.ask(method::SERVER_DISCOVER, json!({}), true).await {
            Ok(second) => {
                let found = format!(
                    "first answer after {} ms, second after {} ms",
                    first.took.as_millis(),
                    second.took.as_millis()
                );
                if first.took < CLAUDE_PATIENCE {
                    self.good("reach", found);
                } else {
                    self.problem(
                        "reach",
                        found,
                        "Claude waits 10 s: give the function more memory, or fetch less at start",
                    );
                }
            }
            Err(error) => self.problem("reach", format!("the second request failed: {error:#}"), "try again"),
        }
        Some(first)
    }

    /// Whether the function itself has answered.
    fn front(&mut self, first: &Answer) -> bool {
        let is_forbidden = first.status == StatusCode::FORBIDDEN
            && (first.error_type.contains("AccessDenied") || first.body.contains("\"Message\""));
        if is_forbidden {
            let fix = "a public Function URL needs two statements since October 2025: lambda:InvokeFunctionUrl, and \
                       lambda:InvokeFunction with InvokedViaFunctionUrl; a URL with AuthType AWS_IAM wants signed requests";
            self.problem("front", "AWS refuses the request before the function runs (403)".to_owned(), fix);
            return false;
        }
        let fix = match first.status {
            StatusCode::BAD_GATEWAY | StatusCode::INTERNAL_SERVER_ERROR => {
                "the function failed: its log says why (a missing setting stops it at start)"
            }
            StatusCode::TOO_MANY_REQUESTS => "its reserved concurrency is used up",
            StatusCode::NOT_FOUND if !first.body.contains("jsonrpc") => {
                "the MCP endpoint is at /mcp: is the path right?"
            }
            status if status.is_redirection() => "clients do not follow redirects: use the URL that it leads to",
            _ => return true,
        };
        self.problem("front", format!("it answers {}", first.status), fix);
        false
    }

    async fn eras(&mut self, first: &Answer) -> bool {
        if first.status == StatusCode::UNAUTHORIZED {
            self.note(
                "protocol",
                "unknown: every request takes a token",
                "nothing to do; `mcpl tools` signs in and looks",
            );
            return true;
        }
        let discovered = received::read::<Value>(&first.body).unwrap_or_default();
        let versions = discovered["result"]["supportedVersions"].as_array().cloned().unwrap_or_default();
        let is_modern = !versions.is_empty();
        let params = json!({ "protocolVersion": ProtocolVersion::LATEST_LEGACY.as_str(), "capabilities": {}, "clientInfo": info() });
        let initialized = self.ask(method::INITIALIZE, params, false).await.ok();
        let initialized = initialized.and_then(|answer| received::read::<Value>(&answer.body).ok()).unwrap_or_default();
        let legacy = initialized["result"]["protocolVersion"].as_str();
        match (is_modern, legacy) {
            (true, Some(legacy)) => {
                let versions: Vec<&str> = versions.iter().filter_map(Value::as_str).collect();
                self.good("protocol", format!("both eras: {}; `initialize` agrees on {legacy}", versions.join(", ")));
            }
            (true, None) => {
                self.note("protocol", "2026-07-28 alone", "many clients still begin with `initialize`");
            }
            (false, Some(legacy)) => {
                self.note("protocol", format!("legacy alone, {legacy}"), "newer clients fall back to it")
            }
            (false, None) => {
                let fix = "it answers neither `server/discover` nor `initialize`: is it an MCP server, and is the path right?";
                self.problem("protocol", "this does not speak MCP".to_owned(), fix);
            }
        }
        is_modern || legacy.is_some()
    }

    fn invoke_mode(&mut self, first: &Answer) {
        match first.is_chunked {
            true => self.good("invoke mode", "answers are streamed".to_owned()),
            false => self
                .good("invoke mode", "answers are buffered: at most 6 MB, progress comes with the result".to_owned()),
        }
    }

    async fn browsers(&mut self) {
        let origin = "https://browser.example";
        let preflight = self.client.request(Method::OPTIONS, self.url.clone()).header(ORIGIN, origin);
        let answered = preflight.header(ACCESS_CONTROL_REQUEST_METHOD, "POST").send().await;
        let Ok(answered) = answered else { return };
        let allowed: Vec<_> = answered.headers().get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect();
        match allowed[..] {
            [] => self.good("browsers", "pages of other origins may not call it".to_owned()),
            [one] => self.note(
                "browsers",
                format!("a page of any origin may call it ({})", one.to_str().unwrap_or_default()),
                "if that is not meant, leave MCP_ALLOWED_ORIGINS to the origins that you know",
            ),
            _ => self.problem(
                "browsers",
                "CORS headers come twice".to_owned(),
                "the function answers CORS itself: leave the Function URL's own CORS configuration unset",
            ),
        }
    }

    /// Protected-resource metadata, at both places or where the challenge says, and the issuers that it names; `None` without
    /// authorization.
    async fn metadata(&mut self, first: &Answer) -> Option<Vec<Issuer>> {
        let path = self.url.path().trim_end_matches('/').to_owned();
        let of_path = self.document(&format!("{WELL_KNOWN}{path}")).await;
        let of_root = self.document(WELL_KNOWN).await;
        let of_challenge = match first.challenge.resource_metadata(self.url.as_str()) {
            Some(url) if of_path.is_none() && of_root.is_none() => self.json(url.as_str()).await.map(|own| (url, own)),
            _ => None,
        };
        let elsewhere = of_challenge.as_ref().map(|(_, document)| document);
        let Some(document) = of_path.as_ref().or(of_root.as_ref()).or(elsewhere) else {
            self.no_metadata(first.status == StatusCode::UNAUTHORIZED, &format!("{WELL_KNOWN}{path}")).await;
            return None;
        };
        if let Some((url, _)) = &of_challenge {
            self.note(
                "metadata",
                format!("it is only at {url}, where the challenge says"),
                format!("clients that do not see the challenge look at {WELL_KNOWN}{path}, at the root of the host"),
            );
        } else if of_path.is_none() || of_root.is_none() {
            let missing = if of_path.is_none() { format!("{WELL_KNOWN}{path}") } else { WELL_KNOWN.to_owned() };
            self.note(
                "metadata",
                format!("there is none at {missing}"),
                "clients look at both places; some only at one",
            );
        }
        let resource = document["resource"].as_str().unwrap_or_default().to_owned();
        let origin = self.url.origin().ascii_serialization();
        if resource == self.given.trim_end_matches('/') || resource == origin {
            self.good("metadata", format!("it names {resource}"));
        } else {
            let fix = "clients refuse metadata of another resource: set MCP_PUBLIC_URL to the URL that they use";
            self.problem("metadata", format!("it names {resource}, and not {}", self.given), fix);
        }
        let scopes: Vec<&str> =
            document["scopes_supported"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if scopes.contains(&"offline_access") {
            self.note(
                "metadata",
                "it asks for offline_access",
                "that is between a client and the issuer: leave it out",
            );
        }
        let named: Vec<String> = document["authorization_servers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|issuer| issuer.as_str().map(str::to_owned))
            .collect();
        if named.is_empty() {
            self.problem("issuer", "the metadata names none".to_owned(), "set OIDC_ISSUER or its like on the function");
        }
        if named.len() > MAX_ISSUERS {
            let found = format!("the metadata names {} issuers: the first {MAX_ISSUERS} are looked at", named.len());
            self.note("issuer", found, "clients try one, or a few");
        }
        let mut issuers = Vec::new();
        for issuer in named.into_iter().take(MAX_ISSUERS) {
            issuers.extend(self.issuer(&issuer).await);
        }
        Some(issuers)
    }

    async fn no_metadata(&mut self, is_closed: bool, place: &str) {
        let closed = self.closed_tools().await;
        if is_closed {
            let fix =
                "clients find the issuer there, since a Function URL renames the challenge: serve it without a token";
            self.problem("metadata", format!("a token is needed, and there is nothing at {place}"), fix);
        } else if !closed.is_empty() {
            self.note(
                "metadata",
                format!("{} takes a token, and there is nothing at {place}", closed.join(", ")),
                "clients find the issuer there, at the root of the host, unless they see the challenge of a refusal",
            );
        } else {
            self.good("authorization", "none: anyone may use it".to_owned());
        }
    }

    /// The tools that say that they take a token.
    async fn closed_tools(&self) -> Vec<String> {
        let listed = self.ask(method::TOOLS_LIST, json!({}), true).await.ok();
        let listed = listed.and_then(|answer| received::read::<Value>(&answer.body).ok()).unwrap_or_default();
        let takes_token = |tool: &&Value| {
            let schemes = tool["_meta"]["securitySchemes"].as_array();
            schemes.is_some_and(|schemes| !schemes.is_empty() && schemes.iter().all(|own| own["type"] != "noauth"))
        };
        let tools = listed["result"]["tools"].as_array().into_iter().flatten();
        tools.filter(takes_token).filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    }

    async fn issuer(&mut self, issuer: &str) -> Option<Issuer> {
        let base = issuer.trim_end_matches('/');
        let (origin, path) = match Url::parse(base) {
            Ok(url) => (url.origin().ascii_serialization(), url.path().trim_end_matches('/').to_owned()),
            Err(_) => {
                self.problem("issuer", format!("`{issuer}` is no URL"), "set OIDC_ISSUER to the issuer's URL");
                return None;
            }
        };
        let places = [
            format!("{origin}/.well-known/oauth-authorization-server{path}"),
            format!("{origin}/.well-known/openid-configuration{path}"),
            format!("{base}/.well-known/openid-configuration"),
        ];
        let mut found = None;
        for place in &places {
            if let Some(document) = self.json(place).await {
                found = Some((place.clone(), document));
                break;
            }
        }
        let Some((place, document)) = found else {
            self.problem(
                "issuer",
                format!("{issuer} has no metadata"),
                "is it up, and is it written letter by letter?",
            );
            return None;
        };
        if document["issuer"] != issuer {
            let own = document["issuer"].as_str().unwrap_or_default();
            self.problem(
                "issuer",
                format!("{place} says that it is {own}, not {issuer}"),
                "write OIDC_ISSUER as it says",
            );
            return None;
        }
        let lists =
            |name: &str, value: &str| document[name].as_array().is_some_and(|list| list.iter().any(|own| own == value));
        let own = Issuer {
            has_pkce: lists("code_challenge_methods_supported", "S256"),
            registers: document["registration_endpoint"].is_string(),
            takes_metadata_documents: document["client_id_metadata_document_supported"] == true,
        };
        let how = match (own.takes_metadata_documents, own.registers) {
            (true, _) => "clients introduce themselves by a metadata document",
            (false, true) => "clients register themselves",
            (false, false) => "clients are registered by hand",
        };
        self.good("issuer", format!("{issuer}: {how}"));
        if !own.has_pkce {
            let fix = "its metadata must list code_challenge_methods_supported: S256; strict clients stop there";
            self.note("issuer", format!("{issuer} does not say that it has PKCE"), fix);
        }
        Some(own)
    }

    /// Who can connect.
    fn clients(&mut self, speaks_mcp: bool, issuers: Option<&[Issuer]>) {
        if !speaks_mcp {
            return;
        }
        let is_public = self.url.scheme() == "https" && self.url.port_or_known_default() == Some(443);
        for (name, is_hosted) in [("Claude", true), ("ChatGPT", true), ("Cursor", false)] {
            let mut missing = Vec::new();
            if is_hosted && !is_public {
                missing.push("https on port 443");
            }
            let mut needs_id = false;
            if let Some(issuers) = issuers {
                if issuers.is_empty() || issuers.iter().all(|issuer| !issuer.has_pkce) {
                    missing.push("an issuer that says that it has PKCE");
                }
                needs_id = issuers.iter().all(|issuer| !issuer.registers && !issuer.takes_metadata_documents);
            }
            match (missing.is_empty(), needs_id) {
                (true, false) => self.good("client", format!("{name} can connect")),
                (true, true) => {
                    self.note(
                        "client",
                        format!("{name} can connect with a client id that somebody registers"),
                        "type it into the client",
                    );
                }
                (false, _) => {
                    self.note(
                        "client",
                        format!("{name} cannot connect: it wants {}", missing.join(" and ")),
                        "see above",
                    );
                }
            }
        }
    }

    async fn ask(&self, method: &str, mut params: Value, is_modern: bool) -> anyhow::Result<Answer> {
        let mut request = self.client.post(self.url.clone()).header(ACCEPT, "application/json, text/event-stream");
        if is_modern {
            params["_meta"] = json!({
                meta::PROTOCOL_VERSION: ProtocolVersion::LATEST.as_str(),
                meta::CLIENT_CAPABILITIES: {},
                meta::CLIENT_INFO: info(),
            });
            request =
                request.header("mcp-protocol-version", ProtocolVersion::LATEST.as_str()).header("mcp-method", method);
        }
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = request.header("content-type", "application/json").body(message.to_string());
        let started = Instant::now();
        let response = request.send().await?;
        let headers = response.headers();
        let error_type =
            headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (status, is_chunked) = (response.status(), !headers.contains_key(CONTENT_LENGTH));
        let headers = headers.clone();
        let body = received::body(response).await?;
        let challenge = Challenge::of(&headers, &body);
        Ok(Answer { status, is_chunked, error_type, challenge, body, took: started.elapsed() })
    }

    /// A document of the server's own.
    async fn document(&self, path: &str) -> Option<Value> {
        self.json(self.url.join(path).ok()?.as_str()).await
    }

    async fn json(&self, url: &str) -> Option<Value> {
        let response: Response = self.client.get(url).header(ACCEPT, "application/json").send().await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        received::read(&received::body(response).await.ok()?).ok()
    }

    fn good(&mut self, check: &'static str, found: String) {
        self.findings.push(Finding { check, level: Level::Good, found, fix: None });
    }

    fn note(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding { check, level: Level::Note, found: found.into(), fix: Some(fix.into()) });
    }

    fn problem(&mut self, check: &'static str, found: String, fix: impl Into<String>) {
        self.findings.push(Finding { check, level: Level::Problem, found, fix: Some(fix.into()) });
    }
}

fn info() -> Value {
    json!({ "name": "mcpl", "version": env!("CARGO_PKG_VERSION") })
}
