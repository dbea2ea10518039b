//! Any text as the arguments of a tool with a hand-written schema: the handler gets only valid arguments.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use mcp_protocol::{JsonObject, ProtocolVersion, RequestId, RequestMeta, method};
use mcp_server::{Authorization, Call, HandlerError, Invocation, BuiltServer, Server, Settings, Tool, ToolContext};
use serde_json::{Value, json, value::RawValue};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

static ROUTER: LazyLock<BuiltServer> = LazyLock::new(|| {
    let schema = json!({
        "type": "object",
        "properties": {
            "number": { "type": "integer", "maximum": 10 },
            "texts": { "type": "array", "items": { "type": "string", "maxLength": 3 }, "maxItems": 3 },
            "inner": { "type": "object", "properties": { "a": { "const": 1 } }, "additionalProperties": false },
        },
        "additionalProperties": false,
    });
    let server = Server::new("fuzz", "1.0.0", ()).tool(Tool::raw("raw", schema, raw));
    server.build(Settings { authorization: Authorization::DangerouslyOff, ..Settings::default() }).expect("a server")
});

async fn raw(_: ToolContext<()>, arguments: JsonObject) -> Result<String, HandlerError> {
    for (name, value) in &arguments {
        let is_valid = match (name.as_str(), value) {
            ("number", Value::Number(number)) => {
                number.as_f64().is_some_and(|number| number <= 10.0 && number.fract() == 0.0)
            }
            ("texts", Value::Array(texts)) => {
                texts.len() <= 3 && texts.iter().all(|text| text.as_str().is_some_and(|text| text.chars().count() <= 3))
            }
            ("inner", Value::Object(inner)) => {
                inner.iter().all(|(name, value)| name == "a" && value.as_f64() == Some(1.0))
            }
            _ => false,
        };
        if !is_valid {
            return Err(HandlerError::internal(format!("{name}: {value} violates the schema")));
        }
    }
    Ok("valid".to_owned())
}

fuzz_target!(|arguments: &str| {
    // Parameters of a tool are valid JSON.
    if serde_json::from_str::<&RawValue>(arguments).is_err() {
        return;
    }
    let params = format!(r#"{{"name":"raw","arguments":{arguments}}}"#);
    let params = serde_json::from_str(&params).expect("JSON");
    let resolved = ROUTER.resolve(ProtocolVersion::LATEST, method::TOOLS_CALL, params, &Arc::new(Invocation::default()));
    let call = Call { id: RequestId::from(1), meta: RequestMeta::default(), notifications: None };

    let outcome = RUNTIME.block_on(resolved.run(call).outcome());

    assert!(outcome.fault.is_none(), "{:?}", outcome.fault);
});
