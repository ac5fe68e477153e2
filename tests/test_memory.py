"""Memory beyond input, weights and output grows neither with the steps nor with the batch."""

import pathlib

import pytest

from fastrnn.native import processor

from .exhaustive import few
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

def few(x):
    # enough to compile: memory that a large call has left behind would hide what the next one needs
    return x[(slice(3),) * (x.ndim - 1)]

def measure(dtype, x, **options):
    network, out = model(dtype), touched((*x.shape[:-1], O), dtype)
    network(few(x))
    print(rise(lambda: network(x, out=out, **options)))
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
TOKENS = """
I = O = 12
plain, tokens = model(np.float32), np.full(1_000_000, 3, np.int64)
network = fastrnn.Sequential(fastrnn.Embedding.one_hot(I), *plain.layers)
looked_up = fastrnn.Sequential(fastrnn.Embedding(touched((I, I), np.float32)), *plain.layers)
small = tokens.astype(np.uint8)
def bidirectional(merge, inputs=I):
    rnn = fastrnn.RNN(touched((4, inputs), np.float32), touched((4, 4), np.float32))
    return fastrnn.Bidirectional(rnn, rnn, merge=merge)
def rise_after_compiling(call):
    call(2)
    print(rise(lambda: call(1_000_000)))
"""
SEQUENCES = {
    "tokens": "out = touched((1_000_000, O), np.float32); rise_after_compiling(lambda T: network(tokens[:T], out=out[:T]))",
    "tokens of another dtype": "out = touched((1_000_000, O), np.float32); rise_after_compiling(lambda T: network(small[:T], out=out[:T]))",
    "tokens, strided": """
out, spread = touched((3, 300_000, O), np.float32), np.full((300_000, 6), 3).T[::2]
rise_after_compiling(lambda T: network(spread[:, : min(T, 300_000)], out=out if T > 2 else None))""",
    "tokens of a table": "out = touched((1_000_000, O), np.float32); rise_after_compiling(lambda T: looked_up(tokens[:T], out=out[:T]))",
    "a table alone": """
embedding, out = looked_up.layers[0], touched((1_000_000, I), np.float32)
rise_after_compiling(lambda T: embedding(small[:T], out=out[:T]))""",
    "last of tokens of a table": "rise_after_compiling(lambda T: looked_up(tokens[:T], return_sequences=False))",
    "last of tokens": "rise_after_compiling(lambda T: network(tokens[:T], return_sequences=False))",
    "last": "x = touched((1_000_000, I), np.float32); rise_after_compiling(lambda T: plain(x[:T], return_sequences=False))",
    "last, converted": "x = touched((1_000_000, I), np.float64); rise_after_compiling(lambda T: plain(x[:T], return_sequences=False))",
    "last of each": """
x = touched((4, 250_000, I), np.float64)
rise_after_compiling(lambda T: plain(x[:, :T], lengths=np.minimum([250_000, 0, 3, 70_000], T), return_sequences=False))""",
    "last of a recurrent layer": """
rnn = fastrnn.Sequential(*network.layers[:2])
rise_after_compiling(lambda T: rnn(tokens[:T], return_sequences=False))""",
    "lengths": """
x, out = touched((4, 250_000, I), np.float64), touched((4, 250_000, O), np.float32)
rise_after_compiling(lambda T: plain(x, lengths=np.minimum([250_000, 0, 3, 70_000], T), out=out))""",
    "log-likelihood": "rise_after_compiling(lambda T: fastrnn.log_likelihood(network, tokens[:T]))",
    "log-likelihood, per step": "rise_after_compiling(lambda T: fastrnn.log_likelihood(network, tokens[:T], per_step=True))",
    "log-likelihood of another dtype": "rise_after_compiling(lambda T: fastrnn.log_likelihood(network, small[:T]))",
    "log-likelihood of each": """
batch = np.full((4, 250_000), 3)
rise_after_compiling(lambda T: fastrnn.log_likelihood(network, batch[:, :T], lengths=np.minimum([250_000, 0, 3, 70_000], T)))""",
    "both directions": """
x, out, both = touched((1_000_000, I), np.float32), touched((1_000_000, 8), np.float32), bidirectional("concat")
rise_after_compiling(lambda T: both(x[:T], out=out[:T]))""",
    "both directions, converted and summed": """
x, out, both = touched((1_000_000, I), np.float64), touched((1_000_000, 4), np.float32), bidirectional("sum")
rise_after_compiling(lambda T: both(x[:T], out=out[:T]))""",
    "both directions of each": """
x, out, both = touched((4, 250_000, I), np.float64), touched((4, 250_000, 4), np.float32), bidirectional("mean")
rise_after_compiling(lambda T: both(x, lengths=np.minimum([250_000, 0, 3, 70_000], T), out=out))""",
    "the ends of both directions": """
x, both = touched((1_000_000, I), np.float64), bidirectional("concat")
rise_after_compiling(lambda T: both(x[:T], return_sequences=False))""",
    "a stack of both directions, many sequences": """
x, out = touched((20_000, 100, I), np.float16), touched((20_000, 100, 4), np.float32)
stack = fastrnn.Sequential(bidirectional("concat"), bidirectional("sum", 8))
rise_after_compiling(lambda T: stack(x[:T], out=out[:T]))""",
    "streamed": """
out, stream = touched((1_000_000, O), np.float32), network.stream()
rise_after_compiling(lambda T: stream(tokens[:T], out=out[:T]))""",
    "generated": "rise_after_compiling(lambda T: fastrnn.generate(network, 1, T, feedback='argmax'))",
}
BATCHES = {
    "batch float32": "measure(np.float32, touched((100_000, 10, I), np.float32))",
    "batch, converted": "measure(np.float32, touched((100_000, 10, I), np.float64))",
    "batch, lengths": "measure(np.float32, touched((100_000, 10, I), np.float64), lengths=np.arange(100_000) % 11)",
    "batch, time first": "measure(np.float64, touched((10, 100_000, I), np.float64).swapaxes(0, 1))",
    "batch, 4-D, strided": "measure(np.float32, touched((1000, 10, 100, 2 * I), np.float64)[..., ::2].swapaxes(1, 2))",
}
FUNCTIONAL = """
def functional(dtype, x, **states):
    weights = [touched(shape, dtype) / 100 for shape in ((H, I), (H, H), (O, H), (H,))]
    out = touched((*x.shape[:-1], O), dtype)
    fastrnn.rnn_forward(few(x), *weights)
    print(rise(lambda: fastrnn.rnn_forward(x, *weights, out=out, **states)))
"""
FUNCTIONALS = {
    "rnn_forward": "functional(np.float64, touched((100_000, 10, I), np.float64))",
    "rnn_forward, h0": "functional(np.float64, touched((100_000, 10, I), np.float64), h0=touched((100_000, H), np.float32))",
    "rnn_forward, wide": "I = 100_000; functional(np.float32, touched((40, 20, I), np.float64))",
}
LIMIT = 32  # MB
LAST_STATE = {"float32": 100_000 * 64 * 4 / 2**20, "float64": 100_000 * 64 * 8 / 2**20}  # an output too, and returned


