//! The filter of log events by level and target, from `RUST_LOG` or `AWS_LAMBDA_LOG_LEVEL`.

use std::str::FromStr;

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;

/// Crates that log requests and headers as they are, with bearer tokens, at the level TRACE.
const WIRE: [&str; 4] = ["lambda_runtime", "hyper", "h2", "aws_sigv4"];

/// Which lines are logged, and whether the wish was understood. A bare word that is no level is not taken for the name
/// of a target, as that would switch everything else off.
pub(super) fn filter(wish: Option<&str>) -> (Targets, bool) {
    let from_info = Targets::new().with_default(LevelFilter::INFO);
    let wish = wish.unwrap_or("info").to_ascii_lowercase();
    let understood = match wish.as_str() {
        // Lambda's own name for what is worse than an error.
        "fatal" => Some(Targets::new().with_default(LevelFilter::ERROR)),
        targets if targets.contains(['=', ',']) => Targets::from_str(targets).ok(),
        level => LevelFilter::from_str(level).ok().map(|level| Targets::new().with_default(level)),
    };
    let is_understood = understood.is_some();
    (without_wire(&understood.unwrap_or(from_info)), is_understood)
}

/// The same with these crates at DEBUG at most.
fn without_wire(filter: &Targets) -> Targets {
    let cap = |target: &str, level: LevelFilter| match WIRE.iter().any(|own| target.starts_with(own)) {
        true => level.min(LevelFilter::DEBUG),
        false => level,
    };
    let mut capped: Targets = filter.iter().map(|(target, level)| (target.to_owned(), cap(target, level))).collect();
    for target in WIRE.into_iter().filter(|target| filter.would_enable(target, &Level::TRACE)) {
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
    fn a_wish_that_is_not_understood_means_info() {
        for (wish, is_understood, level) in [
            (None, true, Level::INFO),
            (Some("DEBUG"), true, Level::DEBUG),
            (Some("verbose"), false, Level::INFO),
            (Some("FATAL"), true, Level::ERROR),
            (Some("warn,mcp_lambda=trace"), true, Level::TRACE),
        ] {
            let (filter, understood) = filter(wish);

            assert_eq!(understood, is_understood, "{wish:?}");
            assert!(filter.would_enable("mcp_lambda", &level), "{wish:?}");
            assert!(level == Level::TRACE || !filter.would_enable("mcp_lambda", &Level::TRACE));
        }
    }

    #[test]
    fn crates_that_log_bearer_tokens_are_at_debug_at_most() {
        for wish in
            ["trace", "lambda_runtime=trace,info", "info,lambda_runtime::layers=trace", "hyper=trace,lambda=trace"]
        {
            let (filter, _) = filter(Some(wish));

            for target in ["lambda_runtime", "lambda_runtime::layers::trace", "hyper_util::client", "aws_sigv4"] {
                assert!(!filter.would_enable(target, &Level::TRACE), "{wish} {target}");
            }
        }
        let (filter, _) = filter(Some("trace"));
        assert!(
            filter.would_enable("lambda_runtime", &Level::DEBUG) && filter.would_enable("mcp_lambda", &Level::TRACE)
        );
    }
}
