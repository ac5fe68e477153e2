"""Threads change no bit, and no call ever waits for one that doesn't come; how many there are is the user's word, or else the system's."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import threading
import time
import types
from dataclasses import replace

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import functional
from fastrnn.engine import execute, plan, prepared, threads
from fastrnn.kernels.layout import CHUNK, JOB, MEETINGS, POOL, TEAM, TEAMS
from fastrnn.kernels.threads import team as kernels

from .cases import DTYPES, Case, assert_same_bits, pack, run, uniform
from .interception import around, chunk_of, field
from .process import start
from .situations import ALL, HEADS, TELLERS, situations

pytestmark = pytest.mark.usefixtures("piece_by_piece")

# More than the cores at hand: then members of a team wait for one another.
COUNTS = (2, 3, 5)
# Which work is shared out, and how; with these, small work too, in many pieces.
IN_TURN = {"WORTH_HELP": 1, "WORK": 4_000_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 0, "SHARED": 1 << 60, "TOGETHER": 8}
BY_STEPS = {"WORTH_HELP": 1, "WORK": 1_000_000, "WARM_UP": 200_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}
WAYS = {"in turn": IN_TURN, "by steps": BY_STEPS}
# Whether work that is too small to wait for a worker is shared with one that spins.
NEVER_PROMPT = {"WORTH_PROMPT_HELP": 1 << 60, "WORTH_PROMPT_STEPS": 1 << 60, "WORTH_PROMPT_PRODUCTS": 1 << 60}
PROMPTLY = {"WORTH_HELP": 1 << 60, "WORTH_PROMPT_HELP": 1, "WORTH_PROMPT_STEPS": 1, "WORTH_PROMPT_PRODUCTS": 1}
ONE_PIECE = {"WORK": 1 << 40, "MOST_WORK": 1 << 40, "WARM_UP": 1 << 40, "CONVERTED": 1 << 30}
START, TAKE = threads.start_thread, threads.Pool.take
PATIENCE = 120  # seconds for a worker to come: 10 were taken where others kept both processors busy; fewer than a test's timeout

HEAD = Case("", (("Dense", "tanh"),), (20, 31))
PLAIN = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (12, 70, 12))
ONE_HOT = replace(PLAIN, one_hot=True)
TABLE = Case("", (("Embedding", None), ("RNN", "tanh"), ("Dense", "softmax")), (12, 20, 70, 12), looked_up=True)
LARGE = Case("", (("RNN", "tanh"),), (5, 290))  # in panels of 64 columns: 4 and a part of one
WHOLE = Case("", (("RNN", "sigmoid"),), (3, 256))  # 4 panels, fewer than members
LOOP = Case("", (("RNN", "tanh"),), (60, 60))
STACK = Case("", (("RNN", "relu"), ("RNN", "tanh"), ("Dense", "log_softmax")), (11, 290, 37, 101))
NARROW = Case("", (("Dense", "tanh"), ("Dense", "sigmoid"), ("Dense", "tanh")), (40, 300, 16, 300))
GATED = Case("", (("LSTM", "peephole"), ("GRU", "before"), ("RNN", "leaky units at the input")), (30, 150, 130, 290))
BETWEEN = Case("", (("Dense", "tanh"), ("RNN", "tanh"), ("Dense", "tanh"), ("RNN", "tanh")), (40, 260, 16, 260, 16))

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def as_they_come(*thread):
    return START(*thread)


def at_once(*thread):
    """As above; and while its gate is open the leader waits for a worker: on a busy machine the piece might be over."""
    return START(*thread)


def surely(*thread):
    """As above; and after a call that nobody came to, the next is cut into twice as many pieces: each has a gate that a worker may see."""
    return START(*thread)


class Watch:
    """Watches whether workers come, and has leaders wait for them, or not."""

    def __init__(self, worker):
        self.worker, self.leads, self.came, self.taken = worker, threading.local(), threading.Event(), []
        self.inside = collections.defaultdict(threading.Event)

    def take(self, pool, workers):
        if self.worker is surely and self.taken and not self.came.is_set():
            plan.WORK = max(plan.WORK // 2, 1)
        team = TAKE(pool, workers)
        if team is not None:
            self.inside.pop(team.words.ctypes.data, None)
            self.taken.append(team.words)
        return team

    def lead(self, operation, call):
        self.leads.now = True
        operation()
        self.leads.now = False

    def run(self, operation, job):
        team, together = field(JOB, job, "team").value, field(CHUNK, chunk_of(job), "together")
        helps = bool(team) and not getattr(self.leads, "now", False)
        if helps:
            self.inside[team].set()
        elif field(JOB, job, "claim").value and self.worker in (at_once, surely):  # the gate is open
            self.inside[team].wait(0.5)
        together.value = 0
        operation()
        if together.value and helps:
            self.came.set()


@contextlib.contextmanager
def team(count, way=None, worker=surely):
    """Let calls use so many threads in a way of sharing, workers started as `worker` has it; give the watch over them."""
    watch = Watch(worker)
    with contextlib.ExitStack() as stack:
        for operation in ("lead", "run"):
            stack.enter_context(around(operation, getattr(watch, operation), arguments=1))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"WORK": plan.WORK, "LEAST_SHARED": 1 << 60, **NEVER_PROMPT, **(way or {})}.items():
            patch.setattr(plan, name, value)
        if worker not in (as_they_come, at_once, surely):
            patch.setattr(threads, "pool", threads.Pool())
        patch.setattr(functional, "recent", {})
        patch.setattr(threads.Pool, "take", lambda *given: watch.take(*given))
        patch.setattr(threads, "start_thread", worker)
        patch.setattr(threads, "chosen", count)
        yield watch


def all_are_free():
    """Tell whether every team, and each once, is free."""
    return len(threads.pool.free) == len({one.words.ctypes.data for one in threads.pool.free}) == TEAMS


def word(team, name):
    """Read a word of a team."""
    return team[TEAM.offsets[name]]


def until(happened, message="no worker came", seconds=PATIENCE):
    """Go on for as long as something hasn't happened."""
    deadline = time.perf_counter() + seconds
    while not happened():
        assert time.perf_counter() < deadline, message
        yield


