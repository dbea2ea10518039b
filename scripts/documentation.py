"""What the documentation has that can be compared with the code: variables, log lines, messages of mcpl, links, tests of rules; and its
tables."""

import collections
import json
import os
import pathlib
import re
import urllib.parse

import tools

# Written by Lambda itself: nothing that anyone sets.
PLATFORM = {"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION"}
# Built or installed, or made from a template whose links are those of the place it is copied to.
ELSEWHERE = {"target", "templates", "node_modules"}

# Crates that run on a developer's machine.
TOOLS = {"dsql-emulator", "function-url-emulator", "mcp-cli", "mcp-testing"}

DECLARATION = re.compile(r'^\s*(?:pub(?:\(\w+\))? )?const \w+: &str = "([A-Z]+(?:_[A-Z]+)+)";', re.MULTILINE)
# `line!` is that of a call, whose fields are the same at each level.
LOGGING = re.compile(r"(?:tracing::(?:error|warn|info)|\bline)!\(")
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([()])', re.DOTALL)
FENCE = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)", re.MULTILINE)
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
LITERAL = re.compile(r'(?<!b)"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Tests, by their names in Rust and in Python.
RUST_TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\(crate\) )?(?:async )?fn (\w+)")
PYTHON_TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)
RULES_HEADER = "| Clause | Level | Rule | Entry |"
TESTED = re.compile(r"test: `\w+`(?:, `\w+`)*")
REASON = re.compile(r"(?:not applicable|deviates) because \S.*\.")
# Where the messages of mcpl come from: `mcp-protocol` reads JSON for it.
MCPL_CRATES = ("mcp-cli", "mcp-protocol")


def stray_variables(project):
    """Variables that a function reads and the tables of docs/configuration.md do not list, or the other way round."""
    read = {name for source in sources(project) for name in DECLARATION.findall(source)} - PLATFORM
    tables = (project / "docs" / "configuration.md").read_text().partition("\n## Limits\n")[0]
    rows = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    yield from (f"{name} is read, and not in docs/configuration.md" for name in sorted(read - documented))
    yield from (f"{name} is in docs/configuration.md, and read nowhere" for name in sorted(documented - read))


def unexplained_lines(project):
    """What a function logs from `info` on, and docs/operations.md does not explain."""
    explained = (project / "docs" / "operations.md").read_text()
    for line in sorted({line for source in sources(project) for line in logged(source)}):
        # Of what is put together, the longest part that stands in the code; a lone `{error}` has none.
        part = max(re.split(r"\{[^}]*\}", re.sub(r"\\\n\s*", "", line)), key=len).strip()
        if part not in explained:
            yield f"docs/operations.md says nothing of {line!r}"


def logged(source):
    """The message of each call that logs: the first text among its own arguments, fields of which may have calls."""
    for call in LOGGING.finditer(source):
        depth = 1
        for text, bracket in (token.groups() for token in TOKEN.finditer(source, call.end())):
            depth += {"(": 1, ")": -1}.get(bracket, 0)
            if depth == 1 and not bracket:
                yield text
            if depth == 0 or (depth == 1 and not bracket):
                break


def sources(project):
    """The code of the framework's functions, and of what functions are made of. A product function documents itself in its own
    folder."""
    paths = [path for folder in ("crates", "functions") for path in (project / folder).glob("*/src/**/*.rs")]
    texts = [path.read_text() for path in paths if path.relative_to(project).parts[1] not in TOOLS and is_of_framework(path, project)]
    return [text.partition("\n#[cfg(test)]\n")[0] for text in texts]


def is_of_framework(path, project):
    """Whether a file does not belong to a product function."""
    parts = path.relative_to(project).parts
    return parts[0] != "functions" or len(parts) < 3 or parts[1] in tools.SHIPPED


def unknown_messages(project):
    """Messages that docs/mcpl-troubleshooting.md quotes and mcpl does not print: in the first column of tables with the header
    `Message`, where `…` stands for what differs."""
    paths = [path for crate in MCPL_CRATES for path in (project / "crates" / crate / "src").rglob("*.rs")]
    printed = [text for path in paths for text in literals(path.read_text())]
    for message in messages((project / "docs" / "mcpl-troubleshooting.md").read_text()):
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…")))
        if not any(pattern.search(text) for text in printed):
            yield f"docs/mcpl-troubleshooting.md quotes {message!r}, which mcpl does not print"


def literals(source):
    """The texts in code outside of tests, on one line each, with `…` in place of what is formatted."""
    code = re.sub(r"^\s*//.*$|'\"'", "", source.partition("\n#[cfg(test)]\n")[0], flags=re.MULTILINE)
    for literal in LITERAL.findall(code):
        text = re.sub(r"\\\n\s*", "", literal).replace('\\"', '"')
        yield re.sub(r"\{[^{}]*\}", "…", text)


