//! Sign-ins: the authorization endpoint, consent, and the callback from the identity provider.
//!
//! | Request | Response |
//! | --- | --- |
//! | `GET /authorize` | the consent page, or at once the redirect to the identity provider if this browser has approved the client |
//! | `POST /authorize` | the decision: the redirect to the identity provider, or the denial |
//! | `GET /callback` | the code, by a redirect to the client; the consent page if the person has not approved the client |
//!
//! Nothing is stored before the approval: the form contains the request, sealed. The `state` for the identity provider is stored with
//! the approval, is valid once, for ten minutes, and in the same browser only.
//!
//! Before the person has signed in, an error or a denial is a page with a link to the client: a redirect would lead from a URL that people
//! trust to any place that a client registers. A click on "Deny" is no exception: the person is to be authenticated before each redirect
//! (RFC 9700, section 4.11.2), and does not expect the button to lead to the application. Clients of the configuration are trusted.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use mcp_server::{
    Principal,
    json::{self, Budget},
    store::{Content, Kind, SealedStore, StoreId, StoredValue},
};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationRequest, AuthorizationServer, Client, ClientKind, ErrorCode, OAuthError, Parameters, Rejection,
    RequestContext, Sealer, Upstream, UpstreamError,
    authorization_request::client_id,
    clock::unix_seconds,
    cookies::{Approvals, Browser, approval_key, is_remembered},
    metadata::paths,
    page_error::{PageError, Step, page_of, page_of_client_error, page_of_internal, page_of_store},
    pages::ConsentPage,
    random,
    responses::{HttpResponse, method_not_allowed, redirect},
    seal::Purpose,
    server::{grant_error, internal, unavailable},
    texts::Language,
    upstream::{SignInSecrets, subject},
};

const SIGN_IN: Kind = Kind::new("sign-in");
const DECISION: Kind = Kind::new("sign-in-decision");
const APPROVAL: Kind = Kind::new("approval");
/// Lifetime of a form, and of a sign-in at the identity provider.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long the approval of a person is remembered.
const REMEMBERED: Duration = mcp_server::store::MAX_LIFETIME;
/// Length of a state: 32 bytes in Base64url.
const STATE_LENGTH: usize = 43;
/// Maximum length of a code of the identity provider, in bytes.
const MAX_CODE_BYTES: usize = 4096;

/// What sign-ins need.
#[derive(Debug)]
pub(crate) struct SignIns {
    pub(crate) store: SealedStore,
    pub(crate) sealer: Sealer,
    pub(crate) upstream: Upstream,
}

/// The sealed content of a form.
#[derive(Debug, Serialize, Deserialize)]
struct Form {
    /// Random id: the decision after a sign-in is valid once.
    id: String,
    /// Id of the browser.
    browser: String,
    request: AuthorizationRequest,
    client: ClientProperties,
    /// The person, after the sign-in.
    person: Option<SignedIn>,
    /// In seconds since 1970.
    expires: u64,
}

/// Properties of a client that count after the authorization request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ClientProperties {
    refreshes: bool,
    /// Whether errors are redirected before the person has signed in.
    is_trusted: bool,
}

/// A person who has signed in at the identity provider.
#[derive(Debug, Serialize, Deserialize)]
struct SignedIn {
    subject: String,
    /// Scopes that the person gets.
    scopes: Vec<String>,
}

/// The row of a sign-in at the identity provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SignIn {
    browser: String,
    request: AuthorizationRequest,
    client: ClientProperties,
    /// Whether the consent page was shown.
    consented: bool,
    nonce: String,
    code_verifier: String,
    is_used: bool,
}

