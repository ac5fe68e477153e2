"""Tokens, sequences of different lengths, many-to-one, and the probabilities of sequences."""

import copy
import itertools
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn

from .cases import DTYPES, MODEL, READERS, TABLES, Case, assert_same_bits, assert_same_results, case_named, nested, run
from .exhaustive import few, few_cases
from .process import PACKAGE, python
from .situations import ALL, CAUSAL, CAUSAL_READERS, TELLERS, TIMED, assert_equals_reference, exact, often, situations

pytestmark = pytest.mark.usefixtures("piece_by_piece")
every_reader = pytest.mark.parametrize("case", READERS, ids=lambda case: case.name)
every_timed_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
some_timed_cases = pytest.mark.parametrize("case", few_cases(ALL), ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
# 20,000 steps are many chunks of workspace, of converted input and of work
LONG = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (40, 60, 40))
ONE_HOT = replace(LONG, one_hot=True)
TABLE = Case("", (("Embedding", None), ("RNN", "tanh"), ("Dense", "softmax")), (40, 70, 60, 40), looked_up=True)
every_long = pytest.mark.parametrize("case", [ONE_HOT, TABLE], ids=["one-hot", "table"])


def member(states, index):
    return tuple(state[index] for state in states)


def last_valid(output, lengths):
    """(..., O) from (..., T, O), row by row."""
    last = np.zeros((*output.shape[:-2], output.shape[-1]), output.dtype)
    for index in np.ndindex(lengths.shape):
        if lengths[index]:
            last[index] = output[index][lengths[index] - 1]
    return last


def vectors(model, tokens):
    """The table's rows, or the one-hot vectors, that a model's tokens stand for; and the model without its Embedding."""
    embedding, *layers = model.layers
    table = np.eye(embedding.input_size, dtype=model.dtype) if embedding.weight is None else embedding.weight
    return fastrnn.Sequential(*layers, *([] if layers else [fastrnn.Dense(np.eye(table.shape[1], dtype=model.dtype))])), table[tokens]


@often
@given(situations(READERS))
def test_tokens_equal_the_reference(s):
    """Tokens are their table's rows, or one-hot vectors."""
    assert_equals_reference(s, s.x)


@often
@given(situations(READERS), st.booleans(), st.booleans())
def test_tokens_are_their_vectors(s, bounded, return_sequences):
    """Tokens have the bits of the vectors that they stand for, in a model without the Embedding, with lengths and without."""
    options = {"lengths": s.lengths if bounded else None, "return_sequences": return_sequences}
    other, x = vectors(s.model, s.x)
    assert_same_results(run(s.model, s.x, s.states, **options), run(other, x, s.states, **options))


@every_reader
@every_dtype
@pytest.mark.parametrize("count", [1, 5, 64, 67])
def test_tokens_are_their_vectors_in_batches(case, dtype, count):
    """However many sequences are stepped together, tokens have the bits of their vectors, and each sequence those it has alone."""
    model, (tokens, states) = case.layer(dtype), case.data(dtype, (count,), 3)
    together, (other, x) = run(model, tokens, states), vectors(model, tokens)
    assert_same_results(together, run(other, x, states))
    for n in range(count):
        assert_same_results(run(model, tokens[n], member(states, n)), (together[0][n], member(together[1], n)))


@every_dtype
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, -0.0, 0.0])
def test_special_numbers_in_a_table(dtype, special):
    """Infinities, NaN and zeros of either sign come out of a table as from vectors, be it multiplied with the next weights or not."""
    table, weight = np.full((3, 2), special, dtype), np.array([[1, -2], [0, 0], [-1, 1]], dtype)
    for bias in (None, np.zeros(3, dtype), np.full(3, -0.0, dtype)):
        dense = fastrnn.Dense(weight, bias)
        expected = dense(table[[2, 0]])
        models = [fastrnn.Sequential(fastrnn.Embedding(table), dense) for _ in range(2)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fastrnn.layers.sequential, "FOLDED", 0)
            models[0].predict([0])
        for model, layers in zip(models, (2, 1), strict=True):
            assert_same_bits(np.signbit(model.predict([2, 0])), np.signbit(expected))
            assert_same_bits(model.predict([2, 0]), expected)
            assert len(model.packed().layers) == layers


