//! Shutdown of an execution environment: handles SIGTERM, which Lambda sends only to functions with an extension.
//!
//! It registers an internal extension. `lambda_runtime` does the same with the crate `lambda-extension`, whose telemetry server and
//! parsers are an eighth of a small function's zip.

use std::process;

use http::header;
use tokio::signal::unix::{SignalKind, signal};

use crate::runtime_api::{BoxError, RuntimeApi, whole};

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";
const IDENTIFIER: &str = "lambda-extension-identifier";
/// The name of the extension, which must be unique within the function.
const NAME: &str = "mcp-close-hook";

/// Runs `hook` on SIGTERM or SIGINT, then ends the process. Must be called in the init phase, in which extensions register.
///
/// # Errors
///
/// When the extension cannot be registered, because the hook would never run.
pub(crate) async fn on_shutdown<F>(hook: impl FnOnce() -> F + Send + 'static) -> Result<(), BoxError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut api = RuntimeApi::from_env()?;
    let id = register(&mut api).await?;
    let ready = api.request("GET", NEXT).header(IDENTIFIER, id).body(whole(""))?;
    tokio::spawn(async move {
        // This request reports that the extension is ready. It gets no response, because the extension subscribes to no events.
        let wait = async {
            let _ = api.call(ready).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = wait => {}
        }
        hook().await;
        process::exit(0);
    });
    Ok(())
}

/// Registers an extension without events ([Extensions API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html)).
/// Returns its identifier.
async fn register(api: &mut RuntimeApi) -> Result<String, BoxError> {
    let request = api
        .request("POST", REGISTER)
        .header("lambda-extension-name", NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(r#"{"events":[]}"#))?;
    let response = api.call(request).await?;
    let id = response.headers().get(IDENTIFIER).and_then(|id| id.to_str().ok());
    match id {
        Some(id) if response.status().is_success() => Ok(id.to_owned()),
        _ => Err(format!("the Extensions API responded with {} to a registration", response.status()).into()),
    }
}
