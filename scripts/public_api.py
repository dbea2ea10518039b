#!/usr/bin/env python3
"""The public API of mcp-lambda, the crate that functions name, against the checked-in list.

    python3 scripts/public_api.py             compares crates/mcp-lambda/public-api.txt with the code; part of `make check`
    python3 scripts/public_api.py --accept    rewrites it; its diff is part of the review

The declarations are those of the HTML that `cargo doc` writes, where items of other crates stand inlined.
"""

import collections
import difflib
import html.parser
import subprocess
import sys

import tools

CRATE = "mcp-lambda"
FILE = tools.PROJECT / "crates" / CRATE / "public-api.txt"
# What every type has by its parts, and what is not written for it.
SKIPPED = {"synthetic-implementations-list", "blanket-implementations-list"}
VOID = {"br", "hr", "img", "input", "link", "meta", "wbr", "path", "use"}
TYPES = {"struct", "enum", "trait", "type", "union"}


def main(arguments):
    if arguments not in ([], ["--accept"]):
        sys.exit("usage: public_api.py [--accept]")
    command = ["cargo", "doc", "--package", CRATE, "--no-deps", "--all-features", "--locked", "--quiet"]
    if subprocess.run(command, cwd=tools.PROJECT).returncode:
        sys.exit(1)
    lines = api(tools.target_folder() / "doc" / CRATE.replace("-", "_"))
    if arguments:
        FILE.write_text("".join(f"{line}\n" for line in lines))
        print(f"{FILE.relative_to(tools.PROJECT)} has {len(lines)} lines; its diff is part of the review")
    elif faults := list(differences(FILE.read_text().splitlines(), lines)):
        print(*faults, sep="\n", file=sys.stderr)
        sys.exit("the public API has changed: if this is meant, run `python3 scripts/public_api.py --accept`")


def differences(accepted, lines):
    """What was added and removed, and two types of one name."""
    for line in difflib.unified_diff(accepted, lines, "accepted", "now", lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            yield f"  {line}"
    yield from (f"  two types are named {name}" for name in twins(lines))


def twins(lines):
    """Names that more than one type has."""
    headings = [line.split() for line in lines if not line.startswith(" ")]
    names = [path.rpartition("::")[2] for kind, path in headings if kind in TYPES]
    return sorted(name for name, count in collections.Counter(names).items() if count > 1)


def api(folder):
    """Each item, and below it its declaration, its methods and what it implements."""
    index = read(folder / "all.html", Links())
    lines = []
    for link in sorted(set(index.links)):
        kind, _, name = link.removesuffix(".html").rpartition("/")[2].partition(".")
        module = link.rpartition("/")[0]
        lines.append(f"{kind} {'::'.join(part for part in (*module.split('/'), name) if part)}")
        lines += [f"    {line}" for line in read(folder / link, Declarations()).found]
    return lines


def read(path, parser):
    # `all.html` names what is there: pages of items that are gone stay in the folder.
    parser.feed(path.read_text())
    return parser


class Links(html.parser.HTMLParser):
    """The pages of all items."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attributes):
        link = dict(attributes).get("href") or ""
        if tag == "a" and link.endswith(".html") and "." in link.removesuffix(".html") and not link.startswith((".", "http:", "https:")):
            self.links.append(link)


class Declarations(html.parser.HTMLParser):
    """The item's declaration and the headers of its methods and implementations, each in one line."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []
        self.text = None

    def handle_starttag(self, tag, attributes):
        if tag in VOID:
            return
        attributes = dict(attributes)
        classes = (attributes.get("class") or "").split()
        skipped = attributes.get("id") in SKIPPED or (bool(self.open) and self.open[-1][1])
        is_declaration = "item-decl" in classes or "code-header" in classes
        if is_declaration and not skipped and self.text is None:
            self.text = []
            self.open.append((tag, skipped, True))
        else:
            self.open.append((tag, skipped, False))

    def handle_endtag(self, tag):
        while self.open:
            opened, _, is_declaration = self.open.pop()
            if is_declaration:
                self.found.append(" ".join("".join(self.text).split()))
                self.text = None
            if opened == tag:
                break

    def handle_data(self, data):
        if self.text is not None:
            self.text.append(data)


if __name__ == "__main__":
    main(sys.argv[1:])
