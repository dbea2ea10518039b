//! A function's `main`: settings, the service, the runtime.

use std::{
    error::Error,
    io::IsTerminal,
    panic::AssertUnwindSafe,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Response, header};
use http_body_util::BodyExt;
use lambda_runtime::{BoxFuture, Context, Diagnostic, LambdaEvent, Runtime, SnapStartResource, service_fn};
use lambda_runtime_api_client::{PooledClient, body, build_request};
use mcp_server::{InitError, Invocation, Router, error_chain};
use serde_json::{json, value::RawValue};
use tracing::Level;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    Body, Env, EventError, EventResponse, EventSource, FromEnv, InvokeMode, LambdaRequest, McpService, Transport,
    http::bad_request, streaming,
};

const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
const LOG_FORMAT: &str = "AWS_LAMBDA_LOG_FORMAT";
const RUST_LOG: &str = "RUST_LOG";
const RUNTIME_TARGET: &str = "lambda_runtime";

/// The `main` of a function: reads the configuration, awaits the service once, and serves invocations.
///
/// The runtime has one thread, as one environment serves one request at a time; it has several when
/// `AWS_LAMBDA_MAX_CONCURRENCY` says that the platform runs several at once (Managed Instances).
///
/// A setting that cannot be used, or a service that cannot be built, fails the init phase: Lambda reports the error,
/// and no request is accepted.
pub fn main<C, S, F, Fut>(service: F) -> ExitCode
where
    C: FromEnv,
    S: Send + Sync + 'static,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<McpService<S>, InitError>>,
{
    let env = Env::process();
    init_logs(&env);
    for name in env.unknown() {
        tracing::warn!(variable = name, "this environment variable has our prefix but no meaning: is it misspelt?");
    }
    if env.get(RUNTIME_API).is_none() {
        tracing::error!(
            "{RUNTIME_API} is not set: this is a Lambda function; run it with `make dev` or `cargo lambda watch`"
        );
        return ExitCode::FAILURE;
    }
    let concurrency = env.max_concurrency();
    let runtime = match concurrency {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "could not start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(init_and_serve(&env, service, concurrency)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the function has stopped");
            ExitCode::FAILURE
        }
    }
}

async fn init_and_serve<C, S, F, Fut>(
    env: &Env,
    service: F,
    concurrency: usize,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    C: FromEnv,
    S: Send + Sync + 'static,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<McpService<S>, InitError>>,
{
    // A panic while building, such as two tools of one name, is an init error like any other.
    let built = AssertUnwindSafe(async { service(C::from_env(env)?).await }).catch_unwind().await;
    let built = built.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(InitError::new(message.unwrap_or("building the service panicked").to_owned()))
    });
    let service = match built {
        Ok(service) => service,
        Err(error) => {
            if let Err(unreported) = report_init_error(&error).await {
                tracing::error!(error = error_chain(unreported.as_ref()), "could not report the init error");
            }
            return Err(error.into());
        }
    };
    service.warm().await;
    if service.router().has_close_hook() {
        let router = service.router().clone();
        lambda_runtime::spawn_graceful_shutdown_handler(move || async move { router.close().await }).await;
    }
    match service.invoke_mode() {
        InvokeMode::Buffered => {
            let hooks = Arc::new(SnapshotHooks(service.router().clone()));
            let handler = service_fn(move |event| {
                let service = service.clone();
                async move { handle_buffered(&service, event).await }
            });
            Runtime::new(handler).register_snapstart_resource(hooks).run_concurrent().await
        }
        InvokeMode::Stream => streaming::run(service, concurrency).await,
    }
}

/// What the server wants to do around a snapshot, for the runtime, which does it only where there is one.
struct SnapshotHooks<S>(Router<S>);

impl<S: Send + Sync + 'static> SnapStartResource for SnapshotHooks<S> {
    fn before_snapshot(&self) -> BoxFuture<'_, Result<(), lambda_runtime::Error>> {
        Box::pin(async {
            self.0.before_snapshot().await;
            Ok(())
        })
    }

    fn after_restore(&self) -> BoxFuture<'_, Result<(), lambda_runtime::Error>> {
        Box::pin(async {
            self.0.after_restore().await;
            Ok(())
        })
    }
}

async fn handle_buffered<S: Send + Sync + 'static>(
    service: &McpService<S>,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<EventResponse, Diagnostic> {
    let event_bytes = event.payload.get().as_bytes();
    respond_buffered(service, event_bytes, invocation(event.context))
        .await
        .map_err(|error| Diagnostic { error_type: "UnknownEvent".to_owned(), error_message: error.to_string() })
}

fn invocation(context: Context) -> Invocation {
    Invocation {
        deadline: deadline(context.deadline),
        request_id: context.request_id,
        xray_trace_id: context.xray_trace_id,
        ..Invocation::default()
    }
}

/// A wall-clock deadline in milliseconds as an instant. None when it is over: the platform sends no such deadline, but
/// `cargo lambda watch` does (its clock begins with the process).
pub(crate) fn deadline(deadline_ms: u64) -> Option<Instant> {
    let deadline = UNIX_EPOCH.checked_add(Duration::from_millis(deadline_ms))?;
    Instant::now().checked_add(deadline.duration_since(SystemTime::now()).ok()?)
}

