"""Measures rows, the machine's limits and starts, and gathers what results.json holds."""

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
from bench.results import LIBRARIES, OURS, Results, rounded
from bench.rivals import DISTRIBUTIONS
from bench.rows import ROWS, Row, task
from bench.startup import measure_growth, measure_start
from bench.timing import ROUNDS, measure
from bench.yardsticks import cache_sizes, peak_rates
from fastrnn.threads import processors


def measure_row(row: Row, contestants: Sequence[Contestant | Remote], progress: tqdm, rounds: int = ROUNDS) -> Results:
    arrays, shape = task(row), row.shape
    computed = shape.steps * (shape.batch or 1) if arrays.lengths is None else int(arrays.lengths.sum())
    sizes = {"group": row.group, **dataclasses.asdict(shape), "dtype": row.dtype, "computed": computed}
    return sizes | measure(arrays, str(row), contestants, progress, rounds)


def measure_rows(rows: Sequence[Row], told: Callable[[Row, Results], str], rounds: int = ROUNDS) -> tuple[list[Results], list[str]]:
    """Measure rows, tell each as it is done, and give the libraries that aren't installed."""
    contestants, missing = enter(LIBRARIES)
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
    installed = [name for name in DISTRIBUTIONS if name not in missing]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": processor(), "cores": processors(), "caches": cache_sizes()},
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in installed} | {"numba": version("numba")},
        "missing": missing,
        "rates": {n: {name: rounded(max(rate, after[n][name])) for name, rate in rates.items()} for n, rates in before.items()},
        "rows": rows,
        "start": measure_start(installed),
        "growth": measure_growth(),
    }


def version(name: str) -> str:
    return fastrnn.__version__ if name == OURS else importlib.metadata.version(DISTRIBUTIONS.get(name, name))


def processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines: list[Any] = information.read_text().splitlines() if information.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine()
    )
