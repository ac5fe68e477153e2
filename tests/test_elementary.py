"""exp, log and the activations that are made of them within 2 ulp of the true value, over the whole range."""

import ctypes

import mpmath
import numpy as np
import pytest
import scipy.special

import fastrnn
from fastrnn import reference
from fastrnn.kernels.layout import OPERATIONS
from fastrnn.native import machine_code

from .cases import DTYPES
from .exhaustive import few

mp = mpmath.mp.clone()
mp.prec = 120


@pytest.fixture(autouse=True)
def operations(monkeypatch):
    """An operation may live outside of the package."""
    for name in ("exp_all", "log_all"):
        monkeypatch.setitem(OPERATIONS, name, ("tests.operations", True))


def through_operation(name):
    """A function of numbers, from an operation that replaces whole registers of them."""

    def evaluate(x):
        values = np.zeros(x.size + -x.size % 64, x.dtype)
        values[: x.size] = x
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(machine_code.address(name, x.dtype.name))(values.ctypes.data, values.size, 0)
        return values[: x.size]

    return evaluate


def through_layer(activation):
    """A function of numbers, from a layer that computes it of 1 x + -0, which is x to the bit."""

    def evaluate(x):
        one = np.ones((1, 1), x.dtype)
        return fastrnn.Dense(one, -0.0 * one[0], activation=activation)(x[:, np.newaxis])[:, 0]

    return evaluate


# name: what is tested, mpmath's, NumPy's, SciPy's or the reference's
FUNCTIONS = {
    "exp": (through_operation("exp_all"), mp.exp, np.exp),
    "tanh": (through_layer("tanh"), mp.tanh, np.tanh),
    "sigmoid": (through_layer("sigmoid"), lambda x: 1 / (1 + mp.exp(-x)), scipy.special.expit),
    "softplus": (through_layer("softplus"), lambda x: mp.log1p(mp.exp(x)), reference.softplus),
    "elu": (through_layer(("elu", 1.0)), lambda x: x if x > 0 else mp.expm1(x), lambda x: reference.apply(("elu", 1.0), x)),
}
log_all = through_operation("log_all")
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def binades(dtype, count, lowest=None, highest=None):
    """`count` numbers of both signs in every binade, subnormals included; 2^e and its neighbours among them."""
    rng, info = np.random.default_rng(3), np.finfo(dtype)
    first = info.minexp - info.nmant if lowest is None else lowest
    exponents = np.arange(first, info.maxexp if highest is None else highest)
    mantissas = rng.uniform(1, 2, (len(exponents), count))
    mantissas[:, 0] = 1
    mantissas[:, -1] = 2 - info.eps
    x = np.ldexp(mantissas, exponents[:, None]).astype(dtype).ravel()
    return np.concatenate([x, -x])


def edges(dtype):
    """Where exp overflows and underflows, functions change their formulas and round to one, and the ends of the range."""
    info = np.finfo(dtype)
    limits = [np.log(float(number)) for number in (info.max, info.tiny, info.smallest_subnormal, 0.5, 2**0.5)]
    limits += [0.25, 0.26, 9.02, 19.07, 1.0, 104.0, 89.0, 745.0, 709.0, 746.0, 710.0, 37.0, 17.0, float(info.eps)]
    limits += [-np.log(2**0.5 - 1), 18.04, 38.14]
    around = np.array(limits)[:, None] * (1 + np.arange(-40, 41) * float(info.eps))
    ends = np.array([info.max, info.tiny, info.smallest_subnormal, info.smallest_subnormal * 3], dtype)
    x = np.concatenate([around.ravel().astype(dtype), ends])
    return np.concatenate([x, -x])


def ulps(actual, exact, info):
    """Distance in units of the exact value's last place; inf stands for the first power of two that is too large."""
    too_large = mp.mpf(2) ** info.maxexp
    exact = min(exact, too_large)
    actual = too_large if np.isinf(actual) else mp.mpf(float(actual))
    place = max(mp.frexp(exact)[1] - info.nmant - 1, info.minexp - info.nmant)
    return float(abs(actual - exact) / mp.mpf(2) ** place)


