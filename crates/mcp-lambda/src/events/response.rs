//! Responses in the format of each kind of event.

use aws_lambda_events::{
    alb::AlbTargetGroupResponse,
    apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse},
    encodings,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde::Serialize;

use super::EventSource;

/// A buffered response in the format that the source of the event expects. Serialize it to JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum EventResponse {
    /// For payload version 2.0.
    FunctionUrl(ApiGatewayV2httpResponse),
    /// For payload version 1.0.
    RestApi(ApiGatewayProxyResponse),
    /// For a load balancer.
    LoadBalancer(AlbTargetGroupResponse),
}

impl EventResponse {
    /// Converts a response with a complete body into the format of `source`. A body that is not UTF-8 is encoded as Base64.
    pub(crate) fn new(source: EventSource, response: Response<Bytes>) -> Self {
        let (mut parts, body) = response.into_parts();
        let status_code = i64::from(parts.status.as_u16());
        let body = match String::from_utf8(body.into()) {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(encodings::Body::Text(text)),
            Err(binary) => Some(encodings::Body::Binary(binary.into_bytes())),
        };
        let is_base64_encoded = matches!(body, Some(encodings::Body::Binary(_)));
        match source {
            EventSource::FunctionUrl => {
                let mut response = ApiGatewayV2httpResponse::default();
                response.cookies = take_cookies(&mut parts.headers);
                (response.status_code, response.headers, response.body) = (status_code, joined(parts.headers), body);
                response.is_base64_encoded = is_base64_encoded;
                Self::FunctionUrl(response)
            }
            EventSource::RestApi => {
                let mut response = ApiGatewayProxyResponse::default();
                (response.status_code, response.multi_value_headers, response.body) =
                    (status_code, parts.headers, body);
                response.is_base64_encoded = is_base64_encoded;
                Self::RestApi(response)
            }
            EventSource::LoadBalancer { multi_value } => {
                let mut response = AlbTargetGroupResponse::default();
                (response.status_code, response.body) = (status_code, body);
                response.is_base64_encoded = is_base64_encoded;
                response.status_description = Some(parts.status.to_string());
                if multi_value {
                    response.multi_value_headers = parts.headers;
                } else {
                    response.headers = joined(parts.headers);
                }
                Self::LoadBalancer(response)
            }
        }
    }
}

/// Removes and returns the cookies of a response: payload version 2.0 and streams carry them outside of the headers.
pub(crate) fn take_cookies(headers: &mut HeaderMap) -> Vec<String> {
    if !headers.contains_key(header::SET_COOKIE) {
        return Vec::new();
    }
    let cookies = headers.get_all(header::SET_COOKIE).iter();
    let cookies = cookies.filter_map(|cookie| cookie.to_str().ok().map(str::to_owned)).collect();
    headers.remove(header::SET_COOKIE);
    cookies
}

/// Joins the values of each header with a comma. Cookies cannot be joined: the last one is kept.
fn joined(headers: HeaderMap) -> HeaderMap {
    if headers.len() == headers.keys_len() {
        return headers;
    }
    let mut joined = HeaderMap::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let value = match (name == header::SET_COOKIE, values.last()) {
            (true, Some(last)) => last.to_vec(),
            _ => values.join(&b", "[..]),
        };
        // Valid values joined by a comma are valid.
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            joined.insert(name.clone(), value);
        }
    }
    joined
}

/// Hop-by-hop headers (RFC 9110, section 7.6.1), which the platform sets itself.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes hop-by-hop headers.
///
/// # Errors
///
/// When the response cannot be sent to `source` as JSON: its status is not that of a final response, a header value is not visible
/// ASCII, or the headers are too large.
pub(crate) fn sanitize_response<B>(source: EventSource, response: &mut Response<B>) -> Result<(), String> {
    let status = response.status();
    if !(200..=599).contains(&status.as_u16()) {
        return Err(format!("the status {} is not the status of a final response (200 to 599)", status.as_u16()));
    }
    let headers = response.headers_mut();
    // Few responses have one: comparing names costs less than looking up each.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    let (bytes, max_bytes) = (size_of(headers), source.max_header_bytes());
    if bytes > max_bytes {
        return Err(format!("the headers have {bytes} bytes; the limit is {max_bytes}"));
    }
    match headers.iter().find(|(_, value)| value.to_str().is_err()) {
        Some((name, _)) => Err(format!("the value of the header `{name}` is not visible ASCII: encode it")),
        None => Ok(()),
    }
}

/// The size of all names and values in bytes.
fn size_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The size of a buffered response as JSON in bytes, where quotes and control characters of the body are escaped.
pub(crate) fn encoded_bytes(headers: &HeaderMap, body: &str) -> usize {
    let escape = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    let escapes: usize = body.bytes().map(escape).sum();
    // An upper bound: names and values count twice, for multi-value headers and punctuation. 256 bytes for the other members.
    let header_bytes: usize = headers.iter().map(|(name, value)| 2 * (name.as_str().len() + value.len()) + 16).sum();
    body.len() + escapes + header_bytes + 256
}
