//! The address policy for URLs that a server or an issuer names.
//!
//! Allowed are public addresses and those of private networks, since a company may have an internal issuer. Only
//! HTTPS is used. Loopback is allowed if the server is on loopback too. Never allowed are link-local and reserved
//! addresses, such as the metadata service of a cloud. The server's own host is configured by the user and may have any address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::bail;
use mcp_protocol::uri::is_loopback;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The variables that name proxies, which may have any address.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The address policy, for literal addresses and for those that a name resolves to.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    is_local: bool,
    /// Hosts that may have any address.
    chosen: Arc<[String]>,
}

impl Addresses {
    pub(super) fn of(server: &Url) -> Self {
        let proxies = PROXY_VARIABLES.iter().filter_map(|variable| std::env::var(variable).ok());
        let proxies = proxies.filter_map(|proxy| {
            let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
            Url::parse(&proxy).ok()
        });
        let chosen = proxies.chain([server.clone()]).filter_map(|url| url.host_str().map(normal));
        Self { is_local: server.host_str().is_some_and(is_loopback), chosen: chosen.collect() }
    }

    /// Checks a literal address, which is not resolved.
    ///
    /// # Errors
    ///
    /// If the address is not allowed.
    pub(super) fn check(&self, url: &Url) -> anyhow::Result<()> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        let host = url.host_str().unwrap_or_default();
        match self.refusal(address) {
            Some(reason) if !self.is_chosen(host) => bail!("{host} is {reason}"),
            _ => Ok(()),
        }
    }

    fn is_chosen(&self, host: &str) -> bool {
        self.chosen.contains(&normal(host))
    }

    /// The reason for which an address is not allowed.
    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let address = match address {
            IpAddr::V6(own) => embedded(own).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        if address.is_loopback() {
            return (!self.is_local).then_some("this machine, to which a server elsewhere cannot lead");
        }
        let is_special = match address {
            IpAddr::V4(own) => {
                own.octets()[0] == 0
                    || own.octets()[0] >= 240
                    || own.is_link_local()
                    || own.is_multicast()
                    || matches!(own.octets(), [198, 18 | 19, ..])
            }
            IpAddr::V6(own) => {
                let segments = own.segments();
                own.is_unspecified()
                    || own.is_multicast()
                    || own.is_unicast_link_local()
                    || segments[..2] == [0x2001, 0]
                    || segments[..3] == [0x64, 0xff9b, 1]
                    // The metadata service of AWS.
                    || segments[..2] == [0xfd00, 0xec2]
            }
        };
        is_special.then_some("a link-local or reserved address, to which no server can lead")
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let own = self.clone();
        Box::pin(async move {
            let host = normal(name.as_str());
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(own.allowed(&host, resolved)?.into_iter()) as Addrs)
        })
    }
}

impl Addresses {
    /// The allowed addresses of a host.
    fn allowed(&self, host: &str, resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        if self.is_chosen(host) {
            return Ok(resolved);
        }
        let refusal = resolved.iter().find_map(|own| Some((own.ip(), self.refusal(own.ip())?)));
        let allowed: Vec<_> = resolved.into_iter().filter(|own| self.refusal(own.ip()).is_none()).collect();
        match refusal {
            Some((address, reason)) if allowed.is_empty() => Err(format!("{host} has the address {address}, {reason}")),
            _ => Ok(allowed),
        }
    }
}

/// The IPv4 address within one of IPv6: mapped, compatible, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(at(12)),
        [0, 0, 0, 0, 0, 0, ..] if !address.is_loopback() && !address.is_unspecified() => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: &str = "https://mcp.example.com/mcp";

    fn is_allowed(server: &str, url: &str) -> bool {
        Addresses::of(&Url::parse(server).unwrap()).check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn private_addresses_are_allowed_and_special_ones_are_not_o15() {
        for url in [
            "https://10.0.0.9/",
            "https://192.168.1.1/",
            "https://[fd00::2]/",
            "https://93.184.216.34/",
            "https://100.64.0.1/",
        ] {
            assert!(is_allowed(FAR, url), "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://[ff02::1]/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://255.255.255.255/",
            "https://198.18.0.1/",
        ] {
            assert!(!is_allowed(FAR, url), "{url}");
        }
        assert!(is_allowed("http://127.0.0.1:1/mcp", "http://127.0.0.2:2/token"));
        assert!(is_allowed("https://[fe80::1]/mcp", "https://[fe80::1]/token"), "the user's own choice");
        assert!(!is_allowed("http://localhost/mcp", "http://169.254.169.254/"));
    }

    #[test]
    fn addresses_of_names_follow_the_same_rule_o15() {
        let addresses = Addresses::of(&Url::parse(FAR).unwrap());
        let resolved =
            |addresses: &[&str]| addresses.iter().map(|own| (own.parse::<IpAddr>().unwrap(), 0).into()).collect();

        assert_eq!(
            addresses.allowed("sso.corp", resolved(&["127.0.0.1", "10.0.0.9"])).unwrap(),
            resolved(&["10.0.0.9"])
        );
        let error = addresses.allowed("evil.example", resolved(&["127.0.0.1"])).unwrap_err();
        assert!(error.starts_with("evil.example has the address 127.0.0.1, this machine"), "{error}");
        assert!(addresses.allowed("imds.example", resolved(&["169.254.169.254"])).is_err());
        assert_eq!(addresses.allowed("mcp.example.com", resolved(&["127.0.0.1"])).unwrap(), resolved(&["127.0.0.1"]));
    }
}
