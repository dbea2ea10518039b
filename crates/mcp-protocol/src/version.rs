//! Protocol revisions.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Revision of the protocol, named by its date. Later revisions compare greater.
///
/// 2026-07-28 is *modern*: every request has its version, and there is no handshake. Older revisions are *legacy*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, reason = "a revision's name is its date, and dates need separators")]
pub enum ProtocolVersion {
    /// 2024-11-05, here over Streamable HTTP.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, tool annotations, batches.
    V2025_03_26,
    /// 2025-06-18: structured tool output, resource links, the `MCP-Protocol-Version` header; no batches.
    V2025_06_18,
    /// 2025-11-25: icons; the newest revision with a handshake.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

impl ProtocolVersion {
    /// All supported revisions, newest first.
    pub const ALL: [Self; 5] =
        [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// Newest revision.
    pub const LATEST: Self = Self::V2026_07_28;

    /// Newest revision with an `initialize` handshake. The server selects it if `initialize` requests an unsupported
    /// version.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;

    /// Returns the revision's name on the wire, such as `2026-07-28`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Parses a revision's name; `None` if it is not supported. Names are compared exactly.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }

    /// Returns whether each request has its version and capabilities; otherwise a handshake declares them.
    pub const fn is_modern(self) -> bool {
        matches!(self, Self::V2026_07_28)
    }

    /// Returns whether a member that the revision `since` introduced may be sent in this revision.
    ///
    /// 2025-03-26 may have members of every later revision with a handshake: a request without the header
    /// `MCP-Protocol-Version` counts as 2025-03-26, and some clients of later revisions omit the header. The schema of
    /// 2025-03-26 allows further members, so its clients ignore them. Do not use it for new types of values, nor for
    /// the result of `initialize`, since that request has an explicit revision.
    pub fn may_have(self, since: Self) -> bool {
        self >= since || (self == Self::V2025_03_26 && !since.is_modern())
    }

    /// Returns whether a body may be a JSON-RPC batch. Only 2025-03-26 has batches.
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ProtocolVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProtocolVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&name)
            .ok_or_else(|| serde::de::Error::custom(format_args!("`{name}` is not a supported protocol version")))
    }
}
