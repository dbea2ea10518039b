//! The cipher of `requestState`, with the feature `interactive`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request_state::{Binding, MAX_STATE_BYTES, RequestState, SealError, StateCipher};
use crate::state_key::{
    StateKey,
    rotation::{CurrentKeys, KeyLoader},
    sealing::{OpenError, SealingKeys},
};

/// Lifetime of a state: the time for the client's answer.
const LIFETIME: Duration = Duration::from_secs(600);
/// Maximum lifetime of all rounds of one request together.
const TOTAL_LIFETIME: Duration = Duration::from_secs(3600);
/// The first byte of each state: the version of its format.
const FORMAT: u8 = 3;

/// Returns the digest of a question's JSON text.
pub(crate) fn digest_of(question: &str) -> String {
    let digest = digest::digest(&digest::SHA256, question.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16])
}

/// Longer arguments are bound by their digest, to avoid a copy of their size.
const MAX_BOUND_BYTES: usize = 1024;

/// Returns the additional authenticated data of a state.
fn additional_data(binding: &Binding) -> serde_json::Result<Vec<u8>> {
    if binding.arguments.len() <= MAX_BOUND_BYTES {
        return serde_json::to_vec(binding);
    }
    let digest = digest::digest(&digest::SHA256, binding.arguments.as_bytes());
    // Arguments are the text of an object, which never equals this text.
    let arguments = format!("SHA-256 {}", BASE64_URL_SAFE_NO_PAD.encode(digest));
    let Binding { method, item, issuer, subject, client_id, .. } = binding;
    let (item, issuer, subject) = (item.clone(), issuer.clone(), subject.clone());
    serde_json::to_vec(&Binding { method, item, arguments, issuer, subject, client_id: client_id.clone() })
}

/// Creates the cipher.
pub(crate) fn new_cipher(key: &StateKey, server: &str) -> Option<Box<dyn StateCipher>> {
    let derive = |key: &StateKey, server: &str| SealingKeys::new(FORMAT, key.all(), b"mcp requestState", server);
    Some(Box::new(Keys(CurrentKeys::new(key, server, derive)?)))
}

struct Keys(CurrentKeys<SealingKeys>);

#[derive(Serialize, Deserialize)]
struct Timed<T> {
    /// Seconds since 1970.
    expires: u64,
    state: T,
}

impl StateCipher for Keys {
    fn seal(&self, state: &mut RequestState, binding: &Binding, now: SystemTime) -> Result<String, SealError> {
        let started = *state.started.get_or_insert(seconds(now));
        let expires = seconds(now + LIFETIME).min(started + TOTAL_LIFETIME.as_secs());
        let text = serde_json::to_vec(&Timed { expires, state: &*state })?;
        let sealed = self.0.get().seal(&additional_data(binding)?, text).ok_or(SealError::Encryption)?;
        let sealed = BASE64_URL_SAFE_NO_PAD.encode(sealed);
        if sealed.len() <= MAX_STATE_BYTES {
            return Ok(sealed);
        }
        let size_of =
            |values: &mut dyn Iterator<Item = &Box<RawValue>>| values.map(|value| value.get().len()).sum::<usize>();
        let answers = size_of(&mut state.questions.values().filter_map(|question| question.answer.as_ref()));
        let kept = size_of(&mut state.kept.values());
        Err(if answers > kept { SealError::AnswersTooLarge } else { SealError::TooLarge(sealed.len()) })
    }

    fn open(&self, sealed: &str, binding: &Binding, now: SystemTime) -> Option<RequestState> {
        let opened = self.0.get().open(&additional_data(binding).ok()?, &decode(sealed)?).ok()?;
        // Unbounded JSON: sealed by this server, at most 8 KiB.
        let Timed { expires, state } = serde_json::from_slice(&opened).ok()?;
        (seconds(now) < expires).then_some(state)
    }

