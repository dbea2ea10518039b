//! Identity providers: what each needs beside the specifications. All differences are in this module.

use serde::Deserialize;

const GROUPS: &str = "groups";
const OFFLINE_ACCESS: &str = "offline_access";

/// An identity provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Amazon Cognito user pools.
    Cognito,
    /// Microsoft Entra ID, one tenant.
    Entra,
    /// Google accounts and Google Workspace.
    Google,
    /// Okta.
    Okta,
    /// Auth0.
    Auth0,
    /// Keycloak.
    Keycloak,
    /// Any other OpenID provider.
    #[default]
    Other,
}

impl Provider {
    /// Returns the scopes of the sign-in, which decide the claims of the ID token and whether there is a refresh token. `supported`
    /// are those of the provider's metadata, because some providers reject a scope that they do not know.
    pub(crate) fn scope(self, supported: &[String]) -> String {
        let has = |name: &str| supported.iter().any(|own| own == name);
        let mut scope = "openid email profile".to_owned();
        // Groups are claims of a scope in Okta's organization server only. Its other servers have claims that the operator defines.
        if self == Self::Okta && has(GROUPS) {
            scope = format!("{scope} {GROUPS}");
        }
        // Cognito and Google have no such scope: Cognito issues refresh tokens to every client, Google by a parameter.
        if has(OFFLINE_ACCESS) {
            scope = format!("{scope} {OFFLINE_ACCESS}");
        }
        scope
    }

    /// Returns further parameters of the authorization request.
    pub(crate) fn parameters(self, supported: &[String]) -> &'static [(&'static str, &'static str)] {
        match self {
            // Without `consent`, only the first sign-in of a person returns a refresh token. Without `select_account`, a browser with
            // several accounts uses the last one.
            Self::Google => &[("access_type", "offline"), ("prompt", "select_account consent")],
            Self::Entra => &[("prompt", "select_account")],
            // `offline_access` needs it (OpenID Connect Core, section 11). The presets need no consent for it.
            Self::Other if supported.iter().any(|own| own == OFFLINE_ACCESS) => &[("prompt", "consent")],
            Self::Cognito | Self::Okta | Self::Auth0 | Self::Keycloak | Self::Other => &[],
        }
    }

    /// Whether the provider supports PKCE, although its metadata do not say so.
    pub(crate) fn has_pkce(self) -> bool {
        match self {
            // Without `code_challenge_methods_supported` in their OpenID document.
            Self::Cognito | Self::Entra => true,
            Self::Google | Self::Okta | Self::Auth0 | Self::Keycloak | Self::Other => false,
        }
    }
}
