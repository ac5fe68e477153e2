"""The order of the arithmetic: each output is one fixed tree of roundings. It is computed again here in exact fractions; all bits agree."""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastrnn

from .cases import DTYPES, assert_same_bits, uniform
from .exhaustive import few

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
TWO_SUMS = 512  # bytes of a state up to which its product is the sum of two halves
PARTIAL_SUMS = 32  # of a softmax
SOME_SIZES = (*range(1, 20), *range(31, 34), *range(62, 67), *range(126, 131), 139, 200, 256, 257, 300)


def rounded(exact, dtype):
    """The number of that dtype nearest to an exact one, of two equally near ones the even one."""
    info = np.finfo(dtype)
    exponent = math.frexp(float(exact))[1]
    place = Fraction(2) ** max(exponent - info.nmant - 1, info.minexp - info.nmant)
    return dtype(float(round(exact / place) * place))


def fma(a, b, c):
    """a * b + c, rounded once."""
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), type(c))


def chain(start, weights, values):
    """start + weights[0] * values[0], to that + weights[1] * values[1], and so on, each step one fma."""
    for weight, value in zip(weights, values, strict=True):
        start = fma(weight, value, start)
    return start


def step(projected, weights, state):
    """One unit's product with a state: a chain, or the sum of two where the state is small."""
    half = (len(state) + 1) // 2 if state.nbytes <= TWO_SUMS else len(state)
    first = chain(projected, weights[:half], state[:half])
    return first + chain(state.dtype.type(0), weights[half:], state[half:])


@every_dtype
def test_rounded_is_the_conversion_that_rounds_once(dtype):
    """The test's own rounding is NumPy's conversion, of subnormal numbers too, and of fractions that are no float64."""
    numbers = np.ldexp(np.random.default_rng(0).uniform(-1, 1, 1000), np.random.default_rng(1).integers(-148, 128, 1000))
    for number in numbers:
        assert rounded(Fraction(number), dtype) == dtype(number)
    assert rounded(1 + Fraction(2) ** -24 + Fraction(2) ** -80, np.float32) == np.nextafter(np.float32(1), np.float32(2))
    assert rounded(Fraction(1, 3), np.float64) == 1 / 3


@every_dtype
def test_a_fma_differs_from_a_product_and_a_sum(dtype):
    """(1 + e)^2 - (1 + 2e) leaves e^2, which a product that is rounded first has lost."""
    eps = np.finfo(dtype).eps
    dense = fastrnn.Dense(np.array([[1 + eps]], dtype), np.array([-(1 + 2 * eps)], dtype))
    assert_same_bits(dense(np.array([[1 + eps]], dtype)), np.array([[eps**2]], dtype))


@every_dtype
def test_products_of_every_size(dtype):
    """A product starts from the bias, and adds weight[k] * x[k] for k = 0, 1, 2, ..., each with one fma."""
    rng = np.random.default_rng(5)
    for size in (*range(1, 140), 200, 256, 257, 300, 513):
        weight, bias, x = (uniform(rng, shape, dtype, 1.0) for shape in ((2, size), 2, (1, size)))
        expected = [[chain(bias[o], weight[o], x[0]) for o in range(2)]]
        assert_same_bits(fastrnn.Dense(weight, bias)(x), np.array(expected, dtype))


