//! [`BuiltServer`], which a transport calls.

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

/// A built server, from [`Server::build`](crate::Server::build). Cheap to clone.
#[derive(Clone)]
pub struct BuiltServer(Arc<Built>);

impl BuiltServer {
    pub(crate) fn new(built: Built) -> Self {
        // In the init phase, which has a full vCPU.
        built.lists.tools(&built.catalog.tools, ProtocolVersion::LATEST);
        let built = Self(Arc::new(built));
        #[cfg(feature = "tasks")]
        if let Some(runner) = built.tasks() {
            runner.wake_in_process();
        }
        built
    }

    /// Returns the server's name.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// Returns the store of state that outlives a request, if the server has one.
    #[cfg(feature = "store")]
    pub fn store(&self) -> Option<&crate::store::SealedStore> {
        self.0.store.as_ref()
    }

    /// Returns what loads the state key again when a value was sealed with an unknown key.
    #[cfg(any(feature = "interactive", feature = "store"))]
    pub fn key_loader(&self) -> &Arc<crate::KeyLoader> {
        &self.0.key_loader
    }

    /// Returns what runs tasks in the background; `None` for a server without tools that have [`Task`](crate::Task) settings.
    #[cfg(feature = "tasks")]
    pub fn tasks(&self) -> Option<super::tasks::runner::TaskRunner> {
        self.0.catalog.task_tool().map(|_| super::tasks::runner::TaskRunner::new(Arc::clone(&self.0)))
    }

    /// Returns the questions to clients of 2025-11-25, if the server has a store and an interactive handler.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub fn questions(&self) -> Option<&crate::legacy::LegacyQuestions> {
        self.0.questions.as_ref()
    }

    /// Reports whether a caller, or an anonymous one, may use an item that asks: another one has no open question.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub fn may_be_asked(&self, caller: Option<&Principal>) -> bool {
        let built = &self.0;
        built.catalog.interactive_requirements().any(|requirement| built.policy.permit(requirement, caller).is_ok())
    }

    /// Returns the outcome of a call that failed for this reason: for a tool, a result that the model reads.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub fn failed(&self, method: &str, revision: ProtocolVersion, reason: String) -> CallOutcome {
        match method {
            method::TOOLS_CALL => self.0.renderer.tool_error(reason, revision),
            _ => CallOutcome::from(Err(CallError::Failed(reason))),
        }
    }

    /// Looks up the target of a request and checks whether its caller is authorized. Each request is looked up once,
    /// for the access rules of a batch, the log, and [`Resolved::run`].
    pub fn resolve<'a>(
        &'a self,
        revision: ProtocolVersion,
        method: &str,
        params: RequestParams<'a>,
        invocation: &Arc<Invocation>,
    ) -> Resolved<'a> {
        Resolved::new(&self.0, revision, method, params, invocation)
    }

    /// Checks whether this caller, or an anonymous one, may use anything: discovery, or public items.
    ///
    /// # Errors
    ///
    /// When the caller may use nothing.
    pub fn admit(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        self.0.policy.permit_discovery(caller)
    }

    /// Checks whether this caller, or an anonymous one, meets the requirement of the server on every caller
    /// ([`Server::require_scope`](crate::Server::require_scope), [`Server::require_claim`](crate::Server::require_claim)), even
    /// if some items are public.
    ///
    /// # Errors
    ///
    /// When the caller does not.
    pub fn permit(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        let policy = &self.0.policy;
        policy.permit(policy.server_requirement(), caller)
    }

    /// Returns the scopes that access rules name, as clients must request them from the issuer.
    pub fn scopes_supported(&self) -> Vec<String> {
        self.0.policy.scopes_supported()
    }

    /// Returns a summary of the server for a caller, with the content of discovery and `tools/list`.
    ///
    /// # Errors
    ///
    /// When the caller is not authorized for discovery.
    pub fn describe(&self, caller: Option<&Principal>) -> Result<ServerSummary<'_>, CallError> {
        ServerSummary::new(&self.0, caller)
    }

    /// Returns the replacement for a result that is too large. For a tool, it is a result that tells the model to request less.
    ///
    /// # Errors
    ///
    /// For all other methods.
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

    /// Renders an authorization error of `tools/call` as a tool result with the challenge, if a token would help: for clients that
    /// ignore the header.
    pub fn challenged_result(
        &self,
        error: &CallError,
        challenge: Option<&str>,
        revision: ProtocolVersion,
    ) -> CallOutcome {
        let mut output = ToolOutput::error(error.to_string());
        if let Some(challenge) = challenge {
            output = output.meta(meta::WWW_AUTHENTICATE, json!([challenge]));
        }
        self.0.renderer.tool_outcome(output, revision).of_kind(ResultKind::Challenged)
    }

    /// Counts requests of an anonymous caller, or with failed authentication, under the limit of anonymous callers: all of
    /// them, or none. Callers whose address is not known share one count.
    ///
    /// # Errors
    ///
    /// When the limit does not permit them.
    #[cfg(feature = "limits")]
    pub fn count_anonymous(
        &self,
        address: Option<std::net::IpAddr>,
        counted: crate::Counted,
        received: std::time::SystemTime,
    ) -> Result<(), crate::Limited> {
        self.0.limits.as_ref().map_or(Ok(()), |limits| limits.count_anonymous(address, counted, received))
    }

    /// Renders the rejection of a `tools/call` that is over a limit as a tool result, which the model reads.
    #[cfg(feature = "limits")]
    pub fn limited_result(&self, limited: &crate::Limited, revision: ProtocolVersion) -> CallOutcome {
        self.0.renderer.tool_error(limited.message.clone(), revision)
    }

    /// Reports whether [`close`](Self::close) has an effect, so that a transport must register for shutdown.
    pub fn has_close_hook(&self) -> bool {
        self.0.hooks.has_close()
    }

    /// Runs the close hook, on the first call only.
    pub async fn close(&self) {
        self.0.hooks.close().await;
    }

    /// Runs the hooks before a snapshot of the process.
    pub async fn before_snapshot(&self) {
        self.0.hooks.before_snapshot().await;
    }

    /// Runs the hooks after the process was restored from a snapshot.
    pub async fn after_restore(&self) {
        self.0.hooks.after_restore().await;
    }
}

impl fmt::Debug for BuiltServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltServer").field("server", &self.0.info).finish_non_exhaustive()
    }
}
