//! Input requests: a server requests input from the client by multiple round trips (2026-07-28, `basic/patterns/mrtr`).
//! Schema: [`InputRequiredResult`, `InputRequest`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CreateMessageRequestParams, ElicitRequestParams, JsonObject, ResultType};

/// Result of a request that the client must repeat with responses to the input requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputRequiredResult {
    /// Always [`ResultType::InputRequired`].
    pub result_type: ResultType,
    /// Input requests. The responses have the same keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_requests: Option<InputRequests>,
    /// Opaque state of the server. The client returns it unchanged with the responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_state: Option<String>,
    /// Holds the server's name and version.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Input requests by key.
pub type InputRequests = BTreeMap<String, InputRequest>;

/// Request from the server to the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params")]
pub enum InputRequest {
    /// Input from the user.
    #[serde(rename = "elicitation/create")]
    Elicit(ElicitRequestParams),
    /// Sampling by the client's model. Deprecated in 2026-07-28.
    #[serde(rename = "sampling/createMessage")]
    CreateMessage(Box<CreateMessageRequestParams>),
    /// The client's root directories. Deprecated in 2026-07-28.
    #[serde(rename = "roots/list")]
    ListRoots,
}
