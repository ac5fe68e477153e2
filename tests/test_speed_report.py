"""README and bench/RESULTS.md say what bench/results.json gives. No test here needs a rival or matplotlib."""

import copy
import re

import pytest

from bench import report, results

from .process import ROOT

TIMES = {"median": 1.0, "low": 1.0, "high": 1.0, "way": "way"}


def times(**medians):
    return {name: {"1": {**TIMES, "median": seconds}} for name, seconds in medians.items()}


ROW = {
    "group": "shapes",
    "name": "row",
    "steps": 10,
    "inputs": 3,
    "hidden": 100,
    "outputs": 7,
    "batch": None,
    "dtype": "float32",
    "computed": 10,
    "errors": [],
    "times": times(**{"notebook loop": 8e-3, "NumPy": 4e-3, "JAX": 2e-3, "fastrnn": 1e-3}),
}
RESULTS = {
    "machine": {"caches": {"L1": 39_999, "L2": 10**6, "L3": 10**7}},
    "rates": {"1": {"FMA float32": 1e9, "L1": 4e9, "L2": 2e9, "L3": 1e9}},
    "rows": [ROW],
}


def test_the_readme_is_generated():
    """The README's section on speed is made from results.json: `python -m bench --report` makes it again."""
    assert report.written() == report.section(results.load())


def test_the_results_page_is_generated():
    """So is the whole of bench/RESULTS.md."""
    assert report.RESULTS.read_text(encoding="utf-8") == report.page(results.load())


def test_the_readme_is_short_and_its_links_lead_somewhere():
    """At most 220 lines; longer texts are in the files that it links to."""
    text = report.README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_has_eight_rows():
    """The chosen ones, and the row in which fastrnn's lead is lowest."""
    rows = [line for line in report.written().splitlines() if line.startswith("|")][2:]
    assert len(rows) == 8
    lowest = min(report.tabled(results.load()), key=lambda row: results.lead(row)[0])
    assert any(line.startswith(f"| {report.label(lowest)} |") for line in rows)


@pytest.mark.parametrize("name", ["speedup", "scaling"])
def test_the_figures_show_the_results(name):
    """Each figure carries the digest of the results it was drawn from."""
    assert f"results {results.digest()}" in (ROOT / "bench" / f"{name}.svg").read_text(encoding="utf-8")


def test_speeds():
    """A line: the loop's time, times faster for each library (the best in bold, a dash for no result), and fastrnn's lead."""
    line = "| row: T 10, I 3, H 100, O 7, float32 | 8 ms | 2.00 | - | - | - | 4.00 | **8.00** | 2.00 |"
    assert report.speeds([ROW]).splitlines()[-1] == line


def test_the_better_number_of_threads_counts():
    """A library's time is its time at its faster number of threads."""
    row = copy.deepcopy(ROW)
    row["times"]["JAX"]["2"] = {**TIMES, "median": 5e-4}
    assert results.best(row, "JAX") == 5e-4
    assert results.lead(row) == (0.5, "JAX")


def test_losses_and_errors_are_named():
    """A row in which a rival is faster is listed with the rival, and so is a library that failed."""
    lost = {**ROW, "times": times(**{"notebook loop": 4e-3, "NumPy": 5e-4, "fastrnn": 1e-3}), "errors": ["JAX, threads 1: broken"]}
    text = " ".join(report.summary([ROW, lost]).split())
    assert "fastest in 1 of 2 rows" in text
    assert "takes 1.00 times as long" in text
    assert "lowest row (row: T 10, I 3, H 100, O 7, float32) NumPy takes 0.50 times as long" in text
    text = report.failures([ROW, lost])
    assert "- row: T 10, I 3, H 100, O 7, float32: 0.50 (NumPy)" in text
    assert "- row: T 10, I 3, H 100, O 7, float32: JAX, threads 1: broken" in text
    assert report.failures([ROW]) == ""


def test_pairs():
    """A pair's line gives both measurements, and the second over the first."""
    pair = {"name": "shape", "first": "model(x)", "second": "rnn_forward", "seconds": [2e-6, 3e-6]}
    assert report.pairs({"pairs": [pair]}).splitlines()[-1] == "| shape | model(x): 2 us | rnn_forward: 3 us | 1.50 |"


def test_starts():
    """A row that couldn't be measured is a sentence below the table."""
    measured = {"first result": 0.5, "peak memory": 28 * 10**6, "installed": None}
    text = report.starts({"start": {"NumPy": measured, "fastrnn, from a wheel": {"note": "no compiler"}}})
    assert text.endswith("| NumPy | 0.50 s | 28 MB | - |\n\nfastrnn, from a wheel: not measured: no compiler.")


def test_bounds():
    """By hand: 10 steps have 100 x (3 + 7) and 100 x 100 multiply-adds each. Reading 40,000 bytes a step from L2 takes longer."""
    seconds, by = results.bound(ROW, RESULTS, "1")
    assert by == "L2"
    assert seconds == pytest.approx(10 * 1000 / 1e9 + 10 * 40_000 / 2e9)
    batch = {**ROW, "computed": 40}
    seconds, by = results.bound(batch, RESULTS, "1")
    assert by == "FMA"
    assert seconds == pytest.approx(40 * (1000 + 10_000) / 1e9)
    assert results.share(batch, RESULTS, "1") == pytest.approx(0.44)


def test_bounds_of_two_threads():
    """Each of two threads reads half of the weights, and L1 holds a half."""
    both = {**RESULTS, "rates": {"2": {"FMA float32": 2e9, "L1": 5e9, "L2": 4e9, "L3": 2e9}}}
    seconds, by = results.bound(ROW, both, "2")
    assert by == "L1"
    assert seconds == pytest.approx(10 * 1000 / 2e9 + 10 * 40_000 / 5e9)
