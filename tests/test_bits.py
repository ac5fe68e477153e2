"""One model and one input sequence give the same bits however they are run."""

import concurrent.futures

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.engine import execute

from .cases import CASES, DTYPES, MODEL, Case, arrays_of, assert_same_bits, assert_same_results, run, uniform
from .exhaustive import few_cases
from .process import copy_package, python

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
some_cases = pytest.mark.parametrize("case", few_cases(CASES), ids=lambda case: case.name)
every_causal_case = pytest.mark.parametrize("case", [case for case in CASES if case.causal], ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
# 20,000 steps are many chunks of workspace, of converted input and of work
LONG = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (40, 60, 30))


def misaligned(x):
    buffer = np.empty(x.nbytes + 1, np.uint8)[1:]
    buffer[:] = np.frombuffer(x.tobytes(), np.uint8)
    return buffer.view(x.dtype).reshape(x.shape)


def read_only(x):
    copy = x.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=-1), 3, axis=-2)[..., ::3, ::2],
    "reversed": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "batch reversed": lambda x: x[::-1].copy()[::-1],
    "time first": lambda x: np.moveaxis(np.moveaxis(x, -2, 0).copy(), 0, -2),
    "read-only": read_only,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "misaligned": misaligned,
    "float64": lambda x: x.astype(np.float64),
}


def members(results, index):
    return results[0][index], tuple(state[index] for state in results[1])


@some_cases
@every_dtype
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 9, 13, 65, 131])
def test_alone_or_in_a_batch(case, dtype, count):
    """Every member of a batch has the bits it has alone."""
    model = case.layer(dtype)
    x, states = case.data(dtype, (count,), 5)
    together = run(model, x, states)
    for n in range(count):
        alone = run(model, x[n], tuple(state[n] for state in states))
        assert_same_results(members(together, n), alone)


@given(st.sampled_from(CASES), st.sampled_from(DTYPES), st.lists(st.integers(1, 300), min_size=5, max_size=5), st.integers(1, 20))
def test_alone_or_in_a_batch_at_any_size(case, dtype, sizes, count):
    """Nor does it matter what the sizes are."""
    sizes = tuple(sizes[: len(case.sizes)])
    model, (x, states) = case.layer(dtype, sizes=sizes), case.data(dtype, (count,), 3, sizes=sizes)
    together = run(model, x, states)
    for n in (0, count - 1):
        assert_same_results(members(together, n), run(model, x[n], tuple(state[n] for state in states)))


@every_case
@every_dtype
def test_leading_axes(case, dtype):
    """The same sequences on one, two or three leading axes have the same bits."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (12,), 5)
    flat = run(model, x, states)
    for leading in ((12,), (3, 4), (2, 1, 6)):
        shaped = run(model, x.reshape(*leading, *x.shape[1:]), tuple(state.reshape(*leading, -1) for state in states))
        assert shaped[0].shape[:-2] == leading
        assert_same_bits(shaped[0].reshape(flat[0].shape), flat[0])
        for one, other in zip(shaped[1], flat[1], strict=True):
            assert_same_bits(one.reshape(other.shape), other)


@every_causal_case
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,)])
def test_resumed_at_every_cut(case, dtype, leading):
    """A sequence cut anywhere and resumed from the state has the bits of the whole; the first piece is a prefix of the output."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 9)
    whole = run(model, x, states)
    for cut in range(10):
        first, between = run(model, x[..., :cut, :], states)
        second, last = run(model, x[..., cut:, :], between)
        assert_same_bits(first, whole[0][..., :cut, :])
        assert_same_results((np.concatenate([first, second], axis=-2), last), whole)


