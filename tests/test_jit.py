"""Models in functions that Numba compiles: the bits of their calls, whatever calls them, and errors instead of crashes."""

import gc
import pickle
import threading

import numba
import numpy as np
import pytest

import fastrnn.jit

from .cases import CASES, READERS, assert_same_bits, flat, nested, uniform
from .exhaustive import few_cases
from .process import python

pytestmark = pytest.mark.usefixtures("no_collector")

# every form of a state takes seconds to compile: of models of tokens there are some
TOKENS = ("one-hot-rnn-tanh", "one-hot-lstm", "one-hot-rnn-rnn-log-softmax", "table-rnn", "looked-up-table-lstm")
CAUSAL = [case for case in CASES if case.causal and case.name != "dense-softmax"] + [case for case in READERS if case.name in TOKENS]
DEFAULT = ("gru-projected-rnn", "looked-up-table-lstm")
every_case = pytest.mark.parametrize("case", few_cases(CAUSAL, *DEFAULT), ids=lambda case: case.name)
SOME = [case for case in CAUSAL if case.name in ("rnn-tanh", "gru-projected-rnn", "one-hot-rnn-rnn-log-softmax")]


@numba.njit
def step(net, x_t, state, out):
    return fastrnn.jit.step(net, x_t, state, out)


@numba.njit
def forward(net, x, state, out):
    return fastrnn.jit.forward(net, x, state, out)


@numba.njit
def by_steps(net, x, state, out):
    for t in range(len(x)):
        fastrnn.jit.step(net, x[t], state, out[t])


@numba.njit
def twice(net, x, state, out):
    fastrnn.jit.forward(net, x[:5], state, out[:5])
    fastrnn.jit.forward(net, x[5:], state, out[5:])


def copies(model, states):
    """A state of one's own, as the model takes it; () for a model without one."""
    own = tuple(state.copy() for state in states)
    return nested(model, own) if own else (), own


def called(model, x, states):
    output = model(x, nested(model, states)) if states else model(x)
    return (output[0], flat(output[1])) if isinstance(output, tuple) else (output, ())


