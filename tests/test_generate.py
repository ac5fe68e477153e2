"""The model's own output as its next input."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import generate
from fastrnn.engine import plan

from .cases import DTYPES, Case, assert_close, assert_same_bits, assert_same_results, case_named, flat, nested, run
from .exhaustive import exhaustive, few
from .situations import CAUSAL, HEADS, TELLERS, exact, often, situations

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_teller = pytest.mark.parametrize("case", TELLERS, ids=lambda case: case.name)
LONG = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (40, 60, 40), one_hot=True)
temperatures = st.sampled_from([0.3, 1.0, 2.5])


def taken_apart(result):
    """What was generated, and the arrays of the states."""
    generated, state = result
    return generated, flat(state)


def state_of(s):
    """The states as the situation's model takes them."""
    return nested(s.model, s.states) if s.states else None


def start_size(s):
    return math.prod(s.leading)


def compare(s, start, steps, **options):
    generated, last = taken_apart(generate(s.model, start, steps, state_of(s), **options))
    expected, expected_last = taken_apart(fastrnn.reference.generate(s.reference, exact(start), steps, exact(state_of(s)), **options))
    if generated.dtype.kind == "f":
        assert_close(generated, expected, s.dtype)
    else:
        assert_same_bits(generated, expected)
    for one, other in zip(last, expected_last, strict=True):
        assert_close(one, other, s.dtype)


def tellers(**options):
    return situations(TELLERS, closed=True, **options)


@often
@given(tellers(), st.none() | st.integers(0, 5))
def test_argmax_equals_the_reference(s, stop):
    """Tokens of the highest output, fed back, with a token to stop at and without."""
    compare(s, s.start, s.steps, feedback="argmax", stop=None if stop is None else stop % s.sizes[0])


@often
@given(tellers(), st.none() | st.integers(1, 20), temperatures, st.none() | st.integers(0, 5))
def test_sample_equals_the_reference(s, top_k, temperature, stop):
    """Tokens drawn from each sequence's own stream, at any temperature, from the likeliest alone or all, fed back."""
    options = {"top_k": top_k and min(top_k, s.sizes[0]), "stop": None if stop is None else stop % s.sizes[0]}
    compare(s, s.start, s.steps, feedback="sample", temperature=temperature, rng=s.seed, **options)


@often
@given(situations(CAUSAL, closed=True))
def test_output_equals_the_reference(s):
    """Vectors fed back as they are, from any model that gives what it takes."""
    compare(s, s.case.data(s.dtype, s.leading, 1, sizes=s.sizes, seed=9)[0][..., 0, :], s.steps, feedback="output")


@often
@given(
    situations(
        [replace(case, one_hot=True) for case in CAUSAL if case.layers[-1][1] not in ("relu", "sigmoid", "hard_sigmoid")], closed=True
    )
)
def test_argmax_of_any_output_equals_the_reference(s):
    """The highest output need not be a probability."""
    compare(s, s.start, s.steps, feedback="argmax")


@pytest.mark.parametrize("work", [1, 30_000])
@pytest.mark.parametrize("options", [{"feedback": "argmax"}, {"rng": 3}, {"rng": 3, "stop": 1}])
@every_teller
@every_dtype
def test_pieces_of_a_generation(case, dtype, options, work, monkeypatch):
    """Cut into kernel calls of one step or of some, a generation is the reference's, step by step."""
    monkeypatch.setattr(plan, "WORK", work)
    start = np.arange(5) % case.sizes[0]
    expected = fastrnn.reference.generate(case.reference(dtype), start, 40, **options)[0]
    assert_same_bits(generate(case.layer(dtype), start, 40, **options)[0], expected)