@every_causal_case
@every_dtype
def test_step_by_step(case, dtype):
    """Single steps, the state carried by the caller, have the bits of the whole."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (5,), 8)
    whole = run(model, x, states)
    steps = []
    for t in range(8):
        output, states = run(model, x[:, t : t + 1], states)
        steps.append(output)
    assert_same_results((np.concatenate(steps, axis=1), states), whole)


@every_dtype
@pytest.mark.parametrize("cut", [1, 777, 19_999])
def test_long_sequences(dtype, cut):
    """Neither chunks of work, of workspace nor of converted input show in the bits."""
    model, (x, states) = LONG.layer(dtype), LONG.data(np.float64, (2,), 20_000)
    whole = model(x.astype(dtype), states)
    assert_same_results(model(x, states), whole)
    first, between = model(x[:, :cut], states)
    second, last = model(x[:, cut:].astype(dtype), between)
    assert_same_results((np.concatenate([first, second], axis=1), last), whole)
    assert_same_results(model(x[1], states[0][1]), members(whole, 1))


@every_dtype
def test_large_batches(dtype):
    """A batch worked through in many pieces has the bits of its parts."""
    model, (x, states) = LONG.layer(dtype), LONG.data(np.float64, (3000,), 3)
    whole = model(x.astype(dtype), states)
    assert_same_results(model(x, states), whole)
    assert_same_results(model(x[1234:1300], states[0][1234:1300]), members(whole, slice(1234, 1300)))


@some_cases
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("leading", [(3,), (2, 3)])
@pytest.mark.parametrize("few", [0, execute.FEW], ids=["large", "small"])
def test_layouts(case, dtype, layout, leading, few, monkeypatch):
    """x and the states in any layout have the bits of contiguous ones, where they are converted piece by piece and where whole."""
    monkeypatch.setattr(execute, "FEW", few)
    change = LAYOUTS[layout]
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 6)
    assert np.array_equal(change(x), x)
    assert_same_results(run(model, change(x), tuple(change(state) for state in states)), run(model, x, states))


@every_dtype
def test_memory_mapped(dtype, tmp_path):
    """A memory-mapped file is input like any other."""
    model, (x, states) = MODEL.layer(dtype), MODEL.data(dtype, (3,), 6)
    np.save(tmp_path / "x.npy", x)
    assert_same_results(model(np.load(tmp_path / "x.npy", mmap_mode="r"), states), model(x, states))


@every_dtype
def test_wide_input(dtype):
    """Input whose steps fill more than a piece of conversion has the bits of converted input, in a batch or alone."""
    case = Case("", (("Dense", "sigmoid"),), (70_001, 3))
    model, (x, _) = case.layer(dtype), case.data(np.float64, (5,), 7)
    whole = model(x.astype(dtype))
    assert_same_bits(model(x), whole)
    assert_same_bits(model(np.asfortranarray(x)), whole)
    assert_same_bits(model(x[3]), whole[3])


@every_dtype
def test_broadcast_input(dtype):
    """x broadcast along the batch, with strides of zero, has the bits of its copies."""
    model, (x, _) = MODEL.layer(dtype), MODEL.data(dtype, (), 6)
    repeated = np.broadcast_to(x, (3, 2, *x.shape))
    assert_same_results(model(repeated), model(repeated.copy()))


@every_case
@every_dtype
def test_out(case, dtype):
    """out= is filled with the bits of a fresh output, whatever it held, and returned."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 6)
    expected = run(model, x, states)
    out = np.full_like(expected[0], np.nan)
    result = run(model, x, states, out=out)
    assert result[0] is out
    assert_same_results(result, expected)


@every_dtype
def test_rnn_forward_is_its_layers(dtype):
    """rnn_forward has the bits of an RNN and a Dense, with out= and without."""
    rng = np.random.default_rng(2)
    x, U, W, V, b, c, h0 = (
        rng.uniform(-0.2, 0.2, shape).astype(dtype) for shape in ((3, 6, 4), (30, 4), (30, 30), (7, 30), (30,), (7,), (3, 30))
    )
    expected = fastrnn.Dense(V, c, activation="softmax")(fastrnn.RNN(U, W, b, nonlinearity="relu")(x, h0)[0])
    out = np.empty_like(expected)
    assert fastrnn.rnn_forward(x, U, W, V, b, c=c, h0=h0, nonlinearity="relu", out=out) is out
    assert_same_bits(out, expected)
    assert_same_bits(fastrnn.rnn_forward(x, U, W, V, b, c=c, h0=h0, nonlinearity="relu"), expected)


