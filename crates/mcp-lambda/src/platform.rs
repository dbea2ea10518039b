//! What Lambda adds to an invocation, for handlers.

use std::sync::Arc;

use mcp_server::{Invocation, RequestContext};

/// What Lambda says of an invocation beside its id and deadline. It travels in [`Invocation::platform`].
#[derive(Debug, Clone, Default)]
pub struct LambdaInvocation {
    /// The X-Ray trace header, if there is one.
    pub xray_trace_id: Option<String>,
    /// What an exchange of the caller's token needs, where one is configured.
    #[cfg(feature = "token-exchange")]
    pub(crate) caller: Option<crate::token_exchange::Caller>,
}

impl LambdaInvocation {
    /// An invocation of this id with an X-Ray trace header.
    pub fn traced(request_id: impl Into<String>, xray_trace_id: impl Into<String>) -> Invocation {
        Invocation { request_id: request_id.into(), ..Self::with_trace(Some(xray_trace_id.into())) }
    }

    pub(crate) fn with_trace(xray_trace_id: Option<String>) -> Invocation {
        let own = xray_trace_id.map(|id| Self {
            xray_trace_id: Some(id),
            #[cfg(feature = "token-exchange")]
            caller: None,
        });
        Invocation { platform: own.map(|own| Arc::new(own) as _), ..Invocation::default() }
    }

    pub(crate) fn trace_of(invocation: &Invocation) -> Option<&str> {
        let own: &Self = invocation.platform.as_deref()?.downcast_ref()?;
        own.xray_trace_id.as_deref()
    }
}

/// What a handler on Lambda gets beside what every handler gets.
///
/// ```
/// use mcp_lambda::{HandlerError, LambdaContext, NoArguments, ToolContext};
///
/// async fn trace(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
///     Ok(context.xray_trace_id().unwrap_or("not traced").to_owned())
/// }
/// ```
pub trait LambdaContext {
    /// The invocation's X-Ray trace header.
    ///
    /// A tool that calls AWS should send it on as `X-Amzn-Trace-Id`, by which Lambda ends recursive loops and X-Ray joins what
    /// belongs together. AWS's SDK would take it from the variable `_X_AMZN_TRACE_ID`, which is not set: a process with threads
    /// cannot change its environment safely.
    fn xray_trace_id(&self) -> Option<&str>;
}

impl<S> LambdaContext for RequestContext<S> {
    fn xray_trace_id(&self) -> Option<&str> {
        self.platform::<LambdaInvocation>()?.xray_trace_id.as_deref()
    }
}
