//! Which revision a request is made in, and what comes with it in `_meta`.

use http::HeaderMap;
use mcp_protocol::{MirroredParameter, ProtocolVersion, Request, RequestMeta, meta, method};
use mcp_server::CallError;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::headers;

/// The largest `_meta` that is read. It holds names, tokens and capabilities.
const MAX_META_BYTES: usize = 64 * 1024;

/// Decides which revision a request is made in, and checks what a modern one must bring along.
///
/// A version in `_meta` or in the header decides; the method does not, so that `initialize` on the modern wire is
/// an unknown method. Without either the request is legacy, as revisions before 2025-06-18 have no header.
pub(crate) fn of<'r>(
    headers: &HeaderMap,
    request: &Request<'_>,
    mirrored: impl Fn(&str) -> &'r [MirroredParameter],
) -> Result<(ProtocolVersion, RequestMeta), Refusal> {
    let header = headers::single(headers, headers::PROTOCOL_VERSION).map_err(Refusal::modern)?;
    let head = ParamsHead::of(request.params);
    let declared = head.as_ref().ok().and_then(ParamsHead::protocol_version);
    let requested = declared.as_deref().or(header);
    let revision = match requested.map(ProtocolVersion::parse) {
        None => return Ok((ProtocolVersion::V2025_03_26, legacy_meta(request.params).map_err(Refusal::legacy)?)),
        Some(None) if declared.is_none() && request.method == method::INITIALIZE => {
            // The handshake is where versions are agreed on; the header of such a request says nothing yet.
            return Ok((ProtocolVersion::LATEST_LEGACY, RequestMeta::default()));
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
        return Ok((revision, legacy_meta(request.params).map_err(Refusal::legacy)?));
    }

    let head = head.map_err(Refusal::modern)?;
    if header.is_none() {
        let reason = "header `MCP-Protocol-Version` is missing".to_owned();
        return Err(Refusal::modern(CallError::HeaderMismatch(reason)));
    }
    let meta = head.modern_meta().map_err(Refusal::modern)?;
    headers::check_standard(headers, &request.method, head.name, head.uri).map_err(Refusal::modern)?;
    if request.method == method::TOOLS_CALL {
        let tool: Option<String> = head.name.and_then(|name| serde_json::from_str(name.get()).ok());
        let parameters = mirrored(tool.as_deref().unwrap_or_default());
        headers::check_parameters(headers, parameters, head.arguments).map_err(Refusal::modern)?;
    }
    Ok((revision, meta))
}

/// A refusal before the router was asked, with the era that decides its status.
pub(crate) struct Refusal {
    pub(crate) error: CallError,
    pub(crate) is_modern: bool,
}

impl Refusal {
    fn modern(error: CallError) -> Self {
        Self { error, is_modern: true }
    }

    fn legacy(error: CallError) -> Self {
        Self { error, is_modern: false }
    }
}

/// The members of `params` that headers repeat, and `_meta`; the rest stays unread.
#[derive(Deserialize, Default)]
struct ParamsHead<'a> {
    #[serde(borrow, rename = "_meta", default)]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl<'a> ParamsHead<'a> {
    fn of(params: Option<&'a RawValue>) -> Result<Self, CallError> {
        let Some(params) = params else {
            return Ok(Self::default());
        };
        serde_json::from_str(params.get()).map_err(|error| CallError::InvalidParams(error.to_string()))
    }

    fn protocol_version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct VersionOnly {
            #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
            protocol_version: String,
        }
        serde_json::from_str::<VersionOnly>(self.meta?.get()).ok().map(|meta| meta.protocol_version)
    }

    fn modern_meta(&self) -> Result<RequestMeta, CallError> {
        let meta = read_meta(self.meta.ok_or_else(|| CallError::InvalidMeta("it is missing".to_owned()))?)?;
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
}

fn read_meta(meta: &RawValue) -> Result<RequestMeta, CallError> {
    let text = meta.get();
    if !text.starts_with('{') || text.len() > MAX_META_BYTES {
        return Err(CallError::InvalidMeta(format!("it must be an object of at most {MAX_META_BYTES} bytes")));
    }
    serde_json::from_str(text).map_err(|error| CallError::InvalidMeta(error.to_string()))
}

/// Of a legacy request's `_meta` only the progress token and trace context mean anything.
pub(crate) fn legacy_meta(params: Option<&RawValue>) -> Result<RequestMeta, CallError> {
    let Some(meta) = ParamsHead::of(params)?.meta else {
        return Ok(RequestMeta::default());
    };
    let own = read_meta(meta)?;
    Ok(RequestMeta { protocol_version: None, client_capabilities: None, client_info: None, log_level: None, ..own })
}
