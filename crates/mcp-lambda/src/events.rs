//! Lambda events to and from `http` types.
//!
//! Four kinds of caller send HTTP requests as events: Function URLs and HTTP APIs (payload version 2.0), REST APIs
//! (1.0) and load balancers. They are told apart by content. Only the members that matter here are read, so that a
//! surprise elsewhere in an event refuses nobody; the types of `aws_lambda_events` are used for what is sent back.

use std::{borrow::Cow, fmt};

use aws_lambda_events::{
    alb::AlbTargetGroupResponse,
    apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse},
    encodings,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::IamIdentity;

/// An HTTP request that came as an event.
#[derive(Debug)]
pub struct LambdaRequest {
    /// The request, with its body decoded.
    pub request: Request<Bytes>,
    /// Who sent it, which decides how the answer must look.
    pub source: EventSource,
    /// `requestContext.domainName` of a payload-2.0 event. A REST API's or a load balancer's name is not taken from
    /// the event, since there the caller chooses it.
    pub domain_name: Option<String>,
    /// Who signed the request, if the platform has verified a signature (payload 2.0 alone).
    pub iam: Option<IamIdentity>,
}

/// The kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSource {
    /// Payload version 2.0: a Function URL or an HTTP API.
    FunctionUrl,
    /// Payload version 1.0: a REST API.
    RestApi,
    /// A load balancer's target group.
    LoadBalancer {
        /// The target group has multi-value headers on, and reads only such in the answer.
        multi_value: bool,
    },
}

impl EventSource {
    /// The largest buffered answer, in bytes of the JSON that carries it: 6 MB for Lambda itself, 1 MB for a load
    /// balancer.
    pub(crate) fn max_response_bytes(self) -> usize {
        const MIB: usize = 1024 * 1024;
        match self {
            Self::FunctionUrl | Self::RestApi => 6 * MIB,
            Self::LoadBalancer { .. } => MIB,
        }
    }
}

/// Why an event is no request.
#[derive(Debug, PartialEq, Eq)]
pub enum EventError {
    /// Not an event that this function can be invoked with.
    Unknown(String),
    /// An HTTP event whose request is malformed; the caller gets a 400.
    BadRequest {
        /// Who sent it.
        source: EventSource,
        /// What is wrong.
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

impl LambdaRequest {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// When it is not an HTTP request, or its headers or body cannot be decoded.
    pub fn from_event(event: &[u8]) -> Result<Self, EventError> {
        let event: RawEvent<'_> = serde_json::from_slice(event).map_err(|error| {
            // Only the kind of mistake: the text of the error could repeat what a caller sent.
            EventError::Unknown(match error.classify() {
                serde_json::error::Category::Data => "this one has members of other types".to_owned(),
                _ => "this is not JSON".to_owned(),
            })
        })?;
        event.into_request()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent<'a> {
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
    #[serde(borrow, default)]
    raw_path: Option<Text<'a>>,
    #[serde(borrow, default)]
    path: Option<Text<'a>>,
    #[serde(borrow, default)]
    http_method: Option<Text<'a>>,
    #[serde(default)]
    headers: Option<Headers>,
    #[serde(default)]
    multi_value_headers: Option<Headers>,
    #[serde(borrow, default)]
    body: Option<Text<'a>>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
    #[serde(borrow, default)]
    request_context: Option<RawRequestContext<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequestContext<'a> {
    #[serde(borrow, default)]
    http: Option<RawHttp<'a>>,
    #[serde(borrow, default)]
    domain_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    stage: Option<Text<'a>>,
    #[serde(default)]
    elb: Option<serde::de::IgnoredAny>,
    /// Read only for a payload-2.0 event, and only if it has the shape that is looked for.
    #[serde(borrow, default)]
    authorizer: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAuthorizer {
    iam: IamIdentity,
}

#[derive(Deserialize)]
struct RawHttp<'a> {
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
}

/// A string that is borrowed from the event unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl RawEvent<'_> {
    fn into_request(self) -> Result<LambdaRequest, EventError> {
        let context = self.request_context.as_ref();
        let http = context.and_then(|context| context.http.as_ref());
        let source = if let (Some(_), Some("2.0") | None) = (http, self.version.as_ref().map(|text| text.0.as_ref())) {
            EventSource::FunctionUrl
        } else if context.is_some_and(|context| context.elb.is_some()) {
            EventSource::LoadBalancer { multi_value: self.multi_value_headers.is_some() }
        } else if context.is_some() && self.http_method.is_some() && self.path.is_some() {
            EventSource::RestApi
        } else {
            return Err(EventError::Unknown("this one has neither `requestContext.http` nor `httpMethod`".to_owned()));
        };
        let bad_request = |reason| EventError::BadRequest { source, reason };

        // `cargo lambda watch` puts `"httpMethod": "GET"` into every payload-2.0 event.
        let (method, path) = match source {
            EventSource::FunctionUrl => (http.and_then(|http| http.method.as_ref()), self.raw_path.as_ref()),
            EventSource::RestApi | EventSource::LoadBalancer { .. } => (self.http_method.as_ref(), self.path.as_ref()),
        };
        let method = method.and_then(|method| Method::from_bytes(method.0.as_bytes()).ok());
        let method = method.ok_or_else(|| bad_request("the request's method is no HTTP method"))?;
        let path = path.map_or("/", |path| path.0.as_ref());
        let path = match source {
            // An HTTP API's path begins with the name of its stage, except in the default one.
            EventSource::FunctionUrl => without_stage(path, context.and_then(|context| context.stage.as_ref())),
            EventSource::RestApi | EventSource::LoadBalancer { .. } => path,
        };

        let headers = match (self.multi_value_headers, self.headers) {
            (Some(headers), _) if !headers.map.is_empty() || headers.has_malformed => headers,
            (_, headers) => headers.unwrap_or_default(),
        };
        if headers.has_malformed {
            return Err(bad_request("the request has a malformed header"));
        }
        let body = self.body.map_or(Cow::Borrowed(""), |body| body.0);
        let body = match self.is_base64_encoded {
            Some(true) => {
                let decoded = BASE64_STANDARD.decode(body.as_bytes());
                decoded.map_err(|_| bad_request("the request's body is not valid Base64"))?.into()
            }
            Some(false) | None => Bytes::from(body.into_owned()),
        };

        let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
        let mut request = Request::builder().method(method).uri(path.as_ref()).body(body);
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers.map;
        }
        let request = request.map_err(|_| bad_request("the request's path is malformed"))?;
        // In the other events callers choose what stands there.
        let context = self.request_context.filter(|_| source == EventSource::FunctionUrl);
        let (domain_name, stage, authorizer) =
            context.map_or((None, None, None), |own| (own.domain_name, own.stage, own.authorizer));
        // The stages of an API share its name, and are not one server.
        let is_whole = stage.is_none_or(|stage| stage.0 == "$default");
        let domain_name = domain_name.filter(|_| is_whole).map(|name| name.0.into_owned());
        let authorizer = authorizer.and_then(|raw| serde_json::from_str::<RawAuthorizer>(raw.get()).ok());
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

/// Headers as events write them: each value a string, or, with multi-value headers, a list of strings.
#[derive(Default)]
struct Headers {
    map: HeaderMap,
    has_malformed: bool,
}

impl Headers {
    fn add(&mut self, name: &str, value: &str) {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => {
                self.map.append(name, value);
            }
            // Not dropped silently: an `Origin` that is not seen would not be checked.
            _ => self.has_malformed = true,
        }
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;

        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of headers")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Headers, M::Error> {
                let mut headers = Headers::default();
                while let Some(Text(name)) = entries.next_key()? {
                    entries.next_value_seed(Values { headers: &mut headers, name: &name })?;
                }
                Ok(headers)
            }
        }

        deserializer.deserialize_map(HeadersVisitor)
    }
}