def messages(page):
    """The code in the first column of the tables whose header there is `Message`."""
    header = None
    for above, line in zip(["", *page.splitlines()], page.splitlines()):
        if not line.startswith("|"):
            header = None
            continue
        first = line.split(" |")[0].removeprefix("|").strip()
        if not above.startswith("|"):
            header = first
        elif header == "Message":
            yield from (message.strip() for _, message in CODE_SPAN.findall(first))


def explains(page, text):
    """Whether the page about errors has a part of a text in the first column of a table: a message, a reason, an error of an issuer
    or a status. `…` stands for what differs; a part of a status stands for its number, such as `503`."""
    for line in page.splitlines():
        first = line.split(" |")[0].removeprefix("|").strip()
        for _, part in CODE_SPAN.findall(first) if line.startswith("|") else ():
            pattern = ".*".join(re.escape(piece.strip()) for piece in part.split("…"))
            if re.fullmatch(r"\d{3}", part):
                pattern = rf"the server answered {part}\b"
            if pattern.replace(".*", "") and re.search(pattern, text, re.DOTALL):
                return True
    return False


def unproven_rules(project):
    """Rules in docs/authorization-server-conformance.md that no test or reason stands beside, that name a test which does not exist, or
    that are a MUST and not followed."""
    page = (project / "docs" / "authorization-server-conformance.md").read_text()
    known = tests(project)
    for clause, level, rule, entry in rules(page):
        named = re.findall(r"`(\w+)`", entry) if TESTED.fullmatch(entry) else []
        if not named and not REASON.fullmatch(entry):
            yield f"clause {clause} ({rule}) has neither tests nor a reason"
        if entry.startswith("deviates") and not re.match("SHOULD|RECOMMENDED", level):
            yield f"clause {clause} ({rule}) is {level}, and not followed"
        yield from (f"clause {clause} ({rule}) names the test {name}, which does not exist" for name in named if name not in known)


def missing_rules(project):
    """Clauses of OAuth 2.1 and RFC 9700 that have not as many rows in docs/authorization-server-conformance.md as keywords in the text,
    without those that are for others. scripts/rules_of_oauth.json has both numbers."""
    page = (project / "docs" / "authorization-server-conformance.md").read_text()
    expected = json.loads((project / "scripts" / "rules_of_oauth.json").read_text())
    found = collections.Counter()
    for section in page.split("\n## "):
        document = section.partition("\n")[0]
        for clause, *_ in rules(section):
            # A clause of another section names its document.
            named, _, own = clause.rpartition(", ")
            found[named or document, own] += 1
    for document, clauses in expected.items():
        for clause, (keywords, others) in clauses.items():
            if (rows := found.pop((document, clause), 0)) != keywords - others:
                yield f"{document}, clause {clause}: {rows} rows, {keywords - others} rules"
        yield from (f"{document} has no rules in clause {clause}" for named, clause in found if named == document)


def rules(page):
    """The rows of the tables of rules: clause, level, rule and entry."""
    is_inside = False
    for line in page.splitlines():
        is_inside = line.startswith("|") and (is_inside or line == RULES_HEADER)
        if is_inside and line != RULES_HEADER and not line.startswith("| --"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield (cells + [""] * 4)[:4]


def tests(project):
    """The names of all tests, of crates, functions and programs."""
    rust = [path.read_text() for folder in ("crates", "functions") for path in (project / folder).rglob("*.rs")]
    python = [path.read_text() for path in (project / "tests").rglob("test_*.py")]
    return {name for text in rust for name in RUST_TEST.findall(text)} | {name for text in python for name in PYTHON_TEST.findall(text)}


def dead_links(project):
    """Links of a Markdown file to a file, or a heading, that is not there."""
    for path in sorted(markdown(project)):
        # Part of a crate's documentation, whose links rustdoc checks.
        if "src" in path.relative_to(project).parts:
            continue
        for link in LINK.findall(FENCE.sub("", path.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, fragment = urllib.parse.unquote(link).partition("#")
            target = path.parent / file if file else path
            if not target.exists():
                yield f"{path.relative_to(project)}: {link} leads nowhere"
            elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text()):
                yield f"{path.relative_to(project)}: {link} names no heading there"


def torn_tables(project):
    """Rows that belong to no table: there is a gap above them, and no delimiter row below."""
    for path in sorted(markdown(project)):
        lines = ["", *FENCE.sub("", path.read_text()).splitlines(), ""]
        for above, line, below in zip(lines, lines[1:], lines[2:]):
            if line.startswith("|") and not above.startswith("|") and not below.startswith("| --"):
                yield f"{path.relative_to(project)}: a row without a table: {line[:60]}"


def markdown(project):
    for folder, folders, files in os.walk(project):
        folders[:] = [name for name in folders if name not in ELSEWHERE and (name == ".github" or not name.startswith("."))]
        yield from (pathlib.Path(folder) / name for name in files if name.endswith(".md"))


def anchors(text):
    """The names that GitHub gives to the headings of a file."""
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text))]
    return {heading.strip().replace(" ", "-") for heading in headings}
