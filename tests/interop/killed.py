"""A command of `scripts/deploy.py` as a process that is killed."""

import subprocess
import sys

import small_stacks

PROGRAM = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import small_stacks
from deploying.account import Account
from deploying import rollout, stack
name, _, number = {call!r}.partition(":")
left = int(number or 1)
def kill(**_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
def client(account, service, **options):
    made = account.session.client(service, **options)
    made.meta.events.register(f"after-call.*.{{name}}", kill)
    return made
Account.client = client
if {is_small}:
    small_stacks.use()
stack.POLL_SECONDS = 0.01
rollout.KEPT = 1
rollout.Rollout.watch = lambda own: None
small_stacks.deploy.main()
"""


def kill_after(call, *words, is_small=True):
    """Runs a command, with the small stacks or the real ones, and kills it after a call of AWS: `Invoke`, or `Invoke:2` for the second."""
    program = PROGRAM.format(folder=str(small_stacks.FOLDER.parent), call=call, is_small=is_small)
    return subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
