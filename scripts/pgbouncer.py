"""A real PgBouncer on loopback before a Postgres of `postgres.py`, in transaction mode, for tests. It is Debian's, and runs as
Postgres does: not as root."""

import contextlib
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import debian
import postgres

PACKAGES = ["pgbouncer", "libc-ares2", "libevent-2.1-7"]
STARTUP_SECONDS = 60


class PgBouncer:
    """Two connections to the server for any number of clients; nothing that a newer one would do for prepared statements."""

    def __init__(self, server, **settings):
        root = debian.unpacked("pgbouncer", PACKAGES)
        account = postgres.account()
        self.server = server
        self.port = postgres.free_port()
        # The tool folder may be closed to the account.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self.folder.chmod(0o755)
        self.process = None
        try:
            for path in [root / "usr/sbin/pgbouncer", *root.glob("usr/lib/*-linux-gnu/*.so*")]:
                shutil.copy2(path, self.folder)
            configuration, users = self.folder / "pgbouncer.ini", self.folder / "users"
            users.write_text(f'"postgres" "{server.password}"\n')
            settings = {
                "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "scram-sha-256",
                "auth_file": users, "pool_mode": "transaction", "default_pool_size": 2, "max_client_conn": 100, **settings,
            }
            if version(self.folder) >= (1, 21):
                settings["max_prepared_statements"] = 0
            lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
            configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]))
            for path in (configuration, users):
                path.chmod(0o600)
                postgres.hand_over(path, account)
            self.log = (self.folder / "log").open("w+")
            self.process = subprocess.Popen(
                [self.folder / "pgbouncer", configuration], cwd=self.folder, env={"LD_LIBRARY_PATH": str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True, **account,
            )
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self):
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise RuntimeError(f"pgbouncer did not start; its log:\n{(self.folder / 'log').read_text()[-4000:]}")

    def url(self, database="postgres"):
        return f"postgres://postgres:{self.server.password}@127.0.0.1:{self.port}/{database}"

    def close(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=STARTUP_SECONDS)
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def version(folder):
    command = [folder / "pgbouncer", "--version"]
    told = subprocess.run(command, env={"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in told.split()[1].split(".")[:2])
