//! How the AWS SDK reaches its services: HTTP/1.1, by the libraries that are linked anyway. The SDK's own client brings
//! HTTP/2, of which a single request has nothing.

use std::{sync::OnceLock, time::Duration};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect},
    rt::TokioExecutor,
};

/// As the SDK's own client.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

type HttpsClient = Client<HttpsConnector<connect::HttpConnector>, SdkBody>;

/// The client, for the SDK's configuration.
pub(crate) fn client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector::default());
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug, Default)]
struct Connector {
    /// Made when it is first needed, since reading the certificates takes a while.
    client: OnceLock<HttpsClient>,
}

impl Connector {
    fn client(&self) -> Result<HttpsClient, ConnectorError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| ConnectorError::user(error.into()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // It keeps no connection: none would survive a freeze.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(self.client.get_or_init(|| client).clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            // Said to be about I/O, it is tried again: nothing that is asked for changes anything.
            let response = client?.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
