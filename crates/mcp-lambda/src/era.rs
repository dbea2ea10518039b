//! The protocol version of a request, and its `_meta`. An era is legacy (up to 2025-11-25) or modern (from 2026-07-28).

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

/// The largest `_meta` that is parsed. It holds names, progress tokens and capabilities.
const MAX_META_BYTES: usize = 64 * 1024;
/// The memory that parsing `_meta` may take, in addition to the arguments.
const META_BUDGET: Budget = Budget::memory(512 * 1024);

/// The protocol version and `_meta` of a request, which are needed before its item is resolved.
pub(crate) struct Head {
    pub(crate) revision: ProtocolVersion,
    pub(crate) meta: RequestMeta,
}

/// The parameters of a request, with members that are not parsed yet.
pub(crate) fn params<'a>(request: &Request<'a>) -> Result<RequestParams<'a>, CallError> {
    RequestParams::read(request.params).map_err(|error| CallError::InvalidParams(error.to_string()))
}

/// Determines the protocol version of a request, and checks the headers and `_meta` that a modern request requires.
///
/// The version is that of `_meta` or of the header. The method is ignored, so that `initialize` with a modern version is an unknown
/// method. A request with neither is legacy, because revisions before 2025-06-18 have no version header.
pub(crate) fn read_head(
    headers: &HeaderMap,
    method: &str,
    params: Result<RequestParams<'_>, CallError>,
) -> Result<Head, Rejection> {
    let header = headers::single(headers, &headers::PROTOCOL_VERSION).map_err(Rejection::modern)?;
    let raw_meta = params.as_ref().ok().and_then(|params| params.meta);
    let meta = raw_meta.map(read_meta);
    let declared = match &meta {
        Some(Ok(meta)) => meta.protocol_version.clone(),
        // If other members of `_meta` are invalid, the error is reported in the format of the version that it names.
        Some(Err(_)) => raw_meta.and_then(protocol_version),
        None => None,
    };
    let requested = declared.as_deref().or(header);
    let revision = match requested.map(ProtocolVersion::parse) {
        None => return legacy(ProtocolVersion::V2025_03_26, params, meta),
        Some(None) if declared.is_none() && method == method::INITIALIZE => {
            // `initialize` negotiates the version, so that its header is not authoritative.
            let meta = RequestMeta::default();
            return Ok(Head { revision: ProtocolVersion::LATEST_LEGACY, meta });
        }
        Some(revision) => revision,
    };
    if let (Some(declared), Some(header)) = (&declared, header)
        && declared != header
    {
        let reason = format!("header `MCP-Protocol-Version` and `{}` differ", meta::PROTOCOL_VERSION);
        return Err(Rejection::modern(CallError::HeaderMismatch(reason)));
    }
    let Some(revision) = revision else {
        let requested = requested.unwrap_or_default().to_owned();
        return Err(Rejection::modern(CallError::UnsupportedVersion { requested }));
    };
    if !revision.is_modern() {
        return legacy(revision, params, meta);
    }

    params.map_err(Rejection::modern)?;
    if header.is_none() {
        return Err(Rejection::modern(headers::missing_standard(headers, method)));
    }
    let meta = modern_meta(meta).map_err(Rejection::modern)?;
    Ok(Head { revision, meta })
}

fn legacy(
    revision: ProtocolVersion,
    params: Result<RequestParams<'_>, CallError>,
    meta: Option<Result<RequestMeta, CallError>>,
) -> Result<Head, Rejection> {
    params.map_err(Rejection::legacy)?;
    let own = meta.transpose().map_err(Rejection::legacy)?.unwrap_or_default();
    // Of `_meta`, legacy revisions define only the progress token and the trace context.
    let meta =
        RequestMeta { protocol_version: None, client_capabilities: None, client_info: None, log_level: None, ..own };
    Ok(Head { revision, meta })
}

/// A rejection before dispatch, with the era that decides its status.
pub(crate) struct Rejection {
    pub(crate) error: CallError,
    pub(crate) is_modern: bool,
}

impl Rejection {
    pub(crate) fn modern(error: CallError) -> Self {
        Self { error, is_modern: true }
    }

    fn legacy(error: CallError) -> Self {
        Self { error, is_modern: false }
    }
}

/// The protocol version in `_meta`, even if other members are invalid.
fn protocol_version(meta: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct VersionOnly {
        #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
        protocol_version: String,
    }
    json::borrow::<VersionOnly>(meta.get()).ok().map(|meta| meta.protocol_version)
}

/// `_meta` of a modern request. It must have the protocol version and the client capabilities.
fn modern_meta(meta: Option<Result<RequestMeta, CallError>>) -> Result<RequestMeta, CallError> {
    let (version, capabilities) = (meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES);
    let Some(meta) = meta.transpose()? else {
        return Err(CallError::InvalidMeta(format!("it is missing: `{version}` and `{capabilities}` are required")));
    };
    let reason = match (&meta.protocol_version, &meta.client_capabilities) {
        (Some(_), Some(_)) => return Ok(meta),
        (None, None) => format!("`{version}` and `{capabilities}` are missing"),
        (None, Some(_)) => format!("`{version}` is missing"),
        (Some(_), None) => format!("`{capabilities}` is missing"),
    };
    Err(CallError::InvalidMeta(reason))
}

pub(crate) fn read_meta(meta: &RawValue) -> Result<RequestMeta, CallError> {
    let text = meta.get();
    if !text.starts_with('{') || text.len() > MAX_META_BYTES {
        return Err(CallError::InvalidMeta(format!("it must be an object of at most {MAX_META_BYTES} bytes")));
    }
    json::read(text, META_BUDGET).map_err(|error| CallError::InvalidMeta(error.to_string()))
}

/// The head of a request in a batch, which is always legacy.
pub(crate) fn read_batched_head(
    revision: ProtocolVersion,
    params: Result<RequestParams<'_>, CallError>,
) -> Result<Head, Rejection> {
    let meta = params.as_ref().ok().and_then(|params| params.meta).map(read_meta);
    legacy(revision, params, meta)
}
