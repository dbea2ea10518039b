"""Options of `make`."""

import subprocess

import tools


def test_an_option_that_no_target_has_is_rejected():
    rejected = make("deploy", "STACK=greeter", "PARAMTERS=Recovery=7")
    accepted = make("deploy", "STACK=greeter", "PARAMETERS=Recovery=7 Stage=prod")

    assert rejected.returncode == 2
    assert "PARAMTERS: there is no such option" in rejected.stderr
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert "--parameter 'Recovery=7' --parameter 'Stage=prod'" in accepted.stdout


def make(*words):
    return subprocess.run(["make", "--dry-run", *words], cwd=tools.FRAMEWORK, capture_output=True, text=True)
