//! Cookies of a browser: its random id, and the clients that were approved in it.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationRequest, Sealer,
    clock::unix_seconds,
    random::{self, RandomError},
    seal::{Purpose, SealError},
};

/// The prefix binds a cookie to this host and `https`: neither another host of the domain nor a network attacker can set it.
const BROWSER: &str = "__Host-browser";
const APPROVALS: &str = "__Host-approvals";
/// Length of a browser id: 16 bytes in Base64url.
const ID_LENGTH: usize = 22;
/// How long an approval is remembered.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Maximum number of approvals in a browser: a cookie has at most 4 KiB.
const MAX_APPROVALS: usize = 25;

/// The random id of a browser. Forms and sign-ins are bound to it, so that they cannot be continued in another browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Browser {
    pub(crate) id: String,
    /// Whether the browser has no id yet.
    pub(crate) is_new: bool,
}

impl Browser {
    /// Returns the id in the cookies of a request; `None` if there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let id = cookie(headers, BROWSER)?;
        let is_id =
            id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_id.then(|| Self { id: id.to_owned(), is_new: false })
    }

    /// Returns the id in the cookies of a request, or a new one.
    pub(crate) fn of_or_new(headers: &HeaderMap) -> Result<Self, RandomError> {
        match Self::of(headers) {
            Some(own) => Ok(own),
            None => Ok(Self { id: random::text::<16>()?, is_new: true }),
        }
    }

    /// Returns the cookie of a new id.
    pub(crate) fn set_cookie(&self) -> Option<HeaderValue> {
        // `Lax`: the redirect from the identity provider is a cross-site navigation.
        self.is_new.then(|| set_cookie(BROWSER, &self.id)).flatten()
    }
}

/// The approvals that a browser remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Approvals {
    /// Id of the browser.
    browser: String,
    approved: Vec<Approval>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Approval {
    key: String,
    /// In seconds since 1970.
    until: u64,
}

impl Approvals {
    /// Returns the approvals in the cookies of a browser.
    pub(crate) async fn of(headers: &HeaderMap, browser: &Browser, sealer: &Sealer, issuer: &str) -> Self {
        let own = match cookie(headers, APPROVALS) {
            Some(sealed) => sealer.open::<Self>(issuer, Purpose::Approvals, sealed).await,
            None => None,
        };
        own.filter(|own| own.browser == browser.id)
            .unwrap_or_else(|| Self { browser: browser.id.clone(), approved: Vec::new() })
    }

    /// Whether the request was approved in this browser.
    pub(crate) fn contain(&self, request: &AuthorizationRequest, now: SystemTime) -> bool {
        let key = approval_key(request);
        is_remembered(request) && self.approved.iter().any(|own| own.key == key && own.until > unix_seconds(now))
    }

    /// Adds the approval of a request, and returns the cookie. The oldest approvals are dropped.
    ///
    /// # Errors
    ///
    /// When the cookie cannot be sealed.
    pub(crate) fn add(
        mut self,
        request: &AuthorizationRequest,
        sealer: &Sealer,
        issuer: &str,
        now: SystemTime,
    ) -> Result<Option<HeaderValue>, SealError> {
        let key = approval_key(request);
        self.approved.retain(|own| own.key != key && own.until > unix_seconds(now));
        self.approved.push(Approval { key, until: unix_seconds(now + REMEMBERED) });
        let excess = self.approved.len().saturating_sub(MAX_APPROVALS);
        self.approved.drain(..excess);
        Ok(set_cookie(APPROVALS, &sealer.seal(issuer, Purpose::Approvals, &self)?))
    }
}

/// Whether an approval of the request is remembered. A redirect to loopback reaches any program on the machine, which can use the
/// client id of another one: each request is shown (RFC 8252, section 8.6).
pub(crate) fn is_remembered(request: &AuthorizationRequest) -> bool {
    !request.redirect_uri.is_loopback()
}

/// Returns the key of an approval: a digest of client, redirect URI, resource and scopes.
pub(crate) fn approval_key(request: &AuthorizationRequest) -> String {
    let AuthorizationRequest { client_id, redirect_uri, resource, scopes, .. } = request;
    let mut context = digest::Context::new(&digest::SHA256);
    let texts = [client_id, redirect_uri.as_str(), resource].into_iter().chain(scopes.iter().map(String::as_str));
    for text in texts {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

fn set_cookie(name: &str, value: &str) -> Option<HeaderValue> {
    let max_age = REMEMBERED.as_secs();
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={max_age}");
    HeaderValue::try_from(text).ok()
}

/// Returns the value of a cookie; `None` if it is absent, or occurs twice.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|own| own.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(own, _)| *own == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