@every_dtype
@every_long
@pytest.mark.parametrize("cut", few([1, 777, 19_999], 777))
def test_long_tokens(dtype, case, cut):
    """Long sequences of tokens, whole or resumed at a cut, have the bits of their vectors."""
    model, (tokens, states) = case.layer(dtype), case.data(dtype, (2,), 20_000)
    other, x = vectors(model, tokens)
    whole = other(x, states)
    assert_same_results(model(tokens, states), whole)
    first, between = model(tokens[:, :cut], states)
    second, last = model(tokens[:, cut:], between)
    assert_same_results((np.concatenate([first, second], axis=1), last), whole)


TOKEN_LAYOUTS = {
    "int8": lambda tokens: tokens.astype(np.int8),
    "uint8": lambda tokens: tokens.astype(np.uint8),
    "int32": lambda tokens: tokens.astype(np.int32),
    "uint64": lambda tokens: tokens.astype(np.uint64),
    "byte-swapped": lambda tokens: tokens.astype(">i4"),
    "fortran": np.asfortranarray,
    "strided": lambda tokens: np.repeat(tokens, 2, axis=-1)[..., ::2],
    "reversed": lambda tokens: tokens[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "time first": lambda tokens: np.moveaxis(np.moveaxis(tokens, -1, 0).copy(), 0, -1),
    "list": np.ndarray.tolist,
}


DEEP = next(case for case in TABLES if case.name == "table-rnn-rnn-softmax")


@every_dtype
@pytest.mark.parametrize("change", TOKEN_LAYOUTS.values(), ids=TOKEN_LAYOUTS)
def test_tokens_of_any_layout(dtype, change):
    """Tokens of any integer dtype and any layout, or in lists, have the same bits."""
    for case in (replace(MODEL, one_hot=True), DEEP, replace(DEEP, looked_up=True)):
        model, (tokens, states) = case.layer(dtype), case.data(dtype, (2, 3), 5)
        assert_same_results(model(change(tokens), states), model(tokens, states))
        assert_same_bits(fastrnn.Embedding(model.layers[1].weight_ih.T)(change(tokens)), model.layers[1].weight_ih.T[tokens])


@often
@given(situations(ALL), st.booleans())
def test_lengths_equal_the_reference(s, return_sequences):
    """Lengths, tokens and return_sequences, in any combination, give the reference's results."""
    assert_equals_reference(s, s.x, lengths=s.lengths, return_sequences=return_sequences)


@often
@given(situations(ALL, steps=20))
def test_each_sequence_as_if_alone(s):
    """Up to its own length a sequence has the bits it has alone, and zeros after; its last state is its own."""
    x, states, lengths = s.x, s.states, s.lengths
    output, last = run(s.model, x, states, lengths=lengths)
    for i in s.members():
        alone = run(s.model, x[i][: lengths[i]], member(states, i))
        assert_same_results((output[i][: lengths[i]], member(last, i)), alone)
        assert not output[i][lengths[i] :].any()


@some_timed_cases
@every_dtype
@pytest.mark.parametrize("count", [3, 64, 150])
def test_large_batches_of_lengths(case, dtype, count):
    """Nor does it matter how many sequences there are, or in which order their lengths come."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (count,), 12)
    lengths = np.random.default_rng(5).geometric(0.3, count).clip(0, 12) * (np.arange(count) % 7 > 0)
    output, last = run(model, x, states, lengths=lengths)
    for n, length in enumerate(lengths):
        alone = run(model, x[n, :length], member(states, n))
        assert_same_results((output[n, :length], member(last, n)), alone)
        assert not output[n, length:].any()


@every_dtype
@pytest.mark.parametrize("given_dtype", [np.float32, np.float64, np.int8, np.int64])
def test_batches_of_many_pieces(dtype, given_dtype):
    """A batch that is worked through in many kernel calls is, up to the ends, what it is without lengths."""
    case = TABLE if given_dtype is np.int8 else ONE_HOT if given_dtype is np.int64 else LONG
    model, (x, states) = case.layer(dtype), case.data(dtype, (30, 100), 5)
    x = x.astype(given_dtype)
    lengths = np.random.default_rng(8).integers(0, 6, (30, 100))
    full, (expected,) = model(x, states)[0], states
    for steps in range(1, 6):
        expected = np.where(lengths[..., None] == steps, model(x[:, :, :steps], states)[1][0], expected)
    output = np.where(np.arange(5)[:, None] < lengths[..., None, None], full, 0)
    assert_same_results(model(x, states, lengths=lengths), (output, (expected,)))
    assert_same_results(model(x, states, lengths=lengths, return_sequences=False), (last_valid(full, lengths), (expected,)))


@often
@given(situations(READERS), st.sampled_from([-1, 2**62, -(2**62)]), st.booleans())
def test_tokens_past_the_ends_may_be_out_of_range(s, wrong, return_sequences):
    """What lies past the ends, be it no token at all, is accepted and changes no bit."""
    options = {"lengths": s.lengths, "return_sequences": return_sequences}
    tokens = np.where(np.arange(s.steps) < s.lengths[..., None], s.x, wrong)
    assert_same_results(run(s.model, tokens, s.states, **options), run(s.model, s.x, s.states, **options))


CHANGED = """
import contextlib, threading
import numpy as np
import fastrnn

class Writes:
    "An array-like that writes tokens when it is read."

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        tokens[...] = wrong
        return self.value

def later(seconds):
    timer = threading.Timer(seconds, Writes(0).__array__)
    timer.start()
    return timer

weights = [np.random.default_rng(0).uniform(-0.1, 0.1, shape).astype(np.float32) for shape in ((64, 30), (64, 64), (30, 64))]
layers = fastrnn.RNN(*weights[:2]), fastrnn.Dense(weights[2], activation="softmax")
model = fastrnn.Sequential(fastrnn.Embedding{embedding}, *layers)
model(np.zeros((2, 2), int)), fastrnn.log_likelihood(model, np.zeros((2, 2), int), lengths=[1, 2])  # compile
for wrong in (2**40, -(2**40)):
    tokens = np.zeros((2, {steps}), int)
    with contextlib.suppress(ValueError):
        {call}
    assert (tokens == wrong).all()
"""


def until_written(call):
    """Make a call again and again, while a thread waits to write: most likely it does so in the middle of one."""
    return f"""timer = later(0.03)
        while timer.is_alive():
            with contextlib.suppress(ValueError):
                {call}"""


CHANGES = {
    "a state": (500, "assert np.isfinite(model(tokens, Writes(np.zeros((2, 64))))[0]).all()"),
    "lengths": (500, "assert np.isfinite(model(tokens, lengths=Writes(np.array([500, 3])))[0]).all()"),
    "a state, scored": (500, "assert np.isfinite(fastrnn.log_likelihood(model, tokens, Writes(np.zeros((2, 64))))).all()"),
    "a state, alone": (500, "assert np.isfinite(model(tokens, Writes(np.zeros((2, 64))), return_sequences=False)[0]).all()"),
    "a thread": (1_000_000, until_written("model(tokens, return_sequences=False)")),
    "a thread, scored": (1_000_000, until_written("fastrnn.log_likelihood(model, tokens)")),
}


@pytest.mark.parametrize("embedding", few([".one_hot(30)", "(np.eye(30, dtype=np.float32))"], "(np.eye(30, dtype=np.float32))"))
@pytest.mark.parametrize("change", few(CHANGES, "lengths", "a state, scored", "a thread"))
def test_tokens_that_change_after_they_were_checked(change, embedding):
    """Tokens that an argument's __array__ or a thread makes wrong, after they were found right, are never read out of bounds."""
    steps, call = change
    python(CHANGED.format(steps=steps, call=call, embedding=embedding))


@every_dtype
@some_timed_cases
def test_other_lengths(case, dtype):
    """A model called again, with x of the same shape and other lengths or none, gives what one gives that is called for the first time."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (5,), 6)
    for lengths in ([3, 2, 1, 1, 3], [0, 6, 0, 5, 1], [6, 6, 1, 4, 6], [6, 2, 6, 6, 3], [3, 2, 1, 0, 3], [0] * 5, [6] * 5):
        x = np.roll(x, 1, axis=0)
        for options in ({"lengths": lengths}, {"lengths": lengths, "return_sequences": False}, {"out": None}):
            assert_same_results(run(model, x, states, **options), run(case.layer(dtype), x, states, **options))


@every_dtype
def test_long_lengths(dtype):
    """Sequences that end within different chunks of a long run have the bits they have alone."""
    model, (x, states) = LONG.layer(dtype), LONG.data(dtype, (6,), 12_000)
    lengths = np.array([12_000, 1, 0, 11_999, 5_000, 777])
    output, last = run(model, x, states, lengths=lengths)
    for n, length in enumerate(lengths):
        assert_same_results((output[n, :length], member(last, n)), run(model, x[n, :length], member(states, n)))
        assert not output[n, length:].any()


@often
@given(situations(TIMED), st.sampled_from([np.nan, np.inf, 1e300]), st.booleans())
def test_padding_is_not_read(s, poison, return_sequences):
    """What lies past the ends, be it NaN, changes no bit."""
    x, options = s.x.astype(np.float64), {"lengths": s.lengths, "return_sequences": return_sequences}
    poisoned = np.where(np.arange(s.steps)[:, None] < s.lengths[..., None, None], x, poison)
    assert_same_results(run(s.model, poisoned, s.states, **options), run(s.model, x, s.states, **options))


@often
@given(situations(ALL, steps=6), st.sampled_from([np.int8, np.uint16, np.int64, np.uint64, list]))
def test_full_lengths(s, kind):
    """Lengths of T, in any integer dtype or in lists, change nothing."""
    lengths = np.full(s.leading, s.steps)
    given_lengths = lengths.tolist() if kind is list else lengths.astype(kind)
    assert_same_results(run(s.model, s.x, s.states, lengths=given_lengths), run(s.model, s.x, s.states))


@often
@given(situations([*CAUSAL, *CAUSAL_READERS]))
def test_last_step_only(s):
    """return_sequences=False gives the bits of the output at each sequence's last step, and the same states."""
    x = s.x
    for lengths, ends in ((s.lengths, s.lengths), (None, np.full(s.leading, s.steps))):
        output, states = run(s.model, x, s.states, lengths=lengths)
        last = run(s.model, x, s.states, lengths=lengths, return_sequences=False)
        assert_same_results(last, (last_valid(output, ends), states))


def test_a_model_that_gives_the_last_step():
    """A model's own return_sequences holds for calls that aren't told, and for nothing else; copies and the reference have it too."""
    layers = fastrnn.RNN(np.eye(3, 2), 0.5 * np.eye(3)), fastrnn.Dense(np.ones((4, 3)), activation="softmax")
    whole, model = fastrnn.Sequential(*layers), fastrnn.Sequential(*layers, return_sequences=False)
    x = np.random.default_rng(0).normal(size=(5, 7, 2))
    output, states = whole(x)
    for one in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_same_results(one(x), (output[:, -1], states))
        assert_same_results(one(x[0]), (output[0, -1], (states[0][0],)))
        assert_same_results(one(x, return_sequences=True), (output, states))
        assert_same_bits(one.predict(x, lengths=[7, 0, 3, 7, 7]), whole.predict(x, lengths=[7, 0, 3, 7, 7], return_sequences=False))
        assert_same_bits(one.stream()(x[0]), output[0])
        assert repr(one) == repr(whole)[:-1] + ", return_sequences=False)"
        assert not one.return_sequences
        assert whole.return_sequences
    reference = fastrnn.reference.Sequential(
        fastrnn.reference.RNN(np.eye(3, 2), 0.5 * np.eye(3)),
        fastrnn.reference.Dense(np.ones((4, 3)), activation="softmax"),
        return_sequences=False,
    )
    np.testing.assert_allclose(reference(x)[0], output[:, -1], rtol=1e-12)


@every_dtype
@pytest.mark.parametrize("lengths", [None, [20_000, 3]])
def test_last_of_long_sequences(dtype, lengths):
    """The last step of a long run has the bits it has in the whole output."""
    model, (x, states) = LONG.layer(dtype), LONG.data(dtype, (2,), 20_000)
    output, last = model(x, states, lengths=lengths)
    expected = last_valid(output, np.array(lengths or [20_000, 20_000]))
    assert_same_results(model(x, states, lengths=lengths, return_sequences=False), (expected, last))


@some_timed_cases
@pytest.mark.parametrize("leading", [(), (3,), (0,), (2, 0)])
def test_nothing_to_do(case, leading):
    """No steps, or no sequences, give zeros or nothing, and the states as they came."""
    steps = 4 if 0 in leading else 0
    x, states = case.data(np.float32, leading, steps)
    for options in ({}, {"lengths": np.zeros(leading, int)}):
        output = np.zeros((*leading, steps, case.output_size), np.float32)
        assert_same_results(run(case.layer(np.float32), x, states, **options), (output, states))
        last = np.zeros((*leading, case.output_size), np.float32)
        assert_same_results(run(case.layer(np.float32), x, states, return_sequences=False, **options), (last, states))


@every_timed_case
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("lengths", [None, [2, 0, 5]])
def test_out(case, return_sequences, lengths):
    """out= is filled with the bits of a fresh output, zeros past the ends too, whatever it held."""
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (3,), 5)
    options = {"lengths": lengths, "return_sequences": return_sequences}
    expected = run(model, x, states, **options)
    out = np.full_like(expected[0], np.nan)
    result = run(model, x, states, out=out, **options)
    assert result[0] is out
    assert_same_results(result, expected)


