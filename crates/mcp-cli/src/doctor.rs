//! `mcpl doctor`: connects the way clients do, without a sign-in and without tool calls, and reports each problem with the
//! affected clients and its fix. This machine is checked first: a wrong proxy looks like an unavailable server.

mod authorization;
mod certificate;
mod fault;
mod issuer;
mod own;
mod protocol;
mod report;
mod schemas;
mod server;
mod transport;

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mcp_protocol::{ProtocolVersion, method};
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::json;
use url::Url;

use self::{
    report::Report,
    server::{Access, Answer, Server},
};
use crate::{
    authorizer::Authorizer,
    connection::Connection,
    endpoint, network,
    output::{self, print},
};

/// Timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of all steps together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum number of redirects within the server's origin.
const MAX_REDIRECTS: usize = 5;

/// Examines a server, and this machine's side. Returns whether there is no problem.
pub(crate) async fn run(connection: &Connection, url: &str, as_json: bool) -> anyhow::Result<bool> {
    // Of another scheme, it is examined all the same.
    let given = if url.contains("://") { url.trim().to_owned() } else { endpoint::parse(url)? };
    let url = Url::parse(&given).with_context(|| format!("`{given}` is no URL"))?;
    let mut report = Report::default();
    let examining = tokio::time::timeout(TOTAL_TIMEOUT, Box::pin(examine(connection, &url, &given, &mut report)));
    match examining.await {
        Ok(examined) => examined?,
        Err(_) => {
            let found = format!("the examination was not done after {} s", TOTAL_TIMEOUT.as_secs());
            report.problem("reach", found, "all clients that wait for what it did not answer", "see the server's log");
        }
    }
    if as_json {
        print(&output::json(&report.findings)?);
    } else {
        report.print();
    }
    Ok(report.is_well())
}

async fn examine(connection: &Connection, url: &Url, given: &str, report: &mut Report) -> anyhow::Result<()> {
    own::program(report);
    if !matches!(url.scheme(), "https" | "http") {
        transport::address(url, report);
        return Ok(());
    }
    own::proxies(url, report).await;
    own::certificates(report);
    let can_read = own::store(given, connection.state_dir(), report);
    let timeout = connection.timeout().min(TIMEOUT);
    let client = network::client_builder(url.as_str(), HeaderMap::new(), timeout).tls_info(true).build();
    let client = match client.context("could not set up HTTP") {
        Ok(client) => client,
        Err(error) => {
            let fix = "set SSL_CERT_FILE to a file of certificates, or install the system's (`ca-certificates`)";
            report.problem("certificates", format!("{error:#}"), own::THIS_PROGRAM, fix);
            return Ok(());
        }
    };
    transport::address(url, report);
    // Credentials are sent only over https, or to this machine.
    let authorizer = match endpoint::parse(given) {
        Ok(secure) if can_read => Some(connection.authorizer(&secure)?),
        _ => None,
    };
    let mut server = Server {
        client,
        url: url.clone(),
        given: given.to_owned(),
        headers: if authorizer.is_some() { connection.headers()? } else { HeaderMap::new() },
        token: None,
        authorizer: None,
        session: Vec::new(),
        next_id: 0,
        strange_id: None,
    };
    let Some(first) = reach(&mut server, report).await else { return Ok(()) };
    if let Some(authorizer) = authorizer {
        identify(&mut server, authorizer, report).await;
    }
    examine_responses(&mut server, &first, report).await;
    Ok(())
}

