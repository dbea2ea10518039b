//! A finished server, whatever its state is: what carries requests to it is compiled once, not for each function anew.

use std::{fmt, pin::Pin, sync::Arc};

use mcp_protocol::{Implementation, JsonObject, MirroredParameter, ProtocolVersion, meta, method};
use serde_json::{json, value::RawValue};

use crate::{
    Answer, Call, CallError, CallOutcome, Introduction, Principal, Rendered, ResultKind, ToolOutput,
    dispatch::routes::Routes, policy::Policy,
};

/// A finished server. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<dyn AnyRoutes>);

/// What a hook does.
pub(crate) type Hooked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The server behind a router.
pub(crate) trait AnyRoutes: Send + Sync {
    fn info(&self) -> &Implementation;
    fn policy(&self) -> &Policy;
    fn mirrored_parameters(&self, tool: &str) -> &[MirroredParameter];
    fn registered_name(&self, method: &str, name: Option<&str>, uri: Option<&str>) -> Option<&str>;
    fn answer(&self, call: Call<'_>) -> Answer;
    fn permit(&self, target: &Target<'_>, caller: Option<&Principal>) -> Result<(), CallError>;
    fn tool_outcome(&self, output: ToolOutput, revision: ProtocolVersion) -> CallOutcome;
    fn introduce(&self, caller: Option<&Principal>) -> Result<Introduction<'_>, CallError>;
    fn has_close_hook(&self) -> bool;
    fn close(&self) -> Hooked;
    fn before_snapshot(&self) -> Hooked;
    fn after_restore(&self) -> Hooked;
}

/// What a request is for, as far as it decides who may make it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a str,
    /// `name` of the parameters, if it is a string.
    pub name: Option<&'a str>,
    /// `uri` of the parameters, if it is a string.
    pub uri: Option<&'a str>,
    /// The parameters, unread.
    pub params: Option<&'a RawValue>,
}

impl Router {
    pub(crate) fn new<S: Send + Sync + 'static>(routes: Routes<S>) -> Self {
        Self(Arc::new(routes))
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.0.info().name
    }

    /// Answers one request.
    pub fn answer(&self, call: Call<'_>) -> Answer {
        self.0.answer(call)
    }

    /// Whether the caller may make a request, without preparing it: a batch is permitted as a whole before any of it runs.
    ///
    /// # Errors
    ///
    /// When not. Other faults of the request are left to [`answer`](Self::answer).
    pub fn permit(&self, target: &Target<'_>, caller: Option<&Principal>) -> Result<(), CallError> {
        self.0.permit(target, caller)
    }

    /// The parameters of a tool that clients mirror into headers; empty for an unknown tool.
    pub fn mirrored_parameters(&self, tool: &str) -> &[MirroredParameter] {
        self.0.mirrored_parameters(tool)
    }

    /// The name that the item of a request is registered by: of a tool or prompt by its name, of a resource, or the template
    /// that it comes from, by its URI. `None` for what is not there, and for other requests.
    pub fn registered_name(&self, method: &str, name: Option<&str>, uri: Option<&str>) -> Option<&str> {
        self.0.registered_name(method, name, uri)
    }

    /// Whether this caller, or somebody nobody knows, gets anything at all: discovery, and what is public.
    ///
    /// # Errors
    ///
    /// When not.
    pub fn admit(&self, caller: Option<&Principal>) -> Result<(), CallError> {
        self.0.policy().permit_discovery(caller)
    }

    /// The scopes that something requires, as clients must ask the issuer for them.
    pub fn scopes_supported(&self) -> Vec<String> {
        self.0.policy().scopes_supported()
    }

    /// Introduces the server to somebody, who learns what discovery and the list of tools would tell.
    ///
    /// # Errors
    ///
    /// When those would be refused.
    pub fn introduce(&self, caller: Option<&Principal>) -> Result<Introduction<'_>, CallError> {
        self.0.introduce(caller)
    }

    /// The answer instead of a result that is too large to carry: for a tool, one that the model can act on.
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
        self.0.tool_outcome(ToolOutput::error(text), revision).result
    }

    /// A refused `tools/call` as a result, with the challenge where clients look that never see a header.
    pub fn challenged_result(&self, refusal: &CallError, challenge: &str, revision: ProtocolVersion) -> CallOutcome {
        let meta = JsonObject::from_iter([(meta::WWW_AUTHENTICATE.to_owned(), json!([challenge]))]);
        let output = ToolOutput { meta: Some(meta), ..ToolOutput::error(refusal.to_string()) };
        self.0.tool_outcome(output, revision).of_kind(ResultKind::Challenged)
    }

    /// Whether something wants to run before the process ends.
    pub fn has_close_hook(&self) -> bool {
        self.0.has_close_hook()
    }

    /// Runs the close hook, the first time it is called.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Runs what is to be done before a snapshot of the process is taken.
    pub async fn before_snapshot(&self) {
        self.0.before_snapshot().await;
    }

    /// Runs what is to be done after the process was restored from a snapshot.
    pub async fn after_restore(&self) {
        self.0.after_restore().await;
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("server", self.0.info()).finish_non_exhaustive()
    }
}
