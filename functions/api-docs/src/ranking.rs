//! Full-text search with ranking.

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
};

use serde_json::Value;

use crate::{
    budget::{LimitExceeded, Meter},
    document::{Document, Operation, Schema},
    words::{words, words_of_query},
};

/// Stop words.
const STOP_WORDS: [&str; 16] =
    ["a", "all", "an", "and", "by", "for", "from", "i", "in", "my", "of", "on", "the", "to", "want", "with"];
/// Maximum number of words of a query; further words are ignored.
const MAX_QUERY_WORDS: usize = 16;
/// Minimum weight (exclusive) of heavy texts, which name the item: the query `user` prefers `/user` to `/user/repos`.
const HEAVY: u8 = 4;
/// Word that is indexed for every webhook, so that a search for it finds all of them.
const WEBHOOK: &str = "webhook";
/// Minimum length (exclusive) of prefix matches, in bytes.
const MIN_PREFIX_BYTES: usize = 2;

/// Matching operation or schema with its score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<T> {
    pub(crate) item: T,
    points: u32,
}

/// Finds the operations with most of the words of a query, ranked by score; ties are in document order.
pub(crate) fn operations<'a>(document: &'a Document, query: &str) -> Vec<Hit<&'a Operation>> {
    document.index().operations.find(query, document.operations())
}

/// Finds the schemas with most of the words of a query, ranked by score; ties are in document order.
pub(crate) fn schemas<'a>(document: &'a Document, query: &str) -> Vec<Hit<&'a Schema>> {
    document.index().schemas.find(query, document.schemas())
}

/// Returns the hits with the highest score.
pub(crate) fn top_ranked<T>(hits: &[Hit<T>]) -> &[Hit<T>] {
    let count = hits.iter().take_while(|hit| hit.points == hits[0].points).count();
    &hits[..count]
}

/// Search index of a document, built once after parsing.
#[derive(Debug, Default)]
pub(crate) struct Index {
    operations: InvertedIndex,
    schemas: InvertedIndex,
}

impl Index {
    pub(crate) fn of(document: &Document, meter: &Meter) -> Result<Self, LimitExceeded> {
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

/// Inverted index of all operations, or of all schemas.
#[derive(Debug, Default)]
struct InvertedIndex {
    postings: BTreeMap<Box<str>, Vec<Posting>>,
    /// Number of heavy words of each item.
    heavy: Vec<u16>,
}

/// Occurrence of a word in an item.
#[derive(Debug, Clone, Copy)]
struct Posting {
    item: u32,
    /// Number of occurrences in heavy texts of the item.
    heavy: u16,
    /// Maximum weight of the texts with the word.
    weight: u8,
}

#[cfg(test)]
thread_local! {
    /// Number of visited postings.
    static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl InvertedIndex {
    /// Adds the texts of the next item.
    fn add<'t>(&mut self, weighed: impl Iterator<Item = (&'t str, u8)>, meter: &Meter) -> Result<(), LimitExceeded> {
        // The number of items is bounded by `MAX_LISTED_BYTES`.
        let item = u32::try_from(self.heavy.len()).unwrap_or(u32::MAX);
        let mut all_heavy = 0u16;
        for (text, weight) in weighed {
            let heavy = u16::from(weight > HEAVY);
            for word in words(text) {
                meter.take(0)?;
                all_heavy = all_heavy.saturating_add(heavy);
                if !self.postings.contains_key(&*word) {
                    meter.take_word(Some(&word))?;
                    self.postings.insert(word.into(), vec![Posting { item, heavy, weight }]);
                    continue;
                }
                let Some(postings) = self.postings.get_mut(&*word) else { continue };
                match postings.last_mut().filter(|posting| posting.item == item) {
                    Some(posting) => {
                        posting.heavy = posting.heavy.saturating_add(heavy);
                        posting.weight = posting.weight.max(weight);
                    }
                    None => {
                        meter.take_word(None)?;
                        meter.push(postings, Posting { item, heavy, weight })?;
                    }
                }
            }
        }
        meter.push(&mut self.heavy, all_heavy)
    }

    /// Returns the items with most of the words of a query, ranked by score. Each posting is visited at most once per
    /// word.
    fn find<'a, T>(&self, query: &str, items: &'a [T]) -> Vec<Hit<&'a T>> {
        let words = query_words(query);
        let mut scores = vec![Score::default(); items.len()];
        for (number, word) in words.iter().enumerate() {
            for (indexed, postings) in self.similar_words(word) {
                let similarity = similarity(word, indexed);
                let is_first = words[..number].iter().all(|before| self::similarity(before, indexed) == 0);
                for posting in postings {
                    #[cfg(test)]
                    VISITED.set(VISITED.get() + 1);
                    let score = &mut scores[posting.item as usize];
                    score.best = score.best.max(similarity * u32::from(posting.weight));
                    score.heavy += if is_first { u32::from(posting.heavy) } else { 0 };
                }
            }
            for score in &mut scores {
                score.words += u32::from(score.best > 0);
                score.points += std::mem::take(&mut score.best);
            }
        }
        // Items that lack a word are returned only if no item has more words.
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