/// Adds what a header has: a string, a list of strings, or nothing.
struct Values<'h> {
    headers: &'h mut Headers,
    name: &'h str,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's value or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.headers.add(self.name, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while let Some(Text(value)) = values.next_element()? {
            self.headers.add(self.name, &value);
        }
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A complete answer in the shape that the event's sender reads.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum EventResponse {
    /// For payload version 2.0.
    FunctionUrl(ApiGatewayV2httpResponse),
    /// For payload version 1.0.
    RestApi(ApiGatewayProxyResponse),
    /// For a load balancer.
    LoadBalancer(AlbTargetGroupResponse),
}

impl EventResponse {
    /// Turns a response with a whole body into what `source` reads. Bodies of ours are UTF-8 and need no Base64.
    pub(crate) fn new(source: EventSource, response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let status_code = i64::from(parts.status.as_u16());
        // A body of ours is text; one that is not could not be sent either way.
        let body = String::from_utf8_lossy(&body).into_owned();
        let body = (!body.is_empty()).then_some(encodings::Body::Text(body));
        match source {
            EventSource::FunctionUrl => {
                let mut response = ApiGatewayV2httpResponse::default();
                (response.status_code, response.headers, response.body) = (status_code, joined(&parts.headers), body);
                Self::FunctionUrl(response)
            }
            EventSource::RestApi => {
                let mut response = ApiGatewayProxyResponse::default();
                (response.status_code, response.multi_value_headers, response.body) =
                    (status_code, parts.headers, body);
                Self::RestApi(response)
            }
            EventSource::LoadBalancer { multi_value } => {
                let mut response = AlbTargetGroupResponse::default();
                (response.status_code, response.body) = (status_code, body);
                response.status_description = Some(parts.status.to_string());
                if multi_value {
                    response.multi_value_headers = parts.headers;
                } else {
                    response.headers = joined(&parts.headers);
                }
                Self::LoadBalancer(response)
            }
        }
    }
}

/// One value a name. Ours that can occur twice (`Vary`) are lists, which a comma joins.
fn joined(headers: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        // The parts are valid, and so is what a comma makes of them.
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            joined.insert(name.clone(), value);
        }
    }
    joined
}

/// The bytes that a whole body takes inside the JSON that carries it, where quotes and line ends are escaped.
pub(crate) fn carried_bytes(headers: &HeaderMap, body: &str) -> usize {
    let escapes = body.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n')).count();
    // Names and values twice over, for multi-value headers and punctuation; the rest of the envelope is small.
    let header_bytes: usize = headers.iter().map(|(name, value)| 2 * (name.as_str().len() + value.len()) + 16).sum();
    body.len() + escapes + header_bytes + 256
}
