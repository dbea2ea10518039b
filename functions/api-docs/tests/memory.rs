//! Memory of document parsing, measured by the allocator.
//!
//! A separate test binary with one test, since the allocator counts all threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is a failed test")]

use api_docs::{Budget, Document};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Memory of functions in MiB, and the divisor of the budget for the size of a text; at most an eighth is downloaded.
/// Sizes are small since the test is slow. The budget scales with the memory; the charges do not.
const FUNCTIONS_MIB: [(usize, usize); 4] = [(16, 6000), (16, 40), (16, 8), (64, 40)];
/// Maximum memory of excerpts (48 KiB each) and searches.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Memory use of a document.
struct MemoryUse {
    /// Peak during parsing.
    peak: usize,
    /// After parsing.
    kept: usize,
    /// Peak while operations and schemas are read.
    answering: usize,
    error: Option<String>,
}

fn read(text: &str, budget: Budget) -> MemoryUse {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let document = Document::parse(text.as_bytes(), budget);
    let (peak, after) = (ALLOCATOR.peak_usage(), ALLOCATOR.current_usage());
    ALLOCATOR.reset_peak_usage();
    let error = match &document {
        Ok(document) => {
            api_docs::read_some(document);
            None
        }
        Err(error) => Some(mcp_lambda::error_chain(error)),
    };
    MemoryUse { peak: peak - before, kept: after - before, answering: ALLOCATOR.peak_usage() - after, error }
}

