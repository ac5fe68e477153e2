"""Threads change no bit, and no call ever waits for one that doesn't come."""

import concurrent.futures
import itertools
import math
import os
import threading
import time
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.engine import execute, plan, threads
from fastrnn.kernels.layout import BARRIERS, CHUNK, TEAM, TEAMS
from fastrnn.kernels.threads import team as kernels

from .cases import DTYPES, Case, pack, run
from .exhaustive import exhaustive, few
from .interception import around, field
from .sharing import (
    AWAITED,
    BY_STEPS,
    CALLS,
    COUNTS,
    IN_TURN,
    LARGE,
    ONE_PIECE,
    PATIENCE,
    PLAIN,
    PROMPT_SPINS,
    STACK,
    START,
    WAYS,
    all_are_free,
    alone,
    as_they_come,
    assert_same,
    at_once,
    in_a_while,
    never,
    one_of_all,
    team,
    uneven,
    until,
    until_help_came,
    whole,
    word,
)
from .situations import ALL, HEADS, TELLERS, situations

pytestmark = pytest.mark.usefixtures("piece_by_piece")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

# Of a single sequence only steps can be shared, of what is fed back only sequences; of all else either.
ONE_SEQUENCE = [name for name in CALLS if "one long sequence" in name or "of a long sequence" in name or name.startswith("wide")]
ONE_SEQUENCE += ["a large layer", "a large layer of whole panels", "two recurrent layers", "one dense layer", "a stream"]
ONE_SEQUENCE += ["few steps", "few steps of tokens"]
FED_BACK = ["argmax", "sample", "output"]
PAIRS = [(name, "by steps") for name in CALLS if name not in FED_BACK] + [(name, "in turn") for name in CALLS if name not in ONE_SEQUENCE]
DEFAULT = [
    ("one long sequence", "by steps"),
    ("few sequences of a large layer", "by steps"),
    ("wide and narrow layers, recurrent ones among them", "by steps"),
    ("lengths of a few", "by steps"),
    ("tokens of a table, one long sequence", "by steps"),
    ("few steps", "by steps"),
    ("a stream", "by steps"),
    ("a batch through two", "in turn"),
    ("lengths, converted", "in turn"),
    ("log-likelihood of each", "in turn"),
    ("sample", "in turn"),
    ("rnn_forward", "in turn"),
]
assert set(DEFAULT) <= set(PAIRS)


@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize(("name", "way"), [pytest.param(*pair, marks=() if pair in DEFAULT else exhaustive) for pair in PAIRS])
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
        with team(count, PROMPT_SPINS, at_once) as watch:
            for _ in until_help_came(watch):
                assert_same(call(dtype), expected)
        assert all(word(taken, "workers") < count for taken in watch.taken)


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
LATE_SPINS = {
    "falling": (FALLING, (), 450, {}),
    "rising": (RISING, (), 450, {}),
    "recurrent": (MIXED, (), 135, {}),
    "few": (FALLING, (3,), 135, {}),
    "lengths of a few": (MIXED, (3,), 90, {"lengths": [83, 90, 48]}),
}


@every_dtype
@pytest.mark.parametrize(("case", "leading", "steps", "options"), LATE_SPINS.values(), ids=LATE_SPINS)
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


WORKERS = {"never": never, "late": in_a_while(0.003), "after the call": in_a_while(0.2), "one of all": one_of_all}


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
@pytest.mark.parametrize("name", few(AWAITED, "lengths"))
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
    opened, others = written.index(TEAM.offsets["gate"]), {TEAM.offsets["next"], TEAM.offsets["split_at"]}
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
@pytest.mark.parametrize("count", few([2, 3], 3))
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
        for _ in until(lambda: any(word(taken, "split_at") % BARRIERS for taken in watch.taken), "they never parted"):
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

    with around("run_shared", hold, arguments=1), team(2, {**IN_TURN, **ONE_PIECE}, never):
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
