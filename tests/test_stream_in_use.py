"""A stream or a bank in use: another thread gets an error, a signal's handler too where it would disturb; nothing is corrupted."""

import functools
import itertools
import pickle
import signal
import sys
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import banks
from fastrnn.arguments import IN_USE
from fastrnn.kernels.layout import FREE

from .cases import MODEL, Case, assert_same_bits, flat
from .interception import around
from .process import python

EMBEDDED = Case("", (("Embedding", None), ("GRU", "after"), ("Dense", "softmax")), (9, 5, 20, 4))
ROWS = np.arange(6)


def begun(kind):
    """A stream, or a bank with six rows handed out, that has made one step; and another step."""
    model, (x, _) = MODEL.layer(np.float32), MODEL.data(np.float32, (6,), 3)
    if kind == "stream":
        stream = model.stream()
        stream.step(x[:, 0])
        return stream, lambda: stream.step(x[:, 1])
    bank = model.streams(8)
    for _ in range(6):
        bank.add()
    bank.step(x[:, 0])
    return bank, lambda: bank.step(x[:, 1])


def data(steps=2):
    return MODEL.data(np.float32, (6,), steps)[0]


USES = {
    "stream": {
        "step": lambda one: one.step(data()[:, 0]),
        "step with a reset": lambda one: one.step(data()[:, 0], reset=[True] * 6),
        "call": lambda one: one(data()),
        "state": lambda one: one.state,
        "set the state": lambda one: setattr(one, "state", None),
        "reset": lambda one: one.reset(),
        "reset some": lambda one: one.reset([True] * 6),
        "swap": lambda one: one.swap(MODEL.layer(np.float32)),
        "pickle": pickle.dumps,
    },
    "bank": {
        "step": lambda one: one.step(data()[:, 0]),
        "step in pieces": lambda one: one._step_many(one._engine, data()[:, 0], ROWS, None, None),
        "state": lambda one: one.state,
        "set the state": lambda one: setattr(one, "state", None),
        "swap": lambda one: one.swap(MODEL.layer(np.float32)),
        "add": lambda one: one.add(),
        "drop": lambda one: one.drop(3),
        "pickle": pickle.dumps,
    },
}


def in_another_thread(act):
    """Return the error that an act raises in a thread of its own."""
    errors = []

    def run():
        try:
            act()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, uses in USES.items() for name in uses])
def test_another_thread_is_refused(kind, name):
    """Whatever another thread does with a stream or a bank in the midst of a kernel call is a RuntimeError, and the call is right."""
    errors, use, active = [], USES[kind][name], []

    def during(call, *_):
        if active:
            errors.append(in_another_thread(functools.partial(use, *active)))
        call()

    expected = begun(kind)[1]()
    with around("run_serial" if kind == "stream" else "step_rows", during, arguments=1):
        one, step = begun(kind)
    active.append(one)
    assert_same_bits(step(), expected)
    active.clear()
    assert [type(error) for error in errors] == [RuntimeError]
    assert str(errors[0]) == IN_USE
    if kind == "bank":  # what was refused has changed nothing
        assert one.rows.tolist() == ROWS.tolist()
        assert not {*one._free} & {*ROWS.tolist()}
    use(one)


STRESS = """
import sys, threading, time
import numpy as np
import fastrnn
from tests.cases import MODEL
model, (x, _) = MODEL.layer(np.float32), MODEL.data(np.float32, (6,), 1)
x, token = x[:, 0].copy(), np.arange(6) % 3
reader = fastrnn.Sequential(fastrnn.Embedding.one_hot(3), fastrnn.GRU(np.ones((12, 3)), np.ones((12, 4))))
stream, bank, told = model.stream(), model.streams(8), reader.stream()
for _ in range(6):
    bank.add()
def add_and_drop():
    row = bank.add()
    while True:
        try:
            return bank.drop(row)
        except RuntimeError as error:
            assert "in use by another thread" in str(error), error
ALL = {
    "stream": (lambda: stream.step(x), lambda: stream(x[:, None]), lambda: stream.state, stream.reset, lambda: stream.swap(model)),
    "bank": (lambda: bank.step(x[:5], at=[4, 3, 2, 1, 0]), lambda: bank.step(x[:5], at=np.arange(1, 6)), add_and_drop,
             lambda: bank.state, lambda: bank.swap(model)),
    "tokens": (lambda: told.step(token), lambda: told.step(token[::-1])),
}
done = []
def use(acts, seed):
    refused, rng, count = 0, np.random.default_rng(seed), 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        count += 1
        try:
            acts[rng.integers(len(acts))]()
        except RuntimeError as error:
            assert "in use by another thread" in str(error), error
            refused += 1
    done.append(count - refused)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=use, args=(acts, seed)) for acts in ALL.values() for seed in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done), min(done) > 10)
"""


