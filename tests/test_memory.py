"""Memory beyond input, weights and output grows neither with the steps nor with the batch."""

import pathlib

import pytest

from .process import python

CLEAR_REFS = pathlib.Path("/proc/self/clear_refs")
pytestmark = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the peak is read, and set back, through Linux's /proc")

PEAK = """
import pathlib, sys
import numpy as np
import fastrnn

def resident(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024

def rise(function):
    # MB that a call needs at its peak over what was there before
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    function()
    return resident("VmHWM") - before

def touched(shape, dtype):
    return np.full(shape, 0.5, dtype)

I, H, O = 12, 64, 2
def model(dtype):
    weights = [touched(shape, dtype) / 100 for shape in ((H, I), (H, H), (O, H))]
    return fastrnn.Sequential(fastrnn.RNN(*weights[:2]), fastrnn.Dense(weights[2], activation="softmax"))

def measure(dtype, x):
    network, out = model(dtype), touched((*x.shape[:-1], O), dtype)
    network(x[..., :2, :])  # compiles
    print(rise(lambda: network(x, out=out)))
"""

CALLS = {
    "long float32": "measure(np.float32, touched((1_000_000, I), np.float32))",
    "long float64": "measure(np.float64, touched((1_000_000, I), np.float64))",
    "long, converted": "measure(np.float32, touched((1_000_000, I), np.float64))",
    "long, strided": "measure(np.float32, touched((1_000_000, 2 * I), np.float32)[:, ::2])",
    "long, Fortran": "measure(np.float32, touched((I, 1_000_000), np.float32).T)",
    "long, read-only": "x = touched((1_000_000, I), np.float32); x.flags.writeable = False; measure(np.float32, x)",
    "long, widened": "measure(np.float64, touched((1_000_000, I), np.float32))",
    "long, boolean": "measure(np.float64, np.ones((1_000_000, I), bool))",
    "few long": "measure(np.float32, touched((3, 300_000, I), np.float64))",
    "4-D, strided": "measure(np.float32, touched((50, 2, 1000, 50, I), np.float32)[:, 0, ::2].swapaxes(0, 1))",
    "4-D, converted": "measure(np.float32, touched((50, 40, 1000, I), np.float64).swapaxes(0, 1))",
}
BATCHES = {
    "batch float32": "measure(np.float32, touched((100_000, 10, I), np.float32))",
    "batch, converted": "measure(np.float32, touched((100_000, 10, I), np.float64))",
    "batch, time first": "measure(np.float64, touched((10, 100_000, I), np.float64).swapaxes(0, 1))",
    "batch, 4-D, strided": "measure(np.float32, touched((1000, 10, 100, 2 * I), np.float64)[..., ::2].swapaxes(1, 2))",
}
FUNCTIONAL = """
def functional(dtype, x, **states):
    weights = [touched(shape, dtype) / 100 for shape in ((H, I), (H, H), (O, H), (H,))]
    out = touched((*x.shape[:-1], O), dtype)
    fastrnn.rnn_forward(x[..., :2, :], *weights)
    print(rise(lambda: fastrnn.rnn_forward(x, *weights, out=out, **states)))
"""
FUNCTIONALS = {
    "rnn_forward": "functional(np.float64, touched((100_000, 10, I), np.float64))",
    "rnn_forward, h0": "functional(np.float64, touched((100_000, 10, I), np.float64), h0=touched((100_000, H), np.float32))",
    "rnn_forward, wide": "I = 100_000; functional(np.float32, touched((40, 20, I), np.float64))",
}
LIMIT = 32  # MB
LAST_STATE = {"float32": 100_000 * 64 * 4 / 2**20, "float64": 100_000 * 64 * 8 / 2**20}  # an output too, and returned


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_long_sequences(call):
    """A million steps need less than 32 MB more, whatever has to be converted."""
    assert float(python(PEAK + call)) < LIMIT


@pytest.mark.parametrize("call", BATCHES.values(), ids=BATCHES)
def test_large_batches(call):
    """So do 100,000 sequences, beside their last states."""
    states = LAST_STATE["float64" if "measure(np.float64" in call else "float32"]
    assert float(python(PEAK + call)) < LIMIT + states


@pytest.mark.parametrize("call", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_states_that_are_not_returned(call):
    """rnn_forward returns no states, and keeps none for the whole batch."""
    assert float(python(PEAK + FUNCTIONAL + call)) < LIMIT


def test_the_measurement_sees_a_copy():
    """A call that copies its 64 MB of input is seen to."""
    assert float(python(PEAK + "x = touched(8_000_000, np.float64); print(rise(lambda: x + 1))")) > 50


def test_wide_input():
    """A wide layer and float64 input of 16,000 features stay within the limit: a row is longer than the usual chunk."""
    call = """
weight = touched((1, 16_000), np.float32)
network, x = fastrnn.Dense(weight), touched((2, 500, 16_000), np.float64)
network(x[:, :1])
print(rise(lambda: network(x)))
"""
    assert float(python(PEAK + call)) < LIMIT
