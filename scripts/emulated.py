"""A built function behind `function-url-emulator`."""

import signal
import subprocess

import tools

INVOKE_MODES = {"stream": "response-stream", "buffered": "buffered"}


class Emulated:
    """A binary of Cargo's, each invocation in another of several frozen environments."""

    # Cargo's folder of the profile.
    profile = "debug"

    def __init__(self, binary, mode, environments, *options, emulator="function-url-emulator", stderr=None, **variables):
        built = tools.target_folder() / self.profile
        command = [built / emulator, built / binary, "--port", "0", "--warm", environments]
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
