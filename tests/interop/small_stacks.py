"""`scripts/deploy.py` on the small stacks of tests/interop/stacks, and zips for it. As a program, with the same arguments."""

import contextlib
import io
import pathlib
import sys
from types import SimpleNamespace

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

import build  # noqa: E402
import deploy  # noqa: E402
import templates  # noqa: E402
from deploying import stack as stacks  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parent / "stacks"


def use():
    """Takes the templates of the tests, and no time between two looks at a stack."""
    templates.SHARED = sorted((FOLDER / "infra").glob("*.yaml"))
    templates.FUNCTION = FOLDER / "infra" / "function.yaml"
    templates.path_of = lambda stack: FOLDER / "functions" / stack / "stack.yaml"
    templates.stacks = lambda: ["greeter"]
    stacks.POLL_SECONDS = 0.01


def archive(folder, content, features=(), function="greeter"):
    """A zip that is none, with its record: its content is not looked at. Returns the folder."""
    path = build.archive_in(folder, function, sorted(features))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    build.record(path, "arm64", function, features)
    return folder


def run(*words, input=""):
    """Runs a command in this process."""
    stdin, stdout, stderr, code = sys.stdin, io.StringIO(), io.StringIO(), None
    argv = sys.argv
    try:
        sys.stdin, sys.argv = io.StringIO(input), ["deploy.py", *map(str, words)]
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            deploy.main()
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=stderr)
    finally:
        sys.stdin, sys.argv = stdin, argv
    code = 1 if isinstance(code, str) else code or 0
    return SimpleNamespace(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue(), text=stdout.getvalue() + stderr.getvalue())


if __name__ == "__main__":
    use()
    deploy.main()
