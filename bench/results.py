"""Loads and saves results.json, and derives from it what the reports and the figures show."""

import hashlib
import json
import pathlib
import re
import statistics
from typing import Any

FILE = pathlib.Path(__file__).with_name("results.json")

LOOP, OURS = "notebook loop", "fastrnn"
LIBRARIES = (LOOP, "NumPy", "PyTorch", "ONNX Runtime", "OpenVINO", "JAX", OURS)
CONTESTANTS = (*LIBRARIES[:-1], "reservoirpy", OURS)  # with a library that has leaky layers alone, in float64

Results = dict[str, Any]


def load() -> Results:
    return json.loads(FILE.read_text(encoding="utf-8"))


def save(results: Results) -> None:
    FILE.write_text(dump(results), encoding="utf-8")


def dump(results: Results) -> str:
    """JSON with every innermost list and object on one line: a changed number changes one line."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: " ".join(match[0].split()), text) + "\n"


def digest() -> str:
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


def rounded(number: float) -> float:
    """Keep four digits: no measurement is more exact."""
    return float(f"{number:.4g}")


def best(row: Results, name: str) -> float | None:
    """A library's seconds a call, at its faster number of threads."""
    return min((time["median"] for time in row["times"].get(name, {}).values()), default=None)


def speed_up(row: Results, name: str) -> float | None:
    """The notebook loop's time over a library's."""
    seconds = best(row, name)
    return None if seconds is None else best(row, LOOP) / seconds


def lead(row: Results) -> tuple[float, str]:
    """The best rival's time over fastrnn's, and the rival's name."""
    seconds, name = min((best(row, name), name) for name in row["times"] if name != OURS)
    return seconds / best(row, OURS), name


def mean_lead(rows: list[Results]) -> float:
    return statistics.geometric_mean(lead(row)[0] for row in rows)


def bound(row: Results, results: Results, threads: str) -> tuple[float, str]:
    """The least seconds that a row can take, and what limits them: multiply-adds (FMA), or reads from a cache.

    All products do their multiply-adds at the machine's rate. Tokens need no product: they select a column. Each step also reads
    weight_hh once: each thread its share, from the smallest cache that holds the share. In one sequence these reads take longer than
    the multiply-adds.

    Weights a little larger than a cache can beat this bound, because a part of them stays in the cache from step to step.
    """
    rates, hidden = results["rates"][threads], row["hidden"]
    inputs = 0 if row["group"] == "tokens" else row["inputs"]
    peak = rates[f"FMA {row['dtype']}"]
    projections = row["computed"] * hidden * (inputs + (row["outputs"] or 0)) / peak
    products = row["computed"] * hidden**2 / peak
    size = hidden**2 * (4 if row["dtype"] == "float32" else 8)
    level = next((level for level, held in results["machine"]["caches"].items() if size / int(threads) <= held), "L3")
    reads = row["steps"] * size / rates[level]
    return projections + max(products, reads), level if reads > products else "FMA"


def share(row: Results, results: Results, threads: str) -> float:
    """The least possible time over fastrnn's."""
    return bound(row, results, threads)[0] / row["times"][OURS][threads]["median"]
