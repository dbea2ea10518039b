//! Connections: DNS resolution, address checks, TCP and TLS.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier, crypto::aws_lc_rs};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    address::Kind,
    hosts::Hosts,
    url::{Reach, literal},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Resolves a name. The ports of the addresses are ignored.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system dependencies of a client, which tests replace.
#[derive(Clone)]
pub(crate) struct Dependencies {
    pub(crate) lookup: Lookup,
    pub(crate) kind_of: fn(IpAddr) -> Kind,
    pub(crate) tls_config: fn() -> io::Result<&'static ClientConfig>,
}

impl Dependencies {
    /// The system's resolver and root certificates, and the address classification of this crate.
    pub(crate) fn system() -> Self {
        let lookup: Lookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }));
        Self { lookup, kind_of: Kind::of, tls_config }
    }
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies").finish_non_exhaustive()
    }
}

/// The host has an address that the client must not connect to.
#[derive(Debug, thiserror::Error)]
#[error("the host has an address that is not allowed")]
pub(crate) struct ForbiddenAddress;

/// Creates a connector that checks addresses.
///
/// # Errors
///
/// When no root certificates can be loaded.
pub(crate) fn connector(
    reach: Reach,
    hosts: &Arc<Hosts>,
    dependencies: &Dependencies,
    timeout: Duration,
) -> io::Result<TlsConnector> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver {
        reach,
        hosts: Arc::clone(hosts),
        dependencies: dependencies.clone(),
    });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    let connector = Connector { reach, hosts: Arc::clone(hosts), kind_of: dependencies.kind_of, tcp };
    let with_tls = |config: &ClientConfig| {
        let builder = HttpsConnectorBuilder::new().with_tls_config(config.clone());
        builder.https_or_http().enable_http1().wrap_connector(connector.clone())
    };
    let system = with_tls((dependencies.tls_config)()?);
    let configured = hosts.tls_config.as_ref().map_or_else(|| system.clone(), with_tls);
    Ok(TlsConnector { hosts: Arc::clone(hosts), system, configured })
}

/// The TLS configuration, shared by all clients of the process, because loading the root certificates is slow.
fn tls_config() -> io::Result<&'static ClientConfig> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = tls_builder()?.with_native_roots()?.with_no_client_auth();
    Ok(CONFIG.get_or_init(|| config))
}

/// A TLS configuration whose roots are to be set.
pub(crate) fn tls_builder() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

/// TLS over a [`Connector`]. The name of a configured host is verified by the authority of the configured hosts, every other name by
/// those of the system.
#[derive(Clone)]
pub(crate) struct TlsConnector {
    hosts: Arc<Hosts>,
    system: HttpsConnector<Connector>,
    configured: HttpsConnector<Connector>,
}

impl Service<Uri> for TlsConnector {
    type Response = <HttpsConnector<Connector> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = <HttpsConnector<Connector> as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.system.poll_ready(context))?;
        self.configured.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if self.hosts.address_of(&uri).is_some() { self.configured.call(uri) } else { self.system.call(uri) }
    }
}

/// Opens TCP connections to checked addresses.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    reach: Reach,
    hosts: Arc<Hosts>,
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
        // An IP address literal is not resolved, and is checked here.
        let literal = uri.host().and_then(literal);
        if literal.is_some_and(|address| reach == Reach::Foreign && kind_of(address) != Kind::Public) {
            return Box::pin(async { Err(ForbiddenAddress.into()) });
        }
        let configured = self.hosts.address_of(&uri);
        // A URL must not choose another port of a configured address.
        if configured.is_some() && uri.port().is_some() {
            return Box::pin(async { Err(ForbiddenAddress.into()) });
        }
        let is_http = uri.scheme() == Some(&Scheme::HTTP);
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            let peer = stream.inner().peer_addr()?;
            let kind = kind_of(peer.ip());
            let is_allowed = match reach {
                Reach::Foreign if configured.is_some() => !is_http && configured == Some(peer),
                Reach::Foreign => !is_http && kind == Kind::Public,
                // The name `localhost` may resolve to another address.
                Reach::Trusted => !is_http || kind == Kind::Loopback,
                Reach::Unrestricted => true,
            };
            if is_allowed { Ok(stream) } else { Err(ForbiddenAddress.into()) }
        })
    }
}

/// Resolves names, and rejects names with a forbidden address.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    reach: Reach,
    hosts: Arc<Hosts>,
    dependencies: Dependencies,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if let Some(address) = self.hosts.address(name.as_str()) {
            return Box::pin(async move { Ok(vec![address].into_iter()) });
        }
        let (reach, kind_of) = (self.reach, self.dependencies.kind_of);
        let resolving = (self.dependencies.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = resolving.await?;
            // One non-public address is enough to reject the name: an attacker controls its DNS answers.
            if reach == Reach::Foreign && addresses.iter().any(|address| kind_of(address.ip()) != Kind::Public) {
                return Err(ForbiddenAddress.into());
            }
            Ok(addresses.into_iter())
        })
    }
}
