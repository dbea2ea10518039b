//! Configuration of the trusted issuers, from environment variables. `docs/authorization.md` lists the variables.

use std::collections::{BTreeMap, HashSet};

use mcp_server::{InitError, ScopeNames};
use serde::Deserialize;

#[cfg(feature = "exchange")]
use crate::exchange::ExchangeConfig;
use crate::fetch::secure_url;

const ISSUER: &str = "OIDC_ISSUER";
const AUDIENCE: &str = "OIDC_AUDIENCE";
const ISSUERS: &str = "OIDC_ISSUERS";
const SCOPE_PREFIX: &str = "OIDC_SCOPE_PREFIX";
const GRANT_SCOPES: &str = "OIDC_GRANT_SCOPES";
const ALLOWED_EMAILS: &str = "OIDC_ALLOWED_EMAILS";
const WARM: &str = "OIDC_WARM";
const GOOGLE_CLIENT_ID: &str = "GOOGLE_CLIENT_ID";
const GOOGLE_HOSTED_DOMAIN: &str = "GOOGLE_HOSTED_DOMAIN";
const COGNITO_USER_POOL_ID: &str = "COGNITO_USER_POOL_ID";
const COGNITO_CLIENT_IDS: &str = "COGNITO_CLIENT_IDS";

/// Variables that configure an issuer. At most one of them may be set.
const ISSUER_VARIABLES: [&str; 4] = [ISSUER, GOOGLE_CLIENT_ID, COGNITO_USER_POOL_ID, ISSUERS];
/// Variables that need one of [`ISSUER_VARIABLES`] other than `OIDC_ISSUERS`.
const SINGLE_ISSUER_VARIABLES: [&str; 6] =
    [AUDIENCE, SCOPE_PREFIX, GRANT_SCOPES, ALLOWED_EMAILS, GOOGLE_HOSTED_DOMAIN, COGNITO_CLIENT_IDS];

pub(crate) const GOOGLE: &str = "https://accounts.google.com";
/// `iss` of some of Google's tokens (Google, "OpenID Connect", "Validate an ID token").
pub(crate) const GOOGLE_WITHOUT_SCHEME: &str = "accounts.google.com";
/// Hosts of Microsoft Entra: the global cloud, the US government cloud, and the cloud in China.
const ENTRA_HOSTS: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];

/// Domains of Microsoft Entra External ID and Azure AD B2C tenants.
const ENTRA_CUSTOMER_DOMAINS: [&str; 2] = [".ciamlogin.com", ".b2clogin.com"];

/// The trusted issuers: those whose tokens a [`Verifier`](crate::Verifier) accepts.
///
/// ```
/// use mcp_auth::OidcConfig;
///
/// let set = |name: &str| match name {
///     "OIDC_ISSUER" => Some("https://id.example.com"),
///     "OIDC_AUDIENCE" => Some("https://mcp.example.com/mcp"),
///     _ => None,
/// };
///
/// assert!(OidcConfig::from_env(set)?.is_some());
/// assert!(OidcConfig::from_env(|_| None)?.is_none());
/// # Ok::<(), mcp_server::InitError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OidcConfig {
    pub(crate) issuers: Vec<IssuerConfig>,
    pub(crate) warm: bool,
    #[cfg(feature = "exchange")]
    pub(crate) exchange: Option<std::sync::Arc<ExchangeConfig>>,
}

/// Configuration of one issuer.
#[derive(Debug, Clone)]
pub(crate) struct IssuerConfig {
    pub(crate) issuer: String,
    pub(crate) preset: Preset,
    /// Accepted audiences. Empty: the server's own URLs.
    pub(crate) audiences: Vec<String>,
    /// Allow-list of clients. Empty: tokens of every client are accepted.
    pub(crate) client_ids: Vec<String>,
    pub(crate) hosted_domain: Option<String>,
    pub(crate) scope_prefix: String,
    pub(crate) grant_scopes: Vec<String>,
    /// Allow-list of verified email addresses, compared without case. Empty: every account of the issuer is accepted.
    pub(crate) allowed_emails: Vec<String>,
    pub(crate) accepts_id_tokens: bool,
    /// Whether identity assertions are accepted, and no other tokens.
    pub(crate) is_for_assertions: bool,
    pub(crate) jwks_uri: Option<String>,
}

/// Kind of issuer. It selects the rules for the issuer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// Only ID tokens are accepted, because Google's access tokens are opaque.
    Google,
    /// `token_use` distinguishes access tokens from ID tokens. Access tokens have `client_id`, and usually no `aud`.
    Cognito,
    /// Every other issuer.
    #[default]
    #[serde(skip)]
    Other,
}

