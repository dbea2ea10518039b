//! Texts as words, and names without their case.

use std::iter;

use unicode_normalization::char::{compose, is_combining_mark};

/// Of a word; what is after them is not compared.
pub(crate) const MAX_WORD_CHARS: usize = 64;

/// A text without its case, for comparisons: two that differ in nothing else are the same (Unicode's full case folding),
/// in whichever way their letters and marks are composed.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    characters(text).for_each(|character| push_folded(&mut folded, character));
    folded
}

/// The words of a text, folded; `listPets`, `list-pets` and `list pets` have the same. Text of a script without spaces has one
/// for each character: with the next, if there is one.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    split(text).map(|(word, _)| word)
}

/// The words of a query. The last character of text without spaces is none, unless it is alone: it is in the one before.
pub(crate) fn words_of_query(query: &str) -> impl Iterator<Item = String> {
    split(query).filter(|(_, is_rest)| !is_rest).map(|(word, _)| word)
}

/// Words, and whether each is the second character of the one before.
fn split(text: &str) -> impl Iterator<Item = (String, bool)> {
    let mut characters = characters(text).peekable();
    let (mut before, mut is_within) = (' ', false);
    iter::from_fn(move || {
        let mut word = String::new();
        let mut length = 0;
        while let Some(character) = characters.peek().copied() {
            let begins = character.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
            let is_spaceless = is_spaceless(character);
            // A mark belongs to what is before.
            let goes_on = character.is_alphanumeric() || is_mark(character);
            if !word.is_empty() && (begins || is_spaceless || !goes_on) {
                return Some((word, false));
            }
            characters.next();
            before = character;
            let was_within = std::mem::replace(&mut is_within, is_spaceless);
            if is_spaceless {
                let next = characters.peek().copied().filter(|next| self::is_spaceless(*next));
                iter::once(character).chain(next).for_each(|own| push_folded(&mut word, own));
                return Some((word, was_within && next.is_none()));
            }
            let is_part = character.is_alphanumeric() || goes_on && !word.is_empty();
            if is_part && length < MAX_WORD_CHARS {
                push_folded(&mut word, character);
                length += 1;
            }
        }
        Some((word, false)).filter(|(word, _)| !word.is_empty())
    })
}

/// The characters of a text, each composed with the marks behind it: `é` may be one or two. This is NFC for marks in their usual
/// order, without the tables that decompose (60 KB of a zip).
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

/// Whether it says how the character before it looks.
fn is_variation_selector(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Appends a character without its case. What is the same in capitals (`ß` and `ss`, `σ` and `ς`) is the same; the dot of `İ`, which
/// `i` has anyway, is left out.
fn push_folded(text: &mut String, character: char) {
    if character.is_ascii() {
        return text.push(character.to_ascii_lowercase());
    }
    let capitals = character.to_lowercase().flat_map(char::to_uppercase);
    text.extend(capitals.flat_map(char::to_lowercase).filter(|own| *own != '\u{307}'));
}

/// Whether words of its script follow each other without spaces, as in Chinese, Japanese and Thai; or have endings that stick
/// to them, as in Korean.
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
    fn words_are_found_however_a_name_is_written() {
        let found: Vec<_> = words("listPets/by-ID_v2: JSONSchema").collect();

        assert_eq!(found, ["list", "pets", "by", "id", "v2", "jsonschema"]);
        assert_eq!(words("v2Beta  --").collect::<Vec<_>>(), ["v2", "beta"]);
        assert_eq!(words("").next(), None);
    }

    /// 6.7
    #[test]
    fn text_without_spaces_has_a_word_for_each_character() {
        let text = "查询发票列表".repeat(1000);
        assert_eq!(words(&text).count(), text.chars().count());
        assert_eq!(words("查询a发").collect::<Vec<_>>(), ["查询", "询", "a", "发"]);
        assert_eq!(words_of_query("查询a发").collect::<Vec<_>>(), ["查询", "a", "发"]);
        assert_eq!(words_of_query("ガス、料").collect::<Vec<_>>(), ["ガス", "料"]);
    }

    /// 6.7: a word with as many marks as it likes is as long as another.
    #[test]
    fn marks_belong_to_the_word_before_and_are_bounded() {
        let marked = format!("a{}", "\u{316}\u{301}".repeat(100_000));

        assert!(words(&marked).all(|word| word.chars().count() <= MAX_WORD_CHARS));
        assert_eq!(words("x\u{302}y क्या").collect::<Vec<_>>(), ["x\u{302}y", "क्या"]);
        assert_eq!(words("a \u{301} ❤\u{fe0f}b").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(words("葛\u{e0100}城").collect::<Vec<_>>(), ["葛城", "城"]);
    }

    /// 6.7
    #[test]
    fn names_are_the_same_in_any_case_and_composition() {
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
