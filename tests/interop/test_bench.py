"""The benchmark's driver: it measures, and what it prints is what scripts/bench.py reads. No figure is judged."""

import subprocess

import bench
import tools


def test_the_driver_measures_every_function_in_every_run():
    packages = [part for binary in ("bench-driver", *bench.FUNCTIONS.values()) for part in ("--package", binary)]
    subprocess.run(["cargo", "build", "--quiet", "--locked", *packages], cwd=tools.PROJECT, check=True)

    turns = bench.drive(tools.target_folder() / "debug", 2, 20)

    assert [turn["name"] for turn in turns] == ["floor", "greeter"] * 2
    for turn in turns:
        assert all(turn[key] > 0 for key, *_ in bench.MEASURES), turn
    floor, greeter = turns[:2]
    warm = bench.summary([greeter], [floor])["warm_p50_us"]
    assert warm["median"] == greeter["warm_p50_us"]
    assert warm["ratio"]["max"] == greeter["warm_p50_us"] / floor["warm_p50_us"]
