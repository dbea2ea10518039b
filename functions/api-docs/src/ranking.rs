//! What fits a few words best.

use crate::document::{Document, Operation, summary_of};

/// Words of a question that mean nothing by themselves.
const FILLERS: [&str; 16] =
    ["a", "all", "an", "and", "by", "for", "from", "i", "in", "my", "of", "on", "the", "to", "want", "with"];

/// An operation or a schema that fits, the better the more points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a> {
    pub(crate) item: Item<'a>,
    points: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    Operation(&'a Operation),
    Schema(&'a str),
}

/// The operations that have most of the words of a query, the best first; those that are equal as the document has them.
pub(crate) fn operations<'a>(document: &'a Document, query: &str) -> Vec<Hit<'a>> {
    let hits = document.operations().iter().map(|own| {
        let definition = document.written(own);
        let description = definition.and_then(|own| own.get("description")?.as_str()).unwrap_or_default();
        let weighed = [(&*own.id, 8), (&*own.path, 6), (&*own.method, 6), (&*own.summary, 4), (description, 1)];
        let tags = own.tags.iter().map(|tag| (tag.as_str(), 3));
        (Item::Operation(own), Points::of(query, weighed.into_iter().chain(tags)))
    });
    best(hits)
}

/// The same of schemas.
pub(crate) fn schemas<'a>(document: &'a Document, query: &str) -> Vec<Hit<'a>> {
    let hits = document.schemas().map(|(name, schema)| {
        let summary = summary_of(schema);
        let properties = schema.get("properties").and_then(|own| own.as_object());
        let properties = properties.into_iter().flatten().map(|(name, _)| (name.as_str(), 1));
        let weighed = [(name, 8), (summary.as_str(), 3)];
        (Item::Schema(name), Points::of(query, weighed.into_iter().chain(properties)))
    });
    best(hits)
}

/// Those at the beginning that are equally good.
pub(crate) fn equals<'h, 'a>(hits: &'h [Hit<'a>]) -> &'h [Hit<'a>] {
    let count = hits.iter().take_while(|hit| hit.points == hits[0].points).count();
    &hits[..count]
}

fn best<'a>(hits: impl Iterator<Item = (Item<'a>, Points)>) -> Vec<Hit<'a>> {
    let mut hits: Vec<_> = hits.filter(|(_, points)| points.words > 0).collect();
    // One that lacks a word is of use only if all do.
    let most = hits.iter().map(|(_, points)| points.words).max().unwrap_or_default();
    hits.retain(|(_, points)| points.words == most);
    hits.sort_by_key(|(_, points)| std::cmp::Reverse(points.points));
    hits.into_iter().map(|(item, points)| Hit { item, points: points.points }).collect()
}

#[derive(Debug, Clone, Copy, Default)]
struct Points {
    /// Words of the query that are somewhere.
    words: usize,
    points: u32,
}

impl Points {
    fn of<'t>(query: &str, weighed: impl Iterator<Item = (&'t str, u32)>) -> Self {
        let mut wanted = words(query);
        if wanted.iter().any(|word| !FILLERS.contains(&word.as_str())) {
            wanted.retain(|word| !FILLERS.contains(&word.as_str()));
        }
        let mut best = vec![0; wanted.len()];
        let mut spare = 0;
        for (text, weight) in weighed {
            let there = words(text);
            for (best, wanted) in best.iter_mut().zip(&wanted) {
                let points = there.iter().map(|word| likeness(wanted, word) * weight).max().unwrap_or_default();
                *best = points.max(*best);
            }
            // `user` means `/user` rather than `/user/repos`.
            if weight > 4 {
                spare += there.iter().filter(|word| wanted.iter().all(|wanted| likeness(wanted, word) == 0)).count();
            }
        }
        let points: u32 = best.iter().sum::<u32>() * 8;
        let spare = u32::try_from(spare).unwrap_or(u32::MAX);
        Self { words: best.iter().filter(|best| **best > 0).count(), points: points.saturating_sub(spare.min(7)) }
    }
}

/// 4 for the same word, 3 for its plural or singular, 2 for its beginning.
fn likeness(wanted: &str, word: &str) -> u32 {
    let is_plural = |one: &str, many: &str| many.strip_prefix(one).is_some_and(|rest| rest == "s" || rest == "es");
    match () {
        () if wanted == word => 4,
        () if is_plural(wanted, word) || is_plural(word, wanted) => 3,
        () if wanted.len() > 2 && word.starts_with(wanted) => 2,
        () => 0,
    }
}

/// In small letters; `listPets`, `list-pets` and `list pets` have the same.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for character in text.chars() {
        let begins = character.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
        if begins || !character.is_alphanumeric() {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(query: &str) -> Vec<String> {
        let document = json!({ "openapi": "3.1.0", "paths": {
            "/user": { "get": { "operationId": "getUser", "summary": "Who calls" } },
            "/user/repos": { "get": { "operationId": "list-repos-of-user" }, "post": { "operationId": "createRepo" } },
            "/pets": { "get": { "operationId": "x", "description": "Lists the animals of a user." } },
        } });
        let document = Document::parse(document.to_string().as_bytes()).unwrap();
        let ids = operations(&document, query).into_iter().map(|hit| match hit.item {
            Item::Operation(own) => own.id.clone(),
            Item::Schema(name) => name.to_owned(),
        });
        ids.collect()
    }

    #[test]
    fn words_are_found_however_a_name_is_written() {
        assert_eq!(words("listPets/by-ID_v2: JSONSchema"), ["list", "pets", "by", "id", "v2", "jsonschema"]);
    }

    #[test]
    fn the_best_come_first_and_all_words_count() {
        assert_eq!(found("user")[0], "getUser");
        assert_eq!(found("list repositories"), ["list-repos-of-user", "x"]);
        assert_eq!(found("create a repo"), ["createRepo"]);
        assert_eq!(found("of"), ["list-repos-of-user", "x"]);
        assert_eq!(found("POST user"), ["createRepo"]);
        assert_eq!(found("animal"), ["x"]);
        assert!(found("invoice").is_empty());
        assert!(found("?!").is_empty());
    }
}
