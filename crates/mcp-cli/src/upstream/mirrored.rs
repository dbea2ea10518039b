//! The headers of a message, with those that mirror parameters of a tool (2026-07-28, Streamable HTTP).

use std::time::Instant;

use anyhow::bail;
use mcp_protocol::{json, method};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{json, value::RawValue};
use tokio::sync::mpsc;

use super::Upstream;
use crate::{
    headers,
    message::{Envelope, Shape, fresh_id, request},
    received::Pages,
};

impl Upstream {
    pub(super) async fn headers(&self, envelope: &Envelope) -> HeaderMap {
        let mut headers = match envelope.modern_version() {
            Some(version) => {
                let tool = envelope.param(&["name"]).unwrap_or_default();
                if envelope.method() == Some(method::TOOLS_CALL) && !self.tools().knows(&tool, Instant::now()) {
                    self.learn_tools(envelope).await;
                }
                headers::of_modern(envelope, &version, self.tools().mirrored(&tool))
            }
            None if envelope.method() == Some(method::INITIALIZE) => HeaderMap::new(),
            None => self.legacy_headers(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers
    }

    /// Lists the tools: a call of a tool that the client has not listed may have parameters to mirror. If the list fails, the
    /// call is sent without them.
    pub(super) async fn learn_tools(&self, call: &Envelope) {
        let (mut cursor, mut pages) = (None, Pages::default());
        loop {
            cursor = match self.learn_page(call, cursor.as_deref(), &mut pages).await {
                Ok(Some(next)) => Some(next),
                Ok(None) => return,
                Err(error) => return tracing::info!("the tools could not be listed: {error:#}"),
            };
            if let Err(error) = cursor.as_deref().map_or(Ok(()), |next| pages.next(next)) {
                return tracing::warn!("the tools could not be listed: {error:#}");
            }
        }
    }

    /// Reads one page. Returns the cursor of the next one.
    pub(super) async fn learn_page(
        &self,
        call: &Envelope,
        cursor: Option<&str>,
        pages: &mut Pages,
    ) -> anyhow::Result<Option<String>> {
        let meta = match call.params() {
            Some(params) => mcp_protocol::lookup(params, &["_meta".to_owned()])?,
            None => None,
        };
        let mut params = json!({ "_meta": meta });
        if let Some(cursor) = cursor {
            params["cursor"] = json!(cursor);
        }
        let own = request(&fresh_id(), method::TOOLS_LIST, &params.to_string())?;
        let (unheard, _) = mpsc::unbounded_channel();
        // The tools of the response are cached on its way.
        let response = Box::pin(self.request(&own, &unheard)).await;
        pages.count(&response)?;
        let shape: Shape<'_> = json::borrow(&response)?;
        let Some(result) = shape.result else {
            bail!("{}", shape.error.map_or("the response has no result", RawValue::get));
        };
        let cursor = mcp_protocol::lookup(result, &["nextCursor".to_owned()])?;
        Ok(cursor.and_then(|cursor| json::borrow(cursor.get()).ok()))
    }
}
