//! The official Rust SDK as a client of 2025-11-25, asked by a server: answers after some seconds. Prints what came of it as JSON.

use std::{
    env,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ClientHandler, ErrorData, ServiceExt,
    model::{
        CallToolRequestParams, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ProtocolVersion,
    },
    service::{RequestContext, RoleClient},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tokio::time::sleep;

#[derive(Clone)]
struct Person {
    thinks_for: Duration,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ClientHandler for Person {
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } = request else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        self.asked.lock().expect("no holder panics").push(message);
        sleep(self.thinks_for).await;
        let mut content = json!({ "name": "Ada", "ok": true });
        if let Value::Object(members) = &mut content {
            members.retain(|name, _| requested_schema.properties.contains_key(name));
        }
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    fn get_info(&self) -> ClientConfig {
        let config = json!({
            "protocolVersion": ProtocolVersion::V_2025_11_25,
            "capabilities": { "elicitation": { "form": {} } },
            "clientInfo": { "name": "rmcp", "version": "1.0.0" },
        });
        serde_json::from_value(config).expect("a valid configuration")
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let person = Person { thinks_for: Duration::from_secs(arguments[2].parse()?), asked: Arc::default() };
    let transport = StreamableHttpClientTransport::from_uri(arguments[1].as_str());
    let client = person.clone().serve(transport).await?;
    let mut texts = Vec::new();
    for tool in ["test_input_required_result_elicitation", "test_input_required_result_multi_round"] {
        let result = client.call_tool(CallToolRequestParams::new(tool)).await?;
        texts.push(result.content.first().and_then(|block| block.as_text()).map(|text| text.text.clone()));
    }
    client.cancel().await?;
    println!("{}", json!({ "asked": *person.asked.lock().expect("no holder panics"), "texts": texts }));
    Ok(())
}
