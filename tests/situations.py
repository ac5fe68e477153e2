"""A random situation for hypothesis: a model of any sizes, sequences of any leading axes, their states and their lengths."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .cases import CASES, DTYPES, READERS, Case, assert_close, run


def often(test):
    """Have the exhaustive run draw 100 examples for a test that @given makes: a situation has many sides."""
    test.draws_often = True
    return test


# What takes lengths: a Dense layer alone has no time.
TIMED = [replace(case, sequential=True) if [kind for kind, _ in case.layers] == ["Dense"] else case for case in CASES]
# What takes lengths, of tokens too.
ALL = [*TIMED, *READERS]
# What can be cut: no output depends on later steps.
CAUSAL, CAUSAL_READERS = [case for case in TIMED if case.causal], [case for case in READERS if case.causal]
# What gives a distribution over tokens, of one layer or of three.
HEADS = [
    Case("dense-softmax", (("Dense", "softmax"),), (4, 4)),
    Case("sequential-of-one", (("Dense", "log_softmax"),), (5, 5), sequential=True),
    Case("rnn-softmax", (("RNN", "tanh"), ("Dense", "softmax")), (9, 70, 9)),
    Case("rnn-log-softmax", (("RNN", "relu"), ("Dense", "log_softmax")), (23, 5, 23), bias=False),
    Case("rnn-rnn-softmax", (("RNN", "sigmoid"), ("RNN", "tanh"), ("Dense", "softmax")), (17, 33, 6, 17)),
    Case("dense-rnn-log-softmax", (("Dense", "tanh"), ("RNN", "tanh"), ("Dense", "log_softmax")), (6, 14, 40, 6)),
    Case("gru-lstm-softmax", (("GRU", "after"), ("LSTM", "projected"), ("Dense", "softmax")), (6, 14, 20, 6)),
    Case("leaky-softmax", (("RNN", "leaky at the input"), ("Dense", "softmax")), (6, 40, 6)),
]
TELLERS = [
    *(replace(case, one_hot=True) for case in HEADS),
    Case("table-rnn-softmax", (("Embedding", None), ("RNN", "tanh"), ("Dense", "softmax")), (12, 9, 70, 12)),
    Case("looked-up-softmax", (("Embedding", None), ("RNN", "tanh"), ("Dense", "softmax")), (7, 33, 9, 7), looked_up=True),
    Case("looked-up-log-softmax", (("Embedding", None), ("Dense", "log_softmax")), (7, 33, 7), looked_up=True),
]


@dataclass(frozen=True)
class Situation:
    """A case at some sizes and dtype, with `steps` steps on `leading` axes of sequences."""

    case: Case
    dtype: type
    sizes: tuple
    leading: tuple
    steps: int
    seed: int

    @property
    def model(self):
        return self.case.layer(self.dtype, sizes=self.sizes, seed=self.seed)

    @property
    def reference(self):
        return self.case.reference(self.dtype, sizes=self.sizes, seed=self.seed)

    @property
    def x(self):
        return self.case.data(self.dtype, self.leading, self.steps, sizes=self.sizes, seed=self.seed + 1)[0]

    @property
    def states(self):
        return self.case.data(self.dtype, self.leading, self.steps, sizes=self.sizes, seed=self.seed + 1)[1]

    @property
    def start(self):
        """One token for each sequence."""
        return np.random.default_rng(self.seed + 3).integers(0, self.sizes[0], self.leading)

    @property
    def lengths(self):
        """Of any order, the first 0 and the last T."""
        lengths = np.random.default_rng(self.seed + 4).integers(0, self.steps + 1, self.leading)
        lengths.flat[:1], lengths.flat[-1:] = 0, self.steps
        return lengths

    def members(self):
        return list(np.ndindex(self.leading))


@st.composite
def situations(draw, cases=CASES, *, steps=9, width=150, batches=True, closed=False):
    """`closed`: what comes out has the size of what goes in."""
    case = draw(st.sampled_from(cases))
    sizes = tuple(draw(st.lists(st.integers(1, width), min_size=len(case.sizes), max_size=len(case.sizes))))
    leading = tuple(draw(st.lists(st.integers(1, 4), max_size=3))) if batches else ()
    sizes = (*sizes[:-1], sizes[0]) if closed else sizes
    return Situation(case, draw(st.sampled_from(DTYPES)), sizes, leading, draw(st.integers(0, steps)), draw(st.integers(0, 99)))


def exact(value):
    """A state or an input for the float64 reference."""
    if isinstance(value, tuple):
        return tuple(exact(entry) for entry in value)
    return value if value is None or value.dtype.kind in "iu" else value.astype(np.float64)


def assert_equals_reference(situation, x, **options):
    """Output and last states are the reference's."""
    output, last = run(situation.model, x, situation.states, **options)
    expected, expected_last = run(situation.reference, exact(x), exact(situation.states), **options)
    assert_close(output, expected, situation.dtype)
    for one, other in zip(last, expected_last, strict=True):
        assert_close(one, other, situation.dtype)
