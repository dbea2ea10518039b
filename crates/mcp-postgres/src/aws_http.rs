//! HTTP client of the AWS SDK: HTTP/1.1, by [`mcp_https`]. The SDK's own client links HTTP/2, which is of no use for
//! a single request.

use std::time::Duration;

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use mcp_https::{Bytes, Client, Error};

/// The default of the SDK's own client.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);
/// A secret has at most 64 KiB before JSON escapes it.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Builds the client for the SDK's configuration.
pub(crate) fn client() -> SharedHttpClient {
    // Endpoints, also that of credentials, are set by the platform and the operator; some are plain HTTP.
    let client =
        mcp_https::dangerously_unrestricted().connect_timeout(CONNECT_TIMEOUT).max_response_bytes(MAX_RESPONSE_BYTES);
    let connector = SharedHttpConnector::new(Connector { client });
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug)]
struct Connector {
    client: Client,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let (parts, body) = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?.into_parts();
    let body = body.bytes().ok_or_else(|| ConnectorError::user("the body of a request is a stream".into()))?;
    // All requests are read-only.
    let request = client
        .request(parts.method, &parts.uri.to_string())
        .headers(parts.headers)
        .body(Bytes::copy_from_slice(body))
        .idempotent();
    let response = request.send().await.map_err(connector_error)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut response_for_sdk = http::Response::new(SdkBody::from(response.bytes().await.map_err(connector_error)?));
    *response_for_sdk.status_mut() = status;
    *response_for_sdk.headers_mut() = headers;
    HttpResponse::try_from(response_for_sdk).map_err(|error| ConnectorError::other(error.into(), None))
}

/// Converts the error. The SDK retries timeouts and I/O errors.
fn connector_error(error: Error) -> ConnectorError {
    match error {
        Error::Timeout { .. } => ConnectorError::timeout(error.into()),
        Error::Unreachable { .. } | Error::Incomplete { .. } => ConnectorError::io(error.into()),
        _ => ConnectorError::user(error.into()),
    }
}
