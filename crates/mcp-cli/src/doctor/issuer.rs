//! Checks of an issuer that a server names: its metadata and the capabilities that it lists.

use std::time::Duration;

use mcp_protocol::uri::SecureUrl;
use serde_json::Value;
use url::Url;

use super::{
    authorization::{Document, document},
    report::{Level, Report},
    server::Server,
    transport::CLAUDE_PATIENCE,
};
use crate::oauth::discovery::{issuer_places, reserved_parameter};

/// `software_id` in the metadata of `functions/authorization-server`.
const AUTHORIZATION_SERVER: &str = "mcp-authorization-server";

/// The metadata of an examined issuer.
pub(super) struct Issuer {
    pub(super) has_pkce: bool,
    pub(super) registers: bool,
    pub(super) takes_metadata_documents: bool,
    /// How far its clock is ahead of this machine's, in seconds.
    pub(super) clock_offset: Option<i64>,
}

/// Examines the metadata of an issuer (RFC 8414). `scopes` are those that the server requires.
pub(super) async fn examine(server: &Server, issuer: &str, scopes: &[&str], report: &mut Report) -> Option<Issuer> {
    let clients = "all clients that sign in";
    let Some(url) = Url::parse(issuer).ok().filter(|_| SecureUrl::parse(issuer).is_some()) else {
        let found = format!("`{issuer}` is no https URL");
        report.problem("issuer", found, clients, "set OIDC_ISSUER to the issuer's URL");
        return None;
    };
    let places = issuer_places(&url);
    let (mut found, mut reasons) = (None, Vec::new());
    for (index, place) in places.iter().enumerate() {
        match document(server, place, "issuer", report).await {
            (Document::Json(document), Some(answer)) => {
                found = Some((index, place, document, answer));
                break;
            }
            (Document::Other(what), _) => reasons.push(format!("{place} {what}")),
            _ => {}
        }
    }
    let Some((index, place, document, answer)) = found else {
        let found = match reasons.is_empty() {
            true => format!("{issuer} has no metadata"),
            false => format!("{issuer} has no metadata: {}", reasons.join("; ")),
        };
        report.problem("issuer", found, clients, "is it up, and is it written exactly as in its metadata?");
        return None;
    };
    if document["issuer"] != issuer {
        let own = document["issuer"].as_str().unwrap_or_default();
        report.problem(
            "issuer",
            format!("{place} says that it is {own}, not {issuer}"),
            clients,
            "write OIDC_ISSUER as it says",
        );
        return None;
    }
    if index > 0 {
        let clients = "clients of 2025-03-26 and 2025-06-18, which look for the document of RFC 8414 alone";
        report.note(
            "issuer",
            format!("{issuer} has no document at {}", places[0]),
            clients,
            "nothing, or let a proxy serve it there",
        );
    }
    let own = Issuer {
        has_pkce: lists(&document, "code_challenge_methods_supported", "S256"),
        registers: document["registration_endpoint"].is_string(),
        takes_metadata_documents: document["client_id_metadata_document_supported"] == true,
        clock_offset: answer.clock_offset(),
    };
    let how = match (own.takes_metadata_documents, own.registers) {
        (true, true) => "clients introduce themselves by a metadata document, or register themselves",
        (true, false) => "clients introduce themselves by a metadata document",
        (false, true) => "clients register themselves",
        (false, false) => "clients are registered by hand",
    };
    let software = match document["software_id"] == AUTHORIZATION_SERVER {
        true => format!(" ({AUTHORIZATION_SERVER})"),
        false => String::new(),
    };
    report.ok("issuer", format!("{issuer}{software}: {how}"));
    abilities(issuer, &document, &own, answer.took, report);
    endpoints(issuer, &document, index > 0, report);
    let granted = document["scopes_supported"].as_array();
    let unknown: Vec<&str> =
        scopes.iter().copied().filter(|scope| granted.is_some_and(|own| !own.iter().any(|own| own == scope))).collect();
    if !unknown.is_empty() {
        let found = format!("{issuer} does not list the scopes {}, which the server wants", unknown.join(", "));
        report.note(
            "issuer",
            found,
            "clients that ask for them: `invalid_scope`, unless it grants what it does not list",
            "create them at the issuer, or see OIDC_SCOPE_PREFIX",
        );
    }
    Some(own)
}

