"""fastrnn equals the float64 reference."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import reference

from .cases import CASES, DTYPES, MODEL, Case, assert_close, assert_same_bits, assert_same_results, case_named, nested, run, uniform
from .exhaustive import exhaustive, few, few_cases

NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity", "hard_sigmoid", "softsign", ("leaky_relu", 0.01), ("hard_sigmoid", 0.2, 0.5))
ACTIVATIONS = (*NONLINEARITIES, "softplus", ("elu", 1.0), "softmax", "log_softmax")

sizes = st.one_of(st.integers(1, 40), st.integers(1, 300), st.sampled_from([1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 257, 300]))
leading_axes = st.lists(st.integers(1, 5), max_size=3).map(tuple)
dtypes = st.sampled_from(DTYPES)


def check(case, dtype, leading, steps, seed=0, sizes=None):
    x, states = case.data(dtype, leading, steps, sizes=sizes, seed=seed + 1)
    output, last = run(case.layer(dtype, sizes=sizes, seed=seed), x, states)
    expected, expected_last = run(case.reference(dtype, sizes=sizes, seed=seed), x.astype(float), tuple(s.astype(float) for s in states))
    assert_close(output, expected, dtype)
    for one, other in zip(last, expected_last, strict=True):
        assert_close(one, other, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("leading", "steps"), [((), 1), ((), 37), ((1,), 4), ((3,), 5), ((2, 1, 5), 6), ((70,), 3)])
def test_every_case(case, dtype, leading, steps):
    """Output and last states equal the reference for every row of the table, alone and in batches."""
    check(case, dtype, leading, steps)


@given(sizes, sizes, st.sampled_from(NONLINEARITIES), dtypes, leading_axes, st.integers(1, 12), st.integers(0, 99))
def test_rnn_of_any_size(inputs, hidden, nonlinearity, dtype, leading, steps, seed):
    """An RNN of any size up to 300 equals the reference."""
    check(Case("", (("RNN", nonlinearity),), (inputs, hidden)), dtype, leading, steps, seed)


@given(sizes, st.integers(1, 500), st.sampled_from(ACTIVATIONS), dtypes, leading_axes, st.integers(1, 12), st.integers(0, 99))
def test_dense_of_any_size(inputs, outputs, activation, dtype, leading, steps, seed):
    """A Dense of any size up to 500 outputs equals the reference."""
    check(Case("", (("Dense", activation),), (inputs, outputs)), dtype, leading, steps, seed)


@given(st.lists(sizes, min_size=3, max_size=3), st.integers(1, 500), dtypes, leading_axes, st.integers(1, 12), st.integers(0, 99))
def test_sequential_of_any_size(widths, outputs, dtype, leading, steps, seed):
    """Three layers of any sizes equal the reference."""
    check(MODEL, dtype, leading, steps, seed, sizes=(*widths, outputs))


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_sizes(dtype):
    """H = 300 and O = 500 over 200 steps stay within the tolerance."""
    check(Case("", (("RNN", "tanh"), ("Dense", "softmax")), (41, 300, 500)), dtype, (5,), 200)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [(3, 2, 100_003), (2, 1500, 3), (5, 1, 40_007)])
def test_rows_wider_than_the_workspace(dtype, widths):
    """Layers whose rows fill more than the usual workspace equal the reference, in batches too."""
    check(Case("", (("RNN", "tanh"), ("Dense", "log_softmax")), widths), dtype, (5,), 3)


@given(sizes, sizes, st.integers(1, 500), st.sampled_from(NONLINEARITIES), dtypes, leading_axes, st.booleans())
def test_rnn_forward(inputs, hidden, outputs, nonlinearity, dtype, leading, full):
    """rnn_forward equals the reference, with and without c and h0."""
    rng = np.random.default_rng(hidden)
    shapes = ((*leading, 6, inputs), (hidden, inputs), (hidden, hidden), (outputs, hidden), (hidden,))
    arguments = [uniform(rng, shape, dtype, hidden**-0.5) for shape in shapes]
    options = {"c": uniform(rng, outputs, dtype, 1.0), "h0": uniform(rng, (*leading, hidden), dtype, 1.0)} if full else {}
    expected = reference.rnn_forward(
        *(a.astype(float) for a in arguments), nonlinearity=nonlinearity, **{name: a.astype(float) for name, a in options.items()}
    )
    assert_close(fastrnn.rnn_forward(*arguments, nonlinearity=nonlinearity, **options), expected, dtype)


@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize(
    ("count", "steps"), [(330, 50), pytest.param(11_000, 5, marks=exhaustive), pytest.param(110, 500, marks=exhaustive)]
)
@pytest.mark.parametrize("with_h0", [True, False])
def test_rnn_forward_in_many_pieces(dtype, count, steps, with_h0):
    """Many pieces of work, 0.7 or 2.4 thousand million multiplications: each sequence begins at its own h0, or at zero, in each."""
    rng = np.random.default_rng(3)
    shapes = ((count, steps, 8), (200, 8), (200, 200), (3, 200), (200,))
    arguments, h0 = [uniform(rng, shape, dtype, 200**-0.5) for shape in shapes], uniform(rng, (count, 200), dtype, 0.9)
    states = ({"h0": h0}, {"h0": h0.astype(float)}) if with_h0 else ({}, {})
    expected = reference.rnn_forward(*(a.astype(float) for a in arguments), **states[1])
    assert_close(fastrnn.rnn_forward(*arguments, **states[0]), expected, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("leading", [(), (3,), (0,), (2, 0, 4)])
def test_nothing_to_do(case, leading):
    """T = 0 gives an empty output and the states as they came; an empty batch gives empty results."""
    for steps in (0, 4) if 0 in leading else (0,):
        x, states = case.data(np.float32, leading, steps)
        output, last = run(case.layer(np.float32), x, states)
        assert output.shape == (*leading, steps, case.output_size)
        assert output.dtype == np.float32
        for one, other in zip(last, states, strict=True):
            assert_same_bits(one, other)


def test_no_state_means_zeros():
    """None, a tuple of None and zeros are the same state, and a state that is left out is the last one's only difference."""
    model = MODEL.layer(np.float64)
    x, states = MODEL.data(np.float64, (3,), 5)
    zeros = tuple(np.zeros_like(state) for state in states)
    for state in (None, (None, None), [None, zeros[1]]):
        assert_same_bits(model(x, state)[0], model(x, zeros)[0])
    expected = MODEL.reference(np.float64)(x, (zeros[0], states[1]))
    assert_close(model(x, (None, states[1]))[0], expected[0], np.float64)


