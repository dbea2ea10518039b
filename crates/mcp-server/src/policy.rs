//! Who may use what.
//!
//! An item (a tool, a prompt, a resource, a template) says what its callers need. One decision, [`Policy::permit`], is
//! asked wherever an item is reached, before anything of its author's runs.

pub(crate) mod principal;
pub(crate) mod pseudonym;

use std::collections::{BTreeMap, BTreeSet};

use mcp_protocol::{JsonObject, uri::NormalUri};
use serde_json::{Value, json};

use crate::{Caching, CallError, InitError, Principal, Server};

/// How callers are known, which a deployment decides.
#[derive(Debug, Clone, Default)]
pub enum Authorization {
    /// In no way. Everyone may use everything; a server that has a policy does not start.
    #[default]
    Unconfigured,
    /// In no way, and the policy is switched off: everyone may use everything.
    DangerouslyOff,
    /// Each request comes with a principal or without one, and the policy holds.
    Required(Enforcement),
}

/// How a policy is enforced.
#[derive(Debug, Clone, Default)]
pub struct Enforcement {
    /// Callers without a token get nothing, not even what is public.
    pub denies_anonymous: bool,
    /// What clients must ask the issuer for.
    pub scope_names: ScopeNames,
    /// The same for callers of other issuers, by the issuer.
    pub by_issuer: BTreeMap<String, ScopeNames>,
}

/// What an issuer calls the scopes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeNames {
    /// Clients request them; this stands before each.
    Requested {
        /// Such as `https://mcp.example.com/`; usually empty.
        prefix: String,
    },
    /// They are granted by configuration: clients ask for these instead, whatever is needed.
    Granted {
        /// Such as `openid` and `email`.
        instead: Vec<String>,
    },
    /// Callers are not known by tokens: there is nothing to ask for.
    None,
}

impl Default for ScopeNames {
    fn default() -> Self {
        Self::Requested { prefix: String::new() }
    }
}

impl ScopeNames {
    /// What a client must request to get these scopes.
    pub(crate) fn of<'a>(&self, scopes: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        match self {
            Self::Requested { prefix } => scopes.into_iter().map(|scope| format!("{prefix}{scope}")).collect(),
            Self::Granted { instead } => instead.clone(),
            Self::None => Vec::new(),
        }
    }
}

/// What a caller needs for an item, or for a whole server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Requirement {
    pub(crate) is_public: bool,
    scopes: Vec<String>,
    claims: Vec<(String, Value)>,
}

impl Requirement {
    fn is_some(&self) -> bool {
        *self != Self::default()
    }

    #[track_caller]
    pub(crate) fn add_scope(&mut self, scope: String) {
        assert!(is_scope(&scope), "scope `{scope}`: use visible ASCII characters but no `\"` and no `\\`");
        assert!(!self.is_public, "what is public requires no scope");
        if !self.scopes.contains(&scope) {
            self.scopes.push(scope);
        }
    }

    #[track_caller]
    pub(crate) fn add_claim(&mut self, name: String, value: Value) {
        assert!(!self.is_public, "what is public requires no claim");
        self.claims.push((name, value));
    }

    #[track_caller]
    pub(crate) fn make_public(&mut self) {
        assert!(self.scopes.is_empty() && self.claims.is_empty(), "what requires something is not public");
        self.is_public = true;
    }

    /// Whether everyone who has what this requires has what the other requires.
    fn is_as_strong_as(&self, other: &Self, included_in: &BTreeMap<String, BTreeSet<String>>) -> bool {
        let implies = |scope: &String| {
            let broader = included_in.get(scope);
            self.scopes.iter().any(|own| own == scope || broader.is_some_and(|broader| broader.contains(own)))
        };
        other.is_public
            || (!self.is_public
                && other.scopes.iter().all(implies)
                && other.claims.iter().all(|claim| self.claims.contains(claim)))
    }

