"""Times single steps, tokens, generation and lengths, each beside the same in NumPy."""

import functools

import numpy as np
import pytest

import fastrnn
from bench.cases import DTYPES, GENERATED, LONG_TAILS, STREAM, TOKENS, compare_and_time, draw_lengths, draw_tokens, problem
from fastrnn import reference

SURE = 100  # generated tokens that are compared; a later draw may be so near an edge that rounding decides


def make_layers(p, library=fastrnn):
    rnn = library.RNN(p.U, p.W, p.b)
    return [rnn] if p.V is None else [rnn, library.Dense(p.V, activation="softmax")]


def make_reader(p, library=fastrnn):
    """The model of tokens."""
    return library.Sequential(library.Embedding.one_hot(p.U.shape[1]), *make_layers(p, library))


def head(p, state_t):
    return state_t if p.V is None else reference.softmax(p.V @ state_t)


def one_hot_loop(p, tokens):
    state_t, outputs = p.h0, []
    for x_t in tokens:
        state_t = np.tanh(p.U @ x_t + p.W @ state_t + p.b)
        outputs.append(head(p, state_t))
    return np.stack(outputs)


def token_loop(p, tokens):
    state_t, outputs = p.h0, []
    for token in tokens:
        state_t = np.tanh(p.U[:, token] + p.W @ state_t + p.b)
        outputs.append(head(p, state_t))
    return np.stack(outputs)


def argmax_loop(p, steps):
    state_t, token, tokens = p.h0, 0, []
    for _ in range(steps):
        state_t = np.tanh(p.U[:, token] + p.W @ state_t + p.b)
        token = (p.V @ state_t).argmax()
        tokens.append(token)
    return np.array(tokens)


def sample_loop(p, steps):
    (rng,) = np.random.default_rng(0).spawn(1)
    state_t, token, tokens = p.h0, 0, []
    for _ in range(steps):
        state_t = np.tanh(p.U[:, token] + p.W @ state_t + p.b)
        ends = reference.softmax(p.V @ state_t).cumsum()
        token = ends.searchsorted(rng.random() * ends[-1], side="right")
        tokens.append(token)
    return np.array(tokens)


@pytest.mark.parametrize("way", ["NumPy step", "rnn(x, h)", "stream.step(x_t)", "stream.step(x_t, out=out)"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stream(benchmark, dtype, way):
    """One step, as a Python call. A stream keeps the state; in the other ways the state goes in and comes out."""
    p = problem(STREAM, dtype)
    x_t, x, out = p.x[0], p.x[:1], np.empty_like(p.h0)
    rnn = fastrnn.RNN(p.U, p.W, p.b)
    stream = rnn.stream(p.h0)
    calls = {
        "NumPy step": lambda: np.tanh(p.U @ x_t + p.W @ p.h0 + p.b),
        "rnn(x, h)": lambda: rnn(x, p.h0)[1],
        "stream.step(x_t)": lambda: stream.step(x_t),
        "stream.step(x_t, out=out)": lambda: stream.step(x_t, out=out),
    }
    compare_and_time(benchmark, f"one step of {STREAM}, {dtype}", way, calls[way], p.expected[0])


@pytest.mark.parametrize("way", ["NumPy loop, one-hot", "NumPy loop, tokens", "model(one_hot)", "model(tokens)"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", TOKENS, ids=lambda shape: shape.name)
def test_tokens(benchmark, shape, dtype, way):
    """The one-hot vectors are made before the timer starts."""
    p, tokens = problem(shape, dtype), draw_tokens(shape)
    one_hot = reference.one_hot(tokens, shape.inputs).astype(dtype)
    model, reader = fastrnn.Sequential(*make_layers(p)), make_reader(p)
    calls = {
        "NumPy loop, one-hot": lambda: one_hot_loop(p, one_hot),
        "NumPy loop, tokens": lambda: token_loop(p, tokens),
        "model(one_hot)": lambda: model(one_hot, p.h0)[0],
        "model(tokens)": lambda: reader(tokens, p.h0)[0],
    }
    expected, _ = make_reader(p.exact(), reference)(tokens, p.exact().h0)
    compare_and_time(benchmark, f"tokens, {shape}, {dtype}", way, calls[way], expected)


@pytest.mark.parametrize("feedback", ["argmax", "sample"])
@pytest.mark.parametrize("way", ["NumPy loop", "generate"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", GENERATED, ids=lambda shape: shape.name)
def test_generate(benchmark, shape, dtype, way, feedback):
    """Each way generates one token for each of the shape's steps, starting after token 0."""
    p = problem(shape, dtype)
    model, loop = make_reader(p), {"argmax": argmax_loop, "sample": sample_loop}[feedback]
    calls = {
        "NumPy loop": lambda: loop(p, shape.steps),
        "generate": lambda: fastrnn.generate(model, 0, shape.steps, p.h0, feedback=feedback, rng=0)[0],
    }
    expected, _ = reference.generate(make_reader(p.exact(), reference), 0, SURE, p.exact().h0, feedback=feedback, rng=0)
    compare_and_time(benchmark, f"generate by {feedback}, {shape}, {dtype}", way, calls[way], expected)


@pytest.mark.parametrize("way", ["padded", "lengths"])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LONG_TAILS, ids=lambda shape: shape.name)
def test_lengths(benchmark, shape, dtype, return_sequences, way):
    """A padded batch runs without and with lengths. The group's name gives padded / valid steps, the most that lengths can save."""
    p, lengths = problem(shape, dtype), draw_lengths(shape)
    model, given = fastrnn.RNN(p.U, p.W, p.b), lengths if way == "lengths" else None
    valid = np.arange(shape.steps) < lengths[:, None]
    expected = p.expected if given is None else np.where(valid[..., None], p.expected, 0)
    if not return_sequences:
        expected = expected[:, -1] if given is None else expected[np.arange(shape.batch), lengths - 1]
    group = f"{shape}, padded to valid steps {1 / valid.mean():.2f}, return_sequences={return_sequences}, {dtype}"
    call = functools.partial(model, p.x, p.h0, lengths=given, return_sequences=return_sequences)
    compare_and_time(benchmark, group, way, lambda: call()[0], expected)
