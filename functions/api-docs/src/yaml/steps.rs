//! Number of parser steps within one event, during which the meter is not called.

use granit_parser::{BorrowedInput, Input, Parser, StrInput};

use super::options;

thread_local! {
    /// Number of characters that the parser read or skipped.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

struct CountingInput<'t>(StrInput<'t>);

fn step(count: usize) {
    STEPS.set(STEPS.get() + count);
}

impl Input for CountingInput<'_> {
    fn lookahead(&mut self, count: usize) {
        step(1);
        self.0.lookahead(count);
    }

    fn buflen(&self) -> usize {
        self.0.buflen()
    }

    fn bufmaxlen(&self) -> usize {
        self.0.bufmaxlen()
    }

    fn raw_read_ch(&mut self) -> char {
        step(1);
        self.0.raw_read_ch()
    }

    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        step(1);
        self.0.raw_read_non_breakz_ch()
    }

    fn skip(&mut self) {
        step(1);
        self.0.skip();
    }

    fn skip_n(&mut self, count: usize) {
        step(count);
        self.0.skip_n(count);
    }

    fn peek(&self) -> char {
        step(1);
        self.0.peek()
    }

    fn peek_nth(&self, n: usize) -> char {
        step(n + 1);
        self.0.peek_nth(n)
    }

    fn byte_offset(&self) -> Option<usize> {
        self.0.byte_offset()
    }

    fn slice_bytes(&self, start: usize, end: usize) -> Option<&str> {
        step(end - start);
        self.0.slice_bytes(start, end)
    }
}

impl<'t> BorrowedInput<'t> for CountingInput<'t> {
    fn slice_borrowed(&self, start: usize, end: usize) -> Option<&'t str> {
        self.0.slice_borrowed(start, end)
    }
}

/// Returns the number of parser steps for a text.
fn steps(text: &str) -> usize {
    STEPS.set(0);
    let mut parser = Parser::with_options(CountingInput(StrInput::new(text)), options());
    while let Some(Ok(_)) = parser.next_event() {}
    STEPS.get()
}

/// Within one event, the number of steps is linear in its length.
#[test]
fn parser_steps_per_byte_are_bounded() {
    let times = |part: &str| part.repeat(100_000 / part.len());
    let (lines, spaces, letters) = (times("\n"), times(" "), times("x"));
    for (name, text) in [
        ("comments", times("# a\n") + "a: 1"),
        ("comments at CR", times("# a\r") + "a: 1"),
        ("comments in an array", format!("[1, {}]", times("# a\n"))),
        ("comments behind a name", format!("a: {}\n  b", times("# a\n "))),
        ("a comment", format!("# {letters}\na: 1")),
        ("empty lines", format!("{lines}a: 1")),
        ("spaces", format!("a:{spaces}1")),
        ("tabs", format!("a:{}1", times("\t"))),
        ("tabs on lines", format!("a:\n{}  b", times("\t\n"))),
        ("tabs behind a question mark", format!("?{}\n  b", times(" \t"))),
        ("BOMs", times("\u{feff}") + "a: 1"),
        ("BOMs on lines", times("\u{feff}\n") + "a: 1"),
        ("ends of documents", times("...\n")),
        ("ends of documents with comments", times("... # a\n")),
        ("beginnings of documents", times("---\n")),
        ("an anchor", format!("a: &{letters} 1")),
        ("an alias", format!("a: *{letters}")),
        ("anchors of one value", format!("a: {}1", times("&a "))),
        ("a tag", format!("a: !{letters} 1")),
        ("a tag of exclamation marks", format!("a: {} 1", times("!"))),
        ("a verbatim tag", format!("a: !<{letters}> 1")),
        ("a tag of escapes", format!("a: !x{} 1", times("%61"))),
        ("a directive", format!("%{letters}\n---\na: 1")),
        ("a directive of spaces", format!("%TAG{spaces}!a! b\n---\na: 1")),
        ("a reserved directive of words", format!("%A{}\n---\na: 1", times(" b"))),
        ("a plain text", format!("a: {letters}")),
        ("a plain text of words", format!("a: {}x", times("x "))),
        ("a plain text of lines", format!("a: {}x", times("x\n "))),
        ("a plain text with empty lines", format!("a: x{lines} x")),
        ("a plain text with spaces", format!("a: x{spaces}\n x")),
        ("a plain text of colons", format!("a: x{}", times(":"))),
        ("a plain text of colons in an array", format!("[x{}]", times(":x"))),
        ("a plain text of signs", format!("a: x{}", times("#"))),
        ("a quoted text", format!("a: \"{letters}\"")),
        ("a quoted text without an end", format!("a: \"{letters}")),
        ("a quoted text of escapes", format!("a: \"{}\"", times("\\x61"))),
        ("a quoted text of escaped lines", format!("a: \"{}\"", times("\\\n "))),
        ("a quoted text with empty lines", format!("a: \"x{lines} x\"")),
        ("a quoted text with spaces", format!("a: \"x{}\"", times(" \n"))),
        ("quotes", format!("a: '{}'", times("''"))),
        ("spaces behind a quoted text", format!("[\"a\"{spaces}]")),
        ("lines behind a quoted text", format!("[\"a\"{lines}]")),
        ("a literal text", format!("a: |\n{}", times(" x\n"))),
        ("a literal text of one line", format!("a: |\n {letters}")),
        ("a literal text with empty lines before", format!("a: |\n{lines} x")),
        ("a literal text with empty lines behind", format!("a: |+\n x{lines}")),
        ("a literal text without those behind", format!("a: |-\n x{lines}b: 1")),
        ("a literal text of empty lines", format!("a: |+\n{lines}")),
        ("a literal text that is far in", format!("a: |\n{spaces}x\n{spaces}x")),
        (
            "a literal text of shorter lines",
            format!("a: |\n{}x\n{}", " ".repeat(300), times(&(" ".repeat(299) + "\n"))),
        ),
        ("a folded text", format!("a: >\n{}", times(" x\n"))),
        ("a folded text with empty lines", format!("a: >+\n x{lines}\n x{lines}")),
        ("a head of a literal text", format!("a: |{spaces}# {letters}\n x")),
        ("names in an array", format!("[{}]", times("? x : y,"))),
        ("brackets", times("[")),
        ("brackets that end", format!("[{}]", times("[],"))),
        ("braces that end", format!("{{{}}}", times("{},"))),
        ("commas", format!("[{}]", times(","))),
        ("question marks", times("? ")),
        ("hyphens", times("- ")),
        ("colons", times(": ")),
        ("levels", (0..440).map(|level| format!("{}a:\n", " ".repeat(level))).collect()),
    ] {
        let steps = steps(&text);

        assert!(steps <= 24 * text.len() + 1000, "{name}: {steps} steps for {} bytes", text.len());
    }
}
