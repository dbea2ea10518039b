//! Configuration of the function.

use std::time::Duration;

use mcp_lambda::{Env, FromEnv, HttpConfig, InitError};

use crate::{Budget, Source};

const SOURCE: &str = "OPENAPI_SOURCE";
const MAX_AGE: &str = "OPENAPI_MAX_AGE_SECONDS";
const MEMORY_MB: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// Default memory, as in the stack; used outside of Lambda.
const DEFAULT_MEMORY_MB: usize = 512;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(300);

/// Configuration of the function, read from the environment once per cold start.
#[derive(Debug, Clone)]
pub struct Config {
    /// HTTP configuration. It must have a state key, since `find_operation` sends input requests.
    pub http: HttpConfig,
    /// Location of the document.
    pub source: Source,
    /// Maximum age of a document before its source is checked for a newer one.
    pub max_age: Duration,
    /// Memory budget of a document.
    pub budget: Budget,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let source = match env.get(SOURCE) {
            Some(text) => Source::parse(text, env).map_err(|expected| InitError::setting(SOURCE, &expected, text))?,
            None => {
                tracing::warn!("{SOURCE} is not set: serving an example document");
                Source::Example
            }
        };
        let max_age = match env.get(MAX_AGE) {
            Some(text) => text
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| InitError::setting(MAX_AGE, "an integer number of seconds", text))?,
            None => DEFAULT_MAX_AGE,
        };
        let memory = env.get(MEMORY_MB).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_MEMORY_MB);
        let budget = Budget::of_function(memory);
        Ok(Self { http: HttpConfig::from_env(env)?, source, max_age, budget })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_serve_the_example() {
        let config = read(&[]).unwrap();

        assert_eq!(config.source.to_string(), "the example");
        assert_eq!(config.max_age, DEFAULT_MAX_AGE);
    }

    #[test]
    fn sources_are_files_s3_objects_or_urls() {
        let aws =
            [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        for place in
            ["file:api/openapi.yaml", "s3://bucket/api/openapi.json", "https://api.example.com/openapi.json?v=2"]
        {
            let config = read(&[&aws[..], &[("OPENAPI_SOURCE", place)]].concat()).unwrap();

            // A query may contain a token.
            assert_eq!(config.source.to_string(), place.trim_end_matches("?v=2"));
            assert!(!format!("{config:?}").contains("secret\""), "{config:?}");
        }
    }

    #[test]
    fn budget_grows_with_the_memory() {
        let budget = |pairs: &[(&str, &str)]| {
            let budget = read(pairs).unwrap().budget;
            (budget.bytes() / 1024 / 1024, budget.max_text() / 1024 / 1024)
        };

        let memories = ["128", "512", "1024", "10240"].map(|memory| budget(&[(MEMORY_MB, memory)]));
        assert_eq!(memories, [(48, 6), (192, 24), (384, 40), (3840, 40)]);
        assert_eq!(budget(&[]), (192, 24));
    }

    #[test]
    fn invalid_settings_are_errors_with_the_expected_value() {
        for (name, value, expected) in [
            ("OPENAPI_SOURCE", "openapi.yaml", "`file:NAME`"),
            ("OPENAPI_SOURCE", "http://api.example.com/openapi.json", "https"),
            ("OPENAPI_SOURCE", "https://user:pass@api.example.com/", "not `https://…@api.example.com/`"),
            ("OPENAPI_SOURCE", "file:/etc/passwd", "`file:NAME`"),
            ("OPENAPI_SOURCE", "file:../openapi.json", "`file:NAME`"),
            ("OPENAPI_SOURCE", "file:", "`file:NAME`"),
            ("OPENAPI_SOURCE", "s3://bucket", "s3://bucket/key"),
            ("OPENAPI_SOURCE", "s3://Bucket/../key", "s3://bucket/key"),
            ("OPENAPI_SOURCE", "s3://bucket/key", "AWS_REGION"),
            ("OPENAPI_MAX_AGE_SECONDS", "5m", "seconds"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();

            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
    }
}