@every_timed_case
def test_the_callers_arrays_do_not_change(case):
    """x, lengths and states hold after a call what they held before."""
    x, states = case.data(np.float64, (3,), 5)
    arrays = [x, np.array([2, 0, 5]), *states]
    before = [array.copy() for array in arrays]
    for return_sequences in (True, False):
        run(case.layer(np.float64), arrays[0], states, lengths=arrays[1], return_sequences=return_sequences)
    for one, other in zip(arrays, before, strict=True):
        assert_same_bits(one, other)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=7), st.integers(1, 4), st.sampled_from(DTYPES), st.integers(0, 99))
def test_pad_vectors(lengths, size, dtype, seed):
    """pad puts each (T_i, I) at the start of its row, zeros after it, and tells the lengths; unpad takes them out again."""
    sequences = [np.random.default_rng(seed).normal(size=(length, size)).astype(dtype) for length in lengths]
    x, given_lengths = fastrnn.pad(sequences)
    assert x.shape == (len(lengths), max(lengths), size)
    np.testing.assert_array_equal(given_lengths, lengths)
    for row, sequence in zip(x, sequences, strict=True):
        assert_same_bits(row, np.concatenate([sequence, np.zeros((len(row) - len(sequence), size), dtype)]))
    for one, other in zip(fastrnn.unpad(x, given_lengths), sequences, strict=True):
        assert_same_bits(one, other)


