"""What the documentation says that can be compared with what is there: variables, and links."""

import os
import pathlib
import re
import urllib.parse

# Written by Lambda itself: nothing that anyone sets.
PLATFORM = {"AWS_LAMBDA_RUNTIME_API", "AWS_REGION"}
# Built or installed, or made from a template whose links are those of the place it is copied to.
ELSEWHERE = {"target", "templates", "node_modules"}

DECLARATION = re.compile(r'^\s*(?:pub(?:\(\w+\))? )?const \w+: &str = "([A-Z]+(?:_[A-Z]+)+)";', re.MULTILINE)
FENCE = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)", re.MULTILINE)


def stray_variables(project):
    """Variables that a function reads and the table of docs/configuration.md has not, or the other way round."""
    sources = [path for folder in ("crates", "functions") for path in (project / folder).glob("*/src/**/*.rs")]
    sources = [path for path in sources if "mcp-cli" not in path.parts]
    read = {name for path in sources for name in DECLARATION.findall(path.read_text())} - PLATFORM
    table = (project / "docs" / "configuration.md").read_text().partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    yield from (f"{name} is read, and not in docs/configuration.md" for name in sorted(read - documented))
    yield from (f"{name} is in docs/configuration.md, and read nowhere" for name in sorted(documented - read))


def dead_links(project):
    """Links of a Markdown file to a file, or a heading, that is not there."""
    for path in sorted(markdown(project)):
        for link in LINK.findall(FENCE.sub("", path.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, fragment = urllib.parse.unquote(link).partition("#")
            target = path.parent / file if file else path
            if not target.exists():
                yield f"{path.relative_to(project)}: {link} leads nowhere"
            elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text()):
                yield f"{path.relative_to(project)}: {link} names no heading there"


def markdown(project):
    for folder, folders, files in os.walk(project):
        folders[:] = [name for name in folders if name not in ELSEWHERE and (name == ".github" or not name.startswith("."))]
        yield from (pathlib.Path(folder) / name for name in files if name.endswith(".md"))


def anchors(text):
    """The names that GitHub gives to the headings of a file."""
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text))]
    return {heading.strip().replace(" ", "-") for heading in headings}