def test_threads_that_share_a_stream_end_well():
    """Threads that use the same streams and banks without a word to each other get errors at worst, and the process ends well."""
    assert python(STRESS) == "9 True\n"


COUNTED = """
import sys, threading
import numpy as np
import fastrnn
model = fastrnn.RNN(np.ones((1, 1)), np.ones((1, 1)), nonlinearity="identity")
stream, bank, one, steps, done = model.stream(), model.streams(3), np.ones((2, 1)), np.ones((1, 1)), [0, 0]
rows = [bank.add() for _ in range(3)]
stream.step(one[0])
def use(index):
    count = [0, 0]
    for i in range(3000):
        for which, act in enumerate((lambda: stream.step(one[0]) if i % 3 else stream(steps), lambda: bank.step(one, at=rows[1:]))):
            try:
                act()
                count[which] += 1
            except RuntimeError:
                pass
    for which in range(2):
        done[which] += count[which]
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=use, args=(index,)) for index in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(stream.state[0] == done[0] + 1, bank.state[:, 0].tolist() == [0, done[1], done[1]], min(done) > 3000)
"""


def test_no_step_is_lost():
    """However threads get in each other's way, a state has taken every step that was not refused, and no other."""
    assert python(COUNTED) == "True True True\n"


def reentered(act, other, at, files=("streaming.py", "banks.py", "execute.py", "prepared.py")):
    """Call `act`, and at the instruction of that number in Python's part of it `other`, as a signal's handler would.

    Return what both gave, and whether `act` was long enough.
    """
    seen, results = itertools.count(1), {"act": None, "other": None}

    def attempt(name, function):
        try:
            results[name] = function()
        except RuntimeError as error:
            results[name] = error

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(seen) == at:
            sys.settrace(None)
            attempt("other", other)
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        attempt("act", act)
    finally:
        sys.settrace(before)
    return results["act"], results["other"], next(seen) > at


def instructions():
    """Count every third instruction, to save time; a test goes on until an act has no more of them."""
    return itertools.count(1, 3)


def assert_in_some_order(results, acts, again, stream):
    """What succeeded of two acts has the bits of some order of them. Return streams made by `stream` after it, and how many failed."""
    refused = [isinstance(result, RuntimeError) for result in results]
    done = [t for t in range(2 if again else 1) if not refused[t]]
    fitting = []
    for order in (done, done[::-1]):
        one = stream()
        expected = {t: acts[t](one) for t in order}
        if all(np.array_equal(results[t], expected[t]) for t in order):
            fitting.append(one)
    assert fitting
    return fitting, sum(refused)


@pytest.mark.parametrize("limit", [1024, 0])
def test_a_handler_that_steps_other_rows(monkeypatch, limit):
    """A handler that steps other rows of the bank at any instruction of a step, of one kernel call or several, changes no result."""
    monkeypatch.setattr(banks, "MOST_AT_ONCE", limit)
    model, (x, _) = EMBEDDED.layer(np.float64), EMBEDDED.data(np.float64, (6,), 2)
    expected = [model.predict(x[:3]), model.predict(x[3:])]
    for at in instructions():
        bank = model.streams(6)
        own, others = (np.array([bank.add() for _ in range(3)]) for _ in range(2))
        bank.step(x[:, 0], at=np.arange(6))
        mine, theirs, again = reentered(
            lambda bank=bank, own=own: bank.step(x[:3, 1], at=own), lambda bank=bank, others=others: bank.step(x[3:, 1], at=others), at
        )
        assert_same_bits(mine, expected[0][:, 1])
        if not again:
            break
        assert_same_bits(theirs, expected[1][:, 1])
    assert at > 50


@pytest.mark.parametrize("limit", [1024, 0])
def test_a_handler_that_steps_the_same_rows(monkeypatch, limit):
    """It steps them before or after, with the bits of either order, or one of the two steps is an error and changes nothing."""
    monkeypatch.setattr(banks, "MOST_AT_ONCE", limit)
    model, (x, _) = EMBEDDED.layer(np.float64), EMBEDDED.data(np.float64, (3,), 4)
    refused = 0
    for at in instructions():
        bank = model.streams(3)
        rows = np.array([bank.add() for _ in range(3)])
        *results, again = reentered(*[functools.partial(bank.step, x[:, t], at=rows) for t in (0, 1)], at)
        acts = [lambda stream, t=t: stream.step(x[:, t]) for t in (0, 1)]
        fitting, errors = assert_in_some_order(results, acts, again, model.stream)
        assert errors < 2
        refused += errors
        last = bank.step(x[:, 2])
        assert any(np.array_equal(last, stream.step(x[:, 2])) for stream in fitting)
        if not again:
            break
    assert refused if not limit else at > 50