    /// Together with what the server requires of everyone.
    fn and(&mut self, server: &Self) {
        if !self.is_public {
            let own = std::mem::replace(self, server.clone());
            for scope in own.scopes {
                self.add_scope(scope);
            }
            self.claims.extend(own.claims);
        }
    }
}

/// RFC 6749, section 3.3.
fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// The setters by which an item, or a server, says what its callers need.
macro_rules! requirement_setters {
    () => {
        /// Callers need this scope, in the server's own words (`events:write`); of several, all. Where the policy holds,
        /// a caller without it is refused before anything else happens.
        ///
        /// # Panics
        ///
        /// When it has characters that no scope may have (RFC 6749, section 3.3), or the item is public.
        ///
        /// ```
        /// # use mcp_server::{NoArguments, Tool, ToolContext, ToolError};
        /// async fn purge(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, ToolError> {
        ///     Ok("Nothing is left.")
        /// }
        ///
        /// let tool = Tool::new("purge", purge).require_scope("events:purge").require_claim("department", "security");
        /// # assert_eq!(tool.name(), "purge");
        /// ```
        #[must_use]
        #[track_caller]
        pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
            self.requirement.add_scope(scope.into());
            self
        }

        /// Callers need a claim of this value, or one that is a list with this value in it. No client can ask for a
        /// claim, so that a caller without it is refused for good.
        ///
        /// A rule about `email` is met only by an address that the issuer says it has verified (`email_verified`), in
        /// upper or lower case.
        ///
        /// # Panics
        ///
        /// When the item is public.
        #[must_use]
        #[track_caller]
        pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
            self.requirement.add_claim(name.into(), value.into());
            self
        }
    };
}
/// The setter by which an item opens itself.
macro_rules! public_setter {
    () => {
        /// Everyone may use it, also without a token. Discovery and the lists are then open too; everything else stays
        /// closed.
        ///
        /// # Panics
        ///
        /// When it requires a scope or a claim.
        #[must_use]
        #[track_caller]
        pub fn public(mut self) -> Self {
            self.requirement.make_public();
            self
        }
    };
}
pub(crate) use {public_setter, requirement_setters};

/// The decisions of one server.
#[derive(Debug)]
pub(crate) struct Policy {
    authorization: Authorization,
    /// What every caller needs, unless what is asked for is public.
    of_all: Requirement,
    /// Whether discovery and the lists are open.
    is_open: bool,
    /// For each scope, those that include it.
    included_in: BTreeMap<String, BTreeSet<String>>,
    /// All scopes that something requires, in the order of registration.
    scopes: Vec<String>,
}

impl Policy {
    /// Reads the policy of a server, and completes what its items require.
    ///
    /// # Errors
    ///
    /// When there is a policy, and no way to know callers; when a template requires less than what it fits.
    pub(crate) fn of<S>(server: &mut Server<S>, authorization: Authorization) -> Result<Self, InitError> {
        let of_all = server.requirement.clone();
        let has_policy = of_all.is_some() || server.requirements().any(|(_, own)| own.is_some());
        if has_policy && matches!(authorization, Authorization::Unconfigured) {
            let item = server.requirements().find(|(_, own)| own.is_some()).map(|(item, _)| item);
            let whose = item.unwrap_or_else(|| "server".to_owned());
            return Err(InitError::new(format!(
                "the {whose} says who may use it, so that callers must be known: set OIDC_ISSUER (or GOOGLE_CLIENT_ID, \
                 COGNITO_USER_POOL_ID, OIDC_ISSUERS), or MCP_AUTH=iam for a URL with AuthType AWS_IAM; \
                 MCP_AUTH=dangerously-off lets everyone use everything"
            )));
        }
        let denies_anonymous = matches!(&authorization, Authorization::Required(own) if own.denies_anonymous);
        let is_open = !denies_anonymous && server.requirements().any(|(_, own)| own.is_public);
        for requirement in server.requirements_mut() {
            requirement.and(&of_all);
        }
        let mut scopes = of_all.scopes.clone();
        for (_, requirement) in server.requirements() {
            let new: Vec<_> = requirement.scopes.iter().filter(|scope| !scopes.contains(scope)).cloned().collect();
            scopes.extend(new);
        }
        let included_in = included_in(&server.scope_hierarchy);
        if let Some((template, other)) = weaker_template(server, &included_in) {
            return Err(InitError::new(format!(
                "the resource template `{template}` fits the {other} but requires less: give the template the same rules \
                 (require_scope, require_claim), register it after narrower templates, or give one of them another URI"
            )));
        }
        Ok(Self { authorization, of_all, is_open, included_in, scopes })
    }

