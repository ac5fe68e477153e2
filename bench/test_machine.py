"""Tests the parts of the benchmark beside its rows: yardsticks, pairs and start-up."""

import numpy as np
import pytest

from bench import pairs, startup, yardsticks
from bench.rivals import DISTRIBUTIONS, load


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multiply_add(dtype):
    """From 0, n fused multiply-adds x = 0.5 x + 0.5 give 1 - 2^-n in every accumulator."""
    (tile,) = yardsticks.aligned_zeros(1, 0, dtype)
    yardsticks.multiply_add(tile, 0.5, 10)
    np.testing.assert_array_equal(tile, 1 - 2.0**-10)


def test_read():
    """Every element of the buffer is read: a bit set in any element reaches the result."""
    ((buffer,), (result,)) = yardsticks.aligned_zeros(1, 10_000, "float32"), yardsticks.aligned_zeros(1, 0, "float32")
    assert 8_000 <= buffer.nbytes <= 10_000
    for element in range(buffer.size):
        buffer[element] = 1
        yardsticks.read(buffer, result, 1)
        np.testing.assert_array_equal(np.flatnonzero(result), [element % result.size])
        buffer[element] = 0


def test_rate():
    """Each thread gets its own arguments."""
    seen = []

    def kernel(number, times):
        seen.append(number)
        for _ in range(1000 * times):
            pass

    assert yardsticks.rate(kernel, 1.0, [(1,), (2,)]) > 0
    assert {1, 2} == set(seen)


def test_cache_sizes():
    """There are three levels, and each is larger than the one before it."""
    sizes = yardsticks.cache_sizes()
    assert list(sizes) == ["L1", "L2", "L3"]
    assert 0 < sizes["L1"] < sizes["L2"] < sizes["L3"]


@pytest.mark.parametrize("name", startup.SCRIPTS)
def test_first_result(name, tmp_path):
    """A new process prints the right first result. `launch` compares it with the reference."""
    try:
        load(name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    expected = float(startup.prepare(tmp_path).expected.ravel()[-1])
    seconds, peak = startup.launch(name, tmp_path, tmp_path, expected)
    assert seconds > 0
    assert peak is None or peak > 10e6
    assert startup.installed_size(DISTRIBUTIONS[name]) > 10e6
    with pytest.raises(RuntimeError, match=f"{name} printed"):
        startup.launch(name, tmp_path, tmp_path, expected + 1)


def test_growth():
    """There is one result for each number of steps, or none where the system doesn't tell."""
    assert set(startup.measure_growth((10, 20))) in ({"10", "20"}, set())


def test_start(monkeypatch):
    """Libraries that cache code have a second row. A wheel that can't be built has a note, and the other rows stay."""
    monkeypatch.setattr(startup, "installed", lambda: ["NumPy", "fastrnn"])
    monkeypatch.setattr(startup, "build_package", fail_with_machine_code)
    monkeypatch.setattr(startup, "launch", lambda *arguments: (0.5, 10**7))
    started = startup.measure_start(rounds=1)
    assert list(started) == ["NumPy", "fastrnn", "fastrnn, code cached", "fastrnn, from a wheel"]
    assert started["fastrnn, code cached"]["first result"] == 0.5
    assert started["fastrnn, from a wheel"] == {"note": "no compiler"}


def fail_with_machine_code(directory, levels):
    if levels:
        raise RuntimeError("no compiler")


def test_package(tmp_path):
    """The package for a cold start is unpacked from a wheel, and holds no compiled code."""
    package = startup.build_package(tmp_path, None) / "fastrnn"
    assert (package / "__init__.py").is_file()
    assert not list(package.rglob("__pycache__"))


def test_pairs(monkeypatch):
    """Every pair has its name and two times."""
    monkeypatch.setattr(pairs, "settle", lambda: None)
    monkeypatch.setattr(pairs, "CALLS", 1)
    measured = pairs.measure_pairs(rounds=1)
    assert [pair["name"] for pair in measured] == [pair.name for pair in pairs.PAIRS]
    assert all(seconds > 0 for pair in measured for seconds in pair["seconds"])
