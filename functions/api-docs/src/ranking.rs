//! What fits a few words best.

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
};

use serde_json::Value;

use crate::{
    budget::{Meter, Spent},
    document::{Document, Operation, Schema},
    words::{words, words_of_query},
};

/// Words of a question that mean nothing by themselves.
const FILLERS: [&str; 16] =
    ["a", "all", "an", "and", "by", "for", "from", "i", "in", "my", "of", "on", "the", "to", "want", "with"];
/// Words of a question that count; those after them do not.
const MAX_QUERY_WORDS: usize = 16;
/// Words of a text with more weight than this say what the item is: `user` means `/user` rather than `/user/repos`.
const HEAVY: u8 = 4;
/// A word of every webhook, so that a search finds all of them.
const WEBHOOK: &str = "webhook";
/// Words of more bytes than this are found by their beginning.
const MIN_BEGINNING: usize = 2;

/// An operation or a schema that fits, the better the more points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<T> {
    pub(crate) item: T,
    points: u32,
}

/// The operations that have most of the words of a query, the best first; those that are equal as the document has them.
pub(crate) fn operations<'a>(document: &'a Document, query: &str) -> Vec<Hit<&'a Operation>> {
    document.index().operations.find(query, document.operations())
}

/// The same of schemas.
pub(crate) fn schemas<'a>(document: &'a Document, query: &str) -> Vec<Hit<&'a Schema>> {
    document.index().schemas.find(query, document.schemas())
}

/// Those at the beginning that are equally good.
pub(crate) fn equals<T>(hits: &[Hit<T>]) -> &[Hit<T>] {
    let count = hits.iter().take_while(|hit| hit.points == hits[0].points).count();
    &hits[..count]
}

/// The words of a document, made once when it is read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    operations: Words,
    schemas: Words,
}

impl Index {
    pub(crate) fn of(document: &Document, meter: &Meter) -> Result<Self, Spent> {
        let mut index = Self::default();
        for own in document.operations() {
            let definition = document.written(own);
            let description = definition.and_then(|own| own.get("description")?.as_str()).unwrap_or_default();
            let weighed = [(&*own.id, 8), (&*own.path, 6), (&*own.method, 6), (&*own.summary, 4), (description, 1)];
            let tags = own.tags.iter().map(|tag| (tag.as_str(), 3));
            let kind = own.is_webhook().then_some((WEBHOOK, 4));
            index.operations.add(weighed.into_iter().chain(tags).chain(kind), meter)?;
        }
        for own in document.schemas() {
            let schema = document.schema(&own.name);
            let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
            let properties = properties.into_iter().flatten().map(|(name, _)| (name.as_str(), 1));
            let weighed = [(&*own.name, 8), (&*own.summary, 3)];
            index.schemas.add(weighed.into_iter().chain(properties), meter)?;
        }
        Ok(index)
    }
}

/// The words of all operations, or of all schemas.
#[derive(Debug, Default)]
struct Words {
    places: BTreeMap<Box<str>, Vec<Place>>,
    /// For each item, how many of its words are heavy.
    heavy: Vec<u16>,
}

/// A word of an item.
#[derive(Debug, Clone, Copy)]
struct Place {
    item: u32,
    /// How often it is in heavy texts of the item.
    heavy: u16,
    /// The most that one of its texts has.
    weight: u8,
}

