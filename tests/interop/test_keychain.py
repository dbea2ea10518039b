"""`mcpl` where the system has a keychain: GNOME's, on a session bus of its own."""

import contextlib
import os
import subprocess
import time

import debian
import postgres
import pytest
from conftest import emulated
from oauth import PATIENCE_SECONDS, Issuer
from proxied import BROWSER, LOGGED_LINE

PACKAGES = [
    "dbus-bin", "dbus-daemon", "gnome-keyring", "libcap-ng0", "libdbus-1-3", "libgck-1-0", "libgcr-base-3-1", "libgcrypt20",
    "libglib2.0-0", "libgpg-error0", "libp11-kit0", "libpam0g", "libselinux1",
]
BUS = """<busconfig><type>session</type><listen>unix:dir={folder}</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""


@pytest.fixture
def run(mcpl, tmp_path):
    """Runs the command in a home folder of its own, on a bus if one is given."""

    def run(*words, bus=None):
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_"))}
        variables |= {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        if bus:
            variables["DBUS_SESSION_BUS_ADDRESS"] = bus
        return subprocess.run(
            [mcpl, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=variables, cwd=tmp_path
        )

    return run


@contextlib.contextmanager
def keychain(home):
    """A keychain that is unlocked; yields the address of its bus."""
    try:
        root = debian.unpacked("gnome-keyring", PACKAGES)
    except debian.Unavailable as reason:
        pytest.skip(f"there is no keychain to test with: {reason}")
    variables = {**os.environ, **debian.variables(root), "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    configuration = home / "bus.conf"
    configuration.write_text(BUS.format(folder=home))
    with contextlib.ExitStack() as stack:
        start = [root / "usr/bin/dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address=1"]
        bus = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables)
        stack.callback(stop, bus)
        variables["DBUS_SESSION_BUS_ADDRESS"] = address = bus.stdout.readline().strip()
        start = [root / "usr/bin/gnome-keyring-daemon", "--unlock", "--components=secrets", "--foreground"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        daemon = subprocess.Popen(start, stdin=subprocess.PIPE, text=True, env=variables, **silent)
        stack.callback(stop, daemon)
        daemon.stdin.write("password")
        daemon.stdin.close()
        ask = [root / "usr/bin/dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
        ask += ["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"]
        end = time.monotonic() + PATIENCE_SECONDS
        while "boolean true" not in subprocess.run(ask, capture_output=True, text=True, env=variables).stdout:
            assert time.monotonic() < end and daemon.poll() is None, "the keychain does not come up"
            time.sleep(0.05)
        yield address


def stop(process):
    process.terminate()
    process.wait(timeout=PATIENCE_SECONDS)


def test_tokens_are_sealed_with_a_key_of_the_keychain(run, tmp_path):
    with postgres.Postgres() as server, Issuer() as issuer:
        variables = {"DATABASE_URL": server.url(), "OIDC_ISSUER": issuer.url}
        with emulated("event-logger", "buffered", 1, **variables) as url, keychain(tmp_path) as bus:
            first = run("call", url, "log_event", "event_name=login", "--open", BROWSER, bus=bus)
            # Signing in is impossible here, so the token must come from the store.
            second = run("call", url, "log_event", "event_name=login", "--open", "false", bus=bus)
        [file] = (tmp_path / ".local/state/mcpl").glob("*.json")
        sealed = file.read_text()
        locked = run("call", url, "log_event", "event_name=login", "--open", "false")
        left = file.read_text()
        forgotten = run("forget", url)

    assert (first.returncode, first.stdout) == (0, LOGGED_LINE), first.stderr
    assert (second.returncode, second.stdout) == (0, LOGGED_LINE), second.stderr
    assert '"sealed"' in sealed and "token" not in sealed and file.name
    assert locked.returncode == 1 and f"mcpl forget {url}" in locked.stderr
    assert left == sealed
    assert forgotten.returncode == 0 and not file.exists()
