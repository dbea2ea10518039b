//! The `introduction` prompt: asks the model to introduce a person.

use garde::Validate;
use mcp_lambda::{HandlerError, Prompt, RequestContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::State;

pub(crate) fn prompt() -> Prompt<State> {
    Prompt::new("introduction", introduction)
        .title("Introduce someone")
        .description("Asks for a short introduction of a person, to read out before a talk.")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct IntroductionArgs {
    /// Name of the person to introduce; 1 to 100 characters.
    #[garde(length(chars, min = 1, max = 100))]
    name: String,
    /// How it should sound; warm unless given.
    tone: Option<Tone>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Tone {
    #[default]
    Warm,
    Formal,
    Funny,
}

async fn introduction(_: RequestContext<State>, args: IntroductionArgs) -> Result<String, HandlerError> {
    let tone = match args.tone.unwrap_or_default() {
        Tone::Warm => "warm",
        Tone::Formal => "formal",
        Tone::Funny => "funny",
    };
    Ok(format!(
        "Greet {} with the personalized_greeting tool, then write a {tone} introduction of three sentences that could be \
         read out before a talk. Ask me for facts that you do not know.",
        args.name
    ))
}