@given(
    st.sampled_from([c for c in CASES if len(c.layers) > 1]),
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 200), min_size=5, max_size=5),
    st.integers(1, 9),
)
def test_sequential_or_layers_one_by_one(case, dtype, sizes, count):
    """A Sequential has the bits of its layers, one after the other."""
    sizes = tuple(sizes[: len(case.sizes)])
    model, (x, states) = case.layer(dtype, sizes=sizes), case.data(dtype, (count,), 5, sizes=sizes)
    output, last = x, []
    for layer in model.layers:
        output, state = run(layer, output, states[len(last) : len(last) + arrays_of(layer)])
        last.extend(state)
    assert_same_results(run(model, x, states), (output, last))


@every_causal_case
@every_dtype
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_contained(case, dtype, poison):
    """NaN or inf at one step of one sequence changes that step, no other sequence and no earlier step; NaN stays NaN to the end."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (6,), 7)
    clean = run(model, x, states)
    x[2, 4, 0] = poison
    output, last = run(model, x, states)
    others = np.arange(6) != 2
    assert_same_results(members((output, last), others), members(clean, others))
    assert_same_bits(output[2, :4], clean[0][2, :4])
    assert not np.array_equal(output[2, 4], clean[0][2, 4])
    if np.isnan(poison):
        assert np.isnan(output[2, 4:] if states else output[2, 4]).all()
    if not states:
        assert_same_bits(output[2, 5:], clean[0][2, 5:])


@every_case
@every_dtype
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_pass_through_as_in_the_reference(case, dtype, poison):
    """NaN and inf in x and in a state come out where the reference has them."""
    model, reference = case.layer(dtype), case.reference(dtype)
    for place in ("x", "state"):
        x, states = case.data(dtype, (3,), 5)
        if place == "x" or not states:
            x[1, 2, -1] = poison
        else:
            states[-1][1, 0] = poison
        with np.errstate(invalid="ignore"):
            expected = run(reference, x.astype(float), tuple(state.astype(float) for state in states))
        output, last = run(model, x, states)
        for one, other in zip((output, *last), (expected[0], *expected[1]), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1, np.abs(other[np.isfinite(other)]).max(initial=0)))


def neighbours(*arrays):
    """Copies of arrays in one piece of memory, 24 bytes or more between them, and that memory."""
    ends = np.cumsum([array.nbytes + -array.nbytes % 8 + 24 for array in arrays])
    memory = np.full(ends[-1] + 24, 0xA5, np.uint8)
    starts = [24, *(ends[:-1] + 24)]
    places = [memory[start : start + array.nbytes].view(array.dtype) for start, array in zip(starts, arrays, strict=True)]
    copies = [place.reshape(array.shape) for place, array in zip(places, arrays, strict=True)]
    for copy, array in zip(copies, arrays, strict=True):
        copy[...] = array
    return memory, copies


def assert_only_out_is_written(call, *arrays):
    """With the last array as out, and without out, the call changes no other array nor what lies between them."""
    memory, copies = neighbours(*arrays)
    before = memory.copy()
    for out in (copies[-1], None):
        call(*copies[:-1], out)
        copies[-1][...] = arrays[-1]
        assert_same_bits(memory, before)


@every_case
@every_dtype
@pytest.mark.parametrize("leading", [(), (5,)])
def test_the_callers_arrays_do_not_change(case, dtype, leading):
    """x and the states hold after a call what they held before; so does what lies beside them and beside out."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 6)
    assert_only_out_is_written(
        lambda x, *rest: run(model, x, rest[:-1], out=rest[-1]), x, *states, np.zeros((*leading, 6, case.output_size), dtype)
    )