/// Examines a server that responds; `first` is the response to a request without a token.
async fn examine_responses(server: &mut Server, first: &Answer, report: &mut Report) {
    let is_rejected = matches!(first.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let again = match is_rejected && server.has_access() {
        true => server.modern(method::SERVER_DISCOVER, json!({}), Access::Usual).await.ok(),
        false => None,
    };
    let discovered = again.as_ref().unwrap_or(first);
    let has_answered = front(server, discovered, report).await;
    if has_answered {
        transport::response(first, report);
    }
    if let Some(certificate) = &first.certificate {
        transport::certificate(certificate, now(), report);
    }
    if !has_answered {
        return own::clock(first.clock_offset(), &[], report);
    }
    protocol::media_type(discovered, report);
    let mut tools = Vec::new();
    let mut is_modern = true;
    if matches!(discovered.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        without_token(server, discovered, report);
    } else {
        let spoken = protocol::eras(server, discovered, report).await;
        if !spoken.is_mcp() {
            return;
        }
        tools = protocol::lists(server, &spoken, report).await;
        if spoken.is_legacy {
            protocol::revisions(server, report).await;
        }
        is_modern = spoken.is_modern;
    }
    _ = server.end_session().await;
    if !is_modern {
        _ = server.initialize(ProtocolVersion::LATEST_LEGACY.as_str(), Access::Usual).await;
    }
    let message = transport::message(is_modern);
    transport::variants(server, &message, report).await;
    transport::get(server, report).await;
    transport::slash(server, &message, report).await;
    transport::browsers(server, &message, report).await;
    if let Some(strange) = &server.strange_id {
        report.problem(
            "protocol",
            strange,
            "all clients: they wait for the response with their id",
            "repeat the id as it came",
        );
    }
    _ = server.end_session().await;
    let issuers = authorization::examine(server, first, &tools, report).await;
    let offsets: Vec<i64> = issuers.iter().flatten().filter_map(|issuer| issuer.clock_offset).collect();
    own::clock(first.clock_offset(), &offsets, report);
    authorization::clients(&server.url, issuers.as_deref(), report);
}

/// Sends a request twice, since the first may start the function; through redirects within the origin.
async fn reach(server: &mut Server, report: &mut Report) -> Option<Answer> {
    for _ in 0..=MAX_REDIRECTS {
        let first = match server.modern(method::SERVER_DISCOVER, json!({}), Access::Anonymous).await {
            Ok(first) => first,
            Err(error) => {
                let (found, clients, fix) = own::unreachable(&error, &server.url);
                report.problem("reach", found, clients, fix);
                return None;
            }
        };
        if first.status.is_redirection() {
            server.url = transport::redirect(&first, &server.url, report)?;
            continue;
        }
        match server.modern(method::SERVER_DISCOVER, json!({}), Access::Anonymous).await {
            Ok(second) => transport::time(first.took, second.took, report),
            Err(error) => {
                let found = format!("the second request failed: {}", network::cause(&error));
                report.problem("reach", found, "all clients", "try again");
            }
        }
        return Some(first);
    }
    report.problem(
        "front",
        format!("it redirects more than {MAX_REDIRECTS} times"),
        "all clients",
        "answer at this URL",
    );
    None
}

/// Loads the credentials, without a sign-in.
async fn identify(server: &mut Server, authorizer: Authorizer, report: &mut Report) {
    if let Authorizer::SigV4(signer) = &authorizer
        && let Err(error) = signer.check().await
    {
        let fix = "set AWS_PROFILE, or sign in with `aws sso login`: requests are not signed here";
        return report.problem("credentials", format!("{error:#}"), own::THIS_PROGRAM, fix);
    }
    match authorizer.token().await {
        Ok(Some(token)) => {
            own::token_times(&token.text, now(), report);
            match token.key {
                None => server.token = Some(token.text),
                Some(_) => {
                    let found =
                        "the token is bound to a key (DPoP) and is not sent: what is behind the sign-in is not checked";
                    report.note("token", found, own::THIS_PROGRAM, "use `mcpl tools URL` to see what is behind it");
                }
            }
        }
        Ok(None) => {}
        Err(error) => {
            let fix = "`mcpl login URL` signs in; see `--token-command`, if that is given";
            report.problem("token", format!("there is none to send: {error:#}"), own::THIS_PROGRAM, fix);
        }
    }
    server.authorizer = Some(authorizer);
}

/// Whether the response is that of the function, to `server/discover`, or to `initialize` if the former is unknown.
async fn front(server: &mut Server, discovered: &Answer, report: &mut Report) -> bool {
    let mut without = Report::default();
    if transport::front(discovered, &mut without) {
        return true;
    }
    let initialized = server.initialize(ProtocolVersion::LATEST_LEGACY.as_str(), Access::Usual).await;
    _ = server.end_session().await;
    if initialized.is_ok_and(|answer| answer.result().is_some()) {
        return true;
    }
    report.findings.append(&mut without.findings);
    false
}

fn without_token(server: &Server, discovered: &Answer, report: &mut Report) {
    if server.has_access() {
        let fix = "is it for this server, and still valid? The server's log says why it is rejected";
        report.problem(
            "token",
            format!("the server rejects what identifies you here ({})", discovered.status.as_u16()),
            own::THIS_PROGRAM,
            fix,
        );
    } else {
        let fix = "nothing to do; `mcpl login URL` signs in, and then `mcpl doctor URL` sees what stands behind it";
        report.note("protocol", "unknown: every request takes a token", "", fix);
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
