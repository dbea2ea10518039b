//! Changes of a contract and their classes.

use std::fmt;

use mcp_protocol::json::shortened;

/// Effect of a change on clients that hold the old lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A call that was valid fails or means something else, or an output member that clients may rely on disappears.
    Breaking,
    /// Clients with the old lists keep working.
    Compatible,
    /// Text for models and users.
    Wording,
}

impl Class {
    /// Returns the name of the class in reports: `breaking`, `compatible` or `wording`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Breaking => "breaking",
            Self::Compatible => "compatible",
            Self::Wording => "wording",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One difference between two contracts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Effect on clients with the old lists.
    pub class: Class,
    /// Location, such as `tools.log_event.input.event_name`.
    pub at: String,
    /// Kind of the change, such as `bound-narrowed`. docs/contracts.md lists all kinds.
    pub kind: &'static str,
    /// Description of the change, with the old and the new value.
    pub detail: String,
    /// Whether a client with the new lists works with the old version: `false` if one of its calls may fail, or a result
    /// may violate the output schema. It matters while a deployment serves both versions.
    pub is_reversible: bool,
}

impl Change {
    /// Maximum length of a location in characters. Names in it may come from a foreign server.
    const MAX_AT: usize = 200;

    pub(crate) fn new(class: Class, at: &str, kind: &'static str, detail: impl Into<String>) -> Self {
        let at = match at.char_indices().nth(Self::MAX_AT) {
            Some((end, _)) => format!("{}…", &at[..end]),
            None => at.to_owned(),
        };
        let detail = shortened(&detail.into());
        // An item that only one version has does not affect clients with the new lists.
        Self { class, at, kind, detail, is_reversible: true }
    }

    pub(crate) fn one_way(mut self) -> Self {
        self.is_reversible = false;
        self
    }

    /// Returns the name by which a breaking change is accepted: location and kind, such as
    /// `tools.log_event.input.event_name:bound-narrowed`. White space is replaced by `_`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.at, self.kind).split_whitespace().collect::<Vec<_>>().join("_")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}", self.class, self.name(), self.detail)
    }
}
