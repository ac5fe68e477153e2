"""The one list of activations: bits of those that are made of sums, products and quotients, and what becomes of parameters."""

import gc
import pickle
import weakref

import numpy as np
import pytest

import fastrnn
from fastrnn import RNN, Dense, Embedding, Sequential, reference, rnn_forward
from fastrnn.arguments import ACTIVATIONS

from .cases import DTYPES, assert_close, assert_same_bits, uniform

every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Activations whose every operation is one of NumPy's, and what they are
EXACT = {
    "identity": lambda x: x,
    "hard_sigmoid": lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6,  # as PyTorch rounds relu6(x + 3) / 6
    "softsign": lambda x: x / (1 + np.abs(x)),
    ("leaky_relu", 0.01): lambda x: np.where(x < 0, x.dtype.type(0.01) * x, x),
    ("leaky_relu", -0.0): lambda x: np.where(x < 0, x.dtype.type(-0.0) * x, x),
    ("hard_sigmoid", 0.2, 0.5): lambda x: np.maximum(0, np.minimum(1, x.dtype.type(0.2) * x + x.dtype.type(0.5))),
    ("hard_sigmoid", -1.1, 1e-3): lambda x: np.maximum(0, np.minimum(1, x.dtype.type(-1.1) * x + x.dtype.type(1e-3))),
}


def applied(x, activation):
    """A Dense layer's activation of every number: one times x, and minus zero for a bias, which keeps the sign of a zero."""
    one, nothing = np.ones((1, 1), x.dtype), np.array([-0.0], x.dtype)
    return Dense(one, nothing, activation=activation)(x[:, np.newaxis])[:, 0]


def numbers(dtype):
    """Of every binade and sign, densely around 0 and where a line is clipped; zeros, infinities and NaN."""
    info, rng = np.finfo(dtype), np.random.default_rng(3)
    binades = np.ldexp(
        rng.uniform(1, 2, (info.maxexp - info.minexp + info.nmant, 8)), np.arange(info.minexp - info.nmant, info.maxexp)[:, None]
    )
    edges = np.array([-3, 3, -2.5, 2.5, 1e-3 / 1.1])[:, None] + np.arange(-40, 41) * float(info.eps)
    x = np.concatenate([binades.ravel(), rng.uniform(-6, 6, 20_000), edges.ravel(), [0.0, np.inf, np.nan, info.max]]).astype(dtype)
    return np.concatenate([x, -x])


@every_dtype
@pytest.mark.parametrize("activation", EXACT, ids=str)
def test_bits(dtype, activation):
    """Functions without a power are NumPy's to the bit, everywhere; the sign of a zero, too."""
    x = numbers(dtype)
    with np.errstate(all="ignore"):
        expected = EXACT[activation](x)
    actual = applied(x, activation)
    assert_same_bits(actual, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[known]), np.signbit(expected[known]))


@every_dtype
@pytest.mark.parametrize("form", ACTIVATIONS, ids=str)
def test_special_values(dtype, form):
    """Zeros, infinities, NaN and the ends of the range give what the reference gives in the same dtype; RNN and Dense alike."""
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, info.max, -info.max, info.smallest_subnormal, -info.tiny], dtype)
    activation = form[0] if len(form) == 1 else (form[0], *[0.75, 0.25][: len(form) - 1])
    with np.errstate(all="ignore"):
        expected = reference.apply(activation, x)
    actual, one = applied(x, activation), np.ones((1, 1), dtype)
    np.testing.assert_array_equal(actual, expected, strict=True)
    if activation != "relu":  # the sign of whose zero NumPy leaves open
        np.testing.assert_array_equal(np.signbit(actual[x == 0]), np.signbit(expected[x == 0]))
    rnn = RNN(one, 0 * one, np.array([-0.0], dtype), nonlinearity=activation)
    for number, value in zip(x, expected, strict=True):  # a zero's sign may change: the state's product, 0, is added to it
        np.testing.assert_array_equal(rnn(number.reshape(1, 1))[0], value.reshape(1, 1), strict=True)


def test_parameters_of_layers_do_not_mix():
    """Each layer of a chain, recurrent or not, multiplies by its own slope."""
    one, slopes = np.ones((1, 1)), [0.5, 3.0, 0.25, 7.0]
    dense = [Dense(one, activation=("leaky_relu", slope)) for slope in slopes]
    rnns = [RNN(one, 0 * one, nonlinearity=("leaky_relu", slope)) for slope in slopes]
    for depth, expected in enumerate([-32.0, -96.0, -24.0, -168.0], 1):
        for chain in (dense[:depth], rnns[:depth]):
            np.testing.assert_array_equal(Sequential(*chain)([[-64.0]])[0], [[expected]])
    np.testing.assert_array_equal(Sequential(*rnns, *dense)([[-1.0]])[0], [[-2.625 * 2.625]])
    np.testing.assert_array_equal(dense[3]([[-64.0]]), [[-448.0]])


