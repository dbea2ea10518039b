//! Lists in pages, rendered once.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_protocol::ProtocolVersion;

/// A value for each revision.
pub(crate) struct PerRevision<T>([T; ProtocolVersion::ALL.len()]);

impl<T> PerRevision<T> {
    pub(crate) fn new(value: impl Fn(ProtocolVersion) -> T) -> Self {
        Self(ProtocolVersion::ALL.map(value))
    }

    pub(crate) fn get(&self, revision: ProtocolVersion) -> &T {
        // `ALL` is newest first and the enum oldest first.
        &self.0[ProtocolVersion::ALL.len() - 1 - revision as usize]
    }
}

/// The pages of one list. A cursor encodes the position of its page, so that it is valid in every environment. After
/// a deployment with another page size it is rejected.
pub(crate) struct Pages<T> {
    pages: Vec<(usize, T)>,
}

impl<T> Pages<T> {
    /// Splits `items` into pages of `size` (one page if `None`) and renders each; `render` receives the cursor of the
    /// next page.
    pub(crate) fn new<I>(items: &[I], size: Option<usize>, render: impl Fn(&[I], Option<String>) -> T) -> Self {
        let size = size.unwrap_or(items.len()).max(1);
        let starts = (0..items.len().max(1)).step_by(size);
        let pages = starts.map(|start| {
            let end = items.len().min(start + size);
            let next = (end < items.len()).then(|| encode(end));
            (start, render(&items[start..end], next))
        });
        Self { pages: pages.collect() }
    }

    /// Returns the page of a cursor, or the first one. `None` if the cursor is not one of this list.
    pub(crate) fn get(&self, cursor: Option<&str>) -> Option<&T> {
        let wanted = cursor.map_or(Some(0), decode)?;
        self.pages.iter().find(|(start, _)| *start == wanted).map(|(_, page)| page)
    }
}

fn encode(position: usize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("from:{position}"))
}

fn decode(cursor: &str) -> Option<usize> {
    decode_text(cursor)?.strip_prefix("from:")?.parse().ok()
}

fn decode_text(cursor: &str) -> Option<String> {
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// A position in a list of registered items, followed by those that handlers list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListPosition {
    /// At this position of the registered items.
    Registered(usize),
    /// In the list of a handler.
    Handler {
        /// Its index among the handlers that list resources.
        lister: usize,
        /// Number of items of its page that were already returned.
        skip: usize,
        /// The handler's cursor of the page; `None` for its first.
        cursor: Option<String>,
    },
}

impl ListPosition {
    pub(crate) fn decode(cursor: Option<&str>) -> Option<Self> {
        let Some(cursor) = cursor else {
            return Some(Self::Registered(0));
        };
        if let Some(position) = decode(cursor) {
            return Some(Self::Registered(position));
        }
        let text = decode_text(cursor)?;
        let (lister, rest) = text.strip_prefix("by:")?.split_once('+')?;
        let (skip, own) = match rest.split_once(':') {
            Some((skip, own)) => (skip, Some(own.to_owned())),
            None => (rest, None),
        };
        Some(Self::Handler { lister: lister.parse().ok()?, skip: skip.parse().ok()?, cursor: own })
    }

    /// Returns the beginning of a handler's list.
    pub(crate) fn handler(lister: usize) -> Self {
        Self::Handler { lister, skip: 0, cursor: None }
    }

    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Registered(position) => encode(*position),
            Self::Handler { lister, skip, cursor: None } => {
                BASE64_URL_SAFE_NO_PAD.encode(format!("by:{lister}+{skip}"))
            }
            Self::Handler { lister, skip, cursor: Some(own) } => {
                BASE64_URL_SAFE_NO_PAD.encode(format!("by:{lister}+{skip}:{own}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Page = (Vec<u32>, Option<String>);

    fn pages(count: u32, size: Option<usize>) -> Pages<Page> {
        Pages::new(&(0..count).collect::<Vec<_>>(), size, |items, next| (items.to_vec(), next))
    }

    #[test]
    fn following_the_cursors_yields_every_item_once_in_order() {
        for (count, size) in [(0, None), (1, None), (7, None), (7, Some(3)), (6, Some(3)), (2, Some(10)), (3, Some(1))]
        {
            let pages = pages(count, size);
            let mut seen: Vec<u32> = Vec::new();
            let mut cursor = None;
            loop {
                let (items, next) = pages.get(cursor.as_deref()).unwrap();
                seen.extend(items);
                match next {
                    Some(next) => cursor = Some(next.clone()),
                    None => break,
                }
            }

            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{count} by {size:?}");
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_rejected() {
        for cursor in ["", "x", "3", &encode(2), &encode(9), &encode(usize::MAX), "ZnJvbTotMQ"] {
            assert!(pages(7, Some(3)).get(Some(cursor)).is_none(), "{cursor}");
        }
    }

    #[test]
    fn a_position_is_restored_from_its_cursor() {
        for place in [
            ListPosition::Registered(3),
            ListPosition::handler(1),
            ListPosition::Handler { lister: 0, skip: 7, cursor: Some(String::new()) },
            ListPosition::Handler { lister: 2, skip: 0, cursor: Some("a:b+é".to_owned()) },
        ] {
            assert_eq!(ListPosition::decode(Some(&place.encode())), Some(place));
        }
        assert_eq!(ListPosition::decode(None), Some(ListPosition::Registered(0)));
        assert_eq!(ListPosition::decode(Some("by:1")), None);
    }

    #[test]
    fn each_revision_has_its_own_value() {
        let names = PerRevision::new(|revision| revision.as_str());

        for revision in ProtocolVersion::ALL {
            assert_eq!(*names.get(revision), revision.as_str());
        }
    }
}
