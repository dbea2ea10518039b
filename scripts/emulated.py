"""A built function behind `function-url-emulator`, and Aurora DSQL."""

import os
import pathlib
import signal
import subprocess

import tools

# Those that `dsql-emulator` accepts, of no account, in the region of `function-url-emulator`.
REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEMULATOR", "AWS_SECRET_ACCESS_KEY": "emulator-secret", "AWS_REGION": REGION}
ROLE_ARN = "arn:aws:iam::123456789012:role/emulator"
# Of a schema: connections of `chaos.py` are closed after two seconds.
MIGRATION_ATTEMPTS = 5
INVOKE_MODES = {"stream": "response-stream", "buffered": "buffered"}


class Emulated:
    """A binary of Cargo's, each invocation in another of several frozen environments."""

    # Cargo's folder of the profile.
    profile = "debug"

    def __init__(self, binary, mode, environments, *options, emulator="function-url-emulator", stderr=None, **variables):
        built = tools.target_folder() / self.profile
        command = [built / emulator, built / binary, "--warm", environments]
        command += [] if "--port" in options else ["--port", "0"]
        command += ["--invoke-mode", INVOKE_MODES[mode], *options]
        for name, value in {"MCP_INVOKE_MODE": mode, **variables}.items():
            command += ["--env", f"{name}={value}"]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=stderr, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the emulator ended with {self.process.wait()}")

    def stop(self):
        """Ends it; returns its report."""
        self.process.send_signal(signal.SIGINT)
        report, _ = self.process.communicate(timeout=30)
        return report

    def __enter__(self):
        return self.url

    def __exit__(self, *_):
        self.stop()


def without_database(variables):
    """Variables without the settings of a database."""
    return {name: value for name, value in variables.items() if name != "DATABASE_URL" and not name.startswith("DB_")}


class Dsql:
    """`dsql-emulator`, as a cluster of Aurora DSQL in front of a Postgres."""

    def __init__(self, backend, folder, *options, profile="debug"):
        self.certificate, self.profile = pathlib.Path(folder) / "dsql.pem", profile
        command = [tools.target_folder() / profile / "dsql-emulator", "--backend", backend, "--certificate", self.certificate, "--region", REGION]
        command += options
        # It ends with its standard input, and so with this process. In a session of its own Ctrl-C does not reach it first.
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )
        self.host, _, self.port = self.process.stdout.readline().strip().partition(":")
        if not self.port:
            raise RuntimeError(f"dsql-emulator ended with {self.process.wait()}")

    def variables(self, **others):
        """The variables of a function that connects to it."""
        own = {
            **CREDENTIALS, "DB_AUTH": "dsql", "DB_HOST": self.host, "DB_PORT": self.port, "DB_USER": "app", "DB_NAME": "postgres",
            "DB_SSLROOTCERT": str(self.certificate), "DB_MIGRATE": "off",
        }
        return own | others

    def migrate(self, binary):
        """Creates the schema, or changes it, as a deployment does: again if it is interrupted, as by a connection that is closed young."""
        own = self.variables(MCP_ROLE="migrate", DB_USER="admin", DB_APP_ROLE_ARN=ROLE_ARN)
        built = tools.target_folder() / self.profile / binary
        for _ in range(MIGRATION_ATTEMPTS):
            ran = subprocess.run([str(built)], env=without_database(os.environ) | own, stdout=subprocess.PIPE, text=True)
            if not ran.returncode:
                return
        raise RuntimeError(f"{binary} did not migrate its schema:\n{ran.stdout}")

    def stop(self):
        """Ends it; returns its report."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        return self.process.stdout.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