@pytest.mark.parametrize(("leading", "dtype"), [((), np.float64), ((3,), np.float32)], ids=["alone, float64", "batch, float32"])
@every_case
def test_the_bits_of_a_call(case, leading, dtype):
    """A run of a whole, and a single step, fill out and advance the state as a call does, alone and in a batch."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 6)
    net = model.jit()
    for steps in (6, 0):
        expected, last = called(model, x[..., :steps] if case.tokens else x[..., :steps, :], states)
        state, own = copies(model, states)
        out = np.full(expected.shape, np.nan, dtype)
        part = np.ascontiguousarray(x[..., :steps] if case.tokens else x[..., :steps, :])
        assert forward(net, part, state, out) is not None
        assert_same_bits(out, expected)
        for one, other in zip(own, last, strict=True):
            assert_same_bits(one, other)
    first = x[..., 0] if case.tokens else np.ascontiguousarray(x[..., 0, :])
    expected, last = called(model, x[..., :1] if case.tokens else x[..., :1, :], states)
    state, own = copies(model, states)
    out = np.full((*leading, case.output_size), np.nan, dtype)
    step(net, first, state, out)
    assert_same_bits(out, expected[..., 0, :])
    for one, other in zip(own, last, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("case", few_cases(SOME, *DEFAULT), ids=lambda case: case.name)
def test_however_a_sequence_is_run(case):
    """Step by step, in two parts, of another dtype or layout: the same bits."""
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (), 12)
    expected, last = called(model, x, states)
    other = x.astype(np.int64 if case.tokens else np.float64)
    for run, given in ((by_steps, x), (twice, x), (forward, np.repeat(other, 2, axis=0)[::2])):
        state, own = copies(model, states)
        out = np.empty(expected.shape, np.float32)
        run(model.jit(), given, state, out)
        assert_same_bits(out, expected)
        for one, final in zip(own, last, strict=True):
            assert_same_bits(one, final)


def test_more_sequences_than_side_by_side():
    """Batches of more sequences than are stepped side by side, over more steps than a workspace has room for."""
    rng = np.random.default_rng(0)
    rnn = fastrnn.RNN(rng.uniform(-0.1, 0.1, (100, 3)), rng.uniform(-0.1, 0.1, (100, 100)))
    for shape in ((131, 2, 3), (1, 20_000, 3), (65, 300, 3)):
        x = rng.random(shape)
        out, h = np.empty((*shape[:2], 100)), np.zeros((shape[0], 100))
        forward(rnn.jit(), x, h, out)
        expected, h_n = rnn(x)
        assert_same_bits(out, expected)
        assert_same_bits(h, h_n)


def test_what_is_converted_is_kept():
    """A large x of another dtype is copied: the copy lives until it is read, though nothing but its address is used."""
    rnn = fastrnn.RNN(
        uniform(np.random.default_rng(0), (64, 300), np.float64, 0.1), uniform(np.random.default_rng(1), (64, 64), np.float64, 0.1)
    )
    for steps in (5, 3000):
        x, out = uniform(np.random.default_rng(2), (steps, 300), np.float32, 1), np.empty((steps, 64))
        assert_same_bits(forward(rnn.jit(), x, np.zeros(64), out), rnn(x)[0])


@numba.njit(parallel=True)
def side_by_side(net, x, h, out):
    for i in numba.prange(len(x)):
        for t in range(x.shape[1]):
            fastrnn.jit.step(net, x[i, t], h[i], out[i, t])


@numba.njit(nogil=True)
def without_lock(net, x, h, out):
    for i in range(len(x)):
        fastrnn.jit.forward(net, x[i], h[i], out[i])


def test_in_parallel():
    """In prange, and on several threads without Python's lock, every call has memory of its own."""
    rng = np.random.default_rng(0)
    rnn = fastrnn.RNN(rng.uniform(-0.3, 0.3, (40, 3)), rng.uniform(-0.2, 0.2, (40, 40)))
    x = rng.random((64, 50, 3))
    expected, h_n = rnn(x)
    results = [(np.zeros((64, 40)), np.empty((64, 50, 40))) for _ in range(5)]
    side_by_side(rnn.jit(), x, *results[0])
    threads = [threading.Thread(target=without_lock, args=(rnn.jit(), x, *result)) for result in results[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for h, out in results:
        assert_same_bits(out, expected)
        assert_same_bits(h, h_n)


@numba.njit
def handed_back(net):
    return net, net


def test_a_net_keeps_its_model():
    """A net is handed out of compiled code, pickled and called when nothing else has the model."""
    rng = np.random.default_rng(0)
    weights = rng.random((40, 3)), rng.random((40, 40))
    expected, _ = fastrnn.RNN(*weights)(np.ones((1, 3)))
    net = handed_back(fastrnn.RNN(*weights).jit())[1]
    gc.collect()
    for one in (net, pickle.loads(pickle.dumps(net))):
        out = np.empty(40)
        step(one, np.ones(3), np.zeros(40), out)
        assert_same_bits(out, expected[0])
    assert repr(net) == f"Net({net.model!r})"


RNN, LSTM = fastrnn.RNN(np.ones((3, 2)), np.eye(3)), fastrnn.LSTM(np.ones((12, 2)), np.ones((12, 3)))
READER = fastrnn.Sequential(fastrnn.Embedding.one_hot(2), RNN)
NET, LSTM_NET, READER_NET = RNN.jit(), LSTM.jit(), READER.jit()
X, H, OUT = np.ones(2), np.zeros(3), np.zeros(3)
SHARED = np.zeros(10)
FROZEN = np.zeros(3)
FROZEN.flags.writeable = False
STATES = "state must be of writable C-contiguous arrays of float64 with 1 or 2 axes, got "
WRONG_X = "x_t must have shape (..., input_size) as net has it, with as many sequences as the state"
WRONG_STATE = (
    "state must have arrays of shape (..., hidden_size) as net has them, one row for each sequence, which share no memory with out"
)
WRONG_OUT = "out must have the shape of x_t, but with net's output_size last, and share no memory with it"
REFUSED = {
    "no net": ((RNN.weight_ih, X, H, OUT), numba.TypingError, "net must be what model.jit() gives, got"),
    "a state of another form": (
        (LSTM_NET, X, H, OUT),
        numba.TypingError,
        "state must be put together as (0, 1), a number for each array, got array(float64, 1d, C)",
    ),
    "two entries": (
        (NET, X, (H, H.copy()), OUT),
        numba.TypingError,
        "state must be put together as 0, a number for each array, got UniTuple(array(float64, 1d, C) x 2)",
    ),
    "a state of another dtype": ((NET, X, H.astype(np.float32), OUT), numba.TypingError, STATES + "array(float32, 1d, C)"),
    "a frozen state": ((NET, X, FROZEN, OUT), numba.TypingError, STATES + "readonly array(float64, 1d, C)"),
    "a strided state": ((NET, X, np.zeros(6)[::2], OUT), numba.TypingError, STATES + "array(float64, 1d, A)"),
    "a state of three axes": ((NET, X, np.zeros((1, 1, 3)), OUT), numba.TypingError, STATES + "array(float64, 3d, C)"),
    "out of another dtype": (
        (NET, X, H, OUT.astype(int)),
        numba.TypingError,
        "out must be a writable C-contiguous array of float64 with 1 axes, got array(int64, 1d, C)",
    ),
    "x of two axes": ((NET, np.ones((1, 2)), H, OUT), numba.TypingError, "x_t must be numbers with 1 axes, got array(float64, 2d, C)"),
    "complex x": ((NET, X * 1j, H, OUT), numba.TypingError, "x_t must be numbers with 1 axes, got array(complex128, 1d, C)"),
    "a vector for a token": (
        (READER_NET, X, (H,), OUT),
        numba.TypingError,
        "x_t must be integers, the tokens of an Embedding, got array(float64, 1d, C)",
    ),
    "a float for a token": (
        (READER_NET, 1.0, (H,), OUT),
        numba.TypingError,
        "x_t must be integers, the tokens of an Embedding, got float64",
    ),
    "x too long": ((NET, np.ones(3), H, OUT), ValueError, WRONG_X),
    "x of another batch": ((NET, np.ones((4, 2)), np.zeros((5, 3)), np.zeros((5, 3))), ValueError, WRONG_X),
    "a state too short": ((NET, X, np.zeros(2), OUT), ValueError, WRONG_STATE),
    "a state of another batch": ((NET, np.ones((5, 2)), np.zeros((4, 3)), np.zeros((5, 3))), ValueError, WRONG_STATE),
    "out too long": ((NET, X, H, np.zeros(4)), ValueError, WRONG_OUT),
    "out over x": ((NET, SHARED[2:4], H, SHARED[1:4]), ValueError, WRONG_OUT),
    "out over an x_t of another dtype": ((NET, SHARED.view(np.float32)[4:6], H, SHARED[1:4]), ValueError, WRONG_OUT),
    "out around an x_t read backwards": ((NET, SHARED[6:1:-4], H, SHARED[3:6]), ValueError, WRONG_OUT),
    "out over the state": ((NET, X, SHARED[2:5], SHARED[4:7]), ValueError, WRONG_STATE),
    "a token too high": ((READER_NET, 2, (H,), OUT), ValueError, "x_t must hold tokens from 0 to net's input_size - 1"),
    "a token below": ((READER_NET, np.array([0, -1]), (np.zeros((2, 3)),), np.zeros((2, 3))), ValueError, "x_t must hold tokens from 0 to"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What is known when a call is compiled is refused then, and shapes, tokens and shared memory at the call; nothing is changed."""
    arguments, error, text = REFUSED[kind]
    with pytest.raises(error) as raised:
        step(*arguments)
    assert text in str(raised.value)
    assert not H.any()
    assert not OUT.any()
    assert not SHARED.any()


def test_what_has_no_net():
    """A model whose outputs depend on later steps has none, and a net of another fastrnn is refused."""
    with pytest.raises(ValueError, match="model must hold no Bidirectional for compiled functions"):
        fastrnn.Bidirectional(RNN, RNN).jit()
    other = RNN.jit()
    other.words[fastrnn.jit.VERSION] += 1
    with pytest.raises(RuntimeError, match="net must come from the fastrnn that this function was compiled with; compile it anew"):
        step(other, X, H.copy(), OUT.copy())


def test_globals_are_refused():
    """A net that is a global, whose addresses would stand in the code, doesn't compile."""

    @numba.njit
    def with_global(out):
        return fastrnn.jit.step(NET, np.ones(2), np.zeros(3), out)

    with pytest.raises(numba.TypingError, match="a net must be an argument of a compiled function"):
        with_global(np.zeros(3))


CACHED = """
import sys
sys.path.insert(0, sys.argv[1])
import cached
print(cached.run(), cached.walk.stats.cache_hits.total())
"""
MODULE = """
import numba, numpy as np, fastrnn.jit

@numba.njit(cache=True)
def walk(net, x, h, out):
    for t in range(len(x)):
        fastrnn.jit.step(net, x[t], h, out)

def run():
    rng = np.random.default_rng(0)
    rnn = fastrnn.RNN(rng.uniform(-0.3, 0.3, (40, 3)), rng.uniform(-0.2, 0.2, (40, 40)))
    padding = [np.empty(n) for n in rng.integers(1, 10**6, 20)]  # so that addresses differ
    x, h, out = rng.random((9, 3)), np.zeros(40), np.empty(40)
    walk(rnn.jit(), x, h, out)
    return bool((h == rnn(x)[1]).all())
"""


def test_cached(tmp_path):
    """A function cached in one process runs in others, where everything lies at other addresses."""
    (tmp_path / "cached.py").write_text(MODULE)
    printed = [python(CACHED, tmp_path, NUMBA_CACHE_DIR=tmp_path / "numba").split() for _ in range(3)]
    assert printed == [["True", "0"], ["True", "1"], ["True", "1"]]


def test_where_nothing_is_compiled():
    """Under NUMBA_DISABLE_JIT the same calls run, uncompiled, with the same bits."""
    script = """
import numba, numpy as np, fastrnn.jit
lstm = fastrnn.LSTM(np.linspace(-1, 1, 24).reshape(12, 2), np.linspace(-1, 1, 36).reshape(12, 3))
dense = fastrnn.Dense(np.ones((3, 2)))
step = numba.njit(lambda net, x, state, out: fastrnn.jit.step(net, x, state, out))
forward = numba.njit(lambda net, x, state, out: fastrnn.jit.forward(net, x, state, out))
for function, net, x, leading, rows in (
    (step, lstm.jit(), np.ones(2), (), ()),
    (step, lstm.jit(), np.ones((2, 2)), (2,), (2,)),
    (forward, fastrnn.Sequential(lstm, return_sequences=False).jit(), np.ones((4, 2)), (), (4,)),
    (step, dense.jit(), np.ones(2), None, ()),
):
    entry, out = (np.zeros((*(leading or ()), 3)), np.ones((*(leading or ()), 3))), np.empty((*rows, 3))
    state = () if leading is None else (entry,) if net.type.form == ((0, 1),) else entry
    function(net, x, state, out)
    print(out.tobytes().hex(), entry[0].tobytes().hex(), entry[1].tobytes().hex())
for wrong in (np.empty(4), np.empty(3, np.float32)):
    try:
        step(lstm.jit(), np.ones(2), (np.zeros(3), np.zeros(3)), wrong)
    except (ValueError, numba.TypingError):
        print("refused")
"""
    plain = python(script, NUMBA_DISABLE_JIT=1)
    assert plain == python(script)
    assert plain.count("refused") == 2