@often
@given(tellers(steps=12), st.integers(0, 12))
def test_argmax_is_resumed_at_any_cut(s, cut):
    """a + b steps are a steps, then b from the last token and the state: what was generated, and the state after it."""
    cut = min(cut, s.steps)
    whole = generate(s.model, s.start, s.steps, state_of(s), feedback="argmax")
    first, between = generate(s.model, s.start, cut, state_of(s), feedback="argmax")
    last_token = first[..., -1] if cut else s.start
    second, last = generate(s.model, last_token, s.steps - cut, between, feedback="argmax")
    assert_same_results(taken_apart((np.concatenate([first, second], axis=-1), last)), taken_apart(whole))


@often
@given(situations(CAUSAL, steps=12, closed=True), st.integers(0, 12))
def test_output_is_resumed_at_any_cut(s, cut):
    """So with vectors, and they are the model's own outputs over what was fed back."""
    start, cut = s.case.data(s.dtype, s.leading, 1, sizes=s.sizes)[0][..., 0, :], min(cut, s.steps)
    whole, end = generate(s.model, start, s.steps, state_of(s), feedback="output")
    first, between = generate(s.model, start, cut, state_of(s), feedback="output")
    second, last = generate(s.model, first[..., -1, :] if cut else start, s.steps - cut, between, feedback="output")
    assert_same_results(taken_apart((np.concatenate([first, second], axis=-2), last)), taken_apart((whole, end)))
    consumed = np.concatenate([start[..., None, :], whole], axis=-2)[..., : s.steps, :]
    assert_same_results(run(s.model, consumed, s.states), taken_apart((whole, end)))


@often
@given(tellers(steps=12), st.sampled_from(["argmax", "sample"]))
def test_the_state_has_consumed_all_but_the_last_token(s, feedback):
    """The state returned is the bits of a run over the start and what was generated, without the last."""
    generated, state = generate(s.model, s.start, s.steps, state_of(s), feedback=feedback, rng=1)
    consumed = np.concatenate([s.start[..., None], generated], axis=-1)[..., : s.steps]
    output, expected = run(s.model, consumed, s.states)
    assert_same_results(taken_apart((generated, state)), (generated, expected))
    if feedback == "argmax":
        assert_same_bits(generated, output.argmax(axis=-1))


@often
@given(tellers(steps=12), st.sampled_from(["argmax", "sample"]), st.integers(0, 9))
def test_stop(s, feedback, stop):
    """Up to its first stop token a sequence is what it is without stop=; after it all is the stop token, and the state stays."""
    stop, options = stop % s.sizes[0], {"feedback": feedback, "rng": 5}
    free, _ = generate(s.model, s.start, s.steps, state_of(s), **options)
    generated, last = taken_apart(generate(s.model, s.start, s.steps, state_of(s), stop=stop, **options))
    for i in s.members():
        length = int((free[i] == stop).argmax()) + 1 if (free[i] == stop).any() else s.steps
        assert_same_bits(generated[i], np.where(np.arange(s.steps) < length, free[i], stop))
        consumed = np.concatenate([s.start[i][None], free[i]])[:length]
        _, alone = run(s.model, consumed, tuple(state[i] for state in s.states))
        assert_same_results((consumed, tuple(state[i] for state in last)), (consumed, alone))


def test_a_start_that_is_the_stop_token_stops_nothing():
    """Only what is generated ends a sequence."""
    head = fastrnn.Dense(np.array([[0.0, 1], [1, 0]]), activation="softmax")
    model = fastrnn.Sequential(fastrnn.Embedding.one_hot(2), head)
    assert_same_bits(generate(model, [1, 0], 4, feedback="argmax", stop=1)[0], np.array([[0, 1, 1, 1], [1, 1, 1, 1]]))


@often
@given(situations([*TELLERS, *HEADS], steps=12, closed=True))
def test_alone_or_in_a_batch(s):
    """Without chance each sequence has the bits it has alone."""
    feedback = "argmax" if s.case.tokens else "output"
    start = s.start if s.case.tokens else s.case.data(s.dtype, s.leading, 1, sizes=s.sizes)[0][..., 0, :]
    generated, last = taken_apart(generate(s.model, start, s.steps, state_of(s), feedback=feedback))
    for i in s.members():
        alone = taken_apart(generate(s.model, start[i], s.steps, nested(s.model, tuple(state[i] for state in s.states)), feedback=feedback))
        assert_same_results((generated[i], tuple(state[i] for state in last)), alone)


