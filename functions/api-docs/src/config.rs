//! Settings of this function.

use std::time::Duration;

use mcp_lambda::{Env, FromEnv, HttpConfig, InitError};

use crate::{Budget, Source};

const SOURCE: &str = "OPENAPI_SOURCE";
const MAX_AGE: &str = "OPENAPI_MAX_AGE_SECONDS";
const MEMORY_MB: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// Where Lambda does not say: what the stack gives the function.
const DEFAULT_MEMORY_MB: usize = 512;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(300);

/// Settings, read from the environment once per cold start.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the function is reached; needs a state key, since `find_operation` asks.
    pub http: HttpConfig,
    /// Where the document is.
    pub source: Source,
    /// For how long a document is used before its source is asked whether there is another.
    pub max_age: Duration,
    /// What a document may take of the function's memory.
    pub budget: Budget,
}

impl FromEnv for Config {
    fn from_env(env: &Env) -> Result<Self, InitError> {
        let source = match env.get(SOURCE) {
            Some(text) => Source::parse(text, env).map_err(|expected| InitError::setting(SOURCE, &expected, text))?,
            None => {
                tracing::warn!("{SOURCE} is not set: the documentation is that of an example");
                Source::Example
            }
        };
        let max_age = match env.get(MAX_AGE) {
            Some(text) => text
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| InitError::setting(MAX_AGE, "a whole number of seconds", text))?,
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
    fn nothing_needs_to_be_set_to_try_it() {
        let config = read(&[]).unwrap();

        assert_eq!(config.source.to_string(), "the example");
        assert_eq!(config.max_age, DEFAULT_MAX_AGE);
    }

    #[test]
    fn a_place_is_named_in_one_of_three_ways() {
        let aws =
            [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        for place in
            ["file:api/openapi.yaml", "s3://bucket/api/openapi.json", "https://api.example.com/openapi.json?v=2"]
        {
            let config = read(&[&aws[..], &[("OPENAPI_SOURCE", place)]].concat()).unwrap();

            // A query may hold a token.
            assert_eq!(config.source.to_string(), place.trim_end_matches("?v=2"));
            assert!(!format!("{config:?}").contains("secret\""), "{config:?}");
        }
    }

    #[test]
    fn a_document_may_be_as_large_as_there_is_memory() {
        let budget = |pairs: &[(&str, &str)]| {
            let budget = read(pairs).unwrap().budget;
            (budget.bytes() / 1024 / 1024, budget.max_text() / 1024 / 1024)
        };

        let memories = ["128", "512", "1024", "10240"].map(|memory| budget(&[(MEMORY_MB, memory)]));
        assert_eq!(memories, [(48, 6), (192, 24), (384, 40), (3840, 40)]);
        assert_eq!(budget(&[]), (192, 24));
    }

    #[test]
    fn a_setting_that_cannot_be_meant_is_an_error_that_says_what_is_expected() {
        for (name, value, expected) in [
            ("OPENAPI_SOURCE", "openapi.yaml", "`file:NAME`"),
            ("OPENAPI_SOURCE", "http://api.example.com/openapi.json", "https"),
            ("OPENAPI_SOURCE", "https://user:pass@api.example.com/", "https"),
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
