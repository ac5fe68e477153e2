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

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import forward, threads
from fastrnn.kernels.jit import function
from fastrnn.kernels.team import APART, CLOSED, GATE, HELPER, LINE, MEETINGS, MET, NUMBER, OPEN, enter
from fastrnn.kernels.tile import pointer

from .cases import DTYPES, Case, assert_same_bits, run, uniform
from .process import start
from .situations import TELLERS, TIMED, situations

# More than the cores at hand: then members of a team wait for one another.
COUNTS = (2, 3, 5)
# Which work is shared out, and how; with these, small work too, in many pieces.
IN_TURN = {"WORTH_HELP": 1, "WORK": 4_000_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 0, "SHARED": 1 << 60, "TOGETHER": 8}
BY_STEPS = {"WORTH_HELP": 1, "WORK": 1_000_000, "WARM_UP": 200_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}
PATIENCE = 20  # seconds for a helper to come, on a machine that others use
PLANS = {"in turn": IN_TURN, "by steps": BY_STEPS}

HEAD = Case("", (("Dense", "tanh"),), (20, 31))
PLAIN = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (12, 70, 12))
LARGE = Case("", (("RNN", "tanh"),), (5, 290))  # in panels of 64 columns: 4 and a part of one
WHOLE = Case("", (("RNN", "sigmoid"),), (3, 256))  # 4 panels, fewer than members
LOOP = Case("", (("RNN", "tanh"),), (60, 60))
STACK = Case("", (("RNN", "relu"), ("RNN", "tanh"), ("Dense", "log_softmax")), (11, 290, 37, 101))
NARROW = Case("", (("Dense", "tanh"), ("Dense", "sigmoid"), ("Dense", "tanh")), (40, 300, 16, 300))
BETWEEN = Case("", (("Dense", "tanh"), ("RNN", "tanh"), ("Dense", "tanh"), ("RNN", "tanh")), (40, 260, 16, 260, 16))

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_count = pytest.mark.parametrize("count", COUNTS)
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)

Request = collections.namedtuple("Request", "function arguments came")


def when_they_can(helpers, function, arguments, ask):
    return ask(helpers, function, *arguments)


def at_once(helpers, function, arguments, ask):
    """Before the call goes on, one is there; on a busy machine it might be over before."""
    there = threading.Event()
    call = ask(helpers, lambda *given: (there.set(), function(*given)), *arguments)
    there.wait(PATIENCE)
    return call


@contextlib.contextmanager
def team(count, plan=None, helper=at_once):
    """Let calls use so many threads by a plan, their helpers coming as `helper` has it; give those that were asked for."""
    ask, asked, came = threads.Pool.ask, [], threading.Event()

    def watch(pool, helpers, function, *arguments):
        def help_team(common, size, rung):
            forward.scratch.kept[...] = 0
            function(common, size, rung)
            if common[6][MET + LINE] if common[-1] else forward.scratch.kept.any():  # the second member was at a meeting
                came.set()

        asked.append(Request(help_team, arguments, came))
        return helper(helpers, help_team, arguments, functools.partial(ask, pool))

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (plan or {}).items():
            patch.setattr(forward.kernels if name == "TOGETHER" else forward, name, value)
        patch.setattr(threads.Pool, "ask", watch)
        patch.setattr(threads, "chosen", count)
        yield asked


def arrays(results):
    return [array for entry in results for array in arrays(entry)] if isinstance(results, tuple) else [np.asarray(results)]


def assert_same(actual, expected):
    for one, other in zip(arrays(actual), arrays(expected), strict=True):
        assert_same_bits(one, other)


def alone(call, *arguments):
    with team(1) as asked:
        results = call(*arguments)
    assert not asked
    return results


def whole(case, leading, steps, change=lambda x: x, **options):
    """A call of a case's model, its input changed."""

    def call(dtype):
        x, states = case.data(dtype, leading, steps)
        return run(case.layer(dtype), change(x), states, **options)

    return call


def tokens(case, leading, steps, kind=np.int64, **options):
    return whole(case, leading, steps, lambda x: (x[..., 0] * 1e4).astype(int).__mod__(case.sizes[0]).astype(kind), **options)


