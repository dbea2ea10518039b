//! URLs of services: the regional endpoint, or another by the SDKs' variables.

use mcp_server::InitError;

/// Returns the URL of Secrets Manager.
///
/// | Variable | Effect |
/// | --- | --- |
/// | `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL` | another URL, `https` or `http` |
/// | `AWS_USE_DUALSTACK_ENDPOINT` | `true`: the endpoint that IPv6 clients reach, too |
/// | `AWS_USE_FIPS_ENDPOINT` | `true`: the endpoint with validated cryptography |
///
/// # Errors
///
/// When the variable's value is not a URL, or the partition is unknown and no variable has the URL.
pub(crate) fn secrets_manager<'a>(
    partition: &str,
    region: &str,
    get: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, InitError> {
    let variable = "AWS_ENDPOINT_URL_SECRETS_MANAGER";
    for name in [variable, "AWS_ENDPOINT_URL"] {
        let Some(url) = get(name) else { continue };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            // A URL may contain a password.
            return Err(InitError::secret(name, "an https or http URL"));
        }
        return Ok(format!("{}/", url.trim_end_matches('/')));
    }
    let is_on = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // The partitions of the SDK's endpoint rules.
    let suffix = match (partition, is_on("AWS_USE_DUALSTACK_ENDPOINT")) {
        ("aws" | "aws-us-gov", true) => "api.aws",
        ("aws" | "aws-us-gov", false) => "amazonaws.com",
        ("aws-cn", true) => "api.amazonwebservices.com.cn",
        ("aws-cn", false) => "amazonaws.com.cn",
        ("aws-iso", false) => "c2s.ic.gov",
        ("aws-iso-b", false) => "sc2s.sgov.gov",
        ("aws-eusc", false) => "amazonaws.eu",
        _ => {
            return Err(InitError::new(format!(
                "the endpoint of Secrets Manager in {region} is not known: set {variable}"
            )));
        }
    };
    let fips = if is_on("AWS_USE_FIPS_ENDPOINT") { "-fips" } else { "" };
    Ok(format!("https://secretsmanager{fips}.{region}.{suffix}/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;
    use crate::tests::lookup;

    const DUAL: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
    const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "True");

    #[test]
    fn the_endpoint_depends_on_partition_region_and_variables() {
        for (partition, region, variables, expected) in [
            ("aws", "eu-west-1", &[][..], "https://secretsmanager.eu-west-1.amazonaws.com/"),
            ("aws", "eu-west-1", &[DUAL], "https://secretsmanager.eu-west-1.api.aws/"),
            ("aws", "us-east-1", &[FIPS], "https://secretsmanager-fips.us-east-1.amazonaws.com/"),
            ("aws", "us-east-1", &[DUAL, FIPS], "https://secretsmanager-fips.us-east-1.api.aws/"),
            (
                "aws",
                "eu-west-1",
                &[("AWS_USE_FIPS_ENDPOINT", "false")],
                "https://secretsmanager.eu-west-1.amazonaws.com/",
            ),
            ("aws-cn", "cn-north-1", &[], "https://secretsmanager.cn-north-1.amazonaws.com.cn/"),
            ("aws-cn", "cn-north-1", &[DUAL], "https://secretsmanager.cn-north-1.api.amazonwebservices.com.cn/"),
            ("aws-us-gov", "us-gov-west-1", &[], "https://secretsmanager.us-gov-west-1.amazonaws.com/"),
            ("aws", "eu-west-1", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1/"), DUAL], "http://127.0.0.1:1/"),
            (
                "aws",
                "eu-west-1",
                &[("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "https://b/x")],
                "https://b/x/",
            ),
            ("aws-new", "new-1", &[("AWS_ENDPOINT_URL", "https://a")], "https://a/"),
        ] {
            assert_eq!(secrets_manager(partition, region, lookup(variables)).unwrap(), expected, "{variables:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_unknown_or_no_url_names_its_variable() {
        for (partition, variables) in [("aws-new", &[][..]), ("aws", &[("AWS_ENDPOINT_URL", "user:s3cret@host")])] {
            let error = secrets_manager(partition, "x-1", lookup(variables)).unwrap_err().to_string();

            assert!(error.contains("AWS_ENDPOINT_URL") && !error.contains("s3cret"), "{error}");
        }
    }
}
