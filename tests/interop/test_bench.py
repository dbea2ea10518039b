"""The benchmark: its driver measures what its options name, and every request is answered. No test depends on a duration."""

import re

import pytest

import bench
import bench_database
import bench_events
import bench_loops
import counting
import debian
import tools
from driving import CONCURRENT_FLOOR, FLOOR, GREETER, GUARDED, SUBJECT, build, candidate, drive, turns_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build("dev", tmp_path_factory.mktemp("binaries"))


def test_the_driver_measures_every_function_in_every_run(built, tmp_path):
    driver, binaries = built
    call = bench_events.save(bench_events.template(), tmp_path / "call.jsonl")
    candidates = [candidate(name, binaries[name], call) for name in (FLOOR, GREETER)]
    with bench.tokens(tmp_path, 30) as issuer:
        new = tmp_path / "ES256-new.jsonl"
        candidates.append(candidate("ES256, new", binaries[GUARDED], new, OIDC_ISSUER=issuer))

        turns = drive(driver, candidates, 2, 20)

    assert [turn["name"] for turn in turns] == ["floor", "greeter", "ES256, new"] * 2
    for turn in turns:
        assert all(turn[key] > 0 for key, *_ in bench.MEASURES), turn
    floor, greeter = turns[:2]
    warm = bench.summary([greeter], [floor])["warm_p50_us"]
    assert warm["median"] == greeter["warm_p50_us"]
    assert warm["ratio"]["max"] == greeter["warm_p50_us"] / floor["warm_p50_us"]


def test_every_request_is_answered_as_it_should(built, tmp_path):
    driver, binaries = built
    files = bench_events.write(tmp_path)
    candidates = [
        candidate(name, binaries[GREETER], files[name], answer) for name, answer in bench_events.REQUESTS.items()
    ]
    streamed = bench_events.event("tools/call", "report", {"times": 2}, progressToken=1)
    large = bench_events.event("tools/call", "measure", {"text": '"' * 300_000})
    many = bench_events.event("tools/call", "greeting_7", {"name": "Ada"})
    subject = binaries[SUBJECT]
    for name, event, answer, variables in (
        ("streamed", streamed, '"progress":2', {"MCP_INVOKE_MODE": "stream"}),
        ("large", large, "300000 bytes", {}),
        ("many", many, "Hello, Ada!", {"BENCH_TOOLS": "7"}),
    ):
        file = bench_events.save(event, tmp_path / f"{name}.jsonl")
        candidates.append(candidate(name, subject, file, answer, **variables))

    turns = drive(driver, candidates, 1, 3)

    assert len(turns) == len(candidates)


def test_invocations_are_handed_out_at_once(built, tmp_path):
    driver, binaries = built
    call = bench_events.save(bench_events.template(), tmp_path / "call.jsonl")
    candidates = [candidate(name, binaries[name], call, at_once=8) for name in (CONCURRENT_FLOOR, GREETER)]

    turns = turns_of(drive(driver, candidates, 1, 200))

    assert all(turn["calls_per_second"] > 0 for [turn] in turns.values())


def test_the_bare_insert_is_the_statement_of_event_logger():
    sources = ["bench/floor-database/src/main.rs", "functions/event-logger/src/events.rs"]

    bare, own = (re.search(r'const INSERT: &str = r#"(.*?)"#', (tools.PROJECT / path).read_text(), re.DOTALL)[1] for path in sources)

    assert bare == own


def test_event_logger_is_measured_beside_the_same_insert(tmp_path):
    driver, binaries = build("dev", tmp_path, bench_database.BINARIES)

    tables = bench_database.measure(driver, binaries, tmp_path, 1, 20)

    assert list(tables) == [bench_database.OPEN, bench_database.CLOSED]
    for row in sum(tables.values(), []):
        assert row.own["median"] > 0 and row.base["median"] > 0 and row.ratio["median"] > 0, row


def test_both_loops_are_measured_with_the_same_call(tmp_path):
    driver, binaries = build("dev", tmp_path, bench_loops.BINARIES)

    # Under Valgrind an unoptimized function takes seconds for each hundred calls.
    rows = bench_loops.measure(driver, binaries, tmp_path, 1, 20, counted_calls=(2, 10))

    assert [row.title for row in rows][:2] == ["warm call, median", "processor time per call"]
    for row in rows:
        assert row.own["median"] > 0 and row.base["median"] > 0 and row.ratio["median"] > 0, row


def test_an_answer_without_what_is_expected_stops_the_driver(built, tmp_path):
    driver, binaries = built
    call = bench_events.save(bench_events.template(), tmp_path / "call.jsonl")

    with pytest.raises(SystemExit):
        drive(driver, [candidate(GREETER, binaries[GREETER], call, "Hello, Grace!")], 1, 3)


def test_counts_are_the_same_twice(built, tmp_path):
    driver, binaries = built
    call = bench_events.save(bench_events.template(), tmp_path / "call.jsonl")
    try:
        valgrind = counting.Valgrind()
    except debian.Unavailable as reason:
        pytest.skip(str(reason))
    own = candidate(FLOOR, binaries[FLOOR], call)

    first, second = (valgrind.count(driver, own, few=5, many=25) for _ in range(2))

    for key, value in first.items():
        assert value > 0
        assert second[key] == pytest.approx(value, rel=0.02), key
