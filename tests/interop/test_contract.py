"""`mcpl contract` with a built function and its lock file."""

import json
import shutil
import subprocess

import check
import contract as contract_script
import pytest
import tools
from conftest import PROJECT, emulated

LOCK = PROJECT / "functions" / "greeter" / "contract.lock.json"


@pytest.fixture(scope="module")
def url():
    with emulated("greeter", "buffered", 1) as url:
        yield url


@pytest.fixture
def contract(mcpl, tmp_path):
    def run(*words, code=0):
        command = [mcpl, "contract", *words]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    return run


def edited(tmp_path, change):
    """A copy of the lock file in which a function has changed the contract."""
    lock = json.loads(LOCK.read_text())
    change(lock["contract"])
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(lock))
    return file


def test_a_function_has_the_contract_of_its_lock_file(contract, url, tmp_path):
    for pair in ([LOCK, url], [url, LOCK]):
        ended = contract("diff", *pair)
        assert ended.stdout == "" and "the contracts are equal" in ended.stderr, ended.stdout
    assert json.loads(contract("diff", LOCK, url, "--json").stdout) == []

    printed = contract("print", url)
    (tmp_path / "printed.json").write_text(printed.stdout)

    assert [tool["name"] for tool in json.loads(printed.stdout)["tools"]] == [tool["name"] for tool in json.loads(LOCK.read_text())["contract"]["tools"]]
    contract("diff", "printed.json", url)


def test_a_lock_file_that_was_edited_by_hand_is_found_by_its_history(tmp_path, capfd):
    folder = tmp_path / "functions" / "greeter"
    folder.mkdir(parents=True)
    lock = folder / "contract.lock.json"
    lock.write_text(LOCK.read_text())
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for words in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    own = json.loads(lock.read_text())
    (tool, *_) = own["contract"]["tools"]
    own["contract"]["tools"] = [{**tool, "name": "renamed"}]

    assert list(contract_script.unaccepted([folder], "HEAD")) == []
    lock.write_text(json.dumps(own))
    (found,) = contract_script.unaccepted([folder], "HEAD")
    assert "functions/greeter/contract.lock.json has breaking changes since HEAD" in found
    printed = capfd.readouterr().out
    assert f"tools.{tool['name']}:item-removed" in printed
    lock.write_text(json.dumps({**own, "accepted": [f"tools.{tool['name']}:item-removed  by name"]}))
    assert list(contract_script.unaccepted([folder], "HEAD")) == []
    with pytest.raises(SystemExit, match="there is no revision nowhere"):
        list(contract_script.unaccepted([folder], "nowhere"))


@pytest.fixture
def function(tmp_path, monkeypatch):
    """A copy of greeter's two files of its contract, and `make check FUNCTION=greeter` for them."""
    folder = tmp_path / "functions" / "greeter"
    shutil.copytree(LOCK.parent / "tests" / "data", folder / "tests" / "data")
    shutil.copy(LOCK, folder)
    with monkeypatch.context() as patched:
        patched.setattr(tools, "PROJECT", tmp_path)
        checks = check.checks_of(["greeter"])
    monkeypatch.setattr(check, "checks_of", lambda names: checks)
    return folder


def refused(capfd):
    """Why `make check FUNCTION=greeter` refuses the contract."""
    with pytest.raises(SystemExit, match="failed: contracts"):
        check.main(["--functions", "greeter", "contracts"])
    return capfd.readouterr().err


def test_a_breaking_change_is_refused_by_make_check_until_it_is_accepted_by_name(function, capfd):
    contract_file, lock = function / contract_script.CONTRACT, function / contract_script.LOCK
    check.main(["--functions", "greeter", "contracts"])
    # As `make contract` renders it from changed code.
    changed = json.loads(contract_file.read_text())
    (tool, *_) = changed["tools"]
    changed["tools"] = [{**tool, "name": "renamed"}]
    contract_file.write_text(json.dumps(changed))

    assert "contract.lock.json is out of date" in refused(capfd)
    before = lock.read_text()
    assert not contract_script.command("update", function) and lock.read_text() == before
    assert "is out of date" in refused(capfd)
    assert contract_script.command("update", function, f"tools.{tool['name']}:item-removed")
    check.main(["--functions", "greeter", "contracts"])
    (accepted,) = json.loads(lock.read_text())["accepted"]
    assert accepted.startswith(f"tools.{tool['name']}:item-removed")


def test_a_lock_file_that_is_missing_or_was_edited_by_hand_is_refused_by_make_check(function, capfd):
    lock = function / contract_script.LOCK
    edited_by_hand = json.loads(lock.read_text())
    edited_by_hand["contract"]["tools"][0]["description"] += " Edited."
    lock.write_text(json.dumps(edited_by_hand))
    assert "contract.lock.json is out of date" in refused(capfd)
    lock.unlink()
    assert "has no contract.lock.json" in refused(capfd)


def test_an_edited_lock_file_shows_as_a_change(contract, url, tmp_path):
    file = edited(tmp_path, lambda own: own["tools"].append({"name": "more", "inputSchema": {"type": "object"}}))

    text, as_json = contract("diff", file, url, code=1), contract("diff", file, url, "--json", code=1)

    assert text.stdout.startswith("breaking") and "tools.more:" in text.stdout, text.stdout
    (change,) = json.loads(as_json.stdout)
    assert (change["class"], change["name"].partition(":")[0]) == ("breaking", "tools.more")


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda text: text.replace('"accepted": [],', '"accepted": [],,', 1), "at line 2 column"),
        (lambda text: text[: len(text) // 2], "at line"),
        (lambda text: text.replace('"contract": {', '"contract": {\n    "tools": [],', 1), "`contract`: duplicate field `tools`"),
        (lambda text: text.replace('"tools": [', '"tools": {}, "x": [', 1), "`tools` is not an array"),
        (lambda text: text.replace('"accepted": []', '"accepted": [3]', 1), "`accepted` is not a list of texts"),
        (lambda text: text.replace('"accepted": [],', '"accepted": [], "note": "mine",', 1), "it has `note` beside `contract`"),
    ],
    ids=["comma", "half", "twice", "object", "accepted", "member"],
)
def test_a_lock_file_that_is_broken_by_hand_is_named_with_the_place(contract, tmp_path, change, reason):
    file = tmp_path / "broken.json"
    file.write_text(change(LOCK.read_text()))

    ended = contract("diff", LOCK, file, code=1)

    assert f"could not read the contract {file}: " in ended.stderr and reason in ended.stderr, ended.stderr
