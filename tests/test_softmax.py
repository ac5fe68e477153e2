"""Softmax and its logarithm: rows that sum to one, and SciPy's values at the extremes."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastrnn

from .cases import DTYPES, assert_close, assert_same_bits

SCIPY = {"softmax": scipy.special.softmax, "log_softmax": scipy.special.log_softmax}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_activation = pytest.mark.parametrize("activation", SCIPY)


def of(logits, activation="softmax"):
    """Apply the activation to logits that a Dense has as its bias, over an input of zero."""
    return fastrnn.Dense(np.zeros((logits.size, 1), logits.dtype), logits, activation=activation)(np.zeros((1, 1), logits.dtype))[0]


def drawn(size, seed, scale, dtype):
    return (np.random.default_rng(seed).normal(size=size) * scale).astype(dtype)


@given(st.integers(1, 500), st.integers(0, 10**6), st.sampled_from([0.01, 1, 3, 10, 1000]), st.sampled_from(DTYPES))
def test_rows_sum_to_one(size, seed, scale, dtype):
    """A row's exact sum is 1 within 4 eps."""
    probabilities = of(drawn(size, seed, scale, dtype))
    assert abs(math.fsum(probabilities.astype(float)) - 1) <= 4 * np.finfo(dtype).eps


@every_dtype
def test_rows_of_every_size_sum_to_one(dtype):
    """The same for every size up to 500, equal logits and random ones."""
    for size in range(1, 501):
        for logits in (np.zeros(size, dtype), drawn(size, size, 2, dtype)):
            assert abs(math.fsum(of(logits).astype(float)) - 1) <= 4 * np.finfo(dtype).eps


@given(st.integers(1, 500), st.integers(0, 10**6), st.sampled_from([0.1, 1, 10, 300]), st.sampled_from(DTYPES))
def test_equals_scipy(size, seed, scale, dtype):
    """Both equal SciPy's in float64."""
    logits = drawn(size, seed, scale, dtype)
    for activation, expected in SCIPY.items():
        assert_close(of(logits, activation), expected(logits.astype(float)), dtype)


SPECIAL = {
    "1e30": [1e30, 0, 1],
    "-1e30": [-1e30, 0, 1],
    "1e30 and -1e30": [1e30, -1e30, 1e30, 0],
    "all 1e30": [1e30] * 37,
    "all -1e30": [-1e30] * 37,
    "all equal": [3.25] * 41,
    "one": [7.0],
    "one inf": [1, np.inf, 2],
    "two inf": [np.inf, 0, np.inf],
    "only inf": [np.inf],
    "one -inf": [1, -np.inf, 2],
    "all -inf": [-np.inf] * 5,
    "inf and -inf": [np.inf, -np.inf, 0],
    "NaN": [1, np.nan, 2],
    "NaN first": [np.nan, 1, 2],
    "NaN and inf": [np.inf, 0, np.nan],
    "all NaN": [np.nan] * 33,
    "largest": [3e38, -3e38, 3e38],
}


@every_dtype
@every_activation
@pytest.mark.parametrize("logits", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("padding", [0, 29, 32, 70])
def test_special_logits(logits, activation, dtype, padding):
    """Huge, equal, infinite and NaN logits give what SciPy gives, in short rows and in long ones."""
    logits = np.array(logits + [-5.0] * padding, dtype)
    with np.errstate(all="ignore"):
        expected = SCIPY[activation](logits.astype(float))
    actual = of(logits, activation)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    with np.errstate(all="ignore"):
        assert_close(actual, expected.astype(dtype), dtype)


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=200), st.integers(-1000, 1000), st.sampled_from(DTYPES))
def test_a_shift_changes_nothing(logits, shift, dtype):
    """Integers shifted by an integer lose nothing in the shift, so the bits stay."""
    logits = np.array(logits, dtype)
    for activation in SCIPY:
        assert_same_bits(of(logits + dtype(shift), activation), of(logits, activation))


@every_dtype
def test_equal_logits(dtype):
    """Equal logits give equal probabilities, exactly 1/O where that is a power of two."""
    for size in (1, 2, 4, 64, 256):
        assert_same_bits(of(np.full(size, 0.7, dtype)), np.full(size, 1 / size, dtype))


@every_dtype
def test_log_softmax_of_tiny_probabilities(dtype):
    """log_softmax keeps its digits where softmax has underflowed to 0."""
    logits = np.array([0.0, -2000.0, -2001.5], dtype)
    assert_same_bits(of(logits)[1:], np.zeros(2, dtype))
    assert_same_bits(of(logits, "log_softmax"), logits)
