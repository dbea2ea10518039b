//! URI templates ([RFC 6570](https://www.rfc-editor.org/rfc/rfc6570)): `{name}` of level 1 and `{+name}` of level 2,
//! matched against URIs to extract the values of variables.

use std::{collections::BTreeMap, ops::Range};

use mcp_protocol::uri::{NormalUri, RESERVED, is_unreserved, is_uri_text};
use percent_encoding::percent_decode_str;

/// A longer URI matches no template. Each position of a URI is compared once with each part of a template.
const MAX_URI_BYTES: usize = 8 * 1024;

/// A parsed template in its normal form ([`NormalUri`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UriTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable { name: String, is_reserved: bool },
}

impl UriTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The message about an invalid template, for its author.
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        // Expressions contain no reserved characters; normalization keeps them.
        let template = NormalUri::new(template);
        let mut rest = template.as_str();
        while let Some((literal, after)) = rest.split_once('{') {
            let (expression, after) = after.split_once('}').ok_or("`{` is not closed")?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            if matches!(parts.last(), Some(Part::Variable { .. })) {
                return Err("a literal character is required between two variables".to_owned());
            }
            let (name, is_reserved) = match expression.strip_prefix('+') {
                Some(name) => (name, true),
                None => (expression, false),
            };
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(format!("`{{{expression}}}` is not of the forms `{{name}}` and `{{+name}}`"));
            }
            let is_known = |part: &Part| matches!(part, Part::Variable { name: known, .. } if known == name);
            if parts.iter().any(is_known) {
                return Err(format!("the variable `{name}` occurs twice"));
            }
            parts.push(Part::Variable { name: name.to_owned(), is_reserved });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let is_uri = |part: &Part| match part {
            Part::Literal(text) => is_uri_text(text),
            Part::Variable { .. } => true,
        };
        if !parts.iter().all(is_uri) {
            return Err("the URI has invalid characters: percent-encode them".to_owned());
        }
        if !matches!(parts.first(), Some(Part::Literal(scheme)) if scheme.contains(':')) {
            return Err("a template must begin with its scheme, such as `events:`".to_owned());
        }
        Ok(Self { parts })
    }

    /// Returns the names of the variables, in order.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Expands the template with a letter for each variable.
    pub(crate) fn example(&self) -> NormalUri {
        let parts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Variable { .. } => "a",
        });
        NormalUri::new(&parts.collect::<String>())
    }

    /// Returns the values whose expansion is equivalent to this URI; `None` if it does not match. A value has at least one character,
    /// and is as short as possible.
    ///
    /// Values are decoded once. A value with a segment `.` or `..` does not match: unencoded, such a segment would have
    /// been removed from the URI.
    pub(crate) fn values_in(&self, uri: &NormalUri) -> Option<BTreeMap<String, String>> {
        let (text, host) = (uri.as_str(), uri.host());
        let bytes = text.as_bytes();
        if bytes.len() > MAX_URI_BYTES {
            return None;
        }
        // matches[part][position]: whether the parts from `part` on match the URI from `position` on.
        let mut matches = vec![vec![false; bytes.len() + 1]; self.parts.len() + 1];
        matches[self.parts.len()][bytes.len()] = true;
        for (index, part) in self.parts.iter().enumerate().rev() {
            for position in (0..bytes.len()).rev() {
                matches[index][position] = match part {
                    Part::Literal(literal) => {
                        starts_with(bytes, position, literal, &host) && matches[index + 1][position + literal.len()]
                    }
                    Part::Variable { is_reserved, .. } => {
                        let can_end = !is_inside_triplet(bytes, position + 1) && matches[index + 1][position + 1];
                        is_allowed_in_value(bytes, position, *is_reserved) && (can_end || matches[index][position + 1])
                    }
                };
            }
        }
        if !matches[0][0] {
            return None;
        }
        let mut values = BTreeMap::new();
        let mut position = 0;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => position += literal.len(),
                Part::Variable { name, .. } => {
                    let can_end = |end: &usize| matches[index + 1][*end] && !is_inside_triplet(bytes, *end);
                    let end = (position + 1..=bytes.len()).find(can_end)?;
                    let value = percent_decode_str(text.get(position..end)?).decode_utf8().ok()?;
                    if value.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
                        return None;
                    }
                    values.insert(name.clone(), value.into_owned());
                    position = end;
                }
            }
        }
        Some(values)
    }
}

/// Reports whether a URI has a literal at a position, ignoring case in the host.
fn starts_with(bytes: &[u8], position: usize, literal: &str, host: &Range<usize>) -> bool {
    let text = bytes[position..].iter().enumerate();
    let is_same = |(own, (offset, byte)): (&u8, (usize, &u8))| {
        own == byte || (host.contains(&(position + offset)) && own.eq_ignore_ascii_case(byte))
    };
    literal.len() <= bytes.len() - position && literal.as_bytes().iter().zip(text).all(is_same)
}

