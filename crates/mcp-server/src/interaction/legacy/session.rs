//! The session id of clients of 2025-11-25: what a client declared in `initialize`.

use std::fmt;

use aws_lc_rs::digest;
use mcp_protocol::{ClientCapabilities, JsonObject, RequestId};
use serde_json::json;

use super::seal::{Purpose, Seals};

/// Maximum length of a session id.
const MAX_ID_BYTES: usize = 512;
/// The first byte of the content: the revision 2025-11-25.
const REVISION: u8 = 1;

/// A bit for each capability.
const FORM: u8 = 1;
const URL: u8 = 2;
const SAMPLING: u8 = 4;
const SAMPLING_TOOLS: u8 = 8;
const SAMPLING_CONTEXT: u8 = 16;
const ROOTS: u8 = 32;

/// What a session id contains: the revision 2025-11-25, and which questions the client declared to support.
///
/// It does not authenticate, and belongs to no caller, so that a client may initialize before it has a token. It also has the group
/// of the client's network, by which the open questions of anonymous callers are counted.
#[derive(Clone, PartialEq, Eq)]
pub struct LegacySession {
    pub(super) declared: u8,
    /// The group of the network that the client initialized from.
    pub(super) group: u16,
    /// A digest of the id, which tells the sessions of a caller apart.
    pub(super) tag: [u8; 16],
}

impl LegacySession {
    pub(super) fn seal(seals: &Seals, capabilities: &ClientCapabilities, group: u16) -> Option<String> {
        let [high, low] = group.to_be_bytes();
        seals.seal(Purpose::Session, None, &[REVISION, bits(capabilities), high, low])
    }

    pub(super) async fn open(seals: &Seals, id: &str) -> Option<Self> {
        let content = seals.open(Purpose::Session, None, id, MAX_ID_BYTES).await?;
        match content[..] {
            [REVISION, declared, high, low] => {
                let group = u16::from_be_bytes([high, low]);
                Some(Self { declared, group, tag: digest_of(&[id.as_bytes()]) })
            }
            _ => None,
        }
    }

    /// Returns the capabilities that the client declared, of those that questions need.
    pub fn capabilities(&self) -> ClientCapabilities {
        capabilities(self.declared)
    }

    /// Returns the key of a call of this session, among the open calls of its caller.
    pub(super) fn call_tag(&self, id: &RequestId) -> [u8; 16] {
        let id = serde_json::to_string(id).unwrap_or_default();
        digest_of(&[&self.tag, id.as_bytes()])
    }
}

impl fmt::Debug for LegacySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacySession").field("declared", &self.declared).finish_non_exhaustive()
    }
}

fn digest_of(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn bits(capabilities: &ClientCapabilities) -> u8 {
    let has = |object: &Option<JsonObject>, member: &str| {
        object.as_ref().is_some_and(|object| object.get(member).is_some_and(serde_json::Value::is_object))
    };
    let flags = [
        (capabilities.has_elicitation_form(), FORM),
        (has(&capabilities.elicitation, "url"), URL),
        (capabilities.sampling.is_some(), SAMPLING),
        (has(&capabilities.sampling, "tools"), SAMPLING_TOOLS),
        (has(&capabilities.sampling, "context"), SAMPLING_CONTEXT),
        (capabilities.roots.is_some(), ROOTS),
    ];
    flags.into_iter().filter(|(is_declared, _)| *is_declared).fold(0, |bits, (_, bit)| bits | bit)
}

/// Returns the capabilities of a session's bits.
pub(super) fn capabilities(declared: u8) -> ClientCapabilities {
    let members = |names: &[(u8, &str)]| {
        let own = names.iter().filter(|(bit, _)| declared & bit != 0);
        own.map(|(_, name)| ((*name).to_owned(), json!({}))).collect::<JsonObject>()
    };
    ClientCapabilities {
        roots: (declared & ROOTS != 0).then(JsonObject::new),
        sampling: (declared & SAMPLING != 0)
            .then(|| members(&[(SAMPLING_TOOLS, "tools"), (SAMPLING_CONTEXT, "context")])),
        elicitation: (declared & (FORM | URL) != 0).then(|| members(&[(FORM, "form"), (URL, "url")])),
        ..ClientCapabilities::default()
    }
}
