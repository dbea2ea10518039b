//! HTTP responses.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{ErrorCode, OAuthError};

/// A response with a complete body.
pub(crate) type HttpResponse = Response<Bytes>;

/// Creates a JSON response that is not cached.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> HttpResponse {
    let mut response = response(status, body.to_string());
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

/// Creates an error response for a program (RFC 6749, section 5.2). The error is an extension of the response, for the log.
pub(crate) fn error_response(error: &OAuthError) -> HttpResponse {
    let status = match error.code {
        ErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
        ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = json!({ "error": error.code.as_str(), "error_description": error.description });
    let mut response = json_response(status, &body);
    response.extensions_mut().insert(error.clone());
    if status == StatusCode::UNAUTHORIZED {
        set(&mut response, header::WWW_AUTHENTICATE, r#"Basic realm="token endpoint""#);
    }
    response
}

/// Creates an error response to a program that has reached a limit of an hour.
pub(crate) fn too_many_requests(error: &OAuthError) -> HttpResponse {
    let mut response = error_response(error);
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    set(&mut response, header::RETRY_AFTER, "3600");
    response
}

/// Creates a redirect of the browser, which uses GET (RFC 9700, section 4.12: not 307). `None` if the URL is not a header value.
pub(crate) fn redirect(url: &str) -> Option<HttpResponse> {
    let location = HeaderValue::try_from(url).ok()?;
    let mut response = response(StatusCode::SEE_OTHER, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// Creates a response with a status and no type. It is neither cached, nor is its URL sent to other sites.
pub(crate) fn response(status: StatusCode, body: String) -> HttpResponse {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// Allows the response to be read by a client in any web page. Such requests have no cookies.
pub(crate) fn allow_any_origin(response: &mut HttpResponse) {
    set(response, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
}

/// Creates the response to a CORS preflight.
pub(crate) fn preflight(methods: &'static str) -> HttpResponse {
    let mut response = response(StatusCode::NO_CONTENT, String::new());
    set(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    set(&mut response, header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, mcp-protocol-version");
    set(&mut response, header::ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

/// Creates the response to an unsupported method.
pub(crate) fn method_not_allowed(methods: &'static str) -> HttpResponse {
    let mut response = response(StatusCode::METHOD_NOT_ALLOWED, String::new());
    set(&mut response, header::ALLOW, methods);
    response
}

pub(crate) fn set(response: &mut HttpResponse, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