def uneven(count, steps):
    """Lengths of any order, some 0 and some of all steps."""
    return np.random.default_rng(3).integers(-3, steps + 4, count).clip(0, steps)


def score(dtype, **options):
    text = np.random.default_rng(4).integers(0, 12, (64, 200))
    return fastrnn.log_likelihood(PLAIN.layer(dtype), text, PLAIN.data(dtype, (64,), 1)[1], **options)


def generated(case, feedback, **options):
    def call(dtype):
        start = np.arange(50) % case.sizes[0] if feedback != "output" else case.data(dtype, (50,), 1)[0][:, 0]
        return fastrnn.generate(case.layer(dtype), start, 150, feedback=feedback, **options)

    return call


def functional(leading, steps):
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
    "tokens": tokens(PLAIN, (75,), 150),
    "tokens of a byte, one long sequence": tokens(STACK, (), 60, np.uint8),
    "lengths": whole(PLAIN, (75,), 150, lengths=uneven(75, 150)),
    "lengths of a few": whole(LARGE, (6,), 100, lengths=[100, 0, 57, 100, 1, 23]),
    "equal lengths": whole(PLAIN, (61,), 150, lengths=np.full(61, 149)),
    "lengths of tokens": tokens(PLAIN, (61,), 150, np.int32, lengths=uneven(61, 150)),
    "lengths, converted": whole(PLAIN, (61,), 150, lambda x: x.astype(np.float16), lengths=uneven(61, 150)),
    "converted": whole(PLAIN, (65,), 200, lambda x: x.astype(np.float16)),
    "strided": whole(STACK, (9,), 80, lambda x: np.repeat(np.moveaxis(x, -2, 0).copy(), 2, axis=-1)[..., ::2].swapaxes(0, 1)),
    "the last step": whole(STACK, (7,), 100, return_sequences=False),
    "the last step of a long sequence": whole(LARGE, (), 60, return_sequences=False),
    "the last step of each": whole(PLAIN, (61,), 150, lengths=uneven(61, 150), return_sequences=False),
    "log-likelihood": score,
    "log-likelihood of each": functools.partial(score, lengths=uneven(64, 200), per_step=True),
    "argmax": generated(PLAIN, "argmax", stop=3),
    "sample": generated(PLAIN, "sample", rng=5, top_k=7),
    "output": generated(LOOP, "output"),
    "rnn_forward": functional((100,), 150),
    "rnn_forward, one long sequence": functional((), 1000),
    "a stream": streamed(LARGE, (), 90),
    "a stream of a batch": streamed(PLAIN, (61,), 150),
}


@every_dtype
@every_plan
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_same_bits(call, plan, dtype):
    """Any number of threads gives the bits of one; helpers were asked for, and came."""
    expected = alone(call, dtype)
    for count in COUNTS:
        with team(count, plan) as asked:
            deadline = time.perf_counter() + PATIENCE
            while not (asked and asked[0].came.wait(0.002)):
                assert time.perf_counter() < deadline, "no helper came"
                assert_same(call(dtype), expected)


@every_dtype
@pytest.mark.parametrize("together", [8, 64])
@pytest.mark.parametrize("sequences", [2, 3, 4, 5, 8, 13, 64, 65, 130, 300])
def test_batches_of_any_size(sequences, together, dtype):
    """However many sequences there are for each thread, they have the bits that they have on one."""
    call = whole(PLAIN, (sequences,), 7)
    expected = alone(call, dtype)
    for count in COUNTS:
        with team(count, {**IN_TURN, "TOGETHER": together}) as asked:
            assert_same(call(dtype), expected)
        assert [len(asked), asked[0].arguments[0][9]] == [1, min(count, sequences) - 1]


def test_dealt_anew():
    """Of sequences of different lengths, every thread gets long and short ones, and all are worked on once."""
    for count, takers in itertools.product((1, 2, 7, 8, 9, 64, 101), COUNTS):
        block = forward.side_by_side(count, 64, takers)
        order = forward.deal(count, block)
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
        blocks = [order[first : first + block] for first in range(0, count, block)]
        assert all((np.diff(entry) > 0).all() for entry in blocks)
        assert max(entry[0] for entry in blocks) < len(blocks)