#[cfg(test)]
thread_local! {
    /// Places that were looked at.
    static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Words {
    /// Adds the texts of the next item.
    fn add<'t>(&mut self, weighed: impl Iterator<Item = (&'t str, u8)>, meter: &Meter) -> Result<(), Spent> {
        // There are fewer items than bytes that lists show.
        let item = u32::try_from(self.heavy.len()).unwrap_or(u32::MAX);
        let mut all_heavy = 0u16;
        for (text, weight) in weighed {
            let heavy = u16::from(weight > HEAVY);
            for word in words(text) {
                meter.take(0)?;
                all_heavy = all_heavy.saturating_add(heavy);
                if !self.places.contains_key(&*word) {
                    meter.take_word(Some(&word))?;
                    self.places.insert(word.into(), vec![Place { item, heavy, weight }]);
                    continue;
                }
                let Some(places) = self.places.get_mut(&*word) else { continue };
                match places.last_mut().filter(|place| place.item == item) {
                    Some(place) => {
                        place.heavy = place.heavy.saturating_add(heavy);
                        place.weight = place.weight.max(weight);
                    }
                    None => {
                        meter.take_word(None)?;
                        meter.push(places, Place { item, heavy, weight })?;
                    }
                }
            }
        }
        meter.push(&mut self.heavy, all_heavy)
    }

    /// The items that have most of the words of a query, the best first. No place is looked at more than once for a word.
    fn find<'a, T>(&self, query: &str, items: &'a [T]) -> Vec<Hit<&'a T>> {
        let wanted = wanted(query);
        let mut scores = vec![Score::default(); items.len()];
        for (number, word) in wanted.iter().enumerate() {
            for (there, places) in self.like(word) {
                let likeness = likeness(word, there);
                let is_first = wanted[..number].iter().all(|before| self::likeness(before, there) == 0);
                for place in places {
                    #[cfg(test)]
                    LOOKED_AT.set(LOOKED_AT.get() + 1);
                    let score = &mut scores[place.item as usize];
                    score.best = score.best.max(likeness * u32::from(place.weight));
                    score.heavy += if is_first { u32::from(place.heavy) } else { 0 };
                }
            }
            for score in &mut scores {
                score.words += u32::from(score.best > 0);
                score.points += std::mem::take(&mut score.best);
            }
        }
        // One that lacks a word is of use only if all do.
        let most = scores.iter().map(|score| score.words).max().unwrap_or_default();
        let scored = items.iter().zip(&scores).zip(&self.heavy);
        let fitting = scored.filter(|((_, score), _)| score.words > 0 && score.words == most);
        let mut hits: Vec<_> = fitting
            .map(|((item, score), heavy)| {
                let spare = u32::from(*heavy).saturating_sub(score.heavy);
                Hit { item, points: (score.points * 8).saturating_sub(spare.min(7)) }
            })
            .collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.points));
        hits
    }

    /// The words that are like one, each once.
    fn like<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (&'a str, &'a [Place])> {
        let singular = ["es", "s"].into_iter().filter_map(|end| word.strip_suffix(end)).map(str::to_owned);
        // The plurals of a word that is long enough begin with it.
        let plural = ["", "s", "es"].into_iter().map(move |end| format!("{word}{end}"));
        let is_short = word.len() <= MIN_BEGINNING;
        let exact = singular.chain(plural.filter(move |_| is_short)).filter(|own| !own.is_empty());
        let exact = exact.filter_map(|own| self.places.get_key_value(&*own));
        let beginning = self.places.range::<str, _>((Included(word), Unbounded));
        let beginning = beginning.take_while(move |(own, _)| !is_short && own.starts_with(word));
        exact.chain(beginning).map(|(own, places)| (&**own, &**places))
    }
}

/// How an item fits.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    /// Words of the query that it has.
    words: u32,
    points: u32,
    /// Of the word of the query that is looked for.
    best: u32,
    /// Heavy words of it that are like one of the query.
    heavy: u32,
}

/// The words of a query that count, each once.
fn wanted(query: &str) -> Vec<String> {
    let is_filler = |word: &String| FILLERS.contains(&word.as_str());
    let has_others = words_of_query(query).any(|word| !is_filler(&word));
    let mut wanted = Vec::new();
    for word in words_of_query(query).filter(|word| !has_others || !is_filler(word)) {
        if wanted.len() == MAX_QUERY_WORDS {
            break;
        }
        if !wanted.contains(&word) {
            wanted.push(word);
        }
    }
    wanted
}

