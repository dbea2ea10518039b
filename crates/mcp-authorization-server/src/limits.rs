//! Limits of what anonymous callers cause: registrations, documents of clients, sign-ins, and wrong secrets.
//!
//! Counters are in the store, so that all environments share them. The networks of callers are divided by a keyed digest into 65,536
//! groups, each with one counter, and so are the sites of IPv6 networks: a flood from many networks cannot fill the store with counters either. An environment remembers which
//! limits are reached, so that the rest of a flood sends the store no request.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use mcp_server::store::{Increment, Kind, SealedStore, StoreError, StoreId};

/// Maximum number of remembered limits.
const MAX_REMEMBERED: usize = 4096;

/// How many times the limit of one network all networks of a site have.
const NETWORKS_OF_SITE: u64 = 5;

/// A limit of rows of one kind in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowLimit {
    pub(crate) kind: Kind,
    /// Maximum number for one network.
    pub(crate) per_network: u64,
    /// Maximum number for all networks.
    pub(crate) in_all: u64,
    pub(crate) window: Duration,
}

/// Counts rows.
pub(crate) struct RowLimits {
    store: SealedStore,
    /// The ends of the windows of limits that are reached.
    reached: Mutex<HashMap<Counter, SystemTime>>,
}

/// Kind of the rows, and id of the counter.
type Counter = (Kind, Vec<u8>);

impl RowLimits {
    pub(crate) fn new(store: SealedStore) -> Self {
        Self { store, reached: Mutex::default() }
    }

    /// Counts a row of a network. Returns `false` if a limit is reached.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn count(
        &self,
        limit: &RowLimit,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        if self.is_exhausted(limit, address, now) {
            return Ok(false);
        }
        for (own, ceiling) in self.counters(limit, address) {
            let increment = Increment { amount: 1, ceiling, window: limit.window };
            let id = StoreId { kind: limit.kind, caller: None, id: &own.1 };
            let counted = self.store.increment(&id, increment).await?;
            if counted.granted == 0 {
                self.remember(own, now, counted.ends_in.min(limit.window));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether this environment remembers that a limit is reached.
    pub(crate) fn is_exhausted(&self, limit: &RowLimit, address: Option<IpAddr>, now: SystemTime) -> bool {
        self.counters(limit, address).iter().any(|(own, _)| self.is_reached(own, now))
    }

    /// Returns the counters of a row with their ceilings: of its network, of its site if it has one, and of all.
    fn counters(&self, limit: &RowLimit, address: Option<IpAddr>) -> Vec<(Counter, u64)> {
        let group = |name: &[u8], text: &[u8]| {
            let id = [name, b" of ", text].concat();
            let key = self.store.row_key(&StoreId { kind: limit.kind, caller: None, id: &id });
            (limit.kind, [name, b" ", &key.as_bytes()[..2]].concat())
        };
        let own = address.map(network).unwrap_or_default();
        let site = own.get(..6).map(|site| (group(b"site", site), limit.per_network * NETWORKS_OF_SITE));
        let all = ((limit.kind, b"all".to_vec()), limit.in_all);
        [(group(b"network", &own), limit.per_network)].into_iter().chain(site).chain([all]).collect()
    }

    fn is_reached(&self, counter: &Counter, now: SystemTime) -> bool {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.get(counter).is_some_and(|end| now < *end)
    }

    fn remember(&self, counter: Counter, now: SystemTime, ends_in: Duration) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if reached.len() >= MAX_REMEMBERED {
            reached.retain(|_, end| now < *end);
        }
        if reached.len() < MAX_REMEMBERED {
            reached.insert(counter, now + ends_in);
        }
    }
}

impl fmt::Debug for RowLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowLimits(..)")
    }
}

/// The network of an address: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has. The first six bytes of the latter
/// are its site: the /48 that many providers assign.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use mcp_server::store::MemoryStore;

    use super::*;
    use crate::test_support::{at, sealed_store};

    const LIMIT: RowLimit =
        RowLimit { kind: Kind::new("test"), per_network: 5, in_all: 1000, window: Duration::from_secs(600) };

    fn ipv4(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[tokio::test]
    async fn a_network_that_reached_its_limit_sends_the_store_no_request() {
        let clock = Arc::new(AtomicU64::new(1_000));
        let own = Arc::clone(&clock);
        let store = MemoryStore::with_clock(Arc::new(move || at(own.load(Ordering::SeqCst))));
        let sealed = || sealed_store(Arc::new(store.clone()));
        let environments = [RowLimits::new(sealed()), RowLimits::new(sealed())];
        let counted = async |index: usize, address| {
            environments[index].count(&LIMIT, address, at(clock.load(Ordering::SeqCst))).await.unwrap()
        };

        for index in 0..5 {
            assert!(counted(index % 2, ipv4(1)).await, "{index}");
        }
        assert!(!counted(0, ipv4(1)).await && !counted(1, ipv4(1)).await);
        assert!(counted(0, ipv4(2)).await, "another network");
        // The counters are deleted, and the environments still know the limit.
        sealed().delete(&StoreId { kind: LIMIT.kind, caller: None, id: b"all" }).await.unwrap();
        let (_, id) = environments[0].counters(&LIMIT, ipv4(1)).remove(0).0;
        sealed().delete(&StoreId { kind: LIMIT.kind, caller: None, id: &id }).await.unwrap();
        assert!(!counted(0, ipv4(1)).await && !counted(1, ipv4(1)).await);
        clock.fetch_add(600, Ordering::SeqCst);
        assert!(counted(0, ipv4(1)).await, "the window has ended");
    }

    #[tokio::test]
    async fn the_networks_of_an_ipv6_site_have_a_limit_together() {
        let limits = RowLimits::new(sealed_store(Arc::new(MemoryStore::new())));
        let address = |site, network| Some(IpAddr::from([0x2001, 0xdb8, site, network, 0, 0, 0, 1]));
        let mut accepted = 0;
        for network in 0..100 {
            accepted += u64::from(limits.count(&LIMIT, address(1, network), at(0)).await.unwrap());
        }

        assert_eq!(accepted, LIMIT.per_network * NETWORKS_OF_SITE);
        assert!(limits.count(&LIMIT, address(2, 0), at(0)).await.unwrap());
    }

    #[tokio::test]
    async fn a_flood_from_many_networks_is_bounded_in_the_store_and_in_memory() {
        let store = MemoryStore::new();
        let limits = RowLimits::new(sealed_store(Arc::new(store.clone())));
        let mut accepted = 0;
        for number in 0..20_000 {
            accepted += u64::from(limits.count(&LIMIT, ipv4(number), at(0)).await.unwrap());
        }

        assert_eq!(accepted, LIMIT.in_all);
        assert!(limits.reached.lock().unwrap().len() <= MAX_REMEMBERED);
        // One counter for each accepted row, and few more.
        let rows = format!("{store:?}");
        let counters: u64 = rows.split("counters: ").nth(1).unwrap().split([',', ' ']).next().unwrap().parse().unwrap();
        assert!(counters <= LIMIT.in_all + 2, "{rows}");
        // All addresses of an IPv6 network are one, and an IPv4 address in an IPv6 address is the IPv4 address.
        let group = |address: IpAddr| limits.counters(&LIMIT, Some(address)).remove(0);
        let in_network = |network, last| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, last]);
        assert_eq!(group(in_network(1, 1)), group(in_network(1, 999)));
        assert_ne!(group(in_network(1, 1)), group(in_network(2, 1)));
        assert_eq!(group(IpAddr::from([192, 0, 2, 1])), group(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x201])));
    }
}
