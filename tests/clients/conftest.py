"""Programs of others, driven against the functions: without a model, and without internet."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import servers as own  # noqa: E402
import oauth  # noqa: E402
import tools  # noqa: E402
from authorization_servers import Servers  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "fast: part of `make test`")


@pytest.fixture(scope="session")
def urls():
    """The URLs of the functions, by name."""
    with own.running() as urls:
        yield urls


@pytest.fixture(scope="session")
def closed():
    """event-logger with an issuer that has no page, behind what renames its challenges as a Function URL does."""
    case = next(case for case in own.CASES if case.function == "event-logger")
    # Its clients register: it cannot fetch metadata documents from the internet.
    with oauth.Issuer(register_only=True) as issuer, own.event_logger(OIDC_ISSUER=issuer.url) as url:
        # A recorder would have another URL than the one that tokens are for.
        yield own.Server(case, None, url)


@pytest.fixture(scope="session")
def authorization(tmp_path_factory):
    """event-logger with the authorization server as its issuer, and that one's identity provider."""
    with authorizing(tmp_path_factory) as servers:
        yield servers


@pytest.fixture(scope="session")
def closed_authorization(tmp_path_factory):
    """The same, with an event-logger that requires a token for each request."""
    with authorizing(tmp_path_factory, MCP_ANONYMOUS="deny") as servers:
        yield servers


def authorizing(tmp_path_factory, **variables):
    own.build()
    tools.build("authorization-server")
    return Servers("cognito", tmp_path_factory.mktemp("authorization"), **variables)


@pytest.fixture
def servers(urls):
    """A `Server` for each function, in the order of `CASES`, with nothing recorded yet."""
    with own.recorded(urls) as servers:
        yield servers
