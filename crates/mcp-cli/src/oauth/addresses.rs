//! The address policy for URLs that a server or an issuer names.
//!
//! Allowed are public addresses and those of private networks, since a company may have an internal issuer. Only HTTPS
//! is used there. Loopback is allowed if the server is on loopback too. Never allowed are link-local and reserved addresses,
//! such as the metadata service of a cloud. The server's own host is configured by the user and may have any address. So may
//! the host of a proxy, for the connection to the proxy alone: a URL with that host is checked like any other.

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

const THIS_MACHINE: &str = "this machine, to which a server elsewhere cannot lead";

/// Decides about addresses, literal ones and those that a name resolves to.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    is_local: bool,
    /// The host of the server, which may have any address.
    server: String,
    /// The hosts of proxies, which may be connected to at any address.
    proxies: Arc<[String]>,
}

impl Addresses {
    pub(super) fn of(server: &Url) -> Self {
        let proxies: Vec<String> = PROXY_VARIABLES.iter().filter_map(|variable| std::env::var(variable).ok()).collect();
        Self::with_proxies(server, &proxies)
    }

    fn with_proxies(server: &Url, proxies: &[String]) -> Self {
        let proxies = proxies.iter().filter_map(|proxy| {
            let url = if proxy.contains("://") { Url::parse(proxy) } else { Url::parse(&format!("http://{proxy}")) };
            url.ok()?.host_str().map(normal)
        });
        let host = server.host_str().map(normal).unwrap_or_default();
        Self { is_local: is_loopback(&host), server: host, proxies: proxies.collect() }
    }

    /// Checks the host of a URL as it is written: a literal address is connected to without being resolved, and a proxy
    /// resolves names by itself.
    ///
    /// # Errors
    ///
    /// If the address is not allowed.
    pub(super) fn check(&self, url: &Url) -> anyhow::Result<()> {
        let host = normal(url.host_str().unwrap_or_default());
        if host == self.server {
            return Ok(());
        }
        let reason = match url.host() {
            Some(Host::Ipv4(address)) => self.refusal(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.refusal(IpAddr::V6(address)),
            // RFC 6761, section 6.3.
            Some(Host::Domain(_)) if host == "localhost" || host.ends_with(".localhost") => {
                (!self.is_local).then_some(THIS_MACHINE)
            }
            Some(Host::Domain(_)) | None => None,
        };
        match reason {
            Some(reason) => bail!("{host} is {reason}"),
            None => Ok(()),
        }
    }

    /// Checks the host of a URL before a request. Where it is that of a proxy, whose addresses are not checked when it is
    /// connected to, they are checked here.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), and when a proxy's name has no other address.
    pub(super) async fn check_request(&self, url: &Url) -> anyhow::Result<()> {
        self.check(url)?;
        let host = normal(url.host_str().unwrap_or_default());
        if host != self.server && self.proxies.contains(&host) {
            let resolved = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            self.public(&host, resolved).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// The reason for which an address is not allowed.
    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let address = match address {
            IpAddr::V6(own) => embedded(own).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        if address.is_loopback() {
            return (!self.is_local).then_some(THIS_MACHINE);
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
    /// Those of a host's addresses that may be connected to.
    fn allowed(&self, host: &str, resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        match host == self.server || self.proxies.iter().any(|own| own == host) {
            true => Ok(resolved),
            false => self.public(host, resolved),
        }
    }

    /// Those of a host's addresses to which a server may lead.
    fn public(&self, host: &str, resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
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

    #[tokio::test]
    async fn a_proxy_on_this_machine_leads_no_url_there() {
        let far = Url::parse(FAR).unwrap();
        for proxy in ["http://127.0.0.1:9480", "127.0.0.1:9480", "http://localhost:9480", "socks5h://[::1]:9480"] {
            let addresses = Addresses::with_proxies(&far, &[proxy.to_owned()]);
            for url in [
                "http://127.0.0.1:9411/x",
                "https://127.0.0.1/x",
                "https://127.1/x",
                "https://2130706433/x",
                "https://0x7f.1/x",
                "http://localhost:9411/x",
                "https://LOCALHOST./x",
                "https://a.localhost/x",
                "http://[::1]:9411/x",
                "https://[::ffff:127.0.0.1]/x",
            ] {
                let url = Url::parse(url).unwrap();
                let error = addresses.check_request(&url).await.unwrap_err().to_string();
                assert!(error.ends_with(THIS_MACHINE), "{url} with {proxy}: {error}");
            }
            assert!(addresses.check_request(&Url::parse("https://id.example/x").unwrap()).await.is_ok());
        }
        let resolved: Vec<SocketAddr> = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let addresses = Addresses::with_proxies(&far, &["http://proxy.corp:3128".to_owned()]);
        assert_eq!(addresses.allowed("proxy.corp", resolved.clone()).unwrap(), resolved, "the connection to the proxy");
        assert!(addresses.public("proxy.corp", resolved).is_err(), "a URL with the proxy's host");
    }

    #[tokio::test]
    async fn a_local_server_leads_to_this_machine() {
        for server in ["http://localhost:9000/mcp", "http://127.0.0.1:9000/mcp"] {
            let addresses = Addresses::with_proxies(&Url::parse(server).unwrap(), &["127.0.0.1:9480".to_owned()]);
            for url in ["http://localhost:1/x", "http://127.0.0.2:1/x", "http://[::1]:1/x"] {
                assert!(addresses.check_request(&Url::parse(url).unwrap()).await.is_ok(), "{url}");
            }
        }
    }
}
