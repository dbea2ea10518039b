//! Identity providers: what each needs beside the specifications. All differences are in this module.

use serde::Deserialize;

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
    /// Scopes of the sign-in, which decide the claims of the ID token.
    pub(crate) fn scope(self) -> &'static str {
        match self {
            // Groups are claims of the scope `groups` in Okta's organization server; others put them into every ID token, or
            // reject a scope that they do not know.
            Self::Okta => "openid email profile groups",
            Self::Cognito | Self::Entra | Self::Google | Self::Auth0 | Self::Keycloak | Self::Other => {
                "openid email profile"
            }
        }
    }

    /// Further parameters of the authorization request.
    pub(crate) fn parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // With several accounts in a browser, these take the last one without asking.
            Self::Google | Self::Entra => &[("prompt", "select_account")],
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