    /// Whether a caller may use what requires this.
    ///
    /// # Errors
    ///
    /// When not.
    pub(crate) fn permit(&self, requirement: &Requirement, caller: Option<&Principal>) -> Result<(), CallError> {
        let Authorization::Required(enforcement) = &self.authorization else {
            return Ok(());
        };
        let Some(caller) = caller else {
            return match requirement.is_public && !enforcement.denies_anonymous {
                true => Ok(()),
                false => Err(CallError::Unauthenticated { scopes: enforcement.scope_names.of(&requirement.scopes) }),
            };
        };
        if !requirement.scopes.iter().all(|scope| self.is_granted(caller, scope)) {
            return Err(match enforcement.by_issuer.get(&caller.issuer).unwrap_or(&enforcement.scope_names) {
                names @ ScopeNames::Requested { .. } => {
                    CallError::InsufficientScope { scopes: names.of(&requirement.scopes) }
                }
                // There is nothing that a client could ask for.
                ScopeNames::Granted { .. } | ScopeNames::None => CallError::Forbidden,
            });
        }
        match requirement.claims.iter().all(|(name, value)| caller.has_claim(name, value)) {
            true => Ok(()),
            false => Err(CallError::Forbidden),
        }
    }

    /// Whether a caller may see what there is.
    ///
    /// # Errors
    ///
    /// When not.
    pub(crate) fn permit_discovery(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        if self.is_open { Ok(()) } else { self.permit(&self.of_all, caller) }
    }

    /// Whether a caller has a scope, or one that includes it; everyone has where the policy is switched off.
    pub(crate) fn has_scope(&self, caller: Option<&Principal>, scope: &str) -> bool {
        match (&self.authorization, caller) {
            (Authorization::DangerouslyOff, _) => true,
            (_, Some(caller)) => self.is_granted(caller, scope),
            (Authorization::Unconfigured | Authorization::Required(_), None) => false,
        }
    }

    fn is_granted(&self, caller: &Principal, scope: &str) -> bool {
        let has = |scope: &str| caller.scopes.contains(scope);
        has(scope) || self.included_in.get(scope).is_some_and(|broader| broader.iter().any(|scope| has(scope)))
    }

    /// What clients may ask the issuer for.
    pub(crate) fn scopes_supported(&self) -> Vec<String> {
        match &self.authorization {
            Authorization::Required(enforcement) => enforcement.scope_names.of(&self.scopes),
            Authorization::Unconfigured | Authorization::DangerouslyOff => Vec::new(),
        }
    }

    /// Nothing that took a token is shared between callers.
    pub(crate) fn narrow(&self, caching: Caching, requirement: &Requirement) -> Caching {
        match self.permit(requirement, None) {
            Ok(()) => caching,
            Err(_) => Caching::private(caching.ttl),
        }
    }

    /// The same for what [`permit_discovery`](Self::permit_discovery) opens.
    pub(crate) fn narrow_list(&self, caching: Caching) -> Caching {
        if self.is_open { caching } else { self.narrow(caching, &self.of_all) }
    }

