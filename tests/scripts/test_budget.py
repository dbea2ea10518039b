"""The budget of what can be counted: it notices what costs more, and is accepted on purpose alone."""

import json

import pytest

import budget


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "budget.json"
    path.write_text(json.dumps({"tolerance_percent": 2, "x86_64": {"call: instructions": 1000, "zip": 5000}}))
    monkeypatch.setattr(budget, "FILE", path)
    monkeypatch.setattr(budget.tools, "PROJECT", tmp_path)
    return path


def test_what_costs_more_is_named_with_the_way_to_accept_it(file):
    with pytest.raises(SystemExit) as failed:
        budget.settle("x86_64", {"call: instructions": 1021, "zip": 5100}, accept=False)

    message = str(failed.value)
    assert "call: instructions: 1,000 is now 1,021 (+2.1 %)" in message
    assert "make budget ACCEPT=1" in message and "zip" not in message


def test_what_is_accepted_is_the_budget_from_then_on(file, capsys):
    measured = {"call: instructions": 1021, "zip": 5000}

    budget.settle("x86_64", measured, accept=True)
    budget.settle("x86_64", measured, accept=False)

    assert json.loads(file.read_text())["x86_64"] == measured


def test_figures_come_and_go_on_purpose_alone():
    accepted = {"call: allocations": 100, "gone": 1}

    broken, less = budget.compare(accepted, {"call: allocations": 97, "new": 1}, 2)

    assert broken == ["gone: no longer measured", "new: 1, for which there is no figure"]
    assert less == ["call: allocations: 100 is now 97 (-3.0 %)"]


def test_an_architecture_without_figures_is_skipped_loudly(file, monkeypatch, capsys):
    monkeypatch.setattr(budget.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(budget.sys, "argv", ["budget.py"])

    budget.main()

    assert "SKIPPED" in capsys.readouterr().err
