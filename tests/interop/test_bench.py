"""The benchmark's driver: it measures, and what it prints is what scripts/bench.py reads. No figure is judged."""

import json

import bench


def test_the_driver_measures_every_function_in_every_run(tmp_path):
    driver, binaries = bench.build("dev", tmp_path)
    events = tmp_path / "event.jsonl"
    events.write_text(json.dumps(json.loads(bench.EVENT.read_text())))
    candidates = [bench.candidate(name, binaries[name], events) for name in (bench.FLOOR, bench.GREETER)]
    with bench.tokens(tmp_path, 30) as issuer:
        new = tmp_path / "ES256-new.jsonl"
        candidates.append(bench.candidate("ES256, new", binaries[bench.GUARDED], new, OIDC_ISSUER=issuer))

        turns = bench.drive(driver, candidates, 2, 20)

    assert [turn["name"] for turn in turns] == ["floor", "greeter", "ES256, new"] * 2
    for turn in turns:
        assert all(turn[key] > 0 for key, *_ in bench.MEASURES), turn
    floor, greeter = turns[:2]
    warm = bench.summary([greeter], [floor])["warm_p50_us"]
    assert warm["median"] == greeter["warm_p50_us"]
    assert warm["ratio"]["max"] == greeter["warm_p50_us"] / floor["warm_p50_us"]
