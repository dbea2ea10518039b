"""What the code says that a compiler does not check: where JSON is read without a budget, what mcp-server must not know, how long
its files are."""

import pathlib
import re
import subprocess

import documentation

# Not deployed, and reading no JSON of others.
EXEMPT = {"conformance", "dsql-emulator", "function-url-emulator", "mcp-testing"}

READER = re.compile(r"\bserde_json::(?:de::)?(?:from_(?:str|slice|reader)\b|Deserializer\b|StreamDeserializer\b)")
IMPORT = re.compile(r"^\s*use serde_json::[^;]*\b(?:from_(?:str|slice|reader)|Deserializer|StreamDeserializer)\b", re.MULTILINE)
# `borrow` has no budget, so that it is for values of fixed size.
GROWING = re.compile(r"\bjson::borrow::<[^(;]*\b(?:Value|JsonObject|Map|\w*Map)\b")
REASON = re.compile(r"// Unbounded JSON: (.+)\.$")

# What only transports and deployments know.
SERVER = "crates/mcp-server/src"
FOREIGN = re.compile(
    r"\b(?:AWS|COGNITO|DB|GOOGLE|MCP|OIDC|OTEL)_[A-Z_]+|Lambda|X-?Ray|xray|SnapStart|ChatGPT|securitySchemes|\bHTTP\b|StatusCode"
    r"|DSQL|Postgres\b|\b(?:40[1-9]|4[12]\d|50[1-4])\b"
)
MAX_LINES = 450

# The crates whose items mcp-lambda shows as its own.
REEXPORTED = ("mcp-postgres", "mcp-protocol", "mcp-server")
SHOWN_IMPORT = re.compile(r"\s*//[/!] use (mcp_(?:postgres|protocol|server))\b")

# What an author copies: with its description and its doc comments, without imports and tests.
EXAMPLES = "crates/mcp-lambda/examples"
USE = re.compile(r"^use [^;]+;\n", re.MULTILINE)
MAX_EXAMPLE_LINES = 45


# Words that a search never contains: the field has a term for what they mean. `nobody` in quotes is a user of the system.
VAGUE = re.compile(
    r"(?<![a-z`\"])(?:nobody|somebody|anybody|everybody|whoever|whomever|whatever|mend(?:s|ed|ing)?|(?:is|are|was|were) told"
    r"|turned away|the least and the most|letter by letter)(?![a-z])",
    re.IGNORECASE,
)
PROSE = (".md", ".rs", ".py", ".mjs", ".js", ".ts", ".sh", ".yaml", ".yml", ".toml", ".html", ".css", ".sql", "Makefile", "Dockerfile")
# The definition of the words, texts of others, renamed texts, and files whose checksum is in databases.
UNCHECKED = ("scripts/sources.py", "tests/scripts/test_sources.py", "tests/interop/documents/", "CHANGELOG.md", "functions/event-logger/migrations/")


def unbounded_readers(project):
    """The places of the framework outside tests that read JSON in another way than by `mcp_protocol::json`: path, line, reason or
    `None`."""
    for path in sorted(path for folder in ("crates", "functions", "templates") for path in (project / folder).rglob("src/**/*.rs")):
        name = path.relative_to(project).parts[1]
        if name in EXEMPT or path.name == "tests.rs" or not documentation.is_of_framework(path, project):
            continue
        code = path.read_text().partition("#[cfg(test)]\nmod tests")[0]
        lines = code.splitlines()
        for found in (match for pattern in (READER, IMPORT, GROWING) for match in pattern.finditer(code)):
            number = code.count("\n", 0, found.start()) + found[0].count("\n", 0, len(found[0]) - len(found[0].lstrip())) + 1
            if lines[number - 1].lstrip().startswith("//"):
                continue
            yield path.relative_to(project), number, reason_above(lines[: number - 1])


def reason_above(lines):
    """The reason that stands above the statement, which may have begun some lines before."""
    while lines and lines[-1].strip() and not lines[-1].endswith((";", "}", "{")):
        if reason := REASON.search(lines[-1]):
            return reason[1]
        lines = lines[:-1]
    return None


def unexplained_readers(project):
    """Prints each place with its reason; yields those without one."""
    for path, line, reason in unbounded_readers(project):
        if reason:
            print(f"  {path}:{line}: {reason}")
        else:
            yield (
                f"{path}:{line} reads JSON without a budget: use mcp_protocol::json, or write `// Unbounded JSON: why.` above"
            )


def foreign_words(project):
    """Lines of mcp-server that name a transport, a platform or a variable, in code or comments."""
    for path in sorted((project / SERVER).rglob("*.rs")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := FOREIGN.search(line):
                yield f"{path.relative_to(project)}:{number} says `{found[0]}`, which belongs to mcp-lambda"


def long_files(project):
    """Files of mcp-server with too many lines of code: without tests, comments and empty lines."""
    for path in sorted((project / SERVER).rglob("*.rs")):
        code = path.read_text().partition("#[cfg(test)]\nmod tests {")[0].splitlines()
        count = sum(1 for line in code if line.strip() and not line.lstrip().startswith("//"))
        if count > MAX_LINES and path.name != "tests.rs":
            yield f"{path.relative_to(project)} has {count} lines of code, more than {MAX_LINES}"


def examples_of_other_crates(project):
    """Examples of documentation that an author reads at mcp-lambda, and that import what no function names."""
    for crate in REEXPORTED:
        for path in sorted((project / "crates" / crate / "src").rglob("*.rs")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if path.name != "lib.rs" and (found := SHOWN_IMPORT.match(line)):
                    yield f"{path.relative_to(project)}:{number} imports `{found[1]}`: show `mcp_lambda`, with `# use {found[1]} as mcp_lambda;`"


def long_examples(project):
    """Examples of the author crate with too many lines: without imports, tests, the comment of the file and empty lines."""
    for path in sorted((project / EXAMPLES).glob("*.rs")):
        code = USE.sub("", path.read_text().partition("#[cfg(test)]\nmod tests {")[0]).splitlines()
        count = sum(1 for line in code if line.strip() and not line.startswith("//!"))
        if count > MAX_EXAMPLE_LINES:
            yield f"{path.relative_to(project)} has {count} lines without imports and tests, more than {MAX_EXAMPLE_LINES}"


def vague_words(project):
    """Lines of tracked text files of the framework with a vague word, in documents, comments, messages or names."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if not name.endswith(PROSE) or name.startswith(UNCHECKED) or not (project / name).is_file():
            continue
        if not documentation.is_of_framework(project / name, project):
            continue
        for number, line in enumerate((project / name).read_text().splitlines(), 1):
            if found := VAGUE.search(line):
                yield f"{name}:{number} has `{found[0]}`: name the person, program or thing that is meant"
