//! What a server asks a client in the middle of a request, by multiple round trips (2026-07-28,
//! `basic/patterns/mrtr`). Schema: `InputRequiredResult`, `InputRequest`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CreateMessageRequestParams, ElicitRequestParams, JsonObject, ResultType};

/// Result of a request that cannot be finished before the client has answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputRequiredResult {
    /// [`ResultType::InputRequired`].
    pub result_type: ResultType,
    /// The questions, by the keys that their answers will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_requests: Option<InputRequests>,
    /// To be sent back unchanged with the answers. Means something to the server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_state: Option<String>,
    /// Holds the server's name and version.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Questions by their keys.
pub type InputRequests = BTreeMap<String, InputRequest>;

/// A question to the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params")]
pub enum InputRequest {
    /// To the person.
    #[serde(rename = "elicitation/create")]
    Elicit(ElicitRequestParams),
    /// To the client's model. Deprecated in 2026-07-28.
    #[serde(rename = "sampling/createMessage")]
    CreateMessage(Box<CreateMessageRequestParams>),
    /// For the client's root directories. Deprecated in 2026-07-28.
    #[serde(rename = "roots/list")]
    ListRoots,
}
