//! The `count_words` tool: counts the words of a text.

use garde::Validate;
use mcp_lambda::{HandlerError, Tool, ToolContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::State;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("count_words", count_words)
        .title("Count words")
        .description("Counts the words of a text. Use it when asked how long a text is.")
        .read_only()
        .idempotent()
        .open_world(false)
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct CountWordsArgs {
    /// The text; 1 to 10,000 characters. Words are separated by white space.
    #[garde(length(chars, min = 1, max = 10_000))]
    text: String,
}

async fn count_words(_: ToolContext<State>, args: CountWordsArgs) -> Result<String, HandlerError> {
    Ok(args.text.split_whitespace().count().to_string())
}

#[cfg(test)]
mod tests {
    use mcp_testing::TestCall;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn words_are_separated_by_white_space() {
        let arguments = json!({ "text": " to be,\nor not\tto be " });

        let reply = TestCall::new(tool()).state(State).arguments(arguments).await;

        assert_eq!(reply.text(), "6");
    }
}