def test_bare_state():
    """A Sequential with one recurrent layer takes its state bare, in a tuple or in a list."""
    case = case_named("rnn-softmax")
    x, (state,) = case.data(np.float32, (2,), 5)
    model = case.layer(np.float32)
    for given_state in ((state,), [state]):
        assert_same_bits(model(x, given_state)[0], model(x, state)[0])
    assert_close(model(x, state)[0], case.reference(np.float32)(x.astype(float), (state.astype(float),))[0], np.float32)


@given(sizes, st.sampled_from(NONLINEARITIES), dtypes, st.integers(0, 99))
def test_permuted_units(hidden, nonlinearity, dtype, seed):
    """Permuting the hidden units permutes the output."""
    rng = np.random.default_rng(seed)
    weight_ih, weight_hh, bias = (uniform(rng, shape, dtype, hidden**-0.5) for shape in ((hidden, 5), (hidden, hidden), (hidden,)))
    x, h0, order = uniform(rng, (3, 7, 5), dtype, 1.0), uniform(rng, (3, hidden), dtype, 1.0), rng.permutation(hidden)
    output, h_n = fastrnn.RNN(weight_ih, weight_hh, bias, nonlinearity=nonlinearity)(x, h0)
    permuted = fastrnn.RNN(weight_ih[order], weight_hh[np.ix_(order, order)], bias[order], nonlinearity=nonlinearity)(x, h0[:, order])
    assert_close(permuted[0], output[..., order].astype(float), dtype)
    assert_close(permuted[1], h_n[..., order].astype(float), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.bool_, np.float16, np.float32, np.float64, np.longdouble])
