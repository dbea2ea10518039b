"""What a call costs when something grows: the request, the number of tools, the calls of one environment, and those that
it serves at once; and an answer that streams. Parts of `make bench`."""

import dataclasses
import os
import sys

import bench_events
import bench_table
import counting
import debian
from bench_table import absolute, compared
from driving import CONCURRENT_FLOOR, FLOOR, GREETER, SUBJECT, candidate, drive, spread, turns_of

RUNS = 5

# Bytes of the argument, and with how many calls a turn is long enough.
SIZES = {1_000: 2000, 10_000: 2000, 100_000: 500, 1_000_000: 50, 5_000_000: 10}
TOOLS = [1, 10, 100, 1000]
# What one of fewer tools costs at the start is less than what one start differs from the next.
FEWEST_TO_JUDGE = 100
AT_ONCE = [1, 8, 64]
LONG_RUN = 100_000
NOTIFICATIONS = [1, 3]
NAMES = ("bare function", "subject")

STREAMED_LIMIT = 2.5
# What a byte more costs, at 5 MB against 100 KB, which caches hold: were it quadratic, 50.
LINEAR_LIMIT = 3
START_PER_TOOL_LIMIT_US = 10
# Equal, but for what one run differs from the next.
EQUAL_LIMIT = 1.05
MEMORY_LIMIT = 1.01

# The text that grows: as in most, some characters are escaped.
LINE = "A line as people and models write them, with a \"quotation\".\n"


def all(driver, binaries, folder):
    call = bench_events.save(bench_events.template(), folder / "call.jsonl")
    rows = streamed(driver, binaries, folder, call)
    rows += sizes(driver, binaries, folder)
    rows += many_tools(driver, binaries, folder)
    rows += long_run(driver, binaries, call)
    return rows + at_once(driver, binaries, call)


def streamed(driver, binaries, folder, call):
    """An answer that streams: notifications, each sent when it is made, and the result; against the bare function's plain
    answer."""
    candidates = [candidate(FLOOR, binaries[FLOOR], call)]
    for count in NOTIFICATIONS:
        event = bench_events.event("tools/call", "report", {"times": count}, progressToken=1)
        file = bench_events.save(event, folder / f"report-{count}.jsonl")
        candidates.append(candidate(str(count), binaries[SUBJECT], file, MCP_INVOKE_MODE="stream"))
    turns = turns_of(drive(driver, candidates, 3 * RUNS, 1000))
    rows = []
    for count in NOTIFICATIONS:
        for key, title in (("warm_p50_us", "median"), ("cpu_per_call_us", "processor time")):
            title = f"{count} notification{'s' if count > 1 else ''} and the result: {title}"
            # Each further notification is a write of its own, which the plain answer has no match for.
            limit = STREAMED_LIMIT if count == 1 else None
            rows.append(compared(title, key, turns[str(count)], turns[FLOOR], 1, "µs", limit))
    bench_table.show("a streamed answer (bench/subject)", rows, NAMES)
    return rows


