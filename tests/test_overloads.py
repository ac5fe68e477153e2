"""rnn_forward in functions that Numba compiles: the bits of its call, and errors instead of crashes."""

import functools
import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import compiled_forward as inside
from fastrnn.engine.packing import LayerSpec, network_of
from fastrnn.kernels.layout import JOB, LAYER, MATRIX

from .cases import DTYPES, assert_same_bits, uniform
from .exhaustive import exhaustive
from .process import python

pytestmark = pytest.mark.usefixtures("no_collector")

FUNCTIONS = ["identity", "tanh", "relu", "sigmoid", "softplus"]


@numba.njit
def plain(x, U, W, V, b):
    return fastrnn.rnn_forward(x, U, W, V, b)


@numba.njit
def whole(x, U, W, V, b, c, h0, out):
    return fastrnn.rnn_forward(x, U, W, V, b, c=c, h0=h0, nonlinearity="relu", out=out)


@numba.njit
def named(x, U, W, V, b, name):
    return fastrnn.rnn_forward(x, U, W, V, b, nonlinearity=name)


@numba.njit(parallel=True)
def side_by_side(xs, U, W, V, b, out):
    for i in numba.prange(len(xs)):
        out[i] = fastrnn.rnn_forward(xs[i], U, W, V, b)


def data(sizes, dtype, leading=()):
    steps, inputs, hidden, outputs = sizes
    shapes = [(*leading, steps, inputs), (hidden, inputs), (hidden, hidden), (outputs, hidden), (hidden,)]
    return [uniform(np.random.default_rng(i), shape, dtype, 0.3) for i, shape in enumerate(shapes)]


