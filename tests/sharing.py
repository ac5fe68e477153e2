"""Calls that threads share: many of them, the ways of sharing, and a watch over who comes to help."""

import collections
import contextlib
import functools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import fastrnn
from fastrnn import functional
from fastrnn.engine import plan, threads
from fastrnn.engine.recent import Recent
from fastrnn.kernels.layout import CHUNK, JOB, TEAM, TEAMS

from .cases import Case, assert_same_bits, run, uniform
from .interception import around, chunk_of, field

# More than the cores at hand: then members of a team wait for one another.
COUNTS = (2, 3, 5)
# Which work is shared out, and how; with these, small work too, in many pieces.
IN_TURN = {"WORTH_HELP": 1, "WORK": 4_000_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 0, "SHARED": 1 << 60, "TOGETHER": 8}
BY_STEPS = {"WORTH_HELP": 1, "WORK": 1_000_000, "WARM_UP": 200_000, "CONVERTED": 1 << 16, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}
WAYS = {"in turn": IN_TURN, "by steps": BY_STEPS}
# Whether work that is too small to wait for a worker is shared with one that spins.
NEVER_PROMPT = {"WORTH_PROMPT_HELP": 1 << 60, "WORTH_PROMPT_STEPS": 1 << 60, "WORTH_PROMPT_PRODUCTS": 1 << 60}
PROMPT_SPINS = {"WORTH_HELP": 1 << 60, "WORTH_PROMPT_HELP": 1, "WORTH_PROMPT_STEPS": 1, "WORTH_PROMPT_PRODUCTS": 1}
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

    def run_shared(self, operation, call):
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
        for operation in ("run_shared", "run"):
            stack.enter_context(around(operation, getattr(watch, operation), arguments=1))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"WORK": plan.WORK, "LEAST_SHARED": 1 << 60, **NEVER_PROMPT, **(way or {})}.items():
            patch.setattr(plan, name, value)
        if worker not in (as_they_come, at_once, surely):
            patch.setattr(threads, "pool", threads.Pool())
        patch.setattr(functional, "recent", Recent(functional.MOST_RECENT))
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


def in_a_while(seconds):
    def start(*thread):
        threading.Timer(seconds, START, thread).start()
        return True

    return start


def never(*_):
    return False


def one_of_all(*thread):
    return threads.pool.started == 0 and START(*thread)


AWAITED = ["one long sequence", "a batch", "few sequences of a large layer", "two recurrent layers", "lengths", "argmax"]
