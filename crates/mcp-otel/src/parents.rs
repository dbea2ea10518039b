//! Parent and links of a call's span: the trace of the client, of X-Ray, or both.
//!
//! The client's trace context is untrusted. It only determines the parent of the span.

use std::collections::HashMap;

use mcp_protocol::{is_traceparent, json};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Size of `tracestate` that every implementation must propagate ([W3C Trace
/// Context](https://www.w3.org/TR/trace-context/#tracestate-limits)).
const MAX_TRACESTATE_BYTES: usize = 512;

/// Sets the parent of a span that has not started: the client's span (`traceparent` in `_meta` of the parameters) or
/// the X-Ray segment in `xray_header` of the invocation. Adds a link to the other of the two.
pub fn set_parents(span: &Span, params: Option<&RawValue>, xray_header: Option<&str>) {
    let (parent, link) = parent_and_link(params.and_then(client_context), xray_header.and_then(xray_context));
    if let Some(parent) = parent {
        // Fails only for a span that has started, or that is not exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    if let Some(link) = link {
        span.add_link(link);
    }
}

/// Returns the parent and the link. The client's span is the parent, since the client knows the context of the call. If
/// both are in one trace, the X-Ray segment is the parent, since the client's span contains it.
fn parent_and_link(
    client: Option<SpanContext>,
    xray: Option<SpanContext>,
) -> (Option<SpanContext>, Option<SpanContext>) {
    match (client, xray) {
        (Some(client), Some(xray)) if client.trace_id() == xray.trace_id() => (Some(xray), None),
        (Some(client), xray) => (Some(client), xray),
        (None, xray) => (xray, None),
    }
}

/// Parses `traceparent` and `tracestate` of `_meta`.
fn client_context(params: &RawValue) -> Option<SpanContext> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Option<Meta>,
    }

    #[derive(Deserialize)]
    struct Meta {
        traceparent: Option<String>,
        tracestate: Option<String>,
    }

    let meta = json::borrow::<Params>(params.get()).ok()?.meta?;
    let traceparent = meta.traceparent.filter(|value| is_traceparent(value))?;
    let tracestate = meta.tracestate.filter(|value| value.len() <= MAX_TRACESTATE_BYTES);
    let fields = [("traceparent", Some(traceparent)), ("tracestate", tracestate)];
    let carrier: HashMap<String, String> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// Parses Lambda's trace header: `Root=1-<8 hexadecimal digits>-<24>;Parent=<16>;Sampled=<0 or 1>`, possibly with
/// further fields. The W3C trace id is the X-Ray trace id without version and hyphens.
fn xray_context(header: &str) -> Option<SpanContext> {
    let part = |name| header.split(';').find_map(|part| part.trim().strip_prefix(name));
    let (time, unique) = part("Root=1-")?.split_once('-')?;
    let parent = part("Parent=")?;
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(time, 8) || !is_hex(unique, 24) || !is_hex(parent, 16) {
        return None;
    }
    let trace_id = TraceId::from_hex(&format!("{time}{unique}")).ok()?;
    let span_id = SpanId::from_hex(parent).ok()?;
    let flags = if part("Sampled=") == Some("1") { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let parent = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
    const CLIENT_SPAN: &str = "00f067aa0ba902b7";
    const XRAY_SPAN: &str = "53995c3f42cd8ad8";

    fn client(meta: serde_json::Value) -> Option<SpanContext> {
        client_context(&RawValue::from_string(json!({ "name": "greet", "_meta": meta }).to_string()).unwrap())
    }

    fn hex(context: &SpanContext) -> (String, String, bool) {
        (context.trace_id().to_string(), context.span_id().to_string(), context.is_sampled())
    }

    #[test]
    fn xray_header_is_parsed() {
        for (header, is_sampled) in [
            ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", true),
            ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:a:0", false),
            (" Sampled=1; Parent=53995c3f42cd8ad8; Root=1-5759e988-bd862e3fe1be46a994272793", true),
            ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8", false),
        ] {
            let expected = (TRACE.to_owned(), XRAY_SPAN.to_owned(), is_sampled);
            assert_eq!(xray_context(header).as_ref().map(hex), Some(expected), "{header}");
        }
        for header in [
            "",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-5759e988-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-5759e98-8bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-+759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0000000000000000;Sampled=1",
            "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1",
        ] {
            assert_eq!(xray_context(header), None, "{header}");
        }
    }

    #[test]
    fn client_trace_context_is_parsed() {
        let traceparent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
        let read = client(json!({ "traceparent": traceparent, "tracestate": "vendor=1", "other": [1] })).unwrap();

        assert_eq!(hex(&read), (TRACE.to_owned(), CLIENT_SPAN.to_owned(), true));
        assert_eq!(read.trace_state().get("vendor"), Some("1"));
        assert!(!client(json!({ "traceparent": format!("00-{TRACE}-{CLIENT_SPAN}-00") })).unwrap().is_sampled());
        // An oversized `tracestate` is dropped; `traceparent` remains valid.
        let long = client(json!({ "traceparent": traceparent, "tracestate": format!("v={}", "1".repeat(600)) }));
        assert_eq!(long.unwrap().trace_state().header(), "");
        for meta in [
            json!({}),
            json!(null),
            json!([traceparent]),
            json!({ "traceparent": 1 }),
            json!({ "traceparent": format!("ff-{TRACE}-{CLIENT_SPAN}-01") }),
            json!({ "traceparent": format!("00-{}-{CLIENT_SPAN}-01", "0".repeat(32)) }),
            json!({ "traceparent": format!("00-{TRACE}-{}-01", "0".repeat(16)) }),
            json!({ "traceparent": traceparent.to_uppercase().replace('-', "_") }),
        ] {
            assert_eq!(client(meta.clone()), None, "{meta}");
        }
    }

    #[test]
    fn client_span_is_the_parent_and_xray_segment_is_linked() {
        let own = client(json!({ "traceparent": format!("00-{}-{CLIENT_SPAN}-01", "ab".repeat(16)) })).unwrap();
        let same = client(json!({ "traceparent": format!("00-{TRACE}-{CLIENT_SPAN}-01") })).unwrap();
        let xray = xray_context("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0").unwrap();

        assert_eq!(parent_and_link(Some(own.clone()), Some(xray.clone())), (Some(own.clone()), Some(xray.clone())));
        assert_eq!(parent_and_link(Some(same), Some(xray.clone())), (Some(xray.clone()), None));
        assert_eq!(parent_and_link(Some(own.clone()), None), (Some(own), None));
        assert_eq!(parent_and_link(None, Some(xray.clone())), (Some(xray), None));
        assert_eq!(parent_and_link(None, None), (None, None));
    }
}
