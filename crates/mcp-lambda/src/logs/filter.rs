//! The filter of log events by level and target, from `RUST_LOG` or `AWS_LAMBDA_LOG_LEVEL`.

use std::str::FromStr;

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;

/// Crates that log complete requests and headers, with bearer tokens, at level TRACE.
const WIRE_LOGGING_CRATES: [&str; 4] = ["lambda_runtime", "hyper", "h2", "aws_sigv4"];

/// Parses the filter; `false` if it is invalid, which means `info`. A single word that is not a level is invalid: taken as a target,
/// it would disable all others.
pub(super) fn filter(setting: Option<&str>) -> (Targets, bool) {
    let from_info = Targets::new().with_default(LevelFilter::INFO);
    let setting = setting.unwrap_or("info").to_ascii_lowercase();
    let parsed = match setting.as_str() {
        // A level of Lambda, above ERROR.
        "fatal" => Some(Targets::new().with_default(LevelFilter::ERROR)),
        targets if targets.contains(['=', ',']) => Targets::from_str(targets).ok(),
        level => LevelFilter::from_str(level).ok().map(|level| Targets::new().with_default(level)),
    };
    let is_valid = parsed.is_some();
    (cap_wire_logging(&parsed.unwrap_or(from_info)), is_valid)
}

/// Caps these crates at DEBUG.
fn cap_wire_logging(filter: &Targets) -> Targets {
    let cap = |target: &str, level: LevelFilter| match WIRE_LOGGING_CRATES.iter().any(|own| target.starts_with(own)) {
        true => level.min(LevelFilter::DEBUG),
        false => level,
    };
    let mut capped: Targets = filter.iter().map(|(target, level)| (target.to_owned(), cap(target, level))).collect();
    for target in WIRE_LOGGING_CRATES.into_iter().filter(|target| filter.would_enable(target, &Level::TRACE)) {
        capped = capped.with_target(target, LevelFilter::DEBUG);
    }
    match filter.default_level() {
        Some(level) => capped.with_default(level),
        None => capped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_filter_means_info() {
        for (setting, is_valid, level) in [
            (None, true, Level::INFO),
            (Some("DEBUG"), true, Level::DEBUG),
            (Some("verbose"), false, Level::INFO),
            (Some("FATAL"), true, Level::ERROR),
            (Some("warn,mcp_lambda=trace"), true, Level::TRACE),
        ] {
            let (filter, parsed) = filter(setting);

            assert_eq!(parsed, is_valid, "{setting:?}");
            assert!(filter.would_enable("mcp_lambda", &level), "{setting:?}");
            assert!(level == Level::TRACE || !filter.would_enable("mcp_lambda", &Level::TRACE));
        }
    }

    #[test]
    fn crates_that_log_bearer_tokens_are_capped_at_debug() {
        for setting in
            ["trace", "lambda_runtime=trace,info", "info,lambda_runtime::layers=trace", "hyper=trace,lambda=trace"]
        {
            let (filter, _) = filter(Some(setting));

            for target in ["lambda_runtime", "lambda_runtime::layers::trace", "hyper_util::client", "aws_sigv4"] {
                assert!(!filter.would_enable(target, &Level::TRACE), "{setting} {target}");
            }
        }
        let (filter, _) = filter(Some("trace"));
        assert!(
            filter.would_enable("lambda_runtime", &Level::DEBUG) && filter.would_enable("mcp_lambda", &Level::TRACE)
        );
    }
}