def until_help_came(watch):
    return until(lambda: watch.came.wait(0.002))


def arrays(results):
    return [array for entry in results for array in arrays(entry)] if isinstance(results, tuple) else [np.asarray(results)]


def assert_same(actual, expected):
    for one, other in zip(arrays(actual), arrays(expected), strict=True):
        assert_same_bits(one, other)


def alone(call, *arguments):
    with team(1) as watch:
        results = call(*arguments)
    assert not watch.taken
    return results


def whole(case, leading, steps, change=lambda x: x, **options):
    """A call of a case's model, its input changed."""

    def call(dtype):
        x, states = case.data(dtype, leading, steps)
        return run(case.layer(dtype), change(x), states, **options)

    return call


def uneven(count, steps):
    """Lengths of any order, some 0 and some of all steps."""
    return np.random.default_rng(3).integers(-3, steps + 4, count).clip(0, steps)


def score(dtype, **options):
    text = np.random.default_rng(4).integers(0, 12, (64, 200))
    return fastrnn.log_likelihood(ONE_HOT.layer(dtype), text, ONE_HOT.data(dtype, (64,), 1)[1], **options)


def generated(case, feedback, **options):
    def call(dtype):
        start = np.arange(50) % case.sizes[0] if feedback != "output" else case.data(dtype, (50,), 1)[0][:, 0]
        return fastrnn.generate(case.layer(dtype), start, 150, feedback=feedback, **options)

    return call


def notebook(leading, steps):
    """Its states are not kept."""

    def call(dtype):
        weights = [uniform(np.random.default_rng(i), shape, dtype, 0.1) for i, shape in enumerate(((70, 9), (70, 70), (4, 70), (70,)))]
        x, h0 = (uniform(np.random.default_rng(9), shape, dtype, 1.0) for shape in ((*leading, steps, 9), (*leading, 70)))
        return fastrnn.rnn_forward(x, *weights, h0=h0)

    return call


