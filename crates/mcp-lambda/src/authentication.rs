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

#[cfg(feature = "auth")]
use crate::logs::REJECTION;
use crate::{Env, PublicUrl, config::HttpConfig};

pub(crate) const AUTH: &str = "MCP_AUTH";
const GRANT_SCOPES: &str = "OIDC_GRANT_SCOPES";

/// How callers are authenticated: the value of `MCP_AUTH`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Authentication {
    /// Callers are not authenticated. A server with access rules does not start.
    #[default]
    Unconfigured,
    /// `dangerously-off`: authentication is disabled on purpose, and every caller may use every item.
    DangerouslyOff,
    /// `iam`: AWS has verified a SigV4 signature before the function runs. For a URL with `AuthType: AWS_IAM`.
    Iam {
        /// `OIDC_GRANT_SCOPES`: the scopes that every caller gets, because a signature carries none.
        grant_scopes: Vec<String>,
    },
    /// By bearer tokens of OpenID Connect issuers.
    #[cfg(feature = "auth")]
    Oidc(OidcConfig),
}

impl Authentication {
    /// Reads `MCP_AUTH`, and the variables that name issuers.
    ///
    /// # Errors
    ///
    /// When a value is invalid, or two variables contradict each other.
    pub(crate) fn from_env(env: &Env) -> Result<Self, InitError> {
        match env.get(AUTH) {
            Some("dangerously-off") => Ok(Self::DangerouslyOff),
            Some("iam") => match Self::issuers(env, &[GRANT_SCOPES])? {
                Self::Unconfigured => Ok(Self::Iam { grant_scopes: read_grant_scopes(env) }),
                _ => Err(InitError::new(format!(
                    "{AUTH}=iam and an issuer of tokens exclude each other: a URL with AuthType AWS_IAM forwards no bearer tokens"
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

    /// The configured issuers. The variables in `excluded` are ignored, because they have another meaning for `MCP_AUTH=iam`.
    #[cfg(feature = "auth")]
    fn issuers(env: &Env, excluded: &[&str]) -> Result<Self, InitError> {
        let get = |name: &str| env.get(name).filter(|_| !excluded.contains(&name));
        Ok(OidcConfig::from_env(get)?.map_or(Self::Unconfigured, Self::Oidc))
    }

    #[cfg(not(feature = "auth"))]
    fn issuers(env: &Env, excluded: &[&str]) -> Result<Self, InitError> {
        let is_about_issuers =
            |name: &&str| name.starts_with("OIDC_") || name.starts_with("COGNITO_") || *name == "GOOGLE_CLIENT_ID";
        let mut set = env.names().filter(is_about_issuers).filter(|name| env.get(name).is_some());
        match set.find(|name| !excluded.contains(name)) {
            Some(name) => Err(InitError::new(format!(
                "{name} is set, but this function was built without the feature `auth`: build it with `--features auth`"
            ))),
            None => Ok(Self::Unconfigured),
        }
    }

    #[cfg_attr(not(feature = "auth"), expect(unused_variables, reason = "only OIDC has anonymous callers"))]
    pub(crate) fn authorization(&self, config: &HttpConfig) -> Authorization {
        match self {
            Self::Unconfigured => Authorization::Unconfigured,
            Self::DangerouslyOff => Authorization::DangerouslyOff,
            // Every caller has signed the request, and no authorization server grants scopes.
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

fn read_grant_scopes(env: &Env) -> Vec<String> {
    let words = env.get(GRANT_SCOPES).unwrap_or_default().split(|own: char| own == ',' || own.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Authenticates the callers of requests.
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

/// Why authentication failed, or could not be attempted.
#[derive(Debug)]
pub(crate) enum AuthError {
    /// The event has no IAM identity: the URL does not have `AuthType: AWS_IAM`.
    Unsigned,
    /// The `Authorization` header has no scheme.
    #[cfg(feature = "auth")]
    Malformed,
    /// The scheme is not `Bearer`.
    #[cfg(feature = "auth")]
    NotBearer,
    #[cfg(feature = "auth")]
    Verification(VerifyError),
    /// The server's public URL, which is the audience of tokens, is unknown.
    #[cfg(feature = "auth")]
    NoPublicUrl,
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

    /// The issuers that clients get tokens from.
    pub(crate) fn issuers(&self) -> Vec<&str> {
        match self {
            Self::Open | Self::Iam { .. } => Vec::new(),
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => verifier.issuers().collect(),
        }
    }

    /// Fetches the issuers' keys in the init phase, if that is configured (`OIDC_WARM`).
    pub(crate) async fn warm(&self) {
        match self {
            Self::Open | Self::Iam { .. } => {}
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => verifier.warm().await,
        }
    }

    /// Authenticates the caller; `None` for an anonymous caller.
    #[cfg_attr(not(feature = "auth"), expect(clippy::unused_async, reason = "only token verification awaits"))]
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
            // A test may set the principal itself.
            Self::Open => Ok(invocation.principal.clone()),
            Self::Iam { grant_scopes } => {
                let principal = iam.ok_or(AuthError::Unsigned)?.principal(grant_scopes);
                Ok(Some(Arc::new(principal)))
            }
            #[cfg(feature = "auth")]
            Self::Oidc(verifier) => {
                let own_url = own_url.ok_or(AuthError::NoPublicUrl)?;
                let Some(token) = bearer_token(headers)? else {
                    return Ok(None);
                };
                let (now, answer_by) = (invocation.received, invocation.answer_by());
                let verified = verifier.verify(token, own_url.as_str(), now, answer_by).await;
                verified.map(Some).map_err(AuthError::Verification)
            }
        }
    }

    /// The protected resource metadata (RFC 9728) at a well-known path; `None` if the path names no resource of this server.
    #[cfg(not(feature = "auth"))]
    pub(crate) fn metadata(
        &self,
        _: &str,
        _: Option<&PublicUrl>,
        _: &BuiltServer,
    ) -> Option<Result<String, AuthError>> {
        None
    }

    /// The protected resource metadata (RFC 9728) at a well-known path; `None` if the path names no resource of this server.
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
            return Some(Err(AuthError::NoPublicUrl));
        };
        // If the public URL has a path, the metadata path ends with it; a request below that path may omit it.
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
        // Strings and lists of strings: serialization cannot fail.
        Some(Ok(serde_json::to_string(&metadata).unwrap_or_default()))
    }
}

/// Builds `WWW-Authenticate` challenges, which name the protected resource metadata and the missing scopes.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "auth"), expect(dead_code, reason = "only OIDC has challenges"))]
pub(crate) struct Challenger<'a> {
    pub(crate) authenticator: &'a Authenticator,
    pub(crate) server: &'a BuiltServer,
    pub(crate) own_url: Option<&'a PublicUrl>,
    /// The path of the request below the public URL: the requested resource.
    pub(crate) endpoint: &'a str,
}

impl Challenger<'_> {
    /// The challenge for an authorization error; `None` if no token would help.
    pub(crate) fn of(&self, denial: &CallError) -> Option<String> {
        match denial {
            CallError::Unauthenticated { scopes } => self.no_token(scopes),
            CallError::InsufficientScope { scopes } => self.insufficient_scope(scopes),
            _ => None,
        }
    }
}

/// A [`Challenger`] that owns its data: for a stream, whose handler may need a scope after the request is dropped.
pub(crate) struct OwnedChallenger {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) own_url: Option<PublicUrl>,
    pub(crate) endpoint: String,
}

impl OwnedChallenger {
    pub(crate) fn challenge(&self, server: &BuiltServer, denial: &CallError) -> Option<String> {
        let Self { authenticator, own_url, endpoint } = self;
        Challenger { authenticator, server, own_url: own_url.as_ref(), endpoint }.of(denial)
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

    /// Challenge for rejected credentials, with the scopes that the request needs.
    pub(crate) fn rejected(&self, rejected: &AuthError, scopes: &[String]) -> Option<String> {
        match rejected {
            AuthError::Malformed => self.challenge(Some(ChallengeError::InvalidRequest), scopes),
            AuthError::Verification(VerifyError::Invalid(_)) => {
                self.challenge(Some(ChallengeError::InvalidToken), scopes)
            }
            AuthError::NotBearer => self.challenge(None, scopes),
            // Another token would not help.
            AuthError::Verification(VerifyError::NotAllowed | VerifyError::KeysUnavailable { .. })
            | AuthError::NoPublicUrl
            | AuthError::Unsigned => None,
        }
    }

    fn challenge(&self, error: Option<ChallengeError>, scopes: &[String]) -> Option<String> {
        let Authenticator::Oidc(_) = self.authenticator else {
            return None;
        };
        let url = format!("{}{}{}", self.own_url?.as_str(), mcp_auth::WELL_KNOWN, self.endpoint);
        // If the request needs no scope, the challenge lists the scopes of the metadata, which clients request by default.
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
    /// The fault of the server or of a dependency; `None` if the caller's credentials are the reason.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Unsigned => None,
            #[cfg(feature = "auth")]
            Self::NoPublicUrl => Some("the server's public URL is not known"),
            #[cfg(feature = "auth")]
            Self::Verification(VerifyError::KeysUnavailable { .. }) => Some("the keys of the issuer cannot be fetched"),
            #[cfg(feature = "auth")]
            Self::Malformed
            | Self::NotBearer
            | Self::Verification(VerifyError::Invalid(_) | VerifyError::NotAllowed) => None,
        }
    }

    /// Logs which check failed.
    pub(crate) fn log(&self, request_id: &str) {
        match self {
            Self::Unsigned => tracing::error!(
                request_id,
                "{AUTH}=iam, and the event has no signer: the URL must have AuthType AWS_IAM"
            ),
            #[cfg(feature = "auth")]
            Self::NoPublicUrl => tracing::error!(
                request_id,
                "the server's public URL, the audience of tokens, is not known: set MCP_PUBLIC_URL"
            ),
            #[cfg(feature = "auth")]
            Self::Malformed => {
                tracing::info!(name: REJECTION, request_id, monotonic_counter.token_refusals = 1, "an Authorization header is malformed");
            }
            #[cfg(feature = "auth")]
            Self::NotBearer => tracing::info!(
                name: REJECTION,
                request_id,
                monotonic_counter.token_refusals = 1,
                "an Authorization header has no bearer token"
            ),
            #[cfg(feature = "auth")]
            Self::Verification(VerifyError::KeysUnavailable { .. }) => {
                tracing::warn!(request_id, "a token cannot be verified: the keys of its issuer are not available");
            }
            #[cfg(feature = "auth")]
            Self::Verification(reason) => {
                tracing::info!(name: REJECTION, request_id, %reason, monotonic_counter.token_refusals = 1, "a token was refused");
            }
        }
    }
}

/// The bearer token of a request. A token in the query string is ignored, because URLs are logged (RFC 6750, section 5.3).
#[cfg(feature = "auth")]
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // Proxies join several headers by a comma, which no token contains. Both forms are rejected in the same way.
    let is_single = values.next().is_none();
    let (scheme, token) = value.as_bytes().split_at(value.as_bytes().iter().take_while(|byte| **byte != b' ').count());
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(if scheme.is_empty() { AuthError::Malformed } else { AuthError::NotBearer });
    }
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    match std::str::from_utf8(token).map(|token| token.trim_start_matches(' ')) {
        Ok(token) if is_single && !token.is_empty() && token.bytes().all(is_token_byte) => Ok(Some(token)),
        // On `invalid_token`, clients discard the token and sign in again. On `invalid_request` they would stop.
        _ => Err(AuthError::Verification(VerifyError::Invalid(Reason::NotABearerToken))),
    }
}

/// The AWS identity that signed a request: `requestContext.authorizer.iam` of a payload-2.0 event. The platform sets it, only
/// for a URL or API that verifies signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IamIdentity {
    /// The twelve digits of the account.
    pub account_id: String,
    /// The ARN of the user or of the role session. The caller chooses the session name.
    pub user_arn: String,
    /// The unique id of the user, or of the role followed by the session name.
    pub user_id: Option<String>,
    /// The organisation that the account belongs to.
    pub principal_org_id: Option<String>,
}

impl IamIdentity {
    fn principal(&self, grant_scopes: &[String]) -> Principal {
        let subject = without_session_name(&self.user_arn);
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

/// The ARN without the part that the caller chooses: the session name of an assumed role, or the name of a federated user. If
/// the subject contained it, one session of a role could impersonate another. Also, SDKs generate a new session name each time,
/// so that data stored for a subject would not be found again. The account's administrators choose the names of users and roles.
fn without_session_name(arn: &str) -> &str {
    let is_session = arn.split(':').nth(2) == Some("sts");
    arn.rsplit_once('/').filter(|_| is_session).map_or(arn, |(own, _)| own)
}

/// `securitySchemes` of a tool's `_meta`, which ChatGPT reads.
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

    /// The session name is not part of the subject.
    #[test]
    fn the_subject_excludes_the_session_name() {
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
            assert_eq!(principal.claims["userArn"], arn, "the claim keeps the session name");
        }
    }
}
