"""`scripts/issuer.mjs`, running: an OpenID provider on loopback, for `make dev AUTH=…` and tests."""

import json
import subprocess
import urllib.request

import tools

PATIENCE_SECONDS = 60


class Issuer:
    """`sign_in` is the name that every user gets; without it a page asks for one. Options are those of the script, such as
    `algorithm="ES256"`, `resource=[...]` or `register_only=True`. It ends with the process that started it."""

    script = tools.FRAMEWORK / "scripts" / "issuer.mjs"

    def __init__(self, sign_in=None, stderr=None, **options):
        command = [tools.node(), tools.beside_packages(self.script), "--until-stdin-closes"]
        for name, values in {**options, **({"sign_in": sign_in} if sign_in else {})}.items():
            for value in values if isinstance(values, list) else [values]:
                flag = f"--{name.replace('_', '-')}"
                command += [flag] if value is True else [flag, value]
        # A session of its own: Ctrl-C reaches the parent process, which then ends it.
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the issuer ended with {self.process.wait()}")
        self.url = json.loads(line)["issuer"]

    def register(self, redirect_uri):
        """Registers a confidential client (RFC 7591); its id and secret are in the result."""
        client = {"redirect_uris": [redirect_uri], "grant_types": ["authorization_code", "refresh_token"]}
        request = urllib.request.Request(f"{self.url}/reg", json.dumps(client).encode(), {"Content-Type": "application/json"})
        # It is on this machine: the proxy settings do not apply.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_SECONDS) as response:
            return json.load(response)

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
