//! Which tokens are kept when there is no room for another.

use super::*;

#[tokio::test]
async fn the_tokens_that_are_kept_are_bounded() {
    let peer = Peer::start(|_, _| granted("new")).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let now = SystemTime::now();

    for number in 0..=MAX_KEPT {
        let subject = SubjectToken::new(&format!("caller{number}"));
        exchanger.exchange(&subject, TARGET, &[], || now, None).await.unwrap();
        assert!(exchanger.kept().len() <= MAX_KEPT);
    }
}

#[tokio::test]
async fn a_full_cache_evicts_the_token_that_expires_first_and_no_other() {
    let peer = Peer::start(|number, _| granted(&format!("t{number}"))).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let now = SystemTime::now();
    let get = async |name: usize, at: u64| {
        let subject = SubjectToken::new(&format!("caller{name}"));
        let at = now + Duration::from_millis(at);
        exchanger.exchange(&subject, TARGET, &[], || at, None).await.unwrap().as_str().to_owned()
    };
    // The first caller's token is the newest.
    for number in (0..MAX_KEPT).rev() {
        get(number, (MAX_KEPT - number) as u64).await;
    }

    assert_eq!(get(MAX_KEPT, 1000).await, "t257");

    for number in 0..MAX_KEPT - 1 {
        assert_eq!(get(number, 1000).await, format!("t{}", MAX_KEPT - number));
    }
    assert_eq!(get(MAX_KEPT - 1, 1000).await, "t258", "the one that was evicted");
    assert_eq!(get(MAX_KEPT, 1000).await, "t257");
    assert_eq!(get(MAX_KEPT - 2, 1000).await, "t259", "the next to expire");
}

fn slot(expires: Option<SystemTime>) -> Slot {
    let token = ExchangedToken { value: Arc::new(Zeroizing::new("t".to_owned())) };
    Slot { token: expires.map(|ends| (token, ends)), ..Slot::default() }
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
        (0..MAX_KEPT).map(|number| (key(number), slot(expires(number)))).collect()
    };
    let new = key(MAX_KEPT);

    // A key that has a slot needs no room.
    let mut kept = fill(&|_| Some(now));
    make_room(&mut kept, &key(7), now);
    assert_eq!(kept.len(), MAX_KEPT);

    // Three have expired or failed; one of them is being requested again.
    let mut kept = fill(&|number| match number {
        0 | 1 => Some(now),
        2 => None,
        number => at(number),
    });
    let flight = Arc::clone(&kept[&key(1)].flight);
    make_room(&mut kept, &new, now);
    assert_eq!(kept.len(), MAX_KEPT - 2);
    assert!(kept.contains_key(&key(1)) && !kept.contains_key(&key(0)) && !kept.contains_key(&key(2)));
    drop(flight);

    // All but one are being requested.
    let mut kept = fill(&|number| (number == 9).then_some(now + Duration::from_secs(9)));
    let flights: Vec<_> = kept.values().map(|slot| Arc::clone(&slot.flight)).collect();
    make_room(&mut kept, &new, now);
    assert!(kept.len() == MAX_KEPT - 1 && !kept.contains_key(&key(9)));
    kept.insert(new, Slot::default());
    let newest = Arc::clone(&kept[&new].flight);
    make_room(&mut kept, &key(9), now);
    assert_eq!(kept.len(), MAX_KEPT - 1);
    drop((flights, newest));
}

#[tokio::test]
async fn more_requests_at_once_than_tokens_are_kept_stay_within_the_bound() {
    let peer = Peer::start(|_, _| granted("new")).await;
    let exchanger = exchanger(&peer.url("/token"), &[]);
    let exchanger = &exchanger;

    let exchanges = (0..MAX_KEPT + 30).map(|number| async move {
        let subject = SubjectToken::new(&format!("caller{number}"));
        exchanger.exchange(&subject, TARGET, &[], SystemTime::now, None).await
    });
    let tokens = futures_util::future::join_all(exchanges).await;

    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!(exchanger.kept().len(), MAX_KEPT);
}