    /// Returns the similar indexed words, each once.
    fn similar_words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (&'a str, &'a [Posting])> {
        let singular = ["es", "s"].into_iter().filter_map(|end| word.strip_suffix(end)).map(str::to_owned);
        // Plurals of long words are found as prefix matches.
        let plural = ["", "s", "es"].into_iter().map(move |end| format!("{word}{end}"));
        let is_short = word.len() <= MIN_PREFIX_BYTES;
        let exact = singular.chain(plural.filter(move |_| is_short)).filter(|own| !own.is_empty());
        let exact = exact.filter_map(|own| self.postings.get_key_value(&*own));
        let beginning = self.postings.range::<str, _>((Included(word), Unbounded));
        let beginning = beginning.take_while(move |(own, _)| !is_short && own.starts_with(word));
        exact.chain(beginning).map(|(own, postings)| (&**own, &**postings))
    }
}

/// Score of an item.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    /// Number of matching words of the query.
    words: u32,
    points: u32,
    /// Best points for the current word of the query.
    best: u32,
    /// Number of heavy words that match the query.
    heavy: u32,
}

/// Returns the relevant words of a query, without duplicates.
fn query_words(query: &str) -> Vec<String> {
    let is_stop_word = |word: &String| STOP_WORDS.contains(&word.as_str());
    let has_others = words_of_query(query).any(|word| !is_stop_word(&word));
    let mut words = Vec::new();
    for word in words_of_query(query).filter(|word| !has_others || !is_stop_word(word)) {
        if words.len() == MAX_QUERY_WORDS {
            break;
        }
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// Returns 4 for an exact match, 3 for plural or singular, 2 for a prefix match, and 0 otherwise.
fn similarity(query_word: &str, word: &str) -> u32 {
    let is_plural = |one: &str, many: &str| many.strip_prefix(one).is_some_and(|rest| rest == "s" || rest == "es");
    match () {
        () if query_word == word => 4,
        () if is_plural(query_word, word) || is_plural(word, query_word) => 3,
        () if query_word.len() > MIN_PREFIX_BYTES && word.starts_with(query_word) => 2,
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
    fn words_are_found_by_plural_and_prefix() {
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

    /// Returns the indices of the descriptions that a query finds.
    fn described(descriptions: &[&str], query: &str) -> Vec<usize> {
        let schemas: Map<_, _> = (0..)
            .zip(descriptions)
            .map(|(number, text): (usize, _)| (format!("S{number}"), json!({ "description": text })))
            .collect();
        let document = parse(&json!({ "openapi": "3.1.0", "components": { "schemas": schemas } }));
        let hits = super::schemas(&document, query).into_iter();
        hits.map(|hit| hit.item.name[1..].parse().unwrap()).collect()
    }

    #[test]
    fn words_are_found_in_text_without_spaces() {
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
        // Composed and decomposed characters.
        assert_eq!(described(&["ガス", "カス"], "カ\u{3099}ス"), [0]);
        assert_eq!(described(&["송장", "조회"], "\u{1109}\u{1169}\u{11bc}\u{110c}\u{1161}\u{11bc}"), [0]);
    }

    #[test]
    fn case_is_folded_in_all_scripts() {
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
        // Accents are significant.
        assert_eq!(described(&["résumé", "resume"], "resume"), [1]);
    }

    #[test]
    fn query_words_are_bounded_in_number_and_length() {
        let many: String = (0..100).map(|number| format!("w{number} ")).collect();

        assert_eq!(query_words(&many).len(), MAX_QUERY_WORDS);
        assert_eq!(query_words(&"same ".repeat(40)), ["same"]);
        let characters: String = ('一'..'龥').take(200).collect();
        assert_eq!(query_words(&characters).len(), MAX_QUERY_WORDS);
        assert_eq!(query_words(&"é".repeat(200)), ["é".repeat(MAX_WORD_CHARS)]);
    }

    #[test]
    fn search_visits_each_posting_at_most_once_per_query_word() {
        // 400 operations with 300 words each and a common prefix: without an index, each query would read all of them.
        let words: Vec<_> = (0..300).map(|number| format!("abcdefghijklmnopqrs{number}")).collect();
        let paths: Map<_, _> = (0..400)
            .map(|number| (format!("/{number}"), json!({ "get": { "description": words.join(" ").repeat(20) } })))
            .collect();
        let document = parse(&json!({ "openapi": "3.1.0", "paths": paths }));
        let query: Vec<_> = (3..19).map(|end| &"abcdefghijklmnopqrs"[..end]).collect();

        VISITED.set(0);
        let hits = operations(&document, &query.join(" "));

        assert_eq!(hits.len(), 400);
        let postings: usize = document.index().operations.postings.values().map(Vec::len).sum();
        assert!(VISITED.get() <= MAX_QUERY_WORDS * postings, "{} of {postings}", VISITED.get());
        assert!(postings < 400 * 330, "{postings}");
    }

    #[test]
    fn documents_with_too_many_words_are_rejected() {
        let words: Vec<_> = (0..2000).map(|number| format!("w{number}")).collect();
        let paths: Map<_, _> = (0..1100)
            .map(|number| (format!("/{number}"), json!({ "get": { "description": words.join(" ") } })))
            .collect();
        let document = json!({ "openapi": "3.1.0", "paths": paths }).to_string();

        let error = Document::parse(document.as_bytes(), Budget::of_function(4096)).unwrap_err();

        assert!(mcp_lambda::error_chain(&error).contains("words to search"), "{error}");
    }

    #[test]
    fn results_are_ranked_by_all_words() {
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