@pytest.mark.parametrize("kind", ["a step", "a token", "a step with a reset", "a chunk"])
def test_a_handler_that_uses_the_same_stream(kind):
    """It comes before or after the call that it interrupts, with the bits of that order, or it is refused."""
    model, (x, _) = EMBEDDED.layer(np.float64), EMBEDDED.data(np.float64, (), 4)
    act = {
        "a step": lambda stream: stream.step(np.array(x[0])),
        "a token": lambda stream: stream.step(int(x[0])),
        "a step with a reset": lambda stream: stream.step(int(x[0]), reset=True),
        "a chunk": lambda stream: stream(x[:1])[0],
    }[kind]
    refused = 0

    def started():
        stream = model.stream()
        stream.step(3)
        return stream

    for at in instructions():
        stream = started()
        *results, again = reentered(functools.partial(act, stream), lambda stream=stream: stream.step(int(x[1])), at)
        fitting, errors = assert_in_some_order(results, [act, lambda stream: stream.step(int(x[1]))], again, started)
        assert not isinstance(results[0], RuntimeError)
        refused += errors
        last = stream.step(int(x[2]))
        assert any(np.array_equal(last, one.step(int(x[2]))) for one in fitting)
        if not again:
            break
    assert refused if kind == "a chunk" else at > 10


def test_a_handler_that_adds_and_drops():
    """A handler's rows are never those of the call that it interrupts, and `rows` knows of them afterwards."""
    for at in instructions():
        bank = MODEL.layer(np.float32).streams(9)
        kept = [bank.add() for _ in range(3)]
        bank.drop(kept.pop(1))
        mine, theirs, again = reentered(lambda bank=bank: (bank.rows, bank.add(), bank.rows)[1], bank.add, at)
        rows = [*kept, mine, *([theirs] if isinstance(theirs, int) else [])]
        assert sorted(rows) == sorted(set(rows)) == bank.rows.tolist()
        if not again:
            break
    assert at > 50


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent there")
def test_a_real_handler():
    """A signal's handler that steps other rows, as often as it can, changes no result."""
    model, (x, _) = EMBEDDED.layer(np.float32), EMBEDDED.data(np.float32, (4,), 1500)
    bank, expected = model.streams(4), model.predict(x)
    rows = [bank.add() for _ in range(4)]
    handled, inside = [], []

    def handle(*_):
        if len(handled) < 1000 and not inside:  # a handler may be interrupted, too
            inside.append(True)
            handled.append(bank.step(x[2:, len(handled)], at=rows[2:]))
            inside.clear()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        for t in range(1500):
            assert_same_bits(bank.step(x[:2, t], at=rows[:2]), expected[:2, t])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    assert_same_bits(np.array(handled), expected[2:, : len(handled)].swapaxes(0, 1))


@pytest.mark.parametrize("kind", [*USES])
def test_an_interrupt_gives_back(kind, monkeypatch):
    """A call that Ctrl-C or an error ends leaves the stream or the bank to the next one."""
    monkeypatch.setattr(banks, "MOST_AT_ONCE", 0)  # steps in several kernel calls
    one, step = begun(kind)
    before = flat(one.state)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fastrnn.native.machine_code.loaded, "call", interrupt)
        with pytest.raises(KeyboardInterrupt):
            one(data()) if kind == "stream" else step()
    for state, same in zip(flat(one.state), before, strict=True):
        assert_same_bits(state, same)
    step()


def test_a_bank_counts_what_happens_to_rows():
    """The word of a row that was dropped and handed out again is another one: a step in several pieces can tell."""
    bank, step = begun("bank")
    words = [int(bank._words[2])]
    step()
    words.append(int(bank._words[2]))
    bank.drop(2)
    assert bank._words[2] & 3 == FREE
    assert bank.add() == 2
    words.append(int(bank._words[2]))
    assert len(set(words)) == 3


def test_a_row_that_changes_in_the_midst(monkeypatch):
    """A step in several pieces, whose row is dropped and handed out meanwhile, says so and changes nothing."""
    monkeypatch.setattr(banks, "MOST_AT_ONCE", 0)
    bank, step = begun("bank")
    run_network = banks.run_network

    def stumble(network, task):
        run_network(network, task)
        bank.drop(4)
        bank.add()

    with monkeypatch.context() as patch:
        patch.setattr(banks, "run_network", stumble)
        before = flat(bank.state)
        with pytest.raises(RuntimeError) as caught:
            step()
    assert str(caught.value) == (
        "row 4 of the bank was stepped, set, reset or dropped while this call stepped it in several pieces; no state has changed"
    )
    for state, same in zip(flat(bank.state), before, strict=True):
        assert_same_bits(np.delete(state, 4, axis=0), np.delete(same, 4, axis=0))