/// An entry of `OIDC_ISSUERS`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIssuer {
    preset: Preset,
    issuer: Option<String>,
    audience: OneOrMany,
    client_ids: Vec<String>,
    user_pool_id: Option<String>,
    hosted_domain: Option<String>,
    scope_prefix: String,
    grant_scopes: Vec<String>,
    allowed_emails: Vec<String>,
    id_tokens: bool,
    jwks_uri: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OidcConfig {
    /// Accepts identity assertions of the issuers (the `typ` is `oauth-id-jag+jwt`), and no other tokens: for an authorization server, whose
    /// issuer identifier is their audience.
    #[must_use]
    pub fn for_identity_assertions(mut self) -> Self {
        for issuer in &mut self.issuers {
            issuer.is_for_assertions = true;
        }
        self
    }

    /// Reads environment variables through the lookup function `get`, which must return `None` for an empty variable.
    /// Returns `None` if no issuer is configured. Logs a warning if every Google account is accepted.
    ///
    /// # Errors
    ///
    /// When a variable has an invalid value, or variables contradict each other. The error names the variable and the fix,
    /// and redacts user names and passwords in URLs.
    pub fn from_env<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, InitError> {
        let configured: Vec<_> = ISSUER_VARIABLES.into_iter().filter(|name| get(name).is_some()).collect();
        let issuers = match configured[..] {
            [] => {
                // An error if token exchange is configured, which needs an issuer.
                #[cfg(feature = "exchange")]
                ExchangeConfig::from_env(&get, 0)?;
                return match SINGLE_ISSUER_VARIABLES.into_iter().find(|name| get(name).is_some()) {
                    Some(name) => Err(InitError::new(format!(
                        "{name} is set, but no issuer is configured: set one of {}",
                        ISSUER_VARIABLES.join(", ")
                    ))),
                    None => Ok(None),
                };
            }
            [ISSUERS] => issuer_list(&get)?,
            [name] => vec![single_issuer(name, &get)?],
            _ => {
                return Err(InitError::new(format!(
                    "{} are set, and each configures an issuer: set one of them, or list all issuers in {ISSUERS}",
                    configured.join(" and ")
                )));
            }
        };
        let warm = match get(WARM) {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(InitError::setting(WARM, "`1` or `0`", other)),
        };
        Ok(Some(Self {
            #[cfg(feature = "exchange")]
            exchange: ExchangeConfig::from_env(&get, issuers.len())?.map(std::sync::Arc::new),
            issuers,
            warm,
        }))
    }

    /// Returns how clients must name scopes in a request to the issuer, for callers whose issuer is not known yet. With
    /// several issuers, the names are those of the first, because a challenge has one list of scopes.
    pub fn scope_names(&self) -> ScopeNames {
        self.issuers.first().map_or_else(ScopeNames::default, IssuerConfig::scope_names)
    }

    /// Returns how clients must name scopes in a request to each issuer, by issuer.
    pub fn scope_names_by_issuer(&self) -> BTreeMap<String, ScopeNames> {
        self.issuers.iter().map(|own| (own.issuer.clone(), own.scope_names())).collect()
    }
}

/// Parses `OIDC_ISSUERS`.
fn issuer_list<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Vec<IssuerConfig>, InitError> {
    if let Some(name) = SINGLE_ISSUER_VARIABLES.into_iter().find(|name| get(name).is_some()) {
        return Err(InitError::new(format!(
            "{name} cannot be combined with {ISSUERS}: set the value for each issuer in {ISSUERS}"
        )));
    }
    // Unbounded JSON: written by the operator.
    let raw: Vec<RawIssuer> = serde_json::from_str(get(ISSUERS).unwrap_or_default()).map_err(|error| {
        InitError::new(format!("{ISSUERS} must be a JSON array of objects, see docs/authorization.md"))
            .with_source(error)
    })?;
    if raw.is_empty() {
        return Err(InitError::new(format!("{ISSUERS} lists no issuer")));
    }
    let issuers: Vec<_> = raw.into_iter().map(|raw| raw.into_config(ISSUERS)).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    match issuers.iter().find(|own| !seen.insert(own.issuer.as_str())) {
        Some(duplicate) => Err(InitError::new(format!("{ISSUERS} lists the issuer `{}` twice", duplicate.issuer))),
        None => Ok(issuers),
    }
}

