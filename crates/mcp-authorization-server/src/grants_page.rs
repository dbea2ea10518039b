//! The page on which a person sees and revokes grants.
//!
//! | Request | Response |
//! | --- | --- |
//! | `GET /grants` | a page with a button, which writes nothing |
//! | `POST /grants` with `sign_in` | the redirect to the identity provider; its callback returns the grants |
//! | `POST /grants` with `form` and `revoke` | revokes a grant or all, and returns the grants |
//!
//! There is no session: the form contains the person, sealed, for ten minutes and for its browser.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    AuthorizationServer, ClientKind, RequestContext, Resources,
    clock::{date, unix_seconds},
    cookies::Browser,
    grants::{ListedGrant, Selection},
    metadata::paths,
    page_error::{PageError, Step, page_of, page_of_grant, page_of_internal},
    pages::{Escaped, host, page},
    responses::{HttpResponse, method_not_allowed},
    seal::Purpose,
    sign_in::{LIFETIME, add_cookie, is_equal, posted_form},
    texts::Language,
};

/// The sealed content of the form.
#[derive(Debug, Serialize, Deserialize)]
struct Form {
    /// Id of the browser.
    browser: String,
    /// The person.
    subject: String,
    /// In seconds since 1970.
    expires: u64,
}

impl AuthorizationServer {
    /// Serves the page.
    pub(crate) async fn grants_endpoint(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> HttpResponse {
        let language = Language::of(request.headers());
        let responded = match *request.method() {
            Method::GET => self.welcome(request, language),
            Method::POST => self.change_grants(request, language, context).await,
            _ => return method_not_allowed("GET, POST"),
        };
        responded.unwrap_or_else(|error| error.page(language))
    }

    fn welcome(&self, request: &Request<Bytes>, language: Language) -> Step<HttpResponse> {
        let browser = Browser::of_or_new(request.headers()).map_err(|error| page_of_internal(&error))?;
        let mut response = self.welcome_page(language);
        add_cookie(&mut response, browser.set_cookie());
        Ok(response)
    }

    async fn change_grants(
        &self,
        request: &Request<Bytes>,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let parameters = posted_form(request)?;
        let browser = Browser::of(request.headers()).ok_or(PageError::Cookies)?;
        if parameters.get("sign_in").is_some() {
            return self.start_for_grants(&browser, context).await;
        }
        let form = parameters.get("form").ok_or(PageError::Expired)?;
        let form = self.sign_ins.sealer.open::<Form>(context.issuer, Purpose::GrantsForm, form).await;
        let form = form.filter(|form| form.expires > unix_seconds(context.now)).ok_or(PageError::Expired)?;
        if !is_equal(&browser.id, &form.browser) {
            return Err(PageError::Cookies);
        }
        let selection = match parameters.get("revoke").ok_or(PageError::Expired)? {
            "all" => Selection::All,
            handle => Selection::One(handle),
        };
        self.grants.revoke_listed(context.issuer, &form.subject, selection).await.map_err(page_of_grant)?;
        self.grants_page(&browser, form.subject, language, context).await
    }

    /// Returns the page of a person who has signed in.
    pub(crate) async fn grants_page(
        &self,
        browser: &Browser,
        subject: String,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let grants = self.grants.list(context.issuer, &subject).await.map_err(page_of_grant)?;
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let form = Form { browser: browser.id.clone(), subject, expires: unix_seconds(context.now + LIFETIME) };
        let form = self.sign_ins.sealer.seal(context.issuer, Purpose::GrantsForm, &form);
        let form = form.map_err(|error| page_of_internal(&error))?;
        let texts = language.texts();
        let mut body = format!("<h1>{}</h1>", texts.grants_title);
        // Writing to a string cannot fail.
        let _ = match grants.is_empty() {
            true => write!(body, "<p>{}</p>", texts.grants_none),
            false => write_grants(&mut body, &grants, &resources, &form, language),
        };
        Ok(page(StatusCode::OK, language, texts.grants_title, &body, "'self'"))
    }

    /// Renders the page before the sign-in.
    fn welcome_page(&self, language: Language) -> HttpResponse {
        let texts = language.texts();
        let issuer = self.sign_ins.upstream.issuer();
        let body = format!(
            "<h1>{}</h1><p>{}</p><p>{} <code>{}</code>.</p><form method=\"post\" action=\"{}\">\
             <button name=\"sign_in\" value=\"yes\">{}</button></form>",
            texts.grants_title,
            texts.grants_introduction,
            texts.next_step,
            Escaped(&host(issuer).unwrap_or_default()),
            paths::GRANTS,
            texts.sign_in
        );
        // Browsers apply `form-action` to the redirect to the identity provider, too.
        let form_action = if issuer.starts_with("http:") { "*" } else { "'self' https:" };
        page(StatusCode::OK, language, texts.grants_title, &body, form_action)
    }
}

fn write_grants(
    body: &mut String,
    grants: &[ListedGrant],
    resources: &Resources,
    form: &str,
    language: Language,
) -> fmt::Result {
    let texts = language.texts();
    write!(
        body,
        "<p>{}</p><form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"form\" value=\"{}\"><ul>",
        texts.grants_hint,
        paths::GRANTS,
        Escaped(form)
    )?;
    for grant in grants {
        let ListedGrant { handle, request, client, scopes, created } = grant;
        let domain = host(&request.client_id).filter(|_| client.kind == ClientKind::Document);
        let shown = domain.as_deref().or(client.name.as_deref()).unwrap_or(&request.client_id);
        // A resource that was removed has no name any more.
        let resource = resources.iter().find(|own| own.url == request.resource);
        let server = resource.map_or(request.resource.as_str(), |own| own.name.as_str());
        write!(body, "<li><strong>{}</strong><dl><dt>{}</dt>", Escaped(shown), texts.server)?;
        write!(body, "<dd>{} ({})</dd>", Escaped(server), Escaped(&host(&request.resource).unwrap_or_default()))?;
        write!(body, "<dt>{}</dt>", texts.permissions)?;
        if scopes.is_empty() {
            write!(body, "<dd>{}</dd>", texts.no_permissions)?;
        }
        for name in scopes {
            let scope = resource.and_then(|own| own.scopes.iter().find(|scope| scope.name == *name));
            let text = scope.map_or(name.as_str(), |own| own.text_in(language.tag()));
            write!(body, "<dd>{}</dd>", Escaped(text))?;
        }
        write!(
            body,
            "<dt>{}</dt><dd>{}</dd></dl><button name=\"revoke\" value=\"{}\">{}</button></li>",
            texts.since,
            date(*created),
            Escaped(handle),
            texts.revoke
        )?;
    }
    write!(body, "</ul><button name=\"revoke\" value=\"all\">{}</button></form>", texts.revoke_all)
}
