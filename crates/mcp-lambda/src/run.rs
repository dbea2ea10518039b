//! The `main` of a function: configuration, service, runtime.

use std::{
    error::Error,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::Pin,
    process::ExitCode,
};

use futures_util::FutureExt;
use mcp_server::{InitError, error_chain};

use crate::{Env, FromEnv, McpService, invocations, logs, runtime_api, shutdown};

/// Runs a function: reads the configuration from the environment, builds the service once, and serves invocations.
///
/// The async runtime has one thread, because an execution environment serves one request at a time. It has several threads if
/// `AWS_LAMBDA_MAX_CONCURRENCY` is above 1 (Managed Instances).
///
/// An invalid setting, or an error or panic of `service`, fails the init phase: Lambda reports the error, and the function serves no
/// request. Returns only when the function cannot start, or when the Runtime API fails.
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
    serve(&Env::process(), service)
}

/// Reads the configuration, awaits the service, and serves.
pub(crate) fn serve<C, F, Fut>(env: &Env, service: F) -> ExitCode
where
    C: FromEnv,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<McpService, InitError>>,
{
    // The rest is not generic, so that it is compiled once.
    start(
        env,
        Box::pin(async {
            #[cfg(feature = "secrets")]
            let env = &env.clone().with_secrets().await?;
            let config = C::from_env(env)?;
            #[cfg(feature = "tasks")]
            crate::tasks::read_variables(env);
            warn_unknown_variables(env);
            let service = service(config).await?;
            #[cfg(all(feature = "secrets", any(feature = "interactive", feature = "store")))]
            service.connect_secrets(env)?;
            #[cfg(feature = "tasks")]
            service.connect_tasks(env)?;
            Ok(service)
        }),
    )
}

/// Installs logging as [`main`] does, for a `main` of your own: a global `tracing` subscriber that writes log events and metrics as
/// JSON to standard output, and a panic hook that logs a panic as one event without caller-supplied data.
///
/// The panic hook is replaced. An existing global subscriber is kept.
pub fn init_logs(env: &Env) {
    logs::init(env);
    panic::set_hook(Box::new(log_panic));
}

/// Logs the location of a panic. Only a constant message is logged: a formatted message may contain caller-supplied data.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let reason = panic.payload().downcast_ref::<&'static str>().copied();
    tracing::error!(location, reason, "the code panicked");
}

pub(crate) fn warn_unknown_variables(env: &Env) {
    for name in env.unknown() {
        tracing::warn!(variable = name, "unknown environment variable with a known prefix: check its spelling");
    }
}

/// The future that reads the configuration and builds the service.
type ServiceFuture<'a> = Pin<Box<dyn Future<Output = Result<McpService, InitError>> + 'a>>;

fn start(env: &Env, service: ServiceFuture<'_>) -> ExitCode {
    init_logs(env);
    if env.get(runtime_api::ENDPOINT).is_none() {
        tracing::error!(
            "{} is not set: this is a Lambda function; run it with `make dev` or \
             `cargo lambda watch` (`pip install cargo-lambda`)",
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
    let served = runtime.block_on(async {
        let service = init(service).await?;
        #[cfg(feature = "tasks")]
        if crate::tasks::is_worker(env) {
            return crate::tasks::run(service).await.map(|never| match never {});
        }
        invocations::run(service, concurrency).await
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the function has stopped");
            ExitCode::FAILURE
        }
    }
}

/// Builds the service, and prepares the process for its end.
async fn init(service: ServiceFuture<'_>) -> Result<McpService, Box<dyn Error + Send + Sync>> {
    // A panic of the builder, such as for two tools of the same name, is reported as an init error.
    let built = AssertUnwindSafe(service).catch_unwind().await;
    let built = built.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(InitError::new(message.unwrap_or("service the service panicked").to_owned()))
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
        let close = async move || {
            server.close().await;
            logs::flush();
        };
        shutdown::on_shutdown(close).await?;
    }
    Ok(service)
}
