"""How the benchmark shows what it measured: rows with what is compared, its ratio, and the limit that it should keep."""

import dataclasses

from driving import spread

# What is measured: its name in the driver's output, how it is shown, and what it is divided by.
MEASURES = [
    ("start_us", "start to first /next", 1000, "ms"),
    ("start_cpu_us", "processor time of that", 1000, "ms"),
    ("first_call_us", "first call", 1000, "ms"),
    ("warm_p50_us", "warm call, median", 1, "µs"),
    ("warm_p99_us", "warm call, p99", 1, "µs"),
    ("cpu_per_call_us", "processor time per call", 1, "µs"),
    ("peak_memory_kib", "peak memory", 1024, "MiB"),
]


@dataclasses.dataclass
class Row:
    """A measure of something beside the same measure of what it is compared with."""

    title: str
    own: dict
    unit: float
    label: str
    base: dict | None = None
    ratio: dict | None = None
    # What is limited, the most that it may be, and the unit of both.
    judged: dict | None = None
    at_most: float | None = None
    limit_unit: float = 1
    limit_label: str = "×"

    @property
    def is_kept(self):
        """Whether the median keeps the limit; none without one."""
        return None if self.at_most is None else self.judged["median"] <= self.at_most

    def cells(self):
        base = cell(self.base, self.unit, self.label) if self.base else ""
        ratio = cell(self.ratio, 1, "×") if self.ratio else ""
        limit = ""
        if self.at_most is not None:
            limit = f"≤ {self.at_most / self.limit_unit:.2f} {self.limit_label}  {'kept' if self.is_kept else 'BROKEN'}"
        return [self.title, base, cell(self.own, self.unit, self.label), ratio, limit]


def measured(own, base, limits, title="{}", keys=tuple(key for key, *_ in MEASURES)):
    """A row for each measure; `limits` are by its name."""
    return [
        compared(title.format(what), key, own, base, unit, label, limits.get(key))
        for key, what, unit, label in MEASURES if key in keys
    ]


def compared(title, key, own, base, unit, label, at_most=None):
    """A measure of the driver's, and its ratio to the base's turn of the same run."""
    ratio = spread([turn[key] / other[key] for turn, other in zip(own, base, strict=True)])
    own, base = (spread([turn[key] for turn in turns]) for turns in (own, base))
    return Row(title, own, unit, label, base, ratio, ratio, at_most)


def absolute(title, value, unit, label, at_most=None, base=None):
    """A measure with a limit of its own, in its own unit."""
    ratio = spread([value["median"] / base["median"]]) if base else None
    return Row(title, value, unit, label, base, ratio, value, at_most, unit, label)


def show(title, rows, names=("bare function", "greeter")):
    print(f"\n{title}\n{'':64}{names[0]:>28}{names[1]:>28}{'ratio':>22}{'limit':>26}")
    for title, *cells, limit in map(Row.cells, rows):
        print(f"{title:<64}{cells[0]:>28}{cells[1]:>28}{cells[2]:>22}{limit:>26}".rstrip(), flush=True)


def show_verdict(rows):
    limited = [row for row in rows if row.at_most is not None]
    broken = [row for row in limited if not row.is_kept]
    print(f"\n{len(limited) - len(broken)} of {len(limited)} limits are kept", end="; broken:\n" if broken else "\n")
    for row in broken:
        judged = cell(row.judged, row.limit_unit, row.limit_label)
        print(f"  {row.title}: {judged}, at most {row.at_most / row.limit_unit:.2f} {row.limit_label}")


def cell(value, unit, label):
    text = f"{value['median'] / unit:.2f} {label}"
    if value["min"] != value["max"]:
        text += f" ({value['min'] / unit:.2f}–{value['max'] / unit:.2f})"
    return text