@often
@given(tellers(steps=12), temperatures)
def test_neighbours_do_not_matter(s, temperature):
    """A sampled sequence depends on the seed, its place, its start and its state, not on its neighbours nor on how many follow."""
    options = {"temperature": temperature, "rng": s.seed}
    start, states = s.start.reshape(-1), tuple(state.reshape(start_size(s), -1) for state in s.states)
    whole = generate(s.model, start, s.steps, nested(s.model, states), **options)
    for place in range(len(start)):
        others, until = (start + 1) % s.sizes[0], slice(place + 1)
        others[place] = start[place]
        changed = tuple(np.where(np.arange(len(start))[:, None] == place, state, -state) for state in states)
        part = generate(s.model, others[until], s.steps, nested(s.model, tuple(state[until] for state in changed)), **options)
        assert_same_bits(part[0][place], whole[0][place])
        for one, other in zip(flat(part[1]), flat(whole[1]), strict=True):
            assert_same_bits(one[place], other[place])


@often
@given(tellers())
def test_leading_axes(s):
    """Places are counted in C order over the leading axes."""
    flat_states = tuple(state.reshape(start_size(s), -1) for state in s.states)
    shaped = generate(s.model, s.start, s.steps, state_of(s), rng=3)[0]
    assert_same_bits(
        shaped.reshape(start_size(s), s.steps), generate(s.model, s.start.reshape(-1), s.steps, nested(s.model, flat_states), rng=3)[0]
    )


@every_dtype
@pytest.mark.parametrize("count", few([63, 64, 65, 200], 65))
def test_large_batches(dtype, count):
    """However many sequences are stepped together, the tokens are the reference's, stopped or not."""
    case = case_named("rnn-softmax", TELLERS)
    _, states = case.data(dtype, (count,), 0)
    start = np.arange(count) % 9
    for options in ({"feedback": "argmax"}, {"rng": 8}, {"rng": 8, "stop": 2}, {"rng": 8, "top_k": 3}):
        generated, last = generate(case.layer(dtype), start, 30, states, **options)
        expected, expected_last = fastrnn.reference.generate(case.reference(dtype), start, 30, exact(states), **options)
        assert_same_bits(generated, expected)
        assert_close(last[0], expected_last[0], dtype)


@every_dtype
@pytest.mark.parametrize("options", [{"feedback": "argmax"}, {"rng": 4}, {"rng": 4, "stop": 7}])
def test_long_generation(dtype, options):
    """A long generation is the run over what it generated: many kernel calls do not show."""
    model, (_, states) = LONG.layer(dtype), LONG.data(dtype, (3,), 0)
    start, steps = np.array([1, 5, 39]), 20_000
    generated, last = generate(model, start, steps, states, **options)
    assert_same_bits(generate(model, start, 500, states, **options)[0], generated[:, :500])
    tokens = np.concatenate([start[:, None], generated], axis=1)
    ends = np.where((generated == 7).any(axis=1), (generated == 7).argmax(axis=1) + 1, steps) if "stop" in options else [steps] * 3
    output, expected = model(tokens[:, :steps], states, lengths=ends)
    assert_same_results((generated, last), (generated, expected))
    if "rng" not in options:
        assert_same_bits(generated, output.argmax(axis=-1))


@every_teller
@every_dtype
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e9, 1e20])
def test_one_of_them_is_argmax(case, dtype, temperature):
    """top_k=1 leaves the highest alone, at any temperature."""
    model, start = case.layer(dtype), np.arange(4)
    expected = generate(model, start, 20, feedback="argmax")[0]
    assert_same_bits(generate(model, start, 20, top_k=1, temperature=temperature, rng=2)[0], expected)


