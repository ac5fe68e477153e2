"""Random calls whose results are known: those of a plain run on one thread, which are compared with the reference."""

import itertools
import math

import numpy as np
import numpy.testing  # here: a process forked while another thread imports waits for it for ever

import fastrnn

from ..cases import DTYPES, Case, assert_close, assert_same_results, run
from ..situations import ALL, Situation, exact

# Enough work that threads share it: a batch's sequences, and one sequence's steps.
SHARED = [
    (Case("", (("RNN", "tanh"), ("Dense", "softmax")), (5, 300, 4)), (64,), 6),
    (Case("", (("GRU", "after"), ("Dense", "softmax")), (5, 180, 4)), (64,), 5),
    (Case("", (("LSTM", "plain"), ("Dense", "softmax")), (5, 150, 4)), (64,), 5),
    (Case("", (("RNN", "tanh"), ("Dense", "softmax")), (5, 300, 4)), (), 300),
]


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def situation(rng, cases=ALL, *, closed=False, most=12):
    """Draw a situation of a case; `closed`: what comes out has the size of what goes in."""
    case, width = pick(rng, cases), pick(rng, [20, 150])
    sizes = [int(size) for size in rng.integers(1, width, size=len(case.sizes), endpoint=True)]
    leading = tuple(int(size) for size in rng.integers(1, 5, size=rng.integers(0, 4)))
    steps, seed = int(rng.integers(most, endpoint=True)), int(rng.integers(1 << 30))
    return Situation(case, pick(rng, DTYPES), (*sizes[:-1], sizes[0]) if closed else tuple(sizes), leading, steps, seed)


def shared_situation(rng):
    case, leading, steps = pick(rng, SHARED)
    return Situation(case, pick(rng, DTYPES), case.sizes, leading, steps, int(rng.integers(1 << 30)))


def truth_of(situation):
    """Run the reference."""
    return run(situation.reference, exact(situation.x), exact(situation.states))


def plain_run(situation, truth=None):
    """Run the model on one thread, and compare with the reference, or with what it gave before."""
    model, x, states, threads = situation.model, situation.x, situation.states, fastrnn.get_num_threads()
    fastrnn.set_num_threads(1)
    results = run(model, x, states)
    fastrnn.set_num_threads(threads)
    expected, expected_states = truth or truth_of(situation)
    for one, other in zip((results[0], *results[1]), (expected, *expected_states), strict=True):
        assert_close(one, other, situation.dtype)
    return model, x, states, results


def some_situations(rng, count):
    """Small ones, and such as threads share."""
    return [(shared_situation if i % 2 else situation)(rng) for i in range(count)]


class Work:
    """Calls that anybody can make at any time."""

    def __init__(self, rng, count=4, truths=()):
        self.calls = [plain_run(*pair) for pair in itertools.zip_longest(some_situations(rng, count), truths)]

    def check(self, which):
        """Make one call, and compare the bits of its results; tell how many steps it has, of all sequences."""
        model, x, states, results = self.calls[which % len(self.calls)]
        assert_same_results(run(model, x, states), results)
        return math.prod(results[0].shape[:-1])

    def check_all(self):
        for which in range(len(self.calls)):
            self.check(which)


def steps_of(situation, x, which):
    """Cut a step, or some steps, out of x, which holds vectors or tokens."""
    return x[(*[slice(None)] * len(situation.leading), which)]


def wide(x):
    """Malformed input: numbers of one more feature, and for tokens numbers."""
    return np.ones((*x.shape[:-1], x.shape[-1] + 1))
