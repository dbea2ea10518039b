//! AWS credentials from where the AWS CLI has them; the instance metadata service is asked on EC2 alone.
//!
//! The default chain of the SDK asks that service on every machine without credentials, for the region too, and waits for it
//! where there is none.

use std::{env, fs, time::Duration};

use anyhow::{Context as _, anyhow};
use aws_config::{
    BehaviorVersion, Region,
    ecs::EcsCredentialsProvider,
    environment::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};

/// Timeout of each request to the instance metadata service, which may not exist.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// Files in which the firmware of an EC2 instance, or the hypervisor of an old one, is named.
const FIRMWARE: [&str; 3] = ["sys_vendor", "bios_vendor", "bios_version"];
const HYPERVISOR: &str = "/sys/hypervisor/uuid";

/// The places in which credentials are looked for, in their order.
#[derive(Debug)]
pub(super) struct Sources {
    chain: CredentialsProviderChain,
    has_instance: bool,
}

impl Sources {
    pub(super) fn of(region: &str) -> Self {
        Self::with_instance(region, may_be_instance())
    }

    fn with_instance(region: &str, has_instance: bool) -> Self {
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(region.to_owned())))
            .with_behavior_version(Some(BehaviorVersion::latest()));
        let profile = ProfileFileCredentialsProvider::builder().configure(&config).build();
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&config).build();
        let container = EcsCredentialsProvider::builder().configure(&config).build();
        let chain = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("Profile", profile)
            .or_else("WebIdentityToken", web_identity)
            .or_else("EcsContainer", container);
        let chain = match has_instance {
            true => {
                let client = imds::Client::builder().configure(&config).max_attempts(2);
                let client = client.connect_timeout(METADATA_TIMEOUT).read_timeout(METADATA_TIMEOUT).build();
                let instance = ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build();
                chain.or_else("Ec2InstanceMetadata", instance)
            }
            false => chain,
        };
        Self { chain, has_instance }
    }

    /// The credentials of the first place that has some.
    ///
    /// # Errors
    ///
    /// If no place has any, or if they cannot be loaded.
    pub(super) async fn credentials(&self) -> anyhow::Result<Credentials> {
        match self.chain.provide_credentials().await {
            Ok(credentials) => Ok(credentials),
            Err(CredentialsError::CredentialsNotLoaded(_)) => Err(anyhow!(
                "no AWS credentials were found in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile `{}`, a web \
                 identity token, or the role of the container{}: set AWS_PROFILE, or sign in with `aws sso login`",
                env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned()),
                if self.has_instance { " or the instance" } else { "" },
            )),
            Err(error) => Err(error).context("could not load the AWS credentials"),
        }
    }
}

/// Whether an instance metadata service may be there.
fn may_be_instance() -> bool {
    let is_named = env::var_os("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some();
    is_named || !cfg!(target_os = "linux") || is_ec2(|file| fs::read_to_string(file).ok())
}

/// Whether files of the kernel say that this is an EC2 instance
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html>).
fn is_ec2(read: impl Fn(&str) -> Option<String>) -> bool {
    let firmware = FIRMWARE.iter().filter_map(|name| read(&format!("/sys/devices/virtual/dmi/id/{name}")));
    let is_of_amazon = firmware.into_iter().any(|text| text.to_ascii_lowercase().contains("amazon"));
    is_of_amazon || read(HYPERVISOR).is_some_and(|uuid| uuid.to_ascii_lowercase().starts_with("ec2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ec2_instance_is_known_by_its_firmware() {
        let machine = |file: &'static str, text: &'static str| {
            is_ec2(move |asked| asked.ends_with(file).then(|| text.to_owned()))
        };

        assert!(machine("sys_vendor", "Amazon EC2\n"));
        assert!(machine("bios_version", "4.11.amazon\n"));
        assert!(machine("hypervisor/uuid", "EC2E1916-9099-7CAF-FD21-012345ABCDEF\n"));
        assert!(!machine("sys_vendor", "LENOVO\n"));
        assert!(!machine("hypervisor/uuid", "a8e1ec27-0000\n"));
        assert!(!is_ec2(|_| None));
    }
}
