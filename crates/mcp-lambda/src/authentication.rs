//! Authentication: identifies the caller and builds `WWW-Authenticate` challenges.

#[cfg(feature = "auth")]
use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
#[cfg(feature = "auth")]
use http::header;
#[cfg(feature = "auth")]
use mcp_auth::{ChallengeError, OidcConfig, ProtectedResourceMetadata, Reason, Verifier, VerifyError};
use mcp_protocol::JsonObject;
use mcp_server::{
    Access, Authorization, BuiltServer, CallError, Enforcement, InitError, Invocation, Principal, ScopeNames,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Env, PublicUrl, config::HttpConfig};

pub(crate) const AUTH: &str = "MCP_AUTH";
const GRANT_SCOPES: &str = "OIDC_GRANT_SCOPES";

/// How callers are known.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Authentication {
    /// In no way. A server that says who may use what does not start.
    #[default]
    Unconfigured,
    /// In no way, on purpose: everyone may use everything.
    DangerouslyOff,
    /// By their signature, which AWS has verified before the function runs: for a URL with `AuthType: AWS_IAM`.
    Iam {
        /// What each of them may do, as a signature carries no scopes.
        grant_scopes: Vec<String>,
    },
    /// By tokens of OpenID Connect issuers.
    #[cfg(feature = "auth")]
    Oidc(OidcConfig),
}

impl Authentication {
    /// Reads `MCP_AUTH`, and the variables that name issuers.
    ///
    /// # Errors
    ///
    /// When they cannot be used, or contradict each other.
    pub(crate) fn from_env(env: &Env) -> Result<Self, InitError> {
        match env.get(AUTH) {
            Some("dangerously-off") => Ok(Self::DangerouslyOff),
            Some("iam") => match Self::issuers(env, &[GRANT_SCOPES])? {
                Self::Unconfigured => Ok(Self::Iam { grant_scopes: granted_scopes(env) }),
                _ => Err(InitError::new(format!(
                    "{AUTH}=iam and an issuer of tokens exclude each other: a URL with AuthType AWS_IAM passes no tokens on"
                ))),
            },
            Some("required") => match Self::issuers(env, &[])? {
                Self::Unconfigured => Err(InitError::new(format!(
                    "{AUTH}=required needs an issuer of tokens: set OIDC_ISSUER, GOOGLE_CLIENT_ID, \
                     COGNITO_USER_POOL_ID or OIDC_ISSUERS"
                ))),
                issuers => Ok(issuers),
            },
            None => Self::issuers(env, &[]),
            Some(other) => Err(InitError::setting(AUTH, "`required`, `iam` or `dangerously-off`", other)),
        }
    }

    /// The issuers that are configured. Of the variables about them `apart` mean something else here.
    #[cfg(feature = "auth")]
    fn issuers(env: &Env, apart: &[&str]) -> Result<Self, InitError> {
        let get = |name: &str| env.get(name).filter(|_| !apart.contains(&name));
        Ok(OidcConfig::from_env(get)?.map_or(Self::Unconfigured, Self::Oidc))
    }

    #[cfg(not(feature = "auth"))]
    fn issuers(env: &Env, apart: &[&str]) -> Result<Self, InitError> {
        let is_about_issuers =
            |name: &&str| name.starts_with("OIDC_") || name.starts_with("COGNITO_") || *name == "GOOGLE_CLIENT_ID";
        let mut set = env.names().filter(is_about_issuers).filter(|name| env.get(name).is_some());
        match set.find(|name| !apart.contains(name)) {
            Some(name) => Err(InitError::new(format!(
                "{name} is set, and this function was built without authorization: build it with `--features auth`"
            ))),
            None => Ok(Self::Unconfigured),
        }
    }

