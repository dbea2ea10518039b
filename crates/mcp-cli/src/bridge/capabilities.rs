//! Client capabilities, and the server's requests that they allow.

use mcp_protocol::{ProtocolVersion, method, tasks};
use serde_json::{json, value::RawValue};

use super::{member, text_member};
use crate::message::{with_part, without_members};

/// The requests of a server to its client.
pub(super) const ELICIT: &str = "elicitation/create";
const CREATE_MESSAGE: &str = "sampling/createMessage";
const LIST_ROOTS: &str = "roots/list";

/// A capability that a client has not declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undeclared {
    /// As `ClientCapabilities` has it.
    pub(super) capabilities: serde_json::Value,
    /// Whether the client takes the request in another mode.
    pub(super) is_mode: bool,
}

/// Checks that a client that has declared `capabilities` in `revision` takes a server's request.
///
/// # Errors
///
/// The capability that is missing; `None` if no capability is for such requests.
pub(super) fn check(
    capabilities: &RawValue,
    revision: ProtocolVersion,
    asked: &str,
    params: Option<&RawValue>,
) -> Result<(), Option<Undeclared>> {
    let undeclared = |capabilities, is_mode| Err(Some(Undeclared { capabilities, is_mode }));
    match asked {
        ELICIT => {
            let mode = mode(params);
            let declared = member(capabilities, "elicitation");
            let Some(declared) = declared.filter(|own| own.get().starts_with('{')) else {
                return undeclared(json!({ "elicitation": { &mode: {} } }), false);
            };
            let has = |mode: &str| member(declared, mode).is_some();
            // An empty object is the mode `form`, which was the only one before 2025-11-25.
            let takes = match mode.as_str() {
                "form" => has("form") || !has("url") || revision < ProtocolVersion::V2025_11_25,
                "url" => has("url") && revision >= ProtocolVersion::V2025_11_25,
                _ => false,
            };
            if takes { Ok(()) } else { undeclared(json!({ "elicitation": { mode: {} } }), true) }
        }
        CREATE_MESSAGE => {
            let has_tools = params.is_some_and(|own| member(own, "tools").or(member(own, "toolChoice")).is_some());
            match member(capabilities, "sampling") {
                Some(declared) if has_tools && member(declared, "tools").is_none() => {
                    undeclared(json!({ "sampling": { "tools": {} } }), true)
                }
                Some(_) => Ok(()),
                None => undeclared(json!({ "sampling": {} }), false),
            }
        }
        LIST_ROOTS if member(capabilities, "roots").is_some() => Ok(()),
        LIST_ROOTS => undeclared(json!({ "roots": {} }), false),
        _ => Err(None),
    }
}

/// Capabilities of either side without the extension of tasks, which is defined for 2026-07-28 alone: between eras no call becomes a task.
pub(super) fn without_tasks(capabilities: &RawValue) -> String {
    let extensions = member(capabilities, "extensions").filter(|own| own.get().starts_with('{'));
    let Some(extensions) = extensions else { return capabilities.get().to_owned() };
    with_part(capabilities.get(), extensions.get(), &without_members(extensions.get(), &[tasks::EXTENSION]))
}

/// The mode of a question to the person.
pub(super) fn mode(params: Option<&RawValue>) -> String {
    params.and_then(|params| text_member(params, "mode")).unwrap_or_else(|| "form".to_owned())
}

/// Requests during which a modern client accepts questions.
pub(super) fn may_ask(method: &str) -> bool {
    matches!(method, method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_era_but_the_newest_has_tasks() {
        let without = |text: &str| without_tasks(&RawValue::from_string(text.to_owned()).unwrap());

        let both =
            r#"{"x":1e400,"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"a":1.0}}}"#;
        assert_eq!(without(both), r#"{"x":1e400,"extensions":{"io.modelcontextprotocol/ui":{"a":1.0}}}"#);
        for other in [r#"{"tasks":{},"elicitation":{}}"#, r#"{"extensions":null}"#, "{}", "null"] {
            assert_eq!(without(other), other);
        }
    }

    /// C7, C12
    #[test]
    fn a_client_takes_what_it_has_declared() {
        use ProtocolVersion as Revision;
        let (newest, older) = (Revision::V2025_11_25, Revision::V2025_06_18);
        let (form, url) = (r#"{"message":"m"}"#, r#"{"mode":"url"}"#);
        for (capabilities, revision, asked, params, takes) in [
            (r#"{"elicitation":{}}"#, newest, ELICIT, form, true),
            (r#"{"elicitation":{}}"#, newest, ELICIT, r#"{"mode":"form"}"#, true),
            (r#"{"elicitation":{}}"#, newest, ELICIT, url, false),
            (r#"{"elicitation":{"url":{}}}"#, newest, ELICIT, url, true),
            (r#"{"elicitation":{"url":{}}}"#, newest, ELICIT, form, false),
            (r#"{"elicitation":{"url":{}}}"#, Revision::V2026_07_28, ELICIT, url, true),
            (r#"{"elicitation":{"url":{}}}"#, older, ELICIT, url, false),
            (r#"{"elicitation":{"form":{},"voice":{}}}"#, newest, ELICIT, r#"{"mode":"voice"}"#, false),
            (r#"{"elicitation":null}"#, newest, ELICIT, form, false),
            ("{}", newest, ELICIT, form, false),
            ("{}", newest, CREATE_MESSAGE, "{}", false),
            (r#"{"sampling":{}}"#, newest, CREATE_MESSAGE, "{}", true),
            (r#"{"sampling":{}}"#, newest, CREATE_MESSAGE, r#"{"tools":[]}"#, false),
            (r#"{"sampling":{"tools":{}}}"#, newest, CREATE_MESSAGE, r#"{"tools":[]}"#, true),
            ("{}", newest, LIST_ROOTS, "{}", false),
            (r#"{"roots":{}}"#, newest, LIST_ROOTS, "{}", true),
            (r#"{"roots":{}}"#, newest, "tools/list", "{}", false),
        ] {
            let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
            let checked = check(&raw(capabilities), revision, asked, Some(&raw(params)));

            assert_eq!(checked.is_ok(), takes, "{capabilities} {revision} {asked} {params}: {checked:?}");
        }
    }
}
