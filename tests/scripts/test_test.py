"""The parts of `make test`."""

import os
import sys

import pytest

import test as test_script

# Succeeds once the other file exists.
MEET = """
import pathlib, sys, time
own, other = map(pathlib.Path, sys.argv[1:])
own.touch()
for _ in range(3000):
    if other.exists():
        sys.exit(print("met"))
    time.sleep(0.01)
sys.exit("alone")
"""


def test_sequences_run_at_the_same_time(tmp_path, capsys):
    one, two = (str(tmp_path / name) for name in "12")

    test_script.side_by_side(
        [("first", [sys.executable, "-c", MEET, one, two])], [("second", [sys.executable, "-c", MEET, two, one])],
    )

    printed = capsys.readouterr().err
    assert printed.count("met\ntest: ") == 2, printed


def test_a_failure_ends_its_sequence_and_is_named_after_the_others_have_ended(capsys):
    fails, passes = [sys.executable, "-c", "exit('why')"], [sys.executable, "-c", ""]

    with pytest.raises(SystemExit, match="failed: first, third"):
        test_script.side_by_side([("first", fails), ("second", passes)], [("third", fails)], [("fourth", passes)])

    printed = capsys.readouterr().err
    assert printed.count("why\ntest: ") == 2 and "test: fourth took" in printed and "second" not in printed, printed


def test_a_part_may_have_an_environment_of_its_own(capsys):
    show = [sys.executable, "-c", "import os; print(os.environ.get('OF_ONE'))"]

    test_script.side_by_side([("one", show, {**os.environ, "OF_ONE": "own"}), ("another", show)])

    printed = capsys.readouterr().err
    assert "own\ntest: one took" in printed and "None\ntest: another took" in printed, printed