/// Reads the issuer that `variable` configures, with its further variables.
fn single_issuer<'a>(variable: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<IssuerConfig, InitError> {
    let text = |name: &str| get(name).map(str::to_owned);
    let (preset, client_ids) = match variable {
        GOOGLE_CLIENT_ID => (Preset::Google, list(get(GOOGLE_CLIENT_ID))),
        COGNITO_USER_POOL_ID => (Preset::Cognito, list(get(COGNITO_CLIENT_IDS))),
        _ => (Preset::Other, Vec::new()),
    };
    for (name, owner) in [(GOOGLE_HOSTED_DOMAIN, GOOGLE_CLIENT_ID), (COGNITO_CLIENT_IDS, COGNITO_USER_POOL_ID)] {
        if get(name).is_some() && variable != owner {
            return Err(InitError::new(format!("{name} needs {owner}, which is not set")));
        }
    }
    let raw = RawIssuer {
        preset,
        issuer: text(ISSUER),
        audience: OneOrMany::Many(list(get(AUDIENCE))),
        client_ids,
        user_pool_id: text(COGNITO_USER_POOL_ID),
        hosted_domain: text(GOOGLE_HOSTED_DOMAIN),
        scope_prefix: text(SCOPE_PREFIX).unwrap_or_default(),
        grant_scopes: list(get(GRANT_SCOPES)),
        allowed_emails: list(get(ALLOWED_EMAILS)),
        id_tokens: false,
        jwks_uri: None,
    };
    raw.into_config(variable)
}

