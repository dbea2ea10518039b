//! An OAuth authorization server on a Function URL of its own: settings, the store in Postgres or Aurora DSQL, and the log. The server
//! itself is the crate `mcp-authorization-server`.
//!
//! The function serves no MCP requests: each path is one of the authorization server, or does not exist.

mod commands;
mod config;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Request, Response, StatusCode};
use mcp_authorization_server::{
    AuthorizationServer, MAX_BODY_BYTES, OAuthError, RefreshLifetimes, RequestContext, Settings, Upstream,
};
use mcp_lambda::{
    InitError, McpService, Server,
    postgres::{PostgresStore, Schema},
    transport::{Body, Invocation, PublicUrl, SourceAddress},
};
use sqlx::migrate::Migrator;

pub use config::Config;

/// The schema: the tables of the store, and no others.
pub static SCHEMA: Schema = Schema { postgres: Migrator::DEFAULT, dsql: Migrator::DEFAULT, grants: &[] };

/// Lifetime of access tokens.
const TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Builds the service. A database or an identity provider that does not respond is not an error: metadata and keys are served.
///
/// # Errors
///
/// When a secret cannot be read or is invalid, or no keys can be derived from the state key.
pub async fn service(config: Config) -> Result<McpService, InitError> {
    let Config {
        http,
        database,
        state_key,
        upstream,
        keys,
        keys_secret,
        resources,
        clients,
        registration,
        assertion_issuers,
        documents,
    } = config;
    let now = SystemTime::now();
    let unusable = |what: &str| InitError::new(format!("could not read {what}"));
    upstream.client_secret.get(now).await.map_err(|error| unusable("the client secret").with_source(error))?;
    keys.get(now).await.map_err(|error| unusable("the signing keys").with_source(error))?;
    let settings = Settings {
        resources,
        keys,
        upstream: Upstream::new(upstream)?,
        clients,
        registration,
        documents,
        token_lifetime: TOKEN_LIFETIME,
        refresh: RefreshLifetimes::default(),
    };
    let store = Arc::new(PostgresStore::new(database));
    let server = Server::new("authorization-server", env!("CARGO_PKG_VERSION"), ());
    let closed = Arc::clone(&store);
    let server = server.on_close(async move |_| closed.close().await);
    let service = McpService::new(server, http)?;
    let mut own = AuthorizationServer::new(settings, store, &state_key, service.key_loader())
        .map_err(|error| InitError::new("could not create the authorization server").with_source(error))?;
    if !assertion_issuers.is_empty() {
        own = own.trust_assertions_of(&assertion_issuers)?;
    }
    let own = Arc::new(own);
    let (commanded, keys_secret) = (Arc::clone(&own), keys_secret.map(Arc::new));
    let serve = tower::service_fn(move |request| serve(Arc::clone(&own), request));
    // In place of the MCP endpoint, not around it.
    let service = service.layer(tower::layer::layer_fn(move |_| serve.clone()));
    Ok(service.command(commands::NAME, move |command, invocation| {
        commands::run(Arc::clone(&commanded), keys_secret.clone(), command, invocation)
    }))
}

/// Serves a request, and logs it.
async fn serve(server: Arc<AuthorizationServer>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let begin = Instant::now();
    let invocation = request.extensions().get::<Invocation>();
    let request_id = invocation.map(|own| own.request_id.clone()).unwrap_or_default();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = respond(&server, request).await;
    let status = response.status();
    let path = logged_path(&path, status);
    let error = response.extensions().get::<OAuthError>();
    let count = |statuses: &[StatusCode]| statuses.contains(&status).then_some(1_u64);
    tracing::info!(
        request_id,
        method = method.as_str(),
        path,
        status = status.as_u16(),
        error_code = error.map(|own| own.code.as_str()),
        reason = error.map(|own| own.description),
        histogram.duration_ms = begin.elapsed().as_secs_f64() * 1000.0,
        monotonic_counter.faults = count(&[StatusCode::INTERNAL_SERVER_ERROR]),
        monotonic_counter.unavailable_calls = count(&[StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]),
        "a request was handled"
    );
    Ok(response)
}

async fn respond(server: &AuthorizationServer, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // The platform did not set the name in the request: there is no issuer.
    let Some(issuer) = parts.extensions.get::<PublicUrl>().cloned() else {
        return empty(StatusCode::MISDIRECTED_REQUEST);
    };
    let body = body.bytes().await;
    if body.len() > MAX_BODY_BYTES {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let deadline = parts.extensions.get().and_then(Invocation::answer_by);
    let address = parts.extensions.get().map(|SourceAddress(address)| *address);
    let context = RequestContext { issuer: issuer.as_str(), address, now: SystemTime::now(), deadline };
    server.handle(&Request::from_parts(parts, body), &context).await.map(Body::whole)
}

/// Returns the path for the log: without one that may be any text, because the request was rejected before its path was compared.
fn logged_path(path: &str, status: StatusCode) -> &str {
    match status {
        StatusCode::NOT_FOUND | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::MISDIRECTED_REQUEST => "",
        _ => path,
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_may_be_any_text_is_not_logged() {
        for status in [404, 413, 421] {
            assert_eq!(logged_path("/a secret", StatusCode::from_u16(status).unwrap()), "", "{status}");
        }
        assert_eq!(logged_path("/token", StatusCode::BAD_REQUEST), "/token");
    }
}
