"""What only layers that read sequences from their ends can get wrong."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.engine import directions, plan, stages
from fastrnn.engine.packing import MOST_KINDS
from fastrnn.engine.recent import Recent

from .cases import CASES, DTYPES, MIXED, READERS, Case, assert_same_bits, assert_same_results, case_named, flat, nested, run
from .exhaustive import few, few_cases
from .sharing import all_are_free, never, team, until_help_came
from .situations import often, situations
from .test_bits import LAYOUTS

pytestmark = pytest.mark.usefixtures("piece_by_piece")
BOTH = [case for case in CASES if not case.causal]
SINGLE = [case for case in BOTH if len(case.layers) == 1]
STACKS = [case for case in [*BOTH, *READERS] if not case.causal and len(case.layers) > 1]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_single = pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.name)
every_stack = pytest.mark.parametrize("case", STACKS, ids=lambda case: case.name)
MERGES = {
    "concat": lambda one, other: np.concatenate([one, other], axis=-1),
    "sum": lambda one, other: one + other,
    "mean": lambda one, other: (one + other) / 2,
    "product": lambda one, other: one * other,
}
# More pieces than one, of work and of converted input.
PIECES = {"WORK": 200_000, "MOST_WORK": 200_000, "CONVERTED": 1 << 12, "WORTH_HELP": 1}
SIDE_BY_SIDE, IN_TURN = {**PIECES, "FEW_SIDE_BY_SIDE": 1 << 60}, {**PIECES, "FEW_SIDE_BY_SIDE": 0}


def one_by_one(model, x, states, lengths=None):
    """The two layers, each alone and on each sequence alone, the backward one on what was turned around; and what both end with."""
    forward, backward = nested(model, states)
    output = np.zeros((*x.shape[:-1], model.output_size), model.dtype)
    ends, last = np.zeros((*x.shape[:-2], model.output_size), model.dtype), [state.copy() for state in states]
    for i in np.ndindex(x.shape[:-2]):
        length = x.shape[-2] if lengths is None else lengths[i]
        one, after = model.forward(x[i][:length], member(forward, i))
        other, before = model.backward(x[i][:length][::-1].copy(), member(backward, i))
        output[i][:length] = MERGES[model.merge](one, other[::-1])
        if length:
            ends[i] = MERGES[model.merge](one[-1], other[-1])
        for array, state in zip(last, flat((after, before)), strict=True):
            array[i] = state
    return output, ends, tuple(last)


def member(state, index):
    return tuple(member(entry, index) for entry in state) if isinstance(state, tuple) else state[index]


@pytest.mark.parametrize("library", [fastrnn, fastrnn.reference], ids=["fastrnn", "reference"])
@pytest.mark.parametrize(
    ("merge", "expected", "ends"),
    [
        ("concat", [[[1, 6], [3, 5], [6, 3]], [[4, 9], [9, 5], [0, 0]]], [[6, 6], [9, 9]]),
        ("sum", [[[7], [8], [9]], [[13], [14], [0]]], [[12], [18]]),
        ("mean", [[[3.5], [4], [4.5]], [[6.5], [7], [0]]], [[6], [9]]),
        ("product", [[[6], [15], [18]], [[36], [45], [0]]], [[36], [81]]),
    ],
)
def test_numbers_by_hand(library, merge, expected, ends):
    """Two sums that run from the beginning and from the end of 1, 2, 3 and of 4, 5."""
    count = library.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    both = library.Bidirectional(count, count, merge=merge)
    x, lengths = np.array([[[1.0], [2], [3]], [[4], [5], [1000]]]), np.array([3, 2])
    output, last = both(x, lengths=lengths)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(last, [[[6], [9]], [[6], [9]]])
    np.testing.assert_array_equal(both(x, lengths=lengths, return_sequences=False)[0], ends)


@often
@given(situations(SINGLE), st.booleans(), st.sampled_from([None, *LAYOUTS]))
def test_two_layers(s, bounded, layout):
    """The output has the bits of the two layers alone, one of them on sequences turned around; so have the states and the ends."""
    lengths, x = s.lengths if bounded else None, s.x
    output, ends, last = one_by_one(s.model, x, s.states, lengths)
    given_x = LAYOUTS[layout](x) if layout and s.leading else x
    assert_same_results(run(s.model, given_x, s.states, lengths=lengths), (output, last))
    assert_same_results(run(s.model, given_x, s.states, lengths=lengths, return_sequences=False), (ends, last))


@often
@given(situations(STACKS), st.booleans())
def test_stacks(s, bounded):
    """A Sequential has the bits of its layers, one after the other; of the last outputs alone, what follows a Bidirectional has those."""
    lengths, x, last = s.lengths if bounded else None, s.x, []
    embedding, layers = (s.model.layers[0], s.model.layers[1:]) if s.case.tokens else (None, s.model.layers)
    if embedding is not None:
        x = (np.eye(embedding.input_size, dtype=s.dtype) if embedding.weight is None else embedding.weight)[x]
    before, ends, states = None, None, list(s.states)
    for layer in layers:
        if isinstance(layer, fastrnn.Dense):
            x, ends = layer(x), ends if ends is None else layer(ends[..., None, :])[..., 0, :]
            continue
        own = [states.pop(0) for _ in flat(layer(x)[1])]
        before, (x, after) = x, run(layer, x, own, lengths=lengths)
        ends = run(layer, before, own, lengths=lengths, return_sequences=False)[0]
        last += after
    valid = np.full(s.leading, s.steps) if lengths is None else lengths
    expected = np.where(np.arange(s.steps)[:, None] < valid[..., None, None], x, 0)
    assert_same_results(run(s.model, s.x, s.states, lengths=lengths), (expected, last))
    ends = np.where(valid[..., None] > 0, ends, 0)
    assert_same_results(run(s.model, s.x, s.states, lengths=lengths, return_sequences=False), (ends, last))


@every_stack
@every_dtype
@pytest.mark.parametrize("layout", few([None, *LAYOUTS], None, "strided"))
def test_groups_of_sequences(case, dtype, layout, monkeypatch):
    """However few sequences are in work at a time, of any layout, the bits are the same."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3, 5), 6)
    lengths = np.random.default_rng(0).integers(0, 7, (3, 5))
    every = [{}, {"lengths": lengths}, {"return_sequences": False}, {"lengths": lengths, "return_sequences": False}]
    whole = [run(model, x, states, **options) for options in every]
    if layout:
        x = np.asfortranarray(x) if case.tokens else LAYOUTS[layout](x)
    monkeypatch.setattr(stages, "BETWEEN", 1)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    for fewest in (1, 4):
        monkeypatch.setattr(stages, "FEWEST", fewest)
        for options, expected in zip(every, whole, strict=True):
            assert_same_results(run(model, x, states, **options), expected)