impl AuthorizationServer {
    /// Serves the authorization endpoint.
    pub(crate) async fn authorize(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> HttpResponse {
        let language = Language::of(request.headers());
        let responded = match *request.method() {
            Method::GET => self.begin(request, language, context).await,
            Method::POST => self.decide(request, context).await,
            _ => return method_not_allowed("GET, POST"),
        };
        responded.unwrap_or_else(|error| error.page(language))
    }

    /// Serves the redirect from the identity provider.
    pub(crate) async fn callback(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> HttpResponse {
        if request.method() != Method::GET {
            return method_not_allowed("GET");
        }
        let language = Language::of(request.headers());
        self.finish(request, language, context).await.unwrap_or_else(|error| error.page(language))
    }

    async fn begin(
        &self,
        request: &Request<Bytes>,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let malformed = OAuthError::new(ErrorCode::InvalidRequest, "the query is malformed or too large");
        let parameters = Parameters::parse(request.uri().query().unwrap_or_default().as_bytes());
        let parameters = parameters.map_err(|_| PageError::Request(malformed))?;
        let id = client_id(&parameters).map_err(PageError::Request)?;
        let client = self.clients.find(id, context.address, context.deadline).await.map_err(page_of_client_error)?;
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let is_trusted = client.kind == ClientKind::Configured;
        let properties = ClientProperties { refreshes: client.refreshes, is_trusted };
        let own = match AuthorizationRequest::validate(&parameters, &client, &resources, context.issuer) {
            Ok(own) => own,
            Err(Rejection::Page(error)) => return Err(PageError::Request(error)),
            Err(Rejection::Client { error, url }) => return return_error(error, url, properties),
        };
        let browser = Browser::of_or_new(request.headers()).map_err(|error| page_of_internal(&error))?;
        let approvals = Approvals::of(request.headers(), &browser, &self.sign_ins.sealer, context.issuer);
        if approvals.contain(&own, context.now) {
            return self.start(own, properties, &browser, false, context).await;
        }
        let form = Form {
            id: random::text::<16>().map_err(|error| page_of_internal(&error))?,
            browser: browser.id.clone(),
            request: own,
            client: properties,
            person: None,
            expires: unix_seconds(context.now + LIFETIME),
        };
        let mut response = self.consent_page(&client, &form, language, context).await?;
        add_cookie(&mut response, browser.set_cookie());
        Ok(response)
    }

    /// Renders the consent page of a form.
    async fn consent_page(
        &self,
        client: &Client,
        form: &Form,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let resource = resources.find(Some(&form.request.resource)).map_err(PageError::Request)?;
        let sealed = self.sign_ins.sealer.seal(context.issuer, Purpose::ConsentForm, form);
        let page = ConsentPage {
            language,
            client,
            request: &form.request,
            resource,
            next: form.person.is_none().then(|| self.sign_ins.upstream.issuer()),
            form: &sealed.map_err(|error| page_of_internal(&error))?,
            action: paths::AUTHORIZE,
        };
        Ok(page.render())
    }

    async fn decide(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> Step<HttpResponse> {
        let is_form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|own| own.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let parameters = Parameters::parse(request.body()).ok().filter(|own| is_form && own.repeated().is_none());
        let parameters = parameters.ok_or(PageError::Expired)?;
        // Set by browsers, and not by scripts: the form was sent by this server's own page.
        let site = request.headers().get("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin") {
            return Err(PageError::Cookies);
        }
        let form = parameters.get("form");
        let form = form.and_then(|text| self.sign_ins.sealer.open::<Form>(context.issuer, Purpose::ConsentForm, text));
        let form = form.filter(|form| form.expires > unix_seconds(context.now)).ok_or(PageError::Expired)?;
        let browser = Browser::of(request.headers()).filter(|own| is_equal(&own.id, &form.browser));
        let browser = browser.ok_or(PageError::Cookies)?;
        match parameters.get("decision") {
            Some("approve") => {}
            Some("deny") => {
                let error = OAuthError::new(ErrorCode::AccessDenied, "the person denied the access");
                let url = form.request.error_redirect(&error, context.issuer);
                return if form.person.is_some() { to(&url) } else { return_error(error, url, form.client) };
            }
            _ => return Err(PageError::Expired),
        }
        let approvals = Approvals::of(request.headers(), &browser, &self.sign_ins.sealer, context.issuer);
        let cookie = match is_remembered(&form.request) {
            true => {
                let added = approvals.add(&form.request, &self.sign_ins.sealer, context.issuer, context.now);
                added.map_err(|error| page_of_internal(&error))?
            }
            false => None,
        };
        let mut response = match form.person {
            None => self.start(form.request, form.client, &browser, true, context).await?,
            Some(person) => {
                self.sign_ins.use_decision(&form.id).await?;
                self.issue(&form.request, person, form.client, context).await?
            }
        };
        add_cookie(&mut response, cookie);
        Ok(response)
    }

    /// Redirects to the identity provider.
    async fn start(
        &self,
        request: AuthorizationRequest,
        client: ClientProperties,
        browser: &Browser,
        consented: bool,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let random = || random::text::<32>().map_err(|error| page_of_internal(&error));
        let (state, nonce, code_verifier) = (random()?, random()?, random()?);
        let sign_in =
            SignIn { browser: browser.id.clone(), request, client, consented, nonce, code_verifier, is_used: false };
        let secrets = SignInSecrets { nonce: &sign_in.nonce, code_verifier: &sign_in.code_verifier };
        let callback = format!("{}{}", context.issuer, paths::CALLBACK);
        let upstream = &self.sign_ins.upstream;
        let url = upstream.authorization_url(&state, &secrets, &callback, context.now, context.deadline).await;
        match url {
            Ok(url) => {
                self.sign_ins.put(&state, &sign_in).await?;
                to(&url)
            }
            Err(error) => {
                let error = upstream_error(&error);
                let url = sign_in.request.error_redirect(&error, context.issuer);
                return_error(error, url, client)
            }
        }
    }

    async fn finish(
        &self,
        request: &Request<Bytes>,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let parameters = Parameters::parse(request.uri().query().unwrap_or_default().as_bytes()).ok();
        let parameters = parameters.filter(|own| own.repeated().is_none()).ok_or(PageError::Expired)?;
        let state = parameters.get("state").filter(|state| state.len() == STATE_LENGTH).ok_or(PageError::Expired)?;
        let browser = Browser::of(request.headers()).ok_or(PageError::Cookies)?;
        let sign_in = self.sign_ins.take(state, &browser).await?;
        let SignIn { request: own, client: properties, consented, nonce, code_verifier, .. } = sign_in;
        let fail = |error: OAuthError| {
            let url = own.error_redirect(&error, context.issuer);
            return_error(error, url, properties)
        };
        // A response of another provider (RFC 9207, section 2.4).
        if parameters.get("iss").is_some_and(|iss| iss != self.sign_ins.upstream.issuer()) {
            tracing::warn!("a response came from another issuer than the identity provider");
            return fail(OAuthError::new(ErrorCode::ServerError, "the sign-in failed at the identity provider"));
        }
        if let Some(error) = parameters.get("error") {
            return fail(denied(error));
        }
        let Some(code) = parameters.get("code").filter(|code| code.len() <= MAX_CODE_BYTES) else {
            return fail(OAuthError::new(ErrorCode::ServerError, "the identity provider returned no code"));
        };
        let secrets = SignInSecrets { nonce: &nonce, code_verifier: &code_verifier };
        let callback = format!("{}{}", context.issuer, paths::CALLBACK);
        let upstream = &self.sign_ins.upstream;
        let person = match upstream.person(code, &secrets, &callback, context.now, context.deadline).await {
            Ok(person) => person,
            Err(error) => return fail(upstream_error(&error)),
        };
        // The person has signed in: errors are redirected.
        let fail = |error: &OAuthError| to(&own.error_redirect(error, context.issuer));
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let resource = match resources.find(Some(&own.resource)) {
            Ok(resource) => resource,
            Err(error) => return fail(&error),
        };
        let scopes = resource.permitted_scopes(&own.scopes, &person);
        if scopes.is_empty() && !own.scopes.is_empty() {
            return fail(&OAuthError::new(ErrorCode::AccessDenied, "the account has none of the requested scopes"));
        }
        let signed_in = SignedIn { subject: subject(upstream.issuer(), &person.subject), scopes };
        if !consented && !self.sign_ins.has_approved(context.issuer, &signed_in.subject, &own).await? {
            // Another person has approved the client in this browser.
            let found = self.clients.find(&own.client_id, context.address, context.deadline).await;
            let client = found.map_err(page_of_client_error)?;
            let form = Form {
                id: random::text::<16>().map_err(|error| page_of_internal(&error))?,
                browser: browser.id,
                request: own,
                client: properties,
                person: Some(signed_in),
                expires: unix_seconds(context.now + LIFETIME),
            };
            return self.consent_page(&client, &form, language, context).await;
        }
        self.issue(&own, signed_in, properties, context).await
    }

    /// Redirects to the client with a code.
    async fn issue(
        &self,
        request: &AuthorizationRequest,
        person: SignedIn,
        client: ClientProperties,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let SignedIn { subject, scopes } = person;
        self.sign_ins.approve(context.issuer, &subject, request).await?;
        let issued =
            self.grants.issue_code(context.issuer, &subject, request, scopes, client.refreshes, context.now).await;
        match issued {
            Ok(code) => to(&request.code_redirect(&code, context.issuer)),
            Err(error) => to(&request.error_redirect(&grant_error(error), context.issuer)),
        }
    }
}

impl SignIns {
    async fn put(&self, state: &str, sign_in: &SignIn) -> Step<()> {
        let value = serde_json::to_vec(sign_in).map_err(|error| page_of_internal(&error))?;
        let content = Content { value: &value, expires_in: LIFETIME, due_in: None };
        self.store.put_if_absent(&row(SIGN_IN, state), content).await.map_err(page_of_store)?;
        Ok(())
    }

    /// Returns the sign-in of a state, and marks it as used. It stays usable in its own browser, if another one tries.
    async fn take(&self, state: &str, browser: &Browser) -> Step<SignIn> {
        let id = row(SIGN_IN, state);
        let stored = self.store.get(&id).await.map_err(page_of_store)?;
        let StoredValue { value, version } = stored.ok_or(PageError::Expired)?;
        let sign_in: SignIn =
            json::read_bytes(&value, Budget::memory(1024 * 1024)).map_err(|error| page_of_internal(&error))?;
        if !is_equal(&sign_in.browser, &browser.id) {
            return Err(PageError::Cookies);
        }
        if sign_in.is_used {
            return Err(PageError::Expired);
        }
        let used = serde_json::to_vec(&SignIn { is_used: true, ..sign_in.clone() });
        let used = used.map_err(|error| page_of_internal(&error))?;
        let content = Content { value: &used, expires_in: LIFETIME, due_in: None };
        let taken = self.store.compare_and_set(&id, version, content).await.map_err(page_of_store)?;
        taken.map(|_| sign_in).ok_or(PageError::Expired)
    }

    /// Marks the decision of a form as used.
    async fn use_decision(&self, form: &str) -> Step<()> {
        let content = Content { value: b"", expires_in: LIFETIME, due_in: None };
        let used = self.store.put_if_absent(&row(DECISION, form), content).await.map_err(page_of_store)?;
        used.map(drop).ok_or(PageError::Expired)
    }

    /// Remembers that a person has approved the client.
    async fn approve(&self, issuer: &str, subject: &str, request: &AuthorizationRequest) -> Step<()> {
        let (person, key) = (Principal::new(issuer, subject), approval_key(request));
        let id = StoreId { kind: APPROVAL, caller: Some(&person), id: key.as_bytes() };
        let content = Content { value: b"", expires_in: REMEMBERED, due_in: None };
        self.store.put_if_absent(&id, content).await.map_err(page_of_store)?;
        Ok(())
    }

    async fn has_approved(&self, issuer: &str, subject: &str, request: &AuthorizationRequest) -> Step<bool> {
        let (person, key) = (Principal::new(issuer, subject), approval_key(request));
        let id = StoreId { kind: APPROVAL, caller: Some(&person), id: key.as_bytes() };
        Ok(self.store.get(&id).await.map_err(page_of_store)?.is_some())
    }
}

/// The error of the client for an error of the identity provider.
fn denied(error: &str) -> OAuthError {
    match error {
        "access_denied" | "consent_required" | "interaction_required" | "login_required" => {
            OAuthError::new(ErrorCode::AccessDenied, "the sign-in was denied at the identity provider")
        }
        _ => {
            // The value is caller-supplied.
            tracing::warn!("the identity provider returned an error to a sign-in");
            OAuthError::new(ErrorCode::ServerError, "the identity provider returned an error")
        }
    }
}

fn upstream_error(error: &UpstreamError) -> OAuthError {
    match error {
        UpstreamError::Unavailable { .. } | UpstreamError::ClientSecret(_) => {
            unavailable("the sign-in at the identity provider failed", error)
        }
        UpstreamError::Rejected => OAuthError::new(ErrorCode::AccessDenied, "the sign-in has expired: start it again"),
        UpstreamError::IdToken(_) | UpstreamError::OtherSignIn(_) => {
            internal("the identity provider returned an invalid ID token", error)
        }
    }
}

fn row(kind: Kind, id: &str) -> StoreId<'_> {
    StoreId { kind, caller: None, id: id.as_bytes() }
}

fn is_equal(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Returns an error to a client before the person has signed in: by a redirect if the client is trusted, else by a link in a page.
fn return_error(error: OAuthError, url: String, client: ClientProperties) -> Step<HttpResponse> {
    if client.is_trusted { to(&url) } else { Err(PageError::Client { error, url }) }
}

fn to(url: &str) -> Step<HttpResponse> {
    redirect(url).ok_or(PageError::Internal)
}

fn add_cookie(response: &mut HttpResponse, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
