//! Eviction from the cache of issued tokens.

use super::*;

#[tokio::test]
async fn the_cache_is_bounded() {
    let peer = ScriptedServer::start(|_, _| granted("new")).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let now = SystemTime::now();

    for number in 0..=MAX_CACHED_TOKENS {
        let subject = SubjectToken::new(&format!("caller{number}"));
        exchanger.exchange(&subject, TARGET, &[], || now, None).await.unwrap();
        assert!(exchanger.cache().len() <= MAX_CACHED_TOKENS);
    }
}

#[tokio::test]
async fn a_full_cache_evicts_the_token_that_expires_first_and_no_other() {
    let peer = ScriptedServer::start(|number, _| granted(&format!("t{number}"))).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let now = SystemTime::now();
    let get = async |name: usize, at: u64| {
        let subject = SubjectToken::new(&format!("caller{name}"));
        let at = now + Duration::from_millis(at);
        exchanger.exchange(&subject, TARGET, &[], || at, None).await.unwrap().as_str().to_owned()
    };
    // The first caller's token is the newest.
    for number in (0..MAX_CACHED_TOKENS).rev() {
        get(number, (MAX_CACHED_TOKENS - number) as u64).await;
    }

    assert_eq!(get(MAX_CACHED_TOKENS, 1000).await, "t257");

    for number in 0..MAX_CACHED_TOKENS - 1 {
        assert_eq!(get(number, 1000).await, format!("t{}", MAX_CACHED_TOKENS - number));
    }
    assert_eq!(get(MAX_CACHED_TOKENS - 1, 1000).await, "t258", "the one that was evicted");
    assert_eq!(get(MAX_CACHED_TOKENS, 1000).await, "t257");
    assert_eq!(get(MAX_CACHED_TOKENS - 2, 1000).await, "t259", "the next to expire");
}

fn entry(expires: Option<SystemTime>) -> CacheEntry {
    let token = ExchangedToken { value: Arc::new(Zeroizing::new("t".to_owned())) };
    CacheEntry { token: expires.map(|ends| (token, ends)), ..CacheEntry::default() }
}

#[test]
fn expired_tokens_are_evicted_before_others_and_requests_in_flight_last() {
    let now = SystemTime::now();
    let at = |seconds: usize| Some(now + Duration::from_secs(seconds as u64));
    let key = |number: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    };
    let fill = |expires: &dyn Fn(usize) -> Option<SystemTime>| -> HashMap<_, _> {
        (0..MAX_CACHED_TOKENS).map(|number| (key(number), entry(expires(number)))).collect()
    };
    let new = key(MAX_CACHED_TOKENS);

    // A key that is in the cache evicts nothing.
    let mut cache = fill(&|_| Some(now));
    evict_for(&mut cache, &key(7), now);
    assert_eq!(cache.len(), MAX_CACHED_TOKENS);

    // Three have expired or have no token; one of them is in flight.
    let mut cache = fill(&|number| match number {
        0 | 1 => Some(now),
        2 => None,
        number => at(number),
    });
    let request_lock = Arc::clone(&cache[&key(1)].request_lock);
    evict_for(&mut cache, &new, now);
    assert_eq!(cache.len(), MAX_CACHED_TOKENS - 2);
    assert!(cache.contains_key(&key(1)) && !cache.contains_key(&key(0)) && !cache.contains_key(&key(2)));
    drop(request_lock);

    // All but one are in flight.
    let mut cache = fill(&|number| (number == 9).then_some(now + Duration::from_secs(9)));
    let request_locks: Vec<_> = cache.values().map(|entry| Arc::clone(&entry.request_lock)).collect();
    evict_for(&mut cache, &new, now);
    assert!(cache.len() == MAX_CACHED_TOKENS - 1 && !cache.contains_key(&key(9)));
    cache.insert(new, CacheEntry::default());
    let newest = Arc::clone(&cache[&new].request_lock);
    evict_for(&mut cache, &key(9), now);
    assert_eq!(cache.len(), MAX_CACHED_TOKENS - 1);
    drop((request_locks, newest));
}

#[tokio::test]
async fn more_concurrent_requests_than_the_cache_has_room_for_stay_within_the_bound() {
    let peer = ScriptedServer::start(|_, _| granted("new")).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let exchanger = &exchanger;

    let exchanges = (0..MAX_CACHED_TOKENS + 30).map(|number| async move {
        let subject = SubjectToken::new(&format!("caller{number}"));
        exchanger.exchange(&subject, TARGET, &[], SystemTime::now, None).await
    });
    let tokens = futures_util::future::join_all(exchanges).await;

    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!(exchanger.cache().len(), MAX_CACHED_TOKENS);
}
