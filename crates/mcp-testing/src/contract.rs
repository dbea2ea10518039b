//! What clients see of a server, as a golden file: its diff is the review of a change to the contract.

use std::{env, fs, path::Path};

use mcp_lambda::McpService;
use mcp_protocol::method;
use serde_json::{Value, json};

use crate::{McpRequest, discover, exchange};

/// Compares everything that a client can list, and what `server/discover` says, with `<folder>/contract.json`. With
/// `UPDATE_GOLDEN` set, writes it instead. Pages are followed to their end.
///
/// # Panics
///
/// When they differ.
pub async fn assert_contract<S: Send + Sync + 'static>(service: &McpService<S>, folder: &str) {
    let discovered = exchange(service, discover()).await.result().clone();
    let mut contract = json!({ "capabilities": discovered["capabilities"] });
    if let Some(instructions) = discovered.get("instructions") {
        contract["instructions"] = instructions.clone();
    }
    let capabilities = &discovered["capabilities"];
    for (capability, list, member) in [
        ("tools", method::TOOLS_LIST, "tools"),
        ("prompts", method::PROMPTS_LIST, "prompts"),
        ("resources", method::RESOURCES_LIST, "resources"),
        ("resources", method::RESOURCES_TEMPLATES_LIST, "resourceTemplates"),
    ] {
        if capabilities.get(capability).is_some() {
            contract[member] = all(service, list, member).await;
        }
    }
    assert_golden(&Path::new(folder).join("contract.json"), &contract);
}

/// The items of all pages of a list.
async fn all<S: Send + Sync + 'static>(service: &McpService<S>, method: &str, member: &str) -> Value {
    let mut items = Vec::new();
    let mut params = json!({});
    loop {
        let reply = exchange(service, McpRequest::new(method, params)).await;
        let page = reply.result();
        items.extend(page[member].as_array().expect("a list").iter().cloned());
        match page.get("nextCursor") {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => return Value::Array(items),
        }
    }
}

fn assert_golden(path: &Path, value: &Value) {
    let text = format!("{value:#}\n");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    let path = path.display();
    assert_eq!(text, golden, "{path} differs; if that is intended, run the test again with UPDATE_GOLDEN=1");
}
