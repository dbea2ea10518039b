//! A function's `main`: settings, the service, the runtime.

use std::{
    error::Error,
    panic::AssertUnwindSafe,
    pin::Pin,
    process::ExitCode,
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
use serde_json::json;

use crate::{
    Body, Env, EventError, EventResponse, EventSource, FromEnv, InvokeMode, LambdaRequest, McpService, Transport,
    events::Event, http::bad_request, logs, shutdown, streaming,
};

const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// The `main` of a function: reads the configuration, awaits the service once, and serves invocations.
///
/// The runtime has one thread, as one environment serves one request at a time; it has several when
/// `AWS_LAMBDA_MAX_CONCURRENCY` says that the platform runs several at once (Managed Instances).
///
/// A setting that cannot be used, or a service that cannot be built, fails the init phase: Lambda reports the error,
/// and no request is accepted.
///
/// ```no_run
/// # mod greeter {
/// #     use mcp_lambda::{HttpConfig, McpService};
/// #     use mcp_server::{InitError, Server};
/// #     pub async fn service(config: HttpConfig) -> Result<McpService, InitError> {
/// #         McpService::new(Server::new("greeter", "0.1.0", ()), config)
/// #     }
/// # }
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     mcp_lambda::main(greeter::service)
/// }
/// ```
pub fn main<C, F, Fut>(service: F) -> ExitCode
where
    C: FromEnv,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<McpService, InitError>>,
{
    let env = Env::process();
    // All else is the same code for every function.
    start(
        &env,
        Box::pin(async {
            let config = C::from_env(&env)?;
            warn_of_unknown(&env);
            service(config).await
        }),
    )
}

fn warn_of_unknown(env: &Env) {
    for name in env.unknown() {
        tracing::warn!(variable = name, "this environment variable has our prefix but no meaning: is it misspelt?");
    }
}

/// A service in the making.
type Building<'a> = Pin<Box<dyn Future<Output = Result<McpService, InitError>> + 'a>>;

fn start(env: &Env, building: Building<'_>) -> ExitCode {
    logs::init(env);
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
    match runtime.block_on(init_and_serve(building, concurrency)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the function has stopped");
            ExitCode::FAILURE
        }
    }
}

async fn init_and_serve(building: Building<'_>, concurrency: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    // A panic while building, such as two tools of one name, is an init error like any other.
    let built = AssertUnwindSafe(building).catch_unwind().await;
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
        shutdown::on_shutdown(move || async move { router.close().await }).await?;
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
struct SnapshotHooks(Router);

impl SnapStartResource for SnapshotHooks {
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

async fn handle_buffered(service: &McpService, event: LambdaEvent<Event>) -> Result<EventResponse, Diagnostic> {
    answer_buffered(service, event.payload, invocation(event.context))
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
pub async fn respond(
    service: &McpService,
    event: &[u8],
    invocation: Invocation,
) -> Result<(EventSource, Response<Body>), EventError> {
    answer(service, Event(LambdaRequest::from_event(event)), invocation).await
}

async fn answer(
    service: &McpService,
    event: Event,
    invocation: Invocation,
) -> Result<(EventSource, Response<Body>), EventError> {
    let LambdaRequest { request, source, domain_name, iam } = match event.0 {
        Ok(request) => request,
        Err(EventError::BadRequest { source, reason }) => return Ok((source, bad_request(reason))),
        Err(unknown @ EventError::Unknown(_)) => return Err(unknown),
    };
    let transport = Transport { source, domain_name, iam };
    Ok((source, service.serve(request, invocation, Some(&transport)).await))
}

/// Answers one event with a whole body, in the shape that its sender reads.
///
/// # Errors
///
/// As [`respond`].
pub async fn respond_buffered(
    service: &McpService,
    event: &[u8],
    invocation: Invocation,
) -> Result<EventResponse, EventError> {
    answer_buffered(service, Event(LambdaRequest::from_event(event)), invocation).await
}

async fn answer_buffered(
    service: &McpService,
    event: Event,
    invocation: Invocation,
) -> Result<EventResponse, EventError> {
    let (source, response) = answer(service, event, invocation).await?;
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
}