/// Reports whether a byte may be part of a variable's value in a URI (RFC 6570, section 3.2.1).
fn is_allowed_in_value(bytes: &[u8], position: usize, is_reserved: bool) -> bool {
    let byte = bytes[position];
    if byte == b'%' {
        let digits = bytes.get(position + 1..position + 3);
        return digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    }
    is_unreserved(byte) || (is_reserved && RESERVED.contains(&byte))
}

/// Reports whether a position is within a percent-encoded byte.
fn is_inside_triplet(bytes: &[u8], position: usize) -> bool {
    (1..=2).any(|back| position.checked_sub(back).and_then(|start| bytes.get(start)) == Some(&b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(template: &str, uri: &str) -> Option<Vec<(String, String)>> {
        UriTemplate::parse(template).unwrap().values_in(&NormalUri::new(uri)).map(|values| values.into_iter().collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn variables_are_extracted_and_decoded() {
        for (template, uri, expected) in [
            ("events://{id}", "events://42", pairs(&[("id", "42")])),
            ("events://{id}", "events://a%2Fb%20%C3%A9", pairs(&[("id", "a/b é")])),
            ("test://template/{id}/data", "test://template/123/data", pairs(&[("id", "123")])),
            ("x:{a}-{b}", "x:1-2-3", pairs(&[("a", "1"), ("b", "2-3")])),
            ("x:{a}2{b}", "x:%2020", pairs(&[("a", " "), ("b", "0")])),
            ("x:{a}data{b}", "x:datadatadata", pairs(&[("a", "data"), ("b", "data")])),
            ("file:///{+path}", "file:///src/main.rs", pairs(&[("path", "src/main.rs")])),
            ("file:///{+path}.rs", "file:///src/a.rs/b.rs", pairs(&[("path", "src/a.rs/b")])),
        ] {
            assert_eq!(values(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn equivalent_uris_have_the_same_values() {
        for (template, spellings) in [
            ("events://{id}", &["events://A", "Events://%41", "events://A/", "events://A:", "events://A/b/.."][..]),
            ("docs://Files-{id}/b", &["docs://files-A/b", "DOCS://FILES-A/./b", "docs://f%49les-A/c/../b"]),
            ("docs://files-%7eb/../a/{id}", &["docs://files-~b/a/A", "docs://FILES-%7Eb/%61/A"]),
            ("https://a.example:443/{id}", &["https://a.example/A", "https://A.example:443/A", "https://a.example:/A"]),
            ("docs://{id}/", &["docs://A", "docs://A/"]),
            ("docs://{id}/?q=1", &["docs://A?q=1", "docs://A/?q=%31"]),
        ] {
            for uri in spellings {
                assert_eq!(values(template, uri), pairs(&[("id", "A")]), "{template} {uri}");
            }
        }
    }

    #[test]
    fn a_uri_that_does_not_match_has_no_values() {
        for (template, uri) in [
            ("events://{id}", "events://"),
            ("events://{id}", "events://a/b"),
            ("events://{id}", "events://4?x"),
            ("events://{id}", "events://%FF"),
            ("events://{id}/x", "events://4"),
            ("events://{id}", "events://é"),
            ("events://{id}", "events://100%"),
            ("events://{id}", "events://%zz"),
            ("x:{a}2{b}", "x:%20z"),
            ("x:{a}/b", "x:../b"),
            ("x:a/{b}", "x:a/c%2F.."),
            ("events://{id}", &format!("events://{}", "9".repeat(MAX_URI_BYTES))),
        ] {
            assert_eq!(values(template, uri), None, "{template} {uri}");
        }
    }

    #[test]
    fn a_hostile_uri_is_matched_in_bounded_time() {
        let template = "x:{a}-{b}-{c}-{d}-{e}-{f}!";

        assert_eq!(values(template, &format!("x:{}", "-".repeat(MAX_URI_BYTES - 2))), None);
    }

    #[test]
    fn invalid_templates_are_rejected() {
        for (template, expected) in [
            ("events://{id", "not closed"),
            ("events://{id}{name}", "between two variables"),
            ("events://{?id}", "is not of the forms"),
            ("events://{id*}", "is not of the forms"),
            ("events://{}", "is not of the forms"),
            ("events://{id}/{id}", "twice"),
            ("{id}", "scheme"),
            ("docs://my files/{id}", "percent-encode"),
            ("docs://büch/{id}", "percent-encode"),
            ("docs://%{id}", "percent-encode"),
            ("docs://%4{id}", "percent-encode"),
        ] {
            let error = UriTemplate::parse(template).unwrap_err();

            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