def test_input_of_other_dtypes(dtype, kind):
    """Boolean and floating x and states of any width are converted to the weights' dtype."""
    x, states = MODEL.data(np.float64, (3,), 5)
    x, states = (x > 0 if kind is np.bool_ else x).astype(kind), tuple(state.astype(kind) for state in states)
    output, last = MODEL.layer(dtype)(x, states)
    converted, expected = MODEL.layer(dtype)(x.astype(dtype), tuple(state.astype(dtype) for state in states))
    assert_same_bits(output, converted)
    assert_same_bits(last[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint16, np.int64, np.uint64, list])
@pytest.mark.parametrize("case", few_cases(CASES), ids=lambda case: case.name)
def test_integers_are_numbers(case, dtype, kind):
    """Integers given to a layer or a model without an Embedding are the numbers they are, with lengths and in streams too."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 5)
    numbers = np.rint(np.abs(x) * (1 if kind is np.bool_ else 9))
    given_x = numbers.astype(int).tolist() if kind is list else numbers.astype(kind)
    expected = run(model, numbers.astype(dtype), states)
    assert_same_results(run(model, given_x, states), expected)
    if states:
        last = run(model, numbers.astype(dtype), states, lengths=[5, 0, 2], return_sequences=False)
        assert_same_results(run(model, given_x, states, lengths=[5, 0, 2], return_sequences=False), last)
    if case.causal:
        stream = model.stream(nested(model, states) if states else None)
        assert_same_bits(stream(given_x), expected[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("case", [case_named("rnn-tanh"), case_named("rnn-softmax")], ids=lambda case: case.name)
def test_states_of_other_dtypes(case, dtype, kind):
    """A state of any width, beside x of the layer's own dtype, has the bits of the converted one."""
    model, (x, (state,)) = case.layer(dtype), case.data(np.float64, (3,), 5)
    x, state = x.astype(dtype), state.astype(kind)
    assert_same_results(run(model, x, (state,)), run(model, x, (state.astype(dtype),)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, np.bool_])
def test_rnn_forward_converts_integers(dtype, kind):
    """rnn_forward takes integer x as the numbers it holds, as NumPy would."""
    rng = np.random.default_rng(4)
    weights = [uniform(rng, shape, dtype, 0.4) for shape in ((6, 3), (6, 6), (4, 6), (6,))]
    x = rng.integers(0, 2, (5, 3)).astype(kind)
    assert_same_bits(fastrnn.rnn_forward(x, *weights), fastrnn.rnn_forward(x.astype(dtype), *weights))


@pytest.mark.usefixtures("piece_by_piece")
@pytest.mark.parametrize(("dtype", "other"), [(np.float32, np.float64), (np.float64, np.float32), (np.float64, np.float16)])
def test_special_numbers_of_other_dtypes(dtype, other):
    """NaN and infinity in an x or an h0 that is converted are what they were."""
    rnn = fastrnn.RNN(*np.ones((2, 1, 1), dtype), nonlinearity="identity")
    special = np.array([np.nan, np.inf, -np.inf, 3], other).reshape(4, 1, 1)
    for x, h0 in ((special, None), (np.zeros_like(special), special[:, 0]), (special.astype(dtype), np.zeros((4, 1), other))):
        np.testing.assert_array_equal(rnn(x, h0)[0], special)


