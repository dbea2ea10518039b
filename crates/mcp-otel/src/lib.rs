//! Export of a function's spans to an OpenTelemetry collector by OTLP over HTTP, configured by the variables of
//! OpenTelemetry.
//!
//! Create a [`TraceExporter`] from the environment and install it with the log layer. [`flush`] exports ended spans.
//! [`set_parents`] adds a span to the trace of the client or of X-Ray.
//!
//! There is no background task, since an execution environment is frozen between invocations. Ended spans are buffered
//! in memory, and exported after the response and before the request of the next invocation.

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

/// Timeout of an export. It is short, since the collector runs in the environment or near it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Cooldown after a failed export.
const COOLDOWN: Duration = Duration::from_secs(30);
/// Maximum number of buffered spans; further spans are dropped.
const MAX_SPANS: usize = 4096;
/// Targets whose spans are not exported: those of the export itself.
const EXCLUDED_TARGETS: [&str; 2] = ["hyper", "opentelemetry"];

static EXPORT: OnceLock<Export> = OnceLock::new();

struct Export {
    exporter: opentelemetry_otlp::SpanExporter,
    ended: EndedSpans,
    /// End of the cooldown after a failed export.
    retry_at: Mutex<Option<Instant>>,
}

/// Exporter of spans. Create it from environment variables, then [`install`](Self::install) it.
///
/// ```
/// use mcp_otel::TraceExporter;
///
/// let exporter = TraceExporter::from_env(|name| (name == "OTEL_SDK_DISABLED").then_some("true")).unwrap();
///
/// assert!(exporter.is_none());
/// ```
pub struct TraceExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    resource: Resource,
}

impl TraceExporter {
    /// Creates an exporter from the variables `OTEL_*`. `variable` returns the value of an environment variable.
    /// Returns `None` if `OTEL_SDK_DISABLED` is `true`.
    ///
    /// # Errors
    ///
    /// Returns an error if a variable of OpenTelemetry is invalid.
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

    /// Sets the global subscriber of the process, with the log layer `logs`. Has no effect if the process already has a
    /// subscriber.
    pub fn install(self, logs: impl Layer<Registry> + Send + Sync) {
        let ended = EndedSpans::default();
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

impl fmt::Debug for TraceExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceExporter").field("resource", &self.resource).finish_non_exhaustive()
    }
}

/// Returns whether a span is exported. Log events are not exported as span events.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && !EXCLUDED_TARGETS.iter().any(|excluded| metadata.target().starts_with(excluded))
}

/// Returns the resource attributes of the function, merged with `OTEL_RESOURCE_ATTRIBUTES`.
fn resource<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Resource {
    let attributes = [
        ("faas.name", variable(FUNCTION_NAME)),
        ("faas.version", variable(FUNCTION_VERSION)),
        ("cloud.region", variable(REGION)),
        ("cloud.provider", Some("aws")),
        ("cloud.platform", Some("aws_lambda")),
    ];
    let attributes = attributes.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value?.to_owned())));
    let resource = Resource::builder().with_attributes(attributes);
    match variable(SERVICE_NAME).or(variable(FUNCTION_NAME)) {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}

/// Exports ended spans. Takes at most half of the remaining time of the invocation: Lambda stops an environment that
/// runs beyond its deadline, even after the response.
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
        Err(_) => Some(format!("the export timed out after {} ms", left.as_millis())),
    };
    *lock(retry_at) = error.is_some().then(|| Instant::now() + COOLDOWN);
    if let Some(error) = error {
        tracing::warn!(error, "spans could not be exported");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renames a started span. Recording `otel.name` works only before the start.
pub fn rename(span: &tracing::Span, name: String) {
    span.context().span().update_name(name);
}

/// Buffer of ended spans that are not yet exported.
#[derive(Clone, Default)]
struct EndedSpans(Arc<Mutex<Vec<SpanData>>>);

impl EndedSpans {
    fn take(&self) -> Vec<SpanData> {
        mem::take(&mut *lock(&self.0))
    }
}

impl SpanProcessor for EndedSpans {
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

impl fmt::Debug for EndedSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndedSpans").finish_non_exhaustive()
    }
}
