//! What a server tells a client before the result. Schema: `ProgressNotificationParams`,
//! `LoggingMessageNotificationParams`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ProgressToken, ProtocolVersion};

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressNotificationParams {
    /// The request's own token.
    pub progress_token: ProgressToken,
    /// Increases with each notification.
    pub progress: f64,
    /// The value of `progress` at the end, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// What is being done, for people. Since 2025-03-26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ProgressNotificationParams {
    /// The same without what `revision` lacks.
    #[must_use]
    pub fn for_revision(mut self, revision: ProtocolVersion) -> Self {
        if revision < ProtocolVersion::V2025_03_26 {
            self.message = None;
        }
        self
    }
}

/// A log message for the client. Deprecated in 2026-07-28, where a request must ask for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggingMessageNotificationParams {
    /// How severe it is.
    pub level: LoggingLevel,
    /// Which part of the server speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<String>,
    /// The message: any JSON.
    pub data: Value,
}

/// Severity of a log message, as in RFC 5424; more severe compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggingLevel {
    /// Detail for debugging.
    Debug,
    /// General information.
    Info,
    /// Normal but significant.
    Notice,
    /// A warning.
    Warning,
    /// An error.
    Error,
    /// A critical condition.
    Critical,
    /// Action must be taken at once.
    Alert,
    /// The system is unusable.
    Emergency,
}
