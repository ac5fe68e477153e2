"""How many threads there are is the user's word, or else the system's; who helps is decided by what is worth it."""

import functools
import itertools
import math
import os

import joblib
import numpy as np
import pytest

import fastrnn
from fastrnn.engine import plan, prepared, threads
from fastrnn.kernels.layout import JOB, POOL
from fastrnn.native import processor

from .cases import DTYPES, Case, run
from .interception import around, field
from .sharing import HEAD, IN_TURN, LARGE, LOOP, PLAIN, PROMPT_SPINS, alone, as_they_come, assert_same, never, team, word

pytestmark = pytest.mark.usefixtures("piece_by_piece")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def test_who_is_at_hand():
    """A worker that sleeps isn't waited for: now and then it is woken, for the calls after that one; a busy machine gets a rest."""
    case = Case("", (("RNN", "tanh"),), (30, 70))
    model, (x, _) = case.layer(np.float32), case.data(np.float32, (64,), 1)
    with team(2, PROMPT_SPINS, never) as watch:

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


@pytest.mark.parametrize("threads_now", [1, 2, 3, 8])
def test_who_helps_may_be_asked_again(threads_now, monkeypatch):
    """A call that has help looks whether the count of threads is still the same."""
    monkeypatch.setattr(threads, "chosen", threads_now)
    for hidden, count in itertools.product((16, 64, 100, 256, 512, 1024), (1, 2, 3, 5, 8, 13, 40, 64, 300)):
        network = Case("", (("RNN", "tanh"),), (10, hidden)).layer(np.float32).packed()
        helping = plan.help_for(network, count, 1, threads_now)
        assert helping is None or helping.ever or not helping.workers


def test_a_count_that_changes_meanwhile(monkeypatch):
    """What is prepared for one count of threads doesn't pass for another's."""
    model, x = Case("", (("RNN", "tanh"),), (30, 300)).layer(np.float32), np.ones((64, 1, 30), np.float32)
    monkeypatch.setattr(threads, "chosen", 4)
    asked = prepared.help_for

    def change(*given):
        monkeypatch.setattr(threads, "chosen", 1)
        return asked(*given)

    monkeypatch.setattr(prepared, "help_for", change)
    call = prepared.prepare(model.packed(), x.shape[:1], x.shape[1:2], 64)
    assert call.help.workers == 3
    assert call.is_stale


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
    monkeypatch.setattr(processor, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(processor, "quota", functools.cache(processor.quota.__wrapped__))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert fastrnn.get_num_threads() == expected


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
