//! The kinds of faults of a tool: for which clients, and the fix (docs/clients.md, "Tool schemas that Anthropic, OpenAI and
//! Gemini reject").

use super::report::Level;

/// A kind of fault, in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    NoName,
    Name,
    Namesakes,
    NoSchema,
    Root,
    Union,
    NoProperties,
    Output,
    PropertyName,
    Pattern,
    Reference,
    Mirrored,
    Boolean,
    TypeList,
    NullInEnum,
    NoItems,
    Format,
    NoType,
    NumberEnum,
    OneOf,
    Recursion,
    LongName,
    FirstCharacter,
    LongDescription,
    NoDescription,
    NoTitle,
}

impl Fault {
    /// What is wrong, for which clients, and the fix.
    pub(super) fn words(self) -> (Level, &'static str, &'static str, &'static str) {
        use Level::{Note, Problem};
        match self {
            Self::NoName => (Problem, "without a name", "all clients", "give each tool a `name`"),
            Self::Name => (
                Problem,
                "with names outside of A-Z a-z 0-9 _ - or of more than 64 characters",
                "models of OpenAI and Gemini: their APIs reject the request, and with it the tools of all servers",
                "rename them: `snake_case`, at most 40 characters",
            ),
            Self::Namesakes => (
                Problem,
                "listed twice",
                "all clients: one of two is called, or the API rejects both",
                "give each tool a name of its own",
            ),
            Self::NoSchema => (
                Problem,
                "without an `inputSchema` that is an object",
                "clients of the official SDKs: the whole list fails",
                r#"a tool without arguments has {"type": "object", "properties": {}, "additionalProperties": false}"#,
            ),
            Self::Root => (
                Problem,
                "with an input schema whose root is not of the type `object`",
                "all model APIs: 400 to the whole request; clients of the TypeScript SDK: the whole list fails",
                r#"write "type": "object" at the root"#,
            ),
            Self::Union => (
                Problem,
                "with a union (`anyOf`, `oneOf`, `allOf`, `not`, `enum`) at the root of the input schema",
                "all model APIs: 400 to the whole request, and so to the tools of all servers",
                "make the union a property",
            ),
            Self::NoProperties => (
                Problem,
                "with an input schema without `properties`",
                "models of OpenAI: their API rejects the request",
                r#"write "properties": {}"#,
            ),
            Self::Output => (
                Problem,
                "with an output schema whose root is not of the type `object`",
                "clients up to 2025-11-25: the whole list fails (TypeScript SDK), or results are rejected",
                "wrap the result in an object",
            ),
            Self::PropertyName => (
                Problem,
                "with properties whose names are not 1 to 64 of A-Z a-z 0-9 _ . -",
                "Claude: the API rejects the request",
                "rename them",
            ),
            Self::Pattern => (
                Problem,
                "with a `pattern` that is no regular expression of ECMAScript",
                "clients of the TypeScript SDK: the whole list fails",
                "write it without inline flags, (?P<name>), \\A, \\z and POSIX classes",
            ),
            Self::Reference => (
                Problem,
                "with a `$ref` that leads to nothing in the schema",
                "all clients that resolve it: the tool, or the list, fails",
                "put the definition into `$defs` of the same schema",
            ),
            Self::Mirrored => (
                Problem,
                "with `x-mcp-header` annotations that the specification forbids",
                "clients of 2026-07-28: they leave the tool out",
                "annotate strings, integers and booleans, each with a header of its own",
            ),
            Self::Boolean => (
                Problem,
                "with `true` or `false` as a schema",
                "models of OpenAI and Gemini, and clients that drop the tool",
                "write {}",
            ),
            Self::TypeList => (
                Problem,
                "with a list of types, such as [\"string\", \"null\"]",
                "semantic-kernel, AutoGen, VS Code, Copilot and Gemini: the tool, or the server, is missing",
                r#"write "anyOf": [{"type": "string"}, {"type": "null"}], or leave null out"#,
            ),
            Self::NullInEnum => (
                Problem,
                "with `null` in an `enum`",
                "Gemini: rejected, and LangChain's adapter crashes",
                "write `anyOf` with {\"type\": \"null\"}",
            ),
            Self::NoItems => (
                Problem,
                "with an array without `items`",
                "VS Code, and models of OpenAI and Gemini",
                "write `items`, also beside `prefixItems`",
            ),
            Self::Format => (
                Note,
                "with a `format` that JSON Schema 2020-12 does not have",
                "clients of the TypeScript SDK (Gemini CLI, opencode, Cline) warn at each list; those with a strict AJV, and \
                 OpenAI's strict mode, reject the tool",
                "leave it out: `minimum` and `maximum` bound numbers",
            ),
            Self::NoType => (
                Note,
                "with an alternative of `anyOf` or a property that has keywords and no type",
                "Genkit and adapters for Gemini leave the argument out",
                "write `type` in each alternative",
            ),
            Self::NumberEnum => (
                Note,
                "with an `enum` of other values than strings",
                "Gemini",
                "use strings, or `minimum` and `maximum`",
            ),
            Self::OneOf => (
                Note,
                "with `oneOf`",
                "Gemini, and OpenAI's strict mode",
                "write `enum` for constants, `anyOf` otherwise",
            ),
            Self::Recursion => (
                Note,
                "with a schema that refers to itself",
                "clients that resolve each `$ref` crash or drop the tool; Gemini rejects `$ref`",
                "bound the depth, or take the value as JSON text",
            ),
            Self::LongName => (
                Note,
                "with names of more than 40 characters",
                "Claude Code, Gemini CLI, Qwen Code: with the server's name before it more than the model API takes",
                "shorten them",
            ),
            Self::FirstCharacter => {
                (Note, "with names that begin with neither a letter nor `_`", "models of Gemini", "rename them")
            }
            Self::LongDescription => (
                Note,
                "with descriptions of more than 1024 characters",
                "models of OpenAI: rejected, or cut by the client",
                "say the rest in `instructions` or in the descriptions of arguments",
            ),
            Self::NoDescription => {
                (Note, "without a description", "all models, which do not know what the tool is for", "describe them")
            }
            Self::NoTitle => (
                Note,
                "without `title`, or without `readOnlyHint` or `destructiveHint` in `annotations`",
                "Claude's directory of connectors, which requires them; clients that ask for approval of what may change things",
                "write them",
            ),
        }
    }
}