@pytest.mark.parametrize("call", few(CALLS, "long, converted", "4-D, strided"))
def test_long_sequences(call):
    """A million steps need less than 32 MB more, whatever has to be converted."""
    assert float(python(PEAK + call)) < LIMIT


@pytest.mark.parametrize(
    "call", few(SEQUENCES, "tokens of a table", "lengths", "log-likelihood of each", "both directions of each", "generated")
)
def test_long_sequences_of_tokens(call):
    """So do a million tokens, the last step alone, sequences of different lengths, log-likelihoods and what is generated."""
    assert float(python(PEAK + TOKENS + call)) < LIMIT


@pytest.mark.parametrize("call", few(BATCHES, "batch, lengths"))
def test_large_batches(call):
    """So do 100,000 sequences, beside their last states."""
    states = LAST_STATE["float64" if "measure(np.float64" in call else "float32"]
    assert float(python(PEAK + call)) < LIMIT + states


@pytest.mark.parametrize("call", few(FUNCTIONALS, "rnn_forward, h0"))
def test_states_that_are_not_returned(call):
    """rnn_forward returns no states, and keeps none for the whole batch."""
    assert float(python(PEAK + FUNCTIONAL + call)) < LIMIT


def test_a_bank_of_many_rows():
    """Of a bank of a million rows, of 256 MB, only those that are handed out take memory: a step moves no others."""
    call = """
plain, banks, x = model(np.float32), [], touched((20_003, I), np.float32)
plain.streams(9).step(x[:0], at=[])
def use(count):
    at = [banks[0].add() for _ in range(count)]
    banks[0].step(x[:count], at=at, reset=np.ones(count, bool))
    banks[0].step(x[: len(banks[0].rows)])
print(rise(lambda: banks.append(plain.streams(1_000_000))), rise(lambda: use(3)), rise(lambda: use(20_000)))
"""
    made, few, many = map(float, python(PEAK + call).split())
    assert made < 4
    assert few < 4
    assert many < LIMIT


def test_a_table_is_copied_once():
    """A table of 128 MB is copied when its layer is made, and never again: it is neither packed nor multiplied with the next weights."""
    call = """
table, rest = touched((2_000_000, 16), np.float32), [fastrnn.RNN(touched((H, 16), np.float32), touched((H, H), np.float32) / 100)]
fastrnn.Sequential(fastrnn.Embedding(table[:3]), *rest).predict([0, 1])
layers = []
print(rise(lambda: layers.append(fastrnn.Embedding(table))), rise(lambda: fastrnn.Sequential(*layers, *rest).predict([1_999_999, 3])))
"""
    made, called = map(float, python(PEAK + call).split())
    assert 122 - LIMIT < made < 122 + LIMIT
    assert called < LIMIT


@pytest.mark.skipif(not processor.SAYS_ITSELF, reason="elsewhere LLVM puts code into memory, and needs more")
def test_a_process_is_small():
    """What a process needs for its first result, beside NumPy and its weights, stays within the limit."""
    call = "print(rise(lambda: exec('import fastrnn; fastrnn.RNN([[1.0]], [[1.0]])([[1.0]])')))"
    python("import fastrnn; fastrnn.RNN([[1.0]], [[1.0]])([[1.0]])")  # compiles
    assert float(python(PEAK.replace("import fastrnn\n", "") + call)) < LIMIT


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