def weights_of(dtype, hidden=37):
    rng = np.random.default_rng(hidden)
    shapes = (hidden, 5), (hidden, hidden), (9, hidden), (hidden,)
    return uniform(rng, (4, 11, 5), dtype, 1.0), [uniform(rng, shape, dtype, hidden**-0.5) for shape in shapes]


def churn(dtype):
    """Make and drop networks with other parameters, so that freed memory is used anew."""
    for i in range(300):
        Dense(np.ones((3, 2), dtype), activation=("hard_sigmoid", i, -i))(np.ones((1, 2), dtype))
    gc.collect()
    return [np.full(size, np.nan) for size in range(1, 300)]


@every_dtype
def test_parameters_live_as_long_as_their_layer(dtype):
    """A model keeps its parameters after others came and went: whole, cut at its last recurrent layer, and as a stream."""
    x, (U, W, V, b) = weights_of(dtype)
    activations = {"nonlinearity": ("elu", 0.7)}, {"activation": ("hard_sigmoid", 0.6, 0.3)}
    model = Sequential(RNN(U, W, b, **activations[0]), Dense(V, **activations[1]))
    expected, _ = reference.Sequential(
        reference.RNN(*(array.astype(float) for array in (U, W, b)), **activations[0]), reference.Dense(V.astype(float), **activations[1])
    )(x.astype(float))
    stream = model.stream()
    first, last = model(x)[0], model(x, return_sequences=False)[0]
    stream(x)
    assert_close(first, expected, dtype)
    kept = churn(dtype)
    for _ in range(2):
        assert_same_bits(model(x)[0], first)
        assert_same_bits(model(x, return_sequences=False)[0], last)
        stream.reset()
        assert_same_bits(stream(x), first)
    del kept


@every_dtype
def test_parameters_of_rnn_forward(dtype):
    """rnn_forward keeps calls of a kind ready, with their parameters; what equals a parameter and is none is refused."""
    x, (U, W, V, b) = weights_of(dtype)
    functions = [("elu", 0.7), ("elu", 1.2), ("leaky_relu", 0.3), "softsign", ("hard_sigmoid", 0.6, 0.3), ("hard_sigmoid", 0.3, 0.6)]

    def call(function):
        return rnn_forward(x, U, W, V, b, nonlinearity=function)

    first = [call(function) for function in functions]
    kept = churn(dtype)
    for function, result in zip(functions, first, strict=True):
        assert_same_bits(call(function), result)
        assert_same_bits(call(function), Dense(V, activation="softmax")(RNN(U, W, b, nonlinearity=function)(x)[0]))
    del kept
    call(("leaky_relu", 1.0))
    with pytest.raises(TypeError, match="finite real numbers, got"):
        call(("leaky_relu", True))


@every_dtype
def test_parameters_of_a_head_that_is_left_out(dtype):
    """Likelihood and sampling take the last layer's softmax away, and leave the parameters of those before it."""
    rng = np.random.default_rng(5)
    layers = (
        RNN(*(uniform(rng, shape, dtype, 0.3) for shape in ((12, 6), (12, 12))), nonlinearity=("elu", 0.4)),
        uniform(rng, (6, 12), dtype, 1.0),
    )
    first = Embedding.one_hot(6), layers[0]
    model, plain = Sequential(*first, Dense(layers[1], activation="softmax")), Sequential(*first, Dense(layers[1]))
    tokens = rng.integers(0, 6, (3, 8))
    log_p = fastrnn.log_likelihood(model, tokens)
    churn(dtype)
    assert_same_bits(fastrnn.log_likelihood(model, tokens), log_p)
    logits = plain(tokens[:, :-1])[0].astype(float)
    expected = np.take_along_axis(reference.log_softmax(logits), tokens[:, 1:, None], axis=-1).sum(axis=(1, 2))
    np.testing.assert_allclose(log_p, expected, rtol=1e-5)


def test_copies_keep_parameters():
    """Pickles keep an activation's parameters, and nothing keeps a dropped layer's."""
    layer = Dense(np.ones((3, 2)), activation=("elu", 0.1 + 0.2))
    layer([[1.0, 2.0]])
    assert pickle.loads(pickle.dumps(layer)).activation == ("elu", 0.1 + 0.2)
    parameters = weakref.ref(layer._network.parameters)
    del layer
    gc.collect()
    assert parameters() is None
