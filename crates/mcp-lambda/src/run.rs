//! A function's `main`: settings, the service, the runtime.

use std::{
    error::Error,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::Pin,
    process::ExitCode,
};

use futures_util::FutureExt;
use mcp_server::{InitError, error_chain};

use crate::{Env, FromEnv, McpService, invocations, logs, runtime_api, shutdown};

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
/// #     use mcp_lambda::{HttpConfig, InitError, McpService, Server};
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

/// Begins to log as [`main`] does, for a `main` of another: call log and metrics as JSON on standard output, panics as an event of
/// one line without what a caller has sent.
///
/// Does not change a `tracing` subscriber that the process has already.
pub fn init_logs(env: &Env) {
    logs::init(env);
    panic::set_hook(Box::new(log_panic));
}

/// Says where the code panicked, in one line of the log. A message that was put together there may have in it what a caller
/// has sent, with line breaks and all, and stays out.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let reason = panic.payload().downcast_ref::<&'static str>().copied();
    tracing::error!(location, reason, "the code panicked");
}

fn warn_of_unknown(env: &Env) {
    for name in env.unknown() {
        tracing::warn!(variable = name, "this environment variable has our prefix but no meaning: is it misspelt?");
    }
}

/// A service in the making.
type Building<'a> = Pin<Box<dyn Future<Output = Result<McpService, InitError>> + 'a>>;

fn start(env: &Env, building: Building<'_>) -> ExitCode {
    init_logs(env);
    if env.get(runtime_api::ENDPOINT).is_none() {
        tracing::error!(
            "{} is not set: this is a Lambda function; run it with `make dev` or `cargo lambda watch`",
            runtime_api::ENDPOINT
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
            if let Err(unreported) = invocations::report_init_error(error_chain(&error)).await {
                tracing::error!(error = error_chain(unreported.as_ref()), "could not report the init error");
            }
            return Err(error.into());
        }
    };
    service.warm().await;
    if service.server().has_close_hook() {
        let server = service.server().clone();
        shutdown::on_shutdown(move || async move { server.close().await }).await?;
    }
    invocations::run(service, concurrency).await
}
