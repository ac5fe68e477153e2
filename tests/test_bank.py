"""A bank has the bits of a stream for each of its rows, whatever rows are stepped together."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

import fastrnn
from fastrnn import banks
from fastrnn.engine import plan, threads
from fastrnn.native import machine_code

from .cases import DTYPES, MODEL, Case, assert_same_bits, case_named, flat, nested
from .situations import ALL, CAUSAL, CAUSAL_READERS

every_case = pytest.mark.parametrize("case", [*CAUSAL, *CAUSAL_READERS], ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
CHAIN = Case("", (("GRU", "before"), ("LSTM", "projected"), ("RNN", "leaky at the input"), ("Dense", "softmax")), (6, 20, 12, 40, 5))
READER = Case("", (("Embedding", None), ("LSTM", "plain")), (9, 4, 11))
SMALL = [CHAIN, READER, case_named("dense-softmax", ALL)]
DUPLICATES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda bank: pickle.loads(pickle.dumps(bank))}


def assert_same_states(actual, expected):
    for one, other in zip(flat(actual), flat(expected), strict=True):
        assert_same_bits(one, other)


def steps(case, dtype, count, seed=1):
    """One vector or token for each of so many rows, and the state of one sequence."""
    x = case.data(dtype, (count,), 1, seed=seed)[0][:, 0]
    return x, case.data(dtype, (), 1, seed=seed + 1)[1]


@every_case
@every_dtype
def test_rows_are_streams(case, dtype):
    """Steps of any rows in any order, some reset, into out= or not, have the bits of a stream for each row; so have the states."""
    rng, model = np.random.default_rng(0), case.layer(dtype)
    x, first = steps(case, dtype, 6)
    state0 = nested(model, first) if first else None
    bank = model.streams(9, state0)
    streams = {bank.add(): model.stream(state0=state0) for _ in range(6)}
    for _ in range(5):
        at, reset = rng.permutation(6)[: rng.integers(1, 7)], rng.integers(2, size=6) == 1
        x = steps(case, dtype, 6, seed=rng.integers(99))[0]
        expected = np.array([streams[i].step(x[i], reset=reset[i]) for i in at.tolist()])
        out = np.full_like(expected, np.nan) if rng.integers(2) else None
        result = bank.step(x[at], at=at, reset=reset[at], out=out)
        assert out is None or result is out
        assert_same_bits(result, expected)
    if first:
        rows = [view[:6] for view in flat(bank.state)]
        assert_same_states(tuple(rows), tuple(np.array(each) for each in zip(*(flat(s.state) for s in streams.values()), strict=True)))


class Banks(RuleBasedStateMachine):
    """Rows come and go, step, are reset and set; the bank is copied; whatever is refused changes nothing."""

    rows = Bundle("rows")

    def __init__(self):
        super().__init__()
        self.streams, self.seed = {}, 0

    @precondition(lambda self: not hasattr(self, "bank"))
    @rule(case=st.sampled_from(SMALL), dtype=st.sampled_from(DTYPES), capacity=st.integers(1, 12), zeros=st.booleans())
    def make(self, case, dtype, capacity, zeros):
        self.case, self.dtype, self.model, self.capacity = case, dtype, case.layer(dtype), capacity
        first = steps(case, dtype, 1)[1]
        self.state0 = nested(self.model, first) if first and not zeros else None
        self.bank = self.model.streams(capacity, self.state0)

    def stream(self):
        return self.model.stream(state0=self.state0)

    @precondition(lambda self: hasattr(self, "bank") and len(self.streams) < self.capacity)
    @rule(target=rows)
    def add(self):
        row = self.bank.add()
        assert row == min(set(range(self.capacity)) - set(self.streams))
        self.streams[row] = self.stream()
        return row

    @rule(row=consumes(rows))
    def drop(self, row):
        self.bank.drop(row)
        del self.streams[row]
        with pytest.raises(ValueError, match="handed out"):
            self.bank.drop(row)

    @precondition(lambda self: len(self.streams) > 0)
    @rule(data=st.data(), everyone=st.booleans(), anew=st.booleans())
    def step(self, data, everyone, anew):
        rows = sorted(self.streams)
        at = rows if everyone else data.draw(st.lists(st.sampled_from(rows), unique=True))
        self.seed += 1
        x = steps(self.case, self.dtype, len(at), seed=self.seed)[0]
        reset = [bool((row + self.seed) % 2) for row in at] if anew else None
        result = self.bank.step(x, at=None if everyone else at, reset=reset)
        for i, row in enumerate(at):
            assert_same_bits(result[i], self.streams[row].step(x[i], reset=None if reset is None else reset[i]))

    @precondition(lambda self: len(self.streams) > 0)
    @rule(data=st.data())
    def refuse(self, data):
        rows = sorted(self.streams)
        wrong = data.draw(st.sampled_from([self.capacity, -1, rows[0], *(set(range(self.capacity)) - set(rows))]))
        at = data.draw(st.permutations([*rows, wrong]))
        with pytest.raises(ValueError, match="at must hold"):
            self.bank.step(steps(self.case, self.dtype, len(at))[0], at=at)

    @precondition(lambda self: hasattr(self, "bank") and self.case.name != "dense-softmax")
    @rule(whole=st.booleans())
    def set(self, whole):
        self.seed += 1
        states = self.case.data(self.dtype, (self.capacity,), 1, seed=self.seed)[1]
        self.bank.state = nested(self.model, states) if whole else None
        for row, stream in self.streams.items():
            stream.reset()
            if whole:
                stream.state = nested(self.model, tuple(state[row] for state in states))

    @precondition(lambda self: hasattr(self, "bank"))
    @rule(duplicate=st.sampled_from([*DUPLICATES.values()]))
    def copy(self, duplicate):
        self.bank = duplicate(self.bank)

    @invariant()
    def same(self):
        if hasattr(self, "bank"):
            assert self.bank.rows.tolist() == sorted(self.streams)
            fresh = self.model.stream(state0=self.state0)
            fresh.state = fresh.state or self.state0 or nested(self.model, [np.zeros_like(s) for s in steps(self.case, self.dtype, 1)[1]])
            for row in range(self.capacity):
                state = self.streams.get(row, fresh).state
                if state is not None:
                    assert_same_states(tuple(view[row] for view in flat(self.bank.state)), flat(state))


TestBanks = Banks.TestCase
TestBanks.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@every_dtype
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 130, 1024, 1025, 3000])
def test_many_rows(dtype, count):
    """However many rows step together, each has the bits of its stream."""
    case = Case("", (("LSTM", "plain"),), (5, 24))
    model, (x, first) = case.layer(dtype), steps(case, dtype, count)
    bank, stream = model.streams(2 * count + 1, first), model.stream(state0=tuple(np.tile(state, (count, 1)) for state in first))
    at = np.random.default_rng(1).permutation([bank.add() for _ in range(2 * count)])[:count]
    for reset in (None, np.arange(count) % 3 == 0, None):
        assert_same_bits(bank.step(x, at=at, reset=reset), stream.step(x, reset=reset))
    assert_same_states(tuple(view[at] for view in bank.state), stream.state)


@every_dtype
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pieces_and_threads(monkeypatch, dtype, count):
    """Large steps are cut into pieces and shared by threads, of vectors that are converted too; the bits stay."""
    case = Case("", (("GRU", "after"), ("Dense", "softmax")), (7, 70, 9))
    model, (x, first) = case.layer(dtype), steps(case, dtype, 700)
    bank, expected = model.streams(1000, first), model.stream(state0=tuple(np.tile(state, (700, 1)) for state in first)).step(x)
    at = np.random.default_rng(1).permutation([bank.add() for _ in range(1000)])[:700]
    for name, value in {"WORTH_HELP": 1, "WORK": 1_000_000, "MOST_WORK": 1_000_000, "SHARED": 1 << 60}.items():
        monkeypatch.setattr(plan, name, value)
    monkeypatch.setattr(threads, "chosen", count)
    jobs = counted(monkeypatch)
    assert_same_bits(bank.step(x, at=at), expected)
    assert len(jobs) > 5
    bank.state = None
    assert_same_bits(bank.step(np.asfortranarray(x.astype(np.longdouble)), at=at.tolist()), expected)


def counted(monkeypatch, interrupted_at=0):
    """Count kernel calls, one of which Ctrl-C comes before."""
    calls, call = [], machine_code.loaded.call

    def count(*arrays):
        calls.append(arrays)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        call(*arrays)

    monkeypatch.setattr(machine_code.loaded, "call", count)
    return calls


@pytest.mark.parametrize("interrupted_at", [1, 2, 3, 4])
def test_interrupt(monkeypatch, interrupted_at):
    """A large step that Ctrl-C ends between two of its kernel calls leaves all states as they were."""
    model, (x, first) = MODEL.layer(np.float64), steps(MODEL, np.float64, 2000)
    bank = model.streams(2000, first)
    at = [bank.add() for _ in range(2000)][::-1]
    bank.step(x, at=at)
    before = bank.state
    with monkeypatch.context() as patch:
        patch.setattr(plan, "WORK", 10_000_000)
        patch.setattr(threads, "chosen", 1)
        counted(patch, interrupted_at)
        with pytest.raises(KeyboardInterrupt):
            bank.step(x, at=at, reset=[True] * 2000)
    assert_same_states(bank.state, before)
    again = model.stream(tuple(state[::-1] for state in before)).step(x)
    assert_same_bits(bank.step(x, at=at), again)


@pytest.mark.parametrize("act", ["add", "drop"])
def test_an_interrupted_add_or_drop(monkeypatch, act):
    """Ctrl-C inside of add or drop leaves a bank that hands no row out twice, and loses none."""
    bank = fastrnn.RNN(np.eye(2), np.eye(2)).streams(4)
    rows = [bank.add(), bank.add(), bank.add()]
    bank.drop(rows[1])

    def interrupt(*_):
        raise KeyboardInterrupt

    name, arguments = ("heappop", ()) if act == "add" else ("heappush", (0,))
    with monkeypatch.context() as patch:
        patch.setattr(banks.heapq, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            getattr(bank, act)(*arguments)
    handed = bank.rows.tolist()
    assert handed == ([0, 1, 2] if act == "add" else [0, 2])
    added = [bank.add() for _ in range(4 - len(handed))]
    assert sorted(handed + added) == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        bank.add()


@every_dtype
@pytest.mark.parametrize("kind", [list, np.array, lambda at: np.array(at, np.uint8), lambda at: np.array([at, at]).T[:, 0]])
def test_rows_in_any_form(dtype, kind):
    """Rows may come as a list or an array of any integers and any layout; x in any layout and dtype."""
    model, (x, first) = MODEL.layer(dtype), steps(MODEL, dtype, 3)
    bank, expected = model.streams(200, first), np.array([model.stream(state0=first).step(row) for row in x])
    at = [bank.add() for _ in range(150)][140:143]
    for given in (x, x.tolist(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(np.longdouble)):
        bank.state = None
        assert_same_bits(bank.step(given, at=kind(at)), expected)


@pytest.mark.parametrize("kind", [list, np.array, lambda x: np.array(x, np.int8)])
def test_tokens_in_any_form(kind):
    """Tokens may come as a list or an array of any integers."""
    model, (x, _) = READER.layer(np.float32), steps(READER, np.float32, 4)
    bank = model.streams(4)
    at = [bank.add() for _ in range(4)]
    assert_same_bits(bank.step(kind(x.tolist()), at=at), np.array([model.stream().step(int(token)) for token in x]))


@pytest.mark.parametrize("count", [0, 3])
def test_no_rows(count):
    """A step of no row, given so or because none is handed out, gives nothing and changes nothing."""
    model = MODEL.layer(np.float32)
    bank = model.streams(5)
    for _ in range(count):
        bank.add()
    x = np.empty((0, MODEL.sizes[0]), np.float32)
    for at in ([], np.empty(0, int), *([None] if not count else [])):
        assert bank.step(x, at=at, reset=[]).shape == (0, MODEL.sizes[-1])
    assert all((state == 0).all() for state in bank.state)


def test_the_state_is_a_copy_both_ways():
    """Writing to a state that was set or given as state0 changes nothing in the bank; what was read can't be written to."""
    model, (x, first) = MODEL.layer(np.float64), steps(MODEL, np.float64, 3)
    copies, bank = tuple(state.copy() for state in first), model.streams(3, first)
    for state in first:
        state[...] = 7
    at = [bank.add() for _ in range(3)]
    expected = bank.step(x, at=at)
    assert_same_bits(expected, np.array([model.stream(state0=copies).step(row) for row in x]))
    for state in (*bank.state, bank.rows):
        with pytest.raises(ValueError, match="read-only"):
            state[...] = 7
    given = tuple(np.tile(state, (3, 1)) for state in copies)
    bank.state = given
    for state in given:
        state[...] = 7
    assert_same_bits(bank.step(x), expected)