@given(st.lists(st.lists(st.integers(0, 200), max_size=6), min_size=1, max_size=7), st.booleans())
def test_pad_tokens(sequences, arrays):
    """Lists or arrays of tokens are padded to integers, empty ones too."""
    x, lengths = fastrnn.pad([np.array(tokens, np.int64) for tokens in sequences] if arrays else sequences)
    assert x.dtype.kind == "i"
    assert x.shape == (len(sequences), max(map(len, sequences)))
    assert [row[:length].tolist() for row, length in zip(x, lengths, strict=True)] == sequences
    assert all(not row[length:].any() for row, length in zip(x, lengths, strict=True))
    assert [one.tolist() for one in fastrnn.unpad(x, lengths)] == sequences


def test_pad_an_empty_list_among_vectors():
    """An empty list is a sequence of no vectors: it has no say in the dtype."""
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    for sequences, rows in (([vectors, []], (0, 1)), ([[], vectors], (1, 0))):
        x, lengths = fastrnn.pad(sequences)
        expected = np.zeros((2, 2, 3), np.float32)
        expected[rows[0]] = vectors
        assert_same_bits(x, expected)
        assert lengths.tolist() == [2 * (row == rows[0]) for row in (0, 1)]


@often
@given(situations(ALL))
def test_unpad_leading_axes(s):
    """unpad gives a flat list, in C order, of copies as long as their lengths."""
    output, lengths = run(s.model, s.x, s.states)[0], s.lengths
    pieces = fastrnn.unpad(output, lengths)
    for piece, i in zip(pieces, s.members(), strict=True):
        assert_same_bits(piece, output[i][: lengths[i]])
        assert not np.shares_memory(piece, output)


