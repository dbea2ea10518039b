//! Baseline of the benchmark: the same runtime and profile as the functions, and a constant response.

use lambda_runtime::{Error, LambdaEvent};
use serde::{Serialize, de::IgnoredAny};

/// Response to an event of payload version 2.0.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LambdaResponse {
    status_code: u16,
    body: &'static str,
}

const RESPONSE: LambdaResponse = LambdaResponse {
    status_code: 200,
    body: r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"Hello, Ada!"}]}}"#,
};

/// Returns the constant response.
///
/// # Errors
///
/// Never returns an error.
pub async fn respond(_: LambdaEvent<IgnoredAny>) -> Result<LambdaResponse, Error> {
    Ok(RESPONSE)
}
