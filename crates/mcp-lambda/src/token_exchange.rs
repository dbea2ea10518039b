//! Exchange of the caller's token ([RFC 8693]) for handlers, with the feature `token-exchange`.
//!
//! [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693

use std::{fmt, sync::Arc, time::SystemTime};

use http::HeaderMap;
use mcp_auth::{ExchangedToken, SubjectToken, TokenExchange, TokenTarget};
use mcp_server::{HandlerError, Invocation, RequestContext};

use crate::{
    LambdaInvocation,
    authentication::{Authenticator, bearer_token},
};

/// The caller's token, and the client that exchanges it.
#[derive(Clone)]
pub(crate) struct CallerToken {
    token: SubjectToken,
    exchange: Arc<TokenExchange>,
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerToken(..)")
    }
}

impl Authenticator {
    /// Adds the caller's token to the invocation, if token exchange is configured. The token must be verified: the invocation has its
    /// principal.
    pub(crate) fn with_caller_token(&self, headers: &HeaderMap, invocation: Invocation) -> Invocation {
        let Self::Oidc(verifier) = self else { return invocation };
        let (Some(exchange), Some(_)) = (verifier.exchange(), &invocation.principal) else { return invocation };
        let Ok(Some(token)) = bearer_token(headers) else { return invocation };
        let caller = Some(CallerToken { token: SubjectToken::new(token), exchange: Arc::clone(exchange) });
        let platform = match &invocation.platform {
            None => LambdaInvocation { caller, ..LambdaInvocation::default() },
            Some(own) => match own.downcast_ref::<LambdaInvocation>() {
                Some(own) => LambdaInvocation { caller, ..own.clone() },
                // The value of another transport is not replaced.
                None => return invocation,
            },
        };
        Invocation { platform: Some(Arc::new(platform)), ..invocation }
    }
}

/// Exchanges the caller's token for a token of another service at the issuer. The handler never sees the caller's token.
///
/// The operator configures the client that exchanges tokens (`OIDC_EXCHANGE_CLIENT_ID` and a secret). Only then is the caller's token
/// kept, for the duration of the request. Exchanged tokens are cached in memory until they expire.
///
/// ```
/// use mcp_lambda::{HandlerError, NoArguments, ToolContext};
/// use mcp_lambda::{TokenExchangeContext, TokenTarget, https::Client};
///
/// async fn invoices(context: ToolContext<Client>, _: NoArguments) -> Result<String, HandlerError> {
///     let token = context.exchange_token(TokenTarget::Audience("billing"), &["invoices:read"]).await?;
///     let request = context.state().get("https://billing.example.com/invoices").bearer(token.as_str());
///     let response = request.answer_by(context.deadline()).send().await?;
///     Ok(String::from_utf8_lossy(&response.bytes().await?).into_owned())
/// }
/// # let _ = mcp_lambda::Tool::new("invoices", invoices);
/// ```
pub trait TokenExchangeContext {
    /// Requests a token for another service on behalf of the caller. Without `scopes`, the issuer chooses the scopes.
    ///
    /// # Errors
    ///
    /// - The issuer rejects the exchange (`invalid_grant`, `invalid_request`, `invalid_target`, `invalid_scope`, `access_denied`), or
    ///   the caller is anonymous: [`HandlerError::failed`] with a message for the caller.
    /// - The token endpoint is unavailable, or does not respond before the request's deadline: [`HandlerError::unavailable`].
    /// - No exchange is configured, the issuer does not accept the client, or the response violates RFC 8693: an internal fault.
    fn exchange_token(
        &self,
        target: TokenTarget<'_>,
        scopes: &[&str],
    ) -> impl Future<Output = Result<ExchangedToken, HandlerError>> + Send;
}

impl<S: Send + Sync> TokenExchangeContext for RequestContext<S> {
    async fn exchange_token(&self, target: TokenTarget<'_>, scopes: &[&str]) -> Result<ExchangedToken, HandlerError> {
        let caller = self.platform::<LambdaInvocation>().and_then(|own| own.caller.as_ref());
        let Some(CallerToken { token, exchange }) = caller else {
            return Err(match self.principal() {
                None => HandlerError::failed("This needs an authenticated caller: sign in, then repeat the request."),
                Some(_) => HandlerError::internal(
                    "a handler exchanges the caller's token, and no exchange is configured: set OIDC_EXCHANGE_CLIENT_ID",
                ),
            });
        };
        let exchanged = exchange.exchange(token, target, scopes, SystemTime::now, self.deadline()).await;
        exchanged.map_err(mcp_auth::ExchangeError::into_handler_error)
    }
}
