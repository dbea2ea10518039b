//! [`TestCluster`]: an emulator, and the variables of functions that use it.

use std::{fs, path::PathBuf};

use anyhow::Context;

use crate::{Emulator, EmulatorConfig, TestCredentials};

/// An emulator for tests of a function, whose variables it provides.
#[derive(Debug)]
pub struct TestCluster {
    /// The emulator.
    pub emulator: Emulator,
    certificate: PathBuf,
    variables: Vec<(String, String)>,
}

impl TestCluster {
    /// Starts an emulator, and writes its certificate to a temporary file.
    ///
    /// # Errors
    ///
    /// As [`Emulator::start`], and when the file cannot be written.
    pub async fn start(config: EmulatorConfig) -> anyhow::Result<Self> {
        let host = config.hosts.first().cloned().context("no host")?;
        let (region, credentials) = (config.region.clone(), config.credentials.clone());
        let emulator = Emulator::start(config).await?;
        let port = emulator.address().port();
        let certificate = std::env::temp_dir().join(format!("dsql-{}-{port}.pem", std::process::id()));
        fs::write(&certificate, emulator.certificate()).context("could not write the certificate")?;
        let TestCredentials { access_key_id, secret_access_key, session_token, .. } = credentials;
        let variables = [
            ("DB_AUTH", "dsql".to_owned()),
            ("DB_HOST", host),
            ("DB_PORT", port.to_string()),
            ("DB_SSLROOTCERT", certificate.display().to_string()),
            ("AWS_REGION", region),
            ("AWS_ACCESS_KEY_ID", access_key_id),
            ("AWS_SECRET_ACCESS_KEY", secret_access_key),
            ("AWS_SESSION_TOKEN", session_token.unwrap_or_default()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { emulator, certificate, variables })
    }

    /// Returns the environment variables of a function that connects as this user.
    pub fn variables(&self, user: &str) -> Vec<(String, String)> {
        [&self.variables[..], &[("DB_USER".to_owned(), user.to_owned())]].concat()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // A file in a temporary directory.
        let _ = fs::remove_file(&self.certificate);
    }
}