@often
@given(situations(TELLERS, closed=True), st.booleans(), st.booleans())
def test_log_likelihood_equals_the_reference(s, bounded, per_step):
    """log P(x_2..x_T | x_1), as a sum or step by step, with lengths and without."""
    options = {"lengths": s.lengths if bounded else None, "per_step": per_step}
    actual = fastrnn.log_likelihood(s.model, s.x, nested(s.model, s.states), **options)
    expected = fastrnn.reference.log_likelihood(s.reference, s.x, nested(s.model, exact(s.states)) or None, **options)
    assert np.shape(actual) == np.shape(expected)
    assert actual.dtype == (s.dtype if per_step else np.float64)
    bound = {np.float32: 1e-5, np.float64: 1e-12}[s.dtype] * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@often
@given(situations(TELLERS, closed=True), st.booleans())
def test_log_likelihood_alone_or_in_a_batch(s, per_step):
    """A sequence of a padded batch has the bits it has alone, whatever tokens lie past its end, and zeros there."""
    tokens, states, lengths = s.x, s.states, s.lengths
    together = fastrnn.log_likelihood(s.model, tokens, nested(s.model, states), lengths=lengths, per_step=per_step)
    for i in s.members():
        alone = fastrnn.log_likelihood(s.model, tokens[i][: lengths[i]], nested(s.model, member(states, i)), per_step=per_step)
        if per_step:
            alone = np.concatenate([alone, np.zeros(together[i].size - alone.size, s.dtype)])
        assert_same_bits(np.asarray(together[i]), np.asarray(alone))