    fn load_key<'a>(&'a self, sealed: &'a str, loader: &'a KeyLoader) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.0.get();
            // The key is found before anything is authenticated.
            let is_unknown = |bytes: Vec<u8>| keys.open(&[], &bytes) == Err(OpenError::UnknownKey);
            if decode(sealed).is_some_and(is_unknown) {
                self.0.newer_than(&keys, loader).await;
            }
        })
    }
}

fn decode(sealed: &str) -> Option<Vec<u8>> {
    (sealed.len() <= MAX_STATE_BYTES).then(|| BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()).flatten()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::interaction::request_state::{Question, compact};

    fn key(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; 32])
    }

    fn cipher(key: &str) -> Box<dyn StateCipher> {
        new_cipher(&StateKey::parse(key).unwrap(), "server").unwrap()
    }

    fn binding() -> Binding {
        Binding {
            method: "tools/call",
            item: "book".to_owned(),
            arguments: r#"{"day":1}"#.to_owned(),
            issuer: Some("https://issuer.example".to_owned()),
            subject: Some("ada".to_owned()),
            client_id: Some("desktop".to_owned()),
        }
    }

    fn state(text: &str) -> RequestState {
        let value = serde_json::value::to_raw_value(text).unwrap();
        let question = Question { digest: digest_of("Who?"), answer: Some(value) };
        RequestState { questions: BTreeMap::from([("name".to_owned(), question)]), ..RequestState::default() }
    }

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_state_opens_with_the_same_key_in_another_environment() {
        let sealed = cipher(&key(1)).seal(&mut state("Ada"), &binding(), NOW).unwrap();

        let opened = cipher(&key(1)).open(&sealed, &binding(), NOW).unwrap();

        assert_eq!(opened.questions["name"].answer.as_ref().unwrap().get(), "\"Ada\"");
        assert!(!String::from_utf8_lossy(&BASE64_URL_SAFE_NO_PAD.decode(&sealed).unwrap()).contains("Ada"));
    }

    #[test]
    fn a_state_with_another_binding_or_key_is_rejected() {
        let own = cipher(&key(1));
        let sealed = own.seal(&mut state("Ada"), &binding(), NOW).unwrap();

        for other in [
            Binding { method: "prompts/get", ..binding() },
            Binding { item: "cancel".to_owned(), ..binding() },
            Binding { arguments: r#"{"day":2}"#.to_owned(), ..binding() },
            Binding { issuer: Some("https://other.example".to_owned()), ..binding() },
            Binding { subject: Some("eve".to_owned()), ..binding() },
            Binding { issuer: None, subject: None, ..binding() },
            Binding { client_id: Some("phone".to_owned()), ..binding() },
            Binding { client_id: None, ..binding() },
        ] {
            assert!(own.open(&sealed, &other, NOW).is_none(), "{other:?}");
        }
        assert!(cipher(&key(2)).open(&sealed, &binding(), NOW).is_none(), "another key");
        let elsewhere = new_cipher(&StateKey::parse(&key(1)).unwrap(), "other server").unwrap();
        assert!(elsewhere.open(&sealed, &binding(), NOW).is_none(), "another server");
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let own = cipher(&key(1));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(own.seal(&mut state("Ada"), &binding(), NOW).unwrap()).unwrap();

        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);

            assert!(own.open(&BASE64_URL_SAFE_NO_PAD.encode(changed), &binding(), NOW).is_none(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(own.open(&BASE64_URL_SAFE_NO_PAD.encode(&bytes[..length]), &binding(), NOW).is_none(), "{length}");
        }
    }

    #[test]
    fn a_state_expires_after_ten_minutes() {
        let own = cipher(&key(1));
        let sealed = own.seal(&mut state("Ada"), &binding(), NOW).unwrap();

        assert!(own.open(&sealed, &binding(), NOW + Duration::from_secs(599)).is_some());
        assert!(own.open(&sealed, &binding(), NOW + Duration::from_secs(600)).is_none());
    }

    #[test]
    fn all_rounds_of_a_request_expire_after_an_hour() {
        let own = cipher(&key(1));
        let (mut now, mut state) = (NOW, state("Ada"));
        let ended = (0..20).find(|_| {
            let sealed = own.seal(&mut state, &binding(), now).unwrap();
            now += Duration::from_secs(540);
            match own.open(&sealed, &binding(), now) {
                Some(opened) => {
                    state = opened;
                    false
                }
                None => true,
            }
        });

        assert_eq!(ended, Some(6), "six rounds of nine minutes fit into an hour, seven do not");
    }

    #[test]
    fn arguments_are_compared_by_their_text() {
        let of = |text: &str| compact(text);

        assert_eq!(of("{ \"a\" : [1, \"b c\\\" d\"] }\n"), r#"{"a":[1,"b c\" d"]}"#);
        assert_eq!(of(r#"{"a":"\\" , "b":" "}"#), r#"{"a":"\\","b":" "}"#);
        assert_ne!(of(r#"{"item":"pen","x":1e400}"#), of(r#"{"item":"car","x":1e400}"#));
        let long = |first: &str, space: &str| format!(r#"{{"a":{space}["{first}","{}é"]}}"#, "x".repeat(5000));
        let data = |text: String| additional_data(&Binding { arguments: of(&text), ..binding() }).unwrap();
        assert_eq!(data(long("1", "")), data(long("1", " \n ")));
        assert_ne!(data(long("1", "")), data(long("2", "")));
        assert!(data(long("1", "")).len() < 300, "a digest");
    }

    #[test]
    fn digests_distinguish_questions() {
        assert_eq!(digest_of("Who?"), digest_of("Who?"));
        assert_ne!(digest_of("Who?"), digest_of("When?"));
    }

    #[test]
    fn the_previous_key_opens_and_the_current_key_seals() {
        let old = cipher(&key(1));
        let rotated = cipher(&format!("{}, {}", key(2), key(1)));
        let by_old = old.seal(&mut state("Ada"), &binding(), NOW).unwrap();
        let by_rotated = rotated.seal(&mut state("Ada"), &binding(), NOW).unwrap();

        assert!(rotated.open(&by_old, &binding(), NOW).is_some());
        assert!(old.open(&by_rotated, &binding(), NOW).is_none());
    }

    #[test]
    fn a_too_large_state_is_not_sealed() {
        let error = cipher(&key(1)).seal(&mut state(&"é".repeat(4096)), &binding(), NOW).unwrap_err();

        assert!(matches!(error, SealError::AnswersTooLarge), "{error}");
        let mut with_value = RequestState::default();
        with_value.kept.insert("long".to_owned(), serde_json::value::to_raw_value(&"x".repeat(8192)).unwrap());
        let error = cipher(&key(1)).seal(&mut with_value, &binding(), NOW).unwrap_err();
        assert!(matches!(error, SealError::TooLarge(bytes) if bytes > MAX_STATE_BYTES), "{error}");
        let question = Question { digest: digest_of("Who?"), answer: None };
        let questions = BTreeMap::from([("x".repeat(8192), question)]);
        let mut with_question = RequestState { questions, ..RequestState::default() };
        let error = cipher(&key(1)).seal(&mut with_question, &binding(), NOW).unwrap_err();
        assert!(matches!(error, SealError::TooLarge(_)), "there is no answer: {error}");
    }

    #[test]
    fn the_longest_sealed_state_can_be_opened() {
        let own = cipher(&key(1));
        let seal = |bytes: usize| own.seal(&mut state(&"x".repeat(bytes)), &binding(), NOW).ok();

        let longest = (0..MAX_STATE_BYTES).rev().find_map(seal).unwrap();

        assert_eq!(longest.len(), 8192);
        assert!(own.open(&longest, &binding(), NOW).is_some());
    }
}
