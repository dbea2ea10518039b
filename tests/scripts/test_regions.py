"""The table of regions in docs/deployment-reference.md, and what `make check` finds in it."""

import pathlib

import pytest
import regions
import tools

TYPES = {"us-east-1": {"A", "B", "C"}, "me-south-1": {"A", "B", "C"}, "eu-north-1": {"A", "B"}, "ca-west-1": {"A"}, "eu-west-1": {"A", "B", "D"}}
USED = {pathlib.Path("infra/function.yaml"): {"A", "B"}, pathlib.Path("infra/network.yaml"): {"A"}}
PAGE = f"before\n\n{regions.HEAD}\nbetween. {regions.UNKNOWN}. after.\n"


def test_the_table_is_that_of_the_schemas():
    regions.main([])


def test_a_region_without_a_type_is_a_row_and_one_without_schemas_is_named():
    rows, unknown = regions.by_region(USED, TYPES, TYPES.get)

    assert (rows, unknown) == ({"ca-west-1": (["B"], [pathlib.Path("infra/function.yaml")])}, ["me-south-1"])
    expected = (
        f"before\n\n{regions.HEAD}| `ca-west-1` | `B` | [`function.yaml`](../infra/function.yaml) |\n"
        f"\nbetween. {regions.UNKNOWN}`me-south-1`. after.\n"
    )
    assert regions.corrected(PAGE, rows, unknown) == expected
    assert regions.corrected(expected, rows, unknown) == expected
    assert regions.corrected(expected, {}, []) == PAGE


@pytest.mark.parametrize(
    ("old", "new"), [("| `ca-west-1` |", "| `ca-west-2` |"), ("`me-south-1`, ", ""), ("`cn-north-1` | `Cognito", "`cn-north-1` | `SNS")]
)
def test_a_page_that_differs_is_found(old, new, monkeypatch, tmp_path, capsys):
    text = (tools.PROJECT / regions.PAGE).read_text()
    (tmp_path / "docs").mkdir()
    used = regions.types_by_template()
    monkeypatch.setattr(regions, "types_by_template", lambda: used)
    monkeypatch.setattr(tools, "PROJECT", tmp_path)
    page = tmp_path / regions.PAGE
    page.write_text(text.replace(old, new))
    assert page.read_text() != text

    with pytest.raises(SystemExit, match="differs from the schemas"):
        regions.main([])

    assert "expected: " in capsys.readouterr().err
    regions.main(["--accept"])
    assert page.read_text() == text


def test_a_page_without_a_table_is_an_error():
    with pytest.raises(SystemExit, match="no table"):
        regions.corrected("text", {}, [])


def test_what_us_east_1_serves_for_all_regions_is_not_counted():
    assert {path.stem for path in regions.types_by_template()}.isdisjoint(regions.ELSEWHERE)
    assert {"function", "database", "network"} <= {path.stem for path in regions.types_by_template()}
