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
//! trust to any place that a client registers. The person is to be authenticated before each redirect (RFC 9700, section 4.11.2), which
//! has no exception for clients of the configuration, or for a click on "Deny".

mod callback;
mod rows;

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationRequest, AuthorizationServer, Client, ClientSummary, ErrorCode, OAuthError, Parameters, Rejection,
    RequestContext,
    authorization_request::client_id,
    clock::unix_seconds,
    cookies::{Approvals, Browser, is_remembered},
    metadata::paths,
    page_error::{PageError, Step, page_of, page_of_client_error, page_of_internal},
    pages::ConsentPage,
    random,
    responses::{HttpResponse, method_not_allowed, redirect},
    seal::Purpose,
    texts::Language,
    upstream::SignInSecrets,
};

use callback::upstream_error;
pub(crate) use rows::SignIns;
use rows::{ClientTarget, SignIn, Target};

/// Lifetime of a form, and of a sign-in at the identity provider.
pub(crate) const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The sealed content of a form.
#[derive(Debug, Serialize, Deserialize)]
struct Form {
    /// Random id: the decision after a sign-in is valid once.
    id: String,
    /// Id of the browser.
    browser: String,
    request: AuthorizationRequest,
    client: ClientSummary,
    /// Whether the person has signed in, and is stored with the id of the form.
    has_signed_in: bool,
    /// In seconds since 1970.
    expires: u64,
}

/// A person who has signed in at the identity provider.
#[derive(Serialize, Deserialize)]
struct SignedIn {
    subject: String,
    /// Scopes that the person gets.
    scopes: Vec<String>,
    upstream_token: Option<String>,
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
        let client = self
            .clients
            .find(id, context.address, context.now, context.deadline)
            .await
            .map_err(page_of_client_error)?;
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let summary = client.summary();
        let own = match AuthorizationRequest::validate(&parameters, &client, &resources, context.issuer) {
            Ok(own) => own,
            Err(Rejection::Page(error)) => return Err(PageError::Request(error)),
            Err(Rejection::Client { error, url }) => return Err(PageError::Client { error, url }),
        };
        let browser = Browser::of_or_new(request.headers()).map_err(|error| page_of_internal(&error))?;
        let approvals = Approvals::of(request.headers(), &browser, &self.sign_ins.sealer, context.issuer).await;
        if approvals.contain(&own, context.now) {
            let target = ClientTarget { request: own, client: summary, consented: false };
            return self.start(Target::Client(target), &browser, context).await;
        }
        let form = Form {
            id: random::text::<16>().map_err(|error| page_of_internal(&error))?,
            browser: browser.id.clone(),
            request: own,
            client: summary,
            has_signed_in: false,
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
            next: (!form.has_signed_in).then(|| self.sign_ins.upstream.issuer()),
            form: &sealed.map_err(|error| page_of_internal(&error))?,
            action: paths::AUTHORIZE,
        };
        Ok(page.render())
    }

    async fn decide(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> Step<HttpResponse> {
        let parameters = posted_form(request)?;
        let form = parameters.get("form").ok_or(PageError::Expired)?;
        let form = self.sign_ins.sealer.open::<Form>(context.issuer, Purpose::ConsentForm, form).await;
        let form = form.filter(|form| form.expires > unix_seconds(context.now)).ok_or(PageError::Expired)?;
        let browser = Browser::of(request.headers()).filter(|own| is_equal(&own.id, &form.browser));
        let browser = browser.ok_or(PageError::Cookies)?;
        match parameters.get("decision") {
            Some("approve") => {}
            Some("deny") => {
                let error = OAuthError::new(ErrorCode::AccessDenied, "the person denied the access");
                let url = form.request.error_redirect(&error, context.issuer);
                return if form.has_signed_in { to(&url) } else { Err(PageError::Client { error, url }) };
            }
            _ => return Err(PageError::Expired),
        }
        let approvals = Approvals::of(request.headers(), &browser, &self.sign_ins.sealer, context.issuer).await;
        let cookie = match is_remembered(&form.request) {
            true => {
                let added = approvals.add(&form.request, &self.sign_ins.sealer, context.issuer, context.now);
                added.map_err(|error| page_of_internal(&error))?
            }
            false => None,
        };
        let mut response = match form.has_signed_in {
            false => {
                let target = ClientTarget { request: form.request, client: form.client, consented: true };
                self.start(Target::Client(target), &browser, context).await?
            }
            true => {
                let person = self.sign_ins.take_person(&form.id).await?;
                self.remember(&form.request, &person.subject, &form.client, context).await?;
                self.issue(&form.request, person, form.client, context).await?
            }
        };
        add_cookie(&mut response, cookie);
        Ok(response)
    }

    /// Redirects to the identity provider.
    async fn start(&self, target: Target, browser: &Browser, context: &RequestContext<'_>) -> Step<HttpResponse> {
        let random = || random::text::<32>().map_err(|error| page_of_internal(&error));
        let (state, nonce, code_verifier) = (random()?, random()?, random()?);
        let sign_in = SignIn { browser: browser.id.clone(), target, nonce, code_verifier, is_used: false };
        let secrets = SignInSecrets { nonce: &sign_in.nonce, code_verifier: &sign_in.code_verifier };
        let callback = format!("{}{}", context.issuer, paths::CALLBACK);
        let upstream = &self.sign_ins.upstream;
        match upstream.authorization_url(&state, &secrets, &callback, context.now, context.deadline).await {
            Ok(url) => {
                self.sign_ins.count(context).await?;
                self.sign_ins.put(&state, &sign_in).await?;
                to(&url)
            }
            Err(error) => sign_in.target.fail(upstream_error(&error), context),
        }
    }

    /// Starts a sign-in that leads to the page of the person's grants.
    pub(crate) async fn start_for_grants(&self, browser: &Browser, context: &RequestContext<'_>) -> Step<HttpResponse> {
        self.start(Target::Grants, browser, context).await
    }
}

/// Parses a form that this server's own page has sent.
///
/// # Errors
///
/// When it is not a form or a parameter is repeated, or another site has sent it.
pub(crate) fn posted_form(request: &Request<Bytes>) -> Step<Parameters> {
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|own| own.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let parameters = Parameters::parse(request.body()).ok().filter(|own| is_form && own.repeated().is_none());
    let parameters = parameters.ok_or(PageError::Expired)?;
    // Set by browsers, and not by scripts.
    let site = request.headers().get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(PageError::Cookies);
    }
    Ok(parameters)
}

pub(crate) fn is_equal(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

fn to(url: &str) -> Step<HttpResponse> {
    redirect(url).ok_or(PageError::Internal)
}

pub(crate) fn add_cookie(response: &mut HttpResponse, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