@every_plan
@given(situations(TIMED), st.integers(2, 5), st.sampled_from(["plain", "tokens", "lengths", "last"]))
def test_any_situation(plan, situation, count, kind):
    """Whatever the model and its input, threads give the bits of one."""
    options = {"lengths": {"lengths": situation.lengths}, "last": {"return_sequences": False}}.get(kind, {})
    data = situation.tokens if kind == "tokens" else situation.x
    call = functools.partial(run, situation.model, data, situation.states, **options)
    expected = alone(call)
    with team(count, {**plan, "WORK": 100_000, "WARM_UP": 20_000, "CONVERTED": 1 << 12}) as asked:
        assert_same(call(), expected)
    assert bool(asked) == (situation.steps > 0)


@every_plan
@given(situations(TELLERS, closed=True), st.integers(2, 5), st.sampled_from(["argmax", "sample", "output"]))
def test_any_generation(plan, situation, count, feedback):
    """What is generated, too."""
    first = situation.x[..., 0, :] if feedback == "output" and situation.steps else situation.start
    first = np.zeros((*situation.leading, situation.sizes[0])) if feedback == "output" and not situation.steps else first
    call = functools.partial(fastrnn.generate, situation.model, first, situation.steps, feedback=feedback, rng=situation.seed)
    expected = alone(call)
    with team(count, {**plan, "WORK": 100_000}) as asked:
        assert_same(call(), expected)
    assert bool(asked) == (situation.steps > 0 and math.prod(situation.leading) > 1)


def in_a_while(seconds):
    def helper(helpers, function, arguments, ask):
        return ask(helpers, lambda *given: (time.sleep(seconds), function(*given)), *arguments)

    return helper


def failing(*_):
    raise MemoryError


HELPERS = {
    "never": lambda *_: None,
    "late": in_a_while(0.003),
    "after the call": in_a_while(0.2),
    "fails": lambda helpers, function, arguments, ask: ask(helpers, failing),
    "one of all": lambda helpers, function, arguments, ask: ask(1, function, *arguments),
}
AWAITED = ["one long sequence", "a batch", "few sequences of a large layer", "two recurrent layers", "lengths", "argmax"]


@every_plan
@pytest.mark.parametrize("name", AWAITED)
@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
def test_helpers_that_do_not_come(helper, name, plan):
    """A helper that never comes, or late, or fails, changes nothing, and holds up nobody."""
    call = CALLS[name]
    expected = alone(call, np.float32)
    with team(4, plan, helper) as asked:
        started = time.perf_counter()
        assert_same(call(np.float32), expected)
        assert time.perf_counter() - started < 2
    assert asked


@every_plan
@pytest.mark.parametrize("name", AWAITED)
def test_helpers_that_dawdle(name, plan, monkeypatch):
    """Helpers that come to any piece of a call, or when all are over, change nothing."""
    call, kernel, delays = CALLS[name], forward.kernels.run, itertools.cycle((0, 1e-5, 1e-4, 3e-4))
    expected = alone(call, np.float32)

    def dawdle(*arguments):
        if arguments[-1]:
            time.sleep(next(delays))
        kernel(*arguments)

    monkeypatch.setattr(forward.kernels, "run", dawdle)
    with team(3, {**plan, "WORK": 100_000, "WARM_UP": 20_000}) as asked:
        for _ in range(10):
            assert_same(call(np.float32), expected)
    assert len(asked) == 10


def refuse(*_, **__):
    raise RuntimeError("can't start new thread")


@every_plan
@pytest.mark.parametrize(
    ("target", "name"), [(threading.Thread, "start"), (concurrent.futures.ThreadPoolExecutor, "submit")], ids=["start", "submit"]
)
def test_no_more_threads(target, name, plan, monkeypatch):
    """Where the system gives no more threads, or the interpreter shuts down, the caller does it all; help comes when it can again."""
    call = CALLS["a batch"]
    expected = alone(call, np.float32)
    monkeypatch.setattr(forward, "pool", threads.Pool())
    with team(3, plan, when_they_can) as asked:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, refuse)
            assert_same(call(np.float32), expected)
        assert not asked[0].came.wait(0.05)
        deadline = time.perf_counter() + PATIENCE
        while not asked[0].came.wait(0.002):
            assert time.perf_counter() < deadline, "no helper came"
            assert_same(call(np.float32), expected)