fn lists(document: &Value, name: &str, value: &str) -> bool {
    document[name].as_array().is_some_and(|list| list.iter().any(|own| own == value))
}

/// Examines the capabilities that an issuer lists.
fn abilities(issuer: &str, document: &Value, own: &Issuer, took: Duration, report: &mut Report) {
    if !own.has_pkce {
        // Some issuers support it without listing it (Cognito, Entra ID).
        let level = if document["code_challenge_methods_supported"].is_null() { Level::Note } else { Level::Problem };
        let found = format!("{issuer} does not say that it has PKCE");
        let clients = "clients that check it, as the specification requires: Claude, ChatGPT, mcpl (but for Cognito, Entra \
                       and `--assume-pkce`)";
        let fix = "its metadata must list code_challenge_methods_supported: S256";
        report.add("issuer", level, found, clients.to_owned(), fix.to_owned());
    }
    if !own.registers && !own.takes_metadata_documents {
        let clients = "clients that have no setting for a client id: a person registers the others";
        report.note(
            "issuer",
            format!("{issuer} neither registers clients nor takes metadata documents"),
            clients,
            "register a client, and give its id: `--client-id`",
        );
    }
    let has_list = |name: &str| document[name].is_array();
    if has_list("token_endpoint_auth_methods_supported")
        && !lists(document, "token_endpoint_auth_methods_supported", "none")
        && (own.registers || own.takes_metadata_documents)
    {
        let clients = "public clients (Claude, which takes a metadata document only with `none`)";
        report.note(
            "issuer",
            format!("{issuer} does not list the authentication method `none`"),
            clients,
            "let it take public clients with PKCE",
        );
    }
    if has_list("grant_types_supported") && !lists(document, "grant_types_supported", "refresh_token") {
        let clients = "all clients: people sign in again whenever a token ends";
        report.note(
            "issuer",
            format!("{issuer} does not list the grant `refresh_token`"),
            clients,
            "let it issue refresh tokens",
        );
    }
    if has_list("grant_types_supported") && !lists(document, "grant_types_supported", "authorization_code") {
        report.problem(
            "issuer",
            format!("{issuer} does not list the grant `authorization_code`"),
            "all clients that sign a person in",
            "let it have that grant",
        );
    }
    if took >= CLAUDE_PATIENCE {
        let found = format!("the metadata of {issuer} takes {} s", took.as_secs());
        report.problem("issuer", found, "Claude, which waits 10 s", "let it answer sooner");
    }
}

/// Examines the endpoints of an issuer and the members that clients validate.
fn endpoints(issuer: &str, document: &Value, is_openid: bool, report: &mut Report) {
    let validated = "clients of the TypeScript SDK, which validate the document, and all that sign in";
    let mut needed = vec!["authorization_endpoint", "token_endpoint", "response_types_supported"];
    if is_openid {
        needed.extend(["jwks_uri", "subject_types_supported", "id_token_signing_alg_values_supported"]);
    }
    let missing: Vec<&str> = needed.into_iter().filter(|name| document[*name].is_null()).collect();
    if !missing.is_empty() {
        let found = format!("the metadata of {issuer} lacks {}", missing.join(", "));
        report.problem("issuer", found, validated, "let the issuer list them");
    }
    for name in ["authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri"] {
        let Some(endpoint) = document[name].as_str() else { continue };
        if SecureUrl::parse(endpoint).is_none() {
            let found = format!("`{name}` of {issuer} is no https URL: {endpoint}");
            report.problem(
                "issuer",
                found,
                "all clients: a token, or a password, would be sent in the clear",
                "use https",
            );
        }
    }
    let reserved = document["authorization_endpoint"].as_str().and_then(reserved_parameter);
    if let Some(name) = reserved {
        let found = format!("`authorization_endpoint` of {issuer} sets `{name}`, which is the client's to set");
        report.problem(
            "issuer",
            found,
            "mcpl, which rejects it; others send the parameter twice",
            "take it out of the endpoint",
        );
    }
}
