//! Errors that the emulator sends, with the codes and messages of Aurora DSQL.
//!
//! Sources: [QUOTAS](https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html), and TROUBLESHOOTING, which is
//! `aurora-dsql/references/troubleshooting.md` of <https://github.com/aws/agent-toolkit-for-aws> with the messages of a cluster on
//! 2026-10-01. A message without a source is the emulator's own.

use std::time::Duration;

use crate::wire::{Fields, WireError, server_message};

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorResponse {
    severity: &'static str,
    code: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ErrorResponse {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "ERROR", code, message: message.into(), detail: None, hint: None }
    }

    /// A statement or setting that Aurora DSQL does not support.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// An error after which the connection is closed.
    pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "FATAL", ..Self::new(code, message) }
    }

    /// TROUBLESHOOTING, and the code as drivers report it.
    pub(crate) fn access_denied(hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::fatal("08006", "unable to accept connection, access denied") }
    }

    /// QUOTAS: connections per cluster.
    pub(crate) fn too_many_connections() -> Self {
        Self::fatal("53300", "Unable to accept connection, too many open connections.")
    }

    /// QUOTAS: connection rate per cluster.
    pub(crate) fn rate_exceeded() -> Self {
        Self::fatal("53400", "Unable to accept connection, rate exceeded.")
    }

    /// TROUBLESHOOTING: concurrent changes of the same rows.
    pub(crate) fn conflict() -> Self {
        Self::new("40001", "change conflicts with another transaction (OC000)")
    }

    /// TROUBLESHOOTING: any change of the catalog by another session, also before the transaction; reads fail too.
    pub(crate) fn schema_changed() -> Self {
        Self::new("40001", "schema has been updated by another transaction (OC001)")
    }

    /// <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/troubleshooting.html>: repeat the whole transaction. At `COMMIT`
    /// the outcome is unknown.
    pub(crate) fn server_unavailable() -> Self {
        Self::new("XX000", "server unavailable")
    }

    /// QUOTAS: rows of a transaction.
    pub(crate) fn too_many_rows() -> Self {
        Self::new("54000", "transaction row limit exceeded")
    }

    /// QUOTAS: data of a transaction.
    pub(crate) fn too_much_data(bytes: u64) -> Self {
        let detail = format!("Current transaction size {}mb > 10mb", bytes >> 20);
        Self { detail: Some(detail), ..Self::new("54000", "transaction size limit 10mb exceeded") }
    }

    /// QUOTAS: time of a transaction.
    pub(crate) fn too_old(limit: Duration) -> Self {
        Self::new("54000", format!("transaction age limit of {}s exceeded", limit.as_secs()))
    }

    /// Replaces the code by the marker, as some drivers report it.
    pub(crate) fn with_marker_as_code(self) -> Self {
        let code = match &self.message {
            message if message.contains("OC000") => "OC000",
            message if message.contains("OC001") => "OC001",
            _ => self.code,
        };
        Self { code, ..self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let fields = [
            (b'S', Some(self.severity)),
            (b'V', Some(self.severity)),
            (b'C', Some(self.code)),
            (b'M', Some(self.message.as_str())),
            (b'D', self.detail.as_deref()),
            (b'H', self.hint.as_deref()),
        ];
        let mut body = Vec::new();
        for (field, value) in fields {
            if let Some(value) = value {
                body.push(field);
                body.extend(value.bytes().filter(|byte| *byte != 0));
                body.push(0);
            }
        }
        body.push(0);
        server_message(b'E', &body)
    }
}

/// An error response of Postgres, with the fields that the emulator uses.
#[derive(Debug, Default)]
pub(crate) struct PostgresError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl PostgresError {
    pub(crate) fn read(body: &[u8]) -> Result<Self, WireError> {
        let (mut fields, mut own) = (Fields(body), Self::default());
        loop {
            match fields.byte()? {
                0 => return Ok(own),
                b'V' => own.severity = fields.string()?.to_owned(),
                b'C' => own.code = fields.string()?.to_owned(),
                b'M' => own.message = fields.string()?.to_owned(),
                _ => _ = fields.string()?,
            }
        }
    }

    pub(crate) fn is_fatal(&self) -> bool {
        self.severity != "ERROR"
    }

    /// Returns the error response of Aurora DSQL for the same error, if it differs.
    pub(crate) fn translate(&self, transaction_time: Duration) -> Option<ErrorResponse> {
        match self.code.as_str() {
            // Optimistic concurrency has neither locks nor deadlocks: both are conflicts.
            "40001" | "40P01" => Some(ErrorResponse::conflict()),
            "57014" if self.message.contains("statement timeout") => Some(ErrorResponse::too_old(transaction_time)),
            _ => None,
        }
    }
}
