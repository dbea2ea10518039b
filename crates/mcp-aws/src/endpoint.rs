//! Service endpoints: the regional endpoint, or the one that the variables of the AWS SDKs configure.

use mcp_server::InitError;

/// Returns the endpoint URL of Lambda in a region, as [`of_service`] does.
pub(crate) fn lambda<'a>(region: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<String, InitError> {
    of_service(("Lambda", "lambda", "AWS_ENDPOINT_URL_LAMBDA"), partition(region), region, get)
}

/// Returns the endpoint URL of Parameter Store in a region, as [`of_service`] does.
pub(crate) fn parameter_store<'a>(region: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<String, InitError> {
    of_service(("Parameter Store", "ssm", "AWS_ENDPOINT_URL_SSM"), partition(region), region, get)
}

fn partition(region: &str) -> &'static str {
    match region.split('-').collect::<Vec<_>>()[..] {
        ["cn", ..] => "aws-cn",
        ["us", "gov", ..] => "aws-us-gov",
        ["us", "iso", ..] => "aws-iso",
        ["us", "isob", ..] => "aws-iso-b",
        ["eusc", ..] => "aws-eusc",
        _ => "aws",
    }
}

/// Returns the endpoint URL of Secrets Manager, as [`of_service`] does.
pub(crate) fn secrets_manager<'a>(
    partition: &str,
    region: &str,
    get: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, InitError> {
    let service = ("Secrets Manager", "secretsmanager", "AWS_ENDPOINT_URL_SECRETS_MANAGER");
    of_service(service, partition, region, get)
}

/// Returns the endpoint URL of a service (its name, the first label of its host, and its variable), with a slash at the end.
///
/// | Variable | Effect |
/// | --- | --- |
/// | the service's own, such as `AWS_ENDPOINT_URL_LAMBDA`, else `AWS_ENDPOINT_URL` | this `https` or `http` URL; the variables below have no effect |
/// | `AWS_USE_DUALSTACK_ENDPOINT` | `true`: the dual-stack endpoint (IPv4 and IPv6) |
/// | `AWS_USE_FIPS_ENDPOINT` | `true`: the FIPS endpoint |
///
/// # Errors
///
/// When an endpoint variable is not an `https` or `http` URL, or no variable is set and the partition is unknown or has no
/// dual-stack endpoint.
fn of_service<'a>(
    (service, host, variable): (&str, &str, &str),
    partition: &str,
    region: &str,
    get: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, InitError> {
    for name in [variable, "AWS_ENDPOINT_URL"] {
        let Some(url) = get(name) else { continue };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            // Redacted: a URL may contain a password.
            return Err(InitError::secret(name, "an https or http URL"));
        }
        return Ok(format!("{}/", url.trim_end_matches('/')));
    }
    let is_on = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // Partitions and DNS suffixes from the SDK's endpoint rules.
    let suffix = match (partition, is_on("AWS_USE_DUALSTACK_ENDPOINT")) {
        ("aws" | "aws-us-gov", true) => "api.aws",
        ("aws" | "aws-us-gov", false) => "amazonaws.com",
        ("aws-cn", true) => "api.amazonwebservices.com.cn",
        ("aws-cn", false) => "amazonaws.com.cn",
        ("aws-iso", false) => "c2s.ic.gov",
        ("aws-iso-b", false) => "sc2s.sgov.gov",
        ("aws-eusc", false) => "amazonaws.eu",
        _ => {
            return Err(InitError::new(format!("no endpoint of {service} is known for {region}: set {variable}")));
        }
    };
    let fips = if is_on("AWS_USE_FIPS_ENDPOINT") { "-fips" } else { "" };
    Ok(format!("https://{host}{fips}.{region}.{suffix}/"))
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
    fn an_unknown_partition_or_invalid_endpoint_url_is_an_error_that_names_the_variable() {
        for (partition, variables) in [("aws-new", &[][..]), ("aws", &[("AWS_ENDPOINT_URL", "user:s3cret@host")])] {
            let error = secrets_manager(partition, "x-1", lookup(variables)).unwrap_err().to_string();

            assert!(error.contains("AWS_ENDPOINT_URL") && !error.contains("s3cret"), "{error}");
        }
    }
}
