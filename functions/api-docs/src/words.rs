//! Tokenization and case folding.

use std::iter;

use unicode_normalization::char::{compose, is_combining_mark};

/// Maximum length of a word; further characters are ignored.
pub(crate) const MAX_WORD_CHARS: usize = 64;

/// Folds the case of a text for comparisons (Unicode full case folding), independent of the composition of characters
/// and marks.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    characters(text).for_each(|character| push_folded(&mut folded, character));
    folded
}

/// Returns the case-folded words of a text; `listPets`, `list-pets` and `list pets` have the same words. Scripts
/// without spaces have bigrams: each character with the next one.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    split(text).map(|(word, _)| word)
}

/// Returns the words of a query. The last character of text without spaces is not a word of its own, since the previous
/// bigram contains it, unless it is the only one.
pub(crate) fn words_of_query(query: &str) -> impl Iterator<Item = String> {
    split(query).filter(|(_, is_rest)| !is_rest).map(|(word, _)| word)
}

/// Splits a text into words; the flag is set if a word is the second character of the previous one.
fn split(text: &str) -> impl Iterator<Item = (String, bool)> {
    let mut characters = characters(text).peekable();
    let (mut before, mut is_within) = (' ', false);
    iter::from_fn(move || {
        let mut word = String::new();
        let mut length = 0;
        while let Some(character) = characters.peek().copied() {
            let begins = character.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
            let is_spaceless = is_spaceless(character);
            // A mark belongs to the previous character.
            let continues = character.is_alphanumeric() || is_mark(character);
            if !word.is_empty() && (begins || is_spaceless || !continues) {
                return Some((word, false));
            }
            characters.next();
            before = character;
            let was_in_bigram = std::mem::replace(&mut is_within, is_spaceless);
            if is_spaceless {
                let next = characters.peek().copied().filter(|next| self::is_spaceless(*next));
                iter::once(character).chain(next).for_each(|own| push_folded(&mut word, own));
                return Some((word, was_in_bigram && next.is_none()));
            }
            let is_part = character.is_alphanumeric() || continues && !word.is_empty();
            if is_part && length < MAX_WORD_CHARS {
                push_folded(&mut word, character);
                length += 1;
            }
        }
        Some((word, false)).filter(|(word, _)| !word.is_empty())
    })
}

/// Returns the characters of a text, composed with the following marks: `é` may be one or two code points. This is NFC
/// for marks in canonical order, without the decomposition tables (60 KB of a zip).
fn characters(text: &str) -> impl Iterator<Item = char> {
    let mut rest = text.chars().filter(|own| !is_variation_selector(*own)).peekable();
    iter::from_fn(move || {
        let mut character = rest.next()?;
        while let Some(composed) = rest.peek().filter(|own| !own.is_ascii()).and_then(|own| compose(character, *own)) {
            character = composed;
            rest.next();
        }
        Some(character)
    })
}

/// Returns whether a character is a variation selector.
fn is_variation_selector(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Appends a case-folded character. Characters with the same upper case (`ß` and `ss`, `σ` and `ς`) are equal; the
/// combining dot of `İ` is dropped.
fn push_folded(text: &mut String, character: char) {
    if character.is_ascii() {
        return text.push(character.to_ascii_lowercase());
    }
    let capitals = character.to_lowercase().flat_map(char::to_uppercase);
    text.extend(capitals.flat_map(char::to_lowercase).filter(|own| *own != '\u{307}'));
}

/// Returns whether the script of a character has no spaces between words, as in Chinese, Japanese and Thai, or attaches
/// suffixes, as in Korean.
fn is_spaceless(character: char) -> bool {
    let is_in_script = matches!(
        character,
        '\u{e00}'..='\u{eff}' // Thai, Lao
            | '\u{1000}'..='\u{109f}' | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aa7f}' // Burmese
            | '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' // Korean
            | '\u{1780}'..='\u{17ff}' // Khmer
            | '\u{1950}'..='\u{19df}' | '\u{1a20}'..='\u{1aaf}' | '\u{aa80}'..='\u{aadf}' // Tai
            | '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ffdc}' // Chinese, Japanese, Yi, Korean
            | '\u{a000}'..='\u{a4cf}' | '\u{1aff0}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}'
    );
    is_in_script && (character.is_alphanumeric() || is_mark(character))
}

fn is_mark(character: char) -> bool {
    !character.is_ascii() && is_combining_mark(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_in_any_naming_convention() {
        let found: Vec<_> = words("listPets/by-ID_v2: JSONSchema").collect();

        assert_eq!(found, ["list", "pets", "by", "id", "v2", "jsonschema"]);
        assert_eq!(words("v2Beta  --").collect::<Vec<_>>(), ["v2", "beta"]);
        assert_eq!(words("").next(), None);
    }

    #[test]
    fn text_without_spaces_has_bigrams() {
        let text = "查询发票列表".repeat(1000);
        assert_eq!(words(&text).count(), text.chars().count());
        assert_eq!(words("查询a发").collect::<Vec<_>>(), ["查询", "询", "a", "发"]);
        assert_eq!(words_of_query("查询a发").collect::<Vec<_>>(), ["查询", "a", "发"]);
        assert_eq!(words_of_query("ガス、料").collect::<Vec<_>>(), ["ガス", "料"]);
    }

    /// Combining marks count for the maximum length.
    #[test]
    fn marks_belong_to_the_previous_word_and_are_bounded() {
        let marked = format!("a{}", "\u{316}\u{301}".repeat(100_000));

        assert!(words(&marked).all(|word| word.chars().count() <= MAX_WORD_CHARS));
        assert_eq!(words("x\u{302}y क्या").collect::<Vec<_>>(), ["x\u{302}y", "क्या"]);
        assert_eq!(words("a \u{301} ❤\u{fe0f}b").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(words("葛\u{e0100}城").collect::<Vec<_>>(), ["葛城", "城"]);
    }

    #[test]
    fn names_are_equal_in_any_case_and_composition() {
        for (one, other) in [
            ("ÉTAT", "e\u{301}tat"),
            ("Straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("ΟΔΟΣ", "οδος"),
            ("ΟΔΟΣ", "οδοσ"),
            ("İI", "ii"),
            ("ﬁle", "FILE"),
            ("가", "\u{1100}\u{1161}"),
            ("Việt", "vie\u{323}\u{302}t"),
        ] {
            assert_eq!(fold(one), fold(other), "{one}");
        }
        assert_ne!(fold("é"), fold("e"));
    }
}