@pytest.mark.parametrize("case", TELLERS, ids=lambda case: case.name)
@every_dtype
@pytest.mark.parametrize("length", [2, 9, 130, 200])
def test_log_likelihood_of_much_padding(case, dtype, length):
    """A sum has the same bits whether 150 tokens of padding follow or none: zeros in other places regroup no terms."""
    model, tokens = case.layer(dtype), np.random.default_rng(length).integers(0, case.sizes[0], (20, length + 150))
    padded = fastrnn.log_likelihood(model, tokens, lengths=np.full(20, length))
    assert_same_bits(padded, fastrnn.log_likelihood(model, tokens[:, :length]))
    for row, score in zip(tokens, padded, strict=True):
        assert_same_bits(fastrnn.log_likelihood(model, row[:length]), score)


@pytest.mark.parametrize("case", TELLERS, ids=lambda case: case.name)
@every_dtype
@pytest.mark.parametrize("cut", [0, 1, 8])
def test_log_likelihood_resumed(case, dtype, cut):
    """The chain is cut anywhere: what comes after a state has the bits it has in the whole."""
    model, (_, states) = case.layer(dtype), case.data(dtype, (3,), 0)
    tokens = np.random.default_rng(6).integers(0, case.sizes[0], (3, 10))
    whole = fastrnn.log_likelihood(model, tokens, nested(model, states), per_step=True)
    first = fastrnn.log_likelihood(model, tokens[:, : cut + 1], nested(model, states), per_step=True)
    _, between = run(model, tokens[:, :cut], states)
    second = fastrnn.log_likelihood(model, tokens[:, cut:], nested(model, between), per_step=True)
    assert_same_bits(np.concatenate([first, second], axis=1), whole)


