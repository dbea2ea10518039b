//! An assertion in place of a sign-in: a JWT of a workload, or of a user's identity provider (RFC 7523).

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{discovery::is_same_issuer, now};
use crate::{command_line, files, received};

const MAX_ASSERTION_BYTES: usize = 64 * 1024;
/// The type of an assertion that an identity provider makes for another issuer.
const ID_JAG: &str = "oauth-id-jag+jwt";

/// The source of an assertion, which is read again for each token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AssertionSource {
    File(PathBuf),
    Variable(String),
    Command(String),
}

impl fmt::Display for AssertionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "the file {}", file.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Command(command) => write!(f, "the command `{command}`"),
        }
    }
}

impl AssertionSource {
    /// # Errors
    ///
    /// If there is no assertion, or if it is not a JWT.
    pub(super) async fn read(&self) -> anyhow::Result<Assertion> {
        let text = match self {
            Self::File(file) => files::read_text(file).with_context(|| format!("could not read {}", file.display()))?,
            Self::Variable(name) => std::env::var(name)
                .ok()
                .filter(|own| !own.is_empty())
                .with_context(|| format!("the variable {name} is not set"))?,
            Self::Command(command) => command_line::output("--assertion-command", command).await?,
        };
        Assertion::parse(text.trim()).with_context(|| format!("{self} has no assertion"))
    }
}

/// A JWT whose claims are parsed and not verified: its audience verifies them.
#[derive(Clone)]
pub(super) struct Assertion {
    pub(super) text: String,
    kind: Option<String>,
    claims: Value,
}

impl Assertion {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if text.len() > MAX_ASSERTION_BYTES {
            bail!("it has more than {MAX_ASSERTION_BYTES} bytes");
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("it is no JWT: give the token alone, as three parts with dots between them");
        };
        let object = |part: &str| -> Option<Value> {
            let json = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
            received::read::<Value>(&json).ok().filter(Value::is_object)
        };
        let (header, claims) = object(header).zip(object(claims)).context("it is no JWT: its parts are no JSON")?;
        Ok(Self { text: text.to_owned(), kind: header["typ"].as_str().map(str::to_owned), claims })
    }

    /// Whether it has expired by the clock of this machine.
    pub(super) fn has_expired(&self) -> bool {
        let end = self.claims["exp"].as_f64().and_then(|end| Duration::try_from_secs_f64(end).ok());
        end.is_some_and(|end| end.as_secs() <= now())
    }

    /// Checks that its audience is the issuer (RFC 7523, section 3): a hostile server could name an issuer that collects
    /// assertions for other issuers.
    pub(super) fn check_audience(&self, issuer: &str, token_endpoint: &str) -> anyhow::Result<()> {
        let audiences = match &self.claims["aud"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        if audiences.iter().any(|own| is_same_issuer(own, issuer) || *own == token_endpoint) {
            return Ok(());
        }
        let audiences = if audiences.is_empty() { "no audience".to_owned() } else { audiences.join(", ") };
        bail!("it is for {audiences}, not for the server's issuer {issuer}: get one whose audience is that issuer")
    }

    /// Checks that it is an ID-JAG for an issuer and one of its clients.
    pub(super) fn check_id_jag(&self, issuer: &str, token_endpoint: &str, client_id: &str) -> anyhow::Result<()> {
        let kind = self.kind.as_deref().unwrap_or_default();
        if kind.strip_prefix("application/").unwrap_or(kind) != ID_JAG {
            bail!("it is of the type `{kind}`, not {ID_JAG}");
        }
        if let Some(other) = self.claims["client_id"].as_str().filter(|own| *own != client_id) {
            bail!("it is for the client `{other}`, not for `{client_id}`: check `--client-id`");
        }
        self.check_audience(issuer, token_endpoint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example/tenant";
    const ENDPOINT: &str = "https://id.example/tenant/token";

    fn assertion(header: Value, claims: Value) -> Assertion {
        let part = |own: Value| BASE64_URL_SAFE_NO_PAD.encode(own.to_string());
        Assertion::parse(&format!("{}.{}.c2ln", part(header), part(claims))).unwrap()
    }

    #[test]
    fn an_assertion_is_for_its_audience_alone() {
        for (audience, is_right) in [
            (json!(ISSUER), true),
            (json!(ENDPOINT), true),
            (json!(["https://other.example", ISSUER]), true),
            (json!("https://id.example"), false),
            (json!("https://id.example/tenant/"), false),
            (json!([]), false),
            (json!(null), false),
        ] {
            let checked = assertion(json!({}), json!({ "aud": audience })).check_audience(ISSUER, ENDPOINT);
            assert_eq!(checked.is_ok(), is_right, "{audience}");
        }
        let without_path = assertion(json!({}), json!({ "aud": "https://id.example/" }));
        assert!(without_path.check_audience("https://id.example", ENDPOINT).is_ok());
    }

    #[test]
    fn an_assertion_of_an_identity_provider_has_its_type_and_client() {
        let claims = || json!({ "aud": ISSUER, "client_id": "mine" });
        let check =
            |kind: &str, claims| assertion(json!({ "typ": kind }), claims).check_id_jag(ISSUER, ENDPOINT, "mine");
        assert!(check(ID_JAG, claims()).is_ok() && check("application/oauth-id-jag+jwt", claims()).is_ok());
        assert!(check(ID_JAG, json!({ "aud": ISSUER })).is_ok());
        assert!(check("JWT", claims()).is_err() && check("", claims()).is_err());
        assert!(check(ID_JAG, json!({ "aud": ISSUER, "client_id": "other" })).is_err());
        assert!(check(ID_JAG, json!({ "aud": "https://evil.example", "client_id": "mine" })).is_err());
    }

    #[test]
    fn what_is_no_jwt_is_not_sent() {
        for text in ["", "opaque", "a.b", "a.b.c", "e30.e30.x.y", "e30.W10.x", &"x".repeat(MAX_ASSERTION_BYTES + 1)] {
            assert!(Assertion::parse(text).is_err(), "{text}");
        }
        assert!(assertion(json!({}), json!({ "exp": 1 })).has_expired());
        assert!(!assertion(json!({}), json!({ "exp": now() + 3600 })).has_expired());
        assert!(!assertion(json!({}), json!({})).has_expired());
    }
}
