#!/usr/bin/env python3
"""`make clients`: drives other people's programs against the functions, with a scripted stand-in where they need a model.

    python3 scripts/clients.py [ARGUMENT...]     arguments are pytest's, such as `-k opencode`
"""

import subprocess
import sys

import tools


def main(arguments):
    tools.install_clients()
    sys.exit(subprocess.run(command(*arguments), cwd=tools.PROJECT, env=tools.environment()).returncode)


def command(*arguments):
    words = [tools.BIN / "python", "-m", "pytest", "--quiet", "-rs", "-p", "no:cacheprovider", tools.CLIENTS, *arguments]
    return [str(word) for word in words]


if __name__ == "__main__":
    main(sys.argv[1:])
