//! Answers of a client to the questions of a server.

use serde_json::value::RawValue;

use super::{
    capabilities::{ELICIT, mode},
    member, schema, text_member,
};

/// Checks a result of the client: an accepted form must fit the schema of the question.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check(method: &str, params: Option<&RawValue>, result: &RawValue) -> Result<(), String> {
    if method != ELICIT {
        return Ok(());
    }
    let action = text_member(result, "action").unwrap_or_default();
    match action.as_str() {
        "accept" if mode(params) == "form" => {}
        "accept" | "decline" | "cancel" => return Ok(()),
        _ => return Err("`action` is not `accept`, `decline` or `cancel`".to_owned()),
    }
    let schema = params.and_then(|params| member(params, "requestedSchema"));
    let content = member(result, "content").map_or("{}", RawValue::get);
    schema
        .map_or(Ok(()), |own| schema::check(own.get(), content))
        .map_err(|error| format!("`content` does not fit: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C28
    #[test]
    fn a_form_is_checked() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let schema = r#"{"type":"object","properties":{"age":{"type":"integer","minimum":18},"size":{"type":"string","enum":["s","l"]}},"required":["age"]}"#;
        let params = raw(&format!(r#"{{"message":"m","requestedSchema":{schema}}}"#));
        for (result, is_good) in [
            (r#"{"action":"accept","content":{"age":18}}"#, true),
            (r#"{"action":"accept","content":{"age":18.0,"size":"l"}}"#, true),
            (r#"{"action":"accept","content":{"age":17}}"#, false),
            (r#"{"action":"accept","content":{"age":"18"}}"#, false),
            (r#"{"action":"accept","content":{"age":18,"size":"m"}}"#, false),
            (r#"{"action":"accept","content":{}}"#, false),
            (r#"{"action":"accept"}"#, false),
            (r#"{"action":"decline"}"#, true),
            (r#"{"action":"cancel","content":{}}"#, true),
            (r#"{"action":"agree"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(check(ELICIT, Some(&params), &raw(result)).is_ok(), is_good, "{result}");
        }
        let url = raw(r#"{"mode":"url","url":"https://example.com"}"#);
        assert!(check(ELICIT, Some(&url), &raw(r#"{"action":"accept"}"#)).is_ok());
        assert!(check("roots/list", None, &raw(r#"{"roots":[]}"#)).is_ok());
    }
}