    /// What a tool's `_meta` says about tokens, in the form that ChatGPT reads; nothing where none are wanted.
    pub(crate) fn security_schemes(&self, requirement: &Requirement) -> Option<JsonObject> {
        let enforcement = match &self.authorization {
            Authorization::Required(enforcement) if enforcement.scope_names != ScopeNames::None => enforcement,
            _ => return None,
        };
        let scheme = match self.permit(requirement, None) {
            Ok(()) => json!({ "type": "noauth" }),
            Err(_) => json!({ "type": "oauth2", "scopes": enforcement.scope_names.of(&requirement.scopes) }),
        };
        Some(JsonObject::from_iter([("securitySchemes".to_owned(), json!([scheme]))]))
    }
}

/// A template that requires less than what it fits, and the name of that: a resource, or a later template by an example of
/// its URIs. Reading finds a resource before each template, so that this is a second defense for resources; of two
/// templates, the earlier is read.
fn weaker_template<S>(
    server: &Server<S>,
    included_in: &BTreeMap<String, BTreeSet<String>>,
) -> Option<(String, String)> {
    server.templates.iter().enumerate().find_map(|(index, template)| {
        let is_weaker = |other: &Requirement| !template.requirement.is_as_strong_as(other, included_in);
        let fits = |uri: &NormalUri| template.pattern.values_in(uri).is_some();
        let resource = server.resources.iter().find(|own| is_weaker(&own.requirement) && fits(&own.uri));
        let later = || {
            let mut later = server.templates[index + 1..].iter();
            later.find(|own| is_weaker(&own.requirement) && fits(&own.pattern.example()))
        };
        let other = match resource {
            Some(own) => format!("resource `{}`", own.definition.uri),
            None => format!("later resource template `{}`", later()?.definition.uri_template),
        };
        Some((template.definition.uri_template.clone(), other))
    })
}

