"""The promised bits come out whatever floating-point mode the caller's thread is in, and the mode is as it was afterwards."""

import contextlib
import ctypes
import functools

import numpy as np
import pytest

import fastrnn
from fastrnn import linking
from fastrnn.kernels.layout import HERE

from .cases import DTYPES, assert_same_bits
from .process import python

if HERE != ("linux", "x86_64"):
    pytest.skip("the mode is read and written by instructions of x86-64", allow_module_level=True)

FLUSHING = 0x9FC0  # subnormal results and operands are zeros, as libraries built with -ffast-math have it
ROUNDING_DOWN = 0x3F80
MODES = {"flushing": FLUSHING, "rounding down": ROUNDING_DOWN}
CONTROL = 0xFFC0  # the other bits record what has happened
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@functools.cache
def instruction(code):
    """A function that executes an instruction on a word in memory."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(linking.place_code(bytes.fromhex(code)))


def read():
    word = ctypes.c_uint32()
    instruction("0fae1fc3")(ctypes.addressof(word))  # stmxcsr [rdi]; ret
    return word.value & CONTROL


def write(mode):
    instruction("0fae17c3")(ctypes.addressof(ctypes.c_uint32(mode)))  # ldmxcsr [rdi]; ret


@contextlib.contextmanager
def in_mode(mode):
    before = read()
    write(mode)
    try:
        yield
        after = read()
    finally:
        write(before)
    assert after == mode & CONTROL


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
from fastrnn import plan
from tests.test_float_mode import FLUSHING, decaying, in_mode
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
print(fastrnn.threads.pool.started)
"""


def test_workers():
    """Worker threads that start while their caller flushes subnormals give the bits of one thread."""
    assert int(python(WORKERS)) == 3