@pytest.mark.parametrize("case", TELLERS, ids=lambda case: case.name)
@every_dtype
def test_probabilities_of_all_sequences_add_up_to_one(case, dtype):
    """P(x_2, x_3, x_4, x_5 | x_1) over all the 81 ends that three tokens can make."""
    model = case.layer(dtype, sizes=(3, *case.sizes[1:-1], 3))
    tokens = np.array([(2, *rest) for rest in itertools.product(range(3), repeat=4)])
    np.testing.assert_allclose(np.exp(fastrnn.log_likelihood(model, tokens)).sum(), 1, rtol=1e-6 if dtype == np.float32 else 1e-13)


@every_dtype
@pytest.mark.parametrize("activation", ["softmax", "log_softmax"])
def test_log_likelihood_is_stable(dtype, activation):
    """Logits of 0 and -5,000 leave a log-probability of -5,000, where the probability itself is zero."""
    head = fastrnn.Dense(np.array([[0, 0], [-5000, -5000]], dtype), activation=activation)
    model = fastrnn.Sequential(fastrnn.Embedding.one_hot(2), head)
    assert_same_bits(fastrnn.log_likelihood(model, [0, 1, 0, 1], per_step=True), np.array([-5000, 0, -5000], dtype))


@every_dtype
@pytest.mark.parametrize("leading", [(), (2, 3)])
@pytest.mark.parametrize("steps", [0, 1])
def test_log_likelihood_of_nothing(dtype, leading, steps):
    """Sequences of no token or one have nothing to be predicted: log 1."""
    model, tokens = case_named("rnn-softmax", TELLERS).layer(dtype), np.zeros((*leading, steps), np.int64)
    assert_same_bits(np.asarray(fastrnn.log_likelihood(model, tokens)), np.zeros(leading))
    assert_same_bits(fastrnn.log_likelihood(model, tokens, per_step=True), np.zeros((*leading, 0), dtype))


@every_dtype
@every_long
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_log_likelihood_of_large_batches(dtype, case, kind):
    """A batch that is worked through in many kernel calls has the bits of its parts."""
    model, (_, (state,)) = case.layer(dtype), case.data(dtype, (30, 100), 0)
    tokens, lengths = (
        np.random.default_rng(9).integers(0, 40, (30, 100, 6)).astype(kind),
        np.random.default_rng(8).integers(0, 7, (30, 100)),
    )
    whole = fastrnn.log_likelihood(model, tokens, state, lengths=lengths, per_step=True)
    for i in (0, 17, 29):
        part = fastrnn.log_likelihood(model, tokens[i], state[i], lengths=lengths[i], per_step=True)
        assert_same_bits(whole[i], part)
        np.testing.assert_allclose(
            fastrnn.log_likelihood(model, tokens, state, lengths=lengths)[i], part.sum(axis=-1, dtype=float), rtol=1e-14
        )


