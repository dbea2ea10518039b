//! Which revision a request is made in, and what comes with it in `_meta`.

use http::HeaderMap;
use mcp_protocol::{
    ProtocolVersion, Request, RequestMeta, RequestParams,
    json::{self, Budget},
    meta, method,
};
use mcp_server::CallError;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::headers;

/// The largest `_meta` that is read. It holds names, tokens and capabilities.
const MAX_META_BYTES: usize = 64 * 1024;
/// What reading it may cost in memory, beside the arguments.
const META_BUDGET: Budget = Budget::memory(512 * 1024);

/// What decides how a request is served, before its item is looked up.
pub(crate) struct Head {
    pub(crate) revision: ProtocolVersion,
    pub(crate) meta: RequestMeta,
}

/// The parameters of a request, its members unread.
pub(crate) fn params<'a>(request: &Request<'a>) -> Result<RequestParams<'a>, CallError> {
    RequestParams::read(request.params).map_err(|error| CallError::InvalidParams(error.to_string()))
}

/// Decides which revision a request is made in, and checks what a modern one must bring along.
///
/// A version in `_meta` or in the header decides; the method does not, so that `initialize` on the modern wire is
/// an unknown method. Without either the request is legacy, as revisions before 2025-06-18 have no header.
pub(crate) fn of(
    headers: &HeaderMap,
    method: &str,
    params: Result<RequestParams<'_>, CallError>,
) -> Result<Head, Refusal> {
    let header = headers::single(headers, &headers::PROTOCOL_VERSION).map_err(Refusal::modern)?;
    let raw_meta = params.as_ref().ok().and_then(|params| params.meta);
    let meta = raw_meta.map(read_meta);
    let declared = match &meta {
        Some(Ok(meta)) => meta.protocol_version.clone(),
        // Further errors are reported in the format of the version that it names.
        Some(Err(_)) => raw_meta.and_then(protocol_version),
        None => None,
    };
    let requested = declared.as_deref().or(header);
    let revision = match requested.map(ProtocolVersion::parse) {
        None => return legacy(ProtocolVersion::V2025_03_26, params, meta),
        Some(None) if declared.is_none() && method == method::INITIALIZE => {
            // The handshake is where versions are agreed on; the header of such a request says nothing yet.
            let meta = RequestMeta::default();
            return Ok(Head { revision: ProtocolVersion::LATEST_LEGACY, meta });
        }
        Some(revision) => revision,
    };
    if let (Some(declared), Some(header)) = (&declared, header)
        && declared != header
    {
        let reason = format!("header `MCP-Protocol-Version` and `{}` differ", meta::PROTOCOL_VERSION);
        return Err(Refusal::modern(CallError::HeaderMismatch(reason)));
    }
    let Some(revision) = revision else {
        let requested = requested.unwrap_or_default().to_owned();
        return Err(Refusal::modern(CallError::UnsupportedVersion { requested }));
    };
    if !revision.is_modern() {
        return legacy(revision, params, meta);
    }

    params.map_err(Refusal::modern)?;
    if header.is_none() {
        let reason = "header `MCP-Protocol-Version` is missing".to_owned();
        return Err(Refusal::modern(CallError::HeaderMismatch(reason)));
    }
    let meta = modern_meta(meta).map_err(Refusal::modern)?;
    Ok(Head { revision, meta })
}

fn legacy(
    revision: ProtocolVersion,
    params: Result<RequestParams<'_>, CallError>,
    meta: Option<Result<RequestMeta, CallError>>,
) -> Result<Head, Refusal> {
    params.map_err(Refusal::legacy)?;
    let own = meta.transpose().map_err(Refusal::legacy)?.unwrap_or_default();
    // Only the progress token and trace context mean anything there.
    let meta =
        RequestMeta { protocol_version: None, client_capabilities: None, client_info: None, log_level: None, ..own };
    Ok(Head { revision, meta })
}

/// A rejection before dispatch, with the era that decides its status.
pub(crate) struct Refusal {
    pub(crate) error: CallError,
    pub(crate) is_modern: bool,
}

impl Refusal {
    pub(crate) fn modern(error: CallError) -> Self {
        Self { error, is_modern: true }
    }

    fn legacy(error: CallError) -> Self {
        Self { error, is_modern: false }
    }
}

/// The version that a `_meta` names, also if its other members are invalid.
fn protocol_version(meta: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct VersionOnly {
        #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
        protocol_version: String,
    }
    json::borrow::<VersionOnly>(meta.get()).ok().map(|meta| meta.protocol_version)
}

/// `_meta` of a modern request, which must be there and say these.
fn modern_meta(meta: Option<Result<RequestMeta, CallError>>) -> Result<RequestMeta, CallError> {
    let meta = meta.unwrap_or_else(|| Err(CallError::InvalidMeta("it is missing".to_owned())))?;
    for (name, is_missing) in [
        (meta::PROTOCOL_VERSION, meta.protocol_version.is_none()),
        (meta::CLIENT_CAPABILITIES, meta.client_capabilities.is_none()),
    ] {
        if is_missing {
            return Err(CallError::InvalidMeta(format!("`{name}` is missing")));
        }
    }
    Ok(meta)
}

fn read_meta(meta: &RawValue) -> Result<RequestMeta, CallError> {
    let text = meta.get();
    if !text.starts_with('{') || text.len() > MAX_META_BYTES {
        return Err(CallError::InvalidMeta(format!("it must be an object of at most {MAX_META_BYTES} bytes")));
    }
    json::read(text, META_BUDGET).map_err(|error| CallError::InvalidMeta(error.to_string()))
}

/// What a request of a batch, which is legacy, brings along.
pub(crate) fn of_batched(
    revision: ProtocolVersion,
    params: Result<RequestParams<'_>, CallError>,
) -> Result<Head, Refusal> {
    let meta = params.as_ref().ok().and_then(|params| params.meta).map(read_meta);
    legacy(revision, params, meta)
}
