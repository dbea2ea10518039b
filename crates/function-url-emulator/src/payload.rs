//! Conversion of HTTP requests to events, and of function results to HTTP responses.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::Front;

/// Maximum size of an event or buffered response, in bytes of JSON (Lambda quotas, "Invocation payload").
pub(crate) const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Maximum size of a body behind a load balancer, in bytes (Elastic Load Balancing, "Lambda functions as targets",
/// Limits).
const MAX_LOAD_BALANCER_BYTES: usize = 1024 * 1024;

/// Hop-by-hop headers (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Members of an event in addition to the request.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `requestContext.requestId`.
    pub request_id: String,
    /// `requestContext.domainName`: host name of the URL.
    pub domain_name: String,
    /// Value of the header `x-amzn-trace-id`.
    pub trace_id: String,
    /// IP address of the client.
    pub source_ip: String,
}

impl Front {
    pub(crate) fn max_bytes(self) -> usize {
        match self {
            Self::FunctionUrl | Self::RestApi => MAX_PAYLOAD_BYTES,
            Self::LoadBalancer { .. } => MAX_LOAD_BALANCER_BYTES,
        }
    }

    /// Returns whether the limit applies to the body (load balancer) instead of the event (others).
    pub(crate) fn limits_body(self) -> bool {
        matches!(self, Self::LoadBalancer { .. })
    }