@pytest.mark.parametrize("count", [1, 2, 16])
def test_every_thread_gets_sequences(count, monkeypatch):
    """However long the sequences are, each thread has FEWEST of them in work at least, on many threads, too."""
    case, some, sequences_of = case_named("bidirectional-softmax"), [], stages.sequences_of
    model, (x, _) = case.layer(np.float32), case.data(np.float32, (300,), 5)
    expected = model(x)[0]

    def record(x, group):
        some.append(group.stop - group.start)
        return sequences_of(x, group)

    monkeypatch.setattr(stages, "sequences_of", record)
    monkeypatch.setattr(stages, "BETWEEN", 1)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", count)
    assert_same_bits(model(x)[0], expected)
    assert sum(some) == 300
    assert set(some[:-1]) == {stages.FEWEST * count}


@every_single
@every_dtype
@pytest.mark.parametrize("kind", [None, np.float16])
@pytest.mark.parametrize("leading", few([(), (5,)], (5,)))
def test_many_pieces(case, dtype, kind, leading, monkeypatch):
    """Neither pieces of work nor of converted input show in the bits, with lengths and without."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 700)
    x = x.astype(kind or dtype)
    lengths = np.random.default_rng(0).integers(0, 701, leading)
    expected = [run(model, x.astype(dtype), states, **options) for options in ({}, {"lengths": lengths})]
    assert_same_results((expected[0][0], expected[0][1]), one_by_one(model, x.astype(dtype), states)[::2])
    for name, value in {**PIECES, "WORTH_HELP": 1 << 60}.items():
        monkeypatch.setattr(plan, name, value)
    model = case.layer(dtype)
    for options, results in zip(({}, {"lengths": lengths}), expected, strict=True):
        assert_same_results(run(model, x, states, **options), results)


@every_dtype
@pytest.mark.parametrize("case", few_cases([*SINGLE, *STACKS]), ids=lambda case: case.name)
@pytest.mark.parametrize("way", [SIDE_BY_SIDE, IN_TURN], ids=["side by side", "in turn"])
@pytest.mark.parametrize(("leading", "steps"), [((), 501), ((), 1), ((1,), 2), ((6,), 80)])
def test_threads(case, dtype, way, leading, steps, monkeypatch):
    """Two directions on two threads, or each on both, give the bits of one thread, with lengths and without."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, steps)
    lengths = np.random.default_rng(0).integers(0, steps + 1, leading)
    every = [{}, {"lengths": lengths}, {"return_sequences": False}, {"lengths": np.zeros(leading, int)}]
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    expected = [run(model, x, states, **options) for options in every]
    with team(2, way):
        for options, results in zip(every, expected, strict=True):
            assert_same_results(run(case.layer(dtype), x, states, **options), results)