@every_teller
@every_dtype
@pytest.mark.parametrize("temperature", [1e-7, 1e-30, 1e-40])
def test_cold_is_argmax(case, dtype, temperature):
    """A temperature close to zero leaves the highest alone."""
    model, start = case.layer(dtype), np.arange(4)
    expected = generate(model, start, 20, feedback="argmax")[0]
    assert_same_bits(generate(model, start, 20, temperature=temperature, rng=2)[0], expected)


@every_teller
@every_dtype
def test_all_of_them_is_the_same_as_no_top_k(case, dtype):
    """top_k of the vocabulary's size cuts nothing."""
    model = case.layer(dtype)
    assert_same_bits(generate(model, [0, 1], 20, top_k=case.sizes[-1], rng=2)[0], generate(model, [0, 1], 20, rng=2)[0])


def bigram(logits, dtype, activation="softmax"):
    """A model whose logits are the same after every token."""
    head = fastrnn.Dense(np.repeat(np.array(logits, dtype)[:, None], len(logits), axis=1), activation=activation)
    return fastrnn.Sequential(fastrnn.Embedding.one_hot(len(logits)), head)


@every_dtype
@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "identity"])
def test_ties_of_argmax(dtype, activation):
    """Of equal outputs the lowest index wins."""
    assert_same_bits(generate(bigram([0, 2, 1, 2, 2], dtype, activation), 4, 3, feedback="argmax")[0], np.array([1, 1, 1]))


@every_dtype
def test_ties_of_top_k(dtype):
    """Of equal logits top_k keeps the lowest indices, and none of the others is ever drawn."""
    drawn = generate(bigram([1, 2, 1, 0, 1, 2, 1], dtype), np.zeros(500, np.int64), 4, top_k=4, rng=0)[0]
    assert set(drawn.flat) == {0, 1, 2, 5}


@every_dtype
def test_the_highest_of_near_equals(dtype):
    """top_k goes by the logits, which differ where e^logit no longer does."""
    logits = np.array([1e-3, 1e-3, 0], dtype)
    logits[1] = np.nextafter(logits[0], dtype(1))
    assert_same_bits(generate(bigram(logits, dtype), 0, 5, top_k=1, rng=0)[0], np.ones(5, np.int64))


@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize("activation", few(["softmax", "log_softmax"], "softmax"))
@pytest.mark.parametrize(
    ("temperature", "top_k"),
    [(3.0, 4), *(pytest.param(*one, marks=exhaustive) for one in [(1.0, None), (0.5, None), (1e300, None), (np.inf, 5)])],
)
def test_frequencies(dtype, activation, temperature, top_k):
    """Tokens are drawn as often as softmax(logits / temperature) says, within 5 standard deviations."""
    logits, count = np.array([0.5, -1.0, 2.0, 0.0, 1.0, -3.0]), 20_000
    drawn = generate(bigram(logits, dtype, activation), np.zeros(count, np.int64), 1, temperature=temperature, top_k=top_k, rng=1)[0]
    weights = np.exp(logits / temperature) * (logits >= np.sort(logits)[-(top_k or 6)])
    probs = weights / weights.sum()
    allowed = 5 * np.sqrt(probs * (1 - probs) / count)
    assert (np.abs(np.bincount(drawn[:, 0], minlength=6) / count - probs) <= allowed).all()


@every_dtype
def test_head_of_any_probabilities(dtype):
    """softmax and log_softmax heads of the same weights draw the same tokens, for logits in the thousands too."""
    logits = [3000.0, -3000.0, 2999.0, 2998.0]
    drawn = [generate(bigram(logits, dtype, a), np.zeros(300, np.int64), 3, rng=0)[0] for a in ("softmax", "log_softmax")]
    assert_same_bits(drawn[0], drawn[1])
    assert set(drawn[0].flat) == {0, 2, 3}