    #[cfg_attr(not(feature = "auth"), expect(unused_variables, reason = "nobody is anonymous who has signed"))]
    pub(crate) fn authorization(&self, config: &HttpConfig) -> Authorization {
        match self {
            Self::Unconfigured => Authorization::Unconfigured,
            Self::DangerouslyOff => Authorization::DangerouslyOff,
            // Everyone has signed; there is nothing to ask an issuer for.
            Self::Iam { .. } => Authorization::Required(Enforcement {
                denies_anonymous: true,
                scope_names: ScopeNames::None,
                ..Enforcement::default()
            }),
            #[cfg(feature = "auth")]
            Self::Oidc(oidc) => Authorization::Required(Enforcement {
                denies_anonymous: config.denies_anonymous,
                scope_names: oidc.scope_names(),
                by_issuer: oidc.scope_names_by_issuer(),
            }),
        }
    }
}

fn granted_scopes(env: &Env) -> Vec<String> {
    let words = env.get(GRANT_SCOPES).unwrap_or_default().split(|own: char| own == ',' || own.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What stands between a request and the server.
#[derive(Debug)]
pub(crate) enum Authenticator {
    /// Callers are not authenticated.
    Open,
    Iam {
        grant_scopes: Vec<String>,
    },
    #[cfg(feature = "auth")]
    Oidc(Verifier),
}

/// Why a request is rejected before it is looked up.
#[derive(Debug)]
pub(crate) enum AuthError {
    /// By whom the event was sent is not said: the URL does not have `AuthType: AWS_IAM`.
    Unsigned,
    /// The header names no scheme.
    #[cfg(feature = "auth")]
    Malformed,
    /// Credentials of another kind.
    #[cfg(feature = "auth")]
    NoToken,
    #[cfg(feature = "auth")]
    Refused(VerifyError),
    /// The server does not know its own URL, the audience of tokens.
    #[cfg(feature = "auth")]
    Nameless,
}

impl Authenticator {
    pub(crate) fn new(authentication: &Authentication) -> Self {
        match authentication {
            Authentication::Unconfigured => Self::Open,
            Authentication::DangerouslyOff => {
                tracing::warn!("{AUTH}=dangerously-off: every caller may use everything in this function");
                Self::Open
            }
            Authentication::Iam { grant_scopes } => Self::Iam { grant_scopes: grant_scopes.clone() },
            #[cfg(feature = "auth")]
            Authentication::Oidc(config) => Self::Oidc(Verifier::new(config.clone())),
        }
    }

    /// Whom clients sign in with.
    pub(crate) fn issuers(&self) -> Vec<&str> {
        match self {
            Self::Open | Self::Iam { .. } => Vec::new(),
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => verifier.issuers().collect(),
        }
    }

    /// Fetches keys before anyone needs them, where that is configured.
    pub(crate) async fn warm(&self) {
        match self {
            Self::Open | Self::Iam { .. } => {}
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => verifier.warm().await,
        }
    }

    /// Authenticates the caller; `None` for an anonymous caller.
    #[cfg_attr(not(feature = "auth"), expect(clippy::unused_async, reason = "tokens are verified by asking an issuer"))]
    pub(crate) async fn admit(
        &self,
        headers: &HeaderMap,
        own_url: Option<&PublicUrl>,
        iam: Option<&IamIdentity>,
        invocation: &Invocation,
    ) -> Result<Option<Arc<Principal>>, AuthError> {
        #[cfg(not(feature = "auth"))]
        let _ = (headers, own_url);
        match self {
            // A test may say who calls.
            Self::Open => Ok(invocation.principal.clone()),
            Self::Iam { grant_scopes } => {
                let principal = iam.ok_or(AuthError::Unsigned)?.principal(grant_scopes);
                Ok(Some(Arc::new(principal)))
            }
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => {
                let own_url = own_url.ok_or(AuthError::Nameless)?;
                let Some(token) = bearer_token(headers)? else {
                    return Ok(None);
                };
                let (now, answer_by) = (invocation.received, invocation.answer_by());
                let verified = verifier.verify(token, own_url.as_str(), now, answer_by).await;
                verified.map(Some).map_err(AuthError::Refused)
            }
        }
    }

    /// The metadata of the resource that a well-known path is about; `None` where there is no such thing.
    #[cfg(not(feature = "auth"))]
    pub(crate) fn metadata(
        &self,
        _: &str,
        _: Option<&PublicUrl>,
        _: &BuiltServer,
    ) -> Option<Result<String, AuthError>> {
        None
    }

    /// The metadata of the resource that a well-known path is about; `None` where there is no such thing.
    #[cfg(feature = "auth")]
    pub(crate) fn metadata(
        &self,
        path: &str,
        own_url: Option<&PublicUrl>,
        server: &BuiltServer,
    ) -> Option<Result<String, AuthError>> {
        let Self::Oidc(verifier) = self else {
            return None;
        };
        let resource_path = path.strip_prefix(mcp_auth::WELL_KNOWN)?;
        let Some(own_url) = own_url else {
            return Some(Err(AuthError::Nameless));
        };
        // Behind a path of its own the server is asked with that path, and also, below it, without.
        let resource = match resource_path.strip_prefix(own_url.path()).unwrap_or(resource_path) {
            "" => own_url.as_str().to_owned(),
            "/" => own_url.as_str().to_owned(),
            "/mcp" | "/mcp/" => format!("{}/mcp", own_url.as_str()),
            _ => return None,
        };
        let metadata = ProtectedResourceMetadata {
            resource,
            authorization_servers: verifier.issuers().collect(),
            scopes_supported: server.scopes_supported(),
            bearer_methods_supported: ["header"],
            resource_name: server.name().to_owned(),
        };
        // Strings and lists of them.
        Some(Ok(serde_json::to_string(&metadata).unwrap_or_default()))
    }
}

/// Leads clients to the issuer, if there is one.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "auth"), expect(dead_code, reason = "there is no issuer to be led to"))]
pub(crate) struct Challenger<'a> {
    pub(crate) authenticator: &'a Authenticator,
    pub(crate) server: &'a BuiltServer,
    pub(crate) own_url: Option<&'a PublicUrl>,
    /// The path that the request came to, below the server's own: the resource that is asked for.
    pub(crate) endpoint: &'a str,
}

impl Challenger<'_> {
    /// The challenge that goes with a refusal; `None` if no token would help.
    pub(crate) fn of(&self, refusal: &CallError) -> Option<String> {
        match refusal {
            CallError::Unauthenticated { scopes } => self.no_token(scopes),
            CallError::InsufficientScope { scopes } => self.insufficient_scope(scopes),
            _ => None,
        }
    }
}

