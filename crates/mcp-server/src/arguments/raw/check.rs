use serde_json::Value;

/// Validates arguments; the error is the message for the model. The second parameter is the length of their text in bytes.
pub(crate) type Check = Box<dyn Fn(&Value, usize) -> Result<(), String> + Send + Sync>;
