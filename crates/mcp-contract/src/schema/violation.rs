//! Reasons why one schema accepts values that another rejects.

/// A reason why the narrow schema is not within the wide one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Location in the schema: names of members, `[]` for items, `*` for other members.
    pub(super) path: String,
    pub(super) what: What,
    /// Description of the narrow schema at this location.
    pub(super) narrow: String,
    /// Description of the wide schema at this location.
    pub(super) wide: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Type,
    Null,
    Choices,
    Bound(&'static str),
    Keyword(String),
    /// Both schemas declare the member, and only the wide one requires it.
    Required,
    /// Only one schema declares the member.
    Member(Member),
    /// The narrow schema allows other members.
    Open,
    /// An alternative of the old schema without a counterpart.
    Alternative,
    /// The schemas cannot be compared.
    Unknown,
}

/// A member that only one schema declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) narrow: Declaration,
    pub(super) wide: Declaration,
    /// Whether the new schema must declare the member, and no longer does.
    pub(super) is_removed: bool,
}

impl Member {
    /// Whether the wide schema is violated only by values that have the member without declaring it.
    pub(super) fn is_by_chance(self) -> bool {
        self.narrow == Declaration::None && self.wide != Declaration::Required
    }
}

/// How a schema declares a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declaration {
    None,
    Optional,
    Required,
}
