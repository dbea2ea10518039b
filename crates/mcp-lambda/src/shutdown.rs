//! The end of an environment: SIGTERM, which Lambda sends only to a function that has an extension.
//!
//! `lambda_runtime`'s own handler does the same with the crate for extensions, which brings a server and parsers for
//! telemetry along: an eighth of a small function's zip for two requests.

use std::{error::Error, process};

use http::header;
use lambda_runtime_api_client::{BoxError, PooledClient, body::Body, build_request};
use tokio::signal::unix::{SignalKind, signal};

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";
const IDENTIFIER: &str = "lambda-extension-identifier";
/// Names of extensions are unique within a function.
const NAME: &str = "mcp-close-hook";

/// Runs a hook before the process ends. Called in the init phase, where extensions register.
///
/// # Errors
///
/// When the platform registers no extension: the hook would never run.
pub(crate) async fn on_shutdown<F>(
    hook: impl FnOnce() -> F + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = PooledClient::builder().build();
    let id = register(&client).await?;
    let ready = build_request().uri(NEXT).header(IDENTIFIER, id).body(Body::empty())?;
    tokio::spawn(async move {
        // Says that the extension is ready. There is never an answer, as there are no events.
        let wait = async {
            let _ = client.call(ready).await;
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

/// Registers an extension without events ([Extensions API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html));
/// its identifier.
async fn register(client: &PooledClient) -> Result<String, BoxError> {
    let request = build_request()
        .method("POST")
        .uri(REGISTER)
        .header("lambda-extension-name", NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(r#"{"events":[]}"#))?;
    let response = client.call(request).await?;
    let id = response.headers().get(IDENTIFIER).and_then(|id| id.to_str().ok());
    match id {
        Some(id) if response.status().is_success() => Ok(id.to_owned()),
        _ => Err(format!("the Extensions API answered {} to a registration", response.status()).into()),
    }
}