def streamed(case, leading, steps):
    def call(dtype):
        stream = case.layer(dtype).stream()
        x = case.data(dtype, leading, steps)[0]
        return stream(x[..., : steps // 3, :]), stream(x[..., steps // 3 :, :]), stream.state

    return call


CALLS = {
    "one long sequence": whole(PLAIN, (), 1500),
    "a batch": whole(PLAIN, (5, 13), 200),
    "a large layer": whole(LARGE, (), 60),
    "a large layer of whole panels": whole(WHOLE, (), 60),
    "few sequences of a large layer": whole(LARGE, (7,), 100),
    "two recurrent layers": whole(STACK, (), 60),
    "a batch through two": whole(STACK, (13,), 60),
    "one dense layer": whole(HEAD, (), 100_000),
    "a batch through one dense layer": whole(HEAD, (65,), 2000),
    "wide and narrow layers": whole(NARROW, (), 2500),
    "wide and narrow layers, recurrent ones among them": whole(BETWEEN, (), 200),
    "wide and narrow layers, padded": whole(BETWEEN, (), 200, lengths=190),
    "tokens": whole(ONE_HOT, (75,), 150),
    "tokens of a table": whole(TABLE, (75,), 150),
    "tokens of a byte, one long sequence": whole(replace(STACK, one_hot=True), (), 60, np.uint8),
    "tokens of a table, one long sequence": whole(TABLE, (), 1500),
    "a table alone": whole(Case("", (("Embedding", None),), (9, 200)), (70,), 1000),
    "lengths": whole(PLAIN, (75,), 150, lengths=uneven(75, 150)),
    "lengths of a few": whole(LARGE, (6,), 100, lengths=[100, 0, 57, 100, 1, 23]),
    "equal lengths": whole(PLAIN, (61,), 150, lengths=np.full(61, 149)),
    "lengths of tokens": whole(ONE_HOT, (61,), 150, np.int32, lengths=uneven(61, 150)),
    "lengths of tokens of a table": whole(TABLE, (61,), 150, lengths=uneven(61, 150)),
    "lengths, converted": whole(PLAIN, (61,), 150, lambda x: x.astype(np.float16), lengths=uneven(61, 150)),
    "converted": whole(PLAIN, (65,), 200, lambda x: x.astype(np.float16)),
    "strided": whole(STACK, (9,), 80, lambda x: np.repeat(np.moveaxis(x, -2, 0).copy(), 2, axis=-1)[..., ::2].swapaxes(0, 1)),
    "the last step": whole(STACK, (7,), 100, return_sequences=False),
    "the last step of a long sequence": whole(LARGE, (), 60, return_sequences=False),
    "the last step of each": whole(PLAIN, (61,), 150, lengths=uneven(61, 150), return_sequences=False),
    "log-likelihood": score,
    "log-likelihood of each": functools.partial(score, lengths=uneven(64, 200), per_step=True),
    "argmax": generated(TABLE, "argmax", stop=3),
    "sample": generated(ONE_HOT, "sample", rng=5, top_k=7),
    "output": generated(LOOP, "output"),
    "rnn_forward": notebook((100,), 150),
    "rnn_forward, one long sequence": notebook((), 1000),
    "few steps": whole(GATED, (), 3),
    "few steps of tokens": whole(replace(STACK, one_hot=True), (), 2, np.uint8),
    "a step of few sequences": whole(GATED, (3,), 1),
    "a stream": streamed(LARGE, (), 90),
    "a stream of a batch": streamed(PLAIN, (61,), 150),
}


# Of a single sequence only steps can be shared, of what is fed back only sequences; of all else either.
ONE_SEQUENCE = [name for name in CALLS if "one long sequence" in name or "of a long sequence" in name or name.startswith("wide")]
ONE_SEQUENCE += ["a large layer", "a large layer of whole panels", "two recurrent layers", "one dense layer", "a stream"]
ONE_SEQUENCE += ["few steps", "few steps of tokens"]
FED_BACK = ["argmax", "sample", "output"]
PAIRS = [(name, "by steps") for name in CALLS if name not in FED_BACK] + [(name, "in turn") for name in CALLS if name not in ONE_SEQUENCE]


@every_dtype
@pytest.mark.parametrize(("name", "way"), PAIRS)
def test_same_bits(name, way, dtype):
    """Any number of threads gives the bits of one; helpers were asked for, and came."""
    call = CALLS[name]
    expected = alone(call, dtype)
    for count in COUNTS:
        with team(count, WAYS[way]) as watch:
            for _ in until_help_came(watch):
                assert_same(call(dtype), expected)


def banked(case, rows):
    def call(dtype):
        bank, x = case.layer(dtype).streams(rows), case.data(dtype, (rows,), 1)[0][:, 0]
        for _ in range(rows):
            bank.add()
        return bank.step(x), bank.step(x[: rows // 2], at=np.arange(rows)[::-2][: rows // 2]), bank.state

    return call


def stepped(case, leading):
    def call(dtype):
        stream, x = case.layer(dtype).stream(), case.data(dtype, leading, 3)[0]
        return [stream.step(x[..., i, :].copy()) for i in range(3)], stream.state

    return call


PROMPT = {
    "a batch": whole(PLAIN, (13,), 3),
    "a single step of a batch": whole(STACK, (40,), 1),
    "a long sequence of a small layer": whole(PLAIN, (), 60),
    "a large layer": whole(LARGE, (), 5),
    "two recurrent layers": whole(STACK, (), 5),
    "steps of a stream": stepped(LARGE, ()),
    "steps of a stream of a batch": stepped(PLAIN, (61,)),
    "steps of a bank": banked(PLAIN, 61),
}


@every_dtype
@pytest.mark.parametrize("name", PROMPT)
def test_prompt_help(name, dtype, monkeypatch):
    """Work that is too small to wait for a worker is shared with one that spins, with the same bits."""
    call = PROMPT[name]
    expected = alone(call, dtype)
    monkeypatch.setattr(threads.Pool, "is_at_hand", lambda pool: True)
    for count in COUNTS:
        with team(count, PROMPTLY, at_once) as watch:
            for _ in until_help_came(watch):
                assert_same(call(dtype), expected)
        assert all(word(taken, "workers") < count for taken in watch.taken)


def test_who_is_at_hand():
    """A worker that sleeps isn't waited for: now and then it is woken, for the calls after that one; a busy machine gets a rest."""
    case = Case("", (("RNN", "tanh"),), (30, 70))
    model, (x, _) = case.layer(np.float32), case.data(np.float32, (64,), 1)
    with team(2, PROMPTLY, never) as watch:

        def asked(calls):
            before = len(watch.taken)
            for _ in range(calls):
                model(x)
            return len(watch.taken) - before

        assert asked(10 * threads.MISSES) == 10
        POOL.fill(threads.pool.words, lookers=1)
        assert asked(20) == 20
        POOL.fill(threads.pool.words, busy=7)
        assert asked(20) == 13


def test_the_count_may_change():
    """A call, a stream and a bank that are ready for one number of threads heed another."""
    case = Case("", (("RNN", "tanh"),), (30, 70))
    model, (x, _) = case.layer(np.float32), case.data(np.float32, (64,), 1)
    stream, bank = model.stream(), model.streams(64)
    for _ in range(64):
        bank.add()
    for count in (1, 3, 1, 2):
        with team(count, {**IN_TURN, "WORK": 1 << 40}, as_they_come) as watch:
            for call in (lambda: model(x), lambda: stream.step(x[:, 0]), lambda: bank.step(x[:, 0])):
                before = len(watch.taken)
                call()
                assert [word(taken, "workers") for taken in watch.taken[before:]] == [count - 1] * (count > 1)


@every_dtype
@pytest.mark.parametrize("together", [8, 64])
@pytest.mark.parametrize("sequences", [2, 3, 4, 5, 8, 13, 64, 65, 130, 300])
def test_batches_of_any_size(sequences, together, dtype):
    """However many sequences there are for each thread, they have the bits that they have on one."""
    call = whole(PLAIN, (sequences,), 7)
    expected = alone(call, dtype)
    for count in COUNTS:
        with team(count, {**IN_TURN, "TOGETHER": together}) as watch:
            assert_same(call(dtype), expected)
        assert [word(taken, "workers") for taken in watch.taken] == [min(count, sequences) - 1]


def test_dealt_anew():
    """Of sequences of different lengths, every thread gets long and short ones, and all are worked on once."""
    for count, takers in itertools.product((1, 2, 7, 8, 9, 64, 101), COUNTS):
        block = plan.side_by_side(count, 64, takers)
        order = plan.deal(count, block)
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
        blocks = [order[first : first + block] for first in range(0, count, block)]
        assert all((np.diff(entry) > 0).all() for entry in blocks)
        assert max(entry[0] for entry in blocks) < len(blocks)


def packed(situation):
    """Make a model that has made no call yet, but packed its weights: a small table's products may have help, too."""
    model = situation.model
    pack(model)
    return model


@every_way
@given(situations(ALL), st.integers(2, 5), st.sampled_from(["plain", "lengths", "last"]))
def test_any_situation(way, situation, count, kind):
    """Whatever the model and its input, threads give the bits of one."""
    options = {"lengths": {"lengths": situation.lengths}, "last": {"return_sequences": False}}.get(kind, {})

    def call(model):
        return run(model, situation.x, situation.states, **options)

    expected, model = alone(call, packed(situation)), packed(situation)
    with team(count, {**way, "WORK": 100_000, "WARM_UP": 20_000, "CONVERTED": 1 << 12}) as watch:
        assert_same(call(model), expected)
    assert bool(watch.taken) == (situation.steps > 0)


@every_way
@given(situations([*TELLERS, *HEADS], closed=True), st.integers(2, 5), st.sampled_from(["argmax", "sample"]))
def test_any_generation(way, situation, count, feedback):
    """What is generated, too."""
    feedback = feedback if situation.case.tokens else "output"
    first = situation.start if situation.case.tokens else np.full((*situation.leading, situation.sizes[0]), 0.1)

    def call(model):
        return fastrnn.generate(model, first, situation.steps, feedback=feedback, rng=situation.seed)

    expected, model = alone(call, packed(situation)), packed(situation)
    with team(count, {**way, "WORK": 100_000}) as watch:
        assert_same(call(model), expected)
    assert bool(watch.taken) == (situation.steps > 0 and math.prod(situation.leading) > 1)


# Layers whose rows overlap, in memory, those of the layer after the next, and the last layer's those of the first. The rows are so
# long that a piece of work has several chunks.
FALLING = Case("", (("Dense", "tanh"), ("Dense", "tanh"), ("Dense", "tanh")), (3, 9000, 16, 5000))
RISING = Case("", (("Dense", "tanh"), ("Dense", "tanh"), ("Dense", "tanh")), (3, 5000, 16, 9000))
MIXED = Case("", (("RNN", "tanh"), ("Dense", "tanh"), ("RNN", "tanh"), ("Dense", "tanh")), (3, 290, 9000, 20, 9))
LATE = {
    "falling": (FALLING, (), 450, {}),
    "rising": (RISING, (), 450, {}),
    "recurrent": (MIXED, (), 135, {}),
    "few": (FALLING, (3,), 135, {}),
    "lengths of a few": (MIXED, (3,), 90, {"lengths": [83, 90, 48]}),
}


@every_dtype
@pytest.mark.parametrize(("case", "leading", "steps", "options"), LATE.values(), ids=LATE)
def test_nobody_runs_ahead(case, leading, steps, options, dtype):
    """However late the leader is with a layer's rows or steps, helpers neither read them too early nor overwrite what it still reads."""
    call, network, ahead = whole(case, leading, steps, **options), case.layer(dtype).packed(), set()
    expected, piece = alone(call, dtype), 45 * math.prod(leading) * (network.work + plan.OUTPUT * network.output_size)
    turns = itertools.cycle([True, *[False] * len(case.layers)])  # another layer in every chunk: late in all of them, all is in order again

    def delay(operation, layer, job, chunk):
        if field(CHUNK, chunk, "member").value:
            ahead.add(field(CHUNK, chunk, "t").value)
        elif field(CHUNK, chunk, "members").value > 1 and next(turns):
            time.sleep(1e-3)
        operation()

    with around("project", delay, dtype), around("elman", delay, dtype), team(2, {**BY_STEPS, "WORK": piece, "WARM_UP": piece}, at_once):
        for _ in until(lambda: len(ahead) > 1):
            assert_same(call(dtype), expected)


def in_a_while(seconds):
    def start(*thread):
        threading.Timer(seconds, START, thread).start()
        return True

    return start


def never(*_):
    return False


def one_of_all(*thread):
    return threads.pool.started == 0 and START(*thread)


WORKERS = {"never": never, "late": in_a_while(0.003), "after the call": in_a_while(0.2), "one of all": one_of_all}
AWAITED = ["one long sequence", "a batch", "few sequences of a large layer", "two recurrent layers", "lengths", "argmax"]


@every_way
@pytest.mark.parametrize("name", AWAITED)
@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_workers_that_do_not_come(worker, name, way):
    """A worker that never comes, or late, changes nothing, and holds up nobody."""
    call = CALLS[name]
    expected = alone(call, np.float32)
    with team(4, way, worker) as watch:
        started = time.perf_counter()
        assert_same(call(np.float32), expected)
        assert time.perf_counter() - started < 2
    assert watch.taken


@every_way
@pytest.mark.parametrize("name", AWAITED)
def test_workers_that_dawdle(name, way):
    """Workers that take their time in any piece of a call change nothing."""
    call, delays, leader = CALLS[name], itertools.cycle((0, 1e-5, 1e-4, 3e-4)), threading.get_native_id()
    expected = alone(call, np.float32)

    def delay(operation, layer, job, chunk):
        if threading.get_native_id() != leader:
            time.sleep(next(delays))
        operation()

    with around("project", delay, np.float32), team(3, {**way, "WORK": 100_000, "WARM_UP": 20_000}, as_they_come) as watch:
        for _ in range(10):
            assert_same(call(np.float32), expected)
    assert len(watch.taken) == 10


@every_dtype
def test_many_tiny_pieces(dtype):
    """Of pieces that come and go within microseconds, larger ones after smaller ones, every sequence is worked on once."""
    call = whole(Case("", (("RNN", "tanh"),), (2, 3)), (96,), 40, lengths=uneven(96, 40))
    expected = alone(call, dtype)
    with team(3, {**IN_TURN, "WORK": 600, "TOGETHER": 2}) as watch:
        for _ in until_help_came(watch):
            for _ in range(10):
                assert_same(call(dtype), expected)


def test_a_gate_opens_last(monkeypatch):
    """All that belongs to a piece is in place before its gate opens: who comes in at once would claim by the last piece's counter."""
    written = []

    def note(words, word, value):
        written.append(word)

    for name, function in {"post": note, "add": note, "peek": lambda words, word: 0, "pool_at": lambda address: None}.items():
        monkeypatch.setattr(kernels, name, function)
    job = types.SimpleNamespace(number=1, share=0, helpers=1, room=0)
    kernels.open_gate.py_func(types.SimpleNamespace(pool=0, workers=0, space=0), job, None)
    opened, others = written.index(TEAM.offsets["gate"]), {TEAM.offsets["next"], TEAM.offsets["apart"]}
    assert others <= set(written[:opened])
    assert not others & set(written[opened:])


@every_way
def test_no_more_threads(way):
    """Where the system gives no more threads the caller does it all; help comes when it can again."""
    call = CALLS["a batch"]
    expected = alone(call, np.float32)
    with team(3, way, one_of_all) as watch:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threads, "start_thread", lambda *_: False)
            assert_same(call(np.float32), expected)
        assert not watch.came.wait(0.05)
        for _ in until_help_came(watch):
            assert_same(call(np.float32), expected)


LEFT = {"a batch": (PLAIN, (65,)), "a large layer": (LARGE, ())}


@every_way
@pytest.mark.parametrize(("case", "leading"), LEFT.values(), ids=LEFT)
def test_a_late_worker_touches_nothing(case, leading, way):
    """A worker that comes when all is over finds the gate shut, and leaves output and input as the caller has changed them since."""
    model, (x, _) = case.layer(np.float32), case.data(np.float32, leading, 60)
    with team(3, way, never) as watch:
        output = model(x)[0]
        x[...], output[...] = 3, 5
        (taken,) = watch.taken
        before = taken.copy()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threads, "start_thread", START)
            assert threads.pool.start()
        time.sleep(0.05)
    np.testing.assert_array_equal(taken, before)
    assert not watch.came.is_set()
    assert (x == 3).all()
    assert (output == 5).all()


@every_way
def test_the_arrays_are_the_callers_again(way):
    """When a call is over, nobody else refers to its input and output."""
    model, given = PLAIN.layer(np.float32), bytearray(65 * 200 * 12 * 4)
    x = np.frombuffer(given, np.float32).reshape(65, 200, 12)
    with team(2, way):
        output = model(x)[0]
        del x
        given.extend(b"more")  # a BufferError where somebody does
        output.resize((3, 5))  # a ValueError


@every_way
@pytest.mark.parametrize("leading", [(), (65,)])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_between_pieces(error, leading, way, monkeypatch):
    """An exception on its way out leaves the gate shut and gives the team back, and the next call is right."""
    case = LARGE if not leading else PLAIN
    call, convert, pieces = whole(case, leading, 300, lambda x: x.astype(np.float16)), execute.convert_piece, itertools.count(1)
    expected = alone(call, np.float32)

    def stumble(*arguments):
        if next(pieces) == 3:
            raise error
        convert(*arguments)

    with team(3, way) as watch:
        monkeypatch.setattr(execute, "convert_piece", stumble)
        with pytest.raises(error):
            call(np.float32)
        assert [word(taken, "gate") % 2 for taken in watch.taken] == [0]
        assert all_are_free()
        assert_same(call(np.float32), expected)


@every_way
@pytest.mark.parametrize("count", [2, 3])
def test_calls_from_threads(count, way):
    """Calls at the same time from many threads, of different models and dtypes, each with a team, have the bits they have alone."""
    calls = [(call, dtype) for name, call in CALLS.items() if name in AWAITED for dtype in DTYPES]
    expected = [alone(*call) for call in calls]
    with team(count, way) as watch, concurrent.futures.ThreadPoolExecutor(8) as callers:
        for _ in range(3):
            futures = [callers.submit(*call) for call in calls]
            for future, results in zip(futures, expected, strict=True):
                assert_same(future.result(), results)
    assert len(watch.taken) == 3 * len(calls)
    assert watch.came.wait(PATIENCE)
    assert all_are_free()


TWICE = Case("", (("RNN", "tanh"), ("RNN", "relu")), (5, 290, 330))


@every_dtype
@pytest.mark.parametrize("step", [0, 20, 38, 39])
@pytest.mark.parametrize("layer", [0, 1])
def test_parting(layer, step, dtype):
    """Where a helper loses its processor, the leader goes on alone in the middle of a piece, in any layer, with the same bits."""
    call, taken = whole(TWICE, (), 40), itertools.count()
    expected = alone(call, dtype)

    def lose(operation, _, job, chunk):
        if field(CHUNK, chunk, "member").value and next(taken) == layer * 40 + step:
            time.sleep(0.02)
        operation()

    with around("elman", lose, dtype), team(2, {**BY_STEPS, **ONE_PIECE}, at_once) as watch:
        for _ in until(lambda: any(word(taken, "apart") % MEETINGS for taken in watch.taken), "they never parted"):
            taken = itertools.count()
            assert_same(call(dtype), expected)


def test_asked_while_they_fall_asleep():
    """Whenever help is asked for, a worker comes, whether it sleeps, or is about to."""
    call = whole(PLAIN, (64,), 60)
    expected = alone(call, np.float32)
    with team(2, {**IN_TURN, **ONE_PIECE}, at_once) as watch:
        for wait in np.linspace(0, 2e-3, 200):
            assert_same(call(np.float32), expected)
            assert watch.inside[watch.taken[-1].ctypes.data].is_set()
            time.sleep(wait)


def test_more_calls_than_teams():
    """Calls that come when as many have help as can have go on alone, and are right; all teams are given back."""
    call, there, over = whole(PLAIN, (3,), 20), threading.Barrier(TEAMS + 1), threading.Event()
    expected = alone(call, np.float32)

    def hold(operation, _):
        there.wait(PATIENCE)
        over.wait(PATIENCE)
        operation()

    with around("lead", hold, arguments=1), team(2, {**IN_TURN, **ONE_PIECE}, never):
        callers = [threading.Thread(target=call, args=(np.float32,)) for _ in range(TEAMS)]
        for caller in callers:
            caller.start()
        there.wait(PATIENCE)
        assert threads.pool.free == []
        assert_same(call(np.float32), expected)
        over.set()
        for caller in callers:
            caller.join(PATIENCE)
        assert all_are_free()


def test_a_call_that_gives_no_team_back():
    """A team that an interrupt kept from being given back is taken back where no other is free, with no code of Python's at its end."""
    assert not hasattr(threads.Team, "__del__")  # where Python swallows an interrupt
    held = [threads.pool.take(0) for _ in range(TEAMS)]
    assert threads.pool.take(0) is None
    del held[3:5]
    again = [threads.pool.take(0) for _ in range(3)]
    assert [one is None for one in again] == [False, False, True]
    for one in [*held, *again[:2]]:
        one.give_back()
    assert all_are_free()


def test_a_lost_team_goes_to_one_call():
    """Two threads that find the same team lost don't both take it back."""
    pool = threads.Pool()
    held = [pool.take(0) for _ in range(TEAMS)]
    lost = held.pop().words.ctypes.data
    stale, taken = list(pool.made), []

    class Late(list):
        def __iter__(self):
            """Between the look at a lost team and what is done about it, another thread takes it back, and a call takes it."""
            pool.made = list(stale)
            pool.take_back_lost()
            taken.append(pool.take(0))
            return iter(stale)

    pool.made = Late(stale)
    pool.take_back_lost()
    assert [team.words.ctypes.data for team in taken] == [lost]
    assert pool.free == []


@every_dtype
def test_a_team_of_many_pieces(dtype, monkeypatch):
    """Barriers are counted over all pieces that a team ever did: the word has room for years of them."""
    call = CALLS["a large layer"]
    expected = alone(call, dtype)
    for number in (2**31 - 3, 2**40):
        monkeypatch.setattr(threads, "pool", threads.Pool())
        with team(2, {**BY_STEPS, **ONE_PIECE}, at_once) as watch:
            for free in threads.pool.free:
                TEAM.fill(free.words, number=number)
            for _ in until_help_came(watch):
                assert_same(call(dtype), expected)
            for _ in range(20):
                assert_same(call(dtype), expected)


@pytest.mark.parametrize("threads_now", [1, 2, 3, 8])
def test_who_helps_may_be_asked_again(threads_now, monkeypatch):
    """A call that has help looks whether the count of threads is still the same."""
    monkeypatch.setattr(threads, "chosen", threads_now)
    for hidden, count in itertools.product((16, 64, 100, 256, 512, 1024), (1, 2, 3, 5, 8, 13, 40, 64, 300)):
        network = Case("", (("RNN", "tanh"),), (10, hidden)).layer(np.float32).packed()
        helping = plan.help_at_once(network, count, 1, threads_now)
        assert helping is None or helping.ever or not helping.workers


def test_a_count_that_changes_meanwhile(monkeypatch):
    """What is prepared for one count of threads doesn't pass for another's."""
    model, x = Case("", (("RNN", "tanh"),), (30, 300)).layer(np.float32), np.ones((64, 1, 30), np.float32)
    monkeypatch.setattr(threads, "chosen", 4)
    asked = prepared.help_at_once

    def change(*given):
        monkeypatch.setattr(threads, "chosen", 1)
        return asked(*given)

    monkeypatch.setattr(prepared, "help_at_once", change)
    call = prepared.prepare(model.packed(), x.shape[:1], x.shape[1:2], 64)
    assert call.help.workers == 3
    assert call.is_stale


@pytest.mark.skipif(os.name == "nt", reason="processor time comes in 16 ms there")
def test_helpers_go_to_sleep():
    """A burst of calls from many threads leaves nobody at work."""
    call = CALLS["a batch"]
    with team(2, IN_TURN, as_they_come) as watch, concurrent.futures.ThreadPoolExecutor(4) as callers:
        for future in [callers.submit(call, np.float32) for _ in range(100)]:
            future.result()
    assert len(watch.taken) == 100
    time.sleep(0.1)
    busy = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - busy < 0.1


@pytest.mark.parametrize(("leading", "steps", "helpers"), [((64,), 8000, 50), ((64,), 80, 2), ((), 400_000, 7)])
def test_no_more_help_than_is_worth_it(leading, steps, helpers, unset):
    """Each helper has WORTH_HELP bytes to multiply by at least; those who meet at every step are few."""
    fastrnn.set_num_threads(51)
    network = (PLAIN if leading else LARGE).layer(np.float32).packed()
    assert plan.division(network, math.prod(leading), steps, fed_back=False) == (helpers, not leading)


@every_dtype
@pytest.mark.parametrize(("cell", "sizes"), [("LSTM", (1, 40)), ("LSTM", (1, 12)), ("LSTM", (8, 64)), ("GRU", (4, 64))])
def test_a_small_layer_is_not_shared(dtype, cell, sizes):
    """One sequence stays on one thread, however long it is, where nearly all of a step's work needs the state before it."""
    form = {"LSTM": "plain", "GRU": "after"}[cell]
    network = Case("", ((cell, form),), sizes).layer(dtype).packed()
    assert plan.division(network, 1, 10_000_000, fed_back=False, threads=2) == (0, True)


def test_outputs_are_work():
    """A kernel call makes a bounded number of outputs, though they take few multiplications each."""
    rows = []

    def record(call, job):
        rows.append(field(JOB, job, "count").value * field(JOB, job, "steps").value)
        call()

    with around("run", record, arguments=1), team(3, worker=never):
        fastrnn.Dense(np.full((50_000, 4), 0.1, np.float32), activation="softmax")(np.ones((200, 5, 4), np.float32))
    assert sum(rows) == 1000
    assert max(rows) * 50_000 < 20_000_000


SMALL = {"one dense layer": (HEAD, ()), "a batch": (PLAIN, (4,)), "a large layer": (LARGE, ())}


@pytest.mark.parametrize(("case", "leading"), SMALL.values(), ids=SMALL)
def test_small_work_stays_with_the_caller(case, leading):
    """A worker that sleeps isn't asked for help with less than WORTH_HELP bytes of weights, with more it is."""
    model = case.layer(np.float32)
    most = (plan.WORTH_HELP - 1) // (model.packed().work * 4 * math.prod(leading))
    for steps, helpers in ((1, 0), (most, 0), (most + 1, 1)):
        with team(2) as watch:
            run(model, case.data(np.float32, leading, steps)[0])
        assert len(watch.taken) == helpers


def test_a_small_layer_counts_for_nothing():
    """Of one long sequence, only what threads can share in counts: not a layer too small to meet in at every step."""
    for steps, helpers in ((3000, 0), (6000, 1)):
        with team(2) as watch:
            LOOP.layer(np.float32)(np.ones((steps, 60), np.float32))
        assert len(watch.taken) == helpers


PROCESSORS = 6
ENVIRONMENTS = [
    ({}, PROCESSORS),
    ({"OMP_NUM_THREADS": "4"}, 4),
    ({"OMP_NUM_THREADS": " 4 ,2"}, 4),
    ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "4"}, 3),
    ({"FASTRNN_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "4"}, 2),
    ({"FASTRNN_NUM_THREADS": "50"}, 50),
    ({"FASTRNN_NUM_THREADS": " 5\n"}, 5),
    ({"NUMBA_NUM_THREADS": "50"}, PROCESSORS),
    ({"OMP_NUM_THREADS": "50"}, PROCESSORS),
    ({"FASTRNN_NUM_THREADS": "", "NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": "4"}, 4),
    ({"NUMBA_NUM_THREADS": "0", "OMP_NUM_THREADS": "4"}, 4),
    ({"NUMBA_NUM_THREADS": "all", "OMP_NUM_THREADS": "-1"}, PROCESSORS),
]


@pytest.fixture
def unset(monkeypatch):
    """Nothing says how many threads there are but the processors."""
    monkeypatch.setattr(threads, "chosen", None)
    monkeypatch.setattr(threads, "found", None)
    for variable in (threads.VARIABLE, *threads.OTHER_VARIABLES):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(("environment", "expected"), ENVIRONMENTS)
def test_environment(environment, expected, unset, monkeypatch):
    """fastrnn's variable counts before NUMBA_NUM_THREADS and OMP_NUM_THREADS, these up to the processors; set_num_threads above all."""
    monkeypatch.setattr(threads, "processors", lambda: PROCESSORS)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert fastrnn.get_num_threads() == expected
    fastrnn.set_num_threads(np.int32(7))
    assert fastrnn.get_num_threads() == 7


@pytest.mark.parametrize(("text", "expected"), [("150000 100000\n", 2), ("100000 100000\n", 1), ("max 100000\n", 8), ("", 8), (None, 8)])
def test_quota(text, expected, unset, monkeypatch, tmp_path):
    """A container's limit of processor time counts, rounded up, where there is one."""
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(threads, "quota", functools.cache(threads.quota.__wrapped__))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert fastrnn.get_num_threads() == expected


def ended(script, **environment):
    """What a script prints; it must end by itself within a minute, without an error."""
    process = start(SETUP + script, **{**dict.fromkeys(threads.OTHER_VARIABLES), "FASTRNN_NUM_THREADS": 2, **environment})
    try:
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (errors, process.returncode) == ("", 0)
    return printed.split()


SETUP = """
import atexit, multiprocessing, os, threading, time, warnings
import numpy as np
import fastrnn
from tests.cases import Case

model = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (5, 300, 4)).layer(np.float32)
batch, long = np.ones((64, 5, 5), np.float32), np.ones((400, 5), np.float32)

def call():
    return [output.tobytes() for output in (model(batch)[0], model(long)[0])]

def check():
    print(call() == alone, flush=True)
"""
ALONE = """
fastrnn.set_num_threads(1)
alone = call()
fastrnn.set_num_threads(2)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process can't be kept to a processor there")
def test_affinity():
    """The processors that a process is kept to count, not the machine's."""
    script = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(fastrnn.get_num_threads())"
    assert ended(script, FASTRNN_NUM_THREADS=None) == ["1"]


FORK = """
check()
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # by Python 3.12 and later: so it is
def child():
    assert fastrnn.engine.threads.pool.started == 0
    check()
    assert fastrnn.engine.threads.pool.started == 1
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print(process.exitcode)
if os.fork() == 0:
    child()
    os._exit(0)
print(os.wait()[1])
check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_fork():
    """A forked process starts threads of its own."""
    assert ended(ALONE + FORK) == ["True", "True", "0", "True", "0", "True"]


def workers_started():
    return threads.pool.started


def test_spawn(unset, monkeypatch):
    """A spawned process has threads as any other, and the same bits."""
    model, (x, _) = PLAIN.layer(np.float32), PLAIN.data(np.float32, (64,), 100)
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "3")
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert_same(workers.apply(model, (x,)), alone(model, x))
        assert workers.apply(workers_started) == 2
        workers.close()
        workers.join()


def test_joblib(unset):
    """joblib's workers share the processors: each has its part of them as threads, and the same bits."""
    model, (x, _) = PLAIN.layer(np.float32), PLAIN.data(np.float32, (64,), 100)
    with joblib.Parallel(n_jobs=2) as parallel:
        counts = parallel(joblib.delayed(fastrnn.get_num_threads)() for _ in range(2))
        results = parallel(joblib.delayed(model)(x) for _ in range(2))
    joblib.externals.loky.get_reusable_executor().shutdown()
    assert counts == [max(joblib.cpu_count() // 2, 1)] * 2
    for result in results:
        assert_same(result, alone(model, x))


LATE = "threading.Thread(target=lambda: (threading.main_thread().join(), time.sleep(0.1), check())).start()"
ENDS = {"in an exit handler": "atexit.register(check)", "in a thread that outlives the main one": LATE}


@pytest.mark.parametrize("first", ["", "check()\n"], ids=["the first call", "a later call"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_interpreter_shutdown(end, first):
    """A call while the interpreter shuts down, when no thread can be started, is right; the process ends."""
    assert ended(ALONE + first + end) == ["True"] * (2 if first else 1)


DAEMON = """
def forever():
    while True:
        call()

for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
check()
"""


def test_daemon_threads():
    """Threads that go on calling while the process ends hold nothing up."""
    assert ended(ALONE + DAEMON) == ["True"]