/// 4 for the same word, 3 for its plural or singular, 2 for its beginning.
fn likeness(wanted: &str, word: &str) -> u32 {
    let is_plural = |one: &str, many: &str| many.strip_prefix(one).is_some_and(|rest| rest == "s" || rest == "es");
    match () {
        () if wanted == word => 4,
        () if is_plural(wanted, word) || is_plural(word, wanted) => 3,
        () if wanted.len() > MIN_BEGINNING && word.starts_with(wanted) => 2,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{budget::Budget, words::MAX_WORD_CHARS};

    fn parse(document: &Value) -> Document {
        Document::parse(document.to_string().as_bytes(), Budget::of_function(1024)).unwrap()
    }

    fn found(query: &str) -> Vec<String> {
        let document = parse(&json!({ "openapi": "3.1.0", "paths": {
            "/user": { "get": { "operationId": "getUser", "summary": "Who calls" } },
            "/user/repos": { "get": { "operationId": "list-repos-of-user" }, "post": { "operationId": "createRepo" } },
            "/pets": { "get": { "operationId": "x", "description": "Lists the animals of a user." } },
        } }));
        operations(&document, query).into_iter().map(|hit| hit.item.id.clone()).collect()
    }

    #[test]
    fn a_word_is_found_by_its_plural_and_its_beginning() {
        let schemas: Map<_, _> = ["Id", "Ids", "Box", "Boxes", "Boxer", "Users"]
            .map(|name| (name.to_owned(), json!({})))
            .into_iter()
            .collect();
        let document = parse(&json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }));
        let found = |query: &str| {
            let hits = super::schemas(&document, query).into_iter();
            hits.map(|hit| (hit.item.name.as_str(), hit.points / 64)).collect::<Vec<_>>()
        };

        assert_eq!(found("id"), [("Id", 4), ("Ids", 3)]);
        assert_eq!(found("ids"), [("Ids", 4), ("Id", 3)]);
        assert_eq!(found("box"), [("Box", 4), ("Boxes", 3), ("Boxer", 2)]);
        assert_eq!(found("boxes"), [("Boxes", 4), ("Box", 3)]);
        assert_eq!(found("user"), [("Users", 3)]);
        assert_eq!(found("s"), []);
    }

    /// The schemas that a query finds among some of these descriptions.
    fn described(descriptions: &[&str], query: &str) -> Vec<usize> {
        let schemas: Map<_, _> = (0..)
            .zip(descriptions)
            .map(|(number, text): (usize, _)| (format!("S{number}"), json!({ "description": text })))
            .collect();
        let document = parse(&json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }));
        let hits = super::schemas(&document, query).into_iter();
        hits.map(|hit| hit.item.name[1..].parse().unwrap()).collect()
    }

    /// 6.7
    #[test]
    fn words_are_found_inside_text_without_spaces() {
        let texts = [
            "查询发票列表",
            "请求書を作成します。",
            "ユーザーの一覧",
            "ค้นหาใบแจ้งหนี้ทั้งหมด",
            "ຄົ້ນຫາໃບແຈ້ງໜີ້",
            "ស្វែងរកវិក្កយបត្រ",
            "ငွေတောင်းခံလွှာရှာဖွေပါ",
            "송장을 조회합니다",
            "v2版本API接口",
            "𠮷野家の注文",
        ];
        for (query, expected) in [
            ("发票", 0),
            ("列表", 0),
            ("票", 0),
            ("表", 0),
            ("发票列表", 0),
            ("查询 发票", 0),
            ("作成", 1),
            ("書", 1),
            ("ユーザー", 2),
            ("一覧", 2),
            ("ใบแจ้งหนี้", 3),
            ("หา", 3),
            ("ໃບແຈ້ງໜີ້", 4),
            ("វិក្កយបត្រ", 5),
            ("ငွေ", 6),
            ("ရှာဖွေ", 6),
            ("송장", 7),
            ("조회", 7),
            ("송", 7),
            ("api", 8),
            ("接口", 8),
            ("版本", 8),
            ("v2", 8),
            ("𠮷野", 9),
            ("𠮷", 9),
        ] {
            assert_eq!(described(&texts, query), [expected], "{query}");
        }
        assert_eq!(described(&["销售发票", "发送票据", "发票"], "发票"), [0, 2]);
        // As they are composed, and as letters that follow each other.
        assert_eq!(described(&["ガス", "カス"], "カ\u{3099}ス"), [0]);
        assert_eq!(described(&["송장", "조회"], "\u{1109}\u{1169}\u{11bc}\u{110c}\u{1161}\u{11bc}"), [0]);
    }

    /// 6.7
    #[test]
    fn case_is_folded_in_every_alphabet() {
        for (text, query) in [
            ("État", "ÉTAT"),
            ("ÉTAT", "état"),
            ("e\u{301}tat", "ÉTAT"),
            ("état", "E\u{301}TAT"),
            ("Straße", "STRASSE"),
            ("STRASSE", "straße"),
            ("STRAẞE", "Straße"),
            ("ΟΔΟΣ", "οδος"),
            ("οδος", "οδοσ"),
            ("İstanbul", "istanbul"),
            ("istanbul", "İSTANBUL"),
            ("ISPARTA", "ısparta"),
            ("СЧЁТ", "счёт"),
            ("ﬁle", "FILE"),
            ("ǅ", "ǆ"),
            ("Ա\u{587}", "աեւ"),
        ] {
            assert_eq!(described(&[text, "other"], query), [0], "{text}: {query}");
        }
        // A letter is more than the same with a mark.
        assert_eq!(described(&["résumé", "resume"], "resume"), [1]);
    }

    /// 8.2
    #[test]
    fn the_words_of_a_query_are_bounded_in_number_and_length() {
        let many: String = (0..100).map(|number| format!("w{number} ")).collect();

        assert_eq!(wanted(&many).len(), MAX_QUERY_WORDS);
        assert_eq!(wanted(&"same ".repeat(40)), ["same"]);
        let characters: String = ('一'..'龥').take(200).collect();
        assert_eq!(wanted(&characters).len(), MAX_QUERY_WORDS);
        assert_eq!(wanted(&"é".repeat(200)), ["é".repeat(MAX_WORD_CHARS)]);
    }

    /// 8.2
    #[test]
    fn a_search_looks_at_each_word_of_the_document_once_for_each_of_its_own() {
        // 400 operations with 300 words each that all begin alike: without an index, each is read for each query.
        let words: Vec<_> = (0..300).map(|number| format!("abcdefghijklmnopqrs{number}")).collect();
        let paths: Map<_, _> = (0..400)
            .map(|number| (format!("/{number}"), json!({ "get": { "description": words.join(" ").repeat(20) } })))
            .collect();
        let document = parse(&json!({ "openapi": "3.1.0", "paths": paths }));
        let query: Vec<_> = (3..19).map(|end| &"abcdefghijklmnopqrs"[..end]).collect();

        LOOKED_AT.set(0);
        let hits = operations(&document, &query.join(" "));

        assert_eq!(hits.len(), 400);
        let places: usize = document.index().operations.places.values().map(Vec::len).sum();
        assert!(LOOKED_AT.get() <= MAX_QUERY_WORDS * places, "{} of {places}", LOOKED_AT.get());
        assert!(places < 400 * 330, "{places}");
    }

    /// 8.2
    #[test]
    fn a_document_of_more_words_than_a_call_can_look_at_is_refused() {
        let words: Vec<_> = (0..2000).map(|number| format!("w{number}")).collect();
        let paths: Map<_, _> = (0..1100)
            .map(|number| (format!("/{number}"), json!({ "get": { "description": words.join(" ") } })))
            .collect();
        let document = json!({ "openapi": "3.1.0", "paths": paths }).to_string();

        let refusal = Document::parse(document.as_bytes(), Budget::of_function(4096)).unwrap_err();

        assert!(mcp_lambda::error_chain(&refusal).contains("words to search"), "{refusal}");
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