def worst(function, exact, x):
    info = np.finfo(x.dtype)
    actual = function(x)
    return max((ulps(a, exact(mp.mpf(float(value))), info), value) for a, value in zip(actual, x, strict=True))


@every_function
@pytest.mark.parametrize("counts", few([(3, 12, 60), (16, 60, 300)], (3, 12, 60)))
def test_double_precision(name, counts):
    """Within 2 ulp of mpmath in float64: some numbers in every binade, and more where the functions are not trivial."""
    function, exact, _ = FUNCTIONS[name]
    ranges = zip(counts, ((), (-30, -4), (-4, 10)), strict=True)
    x = np.concatenate([*(binades(np.float64, count, *ends) for count, ends in ranges), edges(np.float64)])
    error, at = worst(function, exact, x)
    assert error <= 2, at


@every_function
def test_single_precision(name):
    """Within 2 ulp of mpmath in float32: every binade, and the edges."""
    function, exact, _ = FUNCTIONS[name]
    error, at = worst(function, exact, np.concatenate([binades(np.float32, 12), binades(np.float32, 200, -4, 8), edges(np.float32)]))
    assert error <= 2, at


@every_function
def test_single_precision_densely(name):
    """Within 2 ulp of the float64 function, 4,000 numbers in every binade."""
    function, _, exact = FUNCTIONS[name]
    info, x = np.finfo(np.float32), binades(np.float32, 4000)
    with np.errstate(all="ignore"):
        expected = np.minimum(exact(x.astype(float)), 2.0**info.maxexp)
    actual = function(x).astype(float)
    actual[np.isinf(actual)] = 2.0**info.maxexp
    place = np.maximum(np.frexp(expected)[1] - info.nmant - 1, info.minexp - info.nmant)
    errors = np.abs(actual - expected) / np.ldexp(1.0, place)
    assert errors.max() <= 2, x[errors.argmax()]


@every_function
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(name, dtype):
    """At 0, -0, inf, -inf and NaN, and where results over- and underflow, as in NumPy, SciPy or the reference; the sign of a zero too."""
    function, _, expected = FUNCTIONS[name]
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, info.max, -info.max, 1e5 * 0.9, -1e5 * 0.9], dtype)
    with np.errstate(all="ignore"):
        wanted = expected(x)
    actual = function(x)
    np.testing.assert_array_equal(actual, wanted)
    known = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(actual[known]), np.signbit(wanted[known]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_and_bounded(dtype):
    """tanh(-x) = -tanh(x) to the bit, its size never above one, and a subnormal is its own tanh."""
    tanh, x = FUNCTIONS["tanh"][0], np.concatenate([binades(dtype, 50), edges(dtype)])
    actual = tanh(x)
    np.testing.assert_array_equal(tanh(-x), -actual)
    assert np.abs(actual).max() == 1
    subnormal = np.abs(x) < np.finfo(dtype).tiny
    np.testing.assert_array_equal(actual[subnormal], x[subnormal])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_reaches_zero_and_one(dtype):
    """sigmoid stays within 0 and 1, both reached, and is subnormal before it is 0."""
    x = np.concatenate([binades(dtype, 50), edges(dtype)])
    actual = FUNCTIONS["sigmoid"][0](x)
    assert (actual.min(), actual.max()) == (0, 1)
    assert ((actual > 0) & (actual < np.finfo(dtype).tiny)).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_log(dtype):
    """log is within 2 ulp from 1 to 1e6, where softmax's sums are; also where the mantissa's range ends, at sqrt(2)."""
    rng, eps = np.random.default_rng(7), float(np.finfo(dtype).eps)
    near_one, near_root = 1 + np.arange(300) * eps, np.outer(2 ** np.arange(0.5, 20), 1 + np.arange(-3, 4) * eps).ravel()
    x = np.concatenate(
        [near_one, near_root, np.exp(rng.uniform(0, np.log(1e6), 6000)), 1 + np.exp(rng.uniform(-20, 0, 2000)), np.arange(1, 600)]
    )
    error, at = worst(log_all, mp.log, x.astype(dtype))
    assert error <= 2, at


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_special_values(dtype):
    """log of 1, 0, inf and NaN as in NumPy."""
    x = np.array([1.0, 0.0, np.inf, np.nan], dtype)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(log_all(x), np.log(x))
