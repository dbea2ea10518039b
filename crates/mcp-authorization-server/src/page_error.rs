//! Errors that are shown to a person, because they may not or cannot be sent to a client.

use http::StatusCode;
use mcp_server::{BoxError, error_chain, store::StoreError};

use crate::{
    ClientError, ErrorCode, GrantError, OAuthError,
    pages::ErrorPage,
    responses::HttpResponse,
    server::{client_error, grant_error, internal, unavailable},
    texts::{Language, Texts},
};

/// Why a page is shown in place of a redirect to the client.
pub(crate) enum PageError {
    /// The client or the redirect URI is not valid.
    Request(OAuthError),
    /// An error for the client, whose redirect is not trusted before the person has signed in: the page has a link to this URL.
    Client {
        error: OAuthError,
        url: String,
    },
    /// The response of the identity provider was an error, or is forged: the browser chooses it. The page has a link to the URL of the
    /// client, if the sign-in is for one.
    Callback {
        error: OAuthError,
        url: Option<String>,
    },
    /// The sign-in of a person for the page of grants failed.
    SignIn(OAuthError),
    /// The client is unknown.
    UnknownClient,
    /// The metadata document of the client cannot be fetched.
    Document,
    Expired,
    Cookies,
    Limited,
    /// The person has none of the requested scopes. The page has a link to this URL of the client.
    Account {
        error: OAuthError,
        url: String,
    },
    /// A fault of this server. Logged.
    Internal,
    /// The store, or the source of a setting, is not available. Logged.
    Unavailable,
}

/// The result of a step: a page in place of a response.
pub(crate) type Step<T> = Result<T, PageError>;

impl PageError {
    /// Renders the page. The error is an extension of the response, for the log.
    pub(crate) fn page(self, language: Language) -> HttpResponse {
        let texts: &Texts = language.texts();
        let (status, text, detail) = match &self {
            Self::Request(error) => (StatusCode::BAD_REQUEST, texts.error_request, Some(error.description)),
            Self::Client { error, .. } | Self::SignIn(error) => {
                let (status, text) = match error.code {
                    ErrorCode::AccessDenied => (StatusCode::FORBIDDEN, texts.error_denied),
                    ErrorCode::TemporarilyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, texts.error_internal),
                    ErrorCode::ServerError => (StatusCode::INTERNAL_SERVER_ERROR, texts.error_internal),
                    _ => (StatusCode::BAD_REQUEST, texts.error_request),
                };
                (status, text, Some(error.description))
            }
            Self::Callback { error, .. } => match error.code {
                ErrorCode::AccessDenied => (StatusCode::FORBIDDEN, texts.error_denied, Some(error.description)),
                _ => (StatusCode::BAD_REQUEST, texts.error_internal, Some(error.description)),
            },
            Self::UnknownClient => (StatusCode::BAD_REQUEST, texts.error_client, None),
            Self::Document => (StatusCode::BAD_REQUEST, texts.error_document, None),
            Self::Expired => (StatusCode::BAD_REQUEST, texts.error_expired, None),
            Self::Cookies => (StatusCode::BAD_REQUEST, texts.error_cookies, None),
            Self::Limited => (StatusCode::TOO_MANY_REQUESTS, texts.error_limited, None),
            Self::Account { error, .. } => (StatusCode::FORBIDDEN, texts.error_account, Some(error.description)),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, texts.error_internal, None),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, texts.error_internal, None),
        };
        let link = match &self {
            Self::Client { url, .. } | Self::Account { url, .. } => Some(url.as_str()),
            Self::Callback { url, .. } => url.as_deref(),
            _ => None,
        };
        let mut response = ErrorPage { status, language, text, detail, link }.render();
        response.extensions_mut().insert(self.into_error());
        response
    }

    fn into_error(self) -> OAuthError {
        match self {
            Self::Request(error)
            | Self::Client { error, .. }
            | Self::Callback { error, .. }
            | Self::SignIn(error)
            | Self::Account { error, .. } => error,
            Self::UnknownClient => OAuthError::new(ErrorCode::InvalidClient, "the client is not registered"),
            Self::Document => OAuthError::new(ErrorCode::InvalidClient, "its metadata document could not be fetched"),
            Self::Expired => OAuthError::new(ErrorCode::InvalidRequest, "the sign-in has expired, or was completed"),
            Self::Cookies => OAuthError::new(ErrorCode::InvalidRequest, "the cookie of the browser is missing"),
            Self::Limited => OAuthError::new(ErrorCode::TemporarilyUnavailable, "a limit of requests was reached"),
            Self::Internal => OAuthError::new(ErrorCode::ServerError, "a fault, which has a log event of its own"),
            Self::Unavailable => {
                OAuthError::new(ErrorCode::TemporarilyUnavailable, "an outage, which has a log event of its own")
            }
        }
    }
}

pub(crate) fn page_of_client_error(error: ClientError) -> PageError {
    match error {
        ClientError::OAuth(error) if error.code == ErrorCode::InvalidClient => PageError::UnknownClient,
        ClientError::OAuth(error) => PageError::Request(error),
        ClientError::Document(_) => {
            tracing::info!(error = error_chain(&error), "a metadata document could not be fetched");
            PageError::Document
        }
        ClientError::Limited => PageError::Limited,
        ClientError::Store(_) | ClientError::Internal => page_of_logged(&client_error(error)),
    }
}

pub(crate) fn page_of_store(error: StoreError) -> PageError {
    page_of_logged(&unavailable("the store of sign-ins failed", &error))
}

pub(crate) fn page_of(what: &'static str, error: &BoxError) -> PageError {
    page_of_logged(&unavailable(what, error.as_ref()))
}

pub(crate) fn page_of_grant(error: GrantError) -> PageError {
    page_of_logged(&grant_error(error))
}

pub(crate) fn page_of_internal(error: &(dyn std::error::Error + 'static)) -> PageError {
    internal("a sign-in failed", error);
    PageError::Internal
}

/// The page of an error that was logged when it was created.
fn page_of_logged(error: &OAuthError) -> PageError {
    match error.code {
        ErrorCode::TemporarilyUnavailable => PageError::Unavailable,
        _ => PageError::Internal,
    }
}
