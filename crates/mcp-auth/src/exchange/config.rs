//! Configuration of token exchange, from environment variables. `docs/authorization.md` lists the variables.

use std::fmt;

use mcp_aws::StoredSecret;
use mcp_server::InitError;
use zeroize::Zeroizing;

use super::secret::Secret;
use crate::fetch::secure_url;

const CLIENT_ID: &str = "OIDC_EXCHANGE_CLIENT_ID";
const CLIENT_SECRET: &str = "OIDC_EXCHANGE_CLIENT_SECRET";
const CLIENT_SECRET_ARN: &str = "OIDC_EXCHANGE_CLIENT_SECRET_ARN";
const PRIVATE_KEY_ARN: &str = "OIDC_EXCHANGE_PRIVATE_KEY_ARN";
const KEY_ID: &str = "OIDC_EXCHANGE_KEY_ID";
const ASSERTION_AUDIENCE: &str = "OIDC_EXCHANGE_ASSERTION_AUDIENCE";
const TOKEN_ENDPOINT: &str = "OIDC_EXCHANGE_TOKEN_ENDPOINT";

const SECRETS: [&str; 3] = [CLIENT_SECRET, CLIENT_SECRET_ARN, PRIVATE_KEY_ARN];

/// The client that exchanges tokens, and how it authenticates.
#[derive(Clone)]
pub(crate) struct ExchangeConfig {
    pub(crate) client_id: String,
    pub(crate) method: Method,
    pub(crate) secret: Secret,
    /// URL of the token endpoint. `None`: found by discovery.
    pub(crate) endpoint: Option<String>,
}

/// Method of client authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    SecretBasic,
    PrivateKeyJwt {
        key_id: Option<String>,
        /// `aud` of the client assertion. `None`: the issuer.
        audience: Option<String>,
    },
}

impl ExchangeConfig {
    /// Reads environment variables through the lookup function `get`. `None` if [`CLIENT_ID`] is not set. `issuers` is the
    /// number of configured issuers.
    pub(crate) fn from_env<'a>(
        get: impl Fn(&str) -> Option<&'a str>,
        issuers: usize,
    ) -> Result<Option<Self>, InitError> {
        let Some(client_id) = get(CLIENT_ID) else {
            let others =
                [CLIENT_SECRET, CLIENT_SECRET_ARN, PRIVATE_KEY_ARN, KEY_ID, ASSERTION_AUDIENCE, TOKEN_ENDPOINT];
            return match others.into_iter().find(|name| get(name).is_some()) {
                Some(name) => {
                    Err(InitError::new(format!("{name} needs {CLIENT_ID}, the client that exchanges tokens")))
                }
                None => Ok(None),
            };
        };
        if issuers != 1 {
            // With several, a token of one issuer would be sent to another.
            return Err(InitError::new(format!("{CLIENT_ID} needs exactly one issuer")));
        }
        let set: Vec<_> = SECRETS.into_iter().filter(|name| get(name).is_some()).collect();
        let [name] = set[..] else {
            return Err(InitError::new(format!("{CLIENT_ID} needs one of {}", SECRETS.join(", "))));
        };
        let value = get(name).unwrap_or_default();
        let secret = match name {
            CLIENT_SECRET => Secret::Fixed(Zeroizing::new(value.to_owned()).into()),
            name => Secret::Stored(StoredSecret::from_env(name, value, &get)?.into()),
        };
        let text = |name: &str| get(name).map(str::to_owned);
        let method = match name {
            PRIVATE_KEY_ARN => Method::PrivateKeyJwt { key_id: text(KEY_ID), audience: text(ASSERTION_AUDIENCE) },
            _ => match [KEY_ID, ASSERTION_AUDIENCE].into_iter().find(|name| get(name).is_some()) {
                Some(name) => return Err(InitError::new(format!("{name} needs {PRIVATE_KEY_ARN}"))),
                None => Method::SecretBasic,
            },
        };
        let endpoint = text(TOKEN_ENDPOINT);
        match endpoint.as_deref().filter(|url| secure_url(url).is_none()) {
            // Redacted: the URL may contain a password.
            Some(_) => Err(InitError::secret(TOKEN_ENDPOINT, "an https URL (http on loopback)")),
            None => Ok(Some(Self { client_id: client_id.to_owned(), method, secret, endpoint })),
        }
    }
}

impl fmt::Debug for ExchangeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_id, method, endpoint, .. } = self;
        f.debug_struct("ExchangeConfig")
            .field("client_id", client_id)
            .field("method", method)
            .field("endpoint", endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mcp_testing::TEST_SECRET_ARN as ARN;

    use super::*;
    use crate::exchange::tests::lookup;

    #[test]
    fn an_invalid_configuration_is_an_error_that_names_the_variable() {
        let (id, secret) = (("OIDC_EXCHANGE_CLIENT_ID", "a"), ("OIDC_EXCHANGE_CLIENT_SECRET", "s3cret"));
        let arn = ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", ARN);
        for (pairs, issuers, expected) in [
            (&[secret][..], 1, "needs OIDC_EXCHANGE_CLIENT_ID"),
            (&[id], 1, "needs one of"),
            (&[id, secret, arn], 1, "needs one of"),
            (&[id, secret], 0, "exactly one issuer"),
            (&[id, secret], 2, "exactly one issuer"),
            (&[id, secret, ("OIDC_EXCHANGE_KEY_ID", "k")], 1, "needs OIDC_EXCHANGE_PRIVATE_KEY_ARN"),
            (&[id, secret, ("OIDC_EXCHANGE_TOKEN_ENDPOINT", "http://a.example")], 1, "OIDC_EXCHANGE_TOKEN_ENDPOINT"),
            (&[id, secret, ("OIDC_EXCHANGE_TOKEN_ENDPOINT", "https://u:s3cret@a.example/")], 1, "an https URL"),
            (&[id, ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", "s3cret")], 1, "ARN of a secret"),
            (&[id, ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", "arn:aws:secretsmanager:EU:s3cret")], 1, "ARN of a secret"),
            (&[id, arn], 1, "needs AWS credentials"),
            (&[id, ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", "name")], 1, "ARN of a secret"),
            (
                &[id, ("OIDC_EXCHANGE_CLIENT_SECRET_ARN", "arn:aws:secretsmanager:evil.example/:1:secret:x")],
                1,
                "ARN of a secret",
            ),
        ] {
            let error = ExchangeConfig::from_env(lookup(pairs), issuers).unwrap_err().to_string();

            assert!(error.contains(expected) && !error.contains("s3cret"), "{expected}: {error}");
        }
        assert!(ExchangeConfig::from_env(|_| None, 2).unwrap().is_none());
    }
}
