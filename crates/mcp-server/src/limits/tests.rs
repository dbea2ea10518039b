#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    limiter::{Anonymous, Counted, Limits},
    rate_limit::RateLimit,
};
use crate::{Invocation, Limited, Principal};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn per_minute(requests: u32) -> RateLimit {
    RateLimit::per_caller(requests, MINUTE)
}

fn limits(limit: RateLimit) -> Limits {
    Limits::new(Some(limit), Anonymous::AsServer)
}

fn ada() -> Principal {
    Principal::new("https://issuer.example", "ada")
}

fn request_at(caller: Principal, received: SystemTime) -> Invocation {
    Invocation { principal: Some(Arc::new(caller)), received, ..Invocation::default() }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// How many requests of an address are served.
fn served(limits: &Limits, from: &str, received: SystemTime) -> usize {
    (0..100).take_while(|_| limits.count_anonymous(address(from), Counted::Requests(1), received).is_ok()).count()
}

#[tokio::test]
async fn a_window_begins_with_the_first_request_and_the_next_one_after_its_end() {
    let limits = limits(per_minute(2));
    let mut refused = Vec::new();
    for seconds in [0, 10, 23, 59, 60, 61, 119, 120] {
        let request = request_at(ada(), start() + seconds * SECOND);
        if let Err(limited) = limits.count(&request, None, None).await {
            refused.push((seconds, limited.retry_after.as_secs()));
        }
    }

    assert_eq!(refused, [(23, 37), (59, 1), (119, 1)]);
}

#[tokio::test]
async fn a_limit_of_a_tool_counts_beside_that_of_the_server() {
    let (limits, tool) = (limits(per_minute(3)), RateLimit::per_caller(1, 2 * MINUTE));
    let request = request_at(ada(), start());
    let mut texts = Vec::new();
    for tool in [Some(("a", &tool)), Some(("a", &tool)), Some(("b", &tool)), None] {
        texts.push(limits.count(&request, None, tool).await.map_err(|limited| limited.to_string()));
    }

    let of_tool = "rate limit reached: at most 1 call of `a` in 120 seconds for each caller; try again in 120 seconds";
    let of_all = "rate limit reached: at most 3 requests in 60 seconds for each caller; try again in 60 seconds";
    assert_eq!(texts, [Ok(()), Err(of_tool.to_owned()), Ok(()), Err(of_all.to_owned())]);
}

#[test]
fn continuations_have_a_count_of_their_own_that_an_open_question_does_not_reach() {
    for (limit, expected) in [(per_minute(1), 130), (per_minute(500), 500), (RateLimit::per_caller(1, SECOND), 12)] {
        let limits = limits(limit);
        let count = |counted| limits.count_anonymous(None, counted, start());
        let polls = (0..1000).take_while(|_| count(Counted::Continuation).is_ok()).count();
        let limited = count(Counted::Continuation).unwrap_err();

        assert_eq!(polls, expected);
        assert!(limited.message.contains(&format!("at most {expected} polls and answers in ")), "{limited}");
        assert!(count(Counted::Requests(1)).is_ok(), "a request is counted apart from polls");
    }
}

#[tokio::test]
async fn callers_differ_by_issuer_and_subject_alone() {
    let enormous = "x".repeat(1 << 20);
    let callers = [
        Principal::new("i", "s"),
        Principal::new("is", ""),
        Principal::new("", "is"),
        Principal::new("i", "S"),
        Principal::new("i", "s\0"),
        Principal::new("i", enormous.as_str()),
        Principal::new("i", format!("{enormous}y")),
    ];
    let limits = limits(per_minute(1));
    let bytes = limits.bytes();
    for caller in callers {
        let other = Principal { client_id: Some("other".to_owned()), name: Some("S".to_owned()), ..caller.clone() };
        assert!(limits.count(&request_at(caller, start()), None, None).await.is_ok());
        assert!(limits.count(&request_at(other, start()), None, None).await.is_err(), "another client");
    }

    assert_eq!(limits.bytes(), bytes);
}

#[test]
fn an_anonymous_caller_is_an_ipv4_address_or_an_ipv6_network() {
    for (first, second, is_same) in [
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false),
        ("192.0.2.7", "::ffff:192.0.2.7", true),
        ("::ffff:c000:207", "192.0.2.7", true),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", false),
        ("2001:db8::1", "2001:0DB8:0000:0000:0000:0000:0000:0001", true),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("::1", "::2", true),
        ("::192.0.2.7", "192.0.2.7", false),
    ] {
        let limits = limits(per_minute(1));
        assert_eq!(served(&limits, first, start()), 1);

        assert_eq!(served(&limits, second, start()), usize::from(!is_same), "{first} {second}");
    }
}

