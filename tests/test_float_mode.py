"""The promised bits come out whatever floating-point mode the caller's thread is in, and the mode is as it was afterwards."""

import numpy as np
import pytest

import fastrnn

from .cases import DTYPES, assert_same_bits
from .process import python

try:
    from .float_modes import MODES, in_mode
except ImportError as reason:
    pytest.skip(str(reason), allow_module_level=True)

every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def decaying(dtype, hidden=20):
    """A layer whose states soon are subnormal, with rounded products; and its input."""
    rng, tiny = np.random.default_rng(0), np.finfo(dtype).tiny
    weights = [rng.uniform(-0.3, 0.3, shape).astype(dtype) for shape in ((hidden, 3), (hidden, hidden))]
    return fastrnn.RNN(*weights, nonlinearity="identity"), (rng.standard_normal((4, 60, 3)) * tiny).astype(dtype)


def in_stream(model, x):
    stream = model.stream()
    return np.concatenate([np.array([stream.step(x[0, t].copy()) for t in range(30)]), stream(x[0, 30:])])


def in_bank(model, x):
    bank = model.streams(4)
    rows = [bank.add() for _ in range(4)]
    return np.array([bank.step(x[:, t].copy(), at=rows) for t in range(60)])


def in_function(model, x):
    eye = np.eye(len(model.weight_hh), dtype=model.dtype)
    return fastrnn.rnn_forward(x, model.weight_ih, model.weight_hh, eye, np.zeros(len(eye), model.dtype), nonlinearity="identity")


def in_jit(model, x):
    from .compiled import forward, rnn_forward, step  # compile once

    net, hidden = model.jit(), len(model.weight_hh)
    h, out = np.zeros(hidden, model.dtype), np.empty((60, hidden), model.dtype)
    whole = forward(net, x[0], np.zeros(hidden, model.dtype), np.empty_like(out))
    for t in range(60):
        step(net, x[0, t], h, out[t])
    eye = np.eye(hidden, dtype=model.dtype)
    return np.concatenate([whole, out, rnn_forward(x[0], model.weight_ih, model.weight_hh, eye, np.zeros(hidden, model.dtype))])


CALLS = {
    "a call": lambda model, x: model(x)[0],
    "a short call": lambda model, x: model(x[0, :5])[0],
    "a long call": lambda model, x: model(x, lengths=[60, 3, 40, 59])[0],
    "a stream": in_stream,
    "a bank": in_bank,
    "rnn_forward": in_function,
    "a head": lambda model, x: fastrnn.Dense(model.weight_ih)(x),
    "compiled functions": in_jit,
}


@every_mode
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_modes(call, dtype, mode):
    """A caller that flushes subnormals, or rounds otherwise, gets the bits of one that doesn't, and keeps its mode."""
    model, x = decaying(dtype)
    expected = call(model, x)
    assert (np.abs(expected[expected != 0]) < np.finfo(dtype).tiny).any() or call is CALLS["rnn_forward"]
    with in_mode(mode):
        actual = call(model, x)
    assert_same_bits(actual, expected)


WORKERS = """
import numpy as np
import fastrnn
from fastrnn.engine import plan
from tests.float_modes import FLUSHING, in_mode
from tests.test_float_mode import decaying
fastrnn.set_num_threads(1)
for dtype in (np.float32, np.float64):
    for hidden in (20, 300):
        model, x = decaying(dtype, hidden)
        x = np.tile(x, (50, 1, 1)) if hidden == 20 else x[0]
        expected = model(x)[0]
        plan.WORTH_HELP = 1
        with in_mode(FLUSHING):
            fastrnn.set_num_threads(4)
            for _ in range(20):
                assert model(x)[0].tobytes() == expected.tobytes(), (dtype, hidden)
        fastrnn.set_num_threads(1)
print(fastrnn.engine.threads.pool.started)
"""


def test_workers():
    """Worker threads that start while their caller flushes subnormals give the bits of one thread."""
    assert int(python(WORKERS)) == 3
