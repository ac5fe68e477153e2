"""The functions that layers apply, as they are reached from outside, within 2 ulp of the true value."""

import mpmath
import numpy as np
import pytest
import scipy.special

import fastrnn

from .cases import DTYPES, assert_same_bits
from .exhaustive import few

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
double_first = pytest.mark.parametrize("dtype", few(DTYPES, np.float64))  # float32 is tried densely in every binade below
mp = mpmath.mp.clone()
mp.prec = 120
# Below, e^x is lost beside one, so softmax of 0 and x gives it as it is; and below, e^x is subnormal, and then zero.
LOST = {np.float32: -18.0, np.float64: -38.0}
SUBNORMAL = {np.float32: -87.34, np.float64: -708.4}
ZERO = {np.float32: -103.98, np.float64: -745.2}


def applied(x, activation):
    """A Dense layer's activation of every number: one times x, and minus zero for a bias, which keeps the sign of a zero."""
    one, nothing = np.ones((1, 1), x.dtype), np.array([-0.0], x.dtype)
    return fastrnn.Dense(one, nothing, activation=activation)(x[:, np.newaxis])[:, 0]


def pairs(x, activation):
    """A Dense layer's activation of 0 and x, for every x."""
    return fastrnn.Dense(np.array([[0], [1]], x.dtype), activation=activation)(x[:, np.newaxis])


def ulps(actual, function, x):
    """Errors in units of the last place of the true value; a subnormal's place is the smallest number."""
    info = np.finfo(x.dtype)
    errors = []
    for one, value in zip(actual, x, strict=True):
        true = function(mp.mpf(float(value)))
        place = max(mp.frexp(true)[1] - info.nmant - 1, info.minexp - info.nmant)
        errors.append(float(abs(mp.mpf(float(one)) - true) / mp.mpf(2) ** place))
    return np.array(errors)


def between(dtype, low, high, count=4000):
    return np.random.default_rng(11).uniform(low, high, count).astype(dtype)


def around_zero(dtype):
    """Numbers whose power is subnormal, most of them near those where it is the last one, and some whose power is zero."""
    return np.concatenate([between(dtype, ZERO[dtype] - 0.5, SUBNORMAL[dtype]), between(dtype, ZERO[dtype] - 0.1, ZERO[dtype] + 1.1)])


@every_dtype
def test_exp_down_to_its_last_subnormal(dtype):
    """e^x, subnormal from -87.3 or -708.4 down, is within 2 ulp until it is zero at -104 or -745.2."""
    x = around_zero(dtype)
    first, power = pairs(x, "softmax").T
    assert (first == 1).all()
    assert (power[x > ZERO[dtype] + 0.1] > 0).all()
    assert ulps(power, mp.exp, x).max() <= 2


@every_dtype
def test_exp_where_it_is_lost_beside_one(dtype):
    """From there up e^x is within 2 ulp as well."""
    x = between(dtype, SUBNORMAL[dtype], LOST[dtype])
    first, power = pairs(x, "softmax").T
    assert (first == 1).all()
    assert ulps(power, mp.exp, x).max() <= 2


@every_dtype
def test_sigmoid_down_to_its_last_subnormal(dtype):
    """So is sigmoid, which is e^x there, and one at the other end."""
    x = np.concatenate([around_zero(dtype), between(dtype, SUBNORMAL[dtype], LOST[dtype])])
    assert ulps(applied(x, "sigmoid"), mp.exp, x).max() <= 2
    assert_same_bits(applied(-x, "sigmoid"), np.ones_like(x))


@every_dtype
def test_log_softmax_keeps_what_exp_has_lost(dtype):
    """log_softmax of 0 and x is 0 and x, where e^x is subnormal or zero."""
    x = between(dtype, 2 * ZERO[dtype], LOST[dtype])
    assert_same_bits(pairs(x, "log_softmax"), np.stack([np.zeros_like(x), x], axis=1))


@double_first
@pytest.mark.parametrize(("low", "high"), [(1e-8, 1e-3), (1e-3, 0.24), (0.24, 0.28), (0.28, 1.0), (1.0, 3.0), (3.0, 20.0)])
def test_tanh_densely(dtype, low, high):
    """tanh is within 2 ulp for 5,000 numbers in every range that a formula of it may have; it is odd to the bit."""
    x = np.exp(between(np.float64, np.log(low), np.log(high), 5000)).astype(dtype)
    actual = applied(x, "tanh")
    assert ulps(actual, mp.tanh, x).max() <= 2
    assert_same_bits(applied(-x, "tanh"), -actual)


