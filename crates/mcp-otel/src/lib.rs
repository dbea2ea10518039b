//! Spans of a function on their way to a collector: OTLP over HTTP, with the variables of OpenTelemetry.
//!
//! A [`Collector`] is made of the variables once and installed with the layer that writes the log; [`flush`] sends what has ended,
//! [`set_parents`] gives a span its place in the client's trace and X-Ray's.
//!
//! Nothing runs in the background, as an environment is frozen between invocations: what has ended is kept in memory, and
//! sent after the answer, before the next invocation is asked for.

mod parents;

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use mcp_server::error_chain;
use opentelemetry::{
    KeyValue,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry, filter::FilterFn, layer::SubscriberExt};

const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
pub use parents::set_parents;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const FUNCTION_VERSION: &str = "AWS_LAMBDA_FUNCTION_VERSION";
const REGION: &str = "AWS_REGION";

/// What the environment is kept awake for, at most: a collector is beside the function, or near it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a collector is left alone that has not taken what was sent.
const PAUSE: Duration = Duration::from_secs(30);
/// Spans that wait to be sent; further ones are left out.
const MAX_SPANS: usize = 4096;
/// Whose spans tell nothing of a call: what the export itself does.
const OTHERS: [&str; 2] = ["hyper", "opentelemetry"];

static EXPORT: OnceLock<Export> = OnceLock::new();

struct Export {
    exporter: opentelemetry_otlp::SpanExporter,
    ended: Ended,
    /// When the next try makes sense, after one that failed.
    retry_at: Mutex<Option<Instant>>,
}

/// Collects spans. Made of the environment variables, then [installed](Self::install).
pub struct Collector {
    exporter: opentelemetry_otlp::SpanExporter,
    resource: Resource,
}

impl Collector {
    /// Reads `OTEL_*`; `variable` returns the value of an environment variable. `None` when `OTEL_SDK_DISABLED` is `true`.
    ///
    /// # Errors
    ///
    /// When a variable of OpenTelemetry cannot be used.
    pub fn from_env<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, ExporterBuildError> {
        if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_timeout(TIMEOUT)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let resource = resource(variable);
        exporter.set_resource(&resource);
        Ok(Some(Self { exporter, resource }))
    }

    /// Becomes the process's subscriber, together with the layer that writes the log. In a process that has a subscriber already,
    /// nothing changes.
    pub fn install(self, logs: impl Layer<Registry> + Send + Sync) {
        let ended = Ended::default();
        let provider =
            SdkTracerProvider::builder().with_resource(self.resource).with_span_processor(ended.clone()).build();
        let spans = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("mcp-lambda"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_exported).with_max_level_hint(LevelFilter::INFO));
        let subscriber = tracing_subscriber::registry().with(logs).with(spans);
        if tracing::subscriber::set_global_default(subscriber).is_ok() {
            let _ = EXPORT.set(Export { exporter: self.exporter, ended, retry_at: Mutex::new(None) });
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("resource", &self.resource).finish_non_exhaustive()
    }
}

/// Log lines are no part of spans: they have fields of their own.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && !OTHERS.iter().any(|other| metadata.target().starts_with(other))
}

/// Who the spans are from. What `OTEL_RESOURCE_ATTRIBUTES` says goes with it.
fn resource<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Resource {
    let attributes = [
        ("faas.name", variable(FUNCTION_NAME)),
        ("faas.version", variable(FUNCTION_VERSION)),
        ("cloud.region", variable(REGION)),
        ("cloud.provider", Some("aws")),
        ("cloud.platform", Some("aws_lambda")),
    ];
    let known = attributes.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value?.to_owned())));
    let resource = Resource::builder().with_attributes(known);
    match variable(SERVICE_NAME).or(variable(FUNCTION_NAME)) {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}

/// Sends what has ended, in half of the time that the invocation has left at most: Lambda stops an environment that goes on
/// beyond its deadline, though its answer was sent.
pub async fn flush(deadline: Option<Instant>) {
    let Some(Export { exporter, ended, retry_at }) = EXPORT.get() else { return };
    let now = Instant::now();
    if lock(retry_at).is_some_and(|retry_at| now < retry_at) {
        return;
    }
    let spans = ended.take();
    if spans.is_empty() {
        return;
    }
    let left = deadline.map_or(TIMEOUT, |deadline| TIMEOUT.min(deadline.saturating_duration_since(now) / 2));
    let error = match tokio::time::timeout(left, exporter.export(spans)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error_chain(&error)),
        Err(_) => Some(format!("the collector took longer than {} ms", left.as_millis())),
    };
    *lock(retry_at) = error.is_some().then(|| Instant::now() + PAUSE);
    if let Some(error) = error {
        tracing::warn!(error, "spans could not be exported");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a span that has begun another name. Recording `otel.name` does so only before.
pub fn rename(span: &tracing::Span, name: String) {
    span.context().span().update_name(name);
}

/// Spans that have ended and were not sent yet.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl Ended {
    fn take(&self) -> Vec<SpanData> {
        mem::take(&mut *lock(&self.0))
    }
}

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        let mut spans = lock(&self.0);
        if span.span_context.is_sampled() && spans.len() < MAX_SPANS {
            spans.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").finish_non_exhaustive()
    }
}