/// Returns texts of about `bytes` bytes with high memory amplification.
fn hostile(bytes: usize) -> Vec<(&'static str, String)> {
    let repeated = |part: &str, between: &str| vec![part; bytes / (part.len() + between.len())].join(between);
    let numbered = |part: fn(usize) -> String| {
        let mut text = String::new();
        for number in 0.. {
            if text.len() > bytes {
                break;
            }
            text += &part(number);
        }
        text
    };
    let json = |inner: String| format!(r#"{{"openapi":"3.1.0","x":[{inner}0]}}"#);
    let yaml = |inner: String| format!("openapi: 3.1.0\nx: [{inner}0]");
    let paths = |inner: String| format!(r#"{{"openapi":"3.1.0","paths":{{{inner}"/":{{}}}}}}"#);
    let schemas = |inner: String| format!(r#"{{"openapi":"3.1.0","components":{{"schemas":{{{inner}"":{{}}}}}}}}"#);
    vec![
        ("JSON: objects of one member", json(repeated(r#"{"":0}"#, ",") + ",")),
        ("JSON: objects in objects", json(repeated(&(r#"{"":"#.repeat(80) + "0" + &"}".repeat(80)), ",") + ",")),
        ("JSON: arrays of one item", json(repeated("[0]", ",") + ",")),
        ("JSON: arrays in arrays", json(repeated(&("[".repeat(90) + &"]".repeat(90)), ",") + ",")),
        ("JSON: one array", json(repeated("0", ",") + ",")),
        ("JSON: short texts", json(repeated(r#""a""#, ",") + ",")),
        ("JSON: escaped text", json(format!(r#""{}","#, repeated(r"\u0061", "")))),
        (
            "JSON: members in order",
            format!(r#"{{"openapi":"3.1.0",{}"z":0}}"#, numbered(|number| format!(r#""{number:07}":0,"#))),
        ),
        (
            "JSON: members against the order",
            format!(
                r#"{{"openapi":"3.1.0",{}"z":0}}"#,
                numbered(|number| format!(r#""{:07}":0,"#, 9_999_999 - number))
            ),
        ),
        ("JSON: nested unbounded", format!(r#"{{"openapi":"3.1.0","x":{}"#, repeated("[", ""))),
        ("JSON: incomplete", format!(r#"{{"openapi":"3.1.0","x":[{}"#, repeated(r#"{"":0}"#, ","))),
        ("operations", paths(numbered(|number| format!(r#""/{number}":{{"get":{{}},"put":{{}},"post":{{}}}},"#)))),
        (
            "webhooks",
            format!(
                r#"{{"openapi":"3.1.0","webhooks":{{{}"":{{}}}}}}"#,
                numbered(|number| format!(r#""{number}":{{"get":{{}},"put":{{}},"post":{{}}}},"#))
            ),
        ),
        (
            "operations with tags",
            paths(numbered(|number| format!(r#""/{number}":{{"get":{{"tags":["a","b","c"]}}}},"#))),
        ),
        (
            "operations with parameters of their path",
            paths(numbered(|number| {
                format!(
                    r#""/{number}":{{"parameters":[{{"name":"{}"}}],"get":{{}},"put":{{}},"post":{{}},"head":{{}}}},"#,
                    "x".repeat(500)
                )
            })),
        ),
        ("words", schemas(numbered(|number| format!(r#""a{number} b{number} c{number}":{{}},"#)))),
        (
            "properties",
            schemas(format!(r#""A":{{"properties":{{{}"z":0}}}},"#, numbered(|number| format!(r#""p{number}":0,"#)))),
        ),
        ("words without spaces", {
            let characters: Vec<_> = ('一'..='龥').collect();
            let mut number = 1;
            let mut next = || {
                number = number * 48_271 % 2_147_483_647;
                characters[number % characters.len()]
            };
            let text: String = (0..bytes / 3).map(|_| next()).collect();
            // Descriptions are truncated in schemas, not in operations.
            paths(format!(r#""/":{{"get":{{"description":"{text}"}}}},"#))
        }),
        (
            "marks unbounded",
            paths(format!(r#""/":{{"get":{{"description":"a{}"}}}},"#, repeated("\u{316}\u{301}", ""))),
        ),
        ("a long description", schemas(format!(r#""A":{{"description":"{}"}},"#, repeated("a", " ")))),
        ("a long name of many values", {
            let values = vec!["1"; 10_000].join(",");
            schemas(format!(r#""A":{{"{}":[{values}]}},"#, "x".repeat(20_000)))
        }),
        ("YAML: a flow array", yaml(repeated("1", ",") + ",")),
        ("YAML: flow objects", yaml(repeated("{a: }", ",") + ",")),
        ("YAML: empty flow objects", yaml(repeated("{}", ",") + ",")),
        ("YAML: a flow array as a name", format!("[{}]: 1", repeated("1", ","))),
        ("YAML: nested unbounded", repeated("[", "")),
        ("YAML: objects nested unbounded", repeated("{a: ", "")),
        ("YAML: block arrays unbounded", repeated("- ", "")),
        ("YAML: explicit names unbounded", repeated("? ", "")),
        ("YAML: a block array", format!("openapi: 3.1.0\nx:\n{}\n", repeated("- 1", "\n"))),
        ("YAML: block objects", format!("openapi: 3.1.0\nx:\n{}\n", repeated("- a:", "\n"))),
        ("YAML: nothing", format!("openapi: 3.1.0\nx:\n{}\n", repeated("-", "\n"))),
        ("YAML: anchors", yaml(numbered(|number| format!("&a{number} 1,")))),
        ("YAML: anchors of one name", yaml(repeated("&a x", ",") + ",")),
        ("YAML: aliases", format!("openapi: 3.1.0\nx: &a {{a: 1}}\ny: [{}]", repeated("*a", ","))),
        ("YAML: aliases of aliases", {
            let items = |number: usize| vec![format!("*a{number}"); 9].join(",");
            let levels: String =
                (1..9).map(|number| format!("a{number}: &a{number} [{}]\n", items(number - 1))).collect();
            format!("openapi: 3.1.0\na0: &a0 [1,1,1]\n{levels}")
        }),
        ("YAML: merge keys", format!("openapi: 3.1.0\nx: &a {{a: 1}}\ny: [{}]", repeated("{<<: *a}", ","))),
        ("YAML: merge keys of lists", format!("openapi: 3.1.0\nx: &a {{a: 1}}\ny: {{<<: [{}]}}", repeated("*a", ","))),
        (
            "YAML: merge keys of one object",
            format!("openapi: 3.1.0\nx: &a {{a: 1}}\ny: {{{}}}", repeated("<<: *a", ",")),
        ),
        (
            "YAML: merge keys with members",
            format!("openapi: 3.1.0\ny: [{}]", repeated("{<<: {a: 1, b: 2}, c: 3}", ",")),
        ),
        ("YAML: merge keys unbounded", repeated("{<<: ", "")),
        (
            "YAML: merge keys of other members",
            yaml(numbered(|number| format!("&a{number} {{k{number}: 1, <<: {{l{number}: 1}}}},"))),
        ),
        (
            "YAML: merge keys of merge keys",
            numbered(|number| match number {
                0 => "openapi: 3.1.0\na0: &a0 {k0: 1}\n".to_owned(),
                _ => format!("a{number}: &a{number} {{k{number}: 1, <<: [*a{0}, *a{0}]}}\n", number - 1),
            }),
        ),
        ("YAML: tags", yaml(repeated("!a b", ",") + ",")),
        ("YAML: long tags", yaml(numbered(|number| format!("!{}{number} 1,", "t".repeat(100))))),
        ("YAML: directives", repeated("%TAG !a! b\n", "") + "---\nopenapi: 3.1.0"),
        ("YAML: many directives", numbered(|number| format!("%TAG !a{number}! b\n"))),
        ("YAML: many directives at CR", numbered(|number| format!("%TAG !a{number}! b\r")) + "---\ropenapi: 3.1.0"),
        ("YAML: many directives after BOMs", numbered(|number| format!("%TAG !a{number}! b\n\u{feff}"))),
        ("YAML: empty lines in a plain text", format!("openapi: 3.1.0\nx: a{}  b\n", repeated("\n", ""))),
        ("YAML: empty lines in a quoted text", format!("openapi: 3.1.0\nx: \"a{}  b\"\n", repeated("\n", ""))),
        ("YAML: empty lines in a literal text", format!("openapi: 3.1.0\nx: |+\n  a{}  b\n", repeated("\n", ""))),
        ("YAML: empty lines behind a literal text", format!("openapi: 3.1.0\nx: |+\n  a{}\n", repeated("\n", ""))),
        ("YAML: a plain text of lines", format!("openapi: 3.1.0\nx: {}\n", repeated("a", "\n  "))),
        ("YAML: spaces in a plain text", format!("openapi: 3.1.0\nx: a{}b\n", repeated(" ", ""))),
        ("YAML: a long anchor", format!("openapi: 3.1.0\nx: &{} 1\n", repeated("a", ""))),
        ("YAML: a long tag", format!("openapi: 3.1.0\nx: !{} 1\n", repeated("a", ""))),
        ("YAML: a long verbatim tag", format!("openapi: 3.1.0\nx: !<{}> 1\n", repeated("a", ""))),
        ("YAML: a tag of escapes", format!("openapi: 3.1.0\nx: !a{} 1\n", repeated("%61", ""))),
        ("YAML: ends of documents", repeated("...\n", "")),
        ("YAML: a member twice", format!("{0}: 1\n{0}: 2\n", "a".repeat(1000))),
        ("a long version", format!(r#"{{"openapi":"{}"}}"#, repeated("a", ""))),
        ("a long version of escapes", format!(r#"{{"swagger":"{}"}}"#, repeated(r"\u0001", ""))),
        (
            "a long name of a security scheme",
            format!(
                r#"{{"openapi":"3.1.0","paths":{{"/":{{"get":{{"security":[{{"{0}":[]}}]}}}}}},"components":{{"securitySchemes":{{"{0}":{{}}}}}}}}"#,
                "/".repeat(bytes / 2)
            ),
        ),
        ("YAML: comments", repeated("# a\n", "") + "openapi: 3.1.0"),
        ("YAML: escaped text", format!("openapi: 3.1.0\nx: \"{}\"", repeated(r"\x61", ""))),
        ("YAML: folded text", format!("openapi: 3.1.0\nx: >\n  {}\n", repeated("a", "\n  "))),
        ("YAML: members", format!("openapi: 3.1.0\n{}", numbered(|number| format!("{number}: 0\n")))),
        ("YAML: after what begins like JSON", format!("{{ x: [{}]", repeated("1", ","))),
        ("YAML: documents", repeated("---\n", "")),
    ]
}

#[test]
fn memory_of_a_document_is_within_its_budget() {
    let mut rejected = 0;
    for (memory, part) in FUNCTIONS_MIB {
        let budget = Budget::of_function(memory);
        let bytes = budget.bytes() / part;
        for (name, text) in hostile(bytes) {
            let MemoryUse { peak, kept, answering, error } = read(&text, budget);

            let place = format!("{name}: {bytes} bytes in {memory} MiB: {error:?}");
            assert!(peak <= budget.bytes(), "{place}: {peak} of {}", budget.bytes());
            assert!(answering <= ANSWER_BYTES, "{place}: {answering} for excerpts");
            assert!(error.is_none() || kept < 64 * 1024, "{place}: {kept} after the error");
            rejected += usize::from(error.is_some_and(|error| error.contains("MiB of memory")));
        }
    }
    assert!(rejected > 20, "{rejected} were rejected");
}
