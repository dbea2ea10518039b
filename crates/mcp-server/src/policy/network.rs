//! [`Network`]: what counts as one anonymous caller.

use std::net::IpAddr;

/// The network of an anonymous caller, by its address.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
pub(crate) enum Network {
    V4([u8; 4]),
    /// The first 64 bits: a network, in which one caller chooses its addresses.
    V6([u8; 8]),
    /// All callers whose address is not known.
    Unknown,
}

impl Network {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        // An IPv4 address that is written as an IPv6 address (`::ffff:192.0.2.7`) is the same caller.
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
            None => Self::Unknown,
        }
    }

    /// Returns the bytes of the site: an IPv4 address, or the first 48 bits of an IPv6 address, since one connection may have 65,536
    /// networks. Their number tells the kinds apart.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) fn site(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6([site @ .., _, _]) => site,
            Self::Unknown => &[],
        }
    }
}
