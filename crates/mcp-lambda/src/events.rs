//! Conversion between Lambda events and `http` types.
//!
//! HTTP requests arrive as events of Function URLs and HTTP APIs (payload version 2.0), REST APIs (1.0) and load balancers. The
//! kind is detected from the members of the event. Only the members that are needed are deserialized, so that an unexpected
//! value in another member does not fail the request. Responses use the types of `aws_lambda_events`.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, header};
use mcp_protocol::json;
use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::IamIdentity;

mod headers;
mod member;
mod query;
mod response;
#[cfg(any(feature = "limits", feature = "store"))]
mod source_address;

use headers::Headers;
use member::{FromMember, Member, Text};
use query::{Cookies, Parameters};
pub use response::EventResponse;
pub(crate) use response::{encoded_bytes, sanitize_response, take_cookies};
#[cfg(any(feature = "limits", feature = "store"))]
use source_address::RawIdentity;
#[cfg(any(feature = "limits", feature = "store"))]
pub use source_address::SourceAddress;

/// An HTTP request that was received as a Lambda event. Made with [`from_event`](Self::from_event).
#[derive(Debug)]
pub struct LambdaRequest {
    /// The request, with its body decoded.
    pub request: Request<Bytes>,
    /// The kind of event, which determines the format of the response.
    pub source: EventSource,
    /// `requestContext.domainName` of a payload-2.0 event. `None` for REST APIs and load balancers, because the caller chooses the
    /// name in their events.
    pub domain_name: Option<String>,
    /// The IAM identity of the caller, if the platform has verified a signature (payload 2.0 only).
    pub iam: Option<IamIdentity>,
}

/// The kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// Payload version 2.0: a Function URL or an HTTP API.
    FunctionUrl,
    /// Payload version 1.0: a REST API.
    RestApi,
    /// A load balancer's target group.
    LoadBalancer {
        /// Multi-value headers are enabled in the target group, which then expects them in the response too.
        multi_value: bool,
    },
}

impl EventSource {
    /// The largest buffered response, in bytes of its JSON: 6 MiB for Lambda itself, 1 MiB for a load balancer.
    pub(crate) fn max_response_bytes(self) -> usize {
        const MIB: usize = 1024 * 1024;
        match self {
            Self::FunctionUrl | Self::RestApi => 6 * MIB,
            Self::LoadBalancer { .. } => MIB,
        }
    }

    /// The largest headers of a response, in bytes of their names and values: 32 KiB for a load balancer, which responds with 502
    /// above that. For the others, the same limit as for the headers of a request.
    pub(crate) fn max_header_bytes(self) -> usize {
        const KIB: usize = 1024;
        match self {
            Self::FunctionUrl | Self::RestApi => 64 * KIB,
            Self::LoadBalancer { .. } => 32 * KIB,
        }
    }
}

