//! Prompts.

use garde::Validate;
use mcp_lambda::{
    ContentBlock, Elicited, HandlerError, InteractiveContext, NoArguments, PartialArgument, Prompt, PromptMessage,
    RequestContext, ResourceContents,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{PNG, State};

pub(crate) fn all() -> Vec<Prompt<State>> {
    vec![
        Prompt::new("test_simple_prompt", simple).description("A prompt without arguments."),
        Prompt::new("test_prompt_with_arguments", with_arguments)
            .description("A prompt with two arguments.")
            .complete("arg1", suggest),
        Prompt::new("test_prompt_with_embedded_resource", with_resource).description("A prompt with a resource."),
        Prompt::new("test_prompt_with_image", with_image).description("A prompt with an image."),
        Prompt::new("test_input_required_result_prompt", asks).description("A prompt that requests input."),
    ]
}

async fn simple(_: RequestContext<State>, _: NoArguments) -> Result<&'static str, HandlerError> {
    Ok("This is a simple prompt for testing.")
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct TwoArgs {
    /// The first argument.
    arg1: String,
    /// The second argument.
    arg2: String,
}

async fn with_arguments(_: RequestContext<State>, args: TwoArgs) -> Result<String, HandlerError> {
    Ok(format!("Prompt with arguments: arg1='{}', arg2='{}'", args.arg1, args.arg2))
}

async fn suggest(_: RequestContext<State>, argument: PartialArgument) -> Result<Vec<String>, HandlerError> {
    let matches = ["paris", "park", "party"].into_iter().filter(|value| value.starts_with(&argument.value));
    Ok(matches.map(str::to_owned).collect())
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct ResourceArgs {
    /// The URI of the resource to embed.
    #[serde(rename = "resourceUri")]
    resource_uri: String,
}

async fn with_resource(_: RequestContext<State>, args: ResourceArgs) -> Result<Vec<PromptMessage>, HandlerError> {
    let resource = ResourceContents::text(args.resource_uri, "text/plain", "Embedded resource content for testing.");
    Ok(vec![PromptMessage::user(ContentBlock::resource(resource)), PromptMessage::user("Read it, please.")])
}

async fn with_image(_: RequestContext<State>, _: NoArguments) -> Result<Vec<PromptMessage>, HandlerError> {
    Ok(vec![
        PromptMessage::user(ContentBlock::image(PNG, "image/png")),
        PromptMessage::user("What does the image show?"),
    ])
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
struct Topic {
    /// Topic of the prompt.
    context: String,
}

async fn asks(context: InteractiveContext<State>, _: NoArguments) -> Result<String, HandlerError> {
    Ok(match context.elicit::<Topic>("user_context", "Which topic should the prompt have?").await {
        Elicited::Accepted(Topic { context }) => format!("Tell me about {context}."),
        Elicited::Declined | Elicited::Cancelled => "Tell me about anything.".to_owned(),
    })
}
