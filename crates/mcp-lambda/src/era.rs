//! Which revision a request is made in, and what comes with it in `_meta`.

use std::borrow::Cow;

use http::HeaderMap;
use mcp_protocol::{
    MirroredParameter, ProtocolVersion, Request, RequestMeta,
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

/// A request, as far as it is read before the router is asked.
pub(crate) struct Head<'a> {
    pub(crate) revision: ProtocolVersion,
    pub(crate) meta: RequestMeta,
    /// `name` of the parameters, if it is a string.
    pub(crate) name: Option<Cow<'a, str>>,
    /// `uri` of the parameters, if it is a string.
    pub(crate) uri: Option<Cow<'a, str>>,
}

/// Decides which revision a request is made in, and checks what a modern one must bring along.
///
/// A version in `_meta` or in the header decides; the method does not, so that `initialize` on the modern wire is
/// an unknown method. Without either the request is legacy, as revisions before 2025-06-18 have no header.
pub(crate) fn of<'a, 'r>(
    headers: &HeaderMap,
    request: &Request<'a>,
    mirrored: impl Fn(&str) -> &'r [MirroredParameter],
) -> Result<Head<'a>, Refusal> {
    let header = headers::single(headers, &headers::PROTOCOL_VERSION).map_err(Refusal::modern)?;
    let head = ParamsHead::of(request.params);
    let meta = head.as_ref().ok().and_then(|head| head.meta.map(read_meta));
    let declared = match &meta {
        Some(Ok(meta)) => meta.protocol_version.clone(),
        // What else is wrong with it is told in the words of the version that it names.
        Some(Err(_)) => head.as_ref().ok().and_then(ParamsHead::protocol_version),
        None => None,
    };
    let requested = declared.as_deref().or(header);
    let revision = match requested.map(ProtocolVersion::parse) {
        None => return legacy(ProtocolVersion::V2025_03_26, head, meta),
        Some(None) if declared.is_none() && request.method == method::INITIALIZE => {
            // The handshake is where versions are agreed on; the header of such a request says nothing yet.
            let meta = RequestMeta::default();
            return Ok(Head { revision: ProtocolVersion::LATEST_LEGACY, meta, name: None, uri: None });
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
        return legacy(revision, head, meta);
    }

    let head = head.map_err(Refusal::modern)?;
    if header.is_none() {
        let reason = "header `MCP-Protocol-Version` is missing".to_owned();
        return Err(Refusal::modern(CallError::HeaderMismatch(reason)));
    }
    let meta = modern_meta(meta).map_err(Refusal::modern)?;
    let (name, uri) = (head.name.and_then(text), head.uri.and_then(text));
    headers::check_standard(headers, &request.method, name.as_deref(), uri.as_deref()).map_err(Refusal::modern)?;
    if request.method == method::TOOLS_CALL {
        let parameters = mirrored(name.as_deref().unwrap_or_default());
        headers::check_parameters(headers, parameters, head.arguments).map_err(Refusal::modern)?;
    }
    Ok(Head { revision, meta, name, uri })
}

fn legacy<'a>(
    revision: ProtocolVersion,
    head: Result<ParamsHead<'a>, CallError>,
    meta: Option<Result<RequestMeta, CallError>>,
) -> Result<Head<'a>, Refusal> {
    let head = head.map_err(Refusal::legacy)?;
    let own = meta.transpose().map_err(Refusal::legacy)?.unwrap_or_default();
    // Only the progress token and trace context mean anything there.
    let meta =
        RequestMeta { protocol_version: None, client_capabilities: None, client_info: None, log_level: None, ..own };
    Ok(Head { revision, meta, name: head.name.and_then(text), uri: head.uri.and_then(text) })
}

/// A string, borrowed unless it has escapes.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    json::borrow::<Text<'_>>(raw.get()).ok().map(|text| text.0)
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
        json::borrow(params.get()).map_err(|error| CallError::InvalidParams(error.to_string()))
    }

    fn protocol_version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct VersionOnly {
            #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
            protocol_version: String,
        }
        json::borrow::<VersionOnly>(self.meta?.get()).ok().map(|meta| meta.protocol_version)
    }
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

/// `name` and `uri` of a request's parameters, where they are strings; nothing else is read.
pub(crate) fn target<'a>(request: &Request<'a>) -> (Option<Cow<'a, str>>, Option<Cow<'a, str>>) {
    let head = ParamsHead::of(request.params).unwrap_or_default();
    (head.name.and_then(text), head.uri.and_then(text))
}

/// What a request of a batch, which is legacy, brings along.
pub(crate) fn of_batched<'a>(revision: ProtocolVersion, request: &Request<'a>) -> Result<Head<'a>, Refusal> {
    let head = ParamsHead::of(request.params);
    let meta = head.as_ref().ok().and_then(|head| head.meta.map(read_meta));
    legacy(revision, head, meta)
}
