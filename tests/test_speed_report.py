"""The README's section on speed is what the stored results give; nothing here needs a rival or matplotlib."""

import copy

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


def test_the_section_is_generated():
    """README and results.json belong together: `python -m bench --report` makes the one from the other."""
    assert report.written() == report.section(results.load())


@pytest.mark.parametrize("name", ["speedup", "scaling"])
def test_the_figures_show_the_results(name):
    """Each figure carries the digest of the results it was drawn from."""
    assert f"results {results.digest()}" in (ROOT / "bench" / f"{name}.svg").read_text(encoding="utf-8")


def test_speeds():
    """The loop's time, times faster than it with the best in bold, a dash for who has no such row, and fastrnn's lead."""
    line = "| row: T 10, I 3, H 100, O 7, float32 | 8 ms | 2.00 | - | - | - | 4.00 | **8.00** | 2.00 |"
    assert report.speeds(RESULTS).splitlines()[-1] == line


def test_the_better_number_of_threads_counts():
    """A library's time is that of the number of threads that suits it."""
    row = copy.deepcopy(ROW)
    row["times"]["JAX"]["2"] = {**TIMES, "median": 5e-4}
    assert results.best(row, "JAX") == 5e-4
    assert results.lead(row) == (0.5, "JAX")


def test_losses_and_errors_are_named():
    """A row in which fastrnn isn't the fastest is listed with the best rival, and so is what failed."""
    lost = {**ROW, "times": times(**{"notebook loop": 4e-3, "NumPy": 5e-4, "fastrnn": 1e-3}), "errors": ["JAX, threads 1: broken"]}
    text = report.summary({"rows": [ROW, lost]})
    assert "fastrnn is the fastest in 1." in text
    assert "takes 1.00 times as long" in text
    assert "- row: T 10, I 3, H 100, O 7, float32: 0.50 (NumPy)" in text
    assert "- row: T 10, I 3, H 100, O 7, float32: JAX, threads 1: broken" in text


def test_bounds():
    """By hand: 10 steps of 100 x (3 + 7) and 100 x 100 multiply-adds, or 40,000 bytes a step from L2, which is slower."""
    seconds, by = results.bound(ROW, RESULTS, "1")
    assert by == "L2"
    assert seconds == pytest.approx(10 * 1000 / 1e9 + 10 * 40_000 / 2e9)
    batch = {**ROW, "computed": 40}
    seconds, by = results.bound(batch, RESULTS, "1")
    assert by == "FMA"
    assert seconds == pytest.approx(40 * (1000 + 10_000) / 1e9)
    assert results.share(batch, RESULTS, "1") == pytest.approx(0.44)


def test_bounds_of_two_threads():
    """Each thread reads half of the weights, which L1 holds."""
    both = {**RESULTS, "rates": {"2": {"FMA float32": 2e9, "L1": 5e9, "L2": 4e9, "L3": 2e9}}}
    seconds, by = results.bound(ROW, both, "2")
    assert by == "L1"
    assert seconds == pytest.approx(10 * 1000 / 2e9 + 10 * 40_000 / 5e9)