def test_one_thread_asks_for_no_help():
    """Where one thread is all that a call may use, both directions stay on it, however long they take."""
    case = Case("", (("Bidirectional", ("concat", ("GRU", "after"), ("LSTM", "plain"))),), (9, 70))
    with team(1, SIDE_BY_SIDE) as watch:
        case.layer(np.float32)(case.data(np.float32, (), 3000)[0])
    assert not watch.taken


@every_dtype
@pytest.mark.parametrize("merge", few(list(MERGES), "concat"))
@pytest.mark.parametrize("kind", [None, np.float16])
def test_two_threads_come(merge, dtype, kind):
    """A second thread takes part, and the bits are those of one."""
    case = Case("", (("Bidirectional", (merge, ("GRU", "after"), ("LSTM", "plain"))),), (9, 70))
    model, (x, states) = case.layer(dtype), case.data(dtype, (), 3000)
    x = x.astype(kind or dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastrnn.engine.threads, "chosen", 1)
        expected = run(model, x, states)
    with team(2, SIDE_BY_SIDE) as watch:
        model = case.layer(dtype)
        for _ in until_help_came(watch):
            assert_same_results(run(model, x, states), expected)


def test_the_team_is_given_back(monkeypatch):
    """A call of both directions side by side gives its team back, whether it ends well or not."""
    model, x = Case("", (("Bidirectional", MIXED),), (9, 70)).layer(np.float32), np.ones((3000, 9), np.float32)
    with team(2, SIDE_BY_SIDE, never) as watch:
        model(x)
        assert (len(watch.taken), all_are_free()) == (1, True)
        monkeypatch.setattr(directions.Alone, "jobs", lambda self: (1 / 0 for _ in self.task.x))
        with pytest.raises(ZeroDivisionError):
            model(x)
        assert all_are_free()


@pytest.mark.parametrize("merge", MERGES)
def test_no_team_is_free(merge, monkeypatch):
    """Where as many calls have help as can have, the calling thread does both directions."""
    case = Case("", (("Bidirectional", (merge, ("GRU", "after"), ("GRU", "before"))),), (9, 70))
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (), 300)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    expected = run(model, x, states)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 2)
    monkeypatch.setattr(fastrnn.engine.threads.pool, "free", [])
    for name, value in SIDE_BY_SIDE.items():
        monkeypatch.setattr(plan, name, value)
    assert_same_results(run(model, x, states), expected)


@every_dtype
def test_steps_of_one_direction(dtype):
    """NaN in a step reaches no earlier step of the forward layer's output and no later one of the backward layer's."""
    case = Case("", (("Bidirectional", MIXED),), (5, 33))
    model, (x, states) = case.layer(dtype), case.data(dtype, (6,), 7)
    clean, _ = run(model, x, states)
    x[2, 4, 0] = np.nan
    output, _ = run(model, x, states)
    others = np.arange(6) != 2
    assert_same_bits(output[others], clean[others])
    assert_same_bits(output[2, :4, :33], clean[2, :4, :33])
    assert_same_bits(output[2, 5:, 33:], clean[2, 5:, 33:])
    assert np.isnan(output[2, 4:, :33]).all()
    assert np.isnan(output[2, :5, 33:]).all()


def test_one_entry_of_a_state():
    """A Bidirectional alone, and as a Sequential's only recurrent layer, takes its pair bare; entries may be None."""
    case = Case("", (("Bidirectional", MIXED),), (5, 33))
    both, (x, (h, g, c)) = case.layer(np.float64), case.data(np.float64, (3,), 4)
    model, zeros = replace(case, sequential=True).layer(np.float64), (np.zeros_like(h), (g, np.zeros_like(c)))
    expected = both(x, (h, (g, c)))[0]
    for state in ((h, (g, c)), [h, [g, c]], ((h, (g, c)),)):
        assert_same_bits(model(x, state)[0], expected)
    assert_same_bits(both(x, (None, (g, None)))[0], both(x, zeros)[0])
    assert_same_bits(model(x, [(None, (g, None))])[0], both(x, zeros)[0])


class Forgetful(Recent):
    """What a network keeps, as it is where another thread clears it right after a look."""

    def __contains__(self, key):
        found = super().__contains__(key)
        self.clear()
        return found


def test_a_job_that_another_thread_forgets(monkeypatch):
    """Calls are right where the jobs that a network keeps are cleared between a look and the use of what it found."""
    case = Case("", (("Bidirectional", ("concat", ("GRU", "after"), ("GRU", "before"))),), (9, 70))
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (), 300)
    expected = run(model, x, states)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 2)
    monkeypatch.setattr(plan, "WORTH_HELP", 1)
    for network in model.staged().all[0].networks:
        monkeypatch.setitem(network.__dict__, "calls", Forgetful(MOST_KINDS))
    for _ in range(3):
        assert_same_results(run(model, x, states), expected)
    assert network.calls
