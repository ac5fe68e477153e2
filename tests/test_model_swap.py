"""Streams and banks take another model of the same sizes, and go on from their states."""

import pickle

import numpy as np
import pytest

from .cases import DTYPES, Case, assert_same_bits, flat, nested
from .situations import CAUSAL, CAUSAL_READERS

every_case = pytest.mark.parametrize("case", [*CAUSAL, *CAUSAL_READERS], ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_case
@every_dtype
def test_a_stream(case, dtype):
    """A stream whose model is swapped gives the bits of a stream of the new model that begins at its state."""
    one, other = case.layer(dtype), case.layer(dtype, seed=5)
    x, states = case.data(dtype, (3,), 6)
    stream = one.stream(nested(one, states), state0=nested(one, states) if states else None)
    stream(x[:, :2])
    assert stream.model is one
    stream.swap(other)
    assert stream.model is other
    expected = other.stream(stream.state, state0=nested(other, states) if states else None)
    for t in (2, 3):
        assert_same_bits(stream.step(x[:, t]), expected.step(x[:, t]))
    assert_same_bits(stream(x[:, 4:], reset=[True, False, True]), expected(x[:, 4:], reset=[True, False, True]))
    assert_same_bits(pickle.loads(pickle.dumps(stream)).step(x[:, 0]), stream.step(x[:, 0]))


@every_case
@every_dtype
def test_a_bank(case, dtype):
    """A bank whose model is swapped keeps its rows, their states and state0."""
    one, other = case.layer(dtype), case.layer(dtype, seed=5)
    x, states = case.data(dtype, (4,), 3)
    first = nested(one, tuple(state[0] for state in states)) if states else None
    bank = one.streams(6, first)
    rows = [bank.add() for _ in range(4)]
    bank.step(x[:, 0], at=rows)
    bank.swap(other)
    assert bank.model is other
    assert bank.rows.tolist() == rows
    at = np.array(rows)
    state = nested(one, tuple(state[at] for state in flat(bank.state))) if states else None
    expected = other.stream(state, state0=nested(one, tuple(np.tile(s[0], (4, 1)) for s in states)) if states else None)
    for reset in (None, [True, False, False, True]):
        assert_same_bits(bank.step(x[:, 1], reset=reset), expected.step(x[:, 1], reset=reset))


def test_before_the_first_step():
    """A stream on which nothing is fixed yet begins with the model that it was given last."""
    case = Case("", (("GRU", "after"),), (3, 20))
    one, other, (x, _) = case.layer(np.float32), case.layer(np.float32, seed=5), case.data(np.float32, (), 4)
    stream = one.stream()
    stream.swap(other)
    assert_same_bits(stream(x), other(x)[0])


@pytest.mark.parametrize("kind", ["stream", "bank"])
def test_a_refused_model_changes_nothing(kind):
    """After a model that is refused the old one goes on."""
    case, wrong = Case("", (("LSTM", "plain"),), (3, 20)), Case("", (("LSTM", "plain"),), (3, 21))
    model, (x, _) = case.layer(np.float32), case.data(np.float32, (1,), 4)
    one = model.stream() if kind == "stream" else model.streams(1)
    if kind == "bank":
        one.add()
    outputs = [one.step(x[:, t]) for t in range(2)]
    with pytest.raises(ValueError, match="output_size"):
        one.swap(wrong.layer(np.float32))
    assert one.model is model
    outputs += [one.step(x[:, t]) for t in range(2, 4)]
    assert_same_bits(np.stack(outputs, axis=1), model(x)[0])


@every_dtype
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_reset_of_some(dtype, leading):
    """`reset` with a mask sets those sequences to state0, the others stay: what the next call's `reset=` does."""
    case = Case("", (("LSTM", "plain"), ("Dense", "softmax")), (3, 20, 4))
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 4)
    streams = [model.stream(state0=nested(model, states)) for _ in range(2)]
    mask = np.random.default_rng(1).random(leading) < 0.6
    for stream in streams:
        stream(x[..., :2, :])
    streams[0].reset(mask.tolist())
    assert_same_bits(streams[0](x[..., 2:, :]), streams[1](x[..., 2:, :], reset=mask))