/// A [`Challenger`] that outlives its request: for a stream whose handler needs a scope.
pub(crate) struct OwnedChallenger {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) own_url: Option<PublicUrl>,
    pub(crate) endpoint: String,
}

impl OwnedChallenger {
    pub(crate) fn challenge(&self, server: &BuiltServer, refusal: &CallError) -> Option<String> {
        let Self { authenticator, own_url, endpoint } = self;
        Challenger { authenticator, server, own_url: own_url.as_ref(), endpoint }.of(refusal)
    }
}

#[cfg(feature = "auth")]
impl Challenger<'_> {
    /// Challenge for a caller without a token.
    pub(crate) fn no_token(&self, scopes: &[String]) -> Option<String> {
        self.challenge(None, scopes)
    }

    /// Challenge for a caller whose token lacks scopes.
    pub(crate) fn insufficient_scope(&self, scopes: &[String]) -> Option<String> {
        self.challenge(Some(ChallengeError::InsufficientScope), scopes)
    }

    /// For credentials that are rejected, with the scopes that the request needs.
    pub(crate) fn rejected(&self, rejected: &AuthError, scopes: &[String]) -> Option<String> {
        match rejected {
            AuthError::Malformed => self.challenge(Some(ChallengeError::InvalidRequest), scopes),
            AuthError::Refused(VerifyError::Invalid(_)) => self.challenge(Some(ChallengeError::InvalidToken), scopes),
            AuthError::NoToken => self.challenge(None, scopes),
            // Another token would not help.
            AuthError::Refused(VerifyError::NotAllowed | VerifyError::KeysUnavailable { .. })
            | AuthError::Nameless
            | AuthError::Unsigned => None,
        }
    }

    fn challenge(&self, error: Option<ChallengeError>, scopes: &[String]) -> Option<String> {
        let Authenticator::Oidc(_) = self.authenticator else {
            return None;
        };
        let url = format!("{}{}{}", self.own_url?.as_str(), mcp_auth::WELL_KNOWN, self.endpoint);
        // Where a request needs none, what clients request without this parameter: what the metadata lists.
        let scopes = if scopes.is_empty() { Cow::Owned(self.server.scopes_supported()) } else { Cow::Borrowed(scopes) };
        Some(mcp_auth::challenge(&url, error, &scopes))
    }
}