@double_first
@pytest.mark.parametrize(("low", "high"), [(-38, -10), (-10, -1), (-1, 0), (0, 1), (1, 10), (10, 40)])
def test_sigmoid_densely(dtype, low, high):
    """sigmoid is within 2 ulp on both sides of zero."""
    x = between(dtype, low, high)
    assert ulps(applied(x, "sigmoid"), lambda z: 1 / (1 + mp.exp(-z)), x).max() <= 2


@double_first
@pytest.mark.parametrize(("low", "high"), [(-38, -17), (-17, -1), (-1, -0.7), (-0.7, 0), (0, 1), (1, 40)])
def test_softplus_densely(dtype, low, high):
    """softplus is within 2 ulp: where it is e^x, where 1 + e^x passes the root of 2, and where it is x."""
    x = between(dtype, low, high)
    assert ulps(applied(x, "softplus"), true_softplus, x).max() <= 2


@every_dtype
def test_softplus_down_to_its_last_subnormal(dtype):
    """Where softplus is e^x and that is subnormal, it is within 2 ulp until it is zero; the other end is x itself."""
    x = np.concatenate([around_zero(dtype), between(dtype, SUBNORMAL[dtype], LOST[dtype])])
    assert ulps(applied(x, "softplus"), mp.exp, x).max() <= 2
    assert_same_bits(applied(-x, "softplus"), -x)


@double_first
@pytest.mark.parametrize("alpha", few([1.0, 0.3, 1.6732632423543772, 1.999, -2.5], 0.3, -2.5))
@pytest.mark.parametrize(("low", "high"), [(1e-30, 1e-3), (1e-3, 0.3), (0.3, 0.4), (0.4, 3.0), (3.0, 40.0)])
def test_elu_densely(dtype, alpha, low, high):
    """elu is within 2 ulp for any alpha, near 0, where e^x loses what it is, and where it is -alpha; x from 0 up is itself."""
    x = -np.exp(between(np.float64, np.log(low), np.log(high), 1500)).astype(dtype)
    assert ulps(applied(x, ("elu", alpha)), lambda z: mp.mpf(float(dtype(alpha))) * mp.expm1(z), x).max() <= 2
    assert_same_bits(applied(-x, ("elu", alpha)), -x)


def true_softplus(x):
    return mp.log1p(mp.exp(x))


def true_elu(x):
    return x if x > 0 else mp.expm1(x)


ELU = ("elu", 1.0)
TRUE = {"tanh": mp.tanh, "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "softplus": true_softplus, ELU: true_elu}
DOUBLE = {
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.logaddexp(x, 0),
    ELU: lambda x: np.where(x < 0, np.expm1(x), x),
}
BOUNDS = {"tanh": (-1, 1), "sigmoid": (0, 1), "softplus": (0, None), ELU: (-1, None)}


def binades(dtype, count):
    """`count` numbers of both signs in every binade, subnormal ones included; the powers of two and their lower neighbours among them."""
    info, rng = np.finfo(dtype), np.random.default_rng(3)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp)
    mantissas = rng.uniform(1, 2, (len(exponents), count))
    mantissas[:, :2] = 1, 2 - info.eps
    x = np.ldexp(mantissas, exponents[:, np.newaxis]).astype(dtype).ravel()
    return np.concatenate([x, -x])


@every_dtype
@pytest.mark.parametrize("activation", TRUE)
def test_every_binade(dtype, activation):
    """Functions are within 2 ulp of mpmath's, and within their bounds, from the smallest numbers to the largest."""
    x = binades(dtype, 9)
    actual = applied(x, activation)
    assert ulps(actual, TRUE[activation], x).max() <= 2
    low, high = BOUNDS[activation]
    assert (actual.min(), actual.max()) == (low, x.max() if high is None else high)


@pytest.mark.parametrize("activation", DOUBLE)
def test_every_binade_densely_in_single_precision(activation):
    """In float32 they are within 2 ulp of the float64 functions, 2,000 numbers in every binade."""
    x, info = binades(np.float32, 2000), np.finfo(np.float32)
    with np.errstate(over="ignore"):
        true = DOUBLE[activation](x.astype(np.float64))
    place = np.maximum(np.frexp(true)[1] - info.nmant - 1, info.minexp - info.nmant)
    assert (np.abs(applied(x, activation) - true) <= 2 * np.ldexp(1.0, place)).all()


@every_dtype
def test_special_values(dtype):
    """Zeros keep their sign, infinities their limits and NaN is NaN, in every function of one number, as in NumPy."""
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    for activation, expected in {
        "identity": x,
        "tanh": np.tanh(x),
        "relu": np.maximum(x, 0),
        "sigmoid": np.array([0.5, 0.5, 1, 0, np.nan], dtype),
    }.items():
        actual = applied(x, activation)
        np.testing.assert_array_equal(actual, expected, strict=True)
        if activation != "relu":
            np.testing.assert_array_equal(np.signbit(actual[:4]), np.signbit(expected[:4]))
