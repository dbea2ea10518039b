"""A person who signs in with Chromium, by `sign_in.mjs`: directly, or as the program that a client opens as the browser."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time

import pytest
import tools

PATIENCE_SECONDS = 120
# Starts a program that goes on when its parent process ends with its process group.
DETACHED = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)"


class Person:
    """`account` is what the person enters as their name. `variables` are those of the fixture `chromium`. With `denies` the person
    answers the first page with no. The browser has no cookies, unless `cookies` is a file in which they are kept."""

    def __init__(self, account, folder, variables, language="en", denies=False, cookies=None):
        script = tools.beside_packages(tools.INTEROP / "sign_in.mjs")
        self.folder, self.variables = folder, {**variables, "SIGN_IN_LOCALE": language, "SIGN_IN_COOKIES": str(cookies or "")}
        self.account, self.words = account, [str(tools.node()), str(script), account, str(folder)]
        self.last = ["deny"] if denies else []

    def opens(self, url):
        """Signs in at an authorization URL, and returns what was seen: `pages`, `callback`, `errors`."""
        command = [*self.words, url, *self.last]
        finished = subprocess.run(
            command, env={**os.environ, **self.variables}, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )
        assert finished.returncode == 0, finished.stderr
        return self.seen()

    def seen(self):
        """What was seen, once the browser has ended."""
        return json.loads((self.folder / "sign-in.json").read_text())

    def waited(self):
        """The same, for a browser that the person's program has started."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.folder / "sign-in.json").exists():
            assert time.monotonic() < deadline, (self.folder / "browser.log").read_text()
            time.sleep(0.1)
        return self.seen()

    def program(self):
        """An executable for BROWSER, or for `xdg-open` and `open`: it gets the URL as its last argument and returns at once."""
        file = self.folder / "browser"
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.variables.items())
        words, last = shlex.join([sys.executable, "-c", DETACHED, *self.words]), shlex.join(self.last)
        log = shlex.quote(str(self.folder / "browser.log"))
        file.write_text(f'#!/bin/sh\nfor url; do :; done\n{variables} {words} "$url" {last} >>{log} 2>&1\n')
        file.chmod(0o755)
        return file


def chromium():
    """The variables that a script needs which opens Chromium by `chromium.mjs`. Skips the test where there is none."""
    variables = {"TMPDIR": str(tools.FOLDER / "chromium")}
    own = shutil.which("chromium") or shutil.which("google-chrome")
    if own:
        variables["CHROMIUM"] = own
    elif (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("there is no Chromium: install it, so that pages are tried in a real browser")
    return variables
