"""The yardsticks compute what they are timed for, and every library's new process gives the right first result."""

import numpy as np
import pytest

from bench import startup, yardsticks
from bench.rivals import DISTRIBUTIONS, load


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multiply_add(dtype):
    """From 0, n fused multiply-adds x = 0.5 x + 0.5 give 1 - 2^-n in every accumulator."""
    (tile,) = yardsticks.aligned_zeros(1, 0, dtype)
    yardsticks.multiply_add(tile, 0.5, 10)
    np.testing.assert_array_equal(tile, 1 - 2.0**-10)


def test_read():
    """Every element of the buffer is read: a bit set in any of them arrives."""
    ((buffer,), (result,)) = yardsticks.aligned_zeros(1, 10_000, "float32"), yardsticks.aligned_zeros(1, 0, "float32")
    assert 8_000 <= buffer.nbytes <= 10_000
    for element in range(buffer.size):
        buffer[element] = 1
        yardsticks.read(buffer, result, 1)
        np.testing.assert_array_equal(np.flatnonzero(result), [element % result.size])
        buffer[element] = 0


def test_rate():
    """Each thread runs on arguments of its own."""
    seen = []

    def kernel(number, times):
        seen.append(number)
        for _ in range(1000 * times):
            pass

    assert yardsticks.rate(kernel, 1.0, [(1,), (2,)]) > 0
    assert {1, 2} == set(seen)


def test_cache_sizes():
    """Three levels, each larger than the one before."""
    sizes = yardsticks.cache_sizes()
    assert list(sizes) == ["L1", "L2", "L3"]
    assert 0 < sizes["L1"] < sizes["L2"] < sizes["L3"]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_first_result(name, tmp_path):
    """launch compares the first result with the reference's."""
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
    """Memory is measured, where the system tells it, at the steps asked for."""
    assert set(startup.measure_growth((10, 20))) in ({"10", "20"}, set())