/// Splits a value at commas and white space.
fn list(text: Option<&str>) -> Vec<String> {
    let words = text.unwrap_or_default().split(|character: char| character == ',' || character.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl RawIssuer {
    fn into_config(self, variable: &str) -> Result<IssuerConfig, InitError> {
        let invalid = |message: &str| InitError::new(format!("{variable}: {message}"));
        let audiences = match self.audience {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        };
        let issuer = match (self.preset, self.issuer, &self.user_pool_id) {
            (Preset::Google, None, None) => {
                if !audiences.is_empty() {
                    return Err(invalid("leave the audience out: the audience of Google's tokens is the client id"));
                }
                GOOGLE.to_owned()
            }
            (Preset::Cognito, None, Some(pool)) => cognito_issuer(pool).ok_or_else(|| {
                invalid(&format!("`{pool}` is not the id of a user pool, such as eu-west-1_AbCdEf123"))
            })?,
            (Preset::Cognito, None, None) => return Err(invalid("the preset `cognito` needs `user_pool_id`")),
            (Preset::Other, Some(issuer), None) if is_google(&issuer) && !self.id_tokens => {
                return Err(invalid(
                    "Google's access tokens are opaque and cannot be verified: to accept its ID tokens, set \
                     GOOGLE_CLIENT_ID (preset `google`) instead",
                ));
            }
            (Preset::Other, Some(issuer), None) => match secure_url(&issuer) {
                Some(url) if url.query.is_none() => issuer,
                _ => {
                    let setting =
                        if variable == ISSUERS { format!("`issuer` in {ISSUERS}") } else { variable.to_owned() };
                    let expected = "an https URL (http on loopback) without query";
                    return Err(InitError::setting(&setting, expected, &issuer));
                }
            },
            (Preset::Other, None, None) => return Err(invalid("set `issuer` or `preset`")),
            (Preset::Google | Preset::Other, _, Some(_)) => {
                return Err(invalid("`user_pool_id` needs the preset `cognito`"));
            }
            (Preset::Google | Preset::Cognito, Some(_), _) => {
                return Err(invalid("leave `issuer` out: the preset defines it"));
            }
        };
        if self.preset != Preset::Other && self.client_ids.is_empty() {
            let message = match self.preset {
                Preset::Cognito => {
                    "COGNITO_CLIENT_IDS (`client_ids`) must list the app clients whose tokens are accepted"
                }
                _ => "`client_ids` must list the clients whose tokens are accepted",
            };
            return Err(invalid(message));
        }
        if self.hosted_domain.is_some() && self.preset != Preset::Google {
            return Err(invalid("`hosted_domain` needs the preset `google`"));
        }
        if self.id_tokens && self.preset == Preset::Other && audiences.is_empty() {
            return Err(invalid("`id_tokens` needs `audience`: the client id, which is the audience of ID tokens"));
        }
        if !self.grant_scopes.is_empty() && self.allowed_emails.is_empty() && self.hosted_domain.is_none() {
            return Err(invalid(
                "OIDC_GRANT_SCOPES (`grant_scopes`) would grant scopes to every account of the issuer: list the accounts \
                 in OIDC_ALLOWED_EMAILS (`allowed_emails`), or set GOOGLE_HOSTED_DOMAIN (`hosted_domain`)",
            ));
        }
        if !self.scope_prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return Err(invalid("OIDC_SCOPE_PREFIX (`scope_prefix`) has characters that are not allowed in a scope"));
        }
        if self.preset == Preset::Google && self.hosted_domain.is_none() && self.allowed_emails.is_empty() {
            tracing::warn!(
                "every Google account is accepted: to restrict access, set GOOGLE_HOSTED_DOMAIN or OIDC_ALLOWED_EMAILS"
            );
        }
        if let Some(jwks_uri) = self.jwks_uri.as_deref().filter(|jwks_uri| secure_url(jwks_uri).is_none()) {
            let setting = format!("`jwks_uri` in {variable}");
            return Err(InitError::setting(&setting, "an https URL (http on loopback)", jwks_uri));
        }
        Ok(IssuerConfig {
            accepts_id_tokens: self.id_tokens || self.preset != Preset::Other,
            is_for_assertions: false,
            issuer,
            preset: self.preset,
            audiences,
            client_ids: self.client_ids,
            hosted_domain: self.hosted_domain.map(|domain| domain.to_ascii_lowercase()),
            scope_prefix: self.scope_prefix,
            grant_scopes: self.grant_scopes,
            allowed_emails: self.allowed_emails,
            jwks_uri: self.jwks_uri,
        })
    }
}

impl IssuerConfig {
    fn scope_names(&self) -> ScopeNames {
        if self.preset == Preset::Google || !self.grant_scopes.is_empty() {
            return ScopeNames::Granted { instead: vec!["openid".to_owned(), "email".to_owned()] };
        }
        ScopeNames::Requested { prefix: self.scope_prefix.clone() }
    }

    /// Whether the issuer is Microsoft Entra. Its clients request a scope with a prefix, and its tokens have the scope
    /// without it.
    pub(crate) fn is_entra(&self) -> bool {
        let host = secure_url(&self.issuer).map(|url| url.host.to_ascii_lowercase());
        host.is_some_and(|host| {
            ENTRA_HOSTS.contains(&host.as_str()) || ENTRA_CUSTOMER_DOMAINS.iter().any(|domain| host.ends_with(domain))
        })
    }
}

fn is_google(issuer: &str) -> bool {
    issuer.trim_end_matches('/') == GOOGLE
}

/// Returns the issuer of a user pool: `https://cognito-idp.<region>.amazonaws.com/<pool>`. The region is the prefix of the
/// pool's id. `None` if the id is malformed.
fn cognito_issuer(pool: &str) -> Option<String> {
    let (region, id) = pool.split_once('_')?;
    let is_region = region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    (is_region && region.contains('-') && is_id).then(|| format!("https://cognito-idp.{region}.{domain}/{pool}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &'static str)]) -> Result<Option<OidcConfig>, String> {
        OidcConfig::from_env(|name| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| *value))
            .map_err(|error| mcp_server::error_chain(&error))
    }

    #[test]
    fn each_issuer_variable_configures_an_issuer() {
        for (pairs, issuer) in [
            (&[("OIDC_ISSUER", "https://tenant.auth0.com/")][..], "https://tenant.auth0.com/"),
            (&[("GOOGLE_CLIENT_ID", "a.apps.googleusercontent.com")], GOOGLE),
            (
                &[("COGNITO_USER_POOL_ID", "eu-west-1_AbC"), ("COGNITO_CLIENT_IDS", "x, y")],
                "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC",
            ),
            (
                &[("OIDC_ISSUERS", r#"[{"issuer":"http://127.0.0.1:1"},{"preset":"google","client_ids":["a"]}]"#)],
                "http://127.0.0.1:1",
            ),
        ] {
            assert_eq!(read(pairs).unwrap().unwrap().issuers[0].issuer, issuer);
        }
        assert!(read(&[]).unwrap().is_none());
    }

    #[test]
    fn an_invalid_setting_is_an_error_that_names_the_fix() {
        for (pairs, expected) in [
            (&[("OIDC_ISSUER", "http://issuer.example")][..], "https URL"),
            (&[("OIDC_ISSUER", "http://localhost.issuer.example")], "https URL"),
            (&[("OIDC_ISSUER", "https://issuer.example:/")], "https URL"),
            (&[("OIDC_ISSUER", "issuer.example")], "https URL"),
            (&[("OIDC_ISSUER", "https://user:s3cret@issuer.example")], "OIDC_ISSUER must be an https URL"),
            (&[("OIDC_ISSUER", "https://issuer.example?x=1")], "without query"),
            (&[("OIDC_AUDIENCE", "x")], "no issuer is configured"),
            (&[("OIDC_GRANT_SCOPES", "x")], "no issuer is configured"),
            (&[("OIDC_ISSUER", "https://a.example"), ("OIDC_SCOPE_PREFIX", "a b/")], "OIDC_SCOPE_PREFIX"),
            (&[("OIDC_ISSUER", "https://a.example"), ("OIDC_SCOPE_PREFIX", "\"/")], "OIDC_SCOPE_PREFIX"),
            (&[("OIDC_ISSUER", "https://a.example"), ("GOOGLE_CLIENT_ID", "a")], "OIDC_ISSUERS"),
            (&[("OIDC_ISSUER", "https://a.example"), ("GOOGLE_HOSTED_DOMAIN", "a.example")], "needs GOOGLE_CLIENT_ID"),
            (&[("OIDC_ISSUER", "https://a.example"), ("OIDC_GRANT_SCOPES", "a")], "OIDC_ALLOWED_EMAILS"),
            (&[("GOOGLE_CLIENT_ID", "a"), ("OIDC_GRANT_SCOPES", "a")], "GOOGLE_HOSTED_DOMAIN"),
            (&[("OIDC_ISSUER", "https://accounts.google.com")], "GOOGLE_CLIENT_ID"),
            (&[("OIDC_ISSUER", "https://accounts.google.com/"), ("OIDC_AUDIENCE", "a")], "GOOGLE_CLIENT_ID"),
            (&[("GOOGLE_CLIENT_ID", "a"), ("OIDC_AUDIENCE", "a")], "client id"),
            (&[("COGNITO_USER_POOL_ID", "eu-west-1_AbC")], "COGNITO_CLIENT_IDS"),
            (&[("COGNITO_USER_POOL_ID", "pool"), ("COGNITO_CLIENT_IDS", "x")], "user pool"),
            (&[("COGNITO_USER_POOL_ID", "evil.example/_x"), ("COGNITO_CLIENT_IDS", "x")], "user pool"),
            (&[("OIDC_ISSUER", "https://a.example"), ("OIDC_WARM", "yes")], "OIDC_WARM"),
            (&[("OIDC_ISSUERS", "[]")], "no issuer"),
            (&[("OIDC_ISSUERS", "{}")], "JSON array"),
            (&[("OIDC_ISSUERS", r#"[{"isuer":"https://a.example"}]"#)], "isuer"),
            (&[("OIDC_ISSUERS", r#"[{"issuer":"https://a.example","id_tokens":true}]"#)], "needs `audience`"),
            (&[("OIDC_ISSUERS", r#"[{"issuer":"https://a.example"},{"issuer":"https://a.example"}]"#)], "twice"),
            (&[("OIDC_ISSUERS", r#"[{"issuer":"https://a.example"}]"#), ("OIDC_AUDIENCE", "x")], "OIDC_AUDIENCE"),
            (&[("OIDC_ISSUERS", r#"[{"issuer":"https://a.example","jwks_uri":"http://b.example"}]"#)], "jwks_uri"),
            (
                &[("OIDC_ISSUERS", r#"[{"issuer":"https://user:s3cret@a.example"}]"#)],
                "`issuer` in OIDC_ISSUERS must be",
            ),
            (
                &[("OIDC_ISSUERS", r#"[{"issuer":"https://a.example","jwks_uri":"https://user:s3cret@b.example"}]"#)],
                "`jwks_uri` in OIDC_ISSUERS must be an https URL (http on loopback), not `https://…@b.example`",
            ),
        ] {
            let error = read(pairs).unwrap_err();

            assert!(error.contains(expected) && !error.contains("s3cret"), "{expected}: {error}");
        }
    }

    #[test]
    fn the_names_of_scopes_depend_on_the_issuer() {
        let names = |pairs| read(pairs).unwrap().unwrap().scope_names();
        let google = [("GOOGLE_CLIENT_ID", "a"), ("OIDC_GRANT_SCOPES", "x y"), ("GOOGLE_HOSTED_DOMAIN", "A.example")];

        let ScopeNames::Granted { instead } = names(&google) else { panic!() };
        assert_eq!(instead, ["openid", "email"]);
        let entra = [("OIDC_ISSUER", "https://login.microsoftonline.com/t/v2.0"), ("OIDC_SCOPE_PREFIX", "api://app/")];
        assert_eq!(names(&entra), ScopeNames::Requested { prefix: "api://app/".to_owned() });
        assert!(read(&entra).unwrap().unwrap().issuers[0].is_entra());
    }
}
