//! Responses: the status, the JSON-RPC error code and the challenge of each result.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
#[cfg(feature = "auth")]
use mcp_auth::VerifyError;
use mcp_protocol::{ErrorObject, MalformedMessage, ProtocolVersion, RequestId, jsonrpc, meta};
use mcp_server::CallError;
use serde_json::json;

use crate::{Body, authentication::AuthError, era::Rejection};

/// The longest message of an error.
const MAX_MESSAGE_CHARS: usize = 500;
/// The longest URI in the data of an error.
const MAX_URI_CHARS: usize = 8 * 1024;

/// A rejection before dispatch.
pub(super) fn reject_before_dispatch(rejection: &Rejection, id: &RequestId) -> Response<Body> {
    let (status, error) = translate(&rejection.error, rejection.is_modern, "");
    error_body(status, Some(id), &error)
}

/// Maps each [`CallError`] to its HTTP status and JSON-RPC error. The specification allows no new codes from -32000 to -32019, and
/// reserves -32020 to -32099, so that errors without a standard code use the HTTP status as code.
#[deny(clippy::wildcard_enum_match_arm, reason = "a new error must get its own status")]
pub(super) fn translate(error: &CallError, is_modern: bool, request_id: &str) -> (StatusCode, ErrorObject) {
    let bad_request = if is_modern { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let not_found = if is_modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let object = |code| ErrorObject::new(code, shortened(&error.to_string()));
    match error {
        CallError::MethodNotFound(_) => (not_found, object(jsonrpc::METHOD_NOT_FOUND)),
        CallError::InvalidParams(_) | CallError::InvalidMeta(_) => (bad_request, object(jsonrpc::INVALID_PARAMS)),
        CallError::UnknownTool(_)
        | CallError::UnknownPrompt(_)
        | CallError::InvalidInput(_)
        | CallError::RequestState
        | CallError::InvalidCursor => (StatusCode::OK, object(jsonrpc::INVALID_PARAMS)),
        CallError::ResourceNotFound { uri } => {
            let code = if is_modern { jsonrpc::INVALID_PARAMS } else { jsonrpc::RESOURCE_NOT_FOUND };
            let data = json!({ "uri": clipped(uri, MAX_URI_CHARS) });
            (StatusCode::OK, object(code).with_data(data))
        }
        CallError::HeaderMismatch(_) => (StatusCode::BAD_REQUEST, object(jsonrpc::HEADER_MISMATCH)),
        CallError::MissingClientCapability(required) => {
            let data = json!({ "requiredCapabilities": required });
            (StatusCode::BAD_REQUEST, object(jsonrpc::MISSING_REQUIRED_CLIENT_CAPABILITY).with_data(data))
        }
        CallError::UnsupportedVersion { requested } => {
            let supported = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
            let data = json!({ "supported": supported, "requested": shortened(requested) });
            (StatusCode::BAD_REQUEST, object(jsonrpc::UNSUPPORTED_PROTOCOL_VERSION).with_data(data))
        }
        CallError::Unauthenticated { .. } => status_error(StatusCode::UNAUTHORIZED, error.to_string()),
        CallError::InsufficientScope { .. } | CallError::Forbidden => {
            status_error(StatusCode::FORBIDDEN, error.to_string())
        }
        CallError::Failed(_) => (StatusCode::OK, object(jsonrpc::INTERNAL_ERROR)),
        CallError::DeadlineExceeded => status_error(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
        CallError::TooLarge { .. } | CallError::Unavailable(_) | CallError::Internal => {
            let message = match request_id {
                "" => error.to_string(),
                id => format!("{error}; request id: {id}"),
            };
            (StatusCode::OK, ErrorObject::new(jsonrpc::INTERNAL_ERROR, message))
        }
    }
}

/// Truncates caller-supplied text: names and versions may be megabytes long.
fn shortened(text: &str) -> String {
    clipped(text, MAX_MESSAGE_CHARS)
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn status_error(status: StatusCode, message: impl Into<String>) -> (StatusCode, ErrorObject) {
    (status, ErrorObject::new(i64::from(status.as_u16()), message))
}

pub(super) fn error_response(status: StatusCode, id: Option<&RequestId>, message: impl Into<String>) -> Response<Body> {
    let (status, error) = status_error(status, message);
    error_body(status, id, &error)
}

pub(super) fn call_error_response(error: &CallError) -> Response<Body> {
    let (status, error) = translate(error, true, "");
    error_body(status, None, &error)
}

pub(super) fn invalid_request(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    error_body(status, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message))
}

/// The response to failed authentication. Details that the caller must not learn are only logged.
#[deny(clippy::wildcard_enum_match_arm, reason = "a new reason must get its own status")]
pub(super) fn auth_error_response(
    rejected: &AuthError,
    id: Option<&RequestId>,
    challenge: Option<String>,
) -> Response<Body> {
    let (status, message) = match rejected {
        AuthError::Unsigned => (StatusCode::FORBIDDEN, "the request has no verified AWS signature"),
        #[cfg(feature = "auth")]
        AuthError::Malformed => {
            (StatusCode::BAD_REQUEST, "send one Authorization header: `Bearer`, a space, the token")
        }
        #[cfg(feature = "auth")]
        AuthError::NotBearer => {
            (StatusCode::UNAUTHORIZED, "send a bearer token: other authorization schemes are not supported")
        }
        #[cfg(feature = "auth")]
        AuthError::Verification(VerifyError::Invalid(_)) => (StatusCode::UNAUTHORIZED, "the token is not valid here"),
        #[cfg(feature = "auth")]
        AuthError::Verification(VerifyError::NotAllowed) => {
            (StatusCode::FORBIDDEN, "this account may not use this server")
        }
        #[cfg(feature = "auth")]
        AuthError::Verification(VerifyError::KeysUnavailable { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be verified at the moment: try again later")
        }
        #[cfg(feature = "auth")]
        AuthError::NoPublicUrl => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the server's public URL is not known: report this to its operator")
        }
    };
    let (status, error) = status_error(status, message);
    #[cfg_attr(not(feature = "auth"), expect(unused_mut, reason = "only key fetching sets `Retry-After`"))]
    let mut response = challenged(status, id, error, challenge);
    #[cfg(feature = "auth")]
    if let AuthError::Verification(VerifyError::KeysUnavailable { retry_after }) = rejected {
        let seconds = retry_after.as_secs_f64().ceil().max(1.0);
        if let Ok(seconds) = HeaderValue::from_str(&format!("{seconds:.0}")) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
    }
    response
}

/// An error with its challenge, in the header and in the error's data, because a Function URL renames the header.
pub(super) fn challenged(
    status: StatusCode,
    id: Option<&RequestId>,
    error: ErrorObject,
    challenge: Option<String>,
) -> Response<Body> {
    let Some(challenge) = challenge else {
        return error_body(status, id, &error);
    };
    let error = error.with_data(json!({ meta::WWW_AUTHENTICATE: [challenge] }));
    let mut response = error_body(status, id, &error);
    if let Ok(value) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

pub(super) fn malformed_response(malformed: &MalformedMessage) -> Response<Body> {
    error_body(StatusCode::BAD_REQUEST, malformed.id.as_ref(), &malformed_error(malformed))
}

pub(super) fn malformed_message(malformed: &MalformedMessage) -> String {
    jsonrpc::error_response(malformed.id.as_ref(), &malformed_error(malformed))
}

fn malformed_error(malformed: &MalformedMessage) -> ErrorObject {
    ErrorObject::new(malformed.code, malformed.reason.clone())
}

/// The response to an internal fault, which is logged by the caller of this function.
pub(crate) fn internal_error(request_id: &str) -> Response<Body> {
    error_response(StatusCode::INTERNAL_SERVER_ERROR, None, format!("internal error; request id: {request_id}"))
}

/// The response to an event with a malformed HTTP request.
pub(crate) fn bad_request(reason: &str) -> Response<Body> {
    invalid_request(StatusCode::BAD_REQUEST, reason)
}

pub(super) fn not_found() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, None, "not found: the MCP endpoint is /mcp")
}

pub(super) fn not_acceptable(id: Option<&RequestId>) -> Response<Body> {
    error_response(StatusCode::NOT_ACCEPTABLE, id, "`Accept` must list application/json and text/event-stream")
}

pub(super) fn method_not_allowed(message: &'static str, allowed: &'static str) -> Response<Body> {
    let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED, None, message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The JSON-RPC error code of a response, as an extension of the response, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorCode(pub(super) i64);

pub(super) fn error_body(status: StatusCode, id: Option<&RequestId>, error: &ErrorObject) -> Response<Body> {
    let mut response = json_body(status, jsonrpc::error_response(id, error));
    response.extensions_mut().insert(ErrorCode(error.code));
    response
}

pub(super) fn json_body(status: StatusCode, message: String) -> Response<Body> {
    response(status, Some("application/json"), Body::whole(message))
}

/// The HTML page for browsers, with its security headers.
pub(super) fn html(page: String) -> Response<Body> {
    let mut response = response(StatusCode::OK, None, Body::whole(page));
    for (name, value) in mcp_page::HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// The response to HEAD: that to GET without its body.
pub(super) fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| Body::whole(Bytes::new()))
}

pub(super) fn event_stream(body: Body) -> Response<Body> {
    let mut response = response(StatusCode::OK, Some("text/event-stream"), body);
    // Proxies such as nginx must not buffer events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    response(status, None, Body::whole(Bytes::new()))
}

fn response(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
