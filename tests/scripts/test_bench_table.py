"""The rows of a benchmark's tables."""

import bench_table
from driving import spread


def test_a_row_says_whether_its_limit_is_kept():
    slow, fast = [{"warm_p50_us": 30}], [{"warm_p50_us": 20}]

    kept = bench_table.compared("a call", "warm_p50_us", slow, fast, 1, "µs", 1.5)
    broken = bench_table.compared("a call", "warm_p50_us", slow, fast, 1, "µs", 1.4)
    unlimited = bench_table.compared("a call", "warm_p50_us", slow, fast, 1, "µs")
    zipped = bench_table.absolute("zip", spread([1_300_000]), 1e6, "MB", 1_200_000)

    assert [row.is_kept for row in (kept, broken, unlimited, zipped)] == [True, False, None, False]
    assert broken.cells() == ["a call", "20.00 µs", "30.00 µs", "1.50 ×", "≤ 1.40 ×  BROKEN"]
    assert zipped.cells()[-1] == "≤ 1.20 MB  BROKEN"