@every_dtype
@every_long
def test_log_likelihood_of_long_sequences(dtype, case):
    """Neither chunks of work nor of workspace show: the steps of the whole are those of its output, and their sum in float64."""
    model, (tokens, states) = case.layer(dtype), case.data(dtype, (2,), 20_000)
    steps = fastrnn.log_likelihood(model, tokens, states, per_step=True)
    probs = np.take_along_axis(model(tokens[:, :-1], states)[0], tokens[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(steps, np.log(probs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(fastrnn.log_likelihood(model, tokens, states), steps.sum(axis=-1, dtype=float), rtol=1e-13)


@pytest.fixture(scope="module")
def chapter():
    """The example model, and the sentences of the chapter as lists of tokens."""
    with np.load(PACKAGE / "data" / "moby_dick_elman.npz") as arrays:
        weights = {name: arrays[name] for name in "UWbVc"}
        numbers = {character: number for number, character in enumerate(arrays["vocab"].tolist())}
    text = (PACKAGE / "data" / "moby_dick_chapter_135.txt").read_text(encoding="ascii")
    sentences = re.findall(r"[^.?!]+[.?!\W]*", text)
    assert "".join(sentences) == text
    rnn, head = fastrnn.RNN(weights["U"], weights["W"], weights["b"]), fastrnn.Dense(weights["V"], weights["c"], activation="softmax")
    model = fastrnn.Sequential(fastrnn.Embedding.one_hot(len(numbers)), rnn, head)
    return model, [[numbers[character] for character in sentence] for sentence in sentences]


@pytest.mark.parametrize("per_step", [False, True])
def test_sentences_of_a_chapter(chapter, per_step):
    """The chapter's sentences, padded and scored as a batch, have the bits that each has alone."""
    model, sentences = chapter
    tokens, lengths = fastrnn.pad(sentences)
    together = fastrnn.log_likelihood(model, tokens, lengths=lengths, per_step=per_step)
    assert (together.shape[0], lengths.sum()) == (len(sentences), 25_141)
    for row, sentence in zip(together, sentences, strict=True):
        alone = np.asarray(fastrnn.log_likelihood(model, sentence, per_step=per_step))
        assert_same_bits(np.asarray(row[: alone.size] if per_step else row), alone)


def test_states_and_last_outputs_of_a_chapter(chapter):
    """So have their last outputs and states; and unpad gives each sentence's own output."""
    model, sentences = chapter
    tokens, lengths = fastrnn.pad(sentences)
    output, (states,) = model(tokens, lengths=lengths)
    last, _ = model(tokens, lengths=lengths, return_sequences=False)
    for piece, state, end, sentence in zip(fastrnn.unpad(output, lengths), states, last, sentences, strict=True):
        assert_same_results((piece, (state,)), model(sentence))
        assert_same_bits(end, piece[-1])


def test_bits_per_character_of_the_chapter(chapter):
    """The whole chapter's log-likelihood is what data/README.txt says: 2.135948712 bits a character."""
    model, sentences = chapter
    tokens = list(itertools.chain(*sentences))
    np.testing.assert_allclose(-fastrnn.log_likelihood(model, tokens) / 25_140 / np.log(2), 2.135948712, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (2, 0, 3), (3, 0)])
def test_scores_of_an_empty_batch(shape):
    """No sequences have no scores, and sequences of no tokens score 0."""
    rnn, head = fastrnn.RNN(np.eye(3, 4), np.eye(3)), fastrnn.Dense(np.ones((4, 3)), activation="softmax")
    model = fastrnn.Sequential(fastrnn.Embedding.one_hot(4), rnn, head)
    tokens = np.zeros(shape, int)
    np.testing.assert_array_equal(fastrnn.log_likelihood(model, tokens), np.zeros(shape[:-1]), strict=True)
    assert fastrnn.log_likelihood(model, tokens, per_step=True).shape == (*shape[:-1], max(shape[-1] - 1, 0))