def sizes(driver, binaries, folder):
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        print(f"SKIPPED: allocations are not counted, since {reason}", file=sys.stderr)
        valgrind = None
    print(f"\nrequests that grow (bench/subject)\n{'argument':>10}{'bare function':>34}{'subject':>34}{'ratio':>22}", end="")
    print(f"{'instructions':>16}{'allocations':>13}{'allocated bytes':>17}{'for 1 KB more: µs':>20}{'instructions':>14}{'allocated':>11}")
    measured = {}
    for size, calls in SIZES.items():
        text = (LINE * (size // len(LINE) + 1))[:size]
        file = bench_events.save(bench_events.event("tools/call", "measure", {"text": text}), folder / f"{size}.jsonl")
        own = candidate(SUBJECT, binaries[SUBJECT], file, f"{size} bytes")
        turns = turns_of(drive(driver, [candidate(FLOOR, binaries[FLOOR], file), own], RUNS, calls))
        row = compared("", "warm_p50_us", turns[SUBJECT], turns[FLOOR], 1, "µs")
        counts = valgrind.count(driver, own, few=2, many=6) if valgrind else {}
        measured[size] = {"time": row.own["median"], **counts}
        show_size(row, size, measured)
    return linear_rows(measured)


def show_size(row, size, measured):
    _, base, own, ratio, _ = row.cells()
    counts = {"instructions": 16, "allocations": 13, "allocated bytes": 17}
    more = {"time": 20, "instructions": 14, "allocated bytes": 11}
    print(f"{size / 1000:>7,.0f} KB{base:>34}{own:>34}{ratio:>22}", end="")
    print(*(f"{measured[size][key]:>{width},.0f}" for key, width in counts.items() if key in measured[size]), sep="", end="")
    if size > min(SIZES):
        slopes = {key: slope(measured, key, size) * 1000 for key in more if key in measured[size]}
        print(*(f"{value:>{more[key]},.{2 if key == 'time' else 0}f}" for key, value in slopes.items()), sep="", end="")
    print(flush=True)


def slope(measured, key, size):
    """What a byte more costs, from the smallest request on."""
    least = min(SIZES)
    return (measured[size][key] - measured[least][key]) / (size - least)


def linear_rows(measured):
    middle, most = 100_000, max(SIZES)
    growth = {
        f"{key} for 1 KB more, at {most / 1e6:.0f} MB against {middle / 1e3:.0f} KB":
            slope(measured, key, most) / slope(measured, key, middle)
        for key in measured[most] if key != "allocations"
    }
    if "allocations" in measured[most]:
        title = f"allocations, at {most / 1e6:.0f} MB against 1 KB"
        growth[title] = measured[most]["allocations"] / measured[min(SIZES)]["allocations"]
    rows = [absolute(title, spread([value]), 1, "×", LINEAR_LIMIT) for title, value in growth.items()]
    bench_table.show("what grows with the request grows linearly", rows, ("", "subject"))
    return rows


def many_tools(driver, binaries, folder):
    candidates = []
    for count in TOOLS:
        event = bench_events.event("tools/call", f"greeting_{count}", {"name": "Ada"})
        file = bench_events.save(event, folder / f"tools-{count}.jsonl")
        candidates.append(candidate(str(count), binaries[SUBJECT], file, BENCH_TOOLS=str(count)))
    turns = turns_of(drive(driver, candidates, 3 * RUNS, 1000))
    one = turns["1"]
    rows = []
    for count in TOOLS[1:]:
        own = turns[str(count)]
        rows.append(compared(f"{count} tools: warm call, median", "warm_p50_us", own, one, 1, "µs", EQUAL_LIMIT))
        row = compared(f"{count} tools: start", "start_us", own, one, 1000, "ms")
        if count >= FEWEST_TO_JUDGE:
            each = [(turn["start_us"] - base["start_us"]) / (count - 1) for turn, base in zip(own, one, strict=True)]
            row = dataclasses.replace(row, judged=spread(each), at_most=START_PER_TOOL_LIMIT_US, limit_label="µs a tool")
        rows.append(row)
        rows.append(compared(f"{count} tools: peak memory", "peak_memory_kib", own, one, 1024, "MiB"))
    bench_table.show("tools (bench/subject, against one tool)", rows, ("one tool", "many"))
    return rows


def long_run(driver, binaries, call):
    turns = drive(driver, [candidate(GREETER, binaries[GREETER], call)], 1, LONG_RUN)
    early = [{"peak_memory_kib": turn["early_memory_kib"]} for turn in turns]
    row = compared("peak memory", "peak_memory_kib", turns, early, 1024, "MiB", MEMORY_LIMIT)
    bench_table.show(f"{LONG_RUN:,} calls of one environment", [row], (f"after {LONG_RUN // 100:,}", "after all"))
    return [row]


def at_once(driver, binaries, call):
    """Throughput where the platform runs several invocations in one environment; driver and function share the cores."""
    rows = []
    for cores in (1, 2):
        if cores > len(os.sched_getaffinity(0)):
            print(f"SKIPPED: throughput on {cores} cores is not measured, since this machine has fewer", file=sys.stderr)
            continue
        candidates = []
        for count in AT_ONCE:
            floor = binaries[FLOOR if count == 1 else CONCURRENT_FLOOR]
            for name, binary in ((FLOOR, floor), (GREETER, binaries[GREETER])):
                candidates.append(candidate(f"{name} {count}", binary, call, at_once=count, cores=cores))
        turns = turns_of(drive(driver, candidates, 2 * RUNS, 2500))
        rows += [
            compared(
                f"{count} at once, {'one core' if cores == 1 else f'{cores} cores'}", "calls_per_second",
                turns[f"{GREETER} {count}"], turns[f"{FLOOR} {count}"], 1000, "k/s",
            )
            for count in AT_ONCE
        ]
    bench_table.show("calls in a second (Managed Instances)", rows)
    return rows