#[test]
fn callers_without_an_address_share_a_count_and_a_batch_counts_as_a_whole() {
    let limits = limits(per_minute(10));
    let count = |requests| limits.count_anonymous(None, Counted::Requests(requests), start());

    assert!(count(8).is_ok());
    assert!(count(3).unwrap_err().is_anonymous);
    assert!(count(2).is_ok());
    assert!(count(1).is_err());
    assert_eq!(served(&limits, "192.0.2.7", start()), 10);
}

#[tokio::test]
async fn the_limit_of_anonymous_callers_can_be_another_or_none() {
    let (tool, anonymous) = (per_minute(1), Invocation { received: start(), ..Invocation::default() });
    for (setting, expected, of_tool) in
        [(Anonymous::AsServer, 5, 1), (Anonymous::Limit(per_minute(7)), 7, 1), (Anonymous::Unlimited, 100, 100)]
    {
        let limits = Limits::new(Some(per_minute(5)), setting);
        let mut calls = 0;
        while calls < 100 && limits.count(&anonymous, address("192.0.2.7"), Some(("a", &tool))).await.is_ok() {
            calls += 1;
        }

        assert_eq!((served(&limits, "192.0.2.7", start()), calls), (expected, of_tool), "{setting:?}");
    }
}

/// A flood evicts counts of callers with few requests, and never rejects one for requests of others.
#[test]
fn a_flood_of_addresses_takes_a_fixed_amount_of_memory() {
    let limits = limits(per_minute(60));
    assert_eq!(served(&limits, "192.0.2.7", start()), 60);
    let bytes = limits.bytes();
    for number in 0..100_000_u32 {
        let v4 = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let v6 = IpAddr::from(Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(number) << 64)));
        assert!(
            [v4, v6].into_iter().all(|from| limits.count_anonymous(Some(from), Counted::Requests(1), start()).is_ok()),
            "{number}"
        );
    }

    assert_eq!((limits.bytes(), bytes), (2 * 128 * 1024, 2 * 128 * 1024));
    assert_eq!(served(&limits, "192.0.2.7", start() + SECOND), 0, "an address with many requests keeps its count");
}

#[test]
fn a_clock_that_was_set_back_locks_no_caller_out() {
    let limits = limits(per_minute(1));
    let count = |received| limits.count_anonymous(None, Counted::Requests(1), received);

    assert!(count(start()).is_ok());
    assert!(count(start() - 30 * SECOND).is_err(), "a concurrent request that was received earlier");
    assert!(count(start() - 61 * SECOND).is_ok());
    assert!(count(SystemTime::UNIX_EPOCH - SECOND).is_ok());
}

#[test]
#[should_panic(expected = "at least one request")]
fn a_limit_of_nothing_panics() {
    per_minute(0);
}

#[test]
#[should_panic(expected = "from one second to 90 days")]
fn a_window_that_is_too_long_panics() {
    RateLimit::per_caller(1, Duration::MAX);
}

#[test]
fn a_rejection_says_when_to_try_again() {
    let limits = limits(RateLimit::per_caller(1, SECOND));
    limits.count_anonymous(None, Counted::Requests(1), start()).unwrap();
    let Limited { message, retry_after, .. } = limits.count_anonymous(None, Counted::Requests(1), start()).unwrap_err();

    let expected = "rate limit reached: at most 1 request in 1 second for each network address without authentication; \
                    try again in 1 second";
    assert_eq!((message.as_str(), retry_after), (expected, SECOND));
}

#[cfg(feature = "store")]
mod store {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;
    use crate::store::{MemoryStore, SealedStore, Store, StoreKeys};

    /// Seconds since the start, which only the test moves.
    type Clock = Arc<AtomicU64>;

    fn now(clock: &Clock) -> SystemTime {
        start() + Duration::from_secs(clock.load(Ordering::SeqCst))
    }

    fn memory_store(clock: &Clock) -> MemoryStore {
        let clock = Arc::clone(clock);
        MemoryStore::with_clock(Arc::new(move || now(&clock)))
    }