#[cfg(not(feature = "auth"))]
impl Challenger<'_> {
    pub(crate) fn no_token(&self, _: &[String]) -> Option<String> {
        None
    }

    pub(crate) fn insufficient_scope(&self, _: &[String]) -> Option<String> {
        None
    }

    pub(crate) fn rejected(&self, _: &AuthError, _: &[String]) -> Option<String> {
        None
    }
}

impl AuthError {
    /// What is wrong with the server, or with what it needs; `None` if it is the caller who is refused.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Unsigned => None,
            #[cfg(feature = "auth")]
            Self::Nameless => Some("the server does not know its own name"),
            #[cfg(feature = "auth")]
            Self::Refused(VerifyError::KeysUnavailable { .. }) => Some("the keys of the issuer cannot be fetched"),
            #[cfg(feature = "auth")]
            Self::Malformed | Self::NoToken | Self::Refused(VerifyError::Invalid(_) | VerifyError::NotAllowed) => None,
        }
    }

    /// Says in the log which check failed.
    pub(crate) fn log(&self, request_id: &str) {
        match self {
            Self::Unsigned => tracing::error!(
                request_id,
                "{AUTH}=iam, and the event has no signer: the URL must have AuthType AWS_IAM"
            ),
            #[cfg(feature = "auth")]
            Self::Nameless => tracing::error!(
                request_id,
                "tokens are for a server by its name, and this event does not tell it: set MCP_PUBLIC_URL"
            ),
            #[cfg(feature = "auth")]
            Self::Malformed => {
                tracing::info!(request_id, monotonic_counter.token_refusals = 1, "an Authorization header is malformed")
            }
            #[cfg(feature = "auth")]
            Self::NoToken => tracing::info!(
                request_id,
                monotonic_counter.token_refusals = 1,
                "an Authorization header has no bearer token"
            ),
            #[cfg(feature = "auth")]
            Self::Refused(VerifyError::KeysUnavailable { .. }) => {
                tracing::warn!(request_id, "a token cannot be judged, as the keys of its issuer are not there");
            }
            #[cfg(feature = "auth")]
            Self::Refused(reason) => {
                tracing::info!(request_id, %reason, monotonic_counter.token_refusals = 1, "a token was refused");
            }
        }
    }
}

/// The token of a request. The query string is not looked at: it ends up in logs (RFC 6750, section 5.3).
#[cfg(feature = "auth")]
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // A front joins several headers by a comma, which no token has: they are rejected alike.
    let is_single = values.next().is_none();
    let (scheme, token) = value.as_bytes().split_at(value.as_bytes().iter().take_while(|byte| **byte != b' ').count());
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(if scheme.is_empty() { AuthError::Malformed } else { AuthError::NoToken });
    }
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    match std::str::from_utf8(token).map(|token| token.trim_start_matches(' ')) {
        Ok(token) if is_single && !token.is_empty() && token.bytes().all(is_token_byte) => Ok(Some(token)),
        // Clients discard a token that is invalid, and sign in again; `invalid_request` would stop them.
        _ => Err(AuthError::Refused(VerifyError::Invalid(Reason::NotABearerToken))),
    }
}

