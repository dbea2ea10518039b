"""The budget of what can be counted: it notices what costs more, and is accepted on purpose alone."""

import json

import pytest

import budget


TOLERANCES = {"tolerance_percent": 2, "instructions_tolerance_percent": 10}


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "budget.json"
    path.write_text(json.dumps({**TOLERANCES, "x86_64": {"call: allocations": 100, "call: instructions": 1000, "zip": 5000}}))
    monkeypatch.setattr(budget, "FILE", path)
    monkeypatch.setattr(budget.tools, "PROJECT", tmp_path)
    return path


@pytest.mark.parametrize(
    ("name", "measured", "change"),
    [
        ("call: allocations", 103, "call: allocations: 100 is now 103 (+3.0 %)"),
        ("call: instructions", 1101, "call: instructions: 1,000 is now 1,101 (+10.1 %)"),
        ("zip", 5101, "zip: 5,000 is now 5,101 (+2.0 %)"),
    ],
)
def test_what_costs_more_is_named_with_the_way_to_accept_it(file, name, measured, change):
    figures = {"call: allocations": 102, "call: instructions": 1020, "zip": 5100, name: measured}

    with pytest.raises(SystemExit) as failed:
        budget.settle("x86_64", figures, accept=False)

    message = str(failed.value)
    assert change in message and message.count(" is now ") == 1
    assert "make budget ACCEPT=1" in message


@pytest.mark.parametrize("instructions", [1100, 970])
def test_instructions_within_ten_per_cent_are_reported_and_decide_nothing(file, capsys, instructions):
    budget.settle("x86_64", {"call: allocations": 100, "call: instructions": instructions, "zip": 5000}, accept=False)

    assert f"call: instructions: 1,000 is now {instructions:,}" in capsys.readouterr().out


def test_what_is_accepted_is_the_budget_from_then_on(file, capsys):
    measured = {"call: allocations": 200, "call: instructions": 2000, "zip": 5000}

    budget.settle("x86_64", measured, accept=True)
    budget.settle("x86_64", measured, accept=False)

    assert json.loads(file.read_text())["x86_64"] == measured


@pytest.mark.parametrize("accept", [False, True])
def test_the_smallest_zip_has_a_maximum_that_accepting_does_not_move(file, accept):
    with pytest.raises(SystemExit) as failed:
        budget.settle("zips", {"arm64/greeter": 980_001}, accept)

    assert "arm64/greeter: 980,001; the maximum is 980,000" in str(failed.value)
    assert "zips" not in json.loads(file.read_text())


def test_figures_come_and_go_on_purpose_alone():
    accepted = {"call: allocations": 100, "gone": 1}

    broken, moved = budget.compare(accepted, {"call: allocations": 97, "new": 1}, TOLERANCES)

    assert broken == ["gone: no longer measured", "new: 1, for which there is no figure"]
    assert moved == ["call: allocations: 100 is now 97 (-3.0 %)"]


def test_an_architecture_without_figures_is_skipped_loudly(file, monkeypatch, capsys):
    monkeypatch.setattr(budget.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(budget.sys, "argv", ["budget.py"])

    budget.main()

    assert "SKIPPED" in capsys.readouterr().err
