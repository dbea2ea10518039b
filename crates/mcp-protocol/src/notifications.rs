//! Progress and log notifications. Schema: [`ProgressNotificationParams`,
//! `LoggingMessageNotificationParams`](https://modelcontextprotocol.io/specification/2026-07-28/schema).

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ProgressToken, ProtocolVersion};

/// Progress of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressNotificationParams {
    /// Token of the request.
    pub progress_token: ProgressToken,
    /// Increases with each notification.
    pub progress: f64,
    /// Final value of `progress`, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// Description of the current step, for display. Since 2025-03-26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ProgressNotificationParams {
    /// Returns a copy without the fields that `revision` does not define.
    #[must_use]
    pub fn for_revision(mut self, revision: ProtocolVersion) -> Self {
        if revision < ProtocolVersion::V2025_03_26 {
            self.message = None;
        }
        self
    }
}

/// Log message for the client. Deprecated in 2026-07-28, where it is only sent for requests with a log level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggingMessageNotificationParams {
    pub level: LoggingLevel,
    /// Name of the logger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<String>,
    /// Message: any JSON value.
    pub data: Value,
}

/// Severity of a log message (RFC 5424). A more severe level compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggingLevel {
    /// Debugging detail.
    Debug,
    /// General information.
    Info,
    /// Normal but significant.
    Notice,
    Warning,
    Error,
    /// A critical condition.
    Critical,
    /// Action must be taken at once.
    Alert,
    /// The system is unusable.
    Emergency,
}