/// Answers one event.
///
/// # Errors
///
/// When the event is none that this function can be invoked with. A malformed HTTP request is answered, not an error.
pub async fn respond<S: Send + Sync + 'static>(
    service: &McpService<S>,
    event: &[u8],
    invocation: Invocation,
) -> Result<(EventSource, Response<Body>), EventError> {
    let LambdaRequest { mut request, source, domain_name, iam } = match LambdaRequest::from_event(event) {
        Ok(request) => request,
        Err(EventError::BadRequest { source, reason }) => return Ok((source, bad_request(reason))),
        Err(unknown @ EventError::Unknown(_)) => return Err(unknown),
    };
    request.extensions_mut().insert(invocation);
    request.extensions_mut().insert(Transport { source, domain_name, iam });
    Ok((source, service.handle(request).await))
}

/// Answers one event with a whole body, in the shape that its sender reads.
///
/// # Errors
///
/// As [`respond`].
pub async fn respond_buffered<S: Send + Sync + 'static>(
    service: &McpService<S>,
    event: &[u8],
    invocation: Invocation,
) -> Result<EventResponse, EventError> {
    let (source, response) = respond(service, event, invocation).await?;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    Ok(EventResponse::new(source, Response::from_parts(parts, body.to_bytes())))
}

/// Tells Lambda why the function cannot start (Runtime API, "Initialization error").
async fn report_init_error(error: &InitError) -> Result<(), Box<dyn Error + Send + Sync>> {
    let body = json!({ "errorType": "InitError", "errorMessage": error_chain(error), "stackTrace": [] }).to_string();
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header(header::CONTENT_TYPE, "application/json")
        .header("lambda-runtime-function-error-type", "Runtime.InitError")
        .body(body::Body::from(Bytes::from(body)))?;
    PooledClient::builder().build().call(request).await?;
    Ok(())
}

/// JSON on Lambda, text on a terminal; Lambda's own variables choose level and format.
fn init_logs(env: &Env) {
    let (filter, is_understood) = log_filter(env.get(RUST_LOG).or(env.get(LOG_LEVEL)));
    let is_json = match env.get(LOG_FORMAT) {
        Some(format) => format.eq_ignore_ascii_case("json"),
        None => !std::io::stdout().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    // A second call, in a process that has its subscriber already, changes nothing.
    let _ = if is_json {
        registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true)).try_init()
    } else {
        registry.with(tracing_subscriber::fmt::layer()).try_init()
    };
    if !is_understood {
        tracing::warn!(
            "{RUST_LOG} or {LOG_LEVEL} is no level and no list of targets with levels: logging from info on"
        );
    }
}

/// Which lines are logged, and whether the wish was understood. A bare word that is no level is not taken for the name
/// of a target, as that would switch everything else off.
fn log_filter(wish: Option<&str>) -> (Targets, bool) {
    let from_info = Targets::new().with_default(LevelFilter::INFO);
    let wish = wish.unwrap_or("info").to_ascii_lowercase();
    let understood = match wish.as_str() {
        // Lambda's own name for what is worse than an error.
        "fatal" => Some(Targets::new().with_default(LevelFilter::ERROR)),
        targets if targets.contains(['=', ',']) => Targets::from_str(targets).ok(),
        level => LevelFilter::from_str(level).ok().map(|level| Targets::new().with_default(level)),
    };
    let is_understood = understood.is_some();
    let mut filter = understood.unwrap_or(from_info);
    // At trace level the runtime logs whole events, bodies and tokens included.
    if filter.would_enable(RUNTIME_TARGET, &Level::TRACE) {
        filter = filter.with_target(RUNTIME_TARGET, LevelFilter::DEBUG);
    }
    (filter, is_understood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_over_is_none() {
        assert_eq!(deadline(0), None);
        assert_eq!(deadline(600_000), None, "what `cargo lambda watch` sends");
        assert!(deadline(u64::MAX / 2).is_none_or(|deadline| deadline > Instant::now()));
        let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
        let soon = deadline(u64::try_from(soon.as_millis()).unwrap()).unwrap();
        assert!(soon.duration_since(Instant::now()) > Duration::from_secs(50));
    }

    #[test]
    fn a_wish_that_is_not_understood_means_info() {
        for (wish, is_understood, level) in [
            (None, true, Level::INFO),
            (Some("DEBUG"), true, Level::DEBUG),
            (Some("verbose"), false, Level::INFO),
            (Some("FATAL"), true, Level::ERROR),
            (Some("warn,mcp_lambda=trace"), true, Level::TRACE),
        ] {
            let (filter, understood) = log_filter(wish);

            assert_eq!(understood, is_understood, "{wish:?}");
            assert!(filter.would_enable("mcp_lambda", &level), "{wish:?}");
            assert!(level == Level::TRACE || !filter.would_enable("mcp_lambda", &Level::TRACE));
        }
    }

    #[test]
    fn the_runtime_never_logs_whole_events() {
        for wish in ["trace", "lambda_runtime=trace"] {
            let (filter, _) = log_filter(Some(wish));

            assert!(!filter.would_enable("lambda_runtime::layers::api_response", &Level::TRACE), "{wish}");
        }
    }
}
