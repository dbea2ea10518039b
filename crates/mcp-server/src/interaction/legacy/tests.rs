//! Tests of ids, and of rounds over several environments that share a store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcp_protocol::{ClientCapabilities, JsonObject, RequestId, json};
use serde_json::{Value, value::to_raw_value};

use super::{
    open_calls::{Added, MAX_OPEN_QUESTIONS, OpenCalls, group_of},
    seal::{Purpose, Seals},
    timed_store::TimedStore,
    tokens::Id,
    *,
};
use crate::{
    Principal, StateKey,
    store::{MemoryStore, SealedStore, StoreKeys},
};

const NOW: SystemTime = UNIX_EPOCH;
const LEASE: Duration = Duration::from_secs(30);

fn key(first: char) -> StateKey {
    StateKey::parse(&format!("{first}{}=", "A".repeat(42))).unwrap()
}

fn seals() -> Seals {
    Seals::new(&key('A'), "server", Arc::default()).unwrap()
}

fn ada() -> Principal {
    Principal::new("https://issuer.example", "ada")
}

/// A clock that tests advance.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn now(&self) -> SystemTime {
        NOW + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn store(&self) -> MemoryStore {
        let own = self.clone();
        MemoryStore::with_clock(Arc::new(move || own.now()))
    }
}

/// A new environment.
fn environment(store: &MemoryStore) -> LegacyQuestions {
    let keys = StoreKeys::from_state_key("server", &key('A')).unwrap();
    let store = SealedStore::new(Arc::new(store.clone()), keys);
    LegacyQuestions::new(&key('A'), "server", store, Arc::default()).unwrap()
}

async fn session(questions: &LegacyQuestions) -> LegacySession {
    let id = questions.session_id(&ClientCapabilities::elicitation(), None).unwrap();
    questions.open_session(&id).await.unwrap()
}