@every_plan
@pytest.mark.parametrize("name", ["a batch", "a large layer"])
def test_a_late_helper_touches_nothing(name, plan):
    """A helper that comes when all is over leaves the output and the input as the caller has changed them since."""
    case, leading = (PLAIN, (65,)) if name == "a batch" else (LARGE, ())
    model, (x, _) = case.layer(np.float32), case.data(np.float32, leading, 60)
    with team(3, plan, HELPERS["never"]) as asked:
        output = model(x)[0]
        x[...], output[...] = 3, 5
        for request in asked:
            request.function(*request.arguments, 0)
    assert [(request.arguments[0][6][GATE], request.came.is_set()) for request in asked] == [(CLOSED, False)]
    assert (x == 3).all()
    assert (output == 5).all()


@every_plan
def test_the_arrays_are_the_callers_again(plan):
    """When a call is over, nobody else refers to its input and output, though helpers linger."""
    model, given = PLAIN.layer(np.float32), bytearray(65 * 200 * 12 * 4)
    x = np.frombuffer(given, np.float32).reshape(65, 200, 12)
    with team(2, plan):
        output = model(x)[0]
        del x
        given.extend(b"more")  # a BufferError where somebody does
        output.resize((3, 5))  # a ValueError


@function
def entered(shared, number, by_steps):
    return enter(pointer(shared), number, 1, by_steps, True)


@pytest.mark.parametrize(("gate", "number"), [(2 * NUMBER + OPEN, 1), (1 * NUMBER, 1), (1 * NUMBER + HELPER, 1), (CLOSED, 1)])
def test_a_piece_that_is_over(gate, number):
    """Nobody enters a piece whose gate is shut, or another one's."""
    shared = np.zeros(MET + 2 * LINE, np.int64)
    shared[GATE] = gate
    assert entered(shared, number, False) == (0, CLOSED)
    assert shared[GATE] == gate
    shared[GATE] = number * NUMBER + OPEN
    assert entered(shared, number, False) == (1, 0)
    assert shared[GATE] == number * NUMBER + OPEN + HELPER


@every_plan
@pytest.mark.parametrize("leading", [(), (65,)])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_between_pieces(error, leading, plan, monkeypatch):
    """An exception on its way out closes the gate behind it: no helper goes on, and the next call is right."""
    case = LARGE if not leading else PLAIN
    call, convert, pieces = whole(case, leading, 300, lambda x: x.astype(np.float16)), forward.convert, itertools.count(1)
    expected = alone(call, np.float32)

    def stumble(*arguments):
        if next(pieces) == 3:
            raise error
        convert(*arguments)

    with team(3, plan) as asked:
        monkeypatch.setattr(forward, "convert", stumble)
        with pytest.raises(error):
            call(np.float32)
        assert [request.arguments[0][6][GATE] for request in asked] == [CLOSED]
        assert_same(call(np.float32), expected)


@every_plan
@pytest.mark.parametrize("count", [2, 3])
def test_calls_from_threads(count, plan):
    """Calls at the same time from many threads, of different models and dtypes, each with a team, have the bits they have alone."""
    calls = [(call, dtype) for name, call in CALLS.items() if name in AWAITED for dtype in DTYPES]
    expected = [alone(*call) for call in calls]
    with team(count, plan) as asked, concurrent.futures.ThreadPoolExecutor(8) as callers:
        for _ in range(3):
            futures = [callers.submit(*call) for call in calls]
            for future, results in zip(futures, expected, strict=True):
                assert_same(future.result(), results)
    assert len(asked) == 3 * len(calls)
    assert asked[0].came.wait(PATIENCE)


