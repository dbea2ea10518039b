//! [`Hosts`]: names with a configured address, and the authority of their certificates.

use std::{collections::BTreeMap, io, net::SocketAddr};

use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    connect,
    url::{self, Reach, literal},
};

const HOSTS: &str = "MCP_FOREIGN_HOSTS";
const AUTHORITY_FILE: &str = "MCP_FOREIGN_AUTHORITY_FILE";

/// Host names that a client does not resolve, because the operator configures their address: hosts of a private network, or of a test.
///
/// Nothing of a request or a response adds a name. Each name has one address and port, which may be private, and only the
/// URL of the name without a port reaches it. The private authority is trusted for these names alone.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// By the name in lower case.
    addresses: BTreeMap<String, SocketAddr>,
    /// `None`: the certificates of the system.
    pub(crate) tls_config: Option<ClientConfig>,
}

/// Why the configured hosts are rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// A pair is malformed.
    #[error("{HOSTS} has the invalid entry `{entry}`: use NAME=ADDRESS:PORT, separated by commas, with each name once")]
    Entry {
        /// The entry.
        entry: String,
    },
    /// There is an authority without hosts.
    #[error("{AUTHORITY_FILE} has no effect without {HOSTS}: unset it, or set both")]
    AuthorityWithoutHosts,
    /// The file of the authority is not readable, or has no valid certificate.
    #[error("{AUTHORITY_FILE} names `{path}`, which has no valid certificate in PEM")]
    Authority {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Hosts {
    /// Reads the hosts from the variables `MCP_FOREIGN_HOSTS` and `MCP_FOREIGN_AUTHORITY_FILE`. Without them there are none.
    pub(crate) fn from_env<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, HostsError> {
        let (hosts, authority) = (get(HOSTS), get(AUTHORITY_FILE));
        let tls_config = match authority {
            Some(_) if hosts.is_none() => return Err(HostsError::AuthorityWithoutHosts),
            Some(path) => {
                Some(private(path).map_err(|source| HostsError::Authority { path: path.to_owned(), source })?)
            }
            None => None,
        };
        let mut addresses = BTreeMap::new();
        for entry in hosts.into_iter().flat_map(|hosts| hosts.split(',')).map(str::trim) {
            let (name, address) = parse(entry).ok_or_else(|| HostsError::Entry { entry: entry.to_owned() })?;
            if addresses.insert(name, address).is_some() {
                return Err(HostsError::Entry { entry: entry.to_owned() });
            }
        }
        Ok(Self { addresses, tls_config })
    }

    /// The configured address of a name, which has any case.
    pub(crate) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(&name.to_ascii_lowercase()).copied()
    }

    /// The configured address of a URL's host.
    pub(crate) fn address_of(&self, uri: &Uri) -> Option<SocketAddr> {
        self.address(uri.host()?)
    }
}

fn parse(entry: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = entry.split_once('=')?;
    let (name, address) = (name.trim().to_ascii_lowercase(), address.trim().parse::<SocketAddr>().ok()?);
    let uri = url::parse(&format!("https://{name}/"), Reach::Foreign).ok()?;
    let is_name = uri.host() == Some(&name) && uri.path() == "/" && literal(&name).is_none();
    (is_name && address.port() != 0).then_some((name, address))
}

/// The TLS configuration that trusts the authorities of a PEM file, and no others.
fn private(path: &str) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("it has no certificate"));
    }
    Ok(connect::tls_builder()?.with_root_certificates(roots).with_no_client_auth())
}
