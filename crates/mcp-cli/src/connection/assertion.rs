//! Options for an assertion in place of a sign-in.

use std::path::PathBuf;

use clap::Args;

use super::{absolute, read, variable};
use crate::oauth::{AssertionOptions, AssertionSource, IdentityProvider};

const SECRET_VARIABLE: &str = "MCPL_IDP_CLIENT_SECRET";

/// An assertion in place of a sign-in, and its identity provider.
#[derive(Debug, Args)]
pub(super) struct AssertionArgs {
    /// A file that holds a JWT for the issuer, such as that of a workload, in place of a sign-in. It is read again for each
    /// token.
    #[arg(long, value_name = "FILE", group = "assertion")]
    assertion_file: Option<PathBuf>,
    /// A variable that holds such a JWT.
    #[arg(long, value_name = "VARIABLE", group = "assertion")]
    assertion_env: Option<String>,
    /// A command that prints such a JWT.
    #[arg(long, value_name = "COMMAND", group = "assertion")]
    assertion_command: Option<String>,
    /// The company's identity provider, which exchanges the assertion (its ID token of the user) for one for the server's issuer.
    #[arg(long, value_name = "ISSUER", requires = "assertion")]
    idp: Option<String>,
    /// The client's id at the identity provider. A secret there is in MCPL_IDP_CLIENT_SECRET, or a file.
    #[arg(long, value_name = "ID", requires = "idp")]
    idp_client_id: Option<String>,
    /// A file that holds the client's secret at the identity provider.
    #[arg(long, value_name = "FILE", requires = "idp_client_id")]
    idp_client_secret_file: Option<PathBuf>,
}

impl AssertionArgs {
    pub(super) fn is_some(&self) -> bool {
        self.source().is_some()
    }

    fn source(&self) -> Option<AssertionSource> {
        let file = || self.assertion_file.clone().map(AssertionSource::File);
        let variable = || self.assertion_env.clone().map(AssertionSource::Variable);
        let command = || self.assertion_command.clone().map(AssertionSource::Command);
        file().or_else(variable).or_else(command)
    }

    pub(super) fn options(&self) -> anyhow::Result<Option<AssertionOptions>> {
        let Some(source) = self.source() else { return Ok(None) };
        let identity_provider = match &self.idp {
            Some(issuer) => Some(IdentityProvider {
                issuer: issuer.clone(),
                client_id: self.idp_client_id.clone(),
                client_secret: match &self.idp_client_secret_file {
                    Some(file) => Some(read(file)?.trim().to_owned()),
                    None => variable(SECRET_VARIABLE),
                },
            }),
            None => None,
        };
        Ok(Some(AssertionOptions { source, identity_provider }))
    }

    /// The options for an entry in another program's configuration.
    pub(super) fn kept(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let mut kept = Vec::new();
        for (name, file) in
            [("--assertion-file", &self.assertion_file), ("--idp-client-secret-file", &self.idp_client_secret_file)]
        {
            if let Some(file) = file {
                kept.push((name, absolute(file)?));
            }
        }
        for (name, value) in [
            ("--assertion-env", &self.assertion_env),
            ("--assertion-command", &self.assertion_command),
            ("--idp", &self.idp),
            ("--idp-client-id", &self.idp_client_id),
        ] {
            kept.extend(value.clone().map(|value| (name, value)));
        }
        Ok(kept)
    }
}
