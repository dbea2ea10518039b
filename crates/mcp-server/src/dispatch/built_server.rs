//! [`BuiltServer`]: what a transport calls.

use std::{fmt, sync::Arc};

use mcp_protocol::{ProtocolVersion, RequestParams, meta, method};
use serde_json::json;

use super::{
    built::Built,
    call::{CallOutcome, Rendered, ResultKind},
    resolve::Resolved,
    summary::ServerSummary,
};
use crate::{CallError, Invocation, Principal, ToolOutput};

/// A server as a transport calls it, from [`Server::build`](crate::Server::build). Cheap to clone.
#[derive(Clone)]
pub struct BuiltServer(Arc<Built>);

impl BuiltServer {
    pub(crate) fn new(built: Built) -> Self {
        // In the init phase, which has a whole processor.
        built.lists.tools(&built.catalog.tools, ProtocolVersion::LATEST);
        Self(Arc::new(built))
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// Looks up what a request is for, and whether its caller may make it. The one look-up of a request, which serves the
    /// access rules of a batch, the log, and [`Resolved::run`].
    pub fn resolve<'a>(
        &'a self,
        revision: ProtocolVersion,
        method: &str,
        params: RequestParams<'a>,
        invocation: &Arc<Invocation>,
    ) -> Resolved<'a> {
        Resolved::new(&self.0, revision, method, params, invocation)
    }

    /// Whether this caller, or an anonymous one, gets anything at all: discovery, and what is public.
    ///
    /// # Errors
    ///
    /// When not.
    pub fn admit(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        self.0.policy.permit_discovery(caller)
    }

    /// The scopes that something requires, as clients must ask the issuer for them.
    pub fn scopes_supported(&self) -> Vec<String> {
        self.0.policy.scopes_supported()
    }

    /// Describes the server to a caller, as discovery and the list of tools would.
    ///
    /// # Errors
    ///
    /// When those would be refused.
    pub fn describe(&self, caller: Option<&Principal>) -> Result<ServerSummary<'_>, CallError> {
        ServerSummary::new(&self.0, caller)
    }

    /// The answer instead of a result that is too large to send: for a tool, one that the model can act on.
    ///
    /// # Errors
    ///
    /// For anything but a tool.
    pub fn too_large(
        &self,
        method: &str,
        revision: ProtocolVersion,
        bytes: usize,
        limit: usize,
    ) -> Result<Rendered, CallError> {
        if method != method::TOOLS_CALL {
            return Err(CallError::TooLarge { bytes, limit });
        }
        let text = format!(
            "The result has {bytes} bytes, but at most {limit} can be sent. Ask for less, for example with a filter \
             or a smaller limit."
        );
        self.0.renderer.tool_error(text, revision).result
    }

    /// A refused `tools/call` as a result, with the challenge, if a token would help, where clients look that never see a
    /// header.
    pub fn challenged_result(
        &self,
        refusal: &CallError,
        challenge: Option<&str>,
        revision: ProtocolVersion,
    ) -> CallOutcome {
        let mut output = ToolOutput::error(refusal.to_string());
        if let Some(challenge) = challenge {
            output = output.meta(meta::WWW_AUTHENTICATE, json!([challenge]));
        }
        self.0.renderer.tool_outcome(output, revision).of_kind(ResultKind::Challenged)
    }

    /// Whether there is something to run before the process ends.
    pub fn has_close_hook(&self) -> bool {
        self.0.hooks.has_close()
    }

    /// Runs the close hook, the first time it is called.
    pub async fn close(&self) {
        self.0.hooks.close().await;
    }

    /// Runs what is to be done before a snapshot of the process is taken.
    pub async fn before_snapshot(&self) {
        self.0.hooks.before_snapshot().await;
    }

    /// Runs what is to be done after the process was restored from a snapshot.
    pub async fn after_restore(&self) {
        self.0.hooks.after_restore().await;
    }
}

impl fmt::Debug for BuiltServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltServer").field("server", &self.0.info).finish_non_exhaustive()
    }
}