SIZES = [(100, 32, 64, 10), (1, 1, 1, 1), (7, 3, 130, 4), (20, 300, 17, 1000), (2, 5, 600, 33), (0, 3, 4, 5)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_bits_of_a_call(sizes, dtype):
    given = data(sizes, dtype)
    assert_same_bits(plain(*given), fastrnn.rnn_forward(*given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", [(130,), (2, 3), (0,)])
def test_sequences_with_everything(leading, dtype):
    """With leading axes, c, h0 and out, which is the result."""
    x, U, W, V, b = data((9, 5, 70, 20), dtype, leading)
    c, h0, out = uniform(np.random.default_rng(7), (20,), dtype, 1), uniform(np.random.default_rng(8), (*leading, 70), dtype, 1), None
    if len(leading) == 1:
        out = np.full((*leading, 9, 20), np.nan, dtype)
    before = [array.copy() for array in (x, U, W, V, b, c, h0)]
    result = whole(x, U, W, V, b, c, h0, out)
    assert out is None or np.shares_memory(result, out) or not out.size
    assert_same_bits(result, fastrnn.rnn_forward(x, U, W, V, b, c=c, h0=h0, nonlinearity="relu"))
    for array, copy in zip((x, U, W, V, b, c, h0), before, strict=True):
        assert_same_bits(array, copy)


def test_functions_by_name():
    given = data((9, 5, 7, 3), np.float64)
    for name in FUNCTIONS:
        assert_same_bits(named(*given, name), fastrnn.rnn_forward(*given, nonlinearity=name))
    with pytest.raises(ValueError, match="nonlinearity must be"):
        named(*given, "sine")


def test_arrays_that_are_converted():
    """Of another dtype or layout: copies that must live until the weights are packed and the output is there."""
    x, U, W, V, b = data((3000, 300, 70, 5), np.float64)
    expected = fastrnn.rnn_forward(x.astype(np.float32), U, W, V, b)
    assert_same_bits(plain(x.astype(np.float32), np.asfortranarray(U), W.T.copy().T, np.repeat(V, 2, axis=0)[::2], b), expected)
    assert_same_bits(plain((x * 100).astype(np.int8), U, W, V, b), fastrnn.rnn_forward((x * 100).astype(np.int8), U, W, V, b))


@exhaustive
def test_in_parallel():
    """Also where no call came before, on threads that have never held Python's lock, while the caller holds it."""
    x, U, W, V, b = data((30, 5, 70, 3), np.float32, (64,))
    out = np.empty((64, 30, 3), np.float32)
    side_by_side(x, U, W, V, b, out)
    assert_same_bits(out, fastrnn.rnn_forward(x, U, W, V, b))


SIZE = st.integers(1, 1100)


@given(SIZE, SIZE, SIZE, st.integers(1, 200), st.integers(1, 200), st.sampled_from(DTYPES), st.booleans())
def test_one_description(inputs, hidden, outputs, steps, sequences, dtype, has_c):
    """The sizes that compiled code fills in are those that layers are packed by, and the workspace has room for them."""
    name, item = np.dtype(dtype).name, np.dtype(dtype).itemsize
    words = np.frombuffer(inside.recipe(inside.INTERFACE, name, "tanh", has_c), np.int64).copy()
    lanes, vectors, plan = int(words[inside.LANES]), int(words[inside.VECTORS]), words[inside.PLAN :]
    room = inside.plan_of(plan, lanes, vectors, (steps, sequences, inputs, hidden, outputs), item)
    U, W, V = (np.empty(shape, dtype) for shape in ((hidden, inputs), (hidden, hidden), (outputs, hidden)))
    head = LayerSpec("dense", V, None, V[:, 0] if has_c else None, "softmax")
    network = network_of([LayerSpec("elman", U, W, W[0], "tanh"), head], ["pack_and_run"])
    layers = plan[inside.LAYERS : inside.MATRICES].reshape(2, -1)
    unread = {"parameters", "recurrent_parameters", "weight_hr", "half_hr", "shared_from"}  # by a call that is never shared
    read = [[name for name in LAYER.names if "parameters" not in name], [name for name in LAYER.names if "_hh" not in name]]
    for own, expected, names in zip(layers, network.layers, read, strict=True):
        for field in names:
            if field not in unread and (field, names) != ("vector_hh", read[0]):
                assert own[LAYER.offsets[field]] == expected[LAYER.offsets[field]], field
    used = network.matrices[network.matrices[:, MATRIX.offsets["columns"]] > 0]
    np.testing.assert_array_equal(plan[inside.MATRICES :].reshape(len(used), -1), used)
    packed, rows = network.work * item, 2 * int(plan[JOB.offsets["buffer"]]) * item
    assert plan[inside.PACKED] == packed
    assert room >= 1024 + 8 * 2 * LAYER.words + packed + rows
    block, chunk = int(plan[JOB.offsets["block"]]), int(plan[JOB.offsets["chunk"]])
    assert 1 <= chunk <= steps
    assert (chunk + 1) * block * network.widest <= plan[JOB.offsets["buffer"]]


X, U, W, V, B = data((4, 2, 3, 5), np.float64)
OUT, SHARED = np.empty((1, 4, 5)), np.zeros(40)
INVALID = {
    "x": (lambda: plain(X[:, :1], U, W, V, B), inside.WRONG_X),
    "U": (lambda: plain(X, U[:2], W, V, B), inside.WRONG_WEIGHTS),
    "V": (lambda: plain(X, U, W, V[:, :2], B), inside.WRONG_WEIGHTS),
    "b": (lambda: plain(X, U, W, V, B[:2]), inside.WRONG_WEIGHTS),
    "no units": (lambda: plain(X, U[:0], W[:0, :0], V[:, :0], B[:0]), inside.WRONG_WEIGHTS),
    "c": (lambda: whole(X[None], U, W, V, B, np.ones(4), np.ones((1, 3)), OUT), inside.WRONG_WEIGHTS),
    "h0": (lambda: whole(X[None], U, W, V, B, np.ones(5), np.ones((2, 3)), OUT), inside.WRONG_H0),
    "out": (lambda: whole(X[None], U, W, V, B, np.ones(5), np.ones((1, 3)), OUT[:, :3]), inside.WRONG_OUT),
    "out over x": (
        lambda: whole(SHARED[:8].reshape(1, 4, 2), U, W, V, B, np.ones(5), np.ones((1, 3)), SHARED[4:24].reshape(1, 4, 5)),
        inside.WRONG_OUT,
    ),
    "out over h0": (
        lambda: whole(X[None], U, W, V, B, np.ones(5), SHARED[20:23].reshape(1, 3), SHARED[2:22].reshape(1, 4, 5)),
        inside.WRONG_OUT,
    ),
    "out over an x of another dtype": (
        lambda: whole(SHARED.view(np.float32)[:8].reshape(1, 4, 2), U, W, V, B, np.ones(5), np.ones((1, 3)), SHARED[3:23].reshape(1, 4, 5)),
        inside.WRONG_OUT,
    ),
    "out between the steps of x": (
        lambda: whole(SHARED[::-5].reshape(1, 4, 2), U, W, V, B, np.ones(5), np.ones((1, 3)), SHARED[15:35].reshape(1, 4, 5)),
        inside.WRONG_OUT,
    ),
}


def out_over(name, shape):
    """Call with an out that shares memory with one of the weights."""
    given = {"U": U, "W": W, "V": V, "b": B, "c": np.ones(5)}
    given[name] = SHARED[20 : 20 + math.prod(shape)].reshape(shape)
    return whole(X[None], *given.values(), np.ones((1, 3)), SHARED[2:22].reshape(1, 4, 5))


OF_WEIGHTS = {"U": (3, 2), "W": (3, 3), "V": (5, 3), "b": (3,), "c": (5,)}
INVALID |= {f"out over {name}": (functools.partial(out_over, name, shape), inside.WRONG_OUT) for name, shape in OF_WEIGHTS.items()}
TYPES = {
    "x": (lambda: plain(X[0], U, W, V, B), "x must be an array of numbers with 2 axes or more"),
    "complex x": (lambda: plain(X + 0j, U, W, V, B), "x must be an array of numbers with 2 axes or more"),
    "weights of two dtypes": (
        lambda: plain(X, U, W.astype(np.float32), V, B),
        "W must be an array of float32 or of float64, as all",
    ),
    "integer weights": (lambda: plain(X, U.astype(int), W, V, B), "U must be an array of float32 or of float64"),
    "axes": (lambda: plain(X, U, W, V, B[None]), "b must have 1 axes"),
    "axes of h0": (lambda: whole(X[None], U, W, V, B, np.ones(5), np.ones(3), OUT), "h0 must have 2 axes, one fewer than x"),
    "out": (lambda: whole(X[None], U, W, V, B, np.ones(5), np.ones((1, 3)), OUT[..., ::2]), "out must be a writable C-contiguous array"),
    "parameters": (lambda: named(X, U, W, V, B, ("elu", 1.0)), "nonlinearity must be the name of one without parameters"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_refused(kind):
    """Shapes are checked at every call."""
    call, text = INVALID[kind]
    with pytest.raises(ValueError, match=f"^{text.replace('(', '[(]').replace(')', '[)]')}$"):
        call()


@pytest.mark.parametrize("kind", TYPES)
def test_refused_when_compiled(kind):
    call, text = TYPES[kind]
    with pytest.raises(numba.TypingError, match=text):
        call()


def test_another_fastrnn():
    """Cached code of a fastrnn with other records isn't run."""
    with pytest.raises(RuntimeError, match="compiled with another fastrnn; compile it anew"):
        inside.recipe(inside.INTERFACE + 1, "float32", "tanh", False)


CACHED = """
import sys
sys.path.insert(0, sys.argv[1])
import cached
print(cached.run(), cached.probabilities.stats.cache_hits.total())
"""
MODULE = """
import numba, numpy as np, fastrnn

@numba.njit(cache=True)
def probabilities(x, U, W, V, b):
    return fastrnn.rnn_forward(x, U, W, V, b)

@numba.njit(cache=True, parallel=True)
def side_by_side(xs, U, W, V, b, out):
    for i in numba.prange(len(xs)):
        out[i] = fastrnn.rnn_forward(xs[i], U, W, V, b)

def run():
    rng = np.random.default_rng(0)
    padding = [np.empty(n) for n in rng.integers(1, 10**6, 20)]  # so that addresses differ
    xs, U, W, V, b = (rng.uniform(-0.3, 0.3, shape) for shape in ((8, 20, 3), (40, 3), (40, 40), (5, 40), (40,)))
    out, expected = np.empty((8, 20, 5)), fastrnn.rnn_forward(xs, U, W, V, b)
    side_by_side(xs, U, W, V, b, out)
    return bool((out == expected).all() and (probabilities(xs, U, W, V, b) == expected).all())
"""


@exhaustive
def test_cached(tmp_path):
    """A function cached in one process runs in others, where everything lies at other addresses."""
    (tmp_path / "cached.py").write_text(MODULE)
    printed = [python(CACHED, tmp_path, NUMBA_CACHE_DIR=tmp_path / "numba").split() for _ in range(3)]
    assert printed == [["True", "0"], ["True", "1"], ["True", "1"]]


ORDERS = """
import sys
{first}
{second}
print("fastrnn.overloads" in sys.modules)
probabilities = numba.njit(lambda x, U, W, V, b: fastrnn.rnn_forward(x, U, W, V, b))
import numpy as np
print(probabilities(np.ones((2, 2)), np.eye(2), np.eye(2), np.eye(2), np.ones(2)))
"""


@pytest.mark.parametrize(
    ("first", "second", "at_once"), [pytest.param("numba", "fastrnn", True, marks=exhaustive), ("fastrnn", "numba", False)]
)
def test_whichever_is_imported_first(first, second, at_once):
    """Where Numba comes later, it registers the overload when it compiles for the first time."""
    printed = python(ORDERS.format(first=f"import {first}", second=f"import {second}"))
    assert printed.startswith(f"{at_once}\n[[0.5 0.5]")


def test_numba_without_fastrnn():
    """Numba's start imports nothing of fastrnn but the package of the entry point."""
    script = """
import sys, numba
numba.njit(lambda: 1)()
print([name for name in sys.modules if name.startswith("fastrnn")])
"""
    assert python(script) == "['fastrnn_numba']\n"
