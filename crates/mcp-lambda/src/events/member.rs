//! Members of an event. A member may be absent or of an unexpected type.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::EventError;

/// A member of an event.
#[derive(Default)]
pub(super) enum Member<T> {
    /// Missing or `null`.
    #[default]
    Absent,
    Is(T),
    /// Of an unexpected type.
    Other,
}

impl<T> Member<T> {
    /// The value; `None` if absent.
    ///
    /// # Errors
    ///
    /// When the member is of an unexpected type.
    pub(super) fn read(self) -> Result<Option<T>, EventError> {
        match self {
            Self::Absent => Ok(None),
            Self::Is(value) => Ok(Some(value)),
            Self::Other => Err(EventError::unexpected_member_type()),
        }
    }
}

/// The JSON types that a member accepts. The defaults reject a type.
pub(super) trait FromMember<'de>: Sized {
    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_map<M: MapAccess<'de>>(mut map: M) -> Result<Option<Self>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn from_seq<A: SeqAccess<'de>>(mut elements: A) -> Result<Option<Self>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<'de, T: FromMember<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor(PhantomData))
    }
}

struct MemberVisitor<T>(PhantomData<T>);

impl<'de, T: FromMember<'de>> Visitor<'de> for MemberVisitor<T> {
    type Value = Member<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of an event")
    }

    fn visit_unit<E>(self) -> Result<Member<T>, E> {
        Ok(Member::Absent)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Member<T>, E> {
        Ok(T::from_text(text.into()).map_or(Member::Other, Member::Is))
    }

    fn visit_str<E>(self, text: &str) -> Result<Member<T>, E> {
        Ok(T::from_text(text.to_owned().into()).map_or(Member::Other, Member::Is))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Member<T>, E> {
        Ok(T::from_bool(value).map_or(Member::Other, Member::Is))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Member<T>, M::Error> {
        Ok(T::from_map(map)?.map_or(Member::Other, Member::Is))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Member<T>, A::Error> {
        Ok(T::from_seq(elements)?.map_or(Member::Other, Member::Is))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member<T>, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member<T>, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member<T>, E> {
        Ok(Member::Other)
    }
}

/// A string, borrowed from the event unless it contains escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> FromMember<'de> for Text<'a> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }
}

impl FromMember<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}
