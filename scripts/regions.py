#!/usr/bin/env python3
"""Part of `make check`: compares the table of regions in docs/deployment-reference.md with the resource types that CloudFormation has in each
region, by the schemas of cfn-lint. Run with the Python of the tool folder.

    regions.py             fails and prints the expected rows if they differ
    regions.py --accept    writes them
"""

import pathlib
import sys

from cfnlint.decode import cfn_yaml
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

import templates
import tools

PAGE = pathlib.Path("docs", "deployment-reference.md")
HEAD = "| Region | Missing resource types | Templates that cannot be deployed |\n| --- | --- | --- |\n"
UNKNOWN = "cfn-lint has no schemas of "
# Deployed in us-east-1 for all regions.
ELSEWHERE = {"budget", "custom-domain"}
# cfn-lint uses the schemas of this region for regions without schemas.
DEFAULT = "us-east-1"


def main(arguments):
    page = tools.PROJECT / PAGE
    text = page.read_text(encoding="utf-8")
    expected = corrected(text, *by_region(types_by_template()))
    if expected == text:
        return
    if arguments == ["--accept"]:
        page.write_text(expected, encoding="utf-8")
        return
    for line in (line for line in expected.splitlines() if line not in text.splitlines()):
        print(f"  expected: {line}", file=sys.stderr)
    sys.exit(f"  {PAGE} differs from the schemas of cfn-lint in its table of regions: run scripts/regions.py --accept")


def types_by_template():
    """Returns the resource types of each template of the framework, by its path. CloudFormation rejects a template with an unknown type, also under a
    condition that is false."""
    paths = {path: path.stem for path in templates.SHARED if path.stem not in ELSEWHERE}
    paths |= {path: name for name, path in templates.shipped().items()}
    return {
        path.relative_to(tools.PROJECT): {own["Type"] for own in cfn_yaml.loads(templates.text_of(name))["Resources"].values()}
        for path, name in sorted(paths.items())
    }


def by_region(used, regions=REGIONS, types_of=PROVIDER_SCHEMA_MANAGER.get_resource_types):
    """Returns two values: by region, the missing types and the templates that use them; and the regions without schemas."""
    known = set(types_of(DEFAULT))
    rows, unknown = {}, []
    for region in sorted(regions):
        types = set(types_of(region))
        if types == known and region != DEFAULT:
            unknown.append(region)
            continue
        affected = {path: own - types for path, own in used.items() if own - types}
        if affected:
            rows[region] = sorted(set().union(*affected.values())), sorted(affected)
    return rows, unknown


def corrected(text, rows, unknown):
    """Returns the page with the given table, and the given list of unknown regions below it."""
    before, head, rest = text.partition(HEAD)
    if not head:
        sys.exit(f"  {PAGE} has no table of regions")
    # The rows of the table end at an empty line.
    middle, mark, end = rest[rest.index("\n") + 1 if rest.startswith("\n") else rest.index("\n\n") + 2 :].partition(UNKNOWN)
    if not mark or "." not in end:
        sys.exit(f"  {PAGE} does not list the regions that cfn-lint does not know")
    table = "".join(row(region, *cells) for region, cells in rows.items())
    return f"{before}{HEAD}{table}\n{middle}{UNKNOWN}{', '.join(f'`{region}`' for region in unknown)}{end[end.index('.'):]}"


def row(region, types, paths):
    kinds = ", ".join(f"`{kind.removeprefix('AWS::')}`" for kind in types)
    links = ", ".join(f"[`{path.name}`](../{path.as_posix()})" for path in paths)
    return f"| `{region}` | {kinds} | {links} |\n"


if __name__ == "__main__":
    main(sys.argv[1:])