    /// Converts a request to an event.
    pub fn event(self, request: &Request<Bytes>, envelope: &Envelope) -> Value {
        let mut headers = forwarded_headers(request.headers(), envelope);
        let method = request.method().as_str();
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let (body, is_base64) = encode_body(request.headers().get(header::CONTENT_TYPE), request.body());
        match self {
            Self::FunctionUrl => {
                let cookies: Vec<String> = all(&headers, &header::COOKIE).iter().flat_map(|c| split(c, ';')).collect();
                headers.remove(header::COOKIE);
                let mut event = json!({
                    "version": "2.0",
                    "routeKey": "$default",
                    "rawPath": path,
                    "rawQueryString": query,
                    "headers": joined(&headers),
                    "requestContext": {
                        "accountId": "anonymous",
                        "apiId": "emulator",
                        "domainName": envelope.domain_name,
                        "domainPrefix": envelope.domain_name.split('.').next(),
                        "http": {
                            "method": method,
                            "path": path,
                            "protocol": "HTTP/1.1",
                            "sourceIp": envelope.source_ip,
                            "userAgent": headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()),
                        },
                        "requestId": envelope.request_id,
                        "routeKey": "$default",
                        "stage": "$default",
                        "time": common_log_time(),
                        "timeEpoch": epoch_ms(),
                    },
                    "isBase64Encoded": is_base64,
                });
                if !cookies.is_empty() {
                    event["cookies"] = json!(cookies);
                }
                if !query.is_empty() {
                    event["queryStringParameters"] = json!(query_parameters(query));
                }
                if !request.body().is_empty() {
                    event["body"] = json!(body);
                }
                event
            }
            Self::RestApi => json!({
                "resource": "/{proxy+}",
                "path": path,
                "httpMethod": method,
                "headers": last(&headers),
                "multiValueHeaders": lists(&headers),
                "queryStringParameters": (!query.is_empty()).then(|| query_parameters(query)),
                "multiValueQueryStringParameters": (!query.is_empty()).then(|| query_lists(query)),
                "pathParameters": { "proxy": path.trim_start_matches('/') },
                "stageVariables": null,
                "requestContext": {
                    "accountId": "123456789012",
                    "apiId": "emulator",
                    "domainName": envelope.domain_name,
                    "httpMethod": method,
                    "identity": { "sourceIp": envelope.source_ip },
                    "path": format!("/prod{path}"),
                    "protocol": "HTTP/1.1",
                    "requestId": envelope.request_id,
                    "requestTimeEpoch": epoch_ms(),
                    "resourcePath": "/{proxy+}",
                    "stage": "prod",
                },
                "body": (!request.body().is_empty()).then_some(body),
                "isBase64Encoded": is_base64,
            }),
            Self::LoadBalancer { multi_value } => {
                let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/emulator/0123456789abcdef";
                let mut event = json!({
                    "requestContext": { "elb": { "targetGroupArn": arn } },
                    "httpMethod": method,
                    "path": path,
                    "body": body,
                    "isBase64Encoded": is_base64,
                });
                if multi_value {
                    event["multiValueHeaders"] = lists(&headers);
                    event["multiValueQueryStringParameters"] = json!(query_lists(query));
                } else {
                    event["headers"] = last(&headers);
                    event["queryStringParameters"] = json!(query_parameters(query));
                }
                event
            }
        }
    }

    /// Converts a buffered result to a response. `Err` is the reason why the result is invalid.
    pub(crate) fn response(self, result: &[u8]) -> Result<Response<Bytes>, String> {
        let parsed: Option<Value> = serde_json::from_slice(result).ok();
        let structured = parsed.as_ref().filter(|value| value.get("statusCode").is_some());
        let Some(result_json) = structured else {
            return match self {
                // "Lambda infers the response format": a result without `statusCode` is the body of a 200.
                Self::FunctionUrl => {
                    let body = match parsed {
                        Some(Value::String(text)) => Bytes::from(text),
                        _ => Bytes::copy_from_slice(result),
                    };
                    let mut response = Response::new(body);
                    let content_type = HeaderValue::from_static("application/json");
                    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                    Ok(response)
                }
                Self::RestApi | Self::LoadBalancer { .. } => Err("the result has no statusCode".to_owned()),
            };
        };
        let status = result_json["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status =
            status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or("statusCode is not an HTTP status")?;
        let headers = self.response_headers(result_json)?;
        let text = result_json["body"].as_str().unwrap_or_default();
        let body = match result_json["isBase64Encoded"].as_bool() {
            Some(true) => BASE64_STANDARD.decode(text).map_err(|error| error.to_string())?,
            _ => text.as_bytes().to_vec(),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn response_headers(self, result: &Value) -> Result<HeaderMap, String> {
        let multi_value = match self {
            // Supports `headers` only; the function joins several values of a name.
            Self::FunctionUrl => false,
            Self::RestApi => true,
            Self::LoadBalancer { multi_value } => multi_value,
        };
        let mut headers = HeaderMap::new();
        if !(multi_value && matches!(self, Self::LoadBalancer { .. })) {
            for (name, value) in result["headers"].as_object().into_iter().flatten() {
                add(&mut headers, name, value)?;
            }
        }
        if multi_value {
            for (name, values) in result["multiValueHeaders"].as_object().into_iter().flatten() {
                for value in values.as_array().into_iter().flatten() {
                    add(&mut headers, name, value)?;
                }
            }
        }
        // Only payload version 2.0 has this member.
        let cookies = result["cookies"].as_array().filter(|_| matches!(self, Self::FunctionUrl));
        for cookie in cookies.into_iter().flatten() {
            add(&mut headers, "set-cookie", cookie)?;
        }
        Ok(headers)
    }

    /// Drops hop-by-hop headers, and renames the header `WWW-Authenticate` except behind a load balancer.
    pub(crate) fn finish_headers(self, headers: &mut HeaderMap) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        headers.remove(header::CONTENT_LENGTH);
        if !matches!(self, Self::LoadBalancer { .. }) {
            for value in all_raw(headers, &header::WWW_AUTHENTICATE) {
                headers.append("x-amzn-remapped-www-authenticate", value);
            }
            headers.remove(header::WWW_AUTHENTICATE);
        }
    }
}

fn add(headers: &mut HeaderMap, name: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
    let value = HeaderValue::from_str(&text).map_err(|_| format!("the value of `{name}` is not a header value"))?;
    headers.append(name, value);
    Ok(())
}

fn forwarded_headers(headers: &HeaderMap, envelope: &Envelope) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    let own = [
        ("host", envelope.domain_name.as_str()),
        ("x-amzn-trace-id", envelope.trace_id.as_str()),
        ("x-forwarded-for", envelope.source_ip.as_str()),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ];
    for (name, value) in own {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Keeps text bodies. Encodes bodies with another content type, or that are not UTF-8, as Base64.
fn encode_body(content_type: Option<&HeaderValue>, body: &[u8]) -> (String, bool) {
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = media_type.starts_with("text/")
        || matches!(media_type.as_str(), "application/json" | "application/xml" | "application/javascript");
    match std::str::from_utf8(body) {
        Ok(text) if is_text || body.is_empty() => (text.to_owned(), false),
        _ => (BASE64_STANDARD.encode(body), true),
    }
}

fn all_raw(headers: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

fn all(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

fn split(text: &str, separator: char) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Returns headers with values joined by commas. The names are already lower-case.
fn joined(headers: &HeaderMap) -> Value {
    headers.keys().map(|name| (name.to_string(), json!(all(headers, name).join(",")))).collect()
}

fn last(headers: &HeaderMap) -> Value {
    headers.keys().map(|name| (name.to_string(), json!(all(headers, name).last()))).collect()
}

fn lists(headers: &HeaderMap) -> Value {
    headers.keys().map(|name| (name.to_string(), json!(all(headers, name)))).collect()
}

fn query_parameters(query: &str) -> serde_json::Map<String, Value> {
    let mut parameters = serde_json::Map::new();
    for (name, value) in split(query, '&').iter().map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match parameters.get_mut(name) {
            Some(Value::String(values)) => values.extend([",", value]),
            _ => drop(parameters.insert(name.to_owned(), json!(value))),
        }
    }
    parameters
}

fn query_lists(query: &str) -> serde_json::Map<String, Value> {
    let mut lists = serde_json::Map::new();
    for (name, value) in split(query, '&').iter().map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match lists.get_mut(name) {
            Some(Value::Array(values)) => values.push(json!(value)),
            _ => drop(lists.insert(name.to_owned(), json!([value]))),
        }
    }
    lists
}

/// Returns the current time in UTC, such as `22/Nov/2026:12:00:00 +0000`.
fn common_log_time() -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = epoch_ms() / 1000;
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that a leap day is the last day of its year ("days from civil", H. Hinnant).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u128::from(month < 2);
    let name = MONTHS.get(usize::try_from(month).unwrap_or_default()).copied().unwrap_or_default();
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    format!("{day:02}/{name}/{year}:{hours:02}:{minutes:02}:{seconds:02} +0000")
}

fn epoch_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            request_id: "req".to_owned(),
            domain_name: "abc.lambda-url.eu-west-1.on.aws".to_owned(),
            trace_id: "Root=1-2-3".to_owned(),
            source_ip: "192.0.2.1".to_owned(),
        }
    }

    fn request(body: &'static [u8]) -> Request<Bytes> {
        Request::post("/mcp?a=1&b=2&a=3")
            .header("Content-Type", "application/json")
            .header("X-Two", "one")
            .header("x-two", "two")
            .header("cookie", "c=1; d=2")
            .header("connection", "keep-alive")
            .header("host", "evil.example")
            .body(Bytes::from_static(body))
            .unwrap()
    }

    #[test]
    fn function_url_events_have_payload_version_2() {
        let event = Front::FunctionUrl.event(&request(b"{}"), &envelope());

        assert_eq!(event["version"], "2.0");
        assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/mcp"), &json!("a=1&b=2&a=3")));
        assert_eq!(event["headers"]["x-two"], "one,two", "names are lower-cased and values joined");
        assert_eq!(event["headers"].get("cookie"), None);
        assert_eq!(event["cookies"], json!(["c=1", "d=2"]));
        assert_eq!(event["headers"].get("connection"), None);
        assert_eq!(event["headers"]["host"], "abc.lambda-url.eu-west-1.on.aws", "the client does not control it");
        assert_eq!(event["queryStringParameters"], json!({ "a": "1,3", "b": "2" }));
        assert_eq!(event["requestContext"]["http"]["method"], "POST");
        assert_eq!(event["requestContext"]["domainName"], "abc.lambda-url.eu-west-1.on.aws");
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{}"), &json!(false)));
    }

    #[test]
    fn binary_bodies_are_encoded() {
        let not_utf8 = Front::FunctionUrl.event(&request(b"\xff\x00"), &envelope());
        let mut other_type = request(b"plain");
        other_type.headers_mut().insert("content-type", HeaderValue::from_static("application/octet-stream"));
        let other_type = Front::FunctionUrl.event(&other_type, &envelope());

        assert_eq!((&not_utf8["body"], &not_utf8["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        assert_eq!((&other_type["body"], &other_type["isBase64Encoded"]), (&json!("cGxhaW4="), &json!(true)));
    }

    #[test]
    fn result_without_status_is_the_body_of_a_200() {
        let text = Front::FunctionUrl.response(br#""hello""#).unwrap();
        let object = Front::FunctionUrl.response(br#"{"a":1}"#).unwrap();

        assert_eq!((text.status().as_u16(), text.body().as_ref()), (200, &b"hello"[..]));
        assert_eq!(object.body().as_ref(), br#"{"a":1}"#);
        assert!(Front::RestApi.response(br#"{"a":1}"#).is_err());
    }

    #[test]
    fn results_are_converted_to_responses() {
        let result = br#"{"statusCode":401,"headers":{"WWW-Authenticate":"Bearer","connection":"close","x":5},
            "cookies":["a=1","b=2"],"body":"aGk=","isBase64Encoded":true}"#;

        let mut response = Front::FunctionUrl.response(result).unwrap();
        Front::FunctionUrl.finish_headers(response.headers_mut());

        assert_eq!((response.status().as_u16(), response.body().as_ref()), (401, &b"hi"[..]));
        let headers = response.headers();
        assert_eq!(headers["x-amzn-remapped-www-authenticate"], "Bearer");
        assert_eq!(headers["x"], "5");
        assert_eq!(all(headers, &header::SET_COOKIE), ["a=1", "b=2"]);
        assert!(!headers.contains_key("www-authenticate") && !headers.contains_key("connection"));
    }

    #[test]
    fn load_balancers_keep_the_challenge_header() {
        let result = br#"{"statusCode":401,"multiValueHeaders":{"WWW-Authenticate":["Bearer"]},"headers":{"x":"y"}}"#;
        let front = Front::LoadBalancer { multi_value: true };

        let mut response = front.response(result).unwrap();
        front.finish_headers(response.headers_mut());

        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert!(!response.headers().contains_key("x"), "only multi-value headers are used");
    }
}