@every_dtype
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("sizes", few({"every size": (*range(1, 140), 200, 256, 257, 300), "some sizes": SOME_SIZES}, "some sizes"))
def test_a_step_of_every_size(dtype, count, sizes):
    """A state's product starts from the projected input. Up to 512 bytes the second half is a sum of its own, added last."""
    rng = np.random.default_rng(6)
    for size in sizes:
        shapes = ((size, 3), (size, size), size, (count, 1, 3), (count, size))
        weight_ih, weight_hh, bias, x, h0 = (uniform(rng, shape, dtype, 1.0) for shape in shapes)
        _, h_n = fastrnn.RNN(weight_ih, weight_hh, bias, nonlinearity="identity")(x, h0)
        for n, unit in {(0, 0), (0, size - 1), (count - 1, size // 2)}:  # the first of a batch, and the last, which is left over
            projected = chain(bias[unit], weight_ih[unit], x[n, 0])
            assert_same_bits(h_n[n, unit], step(projected, weight_hh[unit], h0[n]))


@every_dtype
def test_steps_one_after_the_other(dtype):
    """So is every step of a sequence, the state being the output of the step before; relu keeps the positive sums as they are."""
    rng = np.random.default_rng(7)
    weight_ih, weight_hh, bias, x, state = (uniform(rng, shape, dtype, 0.5) for shape in ((21, 2), (21, 21), 21, (5, 2), 21))
    output, _ = fastrnn.RNN(weight_ih, weight_hh, bias, nonlinearity="relu")(x, state)
    for t in range(5):
        sums = [step(chain(bias[i], weight_ih[i], x[t]), weight_hh[i], state) for i in range(21)]
        state = np.maximum(np.array(sums), dtype(0))
        assert_same_bits(output[t], state)
    assert 0 < np.count_nonzero(state) < 21


def powers(exponents):
    """The library's own e^d, d <= 0: its product with 1 / (255 + e^d), which softmax gives beside 255 zeros, tells it.

    The inverse is just above a power of two, so different factors have different products, but for those just below one.
    """
    zeros, dtype = 255, exponents.dtype
    row = fastrnn.Dense(np.eye(zeros + 1, 1, -zeros, dtype=dtype), activation="softmax")(exponents[:, np.newaxis])
    inverse, product = row[:, 0], row[:, -1]
    found = product / inverse
    for other in (np.nextafter(found, dtype.type(0)), np.nextafter(found, dtype.type(2))):
        found = np.where(other * inverse == product, other, found)
    assert_same_bits(found * inverse, product)
    return found


def folded(values):
    """The sum of 32 interleaved partial sums: of those i + 16 is added to i, then i + 8, 4, 2 and 1."""
    sums = np.zeros(PARTIAL_SUMS, values.dtype)
    for first in range(0, len(values), PARTIAL_SUMS):
        block = values[first : first + PARTIAL_SUMS]
        sums[: len(block)] += block
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def logits(size, dtype):
    """Random numbers whose powers can be found: none is just below a power of two."""
    z = uniform(np.random.default_rng(size), size, dtype, 4.0)
    return np.where(np.frexp(np.exp(z - z.max()))[0] > 0.99, z.max(), z)


def activated(values, activation):
    """A Dense layer's activation of the values that it has as its bias."""
    return fastrnn.Dense(np.zeros((values.size, 1), values.dtype), values, activation=activation)(np.zeros((1, 1), values.dtype))[0]


@every_dtype
def test_powers_are_found(dtype):
    """What this file takes for the library's e^d is it: within 2 ulp, and where 1 + e^d is 1 the very softmax of 0 and d."""
    z = logits(999, dtype)
    exponents = np.concatenate([z - z.max(), np.linspace(-80, -40, 99).astype(dtype)])
    found, true = powers(exponents), np.exp(exponents.astype(np.longdouble))
    assert (np.abs(found - true) <= 2 * np.spacing(true.astype(dtype))).all()
    for exponent, power in zip(exponents[999:], found[999:], strict=True):
        assert_same_bits(activated(np.array([0, exponent], dtype), "softmax"), np.array([1, power], dtype))


@every_dtype
def test_softmax_of_every_size(dtype):
    """e^(z - max) times the inverse of their sum, which is folded from 32 partial sums."""
    for size in range(1, 200):
        z = logits(size, dtype)
        terms = powers(z - z.max())
        assert_same_bits(activated(z, "softmax"), terms * (dtype(1) / folded(terms)))


@every_dtype
def test_log_softmax_of_every_size(dtype):
    """z - max, and from that the logarithm of their powers' sum: one number, subtracted last."""
    for size in range(1, 200):
        z = logits(size, dtype)
        actual, shifted = activated(z, "log_softmax"), z - z.max()
        logarithm = -actual.max()
        assert_same_bits(actual, shifted - logarithm)
        exact = np.log(folded(powers(shifted)).astype(np.longdouble))
        assert abs(logarithm - exact) <= 2 * np.spacing(logarithm)
