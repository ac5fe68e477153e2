"""Layers and rows too large for one piece of packing, of workspace or of work equal the reference, and give the bits they give alone."""

import numpy as np
import pytest

import fastrnn

from .cases import DTYPES, Case, assert_close, assert_same_results, run
from .exhaustive import few
from .process import python
from .situations import exact

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


NOT_ZERO = 300  # numbers of a step, about: sums of millions would lose more digits than the tolerance allows


def data(case, dtype, leading, steps):
    """Input of which few numbers are not zero, the last among them, so large that a wrong place shows; and states."""
    x, states = case.data(np.float64, leading, steps)
    (kind, _), inputs, outputs = case.layers[0], *case.sizes[:2]
    if inputs > NOT_ZERO:
        there = np.random.default_rng(4).random(x.shape) < NOT_ZERO / inputs
        there[..., -1] = True
        x *= there * ((outputs if kind == "RNN" else inputs) / NOT_ZERO) ** 0.5
    return x, tuple(state.astype(dtype) for state in states)


def check(case, dtype, leading, steps, *, given_dtype=None, **options):
    """Output and last states are the reference's; x may come in another dtype. Give the results, x and the states."""
    x, states = data(case, dtype, leading, steps)
    x = x.astype(given_dtype or dtype)
    results = run(case.layer(dtype), x, states, **options)
    expected = run(case.reference(dtype), exact(x.astype(dtype)), exact(states), **options)
    assert_close(results[0], expected[0], dtype)
    for one, other in zip(results[1], expected[1], strict=True):
        assert_close(one, other, dtype)
    return results, x, states


@pytest.fixture(params=[1, 3])
def threads(request):
    """So many threads may share a call."""
    before = fastrnn.get_num_threads()
    fastrnn.set_num_threads(request.param)
    yield
    fastrnn.set_num_threads(before)


@every_dtype
@pytest.mark.parametrize("widths", few([(2101, 2102), (20_003, 260), (7, 600_005)], (2101, 2102)))
def test_over_four_million_weights(dtype, widths):
    """A matrix of over four million weights, square, wide or tall, is packed as any other."""
    check(Case("", (("Dense", "sigmoid"),), widths), dtype, (2,), 3)


@every_dtype
def test_over_four_million_recurrent_weights(dtype):
    """So is that of a state, for one sequence and for several."""
    case = Case("", (("RNN", "tanh"),), (3, 2051))
    (output, (last,)), x, (state,) = check(case, dtype, (5,), 3)
    assert_same_results(run(case.layer(dtype), x[2], (state[2],)), (output[2], (last[2],)))


@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize("widths", [(1_050_001, 2), (2, 1_050_001)])
@pytest.mark.parametrize("given_dtype", few(DTYPES, np.float64))
def test_rows_over_four_megabytes(dtype, widths, given_dtype):
    """Rows of over a million numbers go in, converted or as they are, and come out, in a batch too."""
    check(Case("", (("Dense", "log_softmax"),), widths), dtype, (3,), 2, given_dtype=given_dtype)


@every_dtype
@pytest.mark.parametrize("lengths", [[2, 0, 1], [1, 2, 2]])
def test_lengths_of_rows_over_four_megabytes(dtype, lengths):
    """So do those of sequences of different lengths."""
    check(Case("", (("RNN", "tanh"),), (1_050_001, 3)), dtype, (3,), 2, lengths=lengths)


# 12,000 outputs in float32 and 6,000 in float64 make rows of 48 KB: a workspace of 1.5 MB where rows of 32 KB need 1 MB
WIDE = {np.float32: 12_001, np.float64: 6_002}


@every_dtype
@pytest.mark.parametrize("leading", few([(), (7,), (40,)], (7,)))
def test_rows_of_48_kilobytes(dtype, leading):
    """Layers with rows a little longer than the usual workspace is made for equal the reference."""
    layers = (("Dense", "tanh"), ("Dense", "identity"), ("RNN", "tanh"), ("Dense", "softmax"))
    check(Case("", layers, (3, WIDE[dtype], 20, 9, WIDE[dtype])), dtype, leading, 19)


BESIDE = """
import threading
import numpy as np
import fastrnn

layer = fastrnn.Dense(np.ones(({outputs}, 1), np.{dtype}))

def call():
    below, x = np.zeros(1 << 20, np.uint8), np.ones((64, 1), np.{dtype})
    above = np.zeros(4 << 20, np.uint8)
    assert (layer(x) == 1).all()
    assert not above.any() and not below.any()

for _ in range(3):  # a thread's first call may be what gives it memory to work in
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
call()
"""


@every_dtype
def test_nothing_is_written_beside_a_workspace(dtype):
    """Arrays made just before a thread's first call, on which its workspace may border, are left alone by rows of 48 KB."""
    python(BESIDE.format(outputs=WIDE[dtype], dtype=np.dtype(dtype)), MALLOC_MMAP_THRESHOLD_=1 << 16)


LENGTHS = {
    "nearly equal": lambda rng: rng.integers(11, 13, 70),
    "equal but for one": lambda rng: np.where(np.arange(70) == 31, 11, 12),
    "any": lambda rng: rng.integers(0, 13, 70),
    "mostly short": lambda rng: rng.geometric(0.5, 70).clip(0, 12),
    "growing": lambda rng: np.arange(70) * 13 // 70,
}


@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize("given_dtype", few(DTYPES, np.float64))
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.usefixtures("threads")
def test_lengths_of_70_wide_sequences(dtype, given_dtype, lengths):
    """70 sequences of vectors of 3,000 that end anywhere equal the reference, and have the bits that each has alone."""
    case, lengths = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (3_000, 20, 6)), lengths(np.random.default_rng(3))
    (output, (last,)), x, (state,) = check(case, dtype, (70,), 12, given_dtype=given_dtype, lengths=lengths)
    for n in (0, 31, 69):
        alone = run(case.layer(dtype), x[n, : lengths[n]], (state[n],))
        assert_same_results((output[n, : lengths[n]], (last[n],)), alone)


def test_small_work_with_many_outputs():
    """A call that is small by its products but cut into pieces for its outputs is right, and so is the next one of its shape."""
    dense, x = fastrnn.Dense(np.linspace(-1, 1, 70_000, dtype=np.float32)[:, None]), np.linspace(-1, 1, 110, dtype=np.float32)[:, None]
    out = np.empty((110, 70_000), np.float32)
    for _ in range(2):
        out[...] = np.nan
        np.testing.assert_array_equal(dense(x, out=out), x * dense.weight.T)
