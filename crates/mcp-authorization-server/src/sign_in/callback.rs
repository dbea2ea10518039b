//! The callback from the identity provider.

use bytes::Bytes;
use http::{Method, Request};

use super::{
    Form, LIFETIME, SignedIn,
    rows::{ClientTarget, SignIn, Target},
    to,
};
use crate::{
    AuthorizationRequest, AuthorizationServer, ClientSummary, ErrorCode, NewGrant, OAuthError, Parameters,
    RequestContext, UpstreamError,
    clock::unix_seconds,
    cookies::{Browser, is_remembered},
    metadata::paths,
    page_error::{PageError, Step, page_of, page_of_client_error, page_of_grant, page_of_internal},
    random,
    responses::{HttpResponse, method_not_allowed},
    server::{grant_error, internal, unavailable},
    texts::Language,
    upstream::{Person, SignInSecrets, subject},
};

/// Length of a state: 32 bytes in Base64url.
const STATE_LENGTH: usize = 43;
/// Maximum length of a code of the identity provider, in bytes.
const MAX_CODE_BYTES: usize = 4096;

impl AuthorizationServer {
    /// Serves the redirect from the identity provider.
    pub(crate) async fn callback(&self, request: &Request<Bytes>, context: &RequestContext<'_>) -> HttpResponse {
        if request.method() != Method::GET {
            return method_not_allowed("GET");
        }
        let language = Language::of(request.headers());
        self.finish(request, language, context).await.unwrap_or_else(|error| error.page(language))
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
        let SignIn { target, nonce, code_verifier, .. } = self.sign_ins.take(state, &browser).await?;
        // A response of another provider.
        if !self.sign_ins.upstream.has_sent(parameters.get("iss"), context.now, context.deadline).await {
            tracing::warn!("a response came from another issuer than the identity provider");
            let error = OAuthError::new(ErrorCode::ServerError, "the sign-in failed at the identity provider");
            return target.reject(error, context);
        }
        if let Some(error) = parameters.get("error") {
            return target.reject(denied(error), context);
        }
        let Some(code) = parameters.get("code").filter(|code| code.len() <= MAX_CODE_BYTES) else {
            let error = OAuthError::new(ErrorCode::ServerError, "the identity provider returned no code");
            return target.reject(error, context);
        };
        let secrets = SignInSecrets { nonce: &nonce, code_verifier: &code_verifier };
        let callback = format!("{}{}", context.issuer, paths::CALLBACK);
        let upstream = &self.sign_ins.upstream;
        let person = match upstream.person(code, &secrets, &callback, context.now, context.deadline).await {
            Ok(person) => person,
            // The browser chooses the code, which may be that of another sign-in.
            Err(UpstreamError::OtherSignIn) => {
                tracing::warn!("the ID token of a code is not for its sign-in");
                let error = OAuthError::new(ErrorCode::ServerError, "the code is not for this sign-in: start it again");
                return target.reject(error, context);
            }
            Err(error) => return target.fail(upstream_error(&error), context),
        };
        match target {
            Target::Client(own) => self.return_to_client(own, person, browser, language, context).await,
            Target::Grants => {
                let subject = subject(upstream.issuer(), &person.principal.subject);
                self.grants_page(&browser, subject, language, context).await
            }
        }
    }

