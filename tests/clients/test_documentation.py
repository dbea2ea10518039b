"""The tables of docs/clients.md say what the tests check."""

import pathlib
import re
import sys

import agents
import clis
import servers
import signing_in

PYTHON = pathlib.Path(__file__).parent / "python"
sys.path.insert(0, str(PYTHON))

import frameworks  # noqa: E402

DOCUMENT = servers.PROJECT / "docs" / "clients.md"


def test_the_documentation_has_what_was_recorded():
    lines = DOCUMENT.read_text().splitlines()
    missing = [row for rows in tables().values() for row in rows if row not in lines]
    assert not missing, "docs/clients.md has no such rows:\n" + "\n".join(missing)


def tables():
    own = agents.PROGRAMS.values()
    return {
        "AGENTS": [
            row(versioned(one), one.revision, one.shows, keywords(one.drops), "yes" if one.is_instructed else "no", checker(one))
            for one in own
        ],
        "UNSIGNED": [row(one.title, f"`{one.unsigned}`") for one in own],
        "FRAMEWORKS": [
            row(required(name), one.revision, one.shows, keywords(one.drops), checker(one))
            for name, one in frameworks.FRAMEWORKS.items()
        ],
        "CLIS": [row(versioned(one), one.revision, one.shows, one.error_code) for one in clis.CLIS.values()],
        "AUTHORIZATION": [
            row(named(name), "metadata document" if document else "registration", signing_in.PAGES)
            for name, document in signing_in.DOCUMENTS.items()
        ],
    }


def row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def versioned(program):
    return f"{program.title} {agents.version(program.package)}"


def named(name):
    program = agents.PROGRAMS.get(name) or clis.CLIS.get(name)
    return versioned(program) if program else f"{name} {agents.version(name)}"


def required(name):
    """A framework's packages that are no common ones, as they are pinned."""
    lines = (PYTHON / "requirements" / f"{name}.txt").read_text().splitlines()
    pinned = [f"{found[1]} {found[2]}" for line in lines if (found := re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)", line))]
    # The adapter alone would be there twice.
    return " with ".join(pinned[: 2 if name.startswith("langchain") else 1])


def keywords(dropped):
    has_bounds = agents.BOUNDS <= dropped
    names = sorted(dropped - agents.BOUNDS if has_bounds else dropped)
    return ", ".join(["bounds"] * has_bounds + [f"`{name}`" for name in names]) or "nothing"


def checker(program):
    return "the program" if program.checks_arguments else "the server"
