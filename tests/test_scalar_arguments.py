"""Scalar arguments of any dtype are used as Python's numbers, and arrays of as many axes as NumPy has."""

import math

import numpy as np
import pytest

import fastrnn
from fastrnn import Dense, Embedding, Sequential, generate, log_likelihood, reference

from .cases import assert_same_bits, assert_same_results, case_named
from .situations import TELLERS

TELLER = case_named("rnn-softmax", TELLERS)
MODEL, REFERENCE = TELLER.layer(np.float64), TELLER.reference(np.float64)
NUMBERS = Sequential(*MODEL.layers[1:])
LOW = {"weight": np.zeros((2, 2)), "bias": np.array([-1.7e308, 0.0]), "activation": "log_softmax"}


@pytest.mark.parametrize("feedback", ["sample", "argmax", "output"])
@pytest.mark.parametrize("steps", [np.uint8(255), np.int8(127), np.uint64(9), np.int16(0)])
def test_steps_of_any_dtype(feedback, steps):
    """The most that a dtype can say is no more special than any other number of steps."""
    start = np.full(9, 0.1) if feedback == "output" else 3
    actual, expected = (
        generate(NUMBERS if feedback == "output" else MODEL, start, n, feedback=feedback, rng=1) for n in (steps, int(steps))
    )
    assert_same_results(actual, expected)
    if feedback != "output":
        assert_same_bits(actual[0], reference.generate(REFERENCE, np.int64(start), steps, feedback=feedback, rng=1)[0])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temperature_of_any_dtype(kind, dtype):
    """A temperature is what it is as a Python float, and raises no flag whatever NumPy is told to do about flags."""
    model = TELLER.layer(dtype)
    for temperature in (kind(0.8), kind("inf"), np.finfo(kind).tiny, np.finfo(kind).max):
        with np.errstate(all="raise"):
            actual = generate(model, 3, 20, temperature=temperature, rng=1)[0]
        with np.errstate(all="ignore"):
            expected = generate(model, 3, 20, temperature=max(float(temperature), math.ulp(0)), rng=1)[0]
        assert_same_bits(actual, expected)


def test_temperature_beyond_any_float():
    """An integer without end is as hot as infinity."""
    assert_same_bits(generate(MODEL, 3, 20, temperature=10**400, rng=1)[0], generate(MODEL, 3, 20, temperature=math.inf, rng=1)[0])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint64])
def test_other_scalars_of_any_dtype(kind):
    """top_k, stop, the start, a seed, lengths and a stream's token."""
    given = {"top_k": 4, "stop": 2, "rng": 5}
    expected = generate(MODEL, 3, 20, **given)
    assert_same_results(generate(MODEL, kind(3), kind(20), **{name: kind(value) for name, value in given.items()}), expected)
    assert_same_bits(log_likelihood(MODEL, np.arange(5, dtype=kind), lengths=kind(3)), log_likelihood(MODEL, range(5), lengths=3))
    assert_same_bits(MODEL.stream().step(kind(3)), MODEL.stream().step(3))


def test_unsigned_lengths_of_the_reference():
    """A length of 0 in an unsigned dtype has no last step, however many steps there are."""
    x, h0, lengths = np.ones((2, 300, 2)), np.ones((2, 2)), np.array([0, 7], np.uint8)
    actual = [library.RNN(np.eye(2), np.eye(2))(x, h0, lengths=lengths, return_sequences=False) for library in (reference, fastrnn)]
    assert (actual[0][0][0] == 0).all()
    np.testing.assert_allclose(actual[0], actual[1], rtol=1e-12)


@pytest.mark.parametrize("tokens", [[0, 0, 0], [1, 0, 0, 1, 0], [[0, 0, 0], [0, 1, 1]], [[0, 0, 0, 0]] * 2])
def test_log_likelihood_beyond_any_float(tokens):
    """Terms near the lowest float64 add up to -inf, as in the reference."""
    model = Sequential(Embedding.one_hot(2), Dense(**LOW))
    plain = reference.Sequential(reference.Embedding.one_hot(2), reference.Dense(**LOW))
    with np.errstate(over="ignore"):
        expected = reference.log_likelihood(plain, np.array(tokens))
    assert np.isneginf(expected).any()
    assert_same_bits(np.asarray(log_likelihood(model, tokens)), np.asarray(expected))


def test_log_likelihood_of_nothing_known():
    """NaN among terms whose sum overflows before it stays NaN."""
    unknown = Dense(np.array([[1.0, np.nan], [0.0, 0.0]]))  # of what follows token 1
    model = Sequential(Embedding.one_hot(2), unknown, Dense(np.array([[-1.7e308, 0.0], [0.0, 0.0]]), activation="log_softmax"))
    assert np.isneginf(log_likelihood(model, [0, 0, 0, 1]))
    assert np.isnan(log_likelihood(model, [0, 0, 0, 1, 0]))


@pytest.mark.parametrize("lengths", [None, 0, 2])
def test_most_axes(lengths):
    """64 axes, the most that NumPy has, are as good as two where no axis is added: the last step's output without a recurrent layer."""
    model, x = Sequential(Dense(np.eye(2))), np.arange(6.0).reshape(*(1,) * 62, 3, 2)
    given = None if lengths is None else np.full((1,) * 62, lengths)
    output, _ = model(x, lengths=given, return_sequences=False)
    assert output.shape == (*(1,) * 62, 2)
    expected, _ = model(x.reshape(3, 2), lengths=lengths, return_sequences=False)
    assert_same_bits(output.reshape(2), expected)


def test_nearly_most_axes():
    """Tokens and starts with as many axes as can be are as good as flat ones."""
    many, few = (1,) * 61, generate(MODEL, 3, 5, rng=1)[0]
    assert_same_bits(generate(MODEL, np.full((*many, 1), 3), 5, rng=1)[0].reshape(5), few)
    assert_same_bits(MODEL(few.reshape(*many, 1, 5))[0].reshape(5, 9), MODEL(few)[0])
    assert_same_bits(log_likelihood(MODEL, few.reshape(*many, 1, 5)).reshape(()), np.asarray(log_likelihood(MODEL, few)))
    assert_same_bits(MODEL.stream().step(np.full((*many, 1), 3)).reshape(9), MODEL.stream().step(3))