def test_out_of_range_becomes_inf():
    """A float64 value beyond float32's range is inf to a float32 layer, in x and in h0, without a warning."""
    rnn = fastrnn.RNN(*np.full((2, 2, 2), 0.25, np.float32), nonlinearity="relu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_x, _ = rnn(np.array([[1e300, 0.0], [1.0, 2.0]]))
        from_h0, _ = rnn(np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([0.0, 1e40]))
    assert_same_bits(from_x, np.full((2, 2), np.inf, np.float32))
    assert_same_bits(from_h0, np.full((2, 2), np.inf, np.float32))


def test_weights_in_lists_out_of_range():
    """A list's number beyond the range of the arrays beside it becomes inf, without a warning or an error of NumPy's."""
    with np.errstate(all="raise"):
        dense = fastrnn.Dense(np.float32([[0.5, 0.25], [0.5, 0.25]]), [1e300, 1e-300])
        rnn = fastrnn.RNN([[1e300]], np.float32([[0.5]]), [-1e300])
    assert_same_bits(dense.bias, np.float32([np.inf, 0]))
    assert_same_bits(dense(np.ones((1, 2))), np.float32([[np.inf, 0.75]]))
    assert_same_bits(np.array([rnn.weight_ih[0, 0], rnn.bias[0]]), np.float32([np.inf, -np.inf]))


def test_weights_as_lists():
    """Lists take the arrays' dtype, and all lists are float64."""
    weight_ih, weight_hh, bias = [[1, 0.1], [0, 2]], [[0.1, 0], [0.3, 0.2]], [0.5, 1]
    for dtype in DTYPES:
        arrays = [np.array(weight, dtype) for weight in (weight_ih, weight_hh, bias)]
        mixed = fastrnn.RNN(weight_ih, arrays[1], bias)
        assert mixed.dtype == dtype
        assert_same_bits(mixed(np.ones((3, 2)))[0], fastrnn.RNN(*arrays)(np.ones((3, 2)))[0])
    assert fastrnn.RNN(weight_ih, weight_hh, bias).dtype == np.float64
    assert_same_bits(fastrnn.RNN(weight_ih, weight_hh, bias)(np.ones((3, 2)))[0], fastrnn.RNN(*arrays)(np.ones((3, 2)))[0])


def test_data_as_lists():
    """x and h0 may be nested lists of floats."""
    rnn = case_named("rnn-one").layer(np.float64)
    assert_same_bits(rnn([[0.5, 0.25], [1.0, -1.0]], [0.5])[0], rnn(np.array([[0.5, 0.25], [1.0, -1.0]]), np.array([0.5]))[0])


def test_weights_of_any_layout():
    """Fortran-ordered, byte-swapped and strided weights mean the same numbers."""
    rng = np.random.default_rng(8)
    weight_ih, weight_hh, bias = (rng.uniform(-0.3, 0.3, shape) for shape in ((9, 4), (9, 9), (9,)))
    expected = fastrnn.RNN(weight_ih, weight_hh, bias)(np.ones((3, 4)))[0]
    for change in (np.asfortranarray, lambda w: w.astype(w.dtype.newbyteorder("S")), lambda w: np.repeat(w, 2, axis=0)[::2]):
        assert_same_bits(fastrnn.RNN(change(weight_ih), change(weight_hh), change(bias))(np.ones((3, 4)))[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_errstate_and_signalling_nan(dtype):
    """NumPy's own error state has no say: what is tiny becomes zero, and a signalling NaN a NaN."""
    rnn = fastrnn.RNN(np.eye(2, dtype=dtype), np.eye(2, dtype=dtype))
    x = np.array([[1e-320, 0.5], [0, 0.25]])
    x.view(np.uint64)[1, 0] = 0x7FF0000000000001
    with np.errstate(all="raise"):
        output, _ = rnn(x, np.array([1e-320, 0]))
    assert np.isfinite(output[0]).all()
    assert np.isnan(output[1]).any()


def test_integer_state():
    """A state of integers is converted as NumPy would."""
    rnn = fastrnn.RNN(np.eye(2), np.eye(2))
    x = np.ones((3, 2))
    np.testing.assert_array_equal(rnn(x, [1, -2])[0], rnn(x, np.array([1.0, -2.0]))[0])
