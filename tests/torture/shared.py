"""Streams and banks that several threads, or a signal's handler and what it interrupts, use together; and callers that flush subnormals."""

import dataclasses
import signal
import sys
import threading

import numpy as np

import fastrnn
from fastrnn.arguments import IN_USE

from ..cases import assert_same_bits, assert_same_results, run
from ..situations import CAUSAL, CAUSAL_READERS
from .children import say, survives
from .work import pick, plain_run, situation


def in_threads(number, work):
    """Run `work` in so many threads, and raise what the first of them raised."""
    wrong, before = [], sys.getswitchinterval()

    def run_one(index):
        try:
            work(index)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run_one, args=(index,)) for index in range(number)]
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    if wrong:
        raise wrong[0]


def unless_in_use(act):
    """Return what an act gives, None where it is refused because the stream or the bank is in use."""
    try:
        return act()
    except RuntimeError as error:
        if IN_USE not in str(error) and "no state has changed" not in str(error):
            raise
        return None


def sharing(rng, counts):
    """Threads use one stream and one bank in every way, without a word to one another, in a process of its own."""
    counts["calls"] += len(survives(share, rng, int(rng.integers(2, 5))))


def share(seed, number):
    s = dataclasses.replace(situation(np.random.default_rng(seed), [*CAUSAL, *CAUSAL_READERS]), leading=(5,), steps=6)
    model, x = s.model, s.x
    stream, bank = model.stream(), model.streams(9)
    rows = np.array([bank.add() for _ in range(5)])
    say(f"{s}")

    def new_model():  # of other weights; the one before may be freed
        return dataclasses.replace(s, seed=s.seed + 1).model

    def use(index):
        rng = np.random.default_rng([seed, index])
        for _ in range(300):
            t, some = int(rng.integers(6)), rng.permutation(5)[: rng.integers(1, 6)]
            acts = [
                lambda t=t: stream.step(x[:, t]),
                lambda t=t: stream.step(x[:, t], reset=[True] * 5),
                lambda: stream(x),
                lambda: stream.state,
                stream.reset,
                lambda: stream.swap(new_model()),
                lambda t=t, some=some: bank.step(x[some, t], at=rows[some]),
                lambda t=t: bank.step(x[:, t], at=rows[::-1], reset=[True] * 5),
                lambda: bank.state,
                lambda: bank.swap(new_model()),
                lambda: setattr(bank, "state", None),
            ]
            unless_in_use(pick(rng, acts))

    in_threads(number, use)
    stream.swap(model)
    bank.swap(model)
    stream.reset()
    bank.state = None
    whole = run(model, x)[0]
    for t in range(6):
        assert_same_bits(stream.step(x[:, t]), whole[:, t])
        assert_same_bits(bank.step(x[:, t], at=rows), whole[:, t])
        say(f"step {t}")


def handlers(rng, counts):
    """A signal's handler steps other rows of the bank that the main thread steps, and adds and drops some."""
    counts["calls"] += len(survives(reenter, rng, pick(rng, [1024, 0])))


def reenter(seed, limit):
    rng = np.random.default_rng(seed)
    fastrnn.banks.MOST_AT_ONCE = limit
    s = dataclasses.replace(situation(rng, [*CAUSAL, *CAUSAL_READERS]), leading=(6,), steps=200)
    model, x = s.model, s.x
    whole, bank = run(model, x)[0], model.streams(9)
    rows, handled, inside = np.array([bank.add() for _ in range(6)]), [], []
    say(f"{s}, {limit}")

    def handle(*_):
        t = len(handled)
        if inside or t == s.steps:
            return
        inside.append(True)
        handled.append(bank.step(x[3:, t], at=rows[3:]))
        row = unless_in_use(bank.add)
        if row is not None:
            unless_in_use(lambda: bank.drop(row))
        inside.clear()

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, float(rng.uniform(5e-5, 5e-4)))
    for t in range(s.steps):
        assert_same_bits(bank.step(x[:3, t], at=rows[:3]), whole[:3, t])
    signal.setitimer(signal.ITIMER_REAL, 0)
    for t, output in enumerate(handled):
        assert_same_bits(output, whole[3:, t])
        say(f"handled {t}")


def flushing(rng, counts):
    """A caller that flushes subnormals, or rounds otherwise, gets the bits of one that doesn't, on any number of threads."""
    try:
        from ..float_modes import MODES, in_mode
    except ImportError:  # on other processors
        return
    s = situation(rng)
    model, x, states, whole = plain_run(s)
    fastrnn.set_num_threads(int(rng.integers(1, 4)))
    tiny = x * np.finfo(s.dtype).tiny if x.dtype == s.dtype else x
    expected = run(model, tiny, states)
    with in_mode(pick(rng, list(MODES.values()))):
        results, small = run(model, x, states), run(model, tiny, states)
    assert_same_results(results, whole)
    assert_same_results(small, expected)
    counts["calls"] += 3
