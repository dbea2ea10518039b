//! Lambda-specific properties of an invocation, for handlers.

use std::sync::Arc;

use mcp_server::{Invocation, RequestContext};

/// Properties of a Lambda invocation besides its id and deadline: the value of [`Invocation::platform`].
#[derive(Debug, Clone, Default)]
pub struct LambdaInvocation {
    /// The X-Ray trace header, if there is one.
    pub xray_trace_id: Option<String>,
    /// The caller's token and the token exchange client, if one is configured.
    #[cfg(feature = "token-exchange")]
    pub(crate) caller: Option<crate::token_exchange::CallerToken>,
}

impl LambdaInvocation {
    /// Creates an invocation with an id and an X-Ray trace header, for a runtime loop or a test of your own.
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

/// Lambda-specific methods of a handler's context. Import the trait to use them.
///
/// ```
/// use mcp_lambda::{HandlerError, LambdaContext, NoArguments, ToolContext};
///
/// async fn trace(context: ToolContext<()>, _: NoArguments) -> Result<String, HandlerError> {
///     Ok(context.xray_trace_id().unwrap_or("not traced").to_owned())
/// }
/// ```
pub trait LambdaContext {
    /// The X-Ray trace header of the invocation; `None` outside of Lambda.
    ///
    /// A handler that calls AWS should forward it as `X-Amzn-Trace-Id`: Lambda detects recursive loops by it, and X-Ray joins the
    /// traces. The AWS SDK reads it from the variable `_X_AMZN_TRACE_ID`, which this crate does not set, because a process with
    /// several threads cannot change its environment safely.
    fn xray_trace_id(&self) -> Option<&str>;
}

impl<S> LambdaContext for RequestContext<S> {
    fn xray_trace_id(&self) -> Option<&str> {
        self.platform::<LambdaInvocation>()?.xray_trace_id.as_deref()
    }
}
