"""The maximum size of a product function's zips."""

import sys

import build
import pytest


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Runs `make build FUNCTION=greeter`, whose zips have this size, with a budget for the one without features."""

    def run(size):
        def zipped(*_):
            archive = tmp_path / "bootstrap.zip"
            archive.write_bytes(b"x" * size)
            return archive

        packages = [{"name": "greeter", "metadata": {"budget": {"none": 1000}}}, {"name": "serde", "metadata": None}]
        monkeypatch.setattr(build.tools, "metadata", lambda: {"packages": packages})
        monkeypatch.setattr(build.tools, "target_folder", lambda: tmp_path)
        monkeypatch.setattr(build, "prepare", lambda: None)
        monkeypatch.setattr(build, "build", zipped)
        monkeypatch.setattr(sys, "argv", ["build.py", "greeter", "--architecture", "arm64"])
        build.main()

    return run


def test_a_zip_at_its_maximum_is_accepted(made):
    made(1000)


def test_a_larger_zip_fails_the_build_and_names_the_place_of_the_maximum(made):
    with pytest.raises(SystemExit) as failed:
        made(1001)

    message = str(failed.value)
    assert "the zip of greeter has 1,001 bytes, more than the maximum of 1,000" in message
    assert "`none`" in message and "functions/greeter/Cargo.toml" in message
    # With `auth` there is no maximum.
    assert message.count("the zip of") == 1