@every_dtype
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a thread can't be kept to a processor there")
@pytest.mark.skipif(threads.processors() == 1, reason="no helper has a processor to lose")
def test_parting(dtype, monkeypatch):
    """Where a helper loses its processor, the leader goes on alone in the middle of a piece, with the same bits."""
    call, processors, timers = whole(LARGE, (), 20_000), os.sched_getaffinity(0), []
    expected, (first, second) = alone(call, dtype), sorted(processors)[:2]

    def lose(helpers, function, arguments, ask):
        def begin(function, *given):
            os.sched_setaffinity(0, {second})
            timers.append(threading.Timer(0.01, os.sched_setaffinity, (threading.get_native_id(), {first})))
            timers[-1].start()
            function(*given)
            timers[-1].join()

        return at_once(helpers, function, arguments, lambda helpers, *given: ask(helpers, begin, *given))

    monkeypatch.setattr(forward, "pool", threads.Pool())
    os.sched_setaffinity(0, {first})
    try:
        with team(2, {**BY_STEPS, "WORK": 1 << 40, "MOST_WORK": 1 << 40}, lose) as asked:
            deadline = time.perf_counter() + PATIENCE
            while not any(request.arguments[0][6][APART] % MEETINGS for request in asked):
                assert time.perf_counter() < deadline, "they never parted"
                assert_same(call(dtype), expected)
    finally:
        os.sched_setaffinity(0, processors)


def test_asked_while_they_fall_asleep():
    """Whenever help is asked for, somebody comes."""
    pool = threads.Pool()
    for wait in np.linspace(0, 5e-4, 1000):
        came = threading.Event()
        pool.ask(1, lambda _, came=came: (time.sleep(1e-4), came.set()))
        assert came.wait(PATIENCE)
        time.sleep(wait)


def test_nothing_is_kept_of_what_nobody_came_for(monkeypatch):
    """A call that got no help leaves none of its arrays behind."""
    pool = threads.Pool()
    monkeypatch.setattr(forward, "pool", pool)
    with team(3, IN_TURN, when_they_can) as asked, monkeypatch.context() as patch:
        patch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", lambda *_: None)
        CALLS["a batch"](np.float32)
    assert len(asked) == 1
    assert pool.asked == []


def test_a_busy_thread_is_no_help():
    """Who asks while some threads are in others' calls gets those that aren't."""
    pool, over = threads.Pool(), threading.Event()
    started = threading.Barrier(3)
    pool.withdraw(pool.ask(6, int))
    first = pool.ask(2, lambda _: (started.wait(PATIENCE), over.wait(PATIENCE)))
    started.wait(PATIENCE)
    meeting = threading.Barrier(5)
    second = pool.ask(4, lambda _: meeting.wait(PATIENCE))
    meeting.wait(PATIENCE)
    over.set()
    for call in (first, second):
        pool.withdraw(call)
    assert pool.asked == pool.taken == []


def test_every_ring_is_counted():
    """Who is called is told how often the bell had been rung when he was asked for; who has served is free, withdrawn or not."""
    pool, rung, both = threads.Pool(), [], threading.Barrier(3)
    for _ in range(2):
        pool.ask(1, lambda count: (rung.append(count), both.wait(PATIENCE)))
        pool.start(1, 2)
    both.wait(PATIENCE)
    deadline = time.perf_counter() + PATIENCE
    while pool.serving:
        assert time.perf_counter() < deadline
    assert (sorted(rung), int(pool.bell[0])) == ([1, 2], 2)
    assert pool.asked == pool.taken == []


def test_a_call_within_a_call(monkeypatch):
    """What a signal's handler asks for while the executor is locked waits for nobody."""
    pool, submit, came, submitted = threads.Pool(), concurrent.futures.ThreadPoolExecutor.submit, threading.Event(), []

    def interrupted(executor, function):
        submitted.append(function)
        if len(submitted) == 1:
            pool.ask(1, lambda _: None)
        return submit(executor, function)

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", interrupted)
    pool.ask(1, lambda _: came.set())
    assert came.wait(PATIENCE)
    assert (len(submitted), pool.asked) == (1, [])


