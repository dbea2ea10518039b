//! Reasons why one schema accepts values that another rejects.

/// A reason why the narrow schema is not within the wide one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Location in the schema: names of members, `[]` for items, `*` for other members.
    pub(super) path: String,
    pub(super) what: What,
    /// What the narrow schema has there, in words.
    pub(super) narrow: String,
    /// What the wide schema has there, in words.
    pub(super) wide: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Type,
    Null,
    Choices,
    Bound(&'static str),
    Keyword(String),
    /// Both declare the member, the wide schema requires it.
    Required,
    /// Not both declare the member.
    Member(Member),
    /// The narrow schema allows other members.
    Open,
    /// An alternative of the old schema without a counterpart.
    Alternative,
    /// The comparison gave up.
    Unknown,
}

/// A member that not both schemas declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) narrow: Declaration,
    pub(super) wide: Declaration,
    /// Whether the new schema does not declare it any more, where it must.
    pub(super) is_removed: bool,
}

impl Member {
    /// Whether only an undeclared member of that name would violate the wide schema.
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
