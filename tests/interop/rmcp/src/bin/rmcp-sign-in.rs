//! The official Rust SDK signs in to event-logger, and logs an event. Prints the URL that a person has to open, reads the URL of the
//! callback from standard input, and prints the text of the result.
//!
//!     rmcp-sign-in URL [DOCUMENT]
//!
//! With the URL of a metadata document it uses that if the authorization server accepts it, else it registers.

use std::{
    env,
    error::Error,
    io::{BufRead, stdin},
};

use rmcp::{
    ServiceExt,
    model::CallToolRequestParams,
    transport::{
        StreamableHttpClientTransport,
        auth::{AuthClient, AuthorizationRequest, OAuthState},
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::json;

const REDIRECT_URI: &str = "http://127.0.0.1:9/callback";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("no URL")?;
    let mut request = AuthorizationRequest::new(REDIRECT_URI).with_client_name("interop");
    if let Some(document) = arguments.next() {
        request = request.with_client_metadata_url(document);
    }
    let mut state = OAuthState::new(&url, None).await?;
    state.start_authorization(request).await?;
    println!("{}", state.get_authorization_url().await?);
    let callback = stdin().lock().lines().next().ok_or("no callback")??;
    state.handle_callback_url(&callback).await?;
    let manager = state.into_authorization_manager().ok_or("not authorized")?;

    let http = AuthClient::new(reqwest::Client::new(), manager);
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let client = ().serve(StreamableHttpClientTransport::with_client(http, config)).await?;
    let arguments = json!({ "event_name": "signed in" }).as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new("log_event").with_arguments(arguments)).await?;
    client.cancel().await?;
    let text = result.content.first().and_then(|block| block.as_text()).ok_or("no text")?;
    println!("{}", text.text);
    Ok(())
}