def test_an_entry_that_is_none():
    """None in a state means state0's entry, and in state0 zeros."""
    model, (x, (first, second)) = MODEL.layer(np.float64), steps(MODEL, np.float64, 2)
    bank = model.streams(2, [first, None])
    bank.add(), bank.add()
    assert_same_bits(bank.step(x), np.array([model.stream((first, None)).step(row) for row in x]))
    bank.state = [None, np.tile(second, (2, 1))]
    assert_same_bits(bank.step(x), np.array([model.stream((first, second)).step(row) for row in x]))


REFUSED = {
    "a row twice": {"at": [0, 2, 0]},
    "a row of nobody": {"at": [0, 1, 3]},
    "a row beyond": {"at": [0, 1, 9]},
    "a large row": {"at": np.array([0, 1, 2**64 - 1], np.uint64)},
    "too few rows": {"at": [0, 1]},
    "a reset of another size": {"reset": [True, True]},
    "an out of another size": {"reset": [True] * 3, "out": np.zeros((3, 4))},
}


@pytest.mark.parametrize("limit", [0, 1024])
@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_an_error_changes_nothing(monkeypatch, options, limit):
    """A step that is refused, in one kernel call or in many, changes no state, no out, and no row."""
    monkeypatch.setattr(banks, "MOST_AT_ONCE", limit)
    model, (x, first) = MODEL.layer(np.float64), steps(MODEL, np.float64, 3)
    bank, other = model.streams(8, first), model.streams(8, first)
    for one in (bank, other):
        one.drop([one.add() for _ in range(4)][-1])
        one.step(x)
    before, out = bank.state, np.full((3, MODEL.sizes[-1]), 5.0)
    with pytest.raises(ValueError, match="must"):
        bank.step(x, **({"out": out} | options))
    assert (out == 5).all()
    assert_same_states(bank.state, before)
    assert bank.rows.tolist() == [0, 1, 2]
    assert_same_bits(bank.step(x, at=[2, 0, 1]), other.step(x, at=[2, 0, 1]))


def test_kernel_calls_that_are_kept_ready(monkeypatch):
    """Steps of more numbers of rows than are kept ready have the bits of those that are kept."""
    monkeypatch.setattr(banks, "MOST_COUNTS", 2)
    model, (x, _) = MODEL.layer(np.float32), steps(MODEL, np.float32, 9)
    bank, stream = model.streams(9), model.stream()
    at = [bank.add() for _ in range(9)]
    expected = stream.step(x)
    for count in (9, 1, 2, 3, 9, 4):
        assert_same_bits(bank.step(x[:count], at=at[:count], reset=[True] * count), expected[:count])
        assert len(bank._engine.steps) <= 2


def test_banks_share_a_model():
    """Banks of one model, and its streams and calls between their steps, don't touch one another."""
    model, (x, first) = MODEL.layer(np.float32), steps(MODEL, np.float32, 3)
    one, other, stream = model.streams(3, first), model.streams(3), model.stream()
    at = [one.add() for _ in range(3)]
    assert [other.add() for _ in range(3)] == at
    for _ in range(3):
        assert_same_bits(other.step(x), stream.step(x))
        one.step(x)
        model(x[:, None])