/// Why an event cannot be converted into an HTTP request.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The event is of a kind that is not supported. The invocation fails.
    Unknown(String),
    /// The HTTP request in the event is malformed. The caller gets status 400.
    BadRequest {
        /// The kind of event.
        source: EventSource,
        /// The reason, which is sent to the caller.
        reason: &'static str,
    },
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(reason) => write!(
                f,
                "expected the event of a Function URL, an API Gateway HTTP API (payload 2.0) or REST API (payload \
                 1.0), or a load balancer; {reason}"
            ),
            Self::BadRequest { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for EventError {}

impl EventError {
    fn unexpected_member_type() -> Self {
        Self::Unknown("this one has members of other types".to_owned())
    }
}

impl LambdaRequest {
    /// Parses the JSON of an event, decodes its body, and limits its headers (256, with 64 KiB) and query parameters.
    ///
    /// # Errors
    ///
    /// [`EventError::Unknown`] when the event is not an HTTP request; [`EventError::BadRequest`] when its headers, query or body
    /// cannot be decoded, or exceed the limits.
    pub fn from_event(event: &[u8]) -> Result<Self, EventError> {
        // Without the error of `serde_json`, which may quote caller-supplied data.
        let not_json = |_| EventError::Unknown("this is not JSON".to_owned());
        // Unbounded JSON: headers and query are bounded, and the other members are borrowed or of fixed size.
        match serde_json::from_slice::<Member<RawEvent<'_>>>(event).map_err(not_json)? {
            Member::Is(event) => event.into_request(),
            Member::Absent | Member::Other => Err(EventError::unexpected_member_type()),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawEvent<'a> {
    #[serde(borrow)]
    version: Member<Text<'a>>,
    #[serde(borrow)]
    raw_path: Member<Text<'a>>,
    #[serde(borrow)]
    path: Member<Text<'a>>,
    #[serde(borrow)]
    raw_query_string: Member<Text<'a>>,
    query_string_parameters: Member<Parameters>,
    multi_value_query_string_parameters: Member<Parameters>,
    #[serde(borrow)]
    http_method: Member<Text<'a>>,
    headers: Member<Headers>,
    multi_value_headers: Member<Headers>,
    cookies: Member<Cookies>,
    #[serde(borrow)]
    body: Member<Text<'a>>,
    is_base64_encoded: Member<bool>,
    #[serde(borrow)]
    request_context: Member<RawRequestContext<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRequestContext<'a> {
    #[serde(borrow)]
    http: Member<RawHttp<'a>>,
    #[serde(borrow)]
    domain_name: Member<Text<'a>>,
    #[cfg(any(feature = "limits", feature = "store"))]
    #[serde(borrow)]
    identity: Member<RawIdentity<'a>>,
    #[serde(borrow)]
    stage: Member<Text<'a>>,
    elb: Option<IgnoredAny>,
    /// Parsed only for a payload-2.0 event, and ignored if it has no `iam`.
    #[serde(borrow)]
    authorizer: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAuthorizer {
    iam: IamIdentity,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawHttp<'a> {
    #[serde(borrow)]
    method: Member<Text<'a>>,
    #[cfg(any(feature = "limits", feature = "store"))]
    #[serde(borrow, rename = "sourceIp")]
    source_ip: Member<Text<'a>>,
}

/// Implements `FromMember` for structs that are objects in an event.
macro_rules! from_map {
    ($($name:ident),*) => {$(
        impl<'de: 'a, 'a> FromMember<'de> for $name<'a> {
            fn from_map<M: MapAccess<'de>>(map: M) -> Result<Option<Self>, M::Error> {
                Self::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }
        }
    )*};
}

from_map!(RawEvent, RawRequestContext, RawHttp);
#[cfg(any(feature = "limits", feature = "store"))]
from_map!(RawIdentity);

impl RawEvent<'_> {
    fn into_request(self) -> Result<LambdaRequest, EventError> {
        let context = self.request_context.read()?;
        let has_context = context.is_some();
        let context = context.unwrap_or_default();
        #[cfg(any(feature = "limits", feature = "store"))]
        let address = source_address::source_address(&context);
        let RawRequestContext { http, domain_name, stage, elb, authorizer, .. } = context;
        let (http, domain_name, stage) = (http.read()?, domain_name.read()?, stage.read()?);
        let (version, raw_path, path) = (self.version.read()?, self.raw_path.read()?, self.path.read()?);
        let (http_method, body, is_base64) =
            (self.http_method.read()?, self.body.read()?, self.is_base64_encoded.read()?);
        let (headers, multi_value_headers) = (self.headers.read()?, self.multi_value_headers.read()?);

        let source = if let (Some(_), Some("2.0") | None) = (&http, version.as_ref().map(|text| text.0.as_ref())) {
            EventSource::FunctionUrl
        } else if elb.is_some() {
            EventSource::LoadBalancer { multi_value: multi_value_headers.is_some() }
        } else if has_context && http_method.is_some() && path.is_some() {
            EventSource::RestApi
        } else {
            return Err(EventError::Unknown("this one has neither `requestContext.http` nor `httpMethod`".to_owned()));
        };
        let bad_request = |reason| EventError::BadRequest { source, reason };

        // `cargo lambda watch` puts `"httpMethod": "GET"` into every payload-2.0 event.
        let (method, path) = match source {
            EventSource::FunctionUrl => (http.map(|http| http.method.read()).transpose()?.flatten(), raw_path),
            EventSource::RestApi | EventSource::LoadBalancer { .. } => (http_method, path),
        };
        let method = method.and_then(|method| Method::from_bytes(method.0.as_bytes()).ok());
        let method = method.ok_or_else(|| bad_request("the request's method is not a valid HTTP method"))?;
        let path = path.as_ref().map_or("/", |path| path.0.as_ref());
        let path = match source {
            // In an HTTP API, the path begins with the stage name, except for the default stage.
            EventSource::FunctionUrl => without_stage(path, stage.as_ref()),
            EventSource::RestApi | EventSource::LoadBalancer { .. } => path,
        };

        let mut headers = match (multi_value_headers, headers) {
            (Some(headers), _) if !headers.map.is_empty() || headers.has_malformed || headers.exceeds_limits => headers,
            (_, headers) => headers.unwrap_or_default(),
        };
        if source == EventSource::FunctionUrl
            && let Some(Cookies(cookies)) = self.cookies.read()?
        {
            match cookies.as_deref() {
                Some("") => {}
                Some(cookies) => {
                    // The platform sets either `cookies` or the header.
                    headers.map.remove(header::COOKIE);
                    headers.add(header::COOKIE.as_str(), cookies);
                }
                None => headers.has_malformed = true,
            }
        }
        if headers.exceeds_limits {
            return Err(bad_request("the request has too many headers: at most 256 with 64 KiB in all are allowed"));
        }
        if headers.has_malformed {
            return Err(bad_request("the request has a malformed header"));
        }
        let body = body.map_or(Cow::Borrowed(""), |body| body.0);
        let body = match is_base64 {
            Some(true) => {
                let decoded = BASE64_STANDARD.decode(body.as_bytes());
                decoded.map_err(|_| bad_request("the request's body is not valid Base64"))?.into()
            }
            Some(false) | None => Bytes::from(body.into_owned()),
        };

        if path.contains(['?', '#']) {
            return Err(bad_request("the request's path has a `?` or `#`"));
        }
        let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
        let query = match source {
            EventSource::FunctionUrl => self.raw_query_string.read()?.map_or(Cow::Borrowed(""), query::encode_raw),
            EventSource::RestApi | EventSource::LoadBalancer { .. } => {
                let several = self.multi_value_query_string_parameters.read()?;
                let parameters = several.or(self.query_string_parameters.read()?).unwrap_or_default();
                let query = parameters.query(source);
                Cow::Owned(query.ok_or_else(|| bad_request("the request's query string is malformed or too long"))?)
            }
        };
        let target = if query.is_empty() { path } else { Cow::Owned(format!("{path}?{query}")) };
        let mut request = Request::builder().method(method).uri(target.as_ref()).body(body);
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers.map;
        }
        let request = request.map_err(|_| bad_request("the request's path or query string is malformed"))?;
        #[cfg(any(feature = "limits", feature = "store"))]
        let request = source_address::with_address(request, address);
        if source != EventSource::FunctionUrl {
            // In these events, the caller controls the domain name and the authorizer.
            return Ok(LambdaRequest { request, source, domain_name: None, iam: None });
        }
        // Several stages of an API share one domain name, but are different servers.
        let is_whole = stage.is_none_or(|stage| stage.0 == "$default");
        let domain_name = domain_name.filter(|_| is_whole).map(|name| name.0.into_owned());
        let authorizer = authorizer.and_then(|raw| json::borrow::<RawAuthorizer>(raw.get()).ok());
        let iam = authorizer.map(|authorizer| authorizer.iam).filter(|iam| !iam.user_arn.is_empty());
        Ok(LambdaRequest { request, source, domain_name, iam })
    }
}

fn without_stage<'a>(path: &'a str, stage: Option<&Text<'_>>) -> &'a str {
    let stage = stage.map(|stage| stage.0.as_ref()).filter(|stage| *stage != "$default");
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    match rest {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}
