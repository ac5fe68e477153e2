"""Measures everything that results.json holds: rows, pairs, start-up, memory, and the machine's limits."""

import dataclasses
import datetime
import importlib.metadata
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

import fastrnn
from bench.contestants import Contestant, Remote, enter
from bench.pairs import measure_pairs
from bench.results import CONTESTANTS, OURS, Results, rounded
from bench.rivals import DISTRIBUTIONS
from bench.rows import ROWS, Row, task
from bench.startup import installed, measure_growth, measure_start
from bench.timing import ROUNDS, measure
from bench.yardsticks import cache_sizes, peak_rates
from fastrnn.native.processor import processors

SECTIONS = {"pairs": measure_pairs, "start": measure_start, "growth": measure_growth}


def measure_row(row: Row, contestants: Sequence[Contestant | Remote], progress: tqdm, rounds: int = ROUNDS) -> Results:
    arrays, shape = task(row), row.shape
    computed = shape.steps * (shape.batch or 1) if arrays.lengths is None else int(arrays.lengths.sum())
    sizes = {"group": row.group, **dataclasses.asdict(shape), "dtype": row.dtype, "computed": computed}
    return sizes | measure(arrays, str(row), contestants, progress, rounds)


def measure_rows(rows: Sequence[Row], told: Callable[[Row, Results], str], rounds: int = ROUNDS) -> tuple[list[Results], list[str]]:
    """Measure rows and print each when it is done. Return them, and the libraries that aren't installed."""
    contestants, missing = enter(CONTESTANTS)
    measured = []
    try:
        with tqdm(total=len(rows) * len(contestants) * (1 + rounds), disable=None) as progress:
            progress.write("\n".join(f"{name} is not installed" for name in missing), end="\n" if missing else "")
            for row in rows:
                measured.append(measure_row(row, contestants, progress, rounds))
                progress.write(told(row, measured[-1]))
    finally:
        for contestant in contestants:
            contestant.close()
    return measured, missing


def measure_all(told: Callable[[Row, Results], str]) -> Results:
    threads = sorted({1, processors()})
    before = {str(n): peak_rates(n) for n in threads}
    rows, missing = measure_rows(ROWS, told)
    after = {str(n): peak_rates(n) for n in threads}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": processor(), "cores": processors(), "caches": cache_sizes()},
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in (*installed(), "numba")},
        "missing": missing,
        "rates": {n: {name: rounded(max(rate, after[n][name])) for name, rate in rates.items()} for n, rates in before.items()},
        "rows": rows,
        **{name: measure_section() for name, measure_section in SECTIONS.items()},
    }


def measure_part(name: str, told: Callable[[Row, Results], str]) -> Results:
    """Measure the section of this name, or the rows whose names contain it. Empty where there are none."""
    if name in SECTIONS:
        return {name: SECTIONS[name]()}
    rows = [row for row in ROWS if name in str(row)]
    return {"rows": measure_rows(rows, told)[0]} if rows else {}


def with_part(results: Results, part: Results) -> Results:
    """Replace a section, or rows, by what was measured alone. Rows keep the order of ROWS."""
    rows = {key(row): row for row in [*results["rows"], *part.get("rows", [])]}
    order = [(row.group, row.shape.name, row.dtype) for row in ROWS]
    machine = results["machine"]
    if processor() not in machine["cpu"]:
        machine = {**machine, "cpu": f"{machine['cpu']} and, for rows measured later, {processor()}"}
    return {**results, **part, "machine": machine, "rows": [rows[name] for name in order if name in rows]}


def key(row: Results) -> tuple[str, str, str]:
    return row["group"], row["name"], row["dtype"]


def version(name: str) -> str:
    return fastrnn.__version__ if name == OURS else importlib.metadata.version(DISTRIBUTIONS.get(name, name))


def processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines: list[Any] = information.read_text().splitlines() if information.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine()
    )
