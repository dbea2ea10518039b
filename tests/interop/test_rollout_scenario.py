"""The whole way of a stateless function: two stages, a bad canary, a promotion by digest, and the end, by `scripts/deploy.py` in
the emulated account. `make verify-account` takes the same way in a real account.

No emulator covers these steps. Stand-ins of tests/interop take their places:

- CloudFormation's evaluation of templates and change sets, its order of updates and its rollback. `aws_changes.py` computes change sets,
  and applies them. A failure of a resource does not undo the others.
- Weighted traffic. The alias has the weights, which the test reads. No request is routed by them.
- The evaluation of alarms. The test sets the state of the alarm. No metric leads to it.
- IAM. Every call is permitted: policies of the role, of the alias and of the bucket are not evaluated.
- The function's URL, its process and its init phase. `aws_versions.py` answers the invocations that check a version.
"""

import json
import subprocess
import sys

import boto3
import pytest
import small_stacks
from aws_versions import traffic
from rollouts import aws, code_of, digest_of, raise_alarm_of, values
from small_stacks import archive, run

STAGE, PRODUCTION = "greeter-stage", "greeter-production"
PATIENCE_SECONDS = 60


class Account:
    """The commands of an operator."""

    def run(self, verb, name, *words, code=0, answers=""):
        """Runs a command. Without answers it does not ask."""
        ended = run(verb, "greeter", "--name", name, *words, *([] if answers else ["--yes"]), input=answers)
        assert ended.code == code, ended.text
        return ended.text

    def up(self, name, stage, *words, **options):
        return self.run("up", name, "--parameters-file", stage, "--no-doctor", *words, **options)


def up_as_a_program(name, stage, *words):
    """Runs a deployment as a process. Returns its exit code, and what it printed."""
    command = [sys.executable, small_stacks.FOLDER.parent / "small_stacks.py", "up", "greeter", "--name", name, "--yes", "--no-doctor"]
    command += ["--parameters-file", stage, *words]
    ended = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def stage_files(tmp_path):
    def written(name, **content):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    return (
        written("stage", Parameters={"MemorySize": "128", "Variable": "stage"}, Tags={"stage": "stage"}),
        written("production", Parameters={"MemorySize": "256", "Variable": "production"}, Tags={"stage": "production"}),
    )


def test_a_function_goes_through_its_stages_and_is_destroyed(aws, stage_files, tmp_path):
    account, (stage, production) = Account(), stage_files
    good, bad, better = (archive(tmp_path / name, name.encode()) for name in ("good", "bad", "better"))

    # Both stages have the same artifact, and parameters of their own.
    account.up(STAGE, stage, "--lambda-dir", good)
    first = digest_of(STAGE)
    account.up(PRODUCTION, production, "--digest", first, "--protect", "yes")
    assert code_of(STAGE) == code_of(PRODUCTION)
    assert [(values(own)["MemorySize"], values(own)["Variable"]) for own in (STAGE, PRODUCTION)] == [("128", "stage"), ("256", "production")]

    # A bad canary gets a tenth of the requests until its alarm is on. The command fails, and the version before serves everything.
    during = []
    thread, is_over = raise_alarm_of(STAGE, during)
    code, text = up_as_a_program(STAGE, stage, "--lambda-dir", bad, "--canary", "0.1", "--minutes", "5")
    is_over.set()
    thread.join()
    assert (code, during) == (1, [{"1": 0.9, "2": 0.1}]), text
    assert "version 2 was withdrawn: an alarm is on" in text
    assert traffic(STAGE) == {"1": 1} and code_of(STAGE) == code_of(PRODUCTION)
    # Its artifact has served no stage entirely. The alarm refuses another canary, and no fix.
    assert "no canary: an alarm is on" in account.up(STAGE, stage, "--lambda-dir", better, "--canary", "0.1", code=1)
    account.up(STAGE, stage, "--lambda-dir", better)
    assert code_of(STAGE) != code_of(PRODUCTION)

    # The artifact that the stage serves is promoted by its digest. No zip is needed, and none is built.
    account.up(PRODUCTION, production, "--digest", digest_of(STAGE))
    assert code_of(PRODUCTION) == code_of(STAGE) and digest_of(PRODUCTION) != first
    assert values(PRODUCTION)["Variable"] == "production" and values(PRODUCTION)["CodeKey"] == values(STAGE)["CodeKey"]
    account.run("rollback", PRODUCTION)
    assert traffic(PRODUCTION) == {"1": 1}
    account.run("rollback", PRODUCTION, "--version", "2")

    # A resource that would be lost is named first, the stack's protection is removed, and the question is answered.
    removes = ["--digest", digest_of(STAGE), "--parameter", "Data=no"]
    assert "would replace or remove Storage/Documents" in account.up(PRODUCTION, production, *removes, code=1)
    account.up(PRODUCTION, production, *removes, "--replace", "Documents")
    assert "PROTECT=no" in account.run("down", PRODUCTION, code=1)
    account.up(PRODUCTION, production, "--digest", digest_of(STAGE), "--protect", "no")
    for name in (PRODUCTION, STAGE):
        assert "Nothing was changed." in account.run("down", name, code=1, answers="n\n")
        assert "Function/FunctionUrl" in account.run("down", name, answers="y\n")
    assert boto3.client("lambda").list_functions()["Functions"] == []
    assert boto3.client("cloudformation").describe_stacks()["Stacks"] == []