def test_seeds():
    """An int is a seed, the same tokens every time; a Generator moves on by what it spawns; None is fresh entropy."""
    model, start = case_named("rnn-log-softmax", TELLERS).layer(np.float64), np.arange(5)
    expected = generate(model, start, 20, rng=7)[0]
    assert_same_bits(generate(model, start, 20, rng=7)[0], expected)
    generator = np.random.default_rng(7)
    assert_same_bits(generate(model, start, 20, rng=generator)[0], expected)
    for other in (generate(model, start, 20, rng=generator), generate(model, start, 20, rng=8), generate(model, start, 20)):
        assert not np.array_equal(other[0], expected)


@pytest.mark.parametrize("case", [*TELLERS, *HEADS], ids=lambda case: f"{case.name}-{'tokens' if case.tokens else 'output'}")
@every_dtype
@pytest.mark.parametrize("feedback", ["argmax", "sample"])
@pytest.mark.parametrize("leading", [(), (3,), (0,), (2, 0)])
def test_no_steps(case, dtype, feedback, leading):
    """No step generates nothing and gives the states as they came, in memory of their own; no sequence likewise."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 1)
    feedback = feedback if case.tokens else "output"
    start = x[..., 0] if case.tokens else x[..., 0, :]
    steps = 4 if 0 in leading else 0
    generated, last = generate(model, start, steps, nested(model, states), feedback=feedback, rng=0)
    assert generated.shape == ((*leading, steps, case.sizes[-1]) if feedback == "output" else (*leading, steps))
    assert generated.dtype == (dtype if feedback == "output" else np.int64)
    assert_same_results((generated, flat(last)), (generated, states))
    assert not any(np.shares_memory(one, other) for one, other in zip(flat(last), states, strict=True))


@every_dtype
@pytest.mark.parametrize("kind", [np.int8, np.uint64, ">i4", list])
def test_start_of_any_integer_dtype(dtype, kind):
    """A start is an integer, or integers of any dtype, layout or in a list."""
    model, start = case_named("rnn-softmax", TELLERS).layer(dtype), np.array([0, 8, 3])
    changed = start.tolist() if kind is list else start.astype(kind)
    assert_same_bits(generate(model, changed, 9, rng=1)[0], generate(model, start, 9, rng=1)[0])
    assert_same_bits(generate(model, 8, 9, feedback="argmax")[0], generate(model, start, 9, feedback="argmax")[0][1])


def test_the_callers_arrays_do_not_change():
    """start and the states hold after a call what they held before, and those returned are new."""
    x, states = case_named("rnn-rnn-softmax", HEADS).data(np.float64, (3,), 1)
    for start, feedback in ((np.array([0, 16, 5]), "argmax"), (np.array([0, 16, 5]), "sample"), (x[:, 0], "output")):
        model = case_named("rnn-rnn-softmax", HEADS if feedback == "output" else TELLERS).layer(np.float64)
        before = [array.copy() for array in (start, *states)]
        generate(model, start, 9, states, feedback=feedback)
        for one, other in zip((start, *states), before, strict=True):
            assert_same_bits(one, other)


@every_dtype
def test_encoder_and_decoder(dtype):
    """An encoder's state, bare or in a tuple, starts a decoder: sequences of unequal lengths, in and out."""
    encoder = Case("", (("RNN", "tanh"),), (12, 30), one_hot=True).layer(dtype)
    case = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (8, 30, 8), one_hot=True)
    tokens, lengths = fastrnn.pad([[1, 2, 3], [4], [5, 6, 7, 8, 11]])
    _, (state,) = encoder(tokens, lengths=lengths)
    generated, _ = generate(case.layer(dtype), [0, 0, 0], 7, state, feedback="argmax")
    assert_same_bits(generated, generate(case.layer(dtype), [0, 0, 0], 7, (state,), feedback="argmax")[0])
    expected, _ = fastrnn.reference.generate(case.reference(dtype), np.zeros(3, np.int64), 7, exact(state), feedback="argmax")
    assert_same_bits(generated, expected)
