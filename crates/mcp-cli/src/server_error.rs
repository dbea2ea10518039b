//! Errors in place of results: those of the server, unchanged, and those of `mcpl` itself.

use std::fmt;

use mcp_protocol::{json, jsonrpc};
use serde_json::{json, value::RawValue};

use crate::{
    json_text::{self, member},
    message::Shape,
};

/// Maximum length of an error's data.
const MAX_SHOWN_CHARS: usize = 2000;
/// The message of an error without one.
pub(crate) const NO_MESSAGE: &str = "the server answered with an error";

/// Prefix of the messages of `mcpl` itself.
pub(crate) const OWN_PREFIX: &str = "mcpl: ";

/// An error in place of a result.
#[derive(Debug)]
pub(crate) struct ServerError {
    /// The error object as it was written.
    text: Box<RawValue>,
}

impl ServerError {
    /// The error of a response.
    pub(crate) fn of(response: &str) -> Self {
        let shape = json::borrow::<Shape<'_>>(response).ok();
        let text = shape.and_then(|shape| shape.error.map(ToOwned::to_owned));
        Self { text: text.unwrap_or_else(|| RawValue::NULL.to_owned()) }
    }

    /// Whether the error is of `mcpl` itself, not a response of the server.
    pub(crate) fn is_own(&self) -> bool {
        let message = member(&self.text, "message").and_then(|own| json::borrow::<String>(own.get()).ok());
        self.code() == jsonrpc::INTERNAL_ERROR && message.is_some_and(|own| own.starts_with(OWN_PREFIX))
    }

    /// The error object as it was written.
    #[cfg(test)]
    fn text(&self) -> &str {
        self.text.get()
    }

    /// Its code; zero if it has none.
    pub(crate) fn code(&self) -> i64 {
        member(&self.text, "code").and_then(|code| json::borrow(code.get()).ok()).unwrap_or_default()
    }
}

impl fmt::Display for ServerError {
    /// The message, and the data besides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |own: &RawValue| json::borrow::<String>(own.get()).ok();
        let message = member(&self.text, "message").and_then(text);
        let message = message.as_deref().unwrap_or(NO_MESSAGE);
        f.write_str(message.strip_prefix(OWN_PREFIX).unwrap_or(message))?;
        let Some(data) = member(&self.text, "data").filter(|data| data.get() != "null") else { return Ok(()) };
        // What came with an error of HTTP, or text: without the quotes.
        let body = member(data, "body").filter(|_| json_text::members(data.get()).len() == 1);
        let data = body.and_then(text).or_else(|| text(data)).unwrap_or_else(|| data.get().to_owned());
        let data: String = data.trim().chars().take(MAX_SHOWN_CHARS).collect();
        if data.is_empty() { Ok(()) } else { write!(f, ": {data}") }
    }
}

impl std::error::Error for ServerError {}

/// An error as `--json` prints it: `source` says whether `error` is the server's, as it was written, or has only the message of
/// `mcpl` itself.
pub(crate) fn as_json(error: &anyhow::Error) -> String {
    let own = error.downcast_ref::<ServerError>().filter(|own| own.text.get().starts_with('{') && !own.is_own());
    match own {
        Some(own) => format!(r#"{{"source":"server","error":{}}}"#, own.text),
        None => json!({ "source": "mcpl", "error": { "message": format!("{error:#}") } }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// c13
    #[test]
    fn an_error_shows_its_data() {
        for (error, expected) in [
            (
                r#"{"code":-32602,"message":"Invalid params","data":{"issues":["text is too long"],"n":1.10}}"#,
                r#"Invalid params: {"issues":["text is too long"],"n":1.10}"#,
            ),
            (
                r#"{"code":500,"message":"the server answered 500","data":{"body":"{\"message\": \"the reason\"}\n"}}"#,
                r#"the server answered 500: {"message": "the reason"}"#,
            ),
            (r#"{"code":-32603,"message":"mcpl: could not reach it"}"#, "could not reach it"),
            (r#"{"code":1,"message":"no","data":null}"#, "no"),
            (r#"{"code":1,"message":"no","data":"because"}"#, "no: because"),
            (r#"{"code":1,"message":"no","data":[]}"#, "no: []"),
            ("[]", NO_MESSAGE),
        ] {
            let own = ServerError::of(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#));
            assert_eq!((own.to_string().as_str(), own.text()), (expected, error));
        }
        let long = ServerError::of(&format!(r#"{{"error":{{"message":"no","data":"{}"}}}}"#, "é".repeat(3000)));
        assert_eq!(long.to_string().chars().count(), "no: ".len() + MAX_SHOWN_CHARS);
    }

    #[test]
    fn errors_of_mcpl_and_of_the_server_are_distinguished() {
        let printed = |error: &str| {
            let response = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#);
            as_json(&anyhow::Error::from(ServerError::of(&response)).context("could not start a session"))
        };

        for of_server in [
            r#"{"code":-32603,"message":"internal error","data":1.10}"#,
            r#"{"code":403,"message":"the server answered 403 Forbidden","data":{"body":"x"}}"#,
            r#"{"code":1,"message":"mcpl: x"}"#,
        ] {
            assert_eq!(printed(of_server), format!(r#"{{"source":"server","error":{of_server}}}"#));
        }
        let own = r#"{"source":"mcpl","error":{"message":"could not start a session: it is away"}}"#;
        let own: serde_json::Value = serde_json::from_str(own).unwrap();
        let printed: serde_json::Value =
            serde_json::from_str(&printed(r#"{"code":-32603,"message":"mcpl: it is away"}"#)).unwrap();
        assert_eq!(printed, own);
        assert!(as_json(&anyhow::anyhow!("no tool")).contains(r#""message":"no tool""#));
    }
}
