#!/usr/bin/env python3
"""What a rate limit costs: instructions and allocations of a call that is served from a block in hand, against the same call without a
limit. Counted by Valgrind, the same in every run.

    python3 scripts/bench_limits.py    part of `make bench`
"""

import json
import pathlib
import sys
import tempfile

import bench_events
import bench_table
import counting
import debian
from driving import DRIVER, GREETING, build_one, candidate, spread

SUBJECT = ("bench-subject", ["limits"])
MAXIMUM = 1.10
# Every request is one caller's, whose signature the platform has verified.
IAM = {"accountId": "123456789012", "userArn": "arn:aws:iam::123456789012:user/ada"}
VARIABLES = {"BENCH_TOOLS": "1", "MCP_AUTH": "iam", "MCP_STATE_KEY": "YmVuY2htYXJrcyBvZiBsaW1pdHMgYW5kIG5vIGVsc2U="}
# A block is a twentieth: more than all calls.
LIMIT = {"BENCH_LIMIT": "100000"}


def main():
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folder = pathlib.Path(folder)
        bench_table.show_verdict(rows(build_one("dev", folder, "driver", *DRIVER), folder))


def rows(driver, folder):
    """The ratio of the instructions, with its limit."""
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        print(f"SKIPPED: the cost of rate limits is not counted, since {reason}", file=sys.stderr)
        return []
    counts = count(driver, folder, valgrind)
    for name, own in counts.items():
        print(f"a call {name}: {json.dumps({key: round(value) for key, value in own.items()})}")
    without, limited = (own["instructions"] for own in counts.values())
    row = bench_table.absolute("instructions with a rate limit, against none", spread([limited / without]), 1, "x", MAXIMUM)
    bench_table.show("a call that is served from a block of a rate limit", [row])
    return [row]


def count(driver, folder, valgrind):
    """What a call takes, without a limit and with one."""
    binary = build_one("release", folder, "limited-subject", *SUBJECT)
    call = bench_events.event("tools/call", "greeting_1", {"name": "Ada"})
    call["requestContext"]["authorizer"] = {"iam": IAM}
    file = bench_events.save(call, folder / "limited.jsonl")
    counts = {}
    for name, limit in {"without a limit": {}, "with a limit": LIMIT}.items():
        own = candidate(name, binary, file, GREETING, **VARIABLES, **limit)
        counts[name] = valgrind.count(driver, own)
    return counts


if __name__ == "__main__":
    main()