fn result(questions: usize) -> String {
    let one = r#"{"method":"elicitation/create","params":{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{}}}}"#;
    let requests: Vec<String> = (0..questions).map(|number| format!(r#""key{number}":{one}"#)).collect();
    format!(r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":"state"}}"#, requests.join(","))
}

fn new<'a>(id: &'a RequestId, result: &'a str) -> NewRound<'a> {
    NewRound {
        id,
        method: "tools/call",
        item: "greet",
        params: None,
        progress_token: None,
        result,
        logs: 0,
        progress: None,
    }
}

async fn ask(store: &MemoryStore, questions: usize, now: SystemTime) -> Vec<StreamEvent> {
    let own = environment(store);
    let id = RequestId::from(7);
    let round = own.ask(Some(&ada()), &session(&own).await, new(&id, &result(questions)), now).await.unwrap();
    own.events(Some(&ada()), &round).unwrap()
}

fn question_id(event: &StreamEvent) -> String {
    let message: Value = serde_json::from_str(&event.data).unwrap();
    message["id"].as_str().unwrap().to_owned()
}

async fn answer(store: &MemoryStore, event: &StreamEvent, text: &str, now: SystemTime) {
    let own = environment(store);
    let question = own.open_question(Some(&ada()), &question_id(event), now).await.unwrap();
    own.answer(Some(&ada()), &question, &format!(r#"{{"result":{{"action":"{text}"}}}}"#)).await.unwrap();
}

async fn resume(store: &MemoryStore, id: &str, is_repeatable: bool, now: SystemTime) -> Resumption {
    let own = environment(store);
    let event = own.open_event(Some(&ada()), id).await.unwrap();
    own.resume(Some(&ada()), event, is_repeatable, LEASE, now).await.unwrap()
}

fn last_id(events: &[StreamEvent]) -> &str {
    events.last().unwrap().id.as_deref().unwrap()
}

#[tokio::test]
async fn a_session_id_is_short_and_holds_what_was_declared() {
    let of = async |text: &str| {
        let declared = json::borrow::<ClientCapabilities>(text).unwrap();
        let id = LegacySession::seal(&seals(), &declared, 4095).unwrap();
        assert!(id.len() <= 512 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        LegacySession::open(&seals(), &id).await.unwrap().capabilities()
    };

    assert!(of("{}").await.is_empty());
    assert_eq!(of(r#"{"elicitation":{}}"#).await, ClientCapabilities::elicitation());
    assert_eq!(of(r#"{"elicitation":{"url":{}}}"#).await, ClientCapabilities::elicitation_url());
    assert_eq!(of(r#"{"roots":{"listChanged":true},"experimental":{"x":{}}}"#).await, ClientCapabilities::roots());
    assert_eq!(
        of(r#"{"sampling":{"tools":{},"other":{}}}"#).await.sampling.unwrap().keys().collect::<Vec<_>>(),
        ["tools"]
    );
    assert_eq!(of(r#"{"sampling":{}}"#).await.sampling, Some(JsonObject::new()));
}

#[tokio::test]
async fn a_sealed_value_opens_only_for_its_purpose_caller_server_and_key() {
    let own = seals();
    let (desktop, eve) =
        (Principal { client_id: Some("desktop".to_owned()), ..ada() }, Principal::new("https://issuer.example", "eve"));
    let sealed = own.seal(Purpose::Event, Some(&ada()), b"value").unwrap();
    async fn open(seals: &Seals, purpose: Purpose, caller: Option<&Principal>, text: &str) -> Option<Vec<u8>> {
        seals.open(purpose, caller, text, 4096).await
    }

    assert_eq!(open(&own, Purpose::Event, Some(&ada()), &sealed).await.unwrap(), b"value");
    assert!(open(&own, Purpose::Question, Some(&ada()), &sealed).await.is_none());
    for caller in [None, Some(&eve), Some(&desktop)] {
        assert!(open(&own, Purpose::Event, caller, &sealed).await.is_none(), "{caller:?}");
    }
    let [other_key, other_server] = [('B', "server"), ('A', "other")]
        .map(|(first, server)| Seals::new(&key(first), server, Arc::default()).unwrap());
    assert!(open(&other_key, Purpose::Event, Some(&ada()), &sealed).await.is_none());
    assert!(open(&other_server, Purpose::Event, Some(&ada()), &sealed).await.is_none());
    for position in 0..sealed.len() {
        let mut changed = sealed.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(open(&own, Purpose::Event, Some(&ada()), &changed).await.is_none(), "{position}");
        assert!(open(&own, Purpose::Event, Some(&ada()), &sealed[..position]).await.is_none(), "{position}");
    }
    assert!(own.open(Purpose::Event, Some(&ada()), &sealed, sealed.len() - 1).await.is_none(), "the bound");
}

#[tokio::test]
async fn polls_slow_down_to_one_in_two_seconds() {
    let clock = Clock::default();
    let store = clock.store();
    let mut id = last_id(&ask(&store, 1, NOW).await).to_owned();
    let (mut waited, mut polls) = (Duration::from_millis(250), 0);
    while waited < Duration::from_secs(120) {
        let Resumption::Waiting(events) = resume(&store, &id, true, NOW).await else { panic!("no answer was given") };
        waited += events.last().unwrap().retry.unwrap();
        let next = last_id(&events).to_owned();
        assert_ne!(next, id);
        id = next;
        polls += 1;
    }

    assert!((60..=70).contains(&polls), "{polls}");
}

#[tokio::test]
async fn a_round_runs_once_and_each_later_poll_gets_its_outcome() {
    let clock = Clock::default();
    let store = clock.store();
    let events = ask(&store, 2, NOW).await;
    assert_eq!(events.len(), 4);
    answer(&store, &events[1], "accept", NOW).await;
    assert!(matches!(resume(&store, last_id(&events), false, NOW).await, Resumption::Waiting(_)), "one is missing");
    answer(&store, &events[2], "decline", NOW).await;
    // A second answer to the same question changes nothing.
    answer(&store, &events[2], "cancel", NOW).await;

    let Resumption::Run(replay) = resume(&store, last_id(&events), false, NOW).await else { panic!("complete") };
    assert_eq!(replay.responses().get(), r#"{"key0":{"action":"accept"},"key1":{"action":"decline"}}"#);
    assert_eq!(replay.state().get(), r#""state""#);
    assert!(matches!(resume(&store, last_id(&events), false, NOW).await, Resumption::Waiting(_)), "it is running");
    let outcome = RoundOutcome::Response("done".to_owned());
    let finished = environment(&store).finish(Some(&ada()), &replay, outcome, NOW).await.unwrap();

    assert!(matches!(finished, Resumption::Response(message) if message == "done"));
    for id in events.iter().filter_map(|event| event.id.as_deref()) {
        let resumed = resume(&store, id, false, NOW).await;
        assert!(matches!(&resumed, Resumption::Response(message) if message == "done"), "{resumed:?}");
    }
}

#[tokio::test]
async fn a_run_that_was_lost_is_repeated_only_if_that_is_safe() {
    for is_repeatable in [true, false] {
        let clock = Clock::default();
        let store = clock.store();
        let events = ask(&store, 1, NOW).await;
        answer(&store, &events[1], "accept", NOW).await;
        let Resumption::Run(lost) = resume(&store, last_id(&events), is_repeatable, NOW).await else {
            panic!("complete")
        };
        clock.advance(31);

        let resumed = resume(&store, last_id(&events), is_repeatable, clock.now()).await;
        let expected = match (is_repeatable, resumed) {
            (true, Resumption::Run(replay)) => {
                let outcome = RoundOutcome::Response("second".to_owned());
                drop(environment(&store).finish(Some(&ada()), &replay, outcome, clock.now()).await.unwrap());
                "second"
            }
            (false, Resumption::Response(message)) => {
                assert!(message.contains("the outcome is unknown"), "{message}");
                "unknown"
            }
            (_, resumed) => panic!("{resumed:?}"),
        };
        // The lost environment thaws: its outcome no longer counts.
        let late = RoundOutcome::Response("first".to_owned());
        let finished = environment(&store).finish(Some(&ada()), &lost, late, clock.now()).await.unwrap();
        assert!(matches!(&finished, Resumption::Response(message) if message.contains(expected)), "{finished:?}");
    }
}

#[tokio::test]
async fn questions_expire_before_their_round_and_an_expired_round_ends() {
    let clock = Clock::default();
    let store = clock.store();
    let events = ask(&store, 1, NOW).await;
    let own = environment(&store);
    let at = |seconds: u64| NOW + Duration::from_secs(seconds);

    assert!(own.open_question(Some(&ada()), &question_id(&events[1]), at(569)).await.is_some());
    assert!(own.open_question(Some(&ada()), &question_id(&events[1]), at(570)).await.is_none());
    assert!(matches!(resume(&store, last_id(&events), true, at(589)).await, Resumption::Waiting(_)));
    let event = own.open_event(Some(&ada()), last_id(&events)).await.unwrap();
    assert_eq!(event.id(), &RequestId::from(7));
    assert!(matches!(resume(&store, last_id(&events), true, at(590)).await, Resumption::Ended(_)));
}

#[tokio::test]
async fn the_questions_that_are_left_are_sent_again() {
    let store = MemoryStore::new();
    let events = ask(&store, 3, NOW).await;
    for (position, event) in events[..4].iter().enumerate() {
        let resumed = resume(&store, event.id.as_deref().unwrap(), true, NOW).await;
        let Resumption::Questions(again) = resumed else { panic!("{position}: {resumed:?}") };
        assert_eq!(again.len(), 2 + 3 - position, "{position}");
        assert!(again[0].data.is_empty() && again.last().unwrap().retry.is_some());
    }
    // Both ids of a question stand for the same answer.
    let Resumption::Questions(again) = resume(&store, events[2].id.as_deref().unwrap(), true, NOW).await else {
        panic!()
    };
    answer(&store, &events[1], "accept", NOW).await;
    answer(&store, &events[2], "accept", NOW).await;
    answer(&store, &again[1], "cancel", NOW).await;
    assert!(matches!(resume(&store, last_id(&events), true, NOW).await, Resumption::Run(_)));
}

#[tokio::test]
async fn a_large_call_is_in_the_store_and_its_ids_are_short() {
    let store = MemoryStore::new();
    let own = environment(&store);
    let (id, text) = (RequestId::from(1), result(1));
    for (bytes, is_asked) in [(10, true), (2000, true), (400_000, true), (600_000, false)] {
        let params = to_raw_value(&"x".repeat(bytes)).unwrap();
        let round = own
            .ask(Some(&ada()), &session(&own).await, NewRound { params: Some(&params), ..new(&id, &text) }, NOW)
            .await;
        assert_eq!(round.is_ok(), is_asked, "{bytes}");
        let Ok(round) = round else { continue };
        let events = own.events(Some(&ada()), &round).unwrap();
        assert!(events.iter().filter_map(|event| event.id.as_ref()).all(|id| id.len() <= 1536), "{bytes}");
        answer(&store, &events[1], "accept", NOW).await;
        let Resumption::Run(replay) = resume(&store, last_id(&events), true, NOW).await else { panic!("{bytes}") };
        assert_eq!(replay.params().unwrap().get(), params.get());
    }
    let long = RequestId::from("x".repeat(257).as_str());
    let round = own.ask(Some(&ada()), &session(&own).await, new(&long, &text), NOW).await;
    assert!(matches!(round, Err(AskError::TooLarge)));
}

#[test]
fn one_connection_is_in_one_group_of_anonymous_callers() {
    let keys = StoreKeys::from_state_key("server", &key('A')).unwrap();
    let store = SealedStore::new(Arc::new(MemoryStore::new()), keys);
    let group = |address: &str| group_of(&store, Some(address.parse().unwrap()));

    assert_eq!(group("2001:db8:1:2::1"), group("2001:db8:1:ffff:ffff::"));
    assert_ne!(group("2001:db8:1:2::1"), group("2001:db8:2:2::1"));
    assert_ne!(group("192.0.2.7"), group("192.0.2.8"));
}

#[tokio::test]
async fn a_caller_has_at_most_twenty_open_questions() {
    let clock = Clock::default();
    let store = clock.store();
    let keys = StoreKeys::from_state_key("server", &key('A')).unwrap();
    let sealed = TimedStore::new(SealedStore::new(Arc::new(store), keys));
    let (ada, eve) = (ada(), Principal::new("https://issuer.example", "eve"));
    let own = OpenCalls::new(&sealed, Some(&ada), 0);
    let call = |number: u8| Id([number; 16]);

    for number in 0..4 {
        assert_eq!(own.add(call(number), true, 5, 600, NOW).await.unwrap(), Added::Open);
    }
    assert_eq!(MAX_OPEN_QUESTIONS, 20);
    assert_eq!(own.add(call(9), true, 1, 600, NOW).await.unwrap(), Added::TooMany);
    let phone = Principal { client_id: Some("phone".to_owned()), ..ada.clone() };
    let by_phone = OpenCalls::new(&sealed, Some(&phone), 0).add(call(9), true, 1, 600, NOW).await;
    assert_eq!(by_phone.unwrap(), Added::TooMany, "a person can register any number of clients");
    assert_eq!(own.add(call(3), true, 5, 600, NOW).await.unwrap(), Added::Taken, "another call of the same id");
    assert_eq!(own.add(call(3), false, 4, 600, NOW).await.unwrap(), Added::Open, "the next round of a call");
    let other = OpenCalls::new(&sealed, Some(&eve), 0);
    assert_eq!(other.add(call(9), true, 20, 600, NOW).await.unwrap(), Added::Open, "another caller");
    own.cancel(call(0), NOW).await.unwrap();
    assert!(own.is_cancelled(call(0)).await.unwrap() && !own.is_cancelled(call(1)).await.unwrap());
    assert_eq!(own.add(call(0), false, 1, 600, NOW).await.unwrap(), Added::Taken, "a cancelled call asks no more");
    assert_eq!(own.add(call(9), true, 6, 600, NOW).await.unwrap(), Added::TooMany, "its questions can be answered");
    own.remove(call(1), NOW).await.unwrap();
    assert_eq!(own.add(call(8), true, 6, 600, NOW).await.unwrap(), Added::Open);
    let later = NOW + Duration::from_secs(600);
    assert_eq!(own.add(call(7), true, 20, 1200, later).await.unwrap(), Added::Open, "the others expired");
}

#[tokio::test]
async fn a_cancelled_call_ends_with_the_next_poll() {
    let store = MemoryStore::new();
    let own = environment(&store);
    let (session, id, text) = (session(&own).await, RequestId::from(1), result(1));
    let round = own.ask(Some(&ada()), &session, new(&id, &text), NOW).await.unwrap();
    let events = own.events(Some(&ada()), &round).unwrap();

    own.cancel(Some(&ada()), &session, &RequestId::from(2), NOW).await.unwrap();
    own.cancel(None, &session, &id, NOW).await.unwrap();
    assert!(matches!(resume(&store, last_id(&events), true, NOW).await, Resumption::Waiting(_)), "another call");
    own.cancel(Some(&ada()), &session, &id, NOW).await.unwrap();
    // Also if the answer comes at the same time.
    answer(&store, &events[1], "accept", NOW).await;
    let resumed = resume(&store, last_id(&events), true, NOW).await;
    assert!(matches!(&resumed, Resumption::Response(message) if message.contains("cancelled")), "{resumed:?}");
}

#[tokio::test]
async fn each_poll_of_a_cancelled_call_ends() {
    let store = MemoryStore::new();
    let own = environment(&store);
    let (session, id, text) = (session(&own).await, RequestId::from(1), result(1));
    let round = own.ask(Some(&ada()), &session, new(&id, &text), NOW).await.unwrap();
    let events = own.events(Some(&ada()), &round).unwrap();
    own.cancel(Some(&ada()), &session, &id, NOW).await.unwrap();

    for _ in 0..2 {
        let resumed = resume(&store, last_id(&events), true, NOW).await;
        assert!(matches!(resumed, Resumption::Ended(reason) if reason.contains("cancelled")), "{resumed:?}");
    }
    // An answer that comes later runs nothing.
    answer(&store, &events[1], "accept", NOW).await;
    let resumed = resume(&store, last_id(&events), true, NOW).await;
    assert!(matches!(&resumed, Resumption::Response(message) if message.contains("cancelled")), "{resumed:?}");
}

#[tokio::test]
async fn an_outcome_is_sent_also_after_the_question_expired() {
    let store = MemoryStore::new();
    let own = environment(&store);
    let (session, id, text) = (session(&own).await, RequestId::from(1), result(1));
    let round = own.ask(Some(&ada()), &session, new(&id, &text), NOW).await.unwrap();
    let events = own.events(Some(&ada()), &round).unwrap();
    answer(&store, &events[1], "accept", NOW).await;
    let Resumption::Run(replay) = resume(&store, last_id(&events), false, NOW).await else { panic!() };
    let later = NOW + Duration::from_secs(3600);

    let running = resume(&store, last_id(&events), false, later).await;
    assert!(matches!(running, Resumption::Waiting(_)), "{running:?}");
    own.finish(Some(&ada()), &replay, RoundOutcome::Response("{}".to_owned()), later).await.unwrap();

    let resumed = resume(&store, last_id(&events), false, later).await;
    assert!(matches!(&resumed, Resumption::Response(message) if message == "{}"), "{resumed:?}");
}

#[tokio::test]
async fn a_call_that_has_ended_leaves_its_outcome_alone() {
    let clock = Clock::default();
    let store = clock.store();
    let own = environment(&store);
    let session = session(&own).await;
    let params = serde_json::value::RawValue::from_string(format!(r#"{{"x":"{}"}}"#, "x".repeat(100_000))).unwrap();
    let mut questions = Vec::new();
    for number in 0..60 {
        let id = RequestId::from(number);
        let text = result(2);
        let round = own.ask(None, &session, NewRound { params: Some(&params), ..new(&id, &text) }, NOW).await.unwrap();
        let events = own.events(None, &round).unwrap();
        for event in &events[1..3] {
            let question = own.open_question(None, &question_id(event), NOW).await.unwrap();
            own.answer(None, &question, r#"{"error":{"code":-1,"message":"no"}}"#).await.unwrap();
            questions.push(question);
        }
        let event = own.open_event(None, last_id(&events)).await.unwrap();
        let Resumption::Run(replay) = own.resume(None, event, false, LEASE, NOW).await.unwrap() else { panic!() };
        own.finish(None, &replay, RoundOutcome::Response("{}".into()), NOW).await.unwrap();
        // The client did not get the outcome.
        let event = own.open_event(None, last_id(&events)).await.unwrap();
        let again = own.resume(None, event, false, LEASE, NOW).await.unwrap();
        assert!(matches!(&again, Resumption::Response(message) if message == "{}"), "{again:?}");
    }
    // An answer that arrives too late.
    for question in questions {
        own.answer(None, &question, r#"{"error":{"code":-1,"message":"no"}}"#).await.unwrap();
    }

    // One for each call, and the open calls of the caller.
    let left = format!("{store:?}");
    assert!(left.starts_with("MemoryStore { rows: 61, "), "{left}");
}
