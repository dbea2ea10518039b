//! Results of a modern server for a legacy client: without members that its revision lacks, otherwise unchanged.

use mcp_protocol::{ContentBlock, ProtocolVersion, json, method};
use serde_json::value::RawValue;

use super::{member, text_member};
use crate::{
    message::{members, with_part, without_members},
    received,
};

/// What results have since 2026-07-28.
const MODERN: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// The result of a request in `revision`.
pub(super) fn reduced(result: &RawValue, method: &str, revision: ProtocolVersion) -> String {
    if revision.is_modern() {
        return result.get().to_owned();
    }
    let own = without_members(result.get(), &MODERN);
    match method {
        method::TOOLS_LIST => in_array(&own, "tools", |tool| Some(reduced_tool(tool, revision))),
        method::TOOLS_CALL => {
            let is_object = member(result, "structuredContent").is_some_and(|own| own.get().starts_with('{'));
            let own = match is_object && revision >= ProtocolVersion::V2025_06_18 {
                true => own,
                false => without_members(&own, &["structuredContent"]),
            };
            in_array(&own, "content", |block| reduced_block(block, revision))
        }
        _ => own,
    }
}

/// Until 2025-11-25 the schema of a result is that of an object, and the schema of a property is an object.
fn reduced_tool(tool: &RawValue, revision: ProtocolVersion) -> String {
    let has_schema = revision >= ProtocolVersion::V2025_06_18
        && member(tool, "outputSchema")
            .is_some_and(|own| text_member(own, "type").is_some_and(|kind| kind == "object"));
    let mut own = match has_schema {
        true => tool.get().to_owned(),
        false => without_members(tool.get(), &["outputSchema"]),
    };
    for schema in ["inputSchema", "outputSchema"] {
        own = replaced(&own, schema, |schema| {
            replaced(schema.get(), "properties", |properties| with_objects(properties.get()))
        });
    }
    own
}

/// Sound is an embedded resource and a link is text in revisions without them.
fn reduced_block(block: &RawValue, revision: ProtocolVersion) -> Option<String> {
    let is_new = match text_member(block, "type")?.as_str() {
        "audio" => revision < ProtocolVersion::V2025_03_26,
        "resource_link" => revision < ProtocolVersion::V2025_06_18,
        _ => false,
    };
    let block: ContentBlock = received::read(block.get()).ok().filter(|_| is_new)?;
    serde_json::to_string(&block.for_revision(revision)).ok()
}

/// Properties whose schemas are `true` or `false`, spelled out.
fn with_objects(properties: &str) -> String {
    let Ok(properties) = members(properties) else { return properties.to_owned() };
    let properties = properties.iter().map(|(name, schema)| {
        let schema = match schema.get() {
            "true" => "{}",
            "false" => r#"{"not":{}}"#,
            other => other,
        };
        format!("{}:{schema}", serde_json::Value::from(name.as_str()))
    });
    format!("{{{}}}", properties.collect::<Vec<_>>().join(","))
}

/// An object with another value of a member, if it has it.
fn replaced(object: &str, name: &str, new: impl FnOnce(&RawValue) -> String) -> String {
    let own = json::borrow::<&RawValue>(object).ok().and_then(|object| member(object, name));
    own.map_or_else(|| object.to_owned(), |own| with_part(object, own.get(), &new(own)))
}

/// The same where the member is an array, element by element; `None` leaves one as it is.
fn in_array(object: &str, name: &str, new: impl Fn(&RawValue) -> Option<String>) -> String {
    replaced(object, name, |array| {
        let Ok(elements) = received::read::<Vec<Box<RawValue>>>(array.get()) else { return array.get().to_owned() };
        let elements = elements.iter().map(|own| new(own).unwrap_or_else(|| own.get().to_owned()));
        format!("[{}]", elements.collect::<Vec<_>>().join(","))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(result: &str, method: &str, revision: ProtocolVersion) -> String {
        super::reduced(&RawValue::from_string(result.to_owned()).unwrap(), method, revision)
    }

    /// C19
    #[test]
    fn a_result_has_what_its_revision_has() {
        use ProtocolVersion as Revision;
        let listed = r#"{"resultType":"complete","tools":[{"name":"a","inputSchema":{"type":"object","properties":{"x":true,"y":false,"z":{"default":1e400}}},"outputSchema":{"type":"array"}},{"name":"b","outputSchema":{"type":"object","properties":{"x":true}}}],"ttlMs":5,"cacheScope":"private","x":1e400}"#;
        let input = r#""inputSchema":{"type":"object","properties":{"x":{},"y":{"not":{}},"z":{"default":1e400}}}"#;
        let object = r#","outputSchema":{"type":"object","properties":{"x":{}}}"#;
        for (revision, output) in
            [(Revision::V2025_11_25, object), (Revision::V2025_06_18, object), (Revision::V2025_03_26, "")]
        {
            let expected = format!(r#"{{"tools":[{{"name":"a",{input}}},{{"name":"b"{output}}}],"x":1e400}}"#);
            assert_eq!(reduced(listed, method::TOOLS_LIST, revision), expected, "{revision}");
        }
        assert_eq!(reduced(listed, method::TOOLS_LIST, Revision::V2026_07_28), listed);

        let called =
            |structured: &str| format!(r#"{{"content":[],"structuredContent":{structured},"resultType":"complete"}}"#);
        let kept = r#"{"content":[],"structuredContent":{"n":1e400}}"#;
        let without = r#"{"content":[]}"#;
        for (structured, revision, expected) in [
            (r#"{"n":1e400}"#, Revision::V2025_11_25, kept),
            (r#"{"n":1e400}"#, Revision::V2025_06_18, kept),
            (r#"{"n":1e400}"#, Revision::V2025_03_26, without),
            ("[1]", Revision::V2025_11_25, without),
            ("5", Revision::V2025_11_25, without),
        ] {
            assert_eq!(reduced(&called(structured), method::TOOLS_CALL, revision), expected, "{structured} {revision}");
        }
        assert_eq!(
            reduced(r#"{"contents":[],"ttlMs":1}"#, method::RESOURCES_READ, Revision::V2025_11_25),
            r#"{"contents":[]}"#
        );
    }

    /// C19
    #[test]
    fn a_block_is_one_that_the_revision_has() {
        let result = r#"{"content":[{"type":"resource_link","uri":"docs://a","name":"a"},{"type":"text","text":"t"}]}"#;

        let old = reduced(result, method::TOOLS_CALL, ProtocolVersion::V2025_03_26);

        assert!(old.contains("docs://a") && !old.contains("resource_link"), "{old}");
        assert_eq!(reduced(result, method::TOOLS_CALL, ProtocolVersion::V2025_06_18), result);
    }
}