@every_dtype
def test_the_callers_weights_do_not_change(dtype):
    """Nor do the arrays that layers are made from, or that rnn_forward is given, where they are used as they are."""
    rng = np.random.default_rng(2)
    shapes = ((3, 6, 4), (30, 4), (30, 30), (7, 30), (30,), (7,), (3, 30), (3, 6, 7))
    arrays = [uniform(rng, shape, dtype, 0.3) for shape in shapes]

    def layers(x, U, W, V, b, c, h0, out):
        rnn, head = fastrnn.RNN(U, W, b, nonlinearity="relu"), fastrnn.Dense(V, c, activation="softmax")
        head(rnn(x, h0)[0], out=out)

    assert_only_out_is_written(layers, *arrays)
    assert_only_out_is_written(lambda x, U, W, V, b, c, h0, out: fastrnn.rnn_forward(x, U, W, V, b, c=c, h0=h0, out=out), *arrays)


@every_case
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_last_states_have_their_own_memory(case, steps):
    """Last states share memory neither with the states before, nor the output, nor one another; writing to one changes nothing else."""
    model, (x, states) = case.layer(np.float64), case.data(np.float64, (3,), steps)
    output, last = run(model, x, states)
    for one in last:
        for other in (x, output, *states):
            assert not np.shares_memory(one, other)
    before = [state.copy() for state in last]
    for i in range(len(last)):
        last[i][...] = 7
        for other, kept in zip(last[i + 1 :], before[i + 1 :], strict=True):
            assert_same_bits(other, kept)


@every_dtype
def test_calls_from_threads(dtype):
    """Calls at the same time from several threads do not touch one another's work."""
    model, inputs = MODEL.layer(dtype), [MODEL.data(dtype, (3,), 300 + i, seed=i) for i in range(8)]
    alone = [model(*one) for one in inputs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, other in zip(pool.map(lambda one: model(*one), inputs), alone, strict=True):
                assert_same_results(one, other)


FASTMATH = """
import sys
import numpy as np
from numba import njit, types

from fastrnn.native import machine_code
from fastrnn.kernels.simd import elementary

@njit((types.int64, types.int64, types.int64, types.CPointer(types.float64)), fastmath=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def call(values, count, parameters, like):
    elementary.sigmoid(values, count, parameters, like)

sys.executable = ""  # so that no child can compile
from tests.test_bits import SIGMOID

np.save(sys.argv[1], SIGMOID.layer(np.float64)(SIGMOID.data(np.float64, (), 500)[0]))
assert machine_code.loaded.origins["sigmoid", "float64"] == "compiled now"
"""
SIGMOID = Case("", (("Dense", "sigmoid"),), (8, 30))  # whose bits fast arithmetic changes; those of tanh it does not


def test_a_callers_fastmath_changes_no_bits(tmp_path):
    """A caller's @njit(fastmath=True) that compiles a kernel before fastrnn compiles it in the same process lends it no flags."""
    elsewhere = dict.fromkeys(("FASTRNN_CACHE_DIR", "XDG_CACHE_HOME", "HOME"), tmp_path)
    python(FASTMATH, tmp_path / "results.npy", path=copy_package(tmp_path / "copy"), **elsewhere)
    assert_same_bits(np.load(tmp_path / "results.npy"), SIGMOID.layer(np.float64)(SIGMOID.data(np.float64, (), 500)[0]))


def test_states_not_returned():
    """rnn_forward goes through a large batch in pieces, each from its own part of h0."""
    rng = np.random.default_rng(0)
    U, W, V = (uniform(rng, shape, np.float32, 0.1) for shape in ((64, 40), (64, 64), (3, 64)))
    x, h0 = uniform(rng, (3, 700, 30, 40), np.float32, 1.0), uniform(rng, (3, 700, 64), np.float32, 1.0)
    probs, _ = fastrnn.Sequential(fastrnn.RNN(U, W), fastrnn.Dense(V, activation="softmax"))(x, h0)
    assert_same_bits(fastrnn.rnn_forward(x, U, W, V, np.zeros(64, np.float32), h0=h0), probs)
    assert_same_bits(fastrnn.rnn_forward(x.swapaxes(0, 1), U, W, V, np.zeros(64, np.float32), h0=h0.swapaxes(0, 1)), probs.swapaxes(0, 1))