/// The AWS identity that a request was signed with: `requestContext.authorizer.iam` of a payload-2.0 event. Lambda writes
/// it, and only for a URL (or API) that verifies signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IamIdentity {
    /// The twelve digits of the account.
    pub account_id: String,
    /// The user or the session of a role, by its ARN. The name of a session is chosen by the caller.
    pub user_arn: String,
    /// The unique id of the user, or of the role with the session's name.
    pub user_id: Option<String>,
    /// The organisation that the account belongs to.
    pub principal_org_id: Option<String>,
}

impl IamIdentity {
    fn principal(&self, grant_scopes: &[String]) -> Principal {
        let subject = without_chosen_name(&self.user_arn);
        let claims = [
            ("sub", Some(subject)),
            ("accountId", Some(self.account_id.as_str())),
            ("userArn", Some(self.user_arn.as_str())),
            ("userId", self.user_id.as_deref()),
            ("principalOrgId", self.principal_org_id.as_deref()),
        ];
        let claims = claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        Principal {
            claims: claims.collect::<JsonObject>(),
            tenant: Some(self.account_id.clone()),
            ..Principal::new(format!("arn:aws:iam::{}:root", self.account_id), subject)
                .with_scopes(grant_scopes.iter().cloned())
        }
    }
}

/// The ARN of a caller without the part that the caller chooses: the session name of an assumed role, the name of a
/// federated user. With them in the subject, a session could pass for another of its role; and SDKs make a new name each
/// time, under which nothing that was stored would be found again. The names of users and roles are the account's.
fn without_chosen_name(arn: &str) -> &str {
    let is_session = arn.split(':').nth(2) == Some("sts");
    arn.rsplit_once('/').filter(|_| is_session).map_or(arn, |(own, _)| own)
}

/// What a tool's `_meta` says about tokens, in the form that ChatGPT reads.
pub(crate) fn security_schemes(access: &Access) -> JsonObject {
    let scheme = match access {
        Access::Public => json!({ "type": "noauth" }),
        Access::Scopes(scopes) => json!({ "type": "oauth2", "scopes": scopes }),
    };
    JsonObject::from_iter([("securitySchemes".to_owned(), json!([scheme]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8.14: a session's name is no part of its subject.
    #[test]
    fn the_subject_has_no_name_that_the_caller_chooses() {
        for (arn, subject) in [
            ("arn:aws:sts::123456789012:assumed-role/Reader/ada", "arn:aws:sts::123456789012:assumed-role/Reader"),
            ("arn:aws:sts::123456789012:assumed-role/Reader/a:b=c@d", "arn:aws:sts::123456789012:assumed-role/Reader"),
            ("arn:aws-cn:sts::123456789012:assumed-role/R/x", "arn:aws-cn:sts::123456789012:assumed-role/R"),
            ("arn:aws:sts::123456789012:federated-user/ada", "arn:aws:sts::123456789012:federated-user"),
            ("arn:aws:iam::123456789012:user/team/ada", "arn:aws:iam::123456789012:user/team/ada"),
            ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
        ] {
            let identity = IamIdentity {
                account_id: "123456789012".to_owned(),
                user_arn: arn.to_owned(),
                user_id: Some("AROAEXAMPLE:ada".to_owned()),
                ..IamIdentity::default()
            };

            let principal = identity.principal(&[]);

            assert_eq!((principal.subject.as_str(), &principal.claims["sub"]), (subject, &Value::from(subject)));
            assert_eq!(principal.claims["userArn"], arn, "the log of an author may still tell sessions apart");
        }
    }
}