    /// Ends the sign-in of a person for a client. The person has signed in: errors are redirected.
    async fn return_to_client(
        &self,
        target: ClientTarget,
        person: Person,
        browser: Browser,
        language: Language,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let ClientTarget { request: own, client: summary, consented } = target;
        let fail = |error: OAuthError| {
            let mut response = to(&own.error_redirect(&error, context.issuer))?;
            // For the log.
            response.extensions_mut().insert(error);
            Ok(response)
        };
        let resources = self.resources.get(context.now).await;
        let resources = resources.map_err(|error| page_of("the resources could not be read", &error))?;
        let resource = match resources.find(Some(&own.resource)) {
            Ok(resource) => resource,
            Err(error) => return fail(error),
        };
        let scopes = resource.permitted_scopes(&own.scopes, &person.principal);
        if scopes.is_empty() && !own.scopes.is_empty() {
            tracing::info!(
                client.id = own.client_id,
                resource = resource.url,
                absent_claims = resource.absent_claims(&person.principal).join(" "),
                "a person has none of the requested scopes"
            );
            let error = OAuthError::new(ErrorCode::AccessDenied, "the account has none of the requested scopes");
            // Another account may have some. The client cannot say so in the language of the person.
            let url = own.error_redirect(&error, context.issuer);
            return Err(PageError::Account { error, url });
        }
        let subject = subject(self.sign_ins.upstream.issuer(), &person.principal.subject);
        let upstream_token = person.refresh_token.map(|own| own.0);
        let signed_in = SignedIn { subject, scopes, upstream_token };
        let grants = &self.grants;
        let has_approved = consented
            || grants
                .has_approved(context.issuer, &signed_in.subject, &own, context.now)
                .await
                .map_err(page_of_grant)?;
        if !has_approved {
            // Another person has approved the client in this browser.
            let found = self.clients.find(&own.client_id, context.address, context.now, context.deadline).await;
            let client = found.map_err(page_of_client_error)?;
            let form = Form {
                id: random::text::<16>().map_err(|error| page_of_internal(&error))?,
                browser: browser.id,
                request: own,
                client: summary,
                has_signed_in: true,
                expires: unix_seconds(context.now + LIFETIME),
            };
            self.sign_ins.put_person(&form.id, &signed_in).await?;
            return self.consent_page(&client, &form, language, context).await;
        }
        if consented {
            self.remember(&own, &signed_in.subject, &summary, context).await?;
        }
        self.issue(&own, signed_in, summary, context).await
    }

    /// Stores the approval of a client that gets refresh tokens. Without them, the person has no grant to see and to revoke.
    pub(super) async fn remember(
        &self,
        request: &AuthorizationRequest,
        subject: &str,
        client: &ClientSummary,
        context: &RequestContext<'_>,
    ) -> Step<()> {
        if !client.refreshes || !is_remembered(request) {
            return Ok(());
        }
        self.grants.approve(context.issuer, subject, request, context.now).await.map_err(page_of_grant)
    }

    /// Redirects to the client with a code.
    pub(super) async fn issue(
        &self,
        request: &AuthorizationRequest,
        person: SignedIn,
        client: ClientSummary,
        context: &RequestContext<'_>,
    ) -> Step<HttpResponse> {
        let SignedIn { subject, scopes, upstream_token } = person;
        let new = NewGrant { subject: &subject, request, scopes, client, upstream_token };
        let issued = self.grants.issue_code(context.issuer, new, context.now).await;
        match issued {
            Ok(code) => to(&request.code_redirect(&code, context.issuer)),
            Err(error) => to(&request.error_redirect(&grant_error(error), context.issuer)),
        }
    }
}

impl Target {
    /// Returns the response to a callback that reports or causes an error.
    fn reject(&self, error: OAuthError, context: &RequestContext<'_>) -> Step<HttpResponse> {
        let url = match self {
            Self::Client(own) => Some(own.request.error_redirect(&error, context.issuer)),
            Self::Grants => None,
        };
        Err(PageError::Callback { error, url })
    }

    /// Returns the response to an error before the person has signed in.
    pub(super) fn fail(&self, error: OAuthError, context: &RequestContext<'_>) -> Step<HttpResponse> {
        match self {
            Self::Client(own) => {
                let url = own.request.error_redirect(&error, context.issuer);
                Err(PageError::Client { error, url })
            }
            Self::Grants => Err(PageError::SignIn(error)),
        }
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

pub(super) fn upstream_error(error: &UpstreamError) -> OAuthError {
    match error {
        UpstreamError::Unavailable { .. } | UpstreamError::ClientSecret(_) => {
            unavailable("the sign-in at the identity provider failed", error)
        }
        UpstreamError::Rejected => OAuthError::new(ErrorCode::AccessDenied, "the sign-in has expired: start it again"),
        UpstreamError::IdToken(_) | UpstreamError::OtherSignIn | UpstreamError::OtherClient(_) => {
            internal("the identity provider returned an invalid ID token", error)
        }
    }
}
