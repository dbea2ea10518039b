//! The network address of the caller, from the request context of an event.

use std::net::IpAddr;

use http::Request;
use serde::Deserialize;

use super::{
    RawRequestContext,
    member::{Member, Text},
};

/// The network address of the caller, as an extension of the request. Rate limits and open questions of
/// anonymous callers are counted by it.
///
/// It is the address of the connection as the platform has seen it: `requestContext.http.sourceIp` of a Function URL or an HTTP API,
/// `requestContext.identity.sourceIp` of a REST API. Behind a CDN it is the CDN's. The event of a load balancer has none. The header
/// `X-Forwarded-For` is not read, because callers can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceAddress(pub IpAddr);

/// `requestContext.identity` of a REST API.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawIdentity<'a> {
    #[serde(borrow, rename = "sourceIp")]
    source_ip: Member<Text<'a>>,
}

/// Returns the address in the context; `None` if there is none, or it is malformed.
pub(super) fn source_address(context: &RawRequestContext<'_>) -> Option<SourceAddress> {
    let text = match (&context.http, &context.identity) {
        (Member::Is(http), _) => &http.source_ip,
        (_, Member::Is(identity)) => &identity.source_ip,
        _ => return None,
    };
    match text {
        Member::Is(text) => text.0.parse().ok().map(SourceAddress),
        Member::Absent | Member::Other => None,
    }
}

/// Adds the address to the extensions of a request.
pub(super) fn with_address<B>(mut request: Request<B>, address: Option<SourceAddress>) -> Request<B> {
    if let Some(address) = address {
        request.extensions_mut().insert(address);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LambdaRequest;

    fn address(context: &str) -> Option<IpAddr> {
        let event = format!(r#"{{ "version": "2.0", "rawPath": "/mcp", "requestContext": {context} }}"#);
        let request = LambdaRequest::from_event(event.as_bytes()).unwrap().request;
        request.extensions().get().map(|SourceAddress(address)| *address)
    }

    #[test]
    fn the_address_is_that_of_the_connection() {
        for (text, expected) in [
            (r#""192.0.2.7""#, Some("192.0.2.7")),
            (r#""2001:DB8:0:0::1""#, Some("2001:db8::1")),
            (r#""::ffff:192.0.2.7""#, Some("::ffff:192.0.2.7")),
            (r#""192.0.2.7, 198.51.100.1""#, None),
            (r#""192.0.2.7:443""#, None),
            (r#""[2001:db8::1]""#, None),
            (r#""fe80::1%eth0""#, None),
            (r#""0300.0.2.7""#, None),
            (r#""""#, None),
            ("7", None),
            (r#"["192.0.2.7"]"#, None),
            ("null", None),
        ] {
            let context = format!(r#"{{ "http": {{ "method": "POST", "sourceIp": {text} }} }}"#);

            assert_eq!(address(&context), expected.map(|address| address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_forwarded_header_is_not_read() {
        for (file, expected) in [
            ("function-url.json", Some("192.0.2.7")),
            ("http-api-stage.json", Some("192.0.2.7")),
            ("rest-api.json", Some("192.0.2.7")),
            ("load-balancer.json", None),
        ] {
            let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
            let mut event: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            for headers in ["headers", "multiValueHeaders"] {
                if let Some(headers) = event[headers].as_object_mut() {
                    headers.remove("X-Forwarded-For");
                    headers.remove("x-forwarded-for");
                }
            }
            event["headers"]["x-forwarded-for"] = "198.51.100.1".into();

            let request = LambdaRequest::from_event(event.to_string().as_bytes()).unwrap().request;

            let address = request.extensions().get().map(|SourceAddress(address)| address.to_string());
            assert_eq!(address.as_deref(), expected, "{file}");
        }
    }
}
