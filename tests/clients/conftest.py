"""Programs of others, driven against the functions: without a model, and without internet."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import servers as own  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "fast: part of `make test`")


@pytest.fixture(scope="session")
def urls():
    """The URLs of the functions, by name."""
    with own.running() as urls:
        yield urls


@pytest.fixture
def servers(urls):
    """A `Server` for each function, in the order of `CASES`, with nothing recorded yet."""
    with own.recorded(urls) as servers:
        yield servers
