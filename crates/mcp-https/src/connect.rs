//! Connections: resolution, the check of addresses, TCP and TLS.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
    vec,
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    address::Kind,
    url::{Reach, literal},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Resolves a name; the ports of the addresses do not count.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// What a client finds around it, which tests replace.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) lookup: Lookup,
    pub(crate) kind_of: fn(IpAddr) -> Kind,
    pub(crate) tls_config: fn() -> io::Result<&'static ClientConfig>,
}

impl Surroundings {
    /// The resolver of the system, the registries of addresses, the root certificates of the machine.
    pub(crate) fn system() -> Self {
        let lookup: Lookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }));
        Self { lookup, kind_of: Kind::of, tls_config }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// TLS over a [`Connector`].
pub(crate) type TlsConnector = HttpsConnector<Connector>;

/// The host has an address that the client does not connect to.
#[derive(Debug, thiserror::Error)]
#[error("an address of the host is not one that may be connected to")]
pub(crate) struct ForbiddenAddress;

/// A connector to addresses that were checked.
///
/// # Errors
///
/// When there are no root certificates.
pub(crate) fn connector(reach: Reach, around: &Surroundings, timeout: Duration) -> io::Result<TlsConnector> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { reach, around: around.clone() });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    let builder = HttpsConnectorBuilder::new().with_tls_config((around.tls_config)()?.clone());
    let connector = Connector { reach, kind_of: around.kind_of, tcp };
    Ok(builder.https_or_http().enable_http1().wrap_connector(connector))
}

/// Shared by all clients of the process: reading the certificates takes a while.
fn tls_config() -> io::Result<&'static ClientConfig> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_native_roots()?
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| config))
}

/// TCP to addresses that were checked.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    reach: Reach,
    kind_of: fn(IpAddr) -> Kind,
    tcp: HttpConnector<Resolver>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { reach, kind_of, .. } = *self;
        // An address in place of a name is not resolved.
        let literal = uri.host().and_then(literal);
        if literal.is_some_and(|address| reach == Reach::Foreign && kind_of(address) != Kind::Public) {
            return Box::pin(async { Err(ForbiddenAddress.into()) });
        }
        let is_http = uri.scheme() == Some(&Scheme::HTTP);
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            let kind = kind_of(stream.inner().peer_addr()?.ip());
            let is_allowed = match reach {
                Reach::Foreign => !is_http && kind == Kind::Public,
                // `localhost` is only a name.
                Reach::Trusted => !is_http || kind == Kind::Loopback,
                Reach::Unrestricted => true,
            };
            if is_allowed { Ok(stream) } else { Err(ForbiddenAddress.into()) }
        })
    }
}

/// Resolves names to addresses that may be connected to.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    reach: Reach,
    around: Surroundings,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (reach, kind_of) = (self.reach, self.around.kind_of);
        let resolving = (self.around.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = resolving.await?;
            // One non-public address is enough: the owner of the name decides which address is used.
            if reach == Reach::Foreign && addresses.iter().any(|address| kind_of(address.ip()) != Kind::Public) {
                return Err(ForbiddenAddress.into());
            }
            Ok(addresses.into_iter())
        })
    }
}
