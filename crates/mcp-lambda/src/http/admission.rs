//! Admission: authenticates the caller of a request to the endpoint, and counts the requests of anonymous callers. POST passes it, and
//! GET that resumes a stream.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use http::{Response, request::Parts};
use mcp_protocol::Incoming;
use mcp_server::Invocation;
use tracing::{Instrument, Span};

use super::{Transport, exchange::Exchange};
use crate::{Body, McpService, authentication::Challenger, headers::Accept, traces::server_span};

/// A request after admission.
pub(super) struct Admitted<'a> {
    pub(super) exchange: Exchange<'a>,
    /// The server span of the request.
    pub(super) span: Span,
    /// The response, if authentication failed or an anonymous caller is over its limit.
    pub(super) rejection: Option<Box<Response<Body>>>,
}

impl McpService {
    /// Authenticates the caller, and counts the request if the caller is anonymous. `message` is the parsed body; `None` for a
    /// request without one, or with a malformed one.
    pub(super) async fn admitted<'a>(
        &self,
        begin: Instant,
        parts: &'a Parts,
        message: Option<&Incoming<'_>>,
        transport: Option<&Transport>,
        challenger: Challenger<'a>,
        invocation: Invocation,
    ) -> Admitted<'a> {
        let iam = transport.and_then(|transport| transport.iam.as_ref());
        let span = server_span(message, &invocation);
        let admission = self.authenticator.admit(&parts.headers, challenger.own_url, iam, &invocation);
        let (principal, rejected) = match admission.instrument(span.clone()).await {
            Ok(principal) => (principal, None),
            Err(rejected) => (None, Some(rejected)),
        };
        #[cfg(any(feature = "limits", feature = "store"))]
        let address = parts.extensions.get().map(|crate::transport::SourceAddress(address)| *address);
        #[cfg(not(any(feature = "limits", feature = "store")))]
        let address = None;
        let invocation = Invocation { principal, address, ..invocation };
        #[cfg(feature = "token-exchange")]
        let invocation = self.authenticator.with_caller_token(&parts.headers, invocation);
        let invocation = Arc::new(invocation);
        let exchange = Exchange {
            headers: &parts.headers,
            accept: Accept::of(&parts.headers),
            log: Mutex::new(Some(self.logs.begin(&invocation, begin, span.clone()))),
            invocation,
            limits: self.limits(transport),
            challenger,
            #[cfg(feature = "limits")]
            address,
        };
        #[cfg(feature = "limits")]
        {
            let (address, is_authenticated) = (exchange.address, exchange.invocation.principal.is_some());
            let received = exchange.invocation.received;
            let counted = super::limits::counted(&parts.method, message);
            if let Some(limited) = self.count_anonymous(address, is_authenticated, rejected.as_ref(), counted, received)
            {
                let rejection = Some(Box::new(exchange.reject_anonymous(&limited, message)));
                return Admitted { exchange, span, rejection };
            }
        }
        let rejection = rejected.map(|rejected| Box::new(exchange.reject(&rejected, message)));
        Admitted { exchange, span, rejection }
    }
}