/// For each scope, those that include it, directly or by another.
fn included_in(hierarchy: &[(String, Vec<String>)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut included_in: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (broad, narrow) in hierarchy {
        for scope in narrow {
            included_in.entry(scope.clone()).or_default().insert(broad.clone());
        }
    }
    loop {
        let before: usize = included_in.values().map(BTreeSet::len).sum();
        let snapshot = included_in.clone();
        for broader in included_in.values_mut() {
            let through: Vec<_> = broader.iter().filter_map(|scope| snapshot.get(scope)).flatten().cloned().collect();
            broader.extend(through);
        }
        if included_in.values().map(BTreeSet::len).sum::<usize>() == before {
            return included_in;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoArguments, Tool, ToolContext, ToolError};

    async fn nothing(_: ToolContext<()>, _: NoArguments) -> Result<&'static str, ToolError> {
        Ok("")
    }

    fn policy(mut server: Server<()>, authorization: Authorization) -> Policy {
        Policy::of(&mut server, authorization).unwrap()
    }

    fn required() -> Authorization {
        Authorization::Required(Enforcement::default())
    }

    fn needing(scopes: &[&str]) -> Requirement {
        let mut requirement = Requirement::default();
        scopes.iter().for_each(|scope| requirement.add_scope((*scope).to_owned()));
        requirement
    }

    #[test]
    fn a_scope_that_includes_another_is_as_good_also_through_a_third() {
        let server = Server::new("s", "1", ())
            .scope_includes("admin", ["events:write"])
            .scope_includes("events:write", ["events:read"])
            .scope_includes("a", ["b"])
            .scope_includes("b", ["a"]);
        let policy = policy(server, required());

        for (scope, needed, is_enough) in [
            ("admin", "events:read", true),
            ("events:write", "events:read", true),
            ("events:read", "events:write", false),
            ("events:read", "admin", false),
            ("a", "b", true),
            ("b", "a", true),
            ("ADMIN", "events:read", false),
        ] {
            let caller = Principal::new("i", "s").with_scopes([scope]);

            assert_eq!(policy.permit(&needing(&[needed]), Some(&caller)).is_ok(), is_enough, "{scope} {needed}");
        }
    }

    #[test]
    fn a_refusal_names_all_scopes_in_the_words_of_the_issuer() {
        let scope_names = ScopeNames::Requested { prefix: "api://app/".to_owned() };
        let policy = policy(
            Server::new("s", "1", ()),
            Authorization::Required(Enforcement { scope_names, ..Enforcement::default() }),
        );
        let caller = Principal::new("i", "s").with_scopes(["b"]);

        let error = policy.permit(&needing(&["a", "b"]), Some(&caller)).unwrap_err();

        let CallError::InsufficientScope { scopes } = error else { panic!("{error}") };
        assert_eq!(scopes, ["api://app/a", "api://app/b"]);
    }

    #[test]
    fn a_claim_is_a_value_or_a_list_that_holds_it() {
        let policy = policy(Server::new("s", "1", ()), required());
        let mut requirement = Requirement::default();
        requirement.add_claim("role".to_owned(), json!("admin"));
        for (claim, is_enough) in [
            (json!("admin"), true),
            (json!(["user", "admin"]), true),
            (json!("administrator"), false),
            (json!({ "admin": true }), false),
            (json!([["admin"]]), false),
            (json!(null), false),
        ] {
            let claims = JsonObject::from_iter([("role".to_owned(), claim.clone())]);
            let caller = Principal { claims, ..Principal::new("i", "s") };

            assert_eq!(policy.permit(&requirement, Some(&caller)).is_ok(), is_enough, "{claim}");
        }
        assert!(policy.permit(&requirement, Some(&Principal::new("i", "s"))).is_err());
    }

    /// 8.14: many issuers let people write any address into `email`.
    #[test]
    fn a_rule_about_an_address_takes_a_verified_one() {
        let policy = policy(Server::new("s", "1", ()), required());
        let mut requirement = Requirement::default();
        requirement.add_claim("email".to_owned(), json!("Ada@example.com"));
        for (email, email_verified, is_enough) in [
            ("ada@example.com", true, true),
            ("Ada@Example.com", true, true),
            ("Ada@example.com", false, false),
            ("eve@example.com", true, false),
        ] {
            let claims = JsonObject::from_iter([("email".to_owned(), json!(email))]);
            let email = Some(email.to_owned());
            let caller = Principal { claims, email, email_verified, ..Principal::new("i", "s") };

            assert_eq!(policy.permit(&requirement, Some(&caller)).is_ok(), is_enough, "{caller:?}");
        }
        let claims = JsonObject::from_iter([("email".to_owned(), json!(["Ada@example.com"]))]);
        let caller = Principal { claims, email_verified: true, ..Principal::new("i", "s") };
        assert!(policy.permit(&requirement, Some(&caller)).is_err(), "which of a list is verified, nothing says");
    }

    #[test]
    fn a_policy_without_a_way_to_know_callers_is_an_error_that_names_the_item() {
        let mut server = Server::new("s", "1", ()).tool(Tool::new("purge", nothing).require_scope("events:purge"));

        let error = Policy::of(&mut server, Authorization::Unconfigured).unwrap_err().to_string();

        assert!(error.contains("tool `purge`") && error.contains("OIDC_ISSUER"), "{error}");
    }

    #[test]
    fn a_handler_may_ask_for_a_scope_and_nobody_has_one_by_accident() {
        let caller = Principal::new("i", "s").with_scopes(["events:read"]);
        for (authorization, known, anonymous) in [
            (Authorization::Unconfigured, true, false),
            (required(), true, false),
            (Authorization::DangerouslyOff, true, true),
        ] {
            let policy = policy(Server::new("s", "1", ()), authorization);

            assert_eq!(policy.has_scope(Some(&caller), "events:read"), known);
            assert_eq!(policy.has_scope(None, "events:read"), anonymous);
        }
    }

    #[test]
    #[should_panic(expected = "is not public")]
    fn what_is_public_requires_nothing() {
        let _ = Tool::new("t", nothing).require_scope("a").public();
    }

    #[test]
    #[should_panic(expected = "visible ASCII")]
    fn a_scope_has_no_space() {
        let _ = Tool::new("t", nothing).require_scope("a b");
    }
}