    fn environment(store: &MemoryStore, limit: RateLimit) -> Limits {
        let keys = StoreKeys::new("server", &[1; 32], &[[2; 32]]).unwrap();
        limits(limit).with_store(Some(SealedStore::new(Arc::new(store.clone()), keys)))
    }

    /// Sends requests by two threads for each environment until each has seen the limit. Returns how many were served.
    fn exhaust(environments: &[Limits], now: impl Fn(usize) -> SystemTime + Sync) -> usize {
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..environments.len() * 2 {
                let (served, now, number) = (&served, &now, number / 2);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let request = request_at(ada(), now(number));
                    runtime.block_on(async {
                        let mut refused = 0;
                        while refused < 3 {
                            match environments[number].count(&request, None, None).await {
                                Ok(()) => _ = served.fetch_add(1, Ordering::SeqCst),
                                Err(_) => refused += 1,
                            }
                        }
                    });
                });
            }
        });
        served.into_inner()
    }

    #[test]
    fn no_more_than_the_blocks_of_all_environments_are_served_beyond_the_limit() {
        const LIMIT: usize = 2000;
        for block in [1, 5, 20] {
            for count in [1, 5, 20] {
                let clock = Clock::default();
                let store = memory_store(&clock);
                let limit = per_minute(u32::try_from(LIMIT).unwrap()).block(block);
                let environments: Vec<_> = (0..count).map(|_| environment(&store, limit)).collect();
                for window in 0..3 {
                    // The clocks of the environments differ.
                    let served = exhaust(&environments, |number| {
                        now(&clock) + Duration::from_millis(700) * u32::try_from(number).unwrap()
                    });

                    let blocks = block as usize * count;
                    assert!(served <= LIMIT + blocks, "{served} with {blocks} in window {window}");
                    if block == 1 {
                        assert!((LIMIT * 99 / 100..=LIMIT * 101 / 100).contains(&served), "{served} of {count}");
                    }
                    clock.fetch_add(60, Ordering::SeqCst);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_clock_that_stands_still_carries_at_most_one_block_into_the_next_window() {
        let (clock, limit) = (Clock::default(), per_minute(100).block(20));
        let store = memory_store(&clock);
        let environments: Vec<_> = (0..5).map(|_| environment(&store, limit)).collect();
        let request = request_at(ada(), start());
        for environment in &environments {
            environment.count(&request, None, None).await.unwrap();
        }
        clock.store(60, Ordering::SeqCst);
        let mut served = 0;
        for environment in &environments {
            while environment.count(&request, None, None).await.is_ok() {
                served += 1;
            }
        }

        assert_eq!(served, 100 + 5 * 19);
    }

    #[tokio::test]
    async fn unused_requests_of_a_block_are_lost_at_the_end_of_the_window() {
        let (clock, limit) = (Clock::default(), per_minute(40).block(20));
        let store = memory_store(&clock);
        let (first, second) = (environment(&store, limit), environment(&store, limit));
        first.count(&request_at(ada(), start()), None, None).await.unwrap();
        clock.store(60, Ordering::SeqCst);
        let request = request_at(ada(), now(&clock));
        let mut served = 0;
        for environment in [&second, &first] {
            while environment.count(&request, None, None).await.is_ok() {
                served += 1;
            }
        }

        assert_eq!(served, 40);
    }

    #[tokio::test]
    async fn a_caller_over_the_limit_reaches_the_store_once() {
        let (clock, limit) = (Clock::default(), per_minute(3).block(1));
        let store = memory_store(&clock);
        let environment = environment(&store, limit);
        let request = request_at(ada(), start());
        for _ in 0..3 {
            environment.count(&request, None, None).await.unwrap();
        }
        environment.count(&request, None, None).await.unwrap_err();
        // Another window of the store, of which the environment does not know yet.
        clock.store(61, Ordering::SeqCst);

        let limited = environment.count(&request_at(ada(), start() + 59 * SECOND), None, None).await.unwrap_err();

        assert_eq!(limited.retry_after, SECOND);
        assert!(environment.count(&request_at(ada(), start() + 60 * SECOND), None, None).await.is_ok());
    }

    #[test]
    fn a_flood_of_addresses_writes_no_row() {
        let clock = Clock::default();
        let store = memory_store(&clock);
        let environment = environment(&store, per_minute(60));
        for number in 0..100_000_u32 {
            environment
                .count_anonymous(Some(IpAddr::from(number.to_be_bytes())), Counted::Requests(1), start())
                .unwrap();
        }
        clock.store(90 * 24 * 60 * 60, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        assert_eq!(runtime.block_on(store.purge(500)).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_store_that_fails_opens_or_closes_the_limit_and_is_asked_again_after_a_cooldown() {
        let clock = Clock::default();
        for (limit, while_away) in
            [(per_minute(3), [true, true, true, false]), (per_minute(3).fail_closed(), [false; 4])]
        {
            let full = memory_store(&clock).with_capacity(0, 0);
            let environment = environment(&full, limit);
            let mut served = Vec::new();
            for _ in 0..4 {
                served.push(environment.count(&request_at(ada(), start()), None, None).await.is_ok());
            }
            let last = environment.count(&request_at(ada(), start() + 2 * SECOND), None, None).await.unwrap_err();

            assert_eq!(served, while_away);
            assert_eq!((last.is_unavailable, last.is_anonymous), (limit.fails_closed, false));
            let wait = if limit.fails_closed { 3 } else { 58 };
            assert_eq!(last.retry_after, wait * SECOND, "{last}");
        }
    }

    #[tokio::test]
    async fn a_store_that_is_there_again_is_used_after_the_cooldown() {
        let clock = Clock::default();
        let store = memory_store(&clock).with_capacity(1, 0);
        let environment = environment(&store, per_minute(1).fail_closed());
        let bob = || Principal::new("https://issuer.example", "bob");
        environment.count(&request_at(ada(), start()), None, None).await.unwrap();
        assert!(environment.count(&request_at(bob(), start()), None, None).await.unwrap_err().is_unavailable);
        // Ada's counter expires.
        clock.store(60, Ordering::SeqCst);

        assert!(environment.count(&request_at(bob(), start() + 4 * SECOND), None, None).await.is_err());
        assert!(environment.count(&request_at(bob(), start() + 5 * SECOND), None, None).await.is_ok());
    }

    #[tokio::test]
    async fn a_count_that_fails_alone_changes_nothing_for_other_callers() {
        let clock = Clock::default();
        // There is room for Ada's counter alone.
        let store = memory_store(&clock).with_capacity(1, 0);
        let environment = environment(&store, per_minute(10).block(1).fail_closed());
        let count = async |subject: &str, seconds: u32| {
            let caller = Principal::new("https://issuer.example", subject);
            environment.count(&request_at(caller, start() + seconds * SECOND), None, None).await
        };
        count("ada", 0).await.unwrap();

        assert!(count("bob", 0).await.unwrap_err().is_unavailable);
        count("ada", 1).await.unwrap();
        let waits = count("bob", 2).await.unwrap_err();
        assert_eq!((waits.is_unavailable, waits.retry_after), (true, 3 * SECOND));
        count("ada", 2).await.unwrap();
        assert!(count("eve", 3).await.unwrap_err().is_unavailable, "a second count: the store is away");
        assert!(count("ada", 4).await.unwrap_err().is_unavailable);
        assert_eq!(count("ada", 7).await.unwrap_err().retry_after, SECOND);
        count("ada", 8).await.unwrap();
    }

    #[test]
    fn the_default_block_is_one_request_or_a_twentieth() {
        for (requests, window, block) in [
            (1, SECOND, 1),
            (2, SECOND, 1),
            (60, MINUTE, 1),
            (61, MINUTE, 3),
            (120, MINUTE, 6),
            (1000, MINUTE, 50),
            (3600, 60 * MINUTE, 1),
            (86_400, 60 * MINUTE, 4320),
        ] {
            assert_eq!(RateLimit::per_caller(requests, window).block_size(), block, "{requests} in {window:?}");
        }
        assert_eq!(per_minute(120).block(20).block_size(), 20);
    }

    #[tokio::test]
    async fn all_clients_of_a_person_share_a_count_in_the_store() {
        let clock = Clock::default();
        let store = memory_store(&clock);
        let other = Principal { client_id: Some("other".to_owned()), ..ada() };

        environment(&store, per_minute(1)).count(&request_at(ada(), start()), None, None).await.unwrap();

        assert!(environment(&store, per_minute(1)).count(&request_at(other, start()), None, None).await.is_err());
    }
}