def test_the_second_is_over(monkeypatch):
    """A thread that has served for a second ends; for what is asked by then another comes, if the interpreter gives one."""
    pool, submit, submitted = threads.Pool(), concurrent.futures.ThreadPoolExecutor.submit, []
    there, over, came = threading.Event(), threading.Event(), threading.Event()
    clock = types.SimpleNamespace(monotonic=itertools.count(0, 0.7).__next__)
    monkeypatch.setattr(threads, "time", clock)
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", lambda *given: (submitted.append(given), submit(*given))[1])
    first = pool.ask(1, lambda _: (there.set(), over.wait(PATIENCE)))
    assert there.wait(PATIENCE)
    pool.withdraw(first)  # whose helper lingers
    pool.ask(1, lambda _: came.set())
    assert len(submitted) == 1
    over.set()
    assert came.wait(PATIENCE)
    assert len(submitted) == 2


@pytest.mark.skipif(os.name == "nt", reason="processor time comes in 16 ms there")
def test_helpers_go_to_sleep():
    """A burst of calls from many threads leaves nobody at work."""
    call = CALLS["a batch"]
    with team(2, IN_TURN, when_they_can) as asked, concurrent.futures.ThreadPoolExecutor(4) as callers:
        for future in [callers.submit(call, np.float32) for _ in range(100)]:
            future.result()
    assert len(asked) == 100
    time.sleep(0.1)
    busy = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - busy < 0.1


@pytest.mark.parametrize(("leading", "steps", "helpers"), [((64,), 8000, 50), ((64,), 80, 2), ((), 400_000, 7)])
def test_no_more_help_than_is_worth_it(leading, steps, helpers, unset):
    """Each helper has WORTH_HELP bytes to multiply by at least; those who meet at every step are few."""
    fastrnn.set_num_threads(51)
    network = (PLAIN if leading else LARGE).layer(np.float32)._packed()
    assert forward.division(network, math.prod(leading), steps, fed_back=False) == (helpers, not leading)


def test_outputs_are_work(monkeypatch):
    """A kernel call makes a bounded number of outputs, though they take few multiplications each."""
    run, rows = forward.kernels.run, []

    def record(*arguments):
        if not arguments[-1]:
            rows.append(arguments[-4] * arguments[-3])
        run(*arguments)

    monkeypatch.setattr(forward.kernels, "run", record)
    with team(3, helper=HELPERS["never"]):
        fastrnn.Dense(np.full((50_000, 4), 0.1, np.float32), activation="softmax")(np.ones((200, 5, 4), np.float32))
    assert sum(rows) == 1000
    assert max(rows) * 50_000 < 20_000_000


SMALL = {"one dense layer": (HEAD, ()), "a batch": (PLAIN, (4,)), "a large layer": (LARGE, ())}


@pytest.mark.parametrize(("case", "leading"), SMALL.values(), ids=SMALL)
def test_small_work_stays_with_the_caller(case, leading):
    """Nobody is asked for help with less than WORTH_HELP bytes of weights, with more somebody is."""
    model = case.layer(np.float32)
    most = (forward.WORTH_HELP - 1) // (model._packed().work * 4 * math.prod(leading))
    for steps, helpers in ((1, 0), (most, 0), (most + 1, 1)):
        with team(2) as asked:
            run(model, case.data(np.float32, leading, steps)[0])
        assert len(asked) == helpers


def test_a_small_layer_counts_for_nothing():
    """Of one long sequence, only what threads can share in counts: not a layer too small to meet in at every step."""
    for steps, helpers in ((3000, 0), (6000, 1)):
        with team(2) as asked:
            LOOP.layer(np.float32)(np.ones((steps, 60), np.float32))
        assert len(asked) == helpers


PROCESSORS = 6
ENVIRONMENTS = [
    ({}, PROCESSORS),
    ({"OMP_NUM_THREADS": "4"}, 4),
    ({"OMP_NUM_THREADS": " 4 ,2"}, 4),
    ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "4"}, 3),
    ({"FASTRNN_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "4"}, 2),
    ({"FASTRNN_NUM_THREADS": "50"}, 50),
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
    assert threading.active_count() == 1
    check()
    assert threading.active_count() == 2
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


def test_spawn(unset, monkeypatch):
    """A spawned process has threads as any other, and the same bits."""
    model, (x, _) = PLAIN.layer(np.float32), PLAIN.data(np.float32, (64,), 100)
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "3")
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert_same(workers.apply(model, (x,)), alone(model, x))
        assert workers.apply(threading.active_count) > 1
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
